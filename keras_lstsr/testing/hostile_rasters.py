"""GeoTIFFs and what passes for one: lists of addresses, pipes, claims of enormous size."""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import rasterio
from affine import Affine

from keras_lstsr.grids.grid import Grid
from keras_lstsr.products import open_product
from keras_lstsr.testing.rasters import UTM, write_geotiff
from keras_lstsr.testing.robustness import Round, Trial

_SIZE = 64


def write_lst(path: Path, seed: int) -> Path:
    """Writes a GeoTIFF of LST, uint16 × 0.02 K, deflated."""
    values = np.random.default_rng(seed).integers(14000, 16000, (_SIZE, _SIZE)).astype(np.uint16)
    grid = Grid(UTM, Affine(1000, 0, 5e5, 0, -1000, 5e6), values.shape)
    return write_geotiff(path, values, grid, scale=0.02, nodata=0, compress="deflate")


def as_vrt(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """A VRT of another file or of an address, under the name of a GeoTIFF."""
    source = [str(whole), "/vsicurl/http://127.0.0.1:9/lst.tif"][rng.integers(2)]
    path.write_text(
        f'<VRTDataset rasterXSize="{_SIZE}" rasterYSize="{_SIZE}"><SRS>EPSG:32633</SRS>'
        "<GeoTransform>500000, 1000, 0, 5000000, 0, -1000</GeoTransform>"
        '<VRTRasterBand dataType="UInt16" band="1"><SimpleSource>'
        f'<SourceFilename relativeToVRT="0">{source}</SourceFilename>'
        "<SourceBand>1</SourceBand></SimpleSource></VRTRasterBand></VRTDataset>"
    )


def as_wms(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """A GDAL_WMS text under the name of a GeoTIFF."""
    path.write_text(
        '<GDAL_WMS><Service name="TMS"><ServerUrl>http://127.0.0.1:9/${z}/${x}/${y}.png'
        "</ServerUrl></Service><DataWindow><UpperLeftX>0</UpperLeftX><UpperLeftY>1</UpperLeftY>"
        "<LowerRightX>1</LowerRightX><LowerRightY>0</LowerRightY><TileLevel>1</TileLevel>"
        "</DataWindow></GDAL_WMS>"
    )


def as_pipe(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """A pipe into which nobody writes."""
    os.mkfifo(path)


def as_folder(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """A folder of that name."""
    path.mkdir()


def sparse(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """A file of a few bytes that claims 20,000 × 20,000 pixels or more."""
    side = int(rng.choice([20_000, 60_000, 200_000]))
    profile = {"dtype": "float32", "count": 1, "height": side, "width": side, "tiled": True}
    with rasterio.open(
        path,
        "w",
        driver="GTiff",
        crs="EPSG:32633",
        transform=Affine(1, 0, 5e5, 0, -1, 5e6),
        SPARSE_OK="TRUE",
        BIGTIFF="YES",
        blockxsize=4096,
        blockysize=4096,
        **profile,
    ):
        pass


def enormous_header(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """A whole file whose header claims up to 2³¹ columns."""
    content = bytearray(whole.read_bytes())
    (first,) = struct.unpack_from("<I", content, 4)
    (entries,) = struct.unpack_from("<H", content, first)
    side = int(rng.choice([256, 257]))
    for number in range(entries):
        at = first + 2 + 12 * number
        tag, _, count = struct.unpack_from("<HHI", content, at)
        if tag == side and count == 1:
            # As a LONG, whatever it was.
            struct.pack_into("<HII", content, at + 2, 4, 1, int(rng.integers(2**28, 2**31)))
    path.write_bytes(content)


def truncated(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """The file cut off."""
    content = whole.read_bytes()
    path.write_bytes(content[: rng.integers(len(content) - 1)])


def with_files_beside(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """The whole file, with files beside that say otherwise."""
    path.write_bytes(whole.read_bytes())
    Path(f"{path}.aux.xml").write_text(
        "<PAMDataset><GeoTransform>0, 1, 0, 0, 0, -1</GeoTransform><PAMRasterBand band='1'>"
        "<Scale>0.01</Scale><NoDataValue>15000</NoDataValue></PAMRasterBand></PAMDataset>"
    )
    path.with_suffix(".tfw").write_text("1\n0\n0\n-1\n0\n0\n")
    Path(f"{path}.ovr").write_bytes(rng.bytes(100))
    as_vrt(whole, Path(f"{path}.msk"), rng)


def unreadable_text(whole: Path, path: Path, rng: np.random.Generator) -> None:
    """Something that is no raster."""
    path.write_bytes([b"", b"II*\0", b"<html>", b"{}", rng.bytes(1000)][rng.integers(5)])


Hostility = Callable[[Path, Path, np.random.Generator], None]
HOSTILITIES: tuple[Hostility, ...] = (
    as_vrt,
    as_wms,
    as_pipe,
    as_folder,
    sparse,
    enormous_header,
    truncated,
    with_files_beside,
    unreadable_text,
)


def reads_as(path: Path, whole: Path) -> bool:
    """Returns whether a file reads as the whole one."""
    found, expected = open_product(path), open_product(whole)
    return all(
        np.array_equal(found[name].values, expected[name].values, equal_nan=True)
        for name in ("lst_kelvin", "lst_kelvin_rejection", "x", "y")
    )


def trials(settings: Round) -> Iterator[Trial]:
    """Puts hostile files in a GeoTIFF's place; only what is the whole one's may be read."""
    name = "LST_2021_08_15_day.tif"
    whole = write_lst(settings.folder / name, settings.seed)
    yield Trial("whole", name, partial(reads_as, whole, whole))
    for number in range(settings.count):
        make = HOSTILITIES[number % len(HOSTILITIES)]
        path = settings.folder / f"{number}" / name
        path.parent.mkdir()
        make(whole, path, np.random.default_rng((settings.seed, number)))
        kind = make.__name__.replace("_", " ")
        yield Trial(kind, f"{kind} {number}", partial(reads_as, path, whole), named=str(path))
