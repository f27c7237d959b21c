from __future__ import annotations

import heapq

import numpy as np
import pytest

from keras_lstsr.simulate.drainage import route_flow


def _priority_flood(elevation: np.ndarray, outlet: np.ndarray) -> np.ndarray:
    """Spill levels by the textbook algorithm (Barnes et al. 2014), cell by cell."""
    height, width = elevation.shape
    filled = np.full(elevation.shape, np.inf)
    queue = []
    for row, column in zip(*np.nonzero(outlet), strict=True):
        filled[row, column] = elevation[row, column]
        heapq.heappush(queue, (elevation[row, column], row, column))
    while queue:
        level, row, column = heapq.heappop(queue)
        for r in range(max(row - 1, 0), min(row + 2, height)):
            for c in range(max(column - 1, 0), min(column + 2, width)):
                if np.isinf(filled[r, c]):
                    filled[r, c] = max(level, elevation[r, c])
                    heapq.heappush(queue, (filled[r, c], r, c))
    return filled


@pytest.mark.parametrize("seed", range(4))
def test_hollows_are_filled_as_priority_flood_fills_them(seed: int) -> None:
    rng = np.random.default_rng(seed)
    elevation = rng.normal(size=(23, 31))
    outlet = np.zeros(elevation.shape, bool)
    outlet[0, :] = True
    drainage = route_flow(elevation, outlet)
    # The tie-breaking term may choose a pass that is higher by a thousandth of the relief.
    np.testing.assert_allclose(
        drainage.filled,
        _priority_flood(elevation, outlet),
        atol=2e-3 * np.ptp(elevation),
    )


def test_every_cell_reaches_an_outlet_and_area_is_conserved() -> None:
    rng = np.random.default_rng(9)
    elevation = rng.normal(size=(20, 20)).cumsum(axis=0)
    outlet = np.zeros(elevation.shape, bool)
    outlet[-1, :5] = True
    drainage = route_flow(elevation, outlet)
    for start in range(elevation.size):
        cell, steps = start, 0
        while drainage.receiver[cell] >= 0:
            cell, steps = drainage.receiver[cell], steps + 1
            assert steps <= elevation.size
        assert outlet.ravel()[cell]
    assert drainage.upstream_cells[outlet].sum() == elevation.size


def test_water_runs_straight_down_a_slope() -> None:
    elevation = np.repeat(np.arange(6.0)[:, None], 5, axis=1)
    elevation += np.abs(np.arange(5) - 2)[None, :] * 1e-3
    outlet = elevation == elevation.min()
    drainage = route_flow(elevation, outlet)
    assert drainage.upstream_cells[0, 2] == elevation.size
    np.testing.assert_array_equal(drainage.filled, elevation)
