"""The job from rasters to records, on Beam's in-process runner."""

from __future__ import annotations

import hashlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
import rasterio
from affine import Affine

from beam_jobs.rasters_to_tfrecords import _nothing_left, main, run
from keras_lstsr.errors import ConfigError, RecordsError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import modis_sinusoidal_crs
from keras_lstsr.records.reading import iterate_samples
from keras_lstsr.records.schema import load_metadata
from keras_lstsr.testing.rasters import UTM, write_geotiff

SMALL = ["--patch_size", "8"]


def all_samples(folder, metadata):
    return [
        sample
        for split, count in metadata.counts.items()
        if count
        for sample in iterate_samples(folder, split)
    ]


def content_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted(folder.iterdir())}


def test_rasters_become_records_that_hold_them_without_loss(write_lst, write_ndvi, tmp_path):
    gap = np.s_[3:5, 3:5]
    first = write_lst("LST_2020_06_01_day.tif", seed=1, gaps=[gap])
    second = write_lst("LST_2020_06_02_night.tif", seed=2)
    write_lst("LST_2020_06_03_day.tif", seed=3)
    guides = {day: write_ndvi(f"NDVI_2020_06_0{day}.tif", seed=day) for day in (1, 2)}
    output = tmp_path / "records"
    arguments = ["--input", str(first.parent / "*.tif"), "--ndvi", str(tmp_path / "ndvi" / "*.tif")]
    arguments += ["--output", str(output), *SMALL, "--num_shards", "2"]
    metadata = run(arguments)
    assert metadata == load_metadata(output)
    assert sum(metadata.counts.values()) == 24 + 25
    assert metadata.rejected == {"fill": 1, "no_partner:ndvi": 25}
    assert metadata.guides == ["ndvi"] and not metadata.has_truth and metadata.dead_letters == 0
    assert metadata.counts == {
        split: sum(times.values()) for split, times in metadata.counts_by_day_night.items()
    }
    by_time = Counter(sample.day_night for sample in all_samples(output, metadata))
    assert by_time == {"day": 24, "night": 25}
    splits = defaultdict(set)
    for sample in all_samples(output, metadata):
        splits[sample.place].add(sample.split)
        path = {"2020-06-01": first, "2020-06-02": second}[sample.acquisition_date]
        with rasterio.open(path) as source:
            stored = source.read(1)
            assert sample.scene.split("/")[0] == path.name
        row, col = sample.row, sample.column
        expected = (stored[row : row + 8, col : col + 8] * 0.02).astype(np.float32)
        np.testing.assert_array_equal(sample.lst_kelvin, expected)
        assert sample.encodings["lst_kelvin"].dtype == "uint16"
        assert (
            sample.grid.transform.c == 5e5 + 1000 * col
            and sample.grid.transform.f == 5e6 - 1000 * row
        )
        with rasterio.open(guides[int(sample.acquisition_date[-1])]) as source:
            fine = source.read(1)[4 * row : 4 * row + 32, 4 * col : 4 * col + 32]
        np.testing.assert_array_equal(sample.guides["ndvi"], (fine * 0.0001).astype(np.float32))
        assert sample.encodings["ndvi"].dtype == "int16"
    # All dates of a place are in one split, and all 25 places occur.
    assert len(splits) == 25
    assert all(len(found) == 1 for found in splits.values())
    assert metadata.places == dict(Counter(next(iter(found)) for found in splits.values()))


