"""Records, scenes and pairs give the samples that lie in them, and are scored as they should."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError, ProductError, RecordsError
from keras_lstsr.evaluation.compare import compare
from keras_lstsr.evaluation.methods import choose_methods
from keras_lstsr.evaluation.scenes import find_scenes
from keras_lstsr.evaluation.sources import pairs_set, records_set, scenes_set
from keras_lstsr.files import sha256_of
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.resample import norm_l4, upsample_bicubic
from keras_lstsr.metrics import image
from keras_lstsr.testing.records import coordinate_sample, vegetated_sample, write_samples
from keras_lstsr.testing.samples import made_scene, write_pair


@pytest.fixture(scope="module")
def samples():
    """Three test samples, one with a gap, and one of another split."""
    made = [vegetated_sample(number, "test", truth=True) for number in range(3)]
    made[1].lst_kelvin[3:9, 20:25] = np.nan
    return [*made, vegetated_sample(7, "train", truth=True)]


@pytest.fixture(scope="module")
def records(samples, tmp_path_factory):
    folder = tmp_path_factory.mktemp("sources") / "records"
    write_samples(folder, samples)
    return folder


def test_records_give_their_samples_each_time_anew(records, samples):
    sources = records_set(records).sources
    for _ in range(2):
        read = [source.load() for source in sources]
        assert sorted(scene.name for scene in read) == ["test-0", "test-1", "test-2"]
        for scene in read:
            made = samples[int(scene.name[-1])]
            np.testing.assert_array_equal(scene.lst.values, made.lst_kelvin)
            np.testing.assert_array_equal(scene.guides["ndvi"].values, made.guides["ndvi"])
            np.testing.assert_array_equal(scene.truth.values, made.truth_kelvin)
            assert Grid.of(scene.lst) == made.grid
            assert Grid.of(scene.guides["ndvi"]) == Grid.of(scene.truth) == made.fine_grid
            assert (scene.day_night, scene.group) == ("day", made.group)
    assert len(list(records_set(records, limit=2).sources)) == 2


def test_only_training_samples_count_as_ground_that_their_files_have_taught(records):
    assert all(not source.load().files for source in records_set(records, "test").sources)
    (source,) = records_set(records, "train").sources
    assert list(source.load().files) == ["train-7.tif"]


def test_four_kilometre_figures_are_those_of_the_plain_arrays(records, samples):
    methods = choose_methods(["bicubic"])
    coarse, fine = compare(records_set(records), methods).results
    assert (coarse.name, fine.name) == ("patches_test", "patches_test_250m")
    assert coarse.main_metric == "rmse_kelvin"  # the truth is LST's own
    assert fine.main_metric == "bias_free_rmse_kelvin"  # it is another instrument's
    for number, image_name in enumerate(("test-0", "test-1", "test-2")):
        truth = samples[number].lst_kelvin
        bicubic = upsample_bicubic(norm_l4(truth, 4), 4)  # a NaN spreads over the kernel
        (score,) = (score for score in coarse.scores if score.image == image_name)
        for name in ("rmse_kelvin", "bias_kelvin", "psnr_db", "ssim"):
            expected = getattr(image, name.partition("_")[0])(truth, bicubic)
            assert score.values[name] == pytest.approx(expected, rel=1e-6), name
        assert score.scored_pixels == np.isfinite(truth - bicubic).sum()


def test_records_without_truth_are_scored_from_4_km_alone(tmp_path):
    made = [coordinate_sample(number, "test", guides=()) for number in range(2)]
    write_samples(tmp_path / "records", made)
    found = records_set(tmp_path / "records")
    assert [protocol.name for protocol in found.protocols] == ["patches_test"]
    assert not found.guided
    with pytest.raises(RecordsError, match="train is empty"):
        compare(records_set(tmp_path / "records", "train"), choose_methods(["bicubic"]))


@pytest.fixture(scope="module")
def rasters(tmp_path_factory):
    folder = tmp_path_factory.mktemp("rasters")
    for number in range(2):
        scene = made_scene(f"scene{number}", seed=number)
        write_pair(folder, scene)
    return folder


def test_scenes_bring_their_rasters_as_they_lie(rasters):
    one, two = (made_scene(f"scene{number}", seed=number) for number in range(2))
    lst, truth = f"{rasters}/scene1_lst_1km.tif", f"{rasters}/scene1_aster_lst_250m.tif"
    (source,) = find_scenes(lst, truth, {"ndvi": f"{rasters}/*1_ndvi_250m.tif"})
    scene = source.load()
    assert (source.name, scene.name, scene.group) == (*["scene1_lst_1km unknown"] * 2, "0")
    np.testing.assert_array_equal(scene.lst.values, two.lst.values)
    np.testing.assert_array_equal(scene.guides["ndvi"].values, two.guides["ndvi"].values)
    np.testing.assert_array_equal(scene.truth.values, two.truth.values)
    assert scene.files["scene1_lst_1km.tif"] == sha256_of(rasters / "scene1_lst_1km.tif")
    assert not np.array_equal(one.lst.values, two.lst.values)


def test_scenes_are_scored_on_the_grid_that_nests_in_lst(rasters):
    lst, truth = f"{rasters}/scene0_lst_1km.tif", f"{rasters}/scene0_aster_lst_250m.tif"
    samples = scenes_set(lst, truth, {"ndvi": f"{rasters}/scene0_ndvi_250m.tif"})
    (result,) = compare(samples, choose_methods(["tsharp"])).results
    # The truth is 320 K − 25 K · NDVI exactly.
    assert result.summary()["tsharp"]["rmse_kelvin"] < 2e-3
    assert result.name == "scenes" and result.main_metric == "rmse_kelvin"


def test_nothing_matches(rasters):
    with pytest.raises(ProductError, match="no file matches"):
        find_scenes(f"{rasters}/*.hdf", f"{rasters}/*.tif")


def test_unknown_protocols(pairs_dir):
    with pytest.raises(ConfigError, match="unknown protocol"):
        pairs_set(pairs_dir, protocols=["paper"])
