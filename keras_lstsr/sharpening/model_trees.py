"""Regression trees with a linear model in each leaf, and bags of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

# Samples of a leaf at least.
_SAMPLES_PER_LEAF = 10
# A tree draws at most so many samples: more change it little and take long.
_SAMPLES_PER_TREE = 20_000
# How far a leaf's model may leave the leaf's range of LST, as a part of that range.
_EXTRAPOLATION = 0.25
# Draws a leaf's slopes towards those of all the tree's samples, as so many samples would.
_PRIOR_SAMPLES = 10.0


@dataclass(frozen=True)
class ModelTree:
    """A regression tree with a linear model in each leaf.

    Attributes:
        tree: The fitted scikit-learn ``Tree``; it says which leaf a sample falls into.
        intercepts_kelvin: ``[nodes]``.
        slopes: ``[nodes, K]`` kelvin per unit of each guide.
        lowest_kelvin: ``[nodes]``, the least LST that the leaf's model may give.
        highest_kelvin: ``[nodes]``, the greatest.
    """

    tree: Any
    intercepts_kelvin: NDArray[np.float64]
    slopes: NDArray[np.float64]
    lowest_kelvin: NDArray[np.float64]
    highest_kelvin: NDArray[np.float64]

    def predict(self, guide: NDArray[np.float32]) -> NDArray[np.float64]:
        """Predicts LST ``[N]`` for guides ``[N, K]`` without NaN."""
        leaf = self.tree.apply(guide)
        value = self.intercepts_kelvin[leaf]
        for slopes, band in zip(self.slopes.T, guide.T, strict=True):
            value += slopes[leaf] * band
        return np.clip(value, self.lowest_kelvin[leaf], self.highest_kelvin[leaf], out=value)


def fit_model_tree(
    guide: NDArray[np.float32], lst_kelvin: NDArray[np.float64], *, max_leaves: int, seed: int
) -> ModelTree:
    """Fits a regression tree, then LST in each leaf linearly to the guides.

    The slopes of a leaf are drawn towards those of all samples. That does what the smoothing
    along the branches does in the rule-based trees of the paper. Guides ``[N, K]`` are in units of
    their spread, LST is ``[N]``, both without NaN. The seed decides between splits that are just
    as good.
    """
    from sklearn.tree import DecisionTreeRegressor

    leaves = max(2, max_leaves)
    fitted = DecisionTreeRegressor(
        max_leaf_nodes=leaves, min_samples_leaf=_SAMPLES_PER_LEAF, random_state=seed
    ).fit(guide, lst_kelvin, check_input=False)
    tree = fitted.tree_
    leaf, nodes = tree.apply(guide), tree.node_count
    x = guide.astype(np.float64)
    whole = _slopes(x, lst_kelvin, np.zeros(len(x), np.intp), 1, prior_samples=0.0)[0]
    rest = lst_kelvin - x @ whole
    slopes = _slopes(x, rest, leaf, nodes, prior_samples=_PRIOR_SAMPLES)
    rest -= np.einsum("nk,nk->n", slopes[leaf], x)
    intercepts = np.bincount(leaf, rest, nodes) / np.maximum(np.bincount(leaf, minlength=nodes), 1)
    lowest, highest = np.full(nodes, np.inf), np.full(nodes, -np.inf)
    np.minimum.at(lowest, leaf, lst_kelvin)
    np.maximum.at(highest, leaf, lst_kelvin)
    inner = lowest > highest
    lowest[inner] = highest[inner] = 0.0
    margin = _EXTRAPOLATION * (highest - lowest)
    return ModelTree(tree, intercepts, slopes + whole, lowest - margin, highest + margin)


def _slopes(
    x: NDArray[np.float64],
    y: NDArray[np.float64],
    leaf: NDArray[np.intp],
    nodes: int,
    *,
    prior_samples: float,
) -> NDArray[np.float64]:
    """Least squares in each leaf with slopes drawn towards 0: ``[nodes, K]``."""
    count = x.shape[1]
    pixels = np.maximum(np.bincount(leaf, minlength=nodes), 1)
    columns = [*x.T, y]
    columns = [column - (np.bincount(leaf, column, nodes) / pixels)[leaf] for column in columns]
    products = np.empty((nodes, count, count + 1))
    for row in range(count):
        for column in range(row, count + 1):
            products[:, row, column] = np.bincount(leaf, columns[row] * columns[column], nodes)
            if column < count:
                products[:, column, row] = products[:, row, column]
    matrix = products[..., :count]
    spread = np.diagonal(matrix, axis1=1, axis2=2)
    # Guides are in units of their spread: the small part decides only where they are constant
    # or depend linearly on each other, and then for small slopes.
    ridge = spread * (prior_samples / pixels[:, None] + 1e-9) + 1e-9
    matrix = matrix + ridge[..., None] * np.eye(count)
    slopes: NDArray[np.float64] = np.linalg.solve(matrix, products[..., count:])[..., 0]
    return slopes


def fit_bagged_trees(
    guide: NDArray[np.float32],
    lst_kelvin: NDArray[np.float64],
    *,
    trees: int,
    max_leaves: int,
    rng: np.random.Generator,
) -> list[ModelTree]:
    """Fits trees as ``fit_model_tree``, each to samples drawn with replacement (Breiman 1996)."""
    draws = min(len(guide), _SAMPLES_PER_TREE)
    result = []
    for _ in range(trees):
        drawn = rng.integers(len(guide), size=draws)
        seed = int(rng.integers(2**31))
        tree = fit_model_tree(guide[drawn], lst_kelvin[drawn], max_leaves=max_leaves, seed=seed)
        result.append(tree)
    return result


def predict_bagged_trees(trees: list[ModelTree], guide: NDArray[np.float32]) -> NDArray[np.float64]:
    """Returns the mean of the trees' LST ``[...]`` for guides ``[..., K]``; NaN where one is."""
    there = np.isfinite(guide).all(axis=-1)
    samples = np.ascontiguousarray(guide[there])
    result = np.full(guide.shape[:-1], np.nan)
    total = np.zeros(len(samples))
    for tree in trees:
        total += tree.predict(samples)
    result[there] = total / len(trees)
    return result
