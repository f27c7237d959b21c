"""A drainage network on a grid: which cell flows where, and how much land drains through it."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import breadth_first_order, minimum_spanning_tree


@dataclass(frozen=True)
class Drainage:
    """The way of the water over a terrain.

    Attributes:
        receiver: ``[H·W]``, index of the cell that each cell drains into; −1 at an outlet.
        upstream_cells: ``[H, W]``, number of cells that drain through each cell, itself included.
        filled: ``[H, W]``, the terrain with every hollow filled to the level where it spills.
    """

    receiver: NDArray[np.int64]
    upstream_cells: NDArray[np.float64]
    filled: NDArray[np.float64]


def _neighbour_edges(height: int, width: int) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
    index = np.arange(height * width, dtype=np.int32).reshape(height, width)
    pairs = [
        (index[:, :-1], index[:, 1:]),
        (index[:-1, :], index[1:, :]),
        (index[:-1, :-1], index[1:, 1:]),
        (index[:-1, 1:], index[1:, :-1]),
    ]
    first = np.concatenate([a.ravel() for a, _ in pairs])
    second = np.concatenate([b.ravel() for _, b in pairs])
    return first, second


def route_flow(elevation: NDArray[np.floating], outlet: NDArray[np.bool_]) -> Drainage:
    """Routes water over a terrain down to its outlets.

    Water leaves a hollow where its rim is lowest. The tree of the paths with the lowest passes is
    the minimum spanning tree of the grid whose edges weigh as much as their higher end, rooted
    at the outlets, where water leaves the grid (both ``[H, W]``, elevation in any unit);
    priority-flood algorithms find the same tree (Barnes et al. 2014).
    """
    height, width = elevation.shape
    cells = height * width
    level = elevation.ravel().astype(np.float64)
    level = (level - level.min()) / max(float(np.ptp(level)), 1e-9)
    first, second = _neighbour_edges(height, width)
    higher = np.maximum(level[first], level[second])
    # The small second term breaks ties between a cell's lower neighbours: the lowest wins.
    # The constant keeps weights above zero, which csgraph would take for "no edge".
    weight = 1.0 + higher + 1e-3 * np.minimum(level[first], level[second])
    outlets = np.flatnonzero(outlet).astype(np.int32)
    root = np.int32(cells)
    rows = np.concatenate([first, outlets])
    columns = np.concatenate([second, np.full_like(outlets, root)])
    weight = np.concatenate([weight, 0.5 + 1e-3 * level[outlets]])
    graph = coo_array((weight, (rows, columns)), shape=(cells + 1, cells + 1)).tocsr()
    tree = minimum_spanning_tree(graph, overwrite=True)
    order, parent = breadth_first_order(tree, int(root), directed=False)
    filled, upstream = _walk_tree(order, parent, level, elevation)
    receiver = np.where(parent[:cells] == root, -1, parent[:cells]).astype(np.int64)
    return Drainage(receiver, upstream.reshape(height, width), filled.reshape(height, width))


def _walk_tree(
    order: NDArray[np.int32],
    parent: NDArray[np.int32],
    level: NDArray[np.float64],
    elevation: NDArray[np.floating],
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Fills hollows from the root upwards and adds up areas from the leaves downwards."""
    cells = level.size
    position = np.empty(cells + 1, dtype=np.int64)
    position[order] = np.arange(order.size)
    parent_position = position[parent[order[1:]]]
    # Breadth-first order keeps each generation together; here are their limits.
    limits = [0, 1]
    while limits[-1] < order.size:
        limits.append(1 + int(np.searchsorted(parent_position, limits[-1], side="left")))
    generations = [order[a:b] for a, b in itertools.pairwise(limits[1:])]
    spill = np.append(elevation.ravel().astype(np.float64), -np.inf)
    for nodes in generations:
        spill[nodes] = np.maximum(spill[nodes], spill[parent[nodes]])
    upstream = np.ones(cells + 1)
    for nodes in reversed(generations):
        np.add.at(upstream, parent[nodes], upstream[nodes])
    return spill[:cells], upstream[:cells]
