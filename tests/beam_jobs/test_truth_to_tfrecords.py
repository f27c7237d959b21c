"""The job from rasters, pairs and fine scenes to records that hold the fine truth."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import rasterio

from beam_jobs.rasters_to_tfrecords import main, run
from keras_lstsr.errors import ConfigError
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.grid import Grid
from keras_lstsr.records.fine_scenes import find_fine_scenes
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.place_scenes import find_places
from keras_lstsr.records.reading import iterate_samples
from keras_lstsr.records.scene_sample import (
    clear_shift,
    common_shift,
    cropped_to_guides,
    nested,
    shift_of_scene,
)
from keras_lstsr.records.schema import DatasetMetadata, load_metadata
from keras_lstsr.testing.rasters import utm_raster
from keras_lstsr.testing.samples import made_scene, write_pair, write_pairs, write_places

SMALL = ["--patch_size", "16"]


def samples_of(folder: Path, metadata: DatasetMetadata) -> dict:
    return {
        sample.name: sample
        for split, count in metadata.counts.items()
        if count
        for sample in iterate_samples(folder, split)
    }


def assert_same(sample, expected):
    assert (sample.grid, sample.origin, sample.day_night) == (
        expected.grid,
        expected.origin,
        expected.day_night,
    )
    assert sample.guides.keys() == expected.guides.keys()
    parts = [(sample.lst_kelvin, expected.lst_kelvin), (sample.truth_kelvin, expected.truth_kelvin)]
    parts += [(sample.guides[name], guide) for name, guide in expected.guides.items()]
    for found, wanted in parts:
        np.testing.assert_array_equal(found, wanted)


@pytest.fixture(scope="module")
def pairs_dir(tmp_path_factory) -> Path:
    """Four clear pairs and one whose truth has nothing to do with its LST."""
    folder = write_pairs(tmp_path_factory.mktemp("pairs"), 4)
    made = made_scene("004", seed=4)
    made.truth.values[:] = 300 + np.random.default_rng(0).normal(size=made.truth.shape)
    write_pair(folder, made)
    with (folder / "pairs.csv").open("a") as table:
        table.write("004,2\n")
    return folder


@pytest.fixture(scope="module")
def fine_dir(tmp_path_factory) -> Path:
    """A scene of LST with pixels of 125 m and its cloud mask."""
    folder = tmp_path_factory.mktemp("fine")
    rng = np.random.default_rng(1)
    fine = utm_raster(295 + rng.normal(0, 3, (160, 192)), 125.0, column=1000, name="lst_kelvin")
    fine.attrs["units"] = "K"
    fine.rio.to_raster(folder / "ECO_LST_2020.tif")
    cloud = utm_raster(rng.random((160, 192)) > 0.995, 125.0, column=1000, name="cloud")
    cloud.rio.to_raster(folder / "ECO_cloud_mask_2020.tif")
    return folder


@pytest.fixture(scope="module")
def prepared(pairs_dir, fine_dir, tmp_path_factory):
    output = tmp_path_factory.mktemp("out") / "records"
    metadata = run(
        ["--pairs", str(pairs_dir), "--fine-scenes", str(fine_dir), "--output", str(output)]
    )
    return output, metadata


def test_records_hold_what_direct_computation_gives(prepared, pairs_dir, fine_dir):
    output, metadata = prepared
    found = samples_of(output, metadata)
    scenes = {source.name: cropped_to_guides(source.load(), 4) for source in find_pairs(pairs_dir)}
    shifts = {name: clear_shift(shift_of_scene(scene, 4)) for name, scene in scenes.items()}
    # The fifth pair takes the shift of the set.
    assert [name for name, shift in shifts.items() if shift is None] == ["004"]
    common = common_shift(shifts.values())
    for name, scene in scenes.items():
        assert_same(found.pop(name), nested(scene, 4, shifts[name] or common))
        info = metadata.scenes[name]
        shift = shifts[name] or common
        assert info.truth_shift_pixels == (shift.rows, shift.columns)
        assert info.own_shift == (shifts[name] is not None)
    ((name, sample),) = found.items()
    (source,) = find_fine_scenes(fine_dir)
    expected = nested(source.load(), 4)
    # It has no NDVI, and its record says so.
    absent = np.full(expected.fine_grid.shape, np.nan, np.float32)
    assert_same(sample, replace(expected, guides={"ndvi": absent}))
    assert (name, sample.origin) == ("ECO_LST_2020", "degraded")


def test_places_go_with_pairs_and_records_hold_all_guides(pairs_dir, tmp_path):
    places = write_places(tmp_path / "places")
    output = tmp_path / "records"
    arguments = ["--pairs", str(pairs_dir), "--places", str(places), "--references"]
    metadata = run([*arguments, "--draws", "1", "--output", str(output)])
    assert metadata.guides == ["ndvi", "water", "reference"]
    found = samples_of(output, metadata)
    names = [scene.name for scene in find_places(places, draws=1)]
    assert len(names) == 5 and sum(metadata.counts.values()) == 5 + len(names)
    for source in find_places(places, draws=1):
        expected = nested(source.load(), 4)
        absent = np.full(expected.fine_grid.shape, np.nan, np.float32)
        guides = {name: expected.guides.get(name, absent) for name in metadata.guides}
        assert_same(found[source.name], replace(expected, guides=guides))
        assert metadata.scenes[source.name].group == "coast"
    assert metadata.scenes["coast/20230601_day#1"].day_night == "day"
    (source,) = (s for s in metadata.sources if s.path.endswith("20230602_night_lst_83m.tif"))
    assert source.partners == {"ndvi": "median_day_ndvi_83m.tif"}
    pair = found["000"]
    assert np.isfinite(pair.guides["water"]).all()


def test_metadata_tells_of_scenes_groups_and_files(prepared, pairs_dir, fine_dir):
    output, metadata = prepared
    assert metadata == load_metadata(output)
    assert metadata.has_truth and metadata.guides == ["ndvi"]
    assert sum(metadata.counts.values()) == 6
    origins = [metadata.counts_by_origin[split] for split in metadata.counts]
    assert sum(counts.get("degraded", 0) for counts in origins) == 1
    sensors = [metadata.counts_by_sensor[split] for split in metadata.counts]
    assert sum(counts.get("ASTER", 0) for counts in sensors) == 5
    assert sum(counts.get("ECOSTRESS", 0) for counts in sensors) == 1
    seasons = [metadata.counts_by_season[split] for split in metadata.counts]
    assert sum(sum(counts.values()) for counts in seasons) == 6
    # 20 × 24 LST pixels of 1 km are the largest.
    assert metadata.patch_size == 24
    assert list(metadata.scenes) == ["000", "001", "002", "003", "004", "ECO_LST_2020"]
    assert [metadata.scenes[f"00{number}"].group for number in range(5)] == [*"00112"]
    files = ["002_lst_1km.tif", "002_ndvi_250m.tif", "002_aster_lst_250m.tif"]
    info = metadata.scenes["002"]
    assert info.files == {name: sha256_of(pairs_dir / name) for name in files}
    assert info.grid.grid == Grid.of(pairs_dir / "002_lst_1km.tif")
    fine = metadata.scenes["ECO_LST_2020"]
    assert fine.files == {path.name: sha256_of(path) for path in fine_dir.iterdir()}
    assert (fine.origin, fine.truth_shift_pixels) == ("degraded", None)
    sources = {Path(source.path).name: source for source in metadata.sources}
    assert sources["000_lst_1km.tif"].partners == {
        "ndvi": "000_ndvi_250m.tif",
        "truth": "000_aster_lst_250m.tif",
    }
    assert sources["ECO_LST_2020.tif"].role == "truth"
    assert all(source.accepted for source in metadata.sources)


def test_same_input_same_bytes_and_shards_leave_the_fingerprint(
    prepared, pairs_dir, fine_dir, tmp_path
):
    output, metadata = prepared
    common = ["--pairs", str(pairs_dir), "--fine-scenes", str(fine_dir)]
    run([*common, "--output", str(tmp_path / "again")])
    for path in output.iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()
    few = run([*common, "--output", str(tmp_path / "few"), "--num_shards", "1"])
    assert few.fingerprint == metadata.fingerprint


def test_all_that_share_ground_are_in_one_split(prepared):
    output, metadata = prepared
    samples = samples_of(output, metadata)
    # The pairs lie on each other, the fine scene far away.
    assert len({samples[f"00{number}"].place for number in range(5)}) == 1
    assert len({samples[f"00{number}"].split for number in range(5)}) == 1
    assert samples["ECO_LST_2020"].place != samples["000"].place


def rasters(folder: Path, numbers=range(2)) -> list[str]:
    """Writes pairs that lie apart, and returns the options that read them as rasters."""
    for number in numbers:
        made = made_scene(f"2020_06_0{number + 1}_{number}", seed=number, off=(1, 1))
        write_pair(folder, made)
    return [
        "--input",
        str(folder / "*_lst_1km.tif"),
        "--guide",
        f"ndvi={folder / '*_ndvi_250m.tif'}",
        "--truth",
        str(folder / "*_aster_lst_250m.tif"),
    ]


def test_rasters_with_truth_give_what_pairs_give(tmp_path):
    (tmp_path / "in").mkdir()
    options = rasters(tmp_path / "in")
    of_pairs = run(["--pairs", str(tmp_path / "in"), "--output", str(tmp_path / "pairs")])
    of_rasters = run([*options, "--output", str(tmp_path / "rasters")])
    assert of_rasters.has_truth and of_rasters.guides == ["ndvi"]
    expected = samples_of(tmp_path / "pairs", of_pairs)
    found = samples_of(tmp_path / "rasters", of_rasters)
    assert len(found) == len(expected) == 2
    for name, sample in found.items():
        date = name[:10]
        (wanted,) = (each for key, each in expected.items() if key.startswith(date))
        assert_same(sample, wanted)
        assert sample.acquisition_date == date.replace("_", "-")
        lst = f"{wanted.name}_lst_1km.tif"
        assert set(of_rasters.scenes[name].files) == {
            lst,
            lst.replace("lst_1km", "ndvi_250m"),
            lst.replace("lst_1km", "aster_lst_250m"),
        }
    by_role = {source.role for source in of_rasters.sources}
    assert by_role == {"lst", "ndvi", "truth"}


def test_what_has_no_partner_is_counted_and_what_is_damaged_is_a_dead_letter(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    options = rasters(folder, range(5))
    (folder / "2020_06_02_1_aster_lst_250m.tif").unlink()
    (folder / "2020_06_03_2_ndvi_250m.tif").unlink()
    (folder / "2020_06_04_3_aster_lst_250m.tif").write_bytes(b"II*\0 and no more")
    metadata = run([*options, "--output", str(tmp_path / "out")])
    assert sum(metadata.counts.values()) == 2
    assert metadata.rejected == {"no_partner:ndvi": 1, "no_partner:truth": 2}
    (letter,) = json.loads((tmp_path / "out" / "dead_letter.json").read_text())
    assert letter["path"].endswith("2020_06_04_3_aster_lst_250m.tif")


def test_a_truth_within_a_large_raster_cuts_its_own_ground_out_of_it(tmp_path):
    large = made_scene("2020_06_01", coarse_pixels=40, off=(0, 0))
    small = replace(large, truth=large.truth.isel(y=slice(45, 125), x=slice(85, 165)))
    write_pair(tmp_path, small)
    output = tmp_path / "out"
    metadata = run(
        [
            *("--input", str(tmp_path / "*_lst_1km.tif")),
            *("--ndvi", str(tmp_path / "*_ndvi_250m.tif")),
            *("--truth", str(tmp_path / "*_aster*.tif"), "--output", str(output)),
        ]
    )
    (sample,) = samples_of(output, metadata).values()
    # The truth begins 40 fine rows and 80 fine columns inside LST, and has 80 of each.
    np.testing.assert_array_equal(sample.lst_kelvin, large.lst.values[10:30, 20:40])
    valid = np.isfinite(sample.truth_kelvin)
    exact = 320 - 25 * sample.guides["ndvi"]
    assert valid.mean() > 0.6
    assert np.abs(sample.truth_kelvin - exact)[valid].max() < 0.5


def test_scenes_that_nothing_registers_are_dead_letters(tmp_path, capsys):
    made = made_scene("000", seed=4)
    made.truth.values[:] = 300 + np.random.default_rng(0).normal(size=made.truth.shape)
    write_pair(tmp_path, made)
    assert main(["--pairs", str(tmp_path), "--output", str(tmp_path / "out")]) == 2
    assert "unusable inputs: 1" in capsys.readouterr().err
    content = json.loads((tmp_path / "out" / "rejected.json").read_text())
    assert "where its truth lies is unknown" in content["dead_letters"][0]["reason"]


def test_truth_and_none_do_not_mix(pairs_dir, tmp_path):
    lst = str(pairs_dir / "*_lst_1km.tif")
    with pytest.raises(ConfigError, match="all records have truth, or none"):
        run(["--pairs", str(pairs_dir), "--input", lst, "--output", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match=r"truth.*needs --input"):
        run(["--pairs", str(pairs_dir), "--truth", lst, "--output", str(tmp_path / "out")])
    with pytest.raises(ConfigError, match="nothing to make records of"):
        run(["--output", str(tmp_path / "out")])


@pytest.mark.real_data
@pytest.mark.slow
def test_real_pairs_and_fine_scenes(lstsr_data, tmp_path):
    metadata = run(
        [
            *("--pairs", str(lstsr_data / "modis_aster")),
            *("--fine-scenes", str(lstsr_data / "ecostress"), "--output", str(tmp_path / "out")),
        ]
    )
    samples = samples_of(tmp_path / "out", metadata)
    sources = find_pairs(lstsr_data / "modis_aster")
    assert len(samples) == 54 + 10 and metadata.dead_letters == 0
    assert all(metadata.scenes[source.name].own_shift for source in sources)
    for source in sources[::9]:
        scene = cropped_to_guides(source.load(), 4)
        assert_same(samples[source.name], nested(scene, 4, shift_of_scene(scene, 4)))
    places = {}
    for source in sources:
        places.setdefault(samples[source.name].place, set()).add(source.group)
    assert len(places) == 6 and all(len(groups) == 1 for groups in places.values())
    with rasterio.open(sources[0].lst) as raster:
        assert raster.shape == (64, 64)
