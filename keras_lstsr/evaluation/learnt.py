"""Whether a model has learnt from the very samples that it is scored on."""

from __future__ import annotations

from collections.abc import Mapping

from keras_lstsr.artifacts.model_folder import ModelCard, card_of
from keras_lstsr.evaluation.report.tables import HEADINGS, format_value
from keras_lstsr.inference.predictor import Predictor

_SHOWN = (
    "bias_free_rmse_kelvin",
    "rmse_kelvin",
    "psnr_db",
    "ssim",
    "high_pass_correlation",
)


def learnt_note(
    label: str, predictor: Predictor, files: Mapping[str, frozenset[str]]
) -> str | None:
    """Says from how many of the samples a model has learnt, if from any.

    A sample counts where the model's card has the SHA-256 of one of its files.

    Args:
        label: The model's name in the tables.
        predictor: The model.
        files: Sample → SHA-256 of the files that it was read from.

    Returns:
        A sentence with the model's cross-validated scores instead; None if it has seen none, or
        has no card.
    """
    card = card_of(predictor.provenance)
    if card is None:
        return None
    seen = sum(not card.known_files.isdisjoint(own) for own in files.values())
    if not seen:
        return None
    scores = _cross_validated(card)
    instead = "" if not scores else f" On ground it had not seen (cross-validation): {scores}."
    return (
        f"{label} has learnt from {seen} of these {len(files)} samples: its figures here are not "
        f"those of unseen ground.{instead}"
    )


def _cross_validated(card: ModelCard) -> str:
    """Says in words what the card holds of the scores that are shown."""
    if not card.scores:
        return ""
    means = next(iter(card.scores.values())).get("means", {}).get(card.name, {})
    words = {metric: HEADINGS[metric].partition(" (") for metric in _SHOWN if metric in means}
    return ", ".join(
        f"{name} {format_value(metric, means[metric])} {unit.rstrip(')')}".rstrip()
        for metric, (name, _, unit) in words.items()
    )
