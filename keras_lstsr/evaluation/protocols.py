"""How a sample becomes images that can be scored: the protocols of the 250 m and the 1 km task.

All methods of a sample are scored on the same pixels, those that the truth and every method have.

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
import xarray as xr
from numpy.typing import NDArray
from rasterio.enums import Resampling
from rasterio.warp import reproject

from keras_lstsr.errors import ConfigError, GridError
from keras_lstsr.evaluation.result import MAIN_METRICS, ImageMaps
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.registration import Shift, shifted
from keras_lstsr.grids.resample import block_mean, norm_l4, upsample_bicubic
from keras_lstsr.grids.warp import warp_bilinear
from keras_lstsr.metrics import image
from keras_lstsr.records.scene_sample import (
    ASTER_ERODED_PIXELS,
    ASTER_MINIMUM_KELVIN,
    SceneSample,
    cropped_to_guides,
    eroded,
)

Warp = Literal["gdal", "exact"]

OWN_TRUTH_METRICS = ("rmse_kelvin",)
"""By these methods are compared where the truth is of the same instrument: a bias is theirs."""


class ScoringProtocol(Protocol):
    """How samples are scored.

    Attributes:
        name: Names tables; letters, digits and ``_``.
        title: In words.
        task: Protocols of one task give methods the same input.
        foreign_truth: Whether the truth is another instrument's, which may have to be shifted.
        main_metrics: By the first of these that the scores have, methods are compared.
    """

    @property
    def name(self) -> str: ...  # noqa: D102

    @property
    def title(self) -> str: ...  # noqa: D102

    @property
    def task(self) -> str: ...  # noqa: D102

    @property
    def foreign_truth(self) -> bool: ...  # noqa: D102

    @property
    def main_metrics(self) -> tuple[str, ...]: ...  # noqa: D102

    def prepared(self, sample: SceneSample, factor: int) -> SceneSample:
        """Returns the sample with the LST and the nested guides that the methods get."""
        ...

    def images(
        self, sample: SceneSample, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields what to score of a prepared sample.

        Args:
            sample: What ``prepared`` returned.
            fine: Method → result on the fine grid.
            shift: How far the truth lies from where it says, in its pixels; None where that is
                not mended.

        Raises:
            GridError: If there is no truth, or it does not fit.
        """
        ...


class _FineProtocol:
    """What the protocols of the 250 m task share; their truth is another instrument's."""

    task = "1km_to_250m"
    foreign_truth = True
    main_metrics: tuple[str, ...] = MAIN_METRICS

    def prepared(self, sample: SceneSample, factor: int) -> SceneSample:
        """Crops LST and guides; see ``records.scene_sample.cropped_to_guides``."""
        return cropped_to_guides(sample, factor)


