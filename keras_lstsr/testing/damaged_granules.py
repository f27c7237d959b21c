"""MODIS granules, small and whole, and what damages and forgers do to them."""

from __future__ import annotations

import datetime as dt
import struct
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import numpy as np
import xarray as xr

from keras_lstsr.products import mod09gq, mod11a1, open_product
from keras_lstsr.simulate.hdf4 import write_grid_file
from keras_lstsr.simulate.metadata import Granule, core_metadata, struct_metadata
from keras_lstsr.simulate.place import TileGrid
from keras_lstsr.testing.robustness import Round, Trial

_GRID_NAMES = {"MOD11A1": "MODIS_Grid_Daily_1km_LST", "MOD09GQ": "MODIS_Grid_2D"}
_FIELDS = {"MOD11A1": mod11a1.FIELDS, "MOD09GQ": mod09gq.FIELDS}

Mutation = Callable[[bytes, np.random.Generator], bytes]


def write_granule(
    folder: Path, product: str = "MOD11A1", *, seed: int = 0, size: int = 64, day: int = 227
) -> Path:
    """Writes a granule of a square of tile h18v04, with random values.

    Args:
        folder: Where to.
        product: ``MOD11A1`` or ``MOD09GQ``.
        seed: Of the values.
        size: 1 km pixels along the side.
        day: Day of the year 2021.

    Returns:
        The file, named as in the archive.
    """
    rng = np.random.default_rng(seed)
    side = size if product == "MOD11A1" else 4 * size
    layers = {}
    for entry in _FIELDS[product]:
        low, high = entry.get("valid_range")
        if entry.name.startswith("LST"):
            low, high = 14000, 16000
        values = rng.integers(low, high, (side, side), endpoint=True)
        if entry.name.startswith("QC"):
            values = np.where(rng.random((side, side)) < 0.1, 2, 0)
        layers[entry.name] = values.astype(entry.dtype)
    grid = TileGrid(18, 4, size)
    date = dt.date(2021, 1, 1) + dt.timedelta(days=day - 1)
    granule = Granule(product, "", "LST", "PGE", grid, date, (0.9, 0.0, 0.1, 0.0), "testing")
    texts = {
        "StructMetadata.0": struct_metadata(
            _GRID_NAMES[product], side, side, grid, _FIELDS[product]
        ),
        "CoreMetadata.0": core_metadata(granule),
    }
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / granule.file_name
    attributes = [(name, "char", text) for name, text in texts.items()]
    name = granule.file_name
    write_grid_file(
        path, _GRID_NAMES[product], _FIELDS[product], layers, attributes, internal_name=name
    )
    return path


