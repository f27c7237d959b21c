"""What holds for every loss: its gradient, its gaps, its way through a file."""

from __future__ import annotations

import functools
import json
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import pytest

from keras_lstsr.losses import (
    MaskedCharbonnier,
    MaskedHuber,
    MaskedMeanAbsoluteError,
    MaskedMeanSquaredError,
    MixedGradientLoss,
    PerceptualLoss,
    ScaleInvarianceFreeLoss,
)

ROOT = Path(__file__).resolve().parents[2]
SHALLOW = {"weights": None, "layers": ["block1_conv1", "block2_conv1"]}
REPORT = {"alpha": 0.5, "edge_crop": 2, "scale_kelvin": 30.0}
LOSSES = {
    "mse": lambda dtype: MaskedMeanSquaredError(dtype=dtype),
    "mae": lambda dtype: MaskedMeanAbsoluteError(dtype=dtype),
    "huber": lambda dtype: MaskedHuber(2.0, 3.0, dtype=dtype),
    "charbonnier": lambda dtype: MaskedCharbonnier(dtype=dtype),
    "mixgl": lambda dtype: MixedGradientLoss(dtype=dtype),
    "mixgl fixed": lambda dtype: MixedGradientLoss(
        0.3, beta=0.4, consistency="none", ndvi_scale_kelvin=-12.0, dtype=dtype
    ),
    "mixgl by image": lambda dtype: MixedGradientLoss(
        gradient_scaling="image_maximum", dtype=dtype
    ),
    "mixgl windows": lambda dtype: MixedGradientLoss(
        ndvi_scale_kelvin="windows", window_pixels=3, consistency="psf", dtype=dtype
    ),
    "mixgl raised nir": lambda dtype: MixedGradientLoss(
        nir_factor=200.0, ndvi_scale_kelvin=-12.0, dtype=dtype
    ),
    "report": lambda dtype: MixedGradientLoss.report(**REPORT, dtype=dtype),
    "sif": lambda dtype: ScaleInvarianceFreeLoss(minimum_coverage=0.4, dtype=dtype),
    "sif norm_l4": lambda dtype: ScaleInvarianceFreeLoss(psf="norm_l4", directions=2, dtype=dtype),
    "sif box": lambda dtype: ScaleInvarianceFreeLoss(3.0, psf="box", dtype=dtype),
    "perceptual": lambda dtype: PerceptualLoss(2.0, **SHALLOW, dtype=dtype),
}
SIDE = 16


@functools.cache
def made(name: str) -> keras.losses.Loss:
    """Each loss once: VGG19 takes a while to build."""
    return LOSSES[name]("float64")