@dataclass(frozen=True)
class AsterProtocol(_FineProtocol):
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

    def images(
        self, sample: SceneSample, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields one image, on the truth's grid."""
        target = _truth_of(sample, shift)
        maps = {name: warped(result, target, self.warp) for name, result in fine.items()}
        truth = np.asarray(target.values, np.float64)
        usable = truth >= self.minimum_kelvin
        for values in maps.values():
            usable &= np.isfinite(values)
        truth = np.where(eroded(usable, self.eroded_pixels), truth, np.nan)
        yield ImageMaps(sample.name, truth, maps, _pixel_size_m(target), _consistency(sample, fine))


@dataclass(frozen=True)
class NestedProtocol(_FineProtocol):
    """Against a truth on the very grid of the results, as simulated scenes have it.

    Attributes:
        name: Names tables.
        title: In words.
        clear_of_gaps: Leave out what lies so near a gap of LST that bicubic upsampling reaches into
            it: scores there tell how gaps are bridged.
        main_metrics: By the first of these methods are compared.
        cropped: Crop to what the guides cover; False for records, which are cut to size already.
    """

    name: str = "simulated"
    title: str = "1 km → 250 m, simulated scenes"
    clear_of_gaps: bool = False
    cropped: bool = True
    main_metrics: tuple[str, ...] = OWN_TRUTH_METRICS

    foreign_truth = False

    def prepared(self, sample: SceneSample, factor: int) -> SceneSample:
        """Crops LST and guides, where that is asked for."""
        return cropped_to_guides(sample, factor) if self.cropped else sample

    def images(
        self, sample: SceneSample, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields one image.

        Raises:
            GridError: If the truth does not cover the results' pixels.
        """
        like = next(iter(fine.values()))
        truth = np.asarray(_cut_like(_truth_of(sample), like, sample.name).values, np.float64)
        if self.clear_of_gaps:
            truth = _clear_of_gaps(truth, sample)
        maps = {name: np.asarray(result.values) for name, result in fine.items()}
        yield ImageMaps(sample.name, truth, maps, _pixel_size_m(like), _consistency(sample, fine))


@dataclass(frozen=True)
class ReportProtocol(_FineProtocol):
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

    @property
    def name(self) -> str:
        """E.g. ``report_2x2``."""
        return f"report_{self.subdivisions}x{self.subdivisions}"

    @property
    def title(self) -> str:
        """In words."""
        parts = f"{self.subdivisions} × {self.subdivisions} sub-images"
        return f"1 km → 250 m as in the MixGL report, {parts}"

    def images(
        self, sample: SceneSample, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields the sub-images, named ``<pair>/<row>.<column>``."""
        source = _truth_of(sample, shift)
        usable = eroded(np.asarray(source.values) >= self.minimum_kelvin, self.eroded_pixels)
        like = next(iter(fine.values()))
        truth = np.asarray(warp_bilinear(source.where(usable), like).values, np.float64)
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
                "the edges that are cut off cover the whole scene",
                path=sample.name,
                found=f"{height} × {width} fine pixels",
                expected=f"more than {2 * self.edge_pixels} a side",
            )
        pixel_size_m = _pixel_size_m(like)
        for i in range(self.subdivisions):
            for j in range(self.subdivisions):
                part = slice(rows[i], rows[i + 1]), slice(columns[j], columns[j + 1])
                name = sample.name if self.subdivisions == 1 else f"{sample.name}/{i}.{j}"
                parts = {method: values[part] for method, values in maps.items()}
                yield ImageMaps(name, truth[part], parts, pixel_size_m)


@dataclass(frozen=True)
class FourKilometreProtocol:
    """4 km → 1 km, as in the 2022 paper: LST degraded by norm-L4, the guide to 1 km by its mean.

    The truth is the 1 km LST itself, so there is nothing to register, and a bias is the method's.

    Attributes:
        name: Names tables.
        title: In words.
        cropped: Crop to what the guides cover; False for records, which are cut to size already.
        clear_of_gaps: As of ``NestedProtocol``.
    """

    name: str = "4km"
    title: str = "4 km → 1 km, degraded from 1 km"
    cropped: bool = True
    clear_of_gaps: bool = False

    task = "4km_to_1km"
    foreign_truth = False
    main_metrics = OWN_TRUTH_METRICS

    def prepared(self, sample: SceneSample, factor: int) -> SceneSample:
        """Crops to whole 4 km pixels from the upper left corner, and degrades.

        Raises:
            GridError: If the scene is smaller than a 4 km pixel.
        """
        fine = cropped_to_guides(sample, factor) if self.cropped else sample
        height, width = (fine.lst.sizes[axis] // factor * factor for axis in ("y", "x"))
        if not height or not width:
            raise GridError(
                "the scene is smaller than a coarse pixel",
                path=sample.name,
                found=f"{fine.lst.sizes['y']} × {fine.lst.sizes['x']} pixels",
                expected=f"at least {factor} a side",
            )
        lst = fine.lst.isel(y=slice(0, height), x=slice(0, width))
        part = {"y": slice(0, height * factor), "x": slice(0, width * factor)}
        guides = {name: guide.isel(part) for name, guide in fine.guides.items()}
        return replace(
            sample,
            lst=_degraded(lst, factor, norm_l4),
            guides={name: _degraded(g, factor, block_mean) for name, g in guides.items()},
            truth=lst,
        )

    def images(
        self, sample: SceneSample, fine: Mapping[str, xr.DataArray], shift: Shift | None
    ) -> Iterator[ImageMaps]:
        """Yields one image, on the 1 km grid."""
        maps = {name: np.asarray(result.values) for name, result in fine.items()}
        truth = _truth_of(sample)
        values = np.asarray(truth.values, np.float64)
        if self.clear_of_gaps:
            values = _clear_of_gaps(values, sample)
        yield ImageMaps(sample.name, values, maps, _pixel_size_m(truth), _consistency(sample, fine))


PROTOCOLS: dict[str, tuple[ScoringProtocol, ...]] = {
    "aster": (AsterProtocol(),),
    "nested": (NestedProtocol(),),
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
    from_grid, to_grid = Grid.of(source), Grid.of(target)
    result = np.full(to_grid.shape, np.nan, np.float32)
    reproject(
        np.asarray(source.values, np.float32),
        result,
        src_transform=from_grid.transform,
        src_crs=from_grid.crs_wkt,
        dst_transform=to_grid.transform,
        dst_crs=to_grid.crs_wkt,
        src_nodata=np.nan,
        dst_nodata=np.nan,
        resampling=Resampling.bilinear,
    )
    return result


def _truth_of(sample: SceneSample, shift: Shift | None = None) -> xr.DataArray:
    if sample.truth is None:
        raise GridError("the sample has no truth", path=sample.name)
    return sample.truth if shift is None else shifted(sample.truth, shift)


def _clear_of_gaps(truth: NDArray[np.float64], sample: SceneSample) -> NDArray[np.float64]:
    lst = np.asarray(sample.lst.values)
    # A NaN spreads over the kernel's footprint.
    reached = np.isnan(upsample_bicubic(lst, truth.shape[0] // lst.shape[0]))
    return np.where(reached, np.nan, truth)


def _consistency(sample: SceneSample, fine: Mapping[str, xr.DataArray]) -> dict[str, float]:
    coarse = np.asarray(sample.lst.values)
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
    values = aggregate(np.asarray(raster.values), factor)
    return Grid.of(raster).coarser(factor).raster(values, name=raster.name, attrs=raster.attrs)


def _pixel_size_m(raster: xr.DataArray) -> float:
    width, height = Grid.of(raster).pixel_size
    return float(np.sqrt(width * height))


def _cut_like(truth: xr.DataArray, like: xr.DataArray, name: str) -> xr.DataArray:
    """Cuts the part of a raster that lies on another's pixels."""
    grid, wanted = Grid.of(truth), Grid.of(like)
    offset = wanted.offset_in(grid)
    rows, columns = (
        slice(start, start + length)
        for start, length in zip(offset or (-1, -1), wanted.shape, strict=True)
    )
    outside = min(rows.start, columns.start) < 0
    if outside or rows.stop > grid.height or columns.stop > grid.width:
        raise GridError(
            "the truth does not cover the results' pixels",
            path=name,
            found="other pixels"
            if offset is None
            else f"their corner at row {offset[0]}, column {offset[1]} of the truth",
            expected="whole pixels inside it, and the same CRS",
        )
    return truth.isel(y=rows, x=columns)
