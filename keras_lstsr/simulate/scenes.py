"""Whole scenes: MOD11A1 and MOD09GQ granules of a tile and day, and the truth behind them."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import rasterio
from numpy.typing import NDArray

from keras_lstsr import __version__
from keras_lstsr.errors import ConfigError
from keras_lstsr.files import written_whole
from keras_lstsr.grids.degradation import GOOD_PIXEL_NOISE_KELVIN
from keras_lstsr.products import HDF_PRODUCTS, mod09gq, mod11a1
from keras_lstsr.products.hdfeos import FieldDefinition
from keras_lstsr.products.mod09gq import plain_field
from keras_lstsr.simulate import climate, observation
from keras_lstsr.simulate.clouds import make_clouds
from keras_lstsr.simulate.fields import RandomStreams
from keras_lstsr.simulate.hdf4 import write_grid_file
from keras_lstsr.simulate.landcover import Ground, make_ground
from keras_lstsr.simulate.metadata import (
    Granule,
    archive_metadata,
    core_metadata,
    struct_metadata,
)
from keras_lstsr.simulate.place import TILE_PIXELS, TileGrid, scene_place_and_date
from keras_lstsr.simulate.surface import make_surface

DEFAULT_NOISE_KELVIN = GOOD_PIXEL_NOISE_KELVIN

SMALLEST_SIZE_PIXELS = 16

_SOFTWARE = f"keras-lstsr {__version__} simulate"


# Fields of MOD09GQ that nothing here reads, but that NASA's files have.
_OBSERVATION = "observation number in coarser grid - first layer"
_POINTERS = (
    plain_field("iobs_res_1", "uint8", _OBSERVATION, "none", (0, 254), 255),
    plain_field("orbit_pnt_1", "int8", "Orbit pointer - first layer", "none", (0, 15), -1),
    plain_field("granule_pnt_1", "uint8", "Granule Pointer - first layer", "none", (0, 254), 255),
)


@dataclass(frozen=True)
class _Product:
    """What a simulated granule has of its product: names as in ``Granule``, and fields."""

    names: tuple[str, str, str, str]
    grid_name: str
    fields: tuple[FieldDefinition, ...]


_MOD11A1 = _Product(
    (
        "MOD11A1",
        "MODIS/Terra Land Surface Temperature/Emissivity Daily L3 Global 1km SIN Grid",
        "MOD 1KM L3 LST",
        "MOD_PR11A",
    ),
    HDF_PRODUCTS["MOD11A1"].grid_name,
    mod11a1.FIELDS,
)
_MOD09GQ = _Product(
    (
        "MOD09GQ",
        "MODIS/Terra Surface Reflectance Daily L2G Global 250m SIN Grid",
        "MOD09G",
        "MOD_PR09G",
    ),
    HDF_PRODUCTS["MOD09GQ"].grid_name,
    (*mod09gq.FIELDS, *_POINTERS),
)


@dataclass(frozen=True)
class SimulatedScene:
    """The files of one scene.

    Attributes:
        tile: MODIS tile, e.g. ``"h18v04"``.
        date: Day of the observation.
        size_pixels: 1 km pixels along a side.
        mod11a1: The LST granule.
        mod09gq: The reflectance granule.
        truth_day: True LST at the morning overpass, 250 m.
        truth_night: True LST at the evening overpass, 250 m.
    """

    tile: str
    date: dt.date
    size_pixels: int
    mod11a1: Path
    mod09gq: Path
    truth_day: Path
    truth_night: Path


def simulate_scenes(
    output: str | PathLike[str],
    *,
    scenes: int,
    seed: int,
    size_pixels: int = TILE_PIXELS,
    noise_kelvin: float = DEFAULT_NOISE_KELVIN,
    cloud_fraction: float | None = None,
    progress: Callable[[SimulatedScene], None] | None = None,
) -> list[SimulatedScene]:
    """Writes physically plausible MODIS granules and the true 250 m LST behind them.

    Scenes go round eight land tiles on days of the growing season. A tile's ground depends on
    seed, tile and size; NDVI, LST and clouds on the date too. Per scene there are
    ``MOD11A1.*.hdf``, ``MOD09GQ.*.hdf``, ``truth/LST_TRUTH.*.day.tif`` and
    ``truth/LST_TRUTH.*.night.tif`` (0.02 K, 0 = none). The truth is known wherever there is
    land, rivers or lakes, under clouds too, and is none at sea. The 1 km LST is the norm-L4
    aggregate of the truth, plus noise, plus what thin clouds do; a 1 km pixel with any sea in it
    isn't produced.

    The same arguments give the same bytes with the same versions of the libraries on the same
    kind of machine.

    Args:
        output: Folder to write into; it is made if need be, files of the same name are replaced.
        scenes: Number of scenes.
        seed: Non-negative number; another seed is another ground.
        size_pixels: 1 km pixels along a side, from the tile's upper left corner; 1200 is the
            whole tile.
        noise_kelvin: Standard deviation of the noise of a good 1 km LST pixel.
        cloud_fraction: Share of each overpass under cloud; None draws it per overpass between
            0.05 and 0.45.
        progress: Called with each scene once its files are written.

    Returns:
        The scenes in their order.

    Raises:
        ConfigError: If an argument is out of range, or ``output`` is a file or can't be made.
    """
    cloud, sizes = cloud_fraction or 0.0, range(SMALLEST_SIZE_PIXELS, TILE_PIXELS + 1)
    ConfigError.unless(scenes >= 1, "scenes", scenes, "at least 1")
    ConfigError.unless(seed >= 0, "seed", seed, "0 or more")
    expected = f"{SMALLEST_SIZE_PIXELS} to {TILE_PIXELS} pixels of 1 km"
    ConfigError.unless(size_pixels in sizes, "size_pixels", size_pixels, expected)
    ConfigError.unless(0 <= noise_kelvin <= 10, "noise_kelvin", noise_kelvin, "0 to 10 K")
    ConfigError.unless(0 <= cloud <= 1, "cloud_fraction", cloud_fraction, "0 to 1")
    folder = Path(output)
    if folder.exists() and not folder.is_dir():
        raise ConfigError(
            "the output is a file", path=folder, expected="a folder", action="Name another one."
        )
    try:
        (folder / "truth").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            "the folder cannot be made",
            path=folder,
            found=error.strerror,
            action="Name a folder that may be written to.",
        ) from error
    places = [scene_place_and_date(index) for index in range(scenes)]
    written: dict[int, SimulatedScene] = {}
    # Tile by tile: the ground is the most expensive part, and only one is kept in memory.
    for tile in dict.fromkeys((h, v) for h, v, _ in places):
        grid = TileGrid(*tile, size_pixels)
        ground = make_ground(RandomStreams((seed, *tile)), size_pixels)
        for index, (h, v, date) in enumerate(places):
            if (h, v) == tile:
                streams = RandomStreams((seed, h, v, date.toordinal()))
                scene = _simulate(folder, ground, grid, date, streams, noise_kelvin, cloud_fraction)
                written[index] = scene
                if progress is not None:
                    progress(scene)
    return [written[index] for index in range(scenes)]


def _simulate(
    folder: Path,
    ground: Ground,
    grid: TileGrid,
    date: dt.date,
    streams: RandomStreams,
    noise_kelvin: float,
    cloud_fraction: float | None,
) -> SimulatedScene:
    surface = make_surface(ground, grid, date, streams)
    truth = {
        "day": observation.quantise_lst(surface.lst_day_kelvin),
        "night": observation.quantise_lst(surface.lst_night_kelvin),
    }
    names = {half: f"LST_TRUTH.{date:A%Y%j}.{grid.tile}.{half}.tif" for half in ("day", "night")}
    for half, stored in truth.items():
        _write_truth(folder / "truth" / names[half], stored, grid, date, half)
    # The truth is on disk; what is still needed of the surface is NDVI and brightness.
    empty = np.empty((0, 0), dtype=np.float32)
    surface = replace(surface, lst_day_kelvin=empty, lst_night_kelvin=empty)
    overpasses = []
    for half in ("day", "night"):
        clouds = make_clouds(streams, half, grid.pixels, cloud_fraction)
        generator = streams.generator(f"{half} orbit")
        view = climate.satellite_view(generator, grid, night=half == "night")
        overpasses.append(observation.Overpass(half.capitalize(), truth[half], clouds, view))
    day, night = overpasses
    lst = observation.observe_mod11a1(ground, surface, (day, night), streams, noise_kelvin)
    # Like NASA's, the shares of the quality classes count day and night together.
    both = np.concatenate([lst["QC_Day"], lst["QC_Night"]])
    coarse = _write_granule(folder, _MOD11A1, lst, both, grid, date)
    del lst
    bands = observation.observe_mod09gq(ground, surface, day.clouds, day.view, streams)
    fine = _write_granule(folder, _MOD09GQ, bands, bands["QC_250m_1"], grid, date)
    truths = (folder / "truth" / names[half] for half in ("day", "night"))
    return SimulatedScene(grid.tile, date, grid.pixels, coarse, fine, *truths)


def _write_granule(
    folder: Path,
    product: _Product,
    layers: observation.Layers,
    qc: NDArray[Any],
    grid: TileGrid,
    date: dt.date,
) -> Path:
    shares = np.bincount((qc & 3).ravel(), minlength=4) / qc.size
    granule = Granule(*product.names, grid, date, shares.tolist(), _SOFTWARE)
    height, width = layers[product.fields[0].name].shape
    structure = struct_metadata(product.grid_name, height, width, grid, product.fields)
    texts = {
        "HDFEOSVersion": "HDFEOS_V2.19",
        "StructMetadata.0": structure,
        "CoreMetadata.0": core_metadata(granule),
        "ArchiveMetadata.0": archive_metadata(granule),
        "identifier_product_doi": f"10.5067/MODIS/{granule.product}.061",
        "identifier_product_doi_authority": "http://dx.doi.org",
    }
    attributes = [(name, "char", text) for name, text in texts.items()]
    path = folder / granule.file_name
    with written_whole(path) as temporary:
        write_grid_file(
            temporary,
            product.grid_name,
            product.fields,
            layers,
            attributes,
            internal_name=granule.file_name,
        )
    return path


def _write_truth(
    path: Path, stored: NDArray[np.uint16], grid: TileGrid, date: dt.date, half: str
) -> None:
    with (
        written_whole(path) as temporary,
        rasterio.open(
            temporary,
            "w",
            driver="GTiff",
            width=stored.shape[1],
            height=stored.shape[0],
            count=1,
            dtype="uint16",
            crs=grid.fine.crs_wkt,
            transform=grid.fine.transform,
            nodata=0,
            tiled=True,
            blockxsize=256,
            blockysize=256,
            compress="deflate",
            predictor=2,
            zlevel=3,
            num_threads=1,
        ) as file,
    ):
        file.scales, file.offsets, file.units = (observation.LST_SCALE_KELVIN,), (0.0,), ("K",)
        file.set_band_description(1, "Simulated ASTER-like land surface temperature")
        file.update_tags(
            ACQUISITION_DATE=date.isoformat(),
            DAY_NIGHT=half,
            TILE=grid.tile,
            PLATFORM="simulated",
            SOFTWARE=_SOFTWARE,
        )
        file.write(stored, 1)
