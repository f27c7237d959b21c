"""Whether a model was trained on the very pairs that it is scored on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_lstsr.checksum import file_sha256
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.pairs.files import PairFiles, PairSource


def training_note(label: str, predictor: Predictor, sources: Sequence[PairSource]) -> str | None:
    """Says which of the pairs a model has been trained on, if any.

    A pair counts as seen where the model's card has the checksum of its true LST.

    Args:
        label: The model's name in the tables.
        predictor: The model.
        sources: The pairs that are scored.

    Returns:
        A sentence with the model's cross-validated error instead; None if it has seen none, or
        has no card.
    """
    card = predictor.provenance.get("model_card", {})
    known = set(card.get("dataset", {}).get("files", {}).values())
    seen = [
        source.name
        for source in sources
        if known and isinstance(source, PairFiles) and file_sha256(source.truth) in known
    ]
    if not seen:
        return None
    error = _cross_validated_error(card)
    instead = (
        "" if error is None else f" On ground it had not seen (cross-validation): {error:.3f} K."
    )
    return (
        f"{label} was trained on {len(seen)} of these {len(sources)} pairs: its figures here are "
        f"not those of unseen ground.{instead}"
    )


def _cross_validated_error(card: Mapping[str, Any]) -> float | None:
    means = card.get("cross_validation", {}).get("aster", {}).get("means", {})
    value = means.get(card.get("name"), {}).get("bias_free_rmse_kelvin")
    return None if value is None else float(value)
