"""A sample: coarse LST, its guides and the fine truth of one place and time, on nested grids."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.grids.grid import Grid
from keras_lstsr.records.schema import SCALE_FACTOR, Origin, Split

_SEASONS = ("winter", "spring", "summer", "autumn")


@dataclass(frozen=True)
class Encoding:
    """How a raster is stored on disk: ``value = float32(integer · scale_factor + add_offset)``.

    Attributes:
        dtype: NumPy's name of the stored type.
        scale_factor: Units per integer.
        add_offset: Units at integer 0.
        fill: The integer that marks missing pixels; None where the file names none.
    """

    dtype: str = "float32"
    scale_factor: float = 1.0
    add_offset: float = 0.0
    fill: float | None = None

    @classmethod
    def of(cls, layer: xr.DataArray) -> Encoding:
        """Returns the encoding with which a layer was delivered; float32 if it is not known."""
        stored: Mapping[str, Any] = layer.encoding
        if "dtype" not in stored:
            return cls()
        fill = stored.get("_FillValue")
        return cls(
            dtype=np.dtype(stored["dtype"]).name,
            scale_factor=float(stored.get("scale_factor", 1.0)),
            add_offset=float(stored.get("add_offset", 0.0)),
            fill=None if fill is None else float(fill),
        )


@dataclass(frozen=True, eq=False)
class Sample:
    """One place and time on nested grids: what a record holds.

    Attributes:
        name: Unique in a set: the scene's name, and ``/rRRRRRcCCCCC`` where the sample is one of
            the patches that the scene is cut into.
        lst_kelvin: Coarse LST ``[h, w]`` float32; NaN where missing.
        guides: Name → ``[f · h, f · w]`` float32 in the guide's unit; NaN where missing.
        truth_kelvin: True fine LST ``[f · h, f · w]`` float32, NaN where nothing is learnt; None
            where there is no truth.
        grid: Of LST; guides and truth lie on ``fine_grid``.
        scale_factor: ``f``: fine pixels along a coarse pixel's side.
        day_night: ``day``, ``night`` or ``unknown``.
        product: E.g. ``MOD11A1``.
        tile: E.g. ``h18v04``; "" outside MODIS tiles.
        acquisition_date: ISO date; "" if unknown.
        sensor: Instrument that measured the truth or, without truth, LST; "" if unknown.
        place: Name of the ground it lies on (see ``keras_lstsr.records.places``).
        split: ``train``, ``validation`` or ``test``.
        origin: ``observed`` where LST and truth are of two instruments, or there is no truth;
            ``degraded`` where LST was made from this truth.
        scene: Name of the scene that it is a part of: ``granule/source/day_night``, or a pair's.
        group: Scenes of one group share ground.
        row: LST pixels from the scene's north edge to the sample's.
        column: LST pixels from the scene's west edge to the sample's.
        encodings: How ``lst_kelvin`` and the guides were delivered, by name; float32 by default.
    """

    name: str
    lst_kelvin: NDArray[np.float32]
    guides: dict[str, NDArray[np.float32]]
    truth_kelvin: NDArray[np.float32] | None
    grid: Grid
    scale_factor: int = SCALE_FACTOR
    day_night: str = "unknown"
    product: str = ""
    tile: str = ""
    acquisition_date: str = ""
    sensor: str = ""
    place: str = ""
    split: Split = "train"
    origin: Origin = "observed"
    scene: str = ""
    group: str = ""
    row: int = 0
    column: int = 0
    encodings: dict[str, Encoding] = field(default_factory=dict)

    @property
    def fine_grid(self) -> Grid:
        """The grid of guides and truth."""
        return self.grid.finer(self.scale_factor)

    @property
    def season(self) -> str:
        """``spring``, ``summer``, ``autumn`` or ``winter`` where it lies; "" without a date.

        Whole months, winter from December in the north and from June in the south.
        """
        if not self.acquisition_date:
            return ""
        months = dt.date.fromisoformat(self.acquisition_date).month % 12
        south = self.grid.longitude_latitude[1] < 0
        return _SEASONS[(months // 3 + 2 * south) % 4]

    @property
    def valid_share(self) -> float:
        """Part of the fine pixels that have truth."""
        if self.truth_kelvin is None:
            return 0.0
        return float(np.isfinite(self.truth_kelvin).mean())
