"""Whether a model was trained on the very pairs that it is scored on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from keras_lstsr.evaluation.report import format_value
from keras_lstsr.files import sha256_of
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.pairs.files import PairFiles, PairSource

_SHOWN = {
    "bias_free_rmse_kelvin": ("bias-free RMSE", " K"),
    "rmse_kelvin": ("RMSE", " K"),
    "psnr_db": ("PSNR", " dB"),
    "ssim": ("SSIM", ""),
    "high_pass_correlation": ("high-pass correlation", ""),
}


def training_note(label: str, predictor: Predictor, sources: Sequence[PairSource]) -> str | None:
    """Says which of the pairs a model has been trained on, if any.

    A pair counts as seen where the model's card has the checksum of its true LST.

    Args:
        label: The model's name in the tables.
        predictor: The model.
        sources: The pairs that are scored.

    Returns:
        A sentence with the model's cross-validated scores instead; None if it has seen none, or
        has no card.
    """
    card = predictor.provenance.get("model_card", {})
    known = set(card.get("dataset", {}).get("files", {}).values())
    seen = [
        source.name
        for source in sources
        if known and isinstance(source, PairFiles) and sha256_of(source.truth) in known
    ]
    if not seen:
        return None
    scores = _cross_validated(card)
    instead = "" if not scores else f" On ground it had not seen (cross-validation): {scores}."
    return (
        f"{label} was trained on {len(seen)} of these {len(sources)} pairs: its figures here are "
        f"not those of unseen ground.{instead}"
    )


def _cross_validated(card: Mapping[str, Any]) -> str:
    """Says in words what the card holds of the scores that are shown."""
    means = card.get("cross_validation", {}).get("aster", {}).get("means", {})
    scores = means.get(card.get("name"), {})
    return ", ".join(
        f"{words} {format_value(metric, scores[metric])}{unit}"
        for metric, (words, unit) in _SHOWN.items()
        if metric in scores
    )
