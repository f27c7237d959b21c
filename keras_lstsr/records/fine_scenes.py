"""Scenes of finer LST than 250 m, without a guide: the truth degraded to 1 km.

They show how fine LST looks like at 1 km, by day and by night, and teach the single-image mode.
Nothing of what two instruments differ by is in them, so errors on them are too small to learn an
uncertainty from.
"""

from __future__ import annotations

from dataclasses import dataclass
from os import PathLike
from pathlib import Path

import numpy as np
import xarray as xr
from rasterio.warp import calculate_default_transform

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.degradation import GOOD_PIXEL_NOISE_KELVIN, PointSpread, degrade
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.raster_file import open_raster_file, reading
from keras_lstsr.grids.warp import warp_area
from keras_lstsr.products import open_product
from keras_lstsr.products.granule import sensor_of
from keras_lstsr.records.scene_sample import SceneSample
from keras_lstsr.records.schema import SCALE_FACTOR

PIXEL_SIZE_M = 250.0

# Part of a scene's name, the same of its cloud mask's, and the mask's bits that must not be set:
# ECOSTRESS from AppEEARS and as tiles; Landsat's fill, dilated cloud, cirrus, cloud and shadow.
_CLOUD_MASKS = (
    ("_LST_", "_cloud_mask_", -1),
    ("_LST.", "_cloud.", -1),
    ("_ST_B10.", "_QA_PIXEL.", 0b11111),
    ("_ST_B6.", "_QA_PIXEL.", 0b11111),
)
_MASK_NAMES = ("_mask_", "_cloud.", "_QA_PIXEL.")


@dataclass(frozen=True)
class FineSceneFile:
    """A GeoTIFF of fine LST, as a source.

    Attributes:
        path: The file. If its cloud mask lies beside it, all but 0 is left out.
        factor: Fine pixels along a coarse pixel's side.
    """

    path: Path
    factor: int = SCALE_FACTOR

    @property
    def name(self) -> str:
        """The file's name without its ending."""
        return self.path.stem

    @property
    def group(self) -> str:
        """The folder's name."""
        return self.path.parent.name

    @property
    def partners(self) -> dict[str, Path]:
        """It has no guides."""
        return {}

    @property
    def guide_names(self) -> list[str]:
        """It has none."""
        return []

    @property
    def paths(self) -> list[Path]:
        """The file, and its cloud mask where there is one."""
        mask = cloud_mask_of(self.path)
        return [self.path] if mask is None else [self.path, mask]

    def load(self) -> SceneSample:
        """Makes coarse LST of the scene.

        The scene is averaged by area onto 250 m pixels of its UTM zone; that is the truth. MODIS's
        point spread function makes coarse LST of it, with the noise of a good MODIS pixel.

        Raises:
            ProductError: If a raster cannot be read, is no LST, or is smaller than a coarse pixel.
            GridError: If it has no CRS, is coarser than 250 m, or does not fit its cloud mask.
        """
        scene = open_product(self.path)
        if "lst_kelvin" not in scene:
            raise ProductError(
                "the raster is not LST", path=self.path, found=", ".join(map(str, scene.data_vars))
            )
        fine = without_clouds(scene["lst_kelvin"], self.path)
        grid = _utm_grid(fine, self.path, self.factor)
        truth = warp_area(fine, grid).astype(np.float32)
        return SceneSample(
            self.name,
            self.group,
            day_night=str(fine.attrs.get("day_night", "unknown")),
            lst=coarse_lst(truth, self.factor, self.path.name),
            truth=truth,
            files={path.name: sha256_of(path) for path in self.paths},
            origin="degraded",
            product=scene.attrs["product"],
            tile=scene.attrs["tile"],
            acquisition_date=scene.attrs["acquisition_date"],
            sensor=sensor_of(scene.attrs),
        )


