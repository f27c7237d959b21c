from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

# Importing V registers HDF.vgstart.
from pyhdf import V  # noqa: F401
from pyhdf.error import HDF4Error
from pyhdf.HDF import HDF
from pyhdf.SD import SD

from keras_lstsr.errors import ProductError
from keras_lstsr.products import HDF_PRODUCTS, mod11a1
from keras_lstsr.simulate import SimulatedScene
from keras_lstsr.simulate.hdf4 import write_grid_file
from keras_lstsr.simulate.metadata import struct_metadata
from keras_lstsr.simulate.place import TileGrid

GRID_NAME = HDF_PRODUCTS["MOD11A1"].grid_name
NASA_MOD11A1 = "modis/MOD11A1.A2021227.h11v05.061.2021228105320.hdf"


def _write_empty_tile(path: Path, grid: TileGrid) -> None:
    shape = (grid.pixels, grid.pixels)
    layers = {field.name: np.zeros(shape, field.dtype) for field in mod11a1.FIELDS}
    structure = struct_metadata(GRID_NAME, *shape, grid, mod11a1.FIELDS)
    write_grid_file(
        path,
        GRID_NAME,
        mod11a1.FIELDS,
        layers,
        [("StructMetadata.0", "char", structure)],
        internal_name="granule.hdf",
    )


def _groups(path: Path) -> dict[str, tuple[str, list[str]]]:
    """Name of each Vgroup -> its class and the names of the Vgroups and datasets in it."""
    file, data = HDF(str(path)), SD(str(path))
    groups = file.vgstart()
    found, reference = {}, -1
    while True:
        try:
            reference = groups.getid(reference)
        except HDF4Error:  # no further Vgroup
            break
        group = groups.attach(reference)
        members = []
        for tag, member in group.tagrefs():
            if tag == 1965:
                inner = groups.attach(member)
                members.append(inner._name)
                inner.detach()
            elif tag == 720:
                members.append(data.select(data.reftoindex(member)).info()[0])
        found[group._name] = (group._class, members)
        group.detach()
    groups.end()
    file.close()
    data.end()
    return found


def test_bytes_do_not_depend_on_the_path(tmp_path: Path) -> None:
    grid = TileGrid(18, 4, 32)
    short = tmp_path / "a.hdf"
    long = tmp_path / "some" / "much" / "longer" / "folder" / "name.hdf"
    long.parent.mkdir(parents=True)
    _write_empty_tile(short, grid)
    _write_empty_tile(long, grid)
    assert short.read_bytes() == long.read_bytes()
    assert str(tmp_path).encode() not in short.read_bytes()
    assert _groups(short)["granule.hdf"][0] == "CDF0.0"


def test_wrong_type_is_refused(tmp_path: Path) -> None:
    field = mod11a1.FIELDS[0]
    with pytest.raises(ProductError, match=r"LST_Day_1km.*float32.*uint16"):
        write_grid_file(
            tmp_path / "a.hdf",
            GRID_NAME,
            [field],
            {field.name: np.zeros((4, 4), np.float32)},
            [],
            internal_name="a.hdf",
        )
    assert not list(tmp_path.iterdir())


def test_hdf_eos_groups_hold_the_fields(tmp_path: Path) -> None:
    path = tmp_path / "a.hdf"
    _write_empty_tile(path, TileGrid(18, 4, 32))
    groups = _groups(path)
    names = [field.name for field in mod11a1.FIELDS]
    assert groups[GRID_NAME] == ("GRID", ["Data Fields", "Grid Attributes"])
    assert groups["Data Fields"] == ("GRID Vgroup", names)
    assert groups["Grid Attributes"] == ("GRID Vgroup", [])


@pytest.mark.real_data
def test_fields_and_groups_are_nasas(scenes: list[SimulatedScene], lstsr_data: Path) -> None:
    ours, nasas = SD(str(scenes[0].mod11a1)), SD(str(lstsr_data / NASA_MOD11A1))
    assert list(ours.datasets()) == list(nasas.datasets())
    assert list(ours.attributes()) == list(nasas.attributes())
    for name in nasas.datasets():
        field, reference = ours.select(name), nasas.select(name)
        assert field.info()[3] == reference.info()[3]  # type
        assert field.attributes(full=1) == reference.attributes(full=1), name
        for axis in (0, 1):
            assert field.dim(axis).info()[0] == reference.dim(axis).info()[0]
    ours.end()
    nasas.end()
    for name in (GRID_NAME, "Data Fields", "Grid Attributes"):
        ours_groups, nasas_groups = _groups(scenes[0].mod11a1), _groups(lstsr_data / NASA_MOD11A1)
        assert ours_groups[name] == nasas_groups[name]


