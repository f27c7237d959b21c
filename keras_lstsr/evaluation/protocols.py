"""How a pair becomes images that can be scored: the protocols of the 250 m and the 1 km task.

All methods of a pair are scored on the same pixels, those that the truth and every method have.

The ASTER protocol, to the letter: LST is cropped to the pixels that the guide covers whole; each
result is warped bilinearly onto ASTER's grid; a pixel is usable where ASTER is at least 270 K (what
is colder is a ring of ASTER's resampling) and every result is there; usable pixels are eroded by 6
in steps of the four neighbours. So the outline of the results is eroded as well as ASTER's own:
with ASTER's alone the known figures of the 54 pairs come out right but for a PSNR 0.1 dB too high.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import numpy as np
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.evaluation.scoring import ImageMaps
from keras_lstsr.grids.georeference import raster_crs, raster_on_grid
from keras_lstsr.grids.registration import Shift, shifted
from keras_lstsr.grids.resample import block_mean, norm_l4
from keras_lstsr.grids.warp import warp_bilinear
from keras_lstsr.metrics import image
from keras_lstsr.pairs.files import Pair, cropped_to_guide
from keras_lstsr.pairs.masks import ASTER_ERODED_PIXELS, ASTER_MINIMUM_KELVIN, eroded

Warp = Literal["gdal", "exact"]


class PairProtocol(Protocol):
    """How pairs are scored.

    Attributes:
        name: Names tables; letters, digits and ``_``.
        title: In words.
        task: Protocols of one task give methods the same input.
        uses_shift: Whether it compares with a truth that may have to be shifted.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def task(self) -> str: ...  # noqa: D102

    @property
    def uses_shift(self) -> bool: ...  # noqa: D102

    def prepared(self, pair: Pair, factor: int) -> Pair:
        """Returns the pair with the LST and the nested guide that the methods get."""
        ...

    def images(
        self, pair: Pair, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields what to score of a prepared pair.

        Args:
            pair: What ``prepared`` returned.
            fine: Method → result on the guide's grid.
            shift: How far the truth lies from where it says, in its pixels; None where that is
                not mended.
        """
        ...


@dataclass(frozen=True)
class AsterProtocol:
    """250 m against ASTER on ASTER's grid: the main protocol.

    Attributes:
        minimum_kelvin: Colder truth is left out.
        eroded_pixels: By how much the usable pixels are eroded.
        warp: ``"gdal"``, with which the known figures were made: GDAL's bilinear warp, which widens
            its kernel slightly between grids that are sheared to each other; or ``"exact"``:
            bilinear at exact coordinates (``grids.warp.warp_bilinear``). On the 54 pairs they
            differ by up to 0.008 K and rank methods alike.
    """

    minimum_kelvin: float = ASTER_MINIMUM_KELVIN
    eroded_pixels: int = ASTER_ERODED_PIXELS
    warp: Warp = "gdal"

    name = "aster"
    title = "1 km → 250 m against ASTER"
    task = "1km_to_250m"
    uses_shift = True

    def prepared(self, pair: Pair, factor: int) -> Pair:
        """Crops LST and guide; see ``pairs.files.cropped_to_guide``."""
        return cropped_to_guide(pair, factor)

    def images(
        self, pair: Pair, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields one image, on the truth's grid."""
        target = pair.truth if shift is None else shifted(pair.truth, shift)
        maps = {name: warped(result, target, self.warp) for name, result in fine.items()}
        truth = np.asarray(target.values, np.float64)
        usable = truth >= self.minimum_kelvin
        for values in maps.values():
            usable &= np.isfinite(values)
        truth = np.where(eroded(usable, self.eroded_pixels), truth, np.nan)
        yield ImageMaps(pair.name, truth, maps, _pixel_size_m(target), _consistency(pair, fine))


@dataclass(frozen=True)
class NestedProtocol:
    """Against a truth on the very grid of the results, as simulated scenes have it.

    Attributes:
        name: Names tables.
        title: In words.
    """

    name: str = "simulated"
    title: str = "1 km → 250 m, simulated scenes"

    task = "1km_to_250m"
    uses_shift = False

    def prepared(self, pair: Pair, factor: int) -> Pair:
        """Crops LST and guide; see ``pairs.files.cropped_to_guide``."""
        return cropped_to_guide(pair, factor)

    def images(
        self, pair: Pair, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields one image.

        Raises:
            GridError: If the truth does not hold the results' pixels.
        """
        truth = np.asarray(_cut_like(pair.truth, pair.guide, pair.name).values, np.float64)
        maps = {name: np.asarray(result.values) for name, result in fine.items()}
        yield ImageMaps(pair.name, truth, maps, _pixel_size_m(pair.guide), _consistency(pair, fine))


@dataclass(frozen=True)
class ReportProtocol:
    """The Mixed Gradient Loss report's own: on the 250 m grid, without the edges, in sub-images.

    ASTER is brought onto the results' grid bilinearly, 16 pixels are cut off at each edge, and what
    remains is divided into n × n sub-images that are scored one by one, each with its own range for
    PSNR. The report cuts its one 64 × 64 image into 4 of 32 and 16 of 16; it does not say whether
    before or after sharpening. Here it is after, so that no further edges come in.

    Attributes:
        subdivisions: Sub-images along either side: 1, 2 or 4 in the report.
        edge_pixels: Fine pixels cut off at each edge.
        minimum_kelvin: Colder truth is left out, before warping.
        eroded_pixels: By how much the truth's usable pixels are eroded, before warping.
    """

    subdivisions: int = 1
    edge_pixels: int = 16
    minimum_kelvin: float = ASTER_MINIMUM_KELVIN
    eroded_pixels: int = ASTER_ERODED_PIXELS

    task = "1km_to_250m"
    uses_shift = True

    @property
    def name(self) -> str:
        """E.g. ``report_2x2``."""
        return f"report_{self.subdivisions}x{self.subdivisions}"

    @property
    def title(self) -> str:
        """In words."""
        parts = f"{self.subdivisions} × {self.subdivisions} sub-images"
        return f"1 km → 250 m as in the MixGL report, {parts}"

    def prepared(self, pair: Pair, factor: int) -> Pair:
        """Crops LST and guide; see ``pairs.files.cropped_to_guide``."""
        return cropped_to_guide(pair, factor)

    def images(
        self, pair: Pair, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields the sub-images, named ``<pair>/<row>.<column>``."""
        source = pair.truth if shift is None else shifted(pair.truth, shift)
        usable = eroded(np.asarray(source.values) >= self.minimum_kelvin, self.eroded_pixels)
        truth = np.asarray(warp_bilinear(source.where(usable), pair.guide).values, np.float64)
        maps = {name: np.asarray(result.values) for name, result in fine.items()}
        height, width = truth.shape
        rows, columns = (
            np.linspace(self.edge_pixels, side - self.edge_pixels, self.subdivisions + 1)
            .round()
            .astype(int)
            for side in (height, width)
        )
        if min(rows[-1] - rows[0], columns[-1] - columns[0]) < self.subdivisions:
            raise GridError(
                "the scene is all edge",
                path=pair.name,
                found=f"{height} × {width} fine pixels",
                expected=f"more than {2 * self.edge_pixels} a side",
            )
        pixel_size_m = _pixel_size_m(pair.guide)
        for i in range(self.subdivisions):
            for j in range(self.subdivisions):
                part = slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1])
                name = pair.name if self.subdivisions == 1 else f"{pair.name}/{i}.{j}"
                parts = {method: values[part] for method, values in maps.items()}
                yield ImageMaps(name, truth[part], parts, pixel_size_m)


