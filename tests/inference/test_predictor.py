from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from keras_lstsr.artifacts import loading
from keras_lstsr.artifacts.contract import Contract
from keras_lstsr.artifacts.loading import weights_sha256
from keras_lstsr.artifacts.model_folder import ModelCard
from keras_lstsr.artifacts.saved_model import newest_version_dir
from keras_lstsr.errors import ModelError, ServingError
from keras_lstsr.grids.resample import upsample_bicubic
from keras_lstsr.inference.connection import server_address
from keras_lstsr.inference.predictor import (
    KerasPredictor,
    Predictor,
    SavedModelPredictor,
    load_predictor,
)
from keras_lstsr.testing.models import write_model_folder
from keras_lstsr.testing.rasters import guide_values, lst_values


@pytest.fixture(scope="module")
def predictors(tiny_model, tiny_models_dir):
    return KerasPredictor(tiny_model, {"run_name": "tiny"}), SavedModelPredictor(tiny_models_dir)


@pytest.fixture(scope="module")
def run_dir(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run")
    tiny_model.save(folder / "model.keras")
    (folder / "run.json").write_text(json.dumps({"run_name": "bold-bear"}))
    return folder


@pytest.mark.parametrize("shape", [(1, 16, 16), (3, 17, 23), (1, 5, 7), (2, 1, 2), (1, 64, 33)])
def test_keras_and_saved_model_agree_at_any_size(predictors, shape):
    values = lst_values(*shape, 1, gaps=0.1)
    results = [predictor.predict(values).lst_kelvin for predictor in predictors]
    batch, height, width = shape
    for result in results:
        assert result.shape == (batch, 4 * height, 4 * width, 1)
        assert result.dtype == np.float32
        missing = np.repeat(np.repeat(np.isnan(values), 4, axis=1), 4, axis=2)
        np.testing.assert_array_equal(np.isnan(result), missing)
    np.testing.assert_allclose(results[0], results[1], rtol=0, atol=1e-4)


def test_the_network_under_test_really_adds_detail(predictors):
    values = lst_values(1, 32, 32, 1)
    fine = predictors[1].predict(values)
    older = SavedModelPredictor(predictors[1].path.parent / "1").predict(values)
    assert np.abs(fine.lst_kelvin - older.lst_kelvin).max() > 0.1  # other weights, another result


def test_both_are_predictors_of_one_provenance(predictors, tiny_model):
    for predictor in predictors:
        assert isinstance(predictor, Predictor)
        assert predictor.scale_factor == 4
        assert predictor.provenance["run_name"] == "tiny"
        assert predictor.provenance["weights_sha256"] == weights_sha256(tiny_model)
    assert [predictor.contract.model_version for predictor in predictors] == [0, 2]


@pytest.mark.parametrize("number", [0, 1])
def test_celsius_raw_integers_and_wrong_shapes_are_refused(predictors, number):
    predictor = predictors[number]
    with pytest.raises(ModelError, match="degrees Celsius"):
        predictor.predict(lst_values(1, 8, 8, 1) - 273.15)
    with pytest.raises(ModelError, match=r"multiply by 0\.02"):
        predictor.predict(lst_values(1, 8, 8, 1) * 50)
    with pytest.raises(ModelError, match="wrong shape"):
        predictor.predict(lst_values(1, 8, 8, 1)[..., 0])


def test_whatever_holds_a_model_is_recognised(run_dir, tiny_models_dir):
    by_run = load_predictor(run_dir)
    assert isinstance(by_run, KerasPredictor)
    assert by_run.provenance["run_name"] == "bold-bear"
    assert isinstance(load_predictor(run_dir / "model.keras"), KerasPredictor)
    newest = load_predictor(tiny_models_dir)
    assert isinstance(newest, SavedModelPredictor)
    assert newest.path == tiny_models_dir / "2"
    assert load_predictor(tiny_models_dir / "1").contract.model_version == 1


def test_not_exactly_one_model_is_an_error(tiny_models_dir):
    with pytest.raises(ModelError, match="neither"):
        load_predictor()
    with pytest.raises(ModelError, match="both"):
        load_predictor(tiny_models_dir, server="localhost:8500")


@pytest.mark.parametrize("name", ["nothing", "empty", "file.h5"])
def test_what_holds_no_model_is_named(tmp_path, name):
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelError, match=name):
        load_predictor(tmp_path / name)


def test_versions_are_compared_as_numbers(tmp_path):
    for name in ("2", "10", "x", ".11.partial-ab"):
        (tmp_path / name).mkdir()
    assert newest_version_dir(tmp_path) == tmp_path / "10"


