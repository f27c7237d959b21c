from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.config import LossConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import MaskedMeanSquaredError, MixedGradientLoss, build_loss


def test_default_is_masked_mse():
    assert isinstance(build_loss(LossConfig()), MaskedMeanSquaredError)


def test_mixgl_by_preset_alpha_and_option():
    default = build_loss(LossConfig(name="mixgl"))
    assert default.get_config() == MixedGradientLoss().get_config()
    report = build_loss(LossConfig(name="mixgl", preset="report"))
    assert report.get_config() == MixedGradientLoss.report().get_config()
    options = {"gradient": "sobel", "ndvi_scale_kelvin": -9.0}
    mixed = build_loss(LossConfig(name="mixgl", preset="report", alpha=0.25, options=options))
    assert (mixed.alpha, mixed.gradient, mixed.ndvi_scale_kelvin) == (0.25, "sobel", -9.0)
    assert mixed.components == "magnitude"


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"name": "mixgl", "options": {"sobel": True}}, r"loss\.options\.sobel.*gradient"),
        ({"name": "mixgl", "options": {"gradient": 3}}, r"loss\.options\.gradient"),
        ({"name": "mse", "options": {"edge_crop": 2}}, r"loss\.options\.edge_crop"),
        ({"name": "mse", "options": {"scale_kelvin": "ten"}}, r"loss\.options\.scale_kelvin"),
        ({"name": "mse", "alpha": 0.5}, r"loss\.alpha"),
        ({"name": "mse", "preset": "report"}, r"loss\.preset"),
        ({"name": "mixgl", "options": {"name": "x"}}, r"loss\.options\.name"),
    ],
)
def test_errors_name_the_option(settings, named):
    with pytest.raises(ConfigError, match=named):
        build_loss(LossConfig(**settings))


@pytest.mark.parametrize(
    "loss",
    [
        MaskedMeanSquaredError(scale_kelvin=12.0, name="error"),
        MixedGradientLoss(alpha=0.2, ndvi_scale_kelvin=-8.0, reduction="sum"),
        MixedGradientLoss.report(beta=0.5, dtype="float64"),
    ],
    ids=["mse", "mixgl", "report"],
)
def test_losses_come_back_from_their_configuration(loss):
    config = keras.saving.serialize_keras_object(loss)
    assert config["registered_name"].startswith("keras_lstsr>")
    again = keras.saving.deserialize_keras_object(config)
    assert again.get_config() == loss.get_config()
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.normal(300, 3, (2, 48, 48, 2)), rng.normal(300, 3, (2, 48, 48, 1))
    np.testing.assert_array_equal(again(y_true, y_pred), loss(y_true, y_pred))


class TestMaskedMeanSquaredError:
    def case(self) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(1)
        y_true, y_pred = rng.normal(300, 3, (3, 8, 8, 2)), rng.normal(300, 3, (3, 8, 8, 1))
        y_true[0, :4, :, 0] = np.nan
        y_pred[1, :, 5] = np.nan
        y_true[2, ..., 0] = np.nan
        return y_true, y_pred

    def test_is_nanmean_per_sample(self):
        y_true, y_pred = self.case()
        losses = MaskedMeanSquaredError(scale_kelvin=2.0, dtype="float64").call(
            keras.ops.convert_to_tensor(y_true), keras.ops.convert_to_tensor(y_pred)
        )
        squared = ((y_pred - y_true[..., :1]) / 2) ** 2
        expected = [*np.nanmean(squared[:2], axis=(1, 2, 3)), 0.0]
        np.testing.assert_allclose(losses, expected, rtol=1e-12)

    def test_batch_value_is_the_mean_over_samples(self):
        y_true, y_pred = self.case()
        loss = MaskedMeanSquaredError(dtype="float64")
        values = loss.call(keras.ops.convert_to_tensor(y_true), keras.ops.convert_to_tensor(y_pred))
        assert float(loss(y_true, y_pred)) == pytest.approx(float(np.mean(values)), rel=1e-12)

    def test_gradient(self, value_and_gradient):
        y_true, y_pred = self.case()
        loss = MaskedMeanSquaredError(dtype="float64")
        value, gradient = value_and_gradient(loss, y_true, y_pred)
        assert np.isfinite(value)
        error = y_pred - y_true[..., :1]
        count = np.isfinite(error).sum(axis=(1, 2, 3), keepdims=True)
        expected = np.where(np.isfinite(error), 2 * error / np.maximum(count, 1), 0)
        np.testing.assert_allclose(gradient, expected, rtol=1e-12)

    def test_divergence_shows_in_value_and_gradient(self, value_and_gradient):
        y_true = np.full((1, 4, 4, 1), 300.0)
        value, gradient = value_and_gradient(
            MaskedMeanSquaredError(dtype="float64"), y_true, np.full(y_true.shape, np.nan)
        )
        assert np.isnan(value)
        assert gradient.shape == y_true.shape
