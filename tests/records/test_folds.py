"""No scene of a fold shows ground that the fold's model has learnt from."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
from pyproj import Transformer

from keras_lstsr.errors import ConfigError, RecordsError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.registration import Shift
from keras_lstsr.records.folds import assign_folds, degraded_folds, fold_records, scene_folds
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.reading import iterate_samples
from keras_lstsr.records.scene_sample import cropped_to_guides, nested
from keras_lstsr.records.schema import load_metadata
from keras_lstsr.testing.rasters import utm_grid
from keras_lstsr.testing.records import coordinate_sample, write_samples
from keras_lstsr.testing.samples import made_track


def place(row: float, column: float) -> Grid:
    """A square grid with pixels of 250 m, its corner so many pixels off."""
    return utm_grid((8, 8), row=row, column=column)


def test_a_track_is_cut_across_and_groups_stay_whole():
    rng = np.random.default_rng(0)
    rows = rng.permutation(12)
    track = [place(6 * row, 2 * (row % 2)) for row in rows]
    others = [place(0, 500 + 100 * number) for number in range(6)]
    groups = ["track"] * 12 + ["b", "b", "c", "d", "d", "d"]
    folds = assign_folds(groups, track + others, 3)
    # From north to south, four to a fold.
    assert [folds[int(np.flatnonzero(rows == number)[0])] for number in range(12)] == [
        *[0] * 4,
        *[1] * 4,
        *[2] * 4,
    ]
    assert len({folds[k] for k in (12, 13)}) == len({folds[k] for k in (15, 16, 17)}) == 1
    assert Counter(folds) == {0: 7, 1: 6, 2: 5}
    assert folds == assign_folds(groups, track + others, 3)


def test_an_east_west_track_is_cut_from_west_to_east():
    folds = assign_folds(["a"] * 4, [place(0, 6 * column) for column in (3, 1, 0, 2)], 2)
    assert folds == [1, 0, 0, 1]


@pytest.mark.parametrize(("groups", "folds"), [(["a"], 2), (["a", "b"], 1), (["a", "b"], 3)])
def test_impossible_folds(groups, folds):
    with pytest.raises(ConfigError, match="folds"):
        assign_folds(groups, [place(0, 20 * k) for k in range(len(groups))], folds)


def test_fewer_places_than_folds():
    groups = ["a", "a", "b", "b"]
    with pytest.raises(ConfigError, match="fewer places"):
        assign_folds(groups, [place(0, 20 * k) for k in range(4)], 3)


@pytest.fixture
def track(tmp_path):
    """Records of five scenes that follow each other to the south and overlap by half, and of a
    scene that is its own truth, on the ground of the second."""
    samples = [nested(source.load(), 4, Shift(0.0, 0.0, 1.0)) for source in made_track(5)]
    samples += [replace(samples[1], name="fine", scene="fine", origin="degraded")]
    write_samples(tmp_path / "track", samples)
    return tmp_path / "track", {sample.name: sample for sample in samples}


def test_no_point_of_training_lies_in_a_tested_scene(track, tmp_path):
    folder, whole = track
    hidden = 0
    seen = []
    for fold in range(2):
        metadata = fold_records(folder, fold, 2, tmp_path / f"fold{fold}")
        tested = list(iterate_samples(tmp_path / f"fold{fold}", "test"))
        seen += [sample.name for sample in tested]
        for sample in tested:
            np.testing.assert_array_equal(sample.truth_kelvin, whole[sample.name].truth_kelvin)
            assert metadata.scenes[sample.name].records == {"test": 1}
        training = list(iterate_samples(tmp_path / f"fold{fold}", "train"))
        # The fine scene lies on observed ground altogether: nothing is left of it.
        assert {sample.name for sample in training} == set(whole) - {s.name for s in tested} - {
            "fine"
        }
        hidden += hidden_points(training, tested, whole)
        assert metadata.settings["fold"] == fold
        assert metadata.counts == {"train": 5 - len(tested), "validation": 0, "test": len(tested)}
    assert sorted(seen) == ["0", "1", "2", "3", "4"]
    assert hidden > 100


def hidden_points(training, tested, whole) -> int:
    """Looks at the centre of each training pixel with truth, by degrees; counts hidden ones."""
    hidden = 0
    for sample in training:
        rows, columns = np.nonzero(np.isfinite(sample.truth_kelvin))
        before = whole[sample.name].truth_kelvin
        hidden += int(np.isfinite(before).sum()) - len(rows)
        np.testing.assert_array_equal(sample.truth_kelvin[rows, columns], before[rows, columns])
        x, y = sample.fine_grid.transform @ (columns + 0.5, rows + 0.5)
        for other in tested:
            grid = other.fine_grid
            there = Transformer.from_crs(sample.grid.crs, grid.crs, always_xy=True)
            column, row = ~grid.transform @ there.transform(x, y)
            inside = (column > 0) & (column < grid.width) & (row > 0) & (row < grid.height)
            assert not inside.any(), (sample.name, other.name)
    return hidden


def test_all_scenes_train_the_final_model_and_the_same_call_gives_the_same_bytes(track, tmp_path):
    folder, whole = track
    metadata = fold_records(folder, None, 2, tmp_path / "all")
    assert metadata.counts == {"train": 5, "validation": 0, "test": 0}
    for sample in iterate_samples(tmp_path / "all", "train"):
        np.testing.assert_array_equal(sample.truth_kelvin, whole[sample.name].truth_kelvin)
    fold_records(folder, None, 2, tmp_path / "again")
    for path in (tmp_path / "all").iterdir():
        assert (tmp_path / "again" / path.name).read_bytes() == path.read_bytes()


def test_a_fine_scene_elsewhere_is_in_every_training(tmp_path):
    samples = [coordinate_sample(number, truth=True) for number in range(4)]
    samples[3] = replace(samples[3], origin="degraded")
    write_samples(tmp_path / "records", samples)
    for fold in (0, 1, 2, None):
        fold_records(tmp_path / "records", fold, 3, tmp_path / f"fold{fold}")
        names = [sample.name for sample in iterate_samples(tmp_path / f"fold{fold}", "train")]
        assert "scene3" in names and len(names) == (4 if fold is None else 3)


@pytest.fixture
def places(track, tmp_path):
    """Records of the track, and of degraded places elsewhere: a large one with two dates in two
    draws, files of another name on a part of its ground, three small ones; and one on the track."""
    _, whole = track
    samples = [sample for sample in whole.values() if sample.origin == "observed"]
    large = replace(samples[0], origin="degraded", group="large")
    for date in ("1_day", "2_night"):
        for draw in (1, 2):
            name, grid = f"large/{date}#{draw}", large.grid.shifted(500, 0)
            samples.append(replace(large, name=name, scene=name, grid=grid))
    over = large.grid.shifted(507, 3)
    samples.append(replace(large, name="file", scene="file", group="files", grid=over))
    for number in range(3):
        name, grid = f"small{number}/1_day#1", large.grid.shifted(700 + 50 * number, 0)
        samples.append(
            replace(large, name=name, scene=name, group=name.partition("/")[0], grid=grid)
        )
    half = samples[4].grid.shifted(10, 0)
    samples.append(replace(large, name="beside", scene="beside", group="beside", grid=half))
    write_samples(tmp_path / "places", samples)
    return tmp_path / "places", {sample.name: sample for sample in samples}


def test_places_are_dealt_out_whole_by_their_size(places):
    metadata = load_metadata(places[0])
    dealt = degraded_folds(metadata, 3)
    assert list(dealt) == sorted(n for n in places[1] if places[1][n].origin == "degraded")
    large = {fold for name, fold in dealt.items() if name.startswith(("large", "file"))}
    assert large == {0}, "the largest comes first, with what lies on its ground"
    # The other four are of one size and follow by name: to folds 1 and 2, and back again.
    others = [dealt[name] for name in ("beside", *(f"small{n}/1_day#1" for n in range(3)))]
    assert others == [1, 2, 2, 1]
    assert degraded_folds(load_metadata(places[0]), 3) == dealt
    only = metadata.model_copy(update={"scenes": {"0": metadata.scenes["0"]}})
    assert degraded_folds(only, 3) == {}


def test_no_point_of_training_lies_in_a_tested_place_or_pair(places, tmp_path):
    folder, whole = places
    hidden, seen = 0, []
    for fold in range(2):
        metadata = fold_records(folder, fold, 2, tmp_path / f"fold{fold}", test_degraded=True)
        tested = list(iterate_samples(tmp_path / f"fold{fold}", "test"))
        training = list(iterate_samples(tmp_path / f"fold{fold}", "train"))
        hidden += hidden_points(training, tested, whole)
        seen += [sample.name for sample in tested]
        kept_out = {n for n, own in degraded_folds(load_metadata(folder), 2).items() if own == fold}
        # Further draws of what is tested neither teach nor test.
        assert not kept_out & {sample.name for sample in training}
        assert {"large/1_day#2", "large/2_night#2"} <= kept_out or fold == 1
        assert metadata.settings["test_degraded"] is True
        for sample in tested:
            np.testing.assert_array_equal(sample.truth_kelvin, whole[sample.name].truth_kelvin)
    assert sorted(seen) == sorted(name for name in whole if not name.endswith("#2"))
    assert hidden > 100


def test_what_cannot_be_folded_is_named(records, track, tmp_path):
    with pytest.raises(RecordsError, match=r"no fine truth.*--truth"):
        fold_records(records(), 0, 2, tmp_path / "out")
    folder, _ = track
    with pytest.raises(ConfigError, match=r"fold: .*found 2.*0 to 1"):
        fold_records(folder, 2, 2, tmp_path / "out")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match="the output folder is not empty"):
        fold_records(folder, 0, 2, tmp_path / "mine")


@pytest.mark.real_data
def test_real_pairs_fall_into_even_folds(lstsr_data, tmp_path):
    pairs = find_pairs(lstsr_data / "modis_aster")
    groups = [pair.group for pair in pairs]
    folds = assign_folds(groups, [Grid.of(pair.lst) for pair in pairs])
    assert sorted(Counter(folds).values()) == [13, 13, 14, 14]
    largest = Counter(groups).most_common(1)[0][0]
    for group in set(groups) - {largest}:
        assert len({f for f, own in zip(folds, groups, strict=True) if own == group}) == 1


@pytest.mark.real_data
@pytest.mark.slow
def test_real_pairs_do_not_leak(lstsr_data, tmp_path):
    scenes = [cropped_to_guides(p.load(), 4) for p in find_pairs(lstsr_data / "modis_aster")]
    whole = {scene.name: nested(scene, 4, Shift(-0.77, -1.02, 1.0)) for scene in scenes}
    write_samples(tmp_path / "records", list(whole.values()))
    hidden = 0
    for fold in range(4):
        metadata = fold_records(tmp_path / "records", fold, 4, tmp_path / f"fold{fold}")
        assert metadata.counts["train"] + metadata.counts["test"] == 54
        tested = list(iterate_samples(tmp_path / f"fold{fold}", "test"))
        training = list(iterate_samples(tmp_path / f"fold{fold}", "train"))
        hidden += hidden_points(training, tested, whole)
    assert hidden > 10_000
    by_size = Counter(scene_folds(metadata, 4).values())
    assert sorted(by_size.values()) == [13, 13, 14, 14]