@pytest.mark.parametrize("damage", ["graph", "weights", "no weights"])
def test_a_damaged_saved_model_gets_a_clear_error(tiny_models_dir, tmp_path, damage):
    version = tmp_path / "1"
    shutil.copytree(tiny_models_dir / "2", version)
    weights = version / "variables" / "variables.data-00000-of-00001"
    file = version / "saved_model.pb" if damage == "graph" else weights
    if damage == "no weights":
        file.unlink()
    else:
        file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    with pytest.raises(ModelError, match=rf"{version}.*cannot be loaded.*export it again"):
        SavedModelPredictor(tmp_path)


def test_a_saved_model_of_somebody_else_is_refused(tmp_path, tiny_models_dir):
    import tensorflow as tf

    tf.saved_model.save(tf.Module(), str(tmp_path / "1"))
    with pytest.raises(ModelError, match="no readable contract"):
        SavedModelPredictor(tmp_path)
    shutil.copy(tiny_models_dir / "2" / "contract.json", tmp_path / "1")
    with pytest.raises(ModelError, match="not exported by keras-lstsr"):
        SavedModelPredictor(tmp_path)


@pytest.mark.parametrize(
    ("address", "bare"),
    [("localhost:8500", "localhost:8500"), ("grpc://10.0.0.1:1/", "10.0.0.1:1")],
)
def test_server_addresses(address, bare):
    assert server_address(address) == bare


@pytest.mark.parametrize("address", ["localhost", ":8500", "localhost:http", "localhost:99999"])
def test_what_is_no_server_address_is_refused(address):
    with pytest.raises(ServingError, match="not a server address"):
        server_address(address)


def test_the_contract_of_both_is_the_same_but_for_the_export(predictors):
    keras_contract, exported = (predictor.contract for predictor in predictors)
    assert isinstance(keras_contract, Contract)
    assert keras_contract.inputs == exported.inputs
    assert keras_contract.outputs == exported.outputs
    assert keras_contract.minimum_size_pixels == exported.minimum_size_pixels


@pytest.fixture(scope="module")
def guided(tiny_guided_model, tiny_guided_models_dir):
    return KerasPredictor(tiny_guided_model), SavedModelPredictor(tiny_guided_models_dir)


@pytest.mark.parametrize("with_guide", [True, False])
@pytest.mark.parametrize("shape", [(1, 16, 16), (2, 17, 23), (1, 1, 3)])
def test_guided_keras_and_saved_model_agree_at_any_size(guided, shape, with_guide):
    values = lst_values(*shape, 1, gaps=0.1)
    batch, height, width = shape
    guides = {"ndvi": guide_values(batch, 4 * height, 4 * width, 1, gaps=0.1)} if with_guide else {}
    first, second = (predictor.predict(values, guides) for predictor in guided)
    missing = np.repeat(np.repeat(np.isnan(values), 4, axis=1), 4, axis=2)
    for one, other in (
        (first.lst_kelvin, second.lst_kelvin),
        (first.std_kelvin, second.std_kelvin),
        (first.guide_followed, second.guide_followed),
    ):
        assert one.shape == (batch, 4 * height, 4 * width, 1)
        assert one.dtype == other.dtype == np.float32
        np.testing.assert_array_equal(np.isnan(one), missing)
        np.testing.assert_allclose(one, other, rtol=0, atol=1e-4)
    assert (first.std_kelvin[~missing] > 0).all()
    followed = first.guide_followed[~missing]
    assert 0 <= followed.min() <= followed.max() <= 1
    if min(shape[1:]) > 1 or not with_guide:
        assert (followed > 0).any() == with_guide
    alone = guided[0].predict(values, guides, outputs=[])
    np.testing.assert_array_equal(alone.lst_kelvin, first.lst_kelvin)
    assert alone.std_kelvin is None and alone.guide_followed is None


def test_no_guide_is_a_guide_that_is_missing_throughout(guided):
    values = lst_values(1, 12, 12, 1, gaps=0.1)
    nothing = np.full((1, 48, 48, 1), np.nan, np.float32)
    without, missing, with_ndvi = (
        guided[0].predict(values, guides).lst_kelvin
        for guides in ({}, {"ndvi": nothing}, {"ndvi": guide_values(1, 48, 48, 1, gaps=0.1)})
    )
    np.testing.assert_array_equal(missing, without)
    assert np.nanmax(np.abs(with_ndvi - without)) > 0.1


def test_predictors_say_which_guides_they_take(predictors, guided):
    taken = [list(predictor.contract.guides) for predictor in (*predictors, *guided)]
    assert taken == [[], [], ["ndvi"], ["ndvi"]]
    assert all(isinstance(predictor, Predictor) for predictor in (*predictors, *guided))


@pytest.mark.parametrize("number", [0, 1])
def test_a_model_of_one_image_refuses_a_guide_and_gives_no_std(predictors, number):
    values = lst_values(1, 8, 8, 1)
    with pytest.raises(ModelError, match="takes no guide"):
        predictors[number].predict(values, {"ndvi": guide_values(1, 32, 32, 1)})
    prediction = predictors[number].predict(values)
    assert prediction.std_kelvin is None and prediction.guide_followed is None


