"""Settings are validated, immutable and round-trip through YAML."""

from __future__ import annotations

import pydantic
import pytest

from keras_lstsr.config import ExperimentConfig, GuidedModelConfig, ModelConfig
from keras_lstsr.errors import ConfigError


def test_round_trip(tmp_path):
    config = ExperimentConfig.from_dict(
        {"data": {"task": "1km_to_250m"}, "loss": {"name": "mixgl", "alpha": 0.01}}
    )
    config.to_yaml(tmp_path / "config.yaml")
    assert ExperimentConfig.from_yaml(tmp_path / "config.yaml") == config


def test_round_trip_of_a_schedule_and_of_lists(tmp_path):
    loss = {
        "name": "mixgl",
        "alpha_schedule": {"kind": "cosine", "end": 0.9, "epochs": 20},
        "options": {"gradient": "sobel", "edge_crop": 2},
    }
    layers = {"name": "perceptual", "options": {"layers": ["block1_conv1"], "weights": None}}
    for content in (loss, layers):
        config = ExperimentConfig.from_dict({"loss": content})
        config.to_yaml(tmp_path / "config.yaml")
        again = ExperimentConfig.from_yaml(tmp_path / "config.yaml")
        assert again == config
        assert again.loss.options == content["options"]


@pytest.mark.parametrize("name", ["mixgl", "sif"])
def test_guided_losses_do_without_fine_truth(name):
    config = ExperimentConfig.from_dict({"data": {"task": "1km_to_250m"}, "loss": {"name": name}})
    assert config.loss.needs_guide
    assert not config.loss.needs_fine_truth


def test_the_guided_network_is_told_by_its_architecture(tmp_path):
    content = {
        "model": {"architecture": "guided", "width": 8},
        "loss": {"name": "detail", "options": {"std_weight": 0.2}},
        "data": {"task": "1km_to_250m", "crop_pixels": 24, "variation": {}},
    }
    config = ExperimentConfig.from_dict(content)
    assert isinstance(config.model, GuidedModelConfig)
    assert config.model.guides == ("ndvi",) and config.model.gives_std
    assert config.loss.needs.target_channels == ("spread",) and config.loss.needs_fine_truth
    config.to_yaml(tmp_path / "config.yaml")
    assert ExperimentConfig.from_yaml(tmp_path / "config.yaml") == config


@pytest.mark.parametrize(
    "training",
    [
        {"optimizer": "adamw", "weight_decay": 1e-4, "clip_norm": 1.0, "ema_momentum": 0.995},
        {"schedule": {"kind": "cosine", "warmup_steps": 100, "final_share": 0.1}, "keep": "last"},
    ],
)
def test_round_trip_of_training(tmp_path, training):
    config = ExperimentConfig.from_dict({"training": training})
    config.to_yaml(tmp_path / "config.yaml")
    assert ExperimentConfig.from_yaml(tmp_path / "config.yaml") == config
    assert config.training.needs_validation == (config.training.keep == "best")


def test_immutable():
    with pytest.raises(pydantic.ValidationError):
        ExperimentConfig().model.width = 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: {width: 0}", "model.width"),
        ("model: {widht: 8}", "model.widht"),
        ("training: {batch_size: many}", "training.batch_size"),
        ("loss: {name: wavelet}", "loss.name: .*mse.*detail"),
        ("loss: {name: detail}", "detail needs a network that gives a standard deviation"),
        ("model: {architecture: guided}", "mse does not teach the standard deviation.*detail"),
        (
            "{model: {architecture: guided, depth: 3}, loss: {name: detail}}",
            r"bad.yaml.*model.depth",
        ),
        ("model: {architecture: guided, wide_window_pixels: 6}", "model.wide_window_pixels.*odd"),
        ("model: {architecture: guided, guides: [evi]}", "model.guides.*names of guides: ndvi"),
        ("model: 3", "model: .*valid dictionary"),
        ("data: {degraded_share: 0.1}", "set crop_pixels"),
        ("data: {group_power: 0.5}", "group_power applies to crops"),
        ("data: {variation: {gap_cover: [0.5, 0.1]}}", "data.variation.gap_cover"),
        ("training: {schedule: {kind: drop}}", "training.schedule.*needs drop_epoch"),
        ("training: {schedule: {kind: cosine, drop_epoch: 3}}", "drop_epoch belongs to kind drop"),
        ("training: {weight_decay: 0.1}", "weight_decay belongs to optimizer adamw"),
        ("training: {learning_rate_drop_epoch: 9}", r"It is now training.schedule: {kind: drop"),
        ("folds: 4", "It is now cross_validation.folds"),
        ("loss: {alpha_schedule: {kind: linear, end: 2, epochs: 3}}", "loss.alpha_schedule.end"),
        ("loss: {alpha_schedule: {kind: cosine, end: 1}}", "kind cosine needs epochs"),
        ("loss: {alpha_schedule: {kind: step, epochs: 3}}", "kind step needs end"),
        ("loss: {alpha_schedule: {kind: constant, end: 1}}", "a constant alpha has no end"),
        ("- 1", "mapping"),
        ("a: [", "YAML"),
    ],
)
def test_bad_settings_are_named(tmp_path, text, named):
    path = tmp_path / "bad.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=named) as caught:
        ExperimentConfig.from_yaml(path)
    assert "bad.yaml" in str(caught.value)


