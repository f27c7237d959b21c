"""Pairs are found by name, grouped by shared ground, and cropped to what the guide covers."""

from __future__ import annotations

import shutil
from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.pairs.files import (
    LoadedPair,
    cropped_to_guide,
    find_pairs,
    load_pairs,
    overlap_groups,
)
from tests.pairs.made_pairs import raster, write_pair


def test_finds_and_reads_pairs(pairs_dir, make_pair):
    found = find_pairs(pairs_dir)
    assert [(files.name, files.group) for files in found] == [
        ("000", "0"),
        ("001", "0"),
        ("002", "1"),
        ("003", "1"),
    ]
    read, made = load_pairs(pairs_dir)[2], make_pair(seed=2, off=(1, 1), noise_kelvin=0.3)
    for part in ("lst", "guide", "truth"):
        ours, theirs = getattr(read, part), getattr(made, part)
        np.testing.assert_array_equal(ours.values, theirs.values)
        assert ours.rio.transform() == theirs.rio.transform()


def test_groups_come_from_footprints_without_a_table(make_pair, tmp_path):
    for name, column in (("a", 0), ("b", 15), ("c", 30), ("d", 80)):
        made = make_pair(name, coarse_pixels=20)
        moved = raster(made.lst.values, 1000.0, column=column, name="lst_kelvin")
        write_pair(tmp_path, replace(made, lst=moved))
    # a and c do not touch, but both overlap b.
    assert [files.group for files in find_pairs(tmp_path)] == ["0", "0", "0", "1"]


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


def test_crop_leaves_what_the_guide_covers_whole(make_pair):
    pair = make_pair(coarse_pixels=12)
    # A guide that begins 3 fine rows lower and ends 5 fine columns earlier.
    guide = raster(pair.guide.values[3:, :-5], 250.0, row=3, name="ndvi")
    guide.values[20, 20] = np.nan
    cropped = cropped_to_guide(replace(pair, guide=guide), 4)
    np.testing.assert_array_equal(cropped.lst.values, pair.lst.values[1:, :10])
    expected = pair.guide.values[4:, :40].copy()
    expected[19, 20] = np.nan
    np.testing.assert_array_equal(cropped.guide.values, expected)
    corner = cropped.lst.rio.transform() @ (0, 0)
    assert corner == (400_000.0, 4_999_000.0) == cropped.guide.rio.transform() @ (0, 0)
    assert LoadedPair(cropped).load() is cropped


def test_guide_elsewhere_is_an_error(make_pair):
    pair = make_pair(coarse_pixels=8)
    guide = raster(pair.guide.values, 250.0, row=900, name="ndvi")
    with pytest.raises(ProductError, match="covers no pixel"):
        cropped_to_guide(replace(pair, guide=guide), 4)


@pytest.mark.real_data
def test_footprints_group_the_real_pairs_as_their_table_does(lstsr_data):
    pairs = load_pairs(lstsr_data / "modis_aster")
    assert len(pairs) == 54
    ours = overlap_groups([pair.lst for pair in pairs])
    # The same partition: names of groups may differ.
    both = {(pair.group, group) for pair, group in zip(pairs, ours, strict=True)}
    assert len(both) == len({pair.group for pair in pairs}) == len(set(ours)) == 6
