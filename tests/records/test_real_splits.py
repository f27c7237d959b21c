"""Places and splits of the real rasters: they must stay for ever, or test ground gets learnt."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from keras_lstsr.grids.grid import Grid
from keras_lstsr.products import lst_layers, open_product
from keras_lstsr.records.cutting import CutSettings, SceneContext, place_and_split
from keras_lstsr.records.places import locate, merge_places, patch_corners

# The SHA-256 of all lines "file row column place split reason".
KNOWN = {
    "Croatia": (
        "croatia_lst_2006/*.tif",
        CutSettings(),
        {"scale": 0.02, "nodata": 0},
        4508,
        "f3956b14eebdb15b2b38dec89f3917deece5b3615f988230f51f24b9d0572ee7",
    ),
    "Croatia, overlapping patches": (
        "croatia_lst_2006/LST2006_01_01*.tif",
        CutSettings(patch_size=32, stride=16),
        {"scale": 0.02, "nodata": 0},
        1682,
        "ca269559fc4d9dc4e6ae9e670960434686ac22813531d5af77ca12571f59a091",
    ),
    "MODIS tiles": (
        "modis/MOD11A1*.hdf",
        CutSettings(stride=32),
        {},
        2592,
        "e3c9b517479f7155e2245062af107bdbb4cd1c46e89fb3bbb456e205dddb5212",
    ),
    "pairs, merged where they overlap": (
        "modis_aster/*_lst_1km.tif",
        CutSettings(anchor="raster"),
        {},
        54,
        "72c9765a7c4f754c243e437153f0adf62595f0f90c210ad6cf8928e5e215be60",
    ),
}


def described(paths: list[Path], settings: CutSettings, options: dict[str, float]) -> list[str]:
    windows = {}
    for path in paths:
        layer = next(iter(lst_layers(open_product(path, **options)).values()))
        windows[path] = locate(Grid.of(layer), anchor=settings.anchor)
    size, stride = settings.patch_size, settings.stride
    merged = merge_places(windows.values(), size, stride)
    lines = []
    for path, window in windows.items():
        context = SceneContext("source", window, merged)
        for row, column in patch_corners(window, size, stride):
            place, split, reason = place_and_split(context, (row, column), "2006-01-01", settings)
            lines.append(f"{path.name} {row} {column} {place} {split} {reason}")
    return lines


@pytest.mark.real_data
@pytest.mark.parametrize("name", KNOWN)
def test_places_and_splits_stay(lstsr_data, name):
    pattern, settings, options, count, digest = KNOWN[name]
    lines = described(sorted(lstsr_data.glob(pattern)), settings, options)
    assert len(lines) == count
    assert hashlib.sha256("\n".join(lines).encode()).hexdigest() == digest