@pytest.mark.parametrize("number", [0, 1])
def test_guides_that_do_not_fit_are_refused(guided, number):
    with pytest.raises(ModelError, match="fine grid"):
        guided[number].predict(lst_values(1, 8, 8, 1), {"ndvi": guide_values(1, 8, 8, 1)})
    with pytest.raises(ModelError, match="cannot be NDVI"):
        guided[number].predict(
            lst_values(1, 8, 8, 1), {"ndvi": guide_values(1, 32, 32, 1) * 10_000}
        )
    with pytest.raises(ModelError, match="water: this model takes no such guide"):
        guided[number].predict(lst_values(1, 8, 8, 1), {"water": guide_values(1, 32, 32, 1)})


def test_an_untrained_guided_model_is_bicubic_without_a_guide(untrained_guided_model):
    values = lst_values(1, 20, 24, 1)
    prediction = KerasPredictor(untrained_guided_model).predict(values)
    expected = upsample_bicubic(values[0, ..., 0], 4)
    np.testing.assert_allclose(prediction.lst_kelvin[0, ..., 0], expected, rtol=0, atol=1e-3)
    assert (prediction.std_kelvin > 0).all()


@pytest.fixture
def shipped(tmp_path, monkeypatch, tiny_guided_model):
    """Puts other weights in the place of those that come with the package."""
    monkeypatch.setattr(loading, "WEIGHTS_FOLDER", tmp_path)
    card = ModelCard(name="guided", guides=("ndvi",), learnt_from={"000": ("ab" * 32,)})
    return write_model_folder(
        tmp_path / "guided-9", tiny_guided_model, card=card, dataset_fingerprint="ab"
    )


def test_the_pretrained_model_loads_with_its_card_by_either_name(
    shipped, tiny_model, tiny_guided_model
):
    write_model_folder(shipped.path.with_name("guided-2"), tiny_model)
    for predictor in (load_predictor("pretrained"), load_predictor("guided-9")):
        assert list(predictor.contract.guides) == ["ndvi"]
        assert predictor.provenance["run_name"] == "guided-9"
        assert predictor.provenance["dataset_fingerprint"] == "ab"
        assert predictor.provenance["weights_sha256"] == weights_sha256(tiny_guided_model)
        assert predictor.provenance["model_card"]["learnt_from"] == {"000": ["ab" * 32]}
    assert load_predictor("guided-2").contract.guides == {}


def test_missing_or_damaged_pretrained_files_get_clear_errors(shipped, tmp_path):
    shipped.card.write_text("[]")
    with pytest.raises(ModelError, match=r"guided-9.card\.json: .*expected a mapping"):
        load_predictor("pretrained")
    shutil.rmtree(shipped.path)
    with pytest.raises(ModelError, match=rf"{tmp_path}: the pretrained weights are missing"):
        load_predictor("pretrained")


@pytest.mark.slow
def test_a_guided_model_predicts_the_same_on_jax(tiny_guided_model, guided, tmp_path):
    tiny_guided_model.save(tmp_path / "model.keras")
    values, ndvi = lst_values(1, 12, 12, 1, gaps=0.1), guide_values(1, 48, 48, 1, gaps=0.1)
    np.savez(tmp_path / "in.npz", lst=values, ndvi=ndvi)
    code = (
        "import sys, numpy as np; from pathlib import Path\n"
        "from keras_lstsr.inference.predictor import load_predictor\n"
        "folder = Path(sys.argv[1]); given = np.load(folder / 'in.npz')\n"
        "p = load_predictor(folder / 'model.keras')\n"
        "a, b = p.predict(given['lst'], {'ndvi': given['ndvi']}), p.predict(given['lst'])\n"
        "np.savez(folder / 'out.npz', lst=a.lst_kelvin, std=a.std_kelvin, "
        "followed=a.guide_followed, alone=b.lst_kelvin)\n"
        "assert 'tensorflow' not in sys.modules\n"
    )
    subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        env={**os.environ, "KERAS_BACKEND": "jax"},
        check=True,
    )
    expected = guided[0].predict(values, {"ndvi": ndvi})
    result, alone = np.load(tmp_path / "out.npz"), guided[0].predict(values).lst_kelvin
    np.testing.assert_allclose(result["lst"], expected.lst_kelvin, rtol=0, atol=2e-3)
    np.testing.assert_allclose(result["std"], expected.std_kelvin, rtol=0, atol=2e-3)
    np.testing.assert_allclose(result["followed"], expected.guide_followed, rtol=0, atol=2e-3)
    np.testing.assert_allclose(result["alone"], alone, rtol=0, atol=2e-3)
