"""Files that somebody else has written: which are opened, by what, and what their faults become.

A raster is opened by the driver that its first bytes name, and by no other: GDAL has formats that
are lists of other files and of addresses, whatever their names are.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import rasterio
from rasterio.errors import RasterioError

from keras_lstsr.errors import ConfigError, LstsrError, MissingExtraError, ProductError, printable

MAX_PIXELS = 1 << 28
"""No raster has more pixels: 16,384 × 16,384, or 1 GiB as float32."""

MAX_STORED_BYTES = 4 << 30
"""Of the bands that have to be read together."""

# No list of the folder, so no overviews, masks, world files or metadata beside; no .aux.xml.
_ALONE = {
    "GDAL_DISABLE_READDIR_ON_OPEN": "EMPTY_DIR",
    "GDAL_PAM_ENABLED": "NO",
    "GTIFF_GEOREF_SOURCES": "INTERNAL",
    "GDAL_HTTP_MAX_RETRY": "0",
    "CPL_CURL_ENABLE_VSIMEM": "NO",
}
_DRIVERS = {
    b"II*\0": "GTiff",
    b"MM\0*": "GTiff",
    b"II+\0": "GTiff",
    b"MM\0+": "GTiff",
    b"CDF\x01": "netCDF",
    b"CDF\x02": "netCDF",
    b"CDF\x05": "netCDF",
    b"\x89HDF": "netCDF",
}
_HDF5 = b"\x89HDF"
_MOST_HDF5_OBJECTS = 10_000
_EXPECTED = "MOD11A1, MYD11A1, MOD09GQ or MYD09GQ as HDF4-EOS, or a single-band GeoTIFF or NetCDF"
_ADDRESS = re.compile(r"\A(?:[A-Za-z][A-Za-z0-9+.-]+:/|/vsi)")


def check_is_file(path: Path) -> None:
    """Checks that a path is that of a regular file, so that opening it does not wait for ever.

    Raises:
        ProductError: If nothing is there, or a folder, a pipe or a device is.
    """
    if printable(path) != str(path):
        raise ProductError(
            "the file's name is not UTF-8 text", path=path, action="Give the file another name."
        )
    if _ADDRESS.match(str(path)) and not path.exists():
        raise ProductError(
            "remote addresses are not read",
            path=path,
            expected="a file on this machine",
            action="Download the file, and give its path.",
        )
    if not path.exists():
        raise ProductError("there is no such file", path=path, action="Check the path.")
    if not path.is_file():
        found = "a folder" if path.is_dir() else "a pipe, a socket or a device"
        raise ProductError(
            "this is not a file", path=path, found=found, expected="one regular file"
        )


@contextmanager
def reading(path: str | PathLike[str]) -> Iterator[None]:
    """Turns whatever the reading of a file raises into an error that names the file.

    Wrong options stay what they are. The cause stays in the chain.

    Raises:
        ProductError: Instead of any other exception, an interrupt excepted.
    """
    try:
        yield
    except (ConfigError, MissingExtraError):
        raise
    except ProductError as error:
        if error.path is None:
            raise error.restated(path) from error
        raise
    except LstsrError as error:
        raise error.restated(error.path or path, kind=ProductError) from error
    except OSError as error:
        raise ProductError(
            "the file cannot be read",
            path=path,
            found=error.strerror or str(error) or type(error).__name__,
            action="Check the path and the permissions.",
        ) from error
    except Exception as error:
        raise ProductError(
            "the file cannot be read",
            path=path,
            found=f"{type(error).__name__}: {error}",
            expected="an undamaged file of a supported product",
            action="Download the file again, or convert it (gdal_translate IN OUT.tif).",
        ) from error


def check_size(path: Path, height: int, width: int, bytes_per_pixel: int) -> None:
    """Checks that a raster's pixels fit into memory, before they are read.

    Raises:
        ProductError: If it claims more pixels than :data:`MAX_PIXELS`, or more bytes than
            :data:`MAX_STORED_BYTES`.
    """
    pixels = height * width
    if pixels > MAX_PIXELS or pixels * bytes_per_pixel > MAX_STORED_BYTES:
        raise ProductError(
            "the raster is too large",
            path=path,
            found=f"{height} × {width} pixels of {bytes_per_pixel} bytes",
            expected=f"at most {MAX_PIXELS} pixels and {MAX_STORED_BYTES >> 30} GiB",
            action="Cut it into parts (gdal_translate -srcwin or -projwin).",
        )


@contextmanager
def open_raster_file(path: str | PathLike[str]) -> Iterator[Any]:
    """Opens a GeoTIFF or NetCDF file, that file alone, and lends rasterio's dataset.

    Files beside it (``.aux.xml``, ``.ovr``, ``.msk``, ``.tfw``) are not read, and no address is
    asked.

    Raises:
        ProductError: If it is no such file, or larger than a raster may be.
    """
    path = Path(path)
    check_is_file(path)
    with path.open("rb") as file:
        start = file.read(16)
    driver = _DRIVERS.get(start[:4])
    if driver is None:
        raise _not_a_raster(path, start)
    # An absolute path has no prefix that GDAL would take for a format or an address.
    absolute = os.path.abspath(path)  # noqa: PTH100  (a link's own name stays)
    if absolute.startswith("/vsi"):
        raise _not_a_raster(path, start)
    if start.startswith(_HDF5):
        _check_holds_its_data(path)
    try:
        with rasterio.Env(**_ALONE), rasterio.open(absolute, driver=driver) as source:
            if source.count:
                check_size(path, source.height, source.width, _bytes_read_together(source))
            yield source
    except RasterioError as error:
        raise ProductError(
            "this file cannot be read as a raster",
            path=path,
            found=str(error),
            expected=_EXPECTED,
            action="Check that the file is complete.",
        ) from error


def _check_holds_its_data(path: Path) -> None:
    """Checks that an HDF5 file, as NetCDF-4 is, takes no pixels from other files.

    Raises:
        ProductError: If it has external links, external storage or virtual data sets.
    """
    import h5py

    with h5py.File(path, "r") as file:
        groups, left = [file["/"]], _MOST_HDF5_OBJECTS
        seen = set()
        while groups:
            group = groups.pop()
            for name in group:
                left -= 1
                link = group.get(name, getlink=True)
                elsewhere = isinstance(link, h5py.ExternalLink) or left < 0
                found = group[name] if isinstance(link, h5py.HardLink) else None
                if isinstance(found, h5py.Dataset):
                    elsewhere |= bool(found.external) or found.is_virtual
                elif isinstance(found, h5py.Group) and found.id not in seen:
                    seen.add(found.id)
                    groups.append(found)
                if elsewhere:
                    raise ProductError(
                        "the file takes its data from another file",
                        path=path,
                        field=str(name),
                        action="Write what it shows into one file (nccopy, or gdal_translate).",
                    )


def _bytes_read_together(source: Any) -> int:
    """Bytes per pixel of what one band's reading decodes."""
    sizes = [8 if name.startswith("complex") else _item_bytes(name) for name in source.dtypes]
    interleaved = source.interleaving is not None and source.interleaving.name == "pixel"
    return sum(sizes) if interleaved else max(sizes)


def _item_bytes(dtype: str) -> int:
    digits = re.search(r"\d+\Z", dtype)
    return int(digits[0]) // 8 if digits else 8


def _not_a_raster(path: Path, start: bytes) -> ProductError:
    text = start.lstrip().lower()
    action = "Convert it to GeoTIFF: gdal_translate IN OUT.tif."
    if path.suffix.lower() == ".vrt" or text.startswith((b"<vrtdataset", b"<gdal_w")):
        found = "a list of other files or addresses (VRT or WMS)"
        action = "Write what it shows into a GeoTIFF: gdal_translate IN.vrt OUT.tif."
    elif text.startswith((b"<", b"{")):
        found = "HTML, XML or JSON text, perhaps the archive's error or login page"
        action = "Download the file again."
    else:
        found = f"a file that begins with {start[:8]!r}" if start else "an empty file"
    return ProductError(
        "this file cannot be read as a raster",
        path=path,
        found=found,
        expected=_EXPECTED,
        action=action,
    )
