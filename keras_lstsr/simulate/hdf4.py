"""HDF4-EOS grid files, written so that HDF-EOS2 and GDAL read them like NASA's."""

from __future__ import annotations

import struct
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

# pyhdf's V only works once its module is imported: it registers HDF.vgstart.
from pyhdf import V  # noqa: F401
from pyhdf.HDF import HC, HDF
from pyhdf.SD import SD, SDC

from keras_lstsr.errors import ProductError
from keras_lstsr.products.hdfeos import FieldDefinition

# The HDF4 library keeps global state and is not thread-safe.
_HDF4_LOCK = threading.RLock()

HDF4_TYPES: dict[str, int] = {
    "char": SDC.CHAR8,
    "int8": SDC.INT8,
    "uint8": SDC.UINT8,
    "int16": SDC.INT16,
    "uint16": SDC.UINT16,
    "int32": SDC.INT32,
    "uint32": SDC.UINT32,
    "float32": SDC.FLOAT32,
    "float64": SDC.FLOAT64,
}
"""Type names as in :class:`FieldDefinition` to HDF4 type numbers."""

# Level 1 is what NASA uses for MOD11A1; higher levels cost seconds per tile and save little.
_DEFLATE_LEVEL = 1
_VGROUP_TAG = 1965
_FILE_VGROUP_CLASS = b"CDF0.0"


def write_grid_file(
    path: Path,
    grid_name: str,
    definitions: Sequence[FieldDefinition],
    layers: Mapping[str, NDArray[Any]],
    file_attributes: Sequence[tuple[str, str, Any]],
    *,
    internal_name: str,
) -> None:
    """Writes one HDF-EOS grid with its fields.

    The same arguments give the same bytes, whatever the path.

    Args:
        path: File to create.
        grid_name: HDF-EOS grid name.
        definitions: The fields, in the order of the file.
        layers: Field name -> ``[H, W]`` of the field's stored type.
        file_attributes: Global attributes: name, type, value; ``StructMetadata.0`` among them.
        internal_name: File name to record inside the file.

    Raises:
        ProductError: If a layer's type is not the field's.
    """
    for definition in definitions:
        if layers[definition.name].dtype != np.dtype(definition.dtype):
            raise ProductError(
                "a layer is not of its field's type",
                field=definition.name,
                found=layers[definition.name].dtype,
                expected=definition.dtype,
            )
    with _HDF4_LOCK:
        references = _write_datasets(path, grid_name, definitions, layers, file_attributes)
        _replace_internal_name(path, internal_name.encode())
        _write_grid_groups(path, grid_name, references)


def _write_datasets(
    path: Path,
    grid_name: str,
    definitions: Sequence[FieldDefinition],
    layers: Mapping[str, NDArray[Any]],
    file_attributes: Sequence[tuple[str, str, Any]],
) -> list[int]:
    """Writes the scientific datasets and the global attributes; returns HDF4 references."""
    references = []
    file = SD(str(path), SDC.WRITE | SDC.CREATE | SDC.TRUNC)
    try:
        for definition in definitions:
            values = layers[definition.name]
            dataset = file.create(definition.name, HDF4_TYPES[definition.dtype], values.shape)
            for axis, dimension in enumerate(("YDim", "XDim")):
                dataset.dim(axis).setname(f"{dimension}:{grid_name}")
            dataset.setcompress(SDC.COMP_DEFLATE, _DEFLATE_LEVEL)
            for name, kind, value in definition.attributes:
                stored = list(value) if isinstance(value, tuple) else value
                dataset.attr(name).set(HDF4_TYPES[kind], stored)
            dataset[:] = values
            references.append(int(dataset.ref()))
            dataset.endaccess()
        for name, kind, value in file_attributes:
            file.attr(name).set(HDF4_TYPES[kind], value)
    finally:
        file.end()
    return references


def _replace_internal_name(path: Path, name: bytes) -> None:
    """Replaces the path that the HDF4 library records in a new file."""
    # The library names the file's root Vgroup after the path that it was given, so a file would
    # depend on the folder it was written in. That Vgroup is the last element of a new file: it is
    # cut off and written again. Layout: HDF4 specification, data descriptors and Vgroups.
    content = path.read_bytes()
    at, offset, length = _last_element(content)
    vgroup, tail = content[offset : offset + length], content[offset + length :]
    (members,) = struct.unpack_from(">H", vgroup, 0)
    name_at = 2 + 4 * members
    (old_length,) = struct.unpack_from(">H", vgroup, name_at)
    rest = vgroup[name_at + 2 + old_length :]
    # The library ends a file with one zero byte.
    if tail.strip(b"\0") or rest[2 : 2 + len(_FILE_VGROUP_CLASS)] != _FILE_VGROUP_CLASS:
        raise ProductError(
            "the HDF4 library has written a new file in another layout",
            path=path,
            action="Use the pyhdf release range of pyproject.toml.",
        )
    renamed = vgroup[:name_at] + struct.pack(">H", len(name)) + name + rest
    with path.open("r+b") as file:
        file.seek(offset)
        file.write(renamed + tail)
        file.truncate()
        file.seek(at + 8)
        file.write(struct.pack(">i", len(renamed)))


def _last_element(content: bytes) -> tuple[int, int, int]:
    """Finds the Vgroup that lies last in a file: position of its descriptor, offset, length."""
    last = (0, -1, 0)
    block = 4  # behind the magic number
    while block:
        count, next_block = struct.unpack_from(">hi", content, block)
        for entry in range(count):
            at = block + 6 + 12 * entry
            tag, _, offset, length = struct.unpack_from(">HHii", content, at)
            if tag == _VGROUP_TAG and offset > last[1]:
                last = (at, offset, length)
        block = next_block
    return last


def _write_grid_groups(path: Path, grid_name: str, references: Sequence[int]) -> None:
    """Adds the Vgroups by which HDF-EOS2 finds a grid: itself, its fields, its attributes."""
    file = HDF(str(path), HC.WRITE)
    groups = file.vgstart()
    try:
        grid = groups.create(grid_name)
        grid._class = "GRID"
        fields = groups.create("Data Fields")
        fields._class = "GRID Vgroup"
        for reference in references:
            fields.add(HC.DFTAG_NDG, reference)
        attributes = groups.create("Grid Attributes")
        attributes._class = "GRID Vgroup"
        grid.insert(fields)
        grid.insert(attributes)
        for group in (attributes, fields, grid):
            group.detach()
    finally:
        groups.end()
        file.close()