def test_metadata_tells_where_everything_comes_from(write_lst, tmp_path):
    path = write_lst("LST_2020_06_01_day.tif", gaps=[np.s_[0, 0]])
    arguments = ["--input", str(path), "--output", str(tmp_path / "out"), *SMALL]
    metadata = run([*arguments, "--records_per_shard", "4"])
    (source,) = metadata.sources
    assert source.sha256 == hashlib.sha256(path.read_bytes()).hexdigest()
    assert source.path == str(path)
    assert source.valid_pixels == {"day": 1599}
    assert source.missing_pixels == {"day": {"fill": 1}}
    assert source.candidates == {"day": 25} and source.accepted == {"day": 24}
    assert source.rejected == {"day": {"fill": 1}}
    assert metadata.settings["patch_size"] == 8
    assert metadata.settings["split"]["by"] == "place"
    assert metadata.guides == [] and metadata.guide_relations == {}
    samples = list(iterate_samples(tmp_path / "out", "train"))
    lst = np.stack([sample.lst_kelvin for sample in samples]).astype(np.float64)
    summary = metadata.statistics["lst_kelvin_day"]
    assert (summary.count, summary.min, summary.max) == (lst.size, lst.min(), lst.max())
    assert summary.mean == pytest.approx(lst.mean(), rel=1e-12)
    assert summary.std == pytest.approx(lst.std(), rel=1e-9)
    for split, shards in metadata.shards.items():
        assert sum(shard.records for shard in shards) == metadata.counts[split]
        for number, shard in enumerate(shards):
            assert shard.file == f"{split}-{number:05d}-of-{len(shards):05d}.tfrecord.gz"
            content = (tmp_path / "out" / shard.file).read_bytes()
            assert shard.sha256 == hashlib.sha256(content).hexdigest()
    assert len(metadata.shards["train"]) == -(-metadata.counts["train"] // 4)


def test_same_input_same_bytes_and_sharding_leaves_the_fingerprint(write_lst, tmp_path):
    for i in range(3):
        write_lst(f"LST_2020_06_0{i + 1}_day.tif", seed=i)
    pattern = str(tmp_path / "lst" / "*.tif")
    common = ["--input", pattern, *SMALL]
    first = run([*common, "--output", str(tmp_path / "first")])
    second = run([*common, "--output", str(tmp_path / "second")])
    assert content_of(tmp_path / "first") == content_of(tmp_path / "second")
    sharded = run([*common, "--output", str(tmp_path / "third"), "--num_shards", "5"])
    assert sharded.fingerprint == first.fingerprint == second.fingerprint
    assert sharded.statistics == first.statistics
    assert len(sharded.shards["train"]) == 5
    other = run([*common, "--output", str(tmp_path / "other"), "--split_seed", "1"])
    assert other.fingerprint != first.fingerprint


@pytest.mark.slow
def test_worker_processes_write_the_same_bytes(write_lst, write_ndvi, tmp_path):
    for i in range(3):
        write_lst(f"LST_2020_06_0{i + 1}_day.tif", seed=i)
        write_ndvi(f"NDVI_2020_06_0{i + 1}.tif", seed=i)
    (tmp_path / "lst" / "broken.tif").write_bytes(b"II*\0 and no more")
    common = ["--input", str(tmp_path / "lst" / "*.tif"), "--ndvi", str(tmp_path / "ndvi" / "*")]
    run([*common, *SMALL, "--output", str(tmp_path / "one")])
    command = [sys.executable, "-m", "beam_jobs.rasters_to_tfrecords", *common, *SMALL]
    command += ["--output", str(tmp_path / "two"), "--direct_num_workers", "2"]
    command += ["--direct_running_mode", "multi_processing"]
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert content_of(tmp_path / "one") == content_of(tmp_path / "two")
    assert load_metadata(tmp_path / "two").dead_letters == 1


def test_damaged_files_and_duplicates_are_dead_letters_and_the_job_goes_on(write_lst, tmp_path):
    good = write_lst("LST_2020_06_01_day.tif")
    cut_off = good.parent / "LST_2020_06_02_day.tif"
    cut_off.write_bytes(good.read_bytes()[:900])
    (good.parent / "MOD11A1.A2020153.h18v04.061.hdf").write_bytes(b"\x0e\x03\x13\x01 cut off")
    (good.parent / "copy_of_2020_06_01_day_LST.tif").write_bytes(good.read_bytes())
    write_lst("LST_2020_06_04_day.tif", size=7)
    output = tmp_path / "records"
    metadata = run(["--input", str(good.parent / "*"), "--output", str(output), *SMALL])
    letters = {
        Path(letter["path"]).name: letter["reason"]
        for letter in json.loads((output / "dead_letter.json").read_text())
    }
    assert metadata.dead_letters == len(letters) == 4
    assert sum(metadata.counts.values()) == 25
    assert "LST_2020_06_02_day.tif" in letters[cut_off.name]
    assert "HDF4" in letters["MOD11A1.A2020153.h18v04.061.hdf"]
    assert "the same content" in letters["copy_of_2020_06_01_day_LST.tif"]
    assert "no whole sample fits" in letters["LST_2020_06_04_day.tif"]


def test_a_bad_outline_moves_no_place_of_the_others(write_lst, tmp_path):
    for i in range(4):
        write_lst(f"LST_2020_06_0{i + 1}_day.tif", left=4e5 + 5e4 * i, seed=i)
    folder = tmp_path / "lst"
    output = tmp_path / "records"
    arguments = ["--input", str(folder / "*"), "--output", str(output), "--overwrite", *SMALL]
    alone = {sample.name: sample.split for sample in all_samples(output, run(arguments))}
    values = np.full((40, 40), 15000, np.uint16)
    sinusoidal = modis_sinusoidal_crs()
    for name, crs, transform in (
        ("vast", UTM, Affine(30000, 0, 1e5, 0, -30000, 5.5e6)),
        ("beyond", sinusoidal, Affine(2.5e6, 0, 0, 0, -1e5, 5.6e6)),
        ("pole", UTM, Affine(1000, 0, 5e5, 0, -1000, 5e8)),
    ):
        grid = Grid(crs, transform, values.shape)
        write_geotiff(folder / f"LST_2020_07_01_{name}.tif", values, grid, scale=0.02)
    (folder / os.fsdecode(b"LST_\xff.tif")).write_bytes(b"II*\0")
    os.mkfifo(folder / "LST_pipe.tif")
    metadata = run(arguments)
    assert {sample.name: sample.split for sample in all_samples(output, metadata)} == alone
    letters = json.loads((output / "dead_letter.json").read_text())
    assert len(letters) == 5
    assert all(Path(letter["path"]).name in letter["reason"] for letter in letters)


def test_overlapping_rasters_of_other_anchors_share_no_ground_across_splits(write_lst, tmp_path):
    for i, (dx, dy) in enumerate([(0, 0), (3500, 0), (120000, 0), (121000, 5000), (300000, 0)]):
        write_lst(f"LST_2020_06_0{i + 1}_day.tif", left=5e5 + dx, top=5e6 - dy, seed=i)
    output = tmp_path / "records"
    metadata = run(["--input", str(tmp_path / "lst" / "*.tif"), "--output", str(output), *SMALL])
    assert sum(metadata.counts.values()) == 125
    # Painted on a grid of 500 m, on which all corners lie.
    ground = defaultdict(set)
    for sample in all_samples(output, metadata):
        left, top = round(sample.grid.transform.c / 500), round(sample.grid.transform.f / 500)
        for x in range(left, left + 16):
            for y in range(top - 16, top):
                ground[x, y].add(sample.split)
    assert all(len(splits) == 1 for splits in ground.values())
    # The first pair is shifted along x alone: its five rows of blocks hang together row by row.
    # The second pair is shifted both ways and is one place; the fifth raster has 25.
    assert sum(metadata.places.values()) == 5 + 1 + 25


def test_an_all_cloud_granule_beside_a_clear_one_is_no_failure(write_lst, tmp_path):
    write_lst("LST_2020_06_01_day.tif")
    write_lst("LST_2020_06_02_day.tif", gaps=[np.s_[5:, :], np.s_[:, 5:]])
    metadata = run(
        ["--input", str(tmp_path / "lst" / "*.tif"), "--output", str(tmp_path / "out"), *SMALL]
    )
    assert [source.accepted for source in metadata.sources] == [{"day": 25}, {"day": 0}]


def test_without_a_single_patch_nothing_looks_like_records(write_lst, tmp_path, capsys):
    write_lst("LST_2020_06_01_day.tif", gaps=[np.s_[::8, :]])
    output = tmp_path / "records"
    arguments = ["--input", str(tmp_path / "lst" / "*.tif"), "--output", str(output), *SMALL]
    assert main(arguments) == 2
    message = capsys.readouterr().err
    assert "no sample is left" in message and "fill 25" in message
    assert [path.name for path in output.iterdir()] == ["rejected.json"]
    assert json.loads((output / "rejected.json").read_text())["rejected"] == {"fill": 25}
    with pytest.raises(RecordsError, match=r"no dataset\.json"):
        load_metadata(output)
    # With gaps allowed the same folder takes the records.
    assert main([*arguments, "--max_missing_fraction", "0.2"]) == 0
    assert not (output / "rejected.json").exists()
    assert sum(load_metadata(output).counts.values()) == 25


def test_unusable_inputs_are_named_with_their_reason(write_lst, tmp_path, capsys):
    path = write_lst("LST_2020_06_01_day.tif")
    with rasterio.open(path, "r+") as raster:
        raster.scales = (1.0,)  # raw integers, and nothing says how to scale them
    arguments = ["--input", str(tmp_path / "lst" / "*.tif"), "--output", str(tmp_path / "out")]
    assert main([*arguments, *SMALL]) == 2
    message = capsys.readouterr().err
    assert "unusable inputs: 1" in message and path.name in message
    assert "Mend the unusable inputs" in message and "clearer scenes" not in message


@pytest.mark.parametrize(
    ("rejected", "advice"),
    [
        ({"cloud": 3, "no_partner:ndvi": 9}, "guides of the same dates"),
        ({"fill": 4, "missing:ndvi": 3}, "Add clearer scenes"),
        ({"missing:water": 3}, "guides that cover"),
        ({"straddles_splits": 5}, "smaller --patch_size, so"),
        ({}, "smaller than --patch_size"),
    ],
)
def test_the_commonest_reason_gives_the_advice(rejected, advice):
    error = _nothing_left({"rejected": rejected, "dead_letters": []}, "out/rejected.json")
    assert advice in str(error)


def test_existing_records_are_replaced_only_if_asked_for(write_lst, tmp_path):
    write_lst("LST_2020_06_01_day.tif")
    output = tmp_path / "records"
    arguments = ["--input", str(tmp_path / "lst" / "*.tif"), "--output", str(output), *SMALL]
    run([*arguments, "--num_shards", "3"])
    before = content_of(output)
    with pytest.raises(ConfigError, match=r"holds records already.*--overwrite"):
        run(arguments)
    assert content_of(output) == before
    metadata = run([*arguments, "--overwrite"])
    names = {shard.file for shards in metadata.shards.values() for shard in shards}
    assert content_of(output).keys() == names | {"dataset.json", "dead_letter.json"}
    (output / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"other files.*notes\.txt"):
        run([*arguments, "--overwrite"])


def test_a_failing_pipeline_leaves_nothing_behind(write_lst, tmp_path, monkeypatch):
    write_lst("LST_2020_06_01_day.tif")

    def fail(*_args, **_options):
        raise RuntimeError("disk full")

    monkeypatch.setattr("beam_jobs.transforms.publish", fail)
    output = tmp_path / "records"
    with pytest.raises(RuntimeError, match="disk full"):
        run(["--input", str(tmp_path / "lst" / "*.tif"), "--output", str(output), *SMALL])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["lst"]


@pytest.mark.slow
def test_a_killed_job_leaves_no_folder_that_looks_complete(write_lst, tmp_path):
    for i in range(8):
        write_lst(f"LST_2020_06_{i + 1:02d}_day.tif", seed=i, size=120)
    output = tmp_path / "records"
    arguments = ["--input", str(tmp_path / "lst" / "*.tif"), "--output", str(output), *SMALL]
    arguments += ["--records_per_shard", "4"]  # many shards, so that there is time for the kill
    process = subprocess.Popen(
        [sys.executable, "-m", "beam_jobs.rasters_to_tfrecords", *arguments],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.glob("records.incomplete-*/*")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    assert not output.exists()
    assert list(tmp_path.glob("records.incomplete-*"))
    metadata = run(arguments)
    assert sum(metadata.counts.values()) == 8 * 15 * 15


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--patch_size", "10"], "patch_size.*multiple of 4"),
        (["--split_fractions", "0.5,0.1,0.1"], "that sum to 1"),
        (["--max_missing_fraction", "1"], "max_missing_fraction"),
        (["--num_shards", "0"], "num_shards"),
        (["--ndvi", "/nowhere/*.hdf"], "guide ndvi: no file matches"),
        (["--guide", "ndvi=/nowhere/*.hdf"], "guide ndvi: no file matches"),
        (["--guide", "snow=/nowhere/*.hdf"], "no such guide.*snow"),
        (["--guide_scale", "ndvi=2"], "guide_scale.*not given"),
        (["--truth", "/nowhere/*.tif"], "truth: no file matches"),
        (["--pairs", "/nowhere"], "no such folder"),
        (["--fine-scenes", "/nowhere"], "no scene of fine LST"),
        (["--patchsize", "8"], "unknown options; found --patchsize 8"),
    ],
)
def test_wrong_options_are_errors_before_any_work(write_lst, tmp_path, capsys, options, message):
    path = write_lst("LST_2020_06_01_day.tif")
    status = main(["--input", str(path), "--output", str(tmp_path / "out"), *options])
    assert status == 2
    assert re.search(message, capsys.readouterr().err)
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["lst"]