def coarse_lst(
    truth: xr.DataArray,
    factor: int,
    name: str,
    *,
    noise_kelvin: float = GOOD_PIXEL_NOISE_KELVIN,
    psf: PointSpread | None = None,
) -> xr.DataArray:
    """Makes coarse LST of fine LST on a grid of whole coarse pixels.

    Args:
        truth: Fine LST in kelvin; NaN where missing.
        factor: Fine pixels along a coarse pixel's side.
        name: Decides on the noise, alone: the same whatever else is in the folder.
        noise_kelvin: Standard deviation of the noise.
        psf: What a coarse pixel sees; None is MODIS at nadir.
    """
    coarse = degrade(np.asarray(truth.values), factor, "psf", psf=psf)
    rng = np.random.default_rng(list(name.encode()))
    coarse = coarse + rng.normal(0, noise_kelvin, coarse.shape)
    return Grid.of(truth).coarser(factor).raster(coarse.astype(np.float32), name="lst_kelvin")


def find_fine_scenes(folder: str | PathLike[str]) -> list[FineSceneFile]:
    """Finds the GeoTIFFs of LST in a folder, in the order of their names.

    Cloud masks beside them are not LST; see ``cloud_mask_of``.

    Raises:
        ProductError: If the folder is not there or holds none.
    """
    folder = Path(folder)
    found = [
        path
        for path in sorted(folder.glob("*"))
        if path.suffix.lower() in (".tif", ".tiff") and not is_mask(path)
    ]
    if not found:
        raise ProductError(
            "the folder holds no scene of fine LST",
            path=folder,
            found="no .tif" if folder.is_dir() else "no folder",
            expected="GeoTIFFs of LST finer than 250 m, such as ECOSTRESS's",
        )
    return [FineSceneFile(path) for path in found]


def is_mask(path: Path) -> bool:
    """Tells by its name whether a file lies beside a scene as its mask."""
    return any(part in path.name for part in _MASK_NAMES)


def cloud_mask_of(path: Path) -> Path | None:
    """Returns the cloud mask that lies beside a scene, or None.

    ``…_cloud_mask_….tif`` belongs to ``…_LST_….tif``, as AppEEARS delivers ECOSTRESS,
    ``…_cloud.tif`` to ``…_LST.tif`` and ``…_QA_PIXEL.TIF`` to Landsat's ``…_ST_B10.TIF``.
    """
    return next((mask for mask, _ in _masks_beside(path)), None)


def _masks_beside(path: Path) -> list[tuple[Path, int]]:
    named = [
        (path.with_name(path.name.replace(part, of_mask)), bits)
        for part, of_mask, bits in _CLOUD_MASKS
    ]
    return [(mask, bits) for mask, bits in named if mask != path and mask.is_file()]


def without_clouds(lst: xr.DataArray, path: Path) -> xr.DataArray:
    """Returns LST of a scene's file, NaN where the cloud mask beside it shows clouds.

    Raises:
        ProductError: If the mask cannot be read.
        GridError: If it is of another shape.
    """
    for mask, bits in _masks_beside(path):
        with reading(mask), open_raster_file(mask) as file:
            cloud = file.read(1)
        if cloud.shape != lst.shape:
            raise GridError(
                "the cloud mask does not fit its scene",
                path=mask,
                found=f"shape {cloud.shape}",
                expected=f"shape {lst.shape}",
            )
        lst = lst.where(cloud.astype(np.int64) & bits == 0)
    return lst


def _utm_grid(lst: xr.DataArray, path: Path, factor: int) -> Grid:
    """Returns the grid of 250 m pixels over a scene, cut to whole coarse pixels."""
    source = Grid.of(lst, str(path))
    utm = source.utm
    height, width = source.shape
    native, _, _ = calculate_default_transform(source.crs, utm, width, height, *source.bounds)
    if native.a > PIXEL_SIZE_M:
        raise GridError(
            "the scene is too coarse",
            path=path,
            found=f"pixels of {native.a:.0f} m",
            expected=f"{PIXEL_SIZE_M:.0f} m or finer",
        )
    transform, columns, rows = calculate_default_transform(
        source.crs, utm, width, height, *source.bounds, resolution=PIXEL_SIZE_M
    )
    rows, columns = (side // factor * factor for side in (rows, columns))
    if not rows or not columns:
        raise ProductError(
            "the scene is smaller than a coarse pixel",
            path=path,
            found=f"{rows} × {columns} pixels",
        )
    return Grid(utm, transform, (rows, columns))
