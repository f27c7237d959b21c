"""Records with something to learn in them, a tiny experiment, and a training that is killed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.records.schema import SPLITS, Split
from keras_lstsr.testing.records import vegetated_sample, write_made_records

COUNTS: dict[Split, int] = {"train": 8, "validation": 3, "test": 2}

TINY: dict[str, Any] = {
    "name": "tiny",
    "model": {"width": 4, "depth": 1, "bridge_blocks": 0},
    "training": {"epochs": 3, "batch_size": 4, "seed": 3},
}
"""Three epochs of a network of width 4 and depth 1."""


def write_vegetated_records(
    folder: Path,
    counts: Mapping[Split, int] = COUNTS,
    *,
    guide: bool = True,
    truth: bool = False,
    side: int = 32,
) -> Path:
    """Writes so many ``vegetated_sample`` of each split as records.

    Args:
        folder: Where to.
        counts: Samples by split; they are numbered from 0, 100 and 200 on.
        guide: Whether they hold NDVI.
        truth: Whether they hold the fine truth.
        side: LST pixels along a sample's side.

    Returns:
        The folder.
    """
    return write_made_records(
        folder,
        [counts.get(split, 0) for split in SPLITS],
        make=vegetated_sample,
        num_shards=1,
        guides=("ndvi",) if guide else (),
        truth=truth,
        side=side,
    )


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