def test_no_match_names_the_pattern(tmp_path, capsys):
    assert main(["--input", str(tmp_path / "*.hdf"), "--output", str(tmp_path / "out")]) == 2
    assert "*.hdf: input: no file matches the pattern" in capsys.readouterr().err


def brute_force_mod11a1(path: Path) -> dict[str, tuple[int, int]]:
    """Valid pixels and clear patches by loops over the file's own integers."""
    from pyhdf.SD import SD

    counts = {}
    file = SD(str(path))
    for name in ("Day", "Night"):
        stored = file.select(f"LST_{name}_1km").get()
        qc = file.select(f"QC_{name}").get()
        good = np.zeros(stored.shape, bool)
        for number in np.unique(qc):
            bits = f"{number:08b}"
            if bits[6:] == "00" or (bits[6:] == "01" and bits[:2] in ("00", "01")):
                good |= qc == number
        good &= (stored >= 7500) & (stored <= 65535)
        patches = 0
        for i in range(18):
            for j in range(18):
                patches += bool(good[64 * i : 64 * i + 64, 64 * j : 64 * j + 64].all())
        counts[name.lower()] = (int(good.sum()), patches)
    return counts


@pytest.mark.real_data
def test_every_mod11a1_gives_the_counts_of_a_brute_force_count(lstsr_data, tmp_path):
    granules = sorted((lstsr_data / "modis").glob("MOD11A1*.hdf"))
    metadata = run(
        ["--input", str(lstsr_data / "modis" / "*.hdf"), "--output", str(tmp_path / "out")]
    )
    assert [Path(source.path) for source in metadata.sources] == granules
    for source in metadata.sources:
        expected = brute_force_mod11a1(Path(source.path))
        assert source.valid_pixels == {name: valid for name, (valid, _) in expected.items()}
        assert source.accepted == {name: patches for name, (_, patches) in expected.items()}
        assert source.candidates == {"day": 324, "night": 324}
    others = len(list((lstsr_data / "modis").glob("*.hdf"))) - len(granules)
    assert metadata.dead_letters == others