@dataclass(frozen=True)
class FourKilometreProtocol:
    """4 km → 1 km, as in the 2022 paper: LST degraded by norm-L4, the guide to 1 km by its mean.

    The truth is the 1 km LST itself, so there is nothing to register, and a bias is the method's.
    """

    name = "4km"
    title = "4 km → 1 km, degraded from 1 km"
    task = "4km_to_1km"
    uses_shift = False

    def prepared(self, pair: Pair, factor: int) -> Pair:
        """Crops to whole 4 km pixels from the upper left corner, and degrades.

        Raises:
            GridError: If the scene is smaller than a 4 km pixel.
        """
        fine = cropped_to_guide(pair, factor)
        height, width = (fine.lst.sizes[axis] // factor * factor for axis in ("y", "x"))
        if not height or not width:
            raise GridError(
                "the scene is smaller than a coarse pixel",
                path=pair.name,
                found=f"{fine.lst.sizes['y']} × {fine.lst.sizes['x']} pixels",
                expected=f"at least {factor} a side",
            )
        lst = fine.lst.isel(y=slice(0, height), x=slice(0, width))
        guide = fine.guide.isel(y=slice(0, height * factor), x=slice(0, width * factor))
        return replace(
            pair,
            lst=_degraded(lst, factor, norm_l4),
            guide=_degraded(guide, factor, block_mean),
            truth=lst,
        )

    def images(
        self, pair: Pair, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields one image, on the 1 km grid."""
        maps = {name: np.asarray(result.values) for name, result in fine.items()}
        truth = np.asarray(pair.truth.values, np.float64)
        yield ImageMaps(pair.name, truth, maps, _pixel_size_m(pair.truth), _consistency(pair, fine))


PROTOCOLS: dict[str, tuple[PairProtocol, ...]] = {
    "aster": (AsterProtocol(),),
    "report": tuple(ReportProtocol(number) for number in (1, 2, 4)),
    "4km": (FourKilometreProtocol(),),
}
"""Name on the command line → protocols."""


def warped(source: xr.DataArray, target: xr.DataArray, how: Warp) -> NDArray[np.float32]:
    """Warps a raster bilinearly onto another's grid.

    Args:
        source: ``[y, x]`` with CRS and transform, NaN where missing.
        target: A raster of the grid wanted.
        how: ``"gdal"``: beside a gap the valid pixels' weights are renormalised; ``"exact"``: what
            a gap goes into is NaN.

    Returns:
        ``[H, W]`` float32, NaN where missing.

    Raises:
        ConfigError: If ``how`` is unknown.
    """
    if how == "exact":
        return np.asarray(warp_bilinear(source, target).values, np.float32)
    if how != "gdal":
        raise ConfigError("unknown warp", field="warp", found=repr(how), expected="gdal or exact")
    result = np.full((target.sizes["y"], target.sizes["x"]), np.nan, np.float32)
    reproject(
        np.asarray(source.values, np.float32),
        result,
        src_transform=source.rio.transform(),
        src_crs=source.rio.crs,
        dst_transform=target.rio.transform(),
        dst_crs=target.rio.crs,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return result


def _consistency(pair: Pair, fine: Mapping[str, xr.DataArray]) -> dict[str, float]:
    coarse = np.asarray(pair.lst.values)
    return {
        name: image.consistency_error(
            np.asarray(result.values), coarse, result.sizes["y"] // coarse.shape[0]
        )
        for name, result in fine.items()
    }


def _degraded(
    raster: xr.DataArray,
    factor: int,
    aggregate: Callable[[NDArray[np.floating], int], NDArray[np.floating]],
) -> xr.DataArray:
    transform = raster.rio.transform() @ Affine.scale(factor)
    values = aggregate(np.asarray(raster.values), factor)
    return raster_on_grid(values, raster, raster_crs(raster, "lst or guide"), transform)


def _pixel_size_m(raster: xr.DataArray) -> float:
    transform = raster.rio.transform()
    return float(np.sqrt(abs(transform.a * transform.e)))


def _cut_like(truth: xr.DataArray, like: xr.DataArray, name: str) -> xr.DataArray:
    """Cuts the part of a raster that lies on another's pixels."""
    offset = ~truth.rio.transform() @ (like.rio.transform().c, like.rio.transform().f)
    column, row = (round(value) for value in offset)
    height, width = like.sizes["y"], like.sizes["x"]
    beside = max(abs(offset[0] - column), abs(offset[1] - row)) > 0.01
    outside = (
        min(row, column) < 0 or row + height > truth.sizes["y"] or column + width > truth.sizes["x"]
    )
    if beside or outside or truth.rio.crs != like.rio.crs:
        raise GridError(
            "the truth does not hold the results' pixels",
            path=name,
            found=f"their corner at row {offset[1]:.2f}, column {offset[0]:.2f} of the truth",
            expected="whole pixels inside it, and the same CRS",
        )
    return truth.isel(y=slice(row, row + height), x=slice(column, column + width))
