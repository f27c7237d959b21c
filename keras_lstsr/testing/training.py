"""A tiny experiment, and a training that is killed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from keras_lstsr.config import ExperimentConfig

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"width": 4, "depth": 1, "bridge_blocks": 0},
    "training": {"epochs": 3, "batch_size": 4, "seed": 3},
}
"""Three epochs of a network of width 4 and depth 1."""


def with_settings(config: ExperimentConfig, section: str, **settings: Any) -> ExperimentConfig:
    """Returns the settings with some of a section replaced, validated again."""
    content = config.model_dump()
    content[section] |= settings
    return ExperimentConfig.from_dict(content)


class Killed(BaseException):
    """What no handler of errors expects."""


def killing(method: Callable[..., Any], call: int) -> Callable[..., Any]:
    """Wraps a method that dies at its ``call``-th call, before it does anything."""
    calls = []

    def wrapped(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == call:
            raise Killed
        return method(*args, **kwargs)

    return wrapped
