"""Clouds: fractal, with ragged edges, and with the thin veil round them that masks miss."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from keras_lstsr.simulate.fields import Float32Array, RandomStreams, power_law_field
from keras_lstsr.simulate.terrain import refine

# Optical depth is in units of the cloud field's standard deviation, 0 at the edge of the cloud.
_RAGGEDNESS = 0.08


@dataclass(frozen=True)
class CloudScene:
    """Clouds of one overpass.

    Attributes:
        depth: ``[4n, 4n]``, above zero in cloud, below it the further the clearer; no unit.
        cover: ``[n, n]``, share of each 1 km pixel that is cloudy.
        coarse_depth: ``[n, n]``, mean of ``depth``.
    """

    depth: Float32Array
    cover: Float32Array
    coarse_depth: Float32Array

    @property
    def cloudy(self) -> NDArray[np.bool_]:
        """Cloud on the 250 m grid."""
        mask: NDArray[np.bool_] = self.depth > 0
        return mask


def make_clouds(
    streams: RandomStreams, name: str, pixels: int, fraction: float | None
) -> CloudScene:
    """Draws the clouds of an overpass, ``"day"`` or ``"night"``, over a tile of 1 km pixels.

    The fraction is the share of the tile under cloud; None draws it between 0.05 and 0.45.
    """
    generator = streams.generator(f"{name} clouds")
    drawn = float(generator.uniform(0.05, 0.45))
    share = drawn if fraction is None else fraction
    fine = 4 * pixels
    if share <= 0 or share >= 1:
        depth = np.float32(-10 if share <= 0 else 10)
        cover = np.full((pixels, pixels), np.float32(share >= 1))
        return CloudScene(np.full((fine, fine), depth), cover, np.full((pixels, pixels), depth))
    systems = power_law_field(generator, pixels, 3.6, 400)
    cells = power_law_field(generator, pixels, 3.0, 30)
    field = systems + np.float32(0.45) * cells
    ragged = refine(field)
    ragged += np.float32(_RAGGEDNESS) * power_law_field(generator, fine, 2.8, 24)
    ragged -= np.float32(np.quantile(ragged[::3, ::3], 1 - share))
    blocks = ragged.reshape(pixels, 4, pixels, 4)
    share_of_pixel = (blocks > 0).mean(axis=(1, 3), dtype=np.float32)
    return CloudScene(ragged, share_of_pixel, blocks.mean(axis=(1, 3), dtype=np.float32))
