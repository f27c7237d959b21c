"""Samples to the tensors of a task, in NumPy: the definition of what a batch holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.grids.degradation import Footprint, degrade
from keras_lstsr.grids.resample import block_mean, norm_l4, upsample_nearest
from keras_lstsr.records.batch_settings import SPREAD, TRULY_FINE, BatchSettings
from keras_lstsr.records.sample import Sample

FloatArray = NDArray[np.float32]
Batch = tuple[dict[str, FloatArray], FloatArray]


@dataclass(frozen=True, eq=False)
class Rasters:
    """The rasters of a sample, or of a part of it, as a task sees them.

    Attributes:
        lst_kelvin: The input, ``[h, w]``; NaN where missing.
        guides: Name → ``[f · h, f · w]``; NaN where missing.
        truth_kelvin: The target, ``[f · h, f · w]``, NaN where nothing is learnt; None where it
            is the input with each pixel repeated.
        observed: Whether its errors are of the size that the uncertainty is to tell.
        group: Samples of one group share ground.
    """

    lst_kelvin: FloatArray
    guides: dict[str, FloatArray]
    truth_kelvin: FloatArray | None
    observed: bool = True
    group: str = ""

    def target(self, factor: int) -> FloatArray:
        """Returns the target ``[f · h, f · w]``."""
        if self.truth_kelvin is None:
            return upsample_nearest(self.lst_kelvin, factor)
        return self.truth_kelvin

    def values(self, factor: int) -> list[FloatArray]:
        """Returns the input, the guides and the target."""
        return [self.lst_kelvin, *self.guides.values(), self.target(factor)]

    def mapped(
        self,
        coarse: Callable[[FloatArray], FloatArray],
        fine: Callable[[FloatArray], FloatArray],
    ) -> Rasters:
        """Returns the rasters after a change of the input, and one of guides and truth."""
        return Rasters(
            coarse(self.lst_kelvin),
            {name: fine(guide) for name, guide in self.guides.items()},
            None if self.truth_kelvin is None else fine(self.truth_kelvin),
            self.observed,
            self.group,
        )


def task_view(sample: Sample, settings: BatchSettings) -> Rasters:
    """Returns a sample's rasters as the task sees them.

    For ``4km_to_1km`` the sample is filled up to whole 4 km pixels.
    """
    factor, observed = sample.scale_factor, sample.origin == "observed"
    fine_shape = tuple(side * factor for side in sample.lst_kelvin.shape)
    guides = {
        name: sample.guides[name]
        if name in sample.guides or name not in settings.optional_guides
        else np.full(fine_shape, np.nan, np.float32)
        for name in settings.guides
    }
    if settings.task == "1km_to_250m":
        truth = sample.truth_kelvin if settings.fine_truth else None
        return Rasters(sample.lst_kelvin, guides, truth, observed, sample.group)
    height, width = (-(-side // factor) * factor for side in sample.lst_kelvin.shape)
    fine = _grown(sample.lst_kelvin, height, width)
    guides = {
        name: block_mean(_grown(guide, height * factor, width * factor), factor)
        for name, guide in guides.items()
    }
    return Rasters(_degraded(fine, factor, settings), guides, fine, observed, sample.group)


def _degraded(fine: FloatArray, factor: int, settings: BatchSettings) -> FloatArray:
    width = settings.footprint_pixels
    if width is None:
        return norm_l4(fine, factor)
    psf = Footprint(fwhm_m=(width, width)).psf(1.0)  # in pixels, not in metres
    return degrade(fine, factor, "psf", psf=psf, radiance=True)


def filled_up(rasters: Rasters, height: int, width: int, factor: int) -> Rasters:
    """Fills rasters up with NaN at the bottom and on the right, to that size of the input."""
    height = max(height, rasters.lst_kelvin.shape[0])
    width = max(width, rasters.lst_kelvin.shape[1])
    return rasters.mapped(
        lambda values: _grown(values, height, width),
        lambda values: _grown(values, height * factor, width * factor),
    )


def _grown(values: FloatArray, height: int, width: int) -> FloatArray:
    rows, columns = height - values.shape[0], width - values.shape[1]
    if not (rows or columns):
        return values
    return np.pad(values, ((0, rows), (0, columns)), constant_values=np.nan)


def turned(rasters: Rasters, number: int) -> Rasters:
    """Flips and turns square rasters alike, as ``turned_values`` does each."""
    return rasters.mapped(*[lambda values: turned_values(values, number)] * 2)


def turned_values(values: FloatArray, number: int) -> FloatArray:
    """Applies the one of the eight symmetries of a square that the number's last bits choose.

    They stand for transposition and two flips, which include the quarter turns.
    """
    values = values.T if number & 1 else values
    values = values[::-1] if number & 2 else values
    return values[:, ::-1] if number & 4 else values


def batch_of(
    seen: Sequence[Rasters],
    settings: BatchSettings,
    factor: int,
    before: Sequence[Rasters] | None = None,
) -> Batch:
    """Makes inputs and target of a batch, as ``make_dataset`` describes them.

    Args:
        seen: Rasters of one size, as the model is to see them.
        settings: What a batch holds.
        factor: Fine pixels along a coarse pixel's side.
        before: The same before they were varied; guides in the target are theirs.
    """
    inputs = {"lst_kelvin": np.stack([each.lst_kelvin for each in seen])[..., None]}
    for name in settings.model_guides:
        inputs[name] = np.stack([each.guides[name] for each in seen])[..., None]
    channels = [np.stack([each.target(factor) for each in seen])]
    for name in settings.target_channels:
        if name == SPREAD:
            observed = np.array(
                [each.observed or settings.degraded_spread for each in seen], np.float32
            )
            channels.append(np.broadcast_to(observed[:, None, None], channels[0].shape))
        elif name == TRULY_FINE:
            fine = np.array([each.truth_kelvin is not None for each in seen], np.float32)
            channels.append(np.broadcast_to(fine[:, None, None], channels[0].shape))
        else:
            channels.append(np.stack([each.guides[name] for each in before or seen]))
    return inputs, np.stack(channels, axis=-1)
