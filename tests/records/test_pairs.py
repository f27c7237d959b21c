"""Pairs are found by name and grouped by shared ground."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import share_ground
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.testing.rasters import utm_raster
from keras_lstsr.testing.samples import made_scene, write_pair


def test_finds_and_reads_pairs(pairs_dir):
    found = find_pairs(pairs_dir)
    assert [(files.name, files.group) for files in found] == [
        ("000", "0"),
        ("001", "0"),
        ("002", "1"),
        ("003", "1"),
    ]
    read, made = found[2].load(), made_scene("002", seed=2, off=(1, 1), noise_kelvin=0.3)
    parts = [(read.lst, made.lst), (read.guides["ndvi"], made.guides["ndvi"])]
    for ours, theirs in [*parts, (read.truth, made.truth)]:
        np.testing.assert_array_equal(ours.values, theirs.values)
        assert Grid.of(ours) == Grid.of(theirs)
    assert (read.name, read.group, read.day_night, read.product) == (
        "002",
        "1",
        "unknown",
        "LST_GEOTIFF",
    )
    names = ["002_lst_1km.tif", "002_ndvi_250m.tif", "002_aster_lst_250m.tif"]
    assert read.files == {name: sha256_of(pairs_dir / name) for name in names}


def test_groups_come_from_footprints_without_a_table(tmp_path):
    for name, column in (("a", 0), ("b", 15), ("c", 30), ("d", 80)):
        made = made_scene(name, coarse_pixels=20)
        moved = utm_raster(made.lst.values, 1000.0, column=column, name="lst_kelvin")
        write_pair(tmp_path, replace(made, lst=moved))
    # a and c do not touch, but both overlap b.
    assert [files.group for files in find_pairs(tmp_path)] == ["0", "0", "0", "1"]


def test_any_registered_guide_is_found_and_all_pairs_have_it(tmp_path):
    made = made_scene("a", coarse_pixels=8)
    water = utm_raster(made.guides["ndvi"].values, name="water")
    write_pair(tmp_path, replace(made, guides={"ndvi": made.guides["ndvi"], "water": water}))
    (files,) = find_pairs(tmp_path)
    assert list(files.guides) == ["ndvi", "water"]
    write_pair(tmp_path, made_scene("b", coarse_pixels=8))
    with pytest.raises(
        ProductError, match=r"pair b has no the share of water|pair b has no .*water"
    ):
        find_pairs(tmp_path)


def test_a_reference_is_other_dates_detail_and_never_that_of_the_same_overpass(tmp_path):
    first = made_scene("a", coarse_pixels=20)
    # Two truths of one overpass show the same coarse LST; another date shows other detail.
    other = replace(first, name="c", lst=first.lst + 3, truth=290 + 2 * (first.truth - 290))
    for scene in (first, replace(first, name="b"), other):
        write_pair(tmp_path, scene)
    assert all(pair.others is None for pair in find_pairs(tmp_path))
    pairs = {pair.name: pair for pair in find_pairs(tmp_path, references=True)}
    assert [[other.name for other in pair.others] for pair in pairs.values()] == [
        ["b", "c"],
        ["a", "c"],
        ["a", "b"],
    ]
    read = pairs["a"].load()
    assert list(read.guides) == pairs["a"].guide_names == ["ndvi", "water", "reference"]
    np.testing.assert_array_equal(read.guides["ndvi"].values, first.guides["ndvi"].values)
    inside = slice(20, -20), slice(20, -20)
    twice, once = (pairs[n].load().guides["reference"].values[inside] for n in ("a", "c"))
    assert np.isfinite(twice).all() and once.std() > 1
    np.testing.assert_allclose(twice, 2 * once, atol=0.2)


@pytest.mark.parametrize(
    ("missing", "words"),
    [("ndvi_250m", "has no NDVI"), ("aster_lst_250m", "no true fine"), ("lst_1km", "no coarse")],
)
def test_incomplete_pair(pairs_dir, tmp_path, missing, words):
    folder = shutil.copytree(pairs_dir, tmp_path / "pairs")
    (folder / f"001_{missing}.tif").unlink()
    with pytest.raises(ProductError, match=f"pair 001 .*{words.split()[-1]}"):
        find_pairs(folder)


def test_no_folder_and_no_pairs(tmp_path):
    with pytest.raises(ProductError, match="no such folder"):
        find_pairs(tmp_path / "nowhere")
    with pytest.raises(ProductError, match="holds no pair"):
        find_pairs(tmp_path)


@pytest.mark.parametrize(
    ("table", "words"),
    [("id,group\n000,1\n", "lacks a column"), ("id,overlap_group\n000,1\n", "no group for 001")],
)
def test_bad_table(pairs_dir, tmp_path, table, words):
    folder = shutil.copytree(pairs_dir, tmp_path / "pairs")
    (folder / "pairs.csv").write_text(table)
    with pytest.raises(ConfigError, match=words):
        find_pairs(folder)


@pytest.mark.real_data
def test_footprints_group_the_real_pairs_as_their_table_does(lstsr_data):
    pairs = find_pairs(lstsr_data / "modis_aster")
    assert len(pairs) == 54
    ours = share_ground([Grid.of(pair.lst) for pair in pairs])
    # The same partition: names of groups may differ.
    both = {(pair.group, group) for pair, group in zip(pairs, ours, strict=True)}
    assert len(both) == len({pair.group for pair in pairs}) == len(set(ours)) == 6
