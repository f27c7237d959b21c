"""Methods and models are read from the command line's words and share one interface."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.methods import (
    PredictorMethod,
    choose_methods,
    label_and_path,
    parse_method,
)
from keras_lstsr.grids.grid import Grid
from keras_lstsr.inference.predictor import KerasPredictor
from keras_lstsr.sharpening import METHODS, SharpeningWarning, sharpen
from keras_lstsr.testing.samples import made_scene


def test_a_method_with_options_is_that_of_the_sharpening_room():
    sample = made_scene(coarse_pixels=10)
    result = parse_method("tsharp:residual=block")(sample).lst_kelvin
    expected = sharpen(sample.lst, sample.guides["ndvi"], method="tsharp", residual="block")
    np.testing.assert_array_equal(result.values, expected.values)


def test_a_method_that_needs_a_guide_says_so():
    bare = replace(made_scene(coarse_pixels=10), guides={})
    with pytest.raises(ConfigError, match="guide"):
        parse_method("tsharp")(bare)
    assert tuple(choose_methods(guided=False))[:3] == ("nearest", "bilinear", "bicubic")


def test_values_of_options_are_typed():
    method = parse_method("tsharp:a=1,b=0.5,c=true,d=block,e=1e-3")
    assert method.options == {"a": 1, "b": 0.5, "c": True, "d": "block", "e": 1e-3}
    assert [type(value) for value in method.options.values()] == [int, float, bool, str, float]


@pytest.mark.parametrize("text", ["tsharp:residual", "tsharp:=1", "tsharp:a=", "tsharp:a=1,,b=2"])
def test_unreadable_options(text):
    with pytest.raises(ConfigError, match="NAME:option=value"):
        parse_method(text)


def test_unknown_names():
    with pytest.raises(ConfigError, match="unknown method; found 'sharpest'; expected nearest"):
        choose_methods(["sharpest"])
    with pytest.raises(ConfigError, match="named twice"):
        choose_methods(["atprk", "atprk"])


def test_bicubic_is_always_there():
    assert list(choose_methods(["tsharp"])) == ["bicubic", "tsharp"]
    assert list(choose_methods(["tsharp", "bicubic"])) == ["tsharp", "bicubic"]


def test_without_a_choice_all_methods_are_compared_and_the_pretrained_model_if_there(
    untrained_guided_model, monkeypatch
):
    from keras_lstsr.evaluation import methods as room
    from keras_lstsr.inference import predictor

    monkeypatch.setattr(room, "shipped_weights", list)
    assert list(choose_methods()) == list(METHODS)
    monkeypatch.setattr(room, "shipped_weights", lambda: ["guided-1"])
    monkeypatch.setattr(
        predictor,
        "load_predictor",
        {"pretrained": KerasPredictor(untrained_guided_model)}.__getitem__,
    )
    methods = choose_methods()
    assert list(methods) == [*METHODS, "guided"]
    sample = made_scene(coarse_pixels=10)
    assert np.isfinite(methods["guided"](sample).lst_kelvin.values).all()


def with_constant_guide(sample):
    guide = sample.guides["ndvi"]
    return replace(sample, guides={"ndvi": guide.copy(data=np.full_like(guide.values, 0.5))})


def test_a_guided_network_gets_the_guide_and_no_other(untrained_guided_model):
    sample = made_scene(coarse_pixels=10)
    method = PredictorMethod(KerasPredictor(untrained_guided_model))
    result = method(sample).lst_kelvin
    without = method(with_constant_guide(sample)).lst_kelvin
    assert np.abs(result.values - without.values).max() > 0.05
    water = {"water": sample.guides["ndvi"], **sample.guides}
    again = method(replace(sample, guides=water)).lst_kelvin
    np.testing.assert_array_equal(again.values, result.values)


def test_a_fallback_is_no_warning_but_a_note():
    sample = with_constant_guide(made_scene(coarse_pixels=10))
    with warnings.catch_warnings():
        warnings.simplefilter("error", SharpeningWarning)
        refined = parse_method("tsharp")(sample)
    assert refined.note.startswith("bicubic, since")
    assert parse_method("tsharp")(made_scene(coarse_pixels=10)).note == ""


def test_labels_of_models(tmp_path):
    assert label_and_path("best=runs/first") == ("best", "runs/first")
    assert label_and_path("runs/first") == ("first", "runs/first")
    assert label_and_path("runs/first/model.keras") == ("first", "runs/first/model.keras")
    assert label_and_path("other.keras") == ("other", "other.keras")
    assert label_and_path("pretrained") == ("guided", "pretrained")
    odd = tmp_path / "lr=0.1"
    odd.mkdir()
    assert label_and_path(str(odd)) == (odd.stem, str(odd))


def test_a_network_is_a_method(tiny_model):
    sample = made_scene(coarse_pixels=10)
    result = PredictorMethod(KerasPredictor(tiny_model))(sample).lst_kelvin
    assert Grid.of(result) == Grid.of(sample.guides["ndvi"])


@pytest.mark.slow
def test_two_models_of_one_name_and_another_factor(tiny_models_dir, tmp_path):
    path = str(tiny_models_dir)
    methods = choose_methods(["nearest"], [path, f"again={path}"])
    assert list(methods) == ["bicubic", "nearest", tiny_models_dir.name, "again"]
    with pytest.raises(ConfigError, match="two methods have one name"):
        choose_methods([], [path, path])
    with pytest.raises(ConfigError, match="another factor"):
        choose_methods([], [path], factor=2)