def descriptors(content: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """Yields position, tag, reference, offset and length of each data element of an HDF4 file."""
    block = 4
    while block:
        count, following = struct.unpack_from(">hi", content, block)
        for entry in range(count):
            at = block + 6 + 12 * entry
            yield (at, *struct.unpack_from(">HHii", content, at))
        block = following


def _elements(content: bytes, *tags: int) -> list[tuple[int, int, int, int, int]]:
    return [each for each in descriptors(content) if each[1] in tags and each[4] > 0]


def _flipped(content: bytes, at: int, bit: int) -> bytes:
    return content[:at] + bytes([content[at] ^ (1 << bit)]) + content[at + 1 :]


def _replaced(content: bytes, old: bytes, new: bytes) -> bytes:
    """Replaces a text by another, both padded to the longer one's place with blanks."""
    at = content.find(old)
    if at < 0 or len(new) > len(old):
        return content
    return content[:at] + new.ljust(len(old)) + content[at + len(old) :]


def bit_flip(content: bytes, rng: np.random.Generator) -> bytes:
    """Flips one to eight bits anywhere."""
    for _ in range(rng.integers(1, 9)):
        content = _flipped(content, int(rng.integers(4, len(content))), int(rng.integers(8)))
    return content


def flip_in_stream(content: bytes, rng: np.random.Generator) -> bytes:
    """Flips one bit of a deflated field."""
    _, _, _, offset, length = _elements(content, 40)[rng.integers(len(_elements(content, 40)))]
    return _flipped(content, offset + int(rng.integers(length)), int(rng.integers(8)))


def flip_in_structure(content: bytes, rng: np.random.Generator) -> bytes:
    """Flips one bit of what describes fields: number types, dimensions, groups, compression."""
    found = _elements(content, 106, 701, 720, 17086)
    _, _, _, offset, length = found[rng.integers(len(found))]
    return _flipped(content, offset + int(rng.integers(length)), int(rng.integers(8)))


def descriptor_of_length_0(content: bytes, rng: np.random.Generator) -> bytes:
    """Gives a descriptor, half the time that of a number type, the length 0."""
    found = _elements(content, 106) if rng.random() < 0.5 else list(descriptors(content))
    at = found[rng.integers(len(found))][0]
    return content[: at + 8] + b"\0\0\0\0" + content[at + 12 :]


def random_descriptor(content: bytes, rng: np.random.Generator) -> bytes:
    """Writes random bytes over part of a descriptor."""
    found = list(descriptors(content))
    at = found[rng.integers(len(found))][0] + int(rng.integers(12))
    return content[:at] + rng.bytes(2) + content[at + 2 :]


def truncated(content: bytes, rng: np.random.Generator) -> bytes:
    """Cuts the file off."""
    return content[: rng.integers(1, len(content))]


def block_lost(content: bytes, rng: np.random.Generator) -> bytes:
    """Writes zeros over a block of a disk."""
    at, size = int(rng.integers(0, len(content))), int(rng.choice([64, 512, 4096]))
    return (content[:at] + bytes(size) + content[at + size :])[: len(content)]


def other_packing(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes a scale factor, a fill value or a valid range that the file states."""
    old, new = [
        (struct.pack(">d", 0.02), struct.pack(">d", 0.2)),
        (struct.pack(">d", 0.02), struct.pack(">d", float("nan"))),
        (struct.pack(">d", 10000.0), struct.pack(">d", 1000.0)),
        (struct.pack(">HH", 7500, 65535), struct.pack(">HH", 0, 65535)),
        (struct.pack(">hh", -100, 16000), struct.pack(">hh", -30000, 16000)),
    ][rng.integers(5)]
    return content.replace(old, new, 1)


def other_place(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes corners or dimensions."""
    old, new = [
        (b"LowerRightMtrs=(", b"LowerRightMtrs=(9"),
        (b"UpperLeftPointMtrs=(0.000000,", b"UpperLeftPointMtrs=(nan,"),
        (b"UpperLeftPointMtrs=(0.000000,", b"UpperLeftPointMtrs=(inf,"),
        (b"UpperLeftPointMtrs=(0.000000,", b"UpperLeftPointMtrs=(1111950,"),
        (b"UpperLeftPointMtrs=(0.000000,5559752", b"UpperLeftPointMtrs=(0.000000,5559152"),
        (b"XDim=64", b"XDim=32"),
        (b"GCTP_SNSOID", b"GCTP_GEO"),
        (b"6371007.181000", b"6378137.000000"),
    ][rng.integers(8)]
    at = content.find(old)
    if at < 0:
        return content.replace(b"HDFE_GD_UL", b"HDFE_GD_LR", 1)
    if len(new) > len(old):
        return content[:at] + new + content[at + len(old) + 1 :]
    return _replaced(content, old, new)


def other_metadata(content: bytes, rng: np.random.Generator) -> bytes:
    """Changes date, tile or product in the core metadata, or their nesting."""
    old, new = [
        (b'"2021-08-15"', b'"2021-02-31"'),
        (b'"2021-08-15"', b'"2012-08-15"'),
        (b'"2021-08-15"', b'"yesterday"'),
        (b'= "18"', b'= "17"'),
        (b'= "18"', b'= "xx"'),
        (b'"MOD11A1"', b'"MYD11A1"'),
        (b'"MOD09GQ"', b'"MOD11A1"'),
        (b"GROUP", b"GR=UP"),
    ][rng.integers(8)]
    if old == b'"2021-08-15"':
        at = content.find(b"RANGEBEGINNINGDATE")
        return content[:at] + _replaced(content[at:], old, new)
    return _replaced(content, old, new)


def nested_metadata(content: bytes, rng: np.random.Generator) -> bytes:
    """Fills the metadata with groups within groups, or with brackets that stay open."""
    at = content.find(b"GROUP=SwathStructure")
    text = [b"GROUP=A\n", b"A=(\n(", b"OBJECT=\n"][rng.integers(3)]
    filled = (text * 4000)[:31000]
    return content[:at] + filled + content[at + len(filled) :]


def other_file(content: bytes, rng: np.random.Generator) -> bytes:
    """Puts something else under a granule's name."""
    return [b"", b"\x0e\x03\x13\x01", b"<!DOCTYPE html>", rng.bytes(4096), b"\x89HDF\r\n\x1a\n"][
        rng.integers(5)
    ]


MUTATIONS: tuple[Mutation, ...] = (
    bit_flip,
    flip_in_stream,
    flip_in_structure,
    descriptor_of_length_0,
    random_descriptor,
    truncated,
    block_lost,
    other_packing,
    other_place,
    other_metadata,
    nested_metadata,
    other_file,
)


def reads_as(path: Path, whole: Path) -> bool:
    """Returns whether a damaged granule reads as the whole one of the same name.

    Values, reasons, place, product, date and tile count; what a file calls itself does not.
    """
    found, expected = open_product(path), open_product(whole)
    names = ("product", "acquisition_date", "tile")
    same = all(found.attrs[name] == expected.attrs[name] for name in names)
    return same and _equal(found, expected)


def _equal(found: xr.Dataset, expected: xr.Dataset) -> bool:
    return set(found) == set(expected) and all(
        np.array_equal(found[name].values, expected[name].values, equal_nan=True)
        for name in (*expected.data_vars, "x", "y")
        if expected[name].dtype.kind in "fiu"
    )


def trials(settings: Round) -> Iterator[Trial]:
    """Mutates granules, simulated and real; what is read has to be what the whole one gives."""
    whole = [
        write_granule(settings.folder / "whole", product, seed=settings.seed)
        for product in ("MOD11A1", "MOD09GQ")
    ]
    if settings.real_data is not None:
        whole += sorted((settings.real_data / "modis").glob("MOD11A1*.hdf"))
    for path in whole:
        yield Trial("whole", path.name, partial(reads_as, path, path))
    for number in range(settings.count):
        mutation = MUTATIONS[number % len(MUTATIONS)]
        rng = np.random.default_rng((settings.seed, number))
        source = whole[(number // len(MUTATIONS)) % len(whole)]
        damaged = settings.folder / f"{number}" / source.name
        damaged.parent.mkdir()
        damaged.write_bytes(mutation(source.read_bytes(), rng))
        kind = mutation.__name__.replace("_", " ")
        name = f"{kind} {number} of {source.name}"
        yield Trial(kind, name, partial(reads_as, damaged, source), named=source.name)
