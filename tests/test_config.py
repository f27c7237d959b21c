"""Settings are validated, immutable and round-trip through YAML."""

from __future__ import annotations

import pydantic
import pytest

from keras_lstsr.config import ExperimentConfig, ModelConfig
from keras_lstsr.errors import ConfigError


def test_round_trip(tmp_path):
    config = ExperimentConfig.from_dict(
        {"data": {"task": "1km_to_250m"}, "loss": {"name": "mixgl", "alpha": 0.01}}
    )
    config.to_yaml(tmp_path / "config.yaml")
    assert ExperimentConfig.from_yaml(tmp_path / "config.yaml") == config


def test_immutable():
    with pytest.raises(pydantic.ValidationError):
        ExperimentConfig().model.width = 3


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("model: {width: 0}", "model.width"),
        ("model: {widht: 8}", "model.widht"),
        ("training: {batch_size: many}", "training.batch_size"),
        ("data: {task: 1km_to_250m}", "loss.name must be mixgl"),
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
