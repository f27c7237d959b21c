from __future__ import annotations

import keras
import numpy as np
import pytest

from keras_lstsr.config import LOSSES, Loss, LossConfig
from keras_lstsr.config.losses import register_loss
from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import (
    AlphaWeight,
    DetailLoss,
    MaskedMeanSquaredError,
    MeanGradientError,
    MixedGradientLoss,
    ScaleInvarianceFreeLoss,
    build_loss,
    build_loss_metrics,
)


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
        ({"name": "mse", "preset": "report"}, r"loss\.preset.*set loss\.name to mixgl"),
        (
            {"name": "sif", "alpha_schedule": {"kind": "constant"}},
            r"loss\.alpha_schedule.*set loss\.name to mixgl",
        ),
        ({"name": "mixgl", "options": {"name": "x"}}, r"loss\.options\.name"),
        ({"name": "huber", "options": {"keywords": {}}}, r"loss\.options\.keywords"),
        ({"name": "huber", "options": {"delta_kelvin": 0}}, r"loss\.options\.delta_kelvin"),
        ({"name": "charbonnier", "options": {"epsilon_kelvin": -1}}, "epsilon_kelvin"),
        ({"name": "mae", "options": {"delta_kelvin": 1}}, r"delta_kelvin.*scale_kelvin"),
        ({"name": "mixgl", "preset": "paper_2022"}, r"loss\.preset.*set loss\.name to mse"),
        ({"name": "sif", "preset": "report"}, r"loss\.preset.*set loss\.name to mixgl"),
        ({"name": "sif", "options": {"psf": "airy"}}, r"psf.*'gaussian' or 'norm_l4' or 'box'"),
        ({"name": "sif", "options": {"mtf_at_nyquist": 1}}, r"loss\.options\.mtf_at_nyquist"),
        ({"name": "sif", "options": {"directions": 3}}, r"directions.*2 or 4"),
        ({"name": "perceptual", "options": {"weights": "no.h5"}}, r"no\.h5.*weights.*no such file"),
        (
            {"name": "perceptual", "options": {"weights": None, "layers": "block2_pool"}},
            r"loss\.options\.layers.*'block2_pool'.*block1_conv1",
        ),
    ],
)
def test_errors_name_the_option(settings, named):
    with pytest.raises(ConfigError, match=named):
        build_loss(LossConfig.model_construct(**settings))


def test_preset_of_the_paper_is_mse_in_kelvin():
    loss = build_loss(LossConfig(name="mse", preset="paper_2022"))
    assert loss.get_config() == MaskedMeanSquaredError(1.0).get_config()


class TestMetrics:
    def names(self, **settings) -> list[str]:
        config = LossConfig(**settings)
        return [metric.name for metric in build_loss_metrics(config, build_loss(config))]

    def test_losses_without_a_guide_have_none(self):
        assert self.names(name="mse") == self.names(name="huber") == []

    def test_the_right_gradient_error_and_that_of_the_loss(self):
        assert self.names(name="sif") == self.names(name="mixgl") == ["mean_gradient_error"]
        assert self.names(name="mixgl", alpha=0.9) == ["mean_gradient_error"]
        assert self.names(name="self_supervised") == ["mean_gradient_error"]
        both = ["mean_gradient_error", "loss_mean_gradient_error"]
        assert self.names(name="mixgl", preset="report") == both

    def test_a_schedule_shows_its_alpha(self):
        schedule = {"kind": "linear", "end": 1.0, "epochs": 4}
        assert self.names(name="mixgl", alpha_schedule=schedule)[-1] == "alpha"

    def test_they_come_back_from_their_configuration(self):
        loss = MixedGradientLoss(0.3, gradient="sobel_report")
        for metric in (AlphaWeight(loss), MeanGradientError({"edge_crop": 3}, name="mge")):
            again = keras.saving.deserialize_keras_object(
                keras.saving.serialize_keras_object(metric)
            )
            assert type(again) is type(metric)
            assert again.get_config() == metric.get_config()


def test_the_guided_losses_are_those_that_read_ndvi():
    for name in ("mse", "mae", "huber", "charbonnier", "mixgl", "sif"):
        loss = build_loss(LossConfig(name=name))
        one_channel = np.full((1, 8, 8, 1), 300.0, dtype="float32")
        if LossConfig(name=name).needs_guide:
            assert isinstance(loss, MixedGradientLoss | ScaleInvarianceFreeLoss)
            with pytest.raises(ConfigError, match="NDVI"):
                loss(one_channel, one_channel)
        else:
            loss(one_channel, one_channel)


def test_detail_by_name_and_option():
    loss = build_loss(LossConfig(name="detail", options={"std_weight": 0.3}))
    assert isinstance(loss, DetailLoss) and loss.std_weight == 0.3


def test_a_registered_loss_is_known_by_name(monkeypatch):
    own = Loss(MaskedMeanSquaredError, fine_truth=False)
    monkeypatch.setitem(LOSSES, "own", LOSSES["mae"])
    register_loss("own", own, replace=True)
    config = LossConfig(name="own", options={"scale_kelvin": 5.0})
    assert build_loss(config).scale_kelvin == 5.0 and not config.needs_fine_truth
    with pytest.raises(ConfigError, match=r"loss\.name.*mse"):
        register_loss("mse", own)
