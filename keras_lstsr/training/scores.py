"""The scores of predictions on unseen ground, as a cross-validation writes them down."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

CARD_METRICS = (
    "bias_free_rmse_kelvin",
    "rmse_kelvin",
    "psnr_db",
    "ssim",
    "high_pass_correlation",
    "ratio_to_bicubic",
)
"""Those of the metrics that a model's card and the screen show."""


@dataclass(frozen=True)
class SampleScore:
    """The scores of one method on one sample.

    Attributes:
        variant: How it was scored, e.g. ``"aster"``, ``"aster_subpixel"``.
        sample: The sample.
        method: The network's name, or a baseline's.
        values: Metric → value.
    """

    variant: str
    sample: str
    method: str
    values: Mapping[str, float]


@dataclass(frozen=True)
class CrossValidationScores:
    """The scores of predictions on unseen ground.

    Attributes:
        rows: One per variant, sample and method.
        means: Variant → method → metric → mean over the samples, and what else sums them up.
        details: Variant → how it was scored.
    """

    rows: list[SampleScore]
    means: Mapping[str, Mapping[str, Mapping[str, float]]]
    details: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def as_csv(self, folds: Mapping[str, int], groups: Mapping[str, str]) -> str:
        """Returns a table of one row per variant, sample, with its fold and group, and method."""
        metrics = list(dict.fromkeys(name for row in self.rows for name in row.values))
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["variant", "sample", "fold", "group", "method", *metrics])
        for row in self.rows:
            values = [f"{row.values.get(name, float('nan')):.6g}" for name in metrics]
            head = [row.variant, row.sample, folds[row.sample], groups[row.sample], row.method]
            writer.writerow([*head, *values])
        return stream.getvalue()

    def as_json(self, folds: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Returns what the model's card holds of the scores.

        Args:
            folds: Sample → fold, from 1 on.
        """
        samples: dict[str, Any] = {}
        for row in self.rows:
            entries = samples.setdefault(row.variant, {})
            entry = entries.setdefault(row.sample, {"fold": folds[row.sample]})
            entry[row.method] = {
                name: round(row.values[name], 4) for name in CARD_METRICS if name in row.values
            }
        return {
            variant: {
                "scored": dict(self.details.get(variant, {})),
                "means": {
                    method: {name: round(float(value), 5) for name, value in values.items()}
                    for method, values in means.items()
                },
                "pairs": samples.get(variant, {}),
            }
            for variant, means in self.means.items()
        }

    def lines(self) -> list[str]:
        """Returns the means in words, a line for each variant and method."""
        return [
            f"{variant}  {method:<8} "
            + "  ".join(f"{name} {values[name]:.4g}" for name in CARD_METRICS if name in values)
            for variant, means in self.means.items()
            for method, values in means.items()
        ]

    def figures(self) -> dict[str, float]:
        """Returns the finite means by one name each, ``VARIANT_METHOD_METRIC``.

        Characters that MLflow does not allow in a metric's name are ``-``.
        """
        return {
            re.sub(r"[^\w\-./: ]", "-", f"{variant}_{method}_{name}"): float(value)
            for variant, means in self.means.items()
            for method, values in means.items()
            for name, value in values.items()
            if np.isfinite(value)
        }


Scorer = Callable[[Mapping[str, NDArray[np.float32]]], CrossValidationScores]
"""Sample → its fine LST ``[h · f, w · f]`` on its own fine grid, predicted by a model that has not
seen its ground; scored by who knows the protocols."""