def test_missing_file_is_named(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.yaml"):
        ExperimentConfig.from_yaml(tmp_path / "nowhere.yaml")


def test_statistics_fill_the_normalisation():
    statistics = {"mean_kelvin": 290.0, "std_kelvin": 8.0, "max_kelvin": 333.0}
    standard = ModelConfig().with_statistics(**statistics)
    assert (standard.offset_kelvin, standard.scale_kelvin) == (290.0, 8.0)
    by_max = ModelConfig(normalisation="max").with_statistics(**statistics)
    assert (by_max.offset_kelvin, by_max.scale_kelvin) == (0.0, 333.0)
    given = ModelConfig(offset_kelvin=280.0, scale_kelvin=5.0).with_statistics(**statistics)
    assert (given.offset_kelvin, given.scale_kelvin) == (280.0, 5.0)


@pytest.mark.parametrize(
    ("architecture", "shape"),
    [
        ("mrunet", {"width": 64, "variant": "strided", "depth": 4, "bridge_blocks": 1}),
        ("vdsr", {"width": 64, "depth": 20}),
        ("dmcn", {"width": 64}),
        ("srcnn", {"width": 64}),
        ("edsr", {"width": 64, "depth": 16}),
    ],
)
def test_networks_have_their_published_shape(tmp_path, architecture, shape):
    config = ExperimentConfig.from_dict({"model": {"architecture": architecture}})
    assert config.model.shape == shape
    config.to_yaml(tmp_path / "config.yaml")
    assert ExperimentConfig.from_yaml(tmp_path / "config.yaml") == config


def test_networks_are_named_with_their_variant():
    assert ModelConfig(variant="maxpool").network == "mrunet_maxpool"
    assert ModelConfig(architecture="edsr").network == "edsr"


@pytest.mark.parametrize(
    ("model", "named"),
    [
        ({"architecture": "unet"}, r"model\.architecture: .*'mrunet'.*'edsr'"),
        (
            {"architecture": "vdsr", "variant": "maxpool"},
            r"model\.variant: .*does not apply to architecture vdsr, which takes width, depth",
        ),
        ({"architecture": "edsr", "bridge_blocks": 0}, r"model\.bridge_blocks: .*not apply"),
        ({"architecture": "dmcn", "depth": 4}, r"model\.depth: .*dmcn, which takes width"),
        ({"architecture": "srcnn", "depth": 3}, r"model\.depth: .*not apply"),
        ({"depth": 7}, r"model\.depth: .*between 1 and 6 for architecture mrunet; found 7"),
        ({"depth": 0}, r"model\.depth"),
        ({"architecture": "vdsr", "depth": 1}, r"model\.depth: .*between 2 and"),
        ({"bridge_blocks": -1}, r"model\.bridge_blocks"),
        ({"padding": "same"}, r"model\.padding"),
    ],
)
def test_settings_of_another_network_are_named(model, named):
    with pytest.raises(ConfigError, match=named):
        ExperimentConfig.from_dict({"model": model})
