"""What goes into a prediction: products, the layer of theirs, and whether they fit each other."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from os import PathLike
from typing import Any, Literal

import numpy as np
import xarray as xr

from keras_lstsr.artifacts.contract import guide_meaning
from keras_lstsr.errors import ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.products import lst_layers

Layer = Literal["day", "night"]

MAX_GUIDE_DAYS = 16
"""Composites of vegetation are of 16 days; what is older shows the ground of another season."""
# Pixels for which networks and their figures are meant, in metres.
_USUAL_PIXEL_M = (500.0, 2000.0)
_OTHER_INDEX = re.compile(
    r"(?<![A-Za-z])(EVI2?|M?SAVI2?|NDWI|NDMI|NDSI|NDBI|LAI|FPAR|FAPAR|FVC)(?![A-Za-z])", re.I
)
_COMPOSITE = re.compile(
    r"(?<![A-Za-z0-9])M[OYX]D(?:11|21)A[23]|(?<![A-Za-z0-9])8[-_ ]?days?(?![A-Za-z])", re.I
)


@dataclass(frozen=True)
class LstInput:
    """The product that is to be refined.

    Attributes:
        path: MOD11A1 or MYD11A1 HDF, or an LST GeoTIFF.
        layer: Which layer of a product with several; None takes day, or the only one.
        qc_policy: ``"strict"``, ``"default"`` or ``"lenient"``; the guides' too.
        options: Further options of ``open_product``, for GeoTIFF.
    """

    path: str | PathLike[str]
    layer: Layer | None = None
    qc_policy: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GuideInput:
    """A product that holds a guide.

    Attributes:
        path: A file that ``open_guide`` opens.
        options: Further options of ``open_product``, for GeoTIFF: ``scale``, ``nodata``, ``date``.
    """

    path: str | PathLike[str]
    options: Mapping[str, Any] = field(default_factory=dict)


def choose_layer(scene: xr.Dataset, layer: Layer | None) -> tuple[str, xr.DataArray]:
    """Returns name and LST of a scene's layer; None takes day, or the only layer.

    Raises:
        ProductError: If the scene has no such layer, or the layer has no valid pixel.
    """
    layers = lst_layers(scene)
    name: str = layer or next(key for key in (*_PREFERRED, *layers) if key in layers)
    shares = ", ".join(f"{key} {valid_share(item):.1%} valid" for key, item in layers.items())
    path = scene.attrs.get("source_file")
    if name not in layers:
        raise ProductError(
            "the scene has no such layer",
            path=path,
            field=name,
            found=shares,
            action="Leave out --layer, or name the layer's time with --day-night.",
        )
    if valid_share(layers[name]) == 0:
        rejected = json.loads(layers[name].attrs.get("rejected_pixels", "{}"))
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.items() if count)
        raise ProductError(
            "the layer has no valid pixel",
            path=path,
            field=name,
            found=shares + (f"; {name} pixels rejected: {reasons}" if reasons else ""),
            expected="at least one clear pixel",
            action="Take another --layer, a more lenient --qc-policy, or another day.",
        )
    return name, layers[name]


_PREFERRED = ("day", "unknown", "night")


def valid_share(layer: xr.DataArray) -> float:
    """Returns the share of pixels that are not NaN, 0…1."""
    return float(np.mean(~np.isnan(layer.values)))


def foreign_inputs(
    lst_scene: xr.Dataset, lst: xr.DataArray, guides: Mapping[str, xr.Dataset]
) -> list[str]:
    """Says in sentences what of the inputs is other than what networks are trained on."""
    notes = []
    texts = [str(lst_scene.attrs.get("granule_id", "")), str(lst.attrs.get("long_name", ""))]
    if any(_COMPOSITE.search(text) for text in texts):
        notes.append(
            "LST seems to be a composite of several days: detail of one day's NDVI fits it less."
        )
    grid = Grid.of(lst)
    metres = grid.pixel_size[1] * (_METRES_PER_DEGREE if grid.crs.is_geographic else 1.0)
    if not _USUAL_PIXEL_M[0] <= metres <= _USUAL_PIXEL_M[1]:
        notes.append(
            f"LST's pixels are of {metres:.0f} m: networks are trained on pixels of about 1 km."
        )
    if "ndvi" in guides:
        layer, scene = guides["ndvi"]["ndvi"], guides["ndvi"]
        texts = [str(layer.attrs.get("long_name", "")), str(scene.attrs.get("granule_id", ""))]
        named = next((hit[1] for hit in map(_OTHER_INDEX.search, texts) if hit), "")
        if named and not any("ndvi" in text.lower() for text in texts[:1]):
            notes.append(
                f"The file given for NDVI calls itself {named.upper()}: it is taken for NDVI."
            )
    return notes


_METRES_PER_DEGREE = 111_320.0


def granule_difference(
    name: str, guide_scene: xr.Dataset, lst_scene: xr.Dataset, max_days: int = MAX_GUIDE_DAYS
) -> str:
    """Says how many days lie between a guide and LST; empty text for the same or an unknown day.

    Raises:
        ProductError: If they are of different tiles, or NDVI is further from LST than ``max_days``.
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
    if name == "ndvi" and abs(apart) > max_days:
        raise ProductError(
            f"LST and {title} are too far apart in time",
            path=guide_scene.attrs.get("source_file"),
            field="acquisition_date",
            found=f"{days[1]}, {abs(apart)} days {'after' if apart > 0 else 'before'} LST of "
            f"{days[0]}",
            expected=f"at most {max_days} days",
            action=f"Take {title} of about the same day; --max-guide-days {abs(apart)} takes it "
            "all the same.",
        )
    return (
        f"{title} is of {days[1]}, {abs(apart)} day{'s' if abs(apart) > 1 else ''} "
        f"{'after' if apart > 0 else 'before'} LST ({days[0]}): what changed on the ground "
        "between them shows as false detail."
    )
