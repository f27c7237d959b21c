"""The weights that come with the package."""

from __future__ import annotations

import json
from importlib.resources import as_file, files
from typing import TYPE_CHECKING, Any

from keras_lstsr.errors import ModelError

if TYPE_CHECKING:
    import keras

PRETRAINED = "pretrained"
PRETRAINED_FILE = "weights/guided.keras"
PRETRAINED_CARD_FILE = "weights/guided.json"


def has_pretrained_weights() -> bool:
    """Returns whether this installation holds the weights."""
    return (files("keras_lstsr") / PRETRAINED_FILE).is_file()


def pretrained_model() -> tuple[keras.Model, dict[str, Any]]:
    """Loads the guided model with the weights that come with this package.

    Returns:
        The model and its provenance: ``run_name``, and, where they are there, ``model_card``
        (data, training and scores of the weights) and its ``dataset_fingerprint``.

    Raises:
        ModelError: If the weights are not there, or damaged.
    """
    from keras_lstsr.export import load_keras_model

    package = files("keras_lstsr")
    weights, card = package / PRETRAINED_FILE, package / PRETRAINED_CARD_FILE
    if not has_pretrained_weights():
        raise ModelError(
            "the pretrained weights are not there",
            path=str(weights),
            expected="the file that comes with keras-lstsr",
            action="Install keras-lstsr again, or name a model of your own by --model.",
        )
    provenance: dict[str, Any] = {"run_name": PRETRAINED}
    if card.is_file():
        provenance["model_card"] = _model_card(card.read_text(encoding="utf-8"), str(card))
        fingerprint = provenance["model_card"].get("dataset_fingerprint")
        provenance |= {} if fingerprint is None else {"dataset_fingerprint": fingerprint}
    with as_file(weights) as path:
        return load_keras_model(path), provenance


def _model_card(text: str, path: str) -> dict[str, Any]:
    try:
        card = json.loads(text)
    except ValueError as error:
        raise ModelError("the model card cannot be read", path=path, found=error) from error
    if not isinstance(card, dict):
        raise ModelError(
            "the model card is damaged", path=path, found=type(card).__name__, expected="a mapping"
        )
    return card