def case(masked: str = "none") -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(11)
    blocks = np.kron(rng.uniform(0.1, 0.8, (2, SIDE // 4, SIDE // 4)), np.ones((4, 4)))
    ndvi = (blocks + rng.normal(0, 0.03, blocks.shape))[..., None]
    coarse = np.kron(rng.normal(300, 3, (2, SIDE // 4, SIDE // 4)), np.ones((4, 4)))[..., None]
    y_true = np.concatenate([coarse, ndvi], axis=-1)
    y_pred = rng.normal(300, 3, ndvi.shape)
    if masked == "half":
        y_true[0, : SIDE // 2, :, 0] = np.nan
        y_true[1, rng.random((SIDE, SIDE)) < 0.5, 0] = np.nan
        y_true[1, rng.random((SIDE, SIDE)) < 0.1, 1] = np.nan
        y_pred[0, SIDE - 3 :] = np.nan
    elif masked == "all":
        y_true[...] = np.nan
    elif masked == "all predicted":
        y_true[..., 0, 0, 0] = np.nan  # a gap, so that the network has not diverged
        y_pred[...] = np.nan
    return y_true, y_pred


def total(loss, y_true: np.ndarray, y_pred: np.ndarray) -> float:
    tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
    return float(np.sum(keras.ops.convert_to_numpy(loss.call(*tensors))))


@pytest.mark.parametrize("name", LOSSES)
class TestEvery:
    @pytest.mark.parametrize("masked", ["none", "half"])
    def test_gradient_is_that_of_finite_differences(self, name, masked, value_and_gradient):
        y_true, y_pred = case(masked)
        loss = made(name)
        _, gradient = value_and_gradient(loss, y_true, y_pred)
        rng = np.random.default_rng(12)
        for _ in range(3):
            direction = rng.normal(size=y_pred.shape)
            step = 1e-6 * direction
            slope = (total(loss, y_true, y_pred + step) - total(loss, y_true, y_pred - step)) / 2e-6
            along = np.sum(gradient * direction, where=np.isfinite(y_pred))
            assert along == pytest.approx(slope, rel=2e-5, abs=1e-7)

    @pytest.mark.parametrize("masked", ["half", "all", "all predicted"])
    def test_gaps_weigh_nothing_and_spoil_nothing(self, name, masked, value_and_gradient):
        y_true, y_pred = case(masked)
        loss = made(name)
        value, gradient = value_and_gradient(loss, y_true, y_pred)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        missing = np.isnan(y_true[..., :1]) | np.isnan(y_pred)
        np.testing.assert_array_equal(gradient[missing], 0)
        assert (value == 0) == (masked != "half")
        other = np.where(np.isnan(y_true[..., :1]), 1e4, y_pred)
        assert total(loss, y_true, other) == pytest.approx(value, rel=1e-12)

    def test_one_value_per_sample_whatever_the_others_are(self, name):
        y_true, y_pred = case()
        loss = made(name)
        if getattr(loss, "gradient_scaling", "none") in ("maximum", "batch_maximum"):
            pytest.skip("divides by the maximum of the batch, as the report's code")
        alone = [total(loss, y_true[k : k + 1], y_pred[k : k + 1]) for k in range(2)]
        tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
        np.testing.assert_allclose(loss.call(*tensors), alone, rtol=1e-10)

    def test_float32_is_close(self, name):
        y_true, y_pred = case("half")
        single = LOSSES[name]("float32")
        tensors = (keras.ops.convert_to_tensor(each, "float32") for each in (y_true, y_pred))
        losses = keras.ops.convert_to_numpy(single.call(*tensors))
        assert losses.dtype == np.float32
        assert np.sum(losses) == pytest.approx(total(made(name), y_true, y_pred), rel=1e-3)

    def test_a_diverged_network_does_not_look_perfect(self, name):
        y_true, y_pred = case()
        y_pred[0] = np.nan
        tensors = (keras.ops.convert_to_tensor(each, "float64") for each in (y_true, y_pred))
        losses = keras.ops.convert_to_numpy(made(name).call(*tensors))
        assert np.isnan(losses).tolist() == [True, False]

    def test_comes_back_from_its_configuration(self, name):
        config = keras.saving.serialize_keras_object(made(name))
        assert config["registered_name"].startswith("keras_lstsr>")
        again = keras.saving.deserialize_keras_object(json.loads(json.dumps(config)))
        assert again.get_config() == made(name).get_config()
        y_true, y_pred = case("half")
        assert float(again(y_true, y_pred)) == float(made(name)(y_true, y_pred))


def test_each_comes_back_in_a_fresh_process(tmp_path):
    y_true, y_pred = case("half")
    np.savez(tmp_path / "case.npz", y_true=y_true, y_pred=y_pred)
    expected = {}
    for name in LOSSES:
        inputs = keras.Input((None, None, 1))
        model = keras.Model(inputs, keras.layers.Conv2D(1, 1)(inputs))
        loss = LOSSES[name]("float32")
        model.compile(optimizer="sgd", loss=loss)
        path = tmp_path / f"{name.replace(' ', '-')}.keras"
        model.save(path)
        expected[str(path)] = (loss.get_config(), float(loss(y_true, y_pred)))
    done = subprocess.run(
        [sys.executable, "-m", "tests.losses.load_losses", str(tmp_path / "case.npz"), *expected],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    report = json.loads(done.stdout.splitlines()[-1])
    for path, (config, value) in expected.items():
        assert report[path]["config"] == json.loads(json.dumps(config))
        assert report[path]["value"] == pytest.approx(value, rel=1e-5), path
