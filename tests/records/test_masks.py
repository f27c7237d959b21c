"""What of a truth is usable, and the box around it."""

from __future__ import annotations

import numpy as np

from keras_lstsr.records.masks import eroded, extent_of


def test_erosion_is_by_the_four_neighbours():
    usable = np.ones((9, 9), bool)
    usable[4, 4] = False
    distance = np.add.outer(np.abs(np.arange(-4, 5)), np.abs(np.arange(-4, 5)))
    expected = distance > 2
    expected[[0, 1, -1, -2]] = expected[:, [0, 1, -1, -2]] = False
    np.testing.assert_array_equal(eroded(usable, 2), expected)
    assert eroded(usable, 0) is usable


def test_extent_with_margin():
    marked = np.zeros((20, 30), bool)
    marked[4:6, 25] = True
    assert extent_of(marked) == (slice(4, 6), slice(25, 26))
    assert extent_of(marked, 5) == (slice(0, 11), slice(20, 30))
