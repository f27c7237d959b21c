"""The weights that come with the package: model folders by name."""

from __future__ import annotations

import re
from pathlib import Path

from keras_lstsr.errors import ModelError

PRETRAINED = "pretrained"
"""Stands for the newest weights."""

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"


def shipped_weights() -> list[str]:
    """Lists the names of the weights in this installation, e.g. ``guided-1``, the newest last."""
    numbered = {
        int(match.group(1)): path.name
        for path in WEIGHTS_FOLDER.glob("*-*")
        if (match := re.fullmatch(r"[a-z]+-(\d+)", path.name)) and path.is_dir()
    }
    return [numbered[number] for number in sorted(numbered)]


def shipped_folder(name: str) -> Path | None:
    """Returns the model folder of weights that come with the package, None for another name.

    ``"pretrained"`` stands for the newest.

    Raises:
        ModelError: If ``"pretrained"`` is asked for and no weights are there.
    """
    weights = shipped_weights()
    if name == PRETRAINED and not weights:
        raise ModelError(
            "the pretrained weights are missing",
            path=WEIGHTS_FOLDER,
            expected="the folder that comes with keras-lstsr",
            action="Install keras-lstsr again, or name a model of your own by --model.",
        )
    if name == PRETRAINED:
        return WEIGHTS_FOLDER / weights[-1]
    return WEIGHTS_FOLDER / name if name in weights else None
