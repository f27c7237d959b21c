"""Whether a model was trained on the very pairs that it is scored on."""

from __future__ import annotations

from collections.abc import Sequence

from keras_lstsr.artifacts.model_folder import ModelCard, card_of
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
    card = card_of(predictor.provenance)
    if card is None:
        return None
    known = card.known_files
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


def _cross_validated(card: ModelCard) -> str:
    """Says in words what the card holds of the scores that are shown."""
    scores = card.scores.get("aster", {}).get("means", {}).get(card.name, {})
    return ", ".join(
        f"{words} {format_value(metric, scores[metric])}{unit}"
        for metric, (words, unit) in _SHOWN.items()
        if metric in scores
    )
