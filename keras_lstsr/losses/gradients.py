"""Image gradients on any backend: shifted differences instead of convolutions.

Arrays are ``[B, H, W, C]``; results cover the ``(H − 2) × (W − 2)`` pixels whose 3 × 3
neighbourhood lies inside the image. x grows with the column, y with the row.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

from keras import ops

# Inside the square root of magnitudes: the root's slope at zero is infinite. The reference's value.
MAGNITUDE_EPSILON = 1e-4


def _differences(values: Any) -> tuple[Any, Any]:
    # Differences first: neighbouring temperatures subtract without loss in float32.
    return values[:, :, 2:] - values[:, :, :-2], values[:, 2:] - values[:, :-2]


def _smooth(values: Any, axis: int) -> Any:
    if axis == 1:
        return values[:, :-2] + 2.0 * values[:, 1:-1] + values[:, 2:]
    return values[:, :, :-2] + 2.0 * values[:, :, 1:-1] + values[:, :, 2:]


def sobel(values: Any) -> tuple[Any, Any]:
    """The Sobel gradient ``(gx, gy)``, divided by 8: a ramp of 1 per pixel has the gradient 1.

    Source: correlation with [[−1,0,1],[−2,0,2],[−1,0,1]] / 8 and its transpose.
    """
    across, down = _differences(values)
    return _smooth(across, axis=1) / 8.0, _smooth(down, axis=2) / 8.0


def sobel_report(values: Any) -> tuple[Any, Any]:
    """The operator of the report's code, with its defect: one wrong sign in the y kernel.

    The y kernel is [[−1,−2,+1],[0,0,0],[1,2,1]]; it sums to 2, so that a constant field of 0.87
    has the "gradient" 1.74. Not divided by 8.
    """
    across, down = _differences(values)
    # The right kernel has −1 in the upper right corner; +1 is 2 more of that pixel.
    return _smooth(across, axis=1), _smooth(down, axis=2) + 2.0 * values[:, :-2, 2:]


def directional_derivatives(values: Any, directions: int) -> list[Any]:
    """Derivatives along straight lines: Sobel's kernel, turned by 45° for the diagonals.

    2 directions are east and south; 4 also north-east and south-east.

    Source: correlation with [[0,1,2],[−1,0,1],[−2,−1,0]] / (6 √2) for north-east, and its mirror.
    """
    derivatives = list(sobel(values))
    if directions == 2:
        return derivatives
    north, south = values[:, :-2, 1:-1], values[:, 2:, 1:-1]
    west, east = values[:, 1:-1, :-2], values[:, 1:-1, 2:]
    along_north_east = 2.0 * (values[:, :-2, 2:] - values[:, 2:, :-2]) + (north - west)
    along_south_east = 2.0 * (values[:, 2:, 2:] - values[:, :-2, :-2]) + (south - west)
    norm = 6.0 * math.sqrt(2.0)
    derivatives.append((along_north_east + (east - south)) / norm)
    derivatives.append((along_south_east + (east - north)) / norm)
    return derivatives


GRADIENT_OPERATORS: dict[str, Callable[[Any], tuple[Any, Any]]] = {
    "sobel": sobel,
    "sobel_report": sobel_report,
}


def magnitude(gx: Any, gy: Any) -> Any:
    """Gradient magnitude ``sqrt(gx² + gy² + 1e-4)``; the epsilon keeps its slope finite."""
    return ops.sqrt(ops.square(gx) + ops.square(gy) + MAGNITUDE_EPSILON)


def neighbourhood_valid(valid: Any) -> Any:
    """True where all 3 × 3 neighbours are valid: ``[B, H, W, C] → [B, H − 2, W − 2, C]``."""
    rows = ops.logical_and(ops.logical_and(valid[:, :-2], valid[:, 1:-1]), valid[:, 2:])
    return ops.logical_and(ops.logical_and(rows[:, :, :-2], rows[:, :, 1:-1]), rows[:, :, 2:])