@pytest.mark.real_data
def test_croatia_by_scale_and_nodata(lstsr_data, tmp_path):
    paths = sorted((lstsr_data / "croatia_lst_2006").glob("LST2006_0[67]_0*.tif"))
    assert len(paths) >= 4
    arguments = ["--input", *map(str, paths), "--output", str(tmp_path / "out")]
    metadata = run([*arguments, "--scale", "0.02", "--nodata", "0"])
    assert [Path(source.path) for source in metadata.sources] == paths
    for source in metadata.sources:
        with rasterio.open(source.path) as dataset:
            stored = dataset.read(1)
        name = "night" if "Night" in source.path else "day"
        clear = [
            (stored[row : row + 64, col : col + 64] != 0).all()
            for row in range(0, stored.shape[0] - 63, 64)
            for col in range(0, stored.shape[1] - 63, 64)
        ]
        assert source.valid_pixels == {name: int((stored != 0).sum())}
        assert source.accepted == {name: int(sum(clear))}
        assert source.candidates == {name: 49}
    for sample in iterate_samples(tmp_path / "out", "validation"):
        with rasterio.open(
            next(p for p in paths if p.name == sample.scene.split("/")[0])
        ) as dataset:
            stored = dataset.read(1)
        window = np.s_[sample.row : sample.row + 64, sample.column : sample.column + 64]
        np.testing.assert_array_equal(sample.lst_kelvin, (stored[window] * 0.02).astype(np.float32))
        assert sample.encodings["lst_kelvin"].dtype == "uint16"


@pytest.mark.real_data
def test_places_of_real_pairs_are_their_overlap_groups(lstsr_data, tmp_path):
    import csv

    folder = lstsr_data / "modis_aster"
    arguments = ["--input", str(folder / "*_lst_1km.tif")]
    arguments += ["--ndvi", str(folder / "*_ndvi_250m.tif"), "--output", str(tmp_path / "out")]
    metadata = run([*arguments, "--anchor", "raster", "--max_missing_fraction", "0.1"])
    with (folder / "pairs.csv").open(newline="") as stream:
        rows = list(csv.DictReader(stream))
    for source in metadata.sources:
        if source.role == "lst":
            assert source.partners["ndvi"][:3] == source.granule_id[:3]
    groups = Counter(row["overlap_group"] for row in rows)
    assert sum(metadata.places.values()) == len(groups)
    places = Counter(sample.place for sample in all_samples(tmp_path / "out", metadata))
    assert sorted(places.values()) == sorted(groups.values())
