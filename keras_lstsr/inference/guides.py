"""Guides of a scene: brought onto the fine grid, held against LST's granule, told in tags."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date
from pathlib import Path

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import Contract, guide_meaning
from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.grids.align import guide_on_fine_grid
from keras_lstsr.grids.door import Placed, placed


def guides_of_scene(
    guides: Mapping[str, xr.DataArray], lst: Placed, contract: Contract
) -> dict[str, NDArray[np.float32]]:
    """Brings guides onto the fine grid of a scene.

    Args:
        guides: Name → ``[y, x]`` with CRS, of any grid; NaN where missing.
        lst: The scene.
        contract: The model's.

    Returns:
        Name → ``[f·h, f·w]``; NaN where the guide is missing or does not reach.

    Raises:
        ModelError: If the model does not take a guide.
        GridError: If a guide has no CRS, is rotated or clearly coarser than the fine grid, or has
            no valid pixel anywhere in the scene.
    """
    if not isinstance(guides, Mapping):
        raise GridError(
            "guides are given by their names",
            field="guides",
            found=type(guides).__name__,
            expected="a mapping of names to rasters",
            action=f"Pass {{{', '.join(f'{name!r}: raster' for name in contract.guides)}}}.",
        )
    contract.check_takes(guides)
    result = {}
    for name, guide in guides.items():
        fine = guide_on_fine_grid(guide, lst.grid, contract.scale_factor)
        values = np.asarray(fine.values, np.float32)
        if np.isnan(values).all():
            given = placed(guide, name)
            raise GridError(
                "the guide does not overlap LST, or holds no valid pixel there",
                path=guide.encoding.get("source"),
                field=name,
                found=f"bounds {_bounds(given)}, CRS {guide.rio.crs}",
                expected=f"some of LST's: bounds {_bounds(lst)}, CRS {lst.raster.rio.crs}",
                action="Check that both show the same place and that their CRSs are right.",
            )
        result[name] = values
    return result


def _bounds(given: Placed) -> str:
    return "(" + ", ".join(f"{edge:.10g}" for edge in given.grid.bounds) + ")"


def granule_difference(name: str, guide_scene: xr.Dataset, lst_scene: xr.Dataset) -> str:
    """Compares tile and date of a guide and LST, as far as both are known.

    Args:
        name: The guide's name.
        guide_scene: The scene that it comes from.
        lst_scene: The scene of LST.

    Returns:
        A sentence on how many days lie between them; empty text for the same day or an unknown
        one.

    Raises:
        ProductError: If they are of different tiles.
    """
    title = guide_meaning(name)
    tiles, days = (
        [str(scene.attrs.get(key, "")) for scene in (lst_scene, guide_scene)]
        for key in ("tile", "acquisition_date")
    )
    if all(tiles) and tiles[0] != tiles[1]:
        raise ProductError(
            f"LST and {title} are of different tiles",
            path=guide_scene.attrs.get("source_file"),
            field="tile",
            found=tiles[1],
            expected=tiles[0],
            action=f"Take the granule of {title} of the same tile.",
        )
    if not all(days) or days[0] == days[1]:
        return ""
    apart = (date.fromisoformat(days[1]) - date.fromisoformat(days[0])).days
    return (
        f"{title} is of {days[1]}, {abs(apart)} day{'s' if abs(apart) > 1 else ''} "
        f"{'after' if apart > 0 else 'before'} LST ({days[0]}): what changed on the ground "
        "between them shows as false detail."
    )


def guide_tags(scenes: Mapping[str, xr.Dataset]) -> dict[str, object]:
    """Returns the tags on the guides that went in.

    Args:
        scenes: Guide → the scene that it comes from.
    """
    return {
        f"{name}_{tag}": value
        for name, scene in scenes.items()
        for tag, value in {
            "granule": scene.attrs.get("granule_id", ""),
            "file": Path(str(scene.attrs.get("source_file", ""))).name,
            "product": scene.attrs.get("product", ""),
            "date": scene.attrs.get("acquisition_date", ""),
        }.items()
    }