def _gdalinfo(name: str) -> dict[str, Any]:
    output = subprocess.run(["gdalinfo", "-json", name], capture_output=True, check=True)
    answer: dict[str, Any] = json.loads(output.stdout)
    return answer


@pytest.fixture(scope="session")
def gdal_hdf4() -> None:
    if shutil.which("gdalinfo") is None:
        pytest.skip("gdalinfo is not installed (Debian: gdal-bin)")
    formats = subprocess.run(["gdalinfo", "--formats"], capture_output=True, text=True, check=True)
    if "HDF4Image" not in formats.stdout:
        pytest.skip("this GDAL has no HDF4 driver")


def _subdatasets(path: Path) -> list[tuple[str, str]]:
    listing = _gdalinfo(str(path))["metadata"]["SUBDATASETS"]
    count = len(listing) // 2
    return [
        (
            listing[f"SUBDATASET_{i}_NAME"].replace(str(path), "FILE"),
            listing[f"SUBDATASET_{i}_DESC"],
        )
        for i in range(1, count + 1)
    ]


@pytest.mark.real_data
def test_gdal_reads_a_tile_like_nasas(gdal_hdf4: None, tmp_path: Path, lstsr_data: Path) -> None:
    nasas, ours = lstsr_data / NASA_MOD11A1, tmp_path / "ours.hdf"
    _write_empty_tile(ours, TileGrid(11, 5, 1200))
    assert _subdatasets(ours) == _subdatasets(nasas)
    for name, _ in _subdatasets(nasas):
        found = _gdalinfo(name.replace("FILE", str(ours)))
        expected = _gdalinfo(name.replace("FILE", str(nasas)))
        assert found["driverShortName"] == expected["driverShortName"]
        assert found["size"] == expected["size"]
        # NASA's corner is off by 0.7 mm from the tile's.
        np.testing.assert_allclose(found["geoTransform"], expected["geoTransform"], atol=1e-3)
        assert found["coordinateSystem"]["wkt"] == expected["coordinateSystem"]["wkt"]
        for key in ("type", "description", "noDataValue", "scale", "offset", "unit"):
            assert found["bands"][0].get(key) == expected["bands"][0].get(key), (name, key)


def test_gdal_reads_the_subset_and_its_values(
    gdal_hdf4: None, scenes: list[SimulatedScene], tmp_path: Path
) -> None:
    scene = scenes[1]
    grid = TileGrid(11, 5, 96)
    cases = [
        (scene.mod11a1, GRID_NAME, "LST_Day_1km", 1, 0, "UInt16"),
        (scene.mod11a1, GRID_NAME, "QC_Night", 1, None, "Byte"),
        (scene.mod09gq, "MODIS_Grid_2D", "sur_refl_b02_1", 4, -28672, "Int16"),
        (scene.mod09gq, "MODIS_Grid_2D", "QC_250m_1", 4, 2995, "UInt16"),
    ]
    for path, grid_name, field, factor, nodata, kind in cases:
        name = f'HDF4_EOS:EOS_GRID:"{path}":{grid_name}:{field}'
        answer = _gdalinfo(name)
        size = 96 * factor
        pixel = grid.fine.transform.a * 4 / factor
        west, _, _, north = grid.coarse.bounds
        expected = [west, pixel, 0.0, north, 0.0, -pixel]
        assert answer["size"] == [size, size]
        np.testing.assert_allclose(answer["geoTransform"], expected, atol=1e-5)
        assert answer["bands"][0]["type"] == kind
        if nodata is not None:
            assert answer["bands"][0]["noDataValue"] == nodata
        raw = tmp_path / f"{field}.raw"
        subprocess.run(
            ["gdal_translate", "-q", "-of", "ENVI", name, str(raw)], check=True, capture_output=True
        )
        file = SD(str(path))
        stored = file.select(field).get()
        file.end()
        np.testing.assert_array_equal(np.fromfile(raw, stored.dtype).reshape(size, size), stored)
