"""Patches to the tensors of a task, in NumPy: the definition of what a batch holds."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.config import DataConfig
from keras_lstsr.grids.resample import (
    block_mean,
    norm_l4,
    upsample_bicubic,
    upsample_bilinear,
    upsample_nearest,
)

# The input's second tensor, where ``data.upsampling`` asks for it.
UPSAMPLED = "lst_kelvin_upsampled"


def guide_on_target_grid(
    ndvi: NDArray[np.float32], data: DataConfig, factor: int
) -> NDArray[np.float32]:
    """Brings NDVI ``[..., 4h, 4w]`` of the records onto the grid of the task's target."""
    return block_mean(ndvi, factor) if data.task == "4km_to_1km" else ndvi


def model_tensors(
    lst_kelvin: NDArray[np.float32],
    guide: NDArray[np.float32] | None,
    data: DataConfig,
    factor: int,
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.float32]]:
    """Makes inputs and target of the patches of a batch, as ``make_dataset`` describes them.

    Args:
        lst_kelvin: LST of the records, ``[B, h, w]``; NaN where missing.
        guide: NDVI on the target's grid, see ``guide_on_target_grid``; None for a target without.
        data: The task and the upsampling.
        factor: Fine pixels along a coarse pixel's side.
    """
    if data.task == "4km_to_1km":
        coarse, fine = norm_l4(lst_kelvin, factor), lst_kelvin
    else:
        coarse, fine = lst_kelvin, upsample_nearest(lst_kelvin, factor)
    inputs = {"lst_kelvin": coarse[..., None]}
    if data.upsampling is not None:
        upsample = {"bicubic": upsample_bicubic, "bilinear": upsample_bilinear}[data.upsampling]
        inputs[UPSAMPLED] = upsample(coarse, factor)[..., None]
    return inputs, np.stack([fine] if guide is None else [fine, guide], axis=-1)


def turn(rasters: NDArray[np.float32], numbers: NDArray[np.integer]) -> NDArray[np.float32]:
    """Applies to each raster the symmetry of the square that ``records.dataset.augment`` would.

    Args:
        rasters: Square, ``[B, side, side]``.
        numbers: ``[B]``; their last three bits choose transposition and two flips.
    """
    moved = rasters.copy()
    first, second, third = (numbers >> bit & 1 == 1 for bit in range(3))
    moved[first] = moved[first].swapaxes(1, 2)
    moved[second] = moved[second][:, ::-1]
    moved[third] = moved[third][:, :, ::-1]
    return moved
