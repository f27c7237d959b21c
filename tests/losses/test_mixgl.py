from __future__ import annotations

import keras
import numpy as np
import pytest
from scipy import ndimage

from keras_lstsr.errors import ConfigError
from keras_lstsr.losses import MixedGradientLoss
from keras_lstsr.losses.gradients import sobel
from keras_lstsr.losses.guide import kelvin_per_ndvi, ndvi_of_raised_nir

SCALE = -12.0


def tensor(values: np.ndarray, dtype: str = "float64"):
    return keras.ops.convert_to_tensor(values, dtype)


def numpy(values) -> np.ndarray:
    return keras.ops.convert_to_numpy(values)


def guide(seed: int = 0, samples: int = 2, side: int = 32) -> np.ndarray:
    """NDVI with structure at all scales, [B, H, W, 1]."""
    rng = np.random.default_rng(seed)
    blocks = np.kron(rng.uniform(0.1, 0.8, (samples, side // 8, side // 8)), np.ones((8, 8)))
    return (blocks + rng.normal(0, 0.03, blocks.shape))[..., None]


def coarse_on_fine(lst_kelvin: np.ndarray) -> np.ndarray:
    """What a sensor four times coarser sees, repeated on the fine grid."""
    blocks = lst_kelvin.reshape(lst_kelvin.shape[0], lst_kelvin.shape[1] // 4, 4, -1, 4)
    coarse = np.mean(blocks**4, axis=(2, 4)) ** 0.25
    return np.repeat(np.repeat(coarse, 4, 1), 4, 2)[..., None]


def target(lst_kelvin: np.ndarray, ndvi: np.ndarray) -> np.ndarray:
    return np.concatenate([coarse_on_fine(lst_kelvin[..., 0]), ndvi], axis=-1)


def mge(loss: MixedGradientLoss, y_true: np.ndarray, y_pred: np.ndarray) -> np.ndarray:
    return numpy(loss.mean_gradient_error(tensor(y_true), tensor(y_pred)))


def corrected(**options) -> MixedGradientLoss:
    return MixedGradientLoss(**{"ndvi_scale_kelvin": SCALE, "dtype": "float64", **options})


class TestWindows:
    def test_each_window_has_the_slope_of_its_own_ground(self):
        rng = np.random.default_rng(4)
        ndvi = np.kron(rng.uniform(0.1, 0.8, (1, 16, 32)), np.ones((4, 4)))[..., None]
        slopes = np.where(np.arange(128) < 64, -20.0, 10.0)[None, None, :, None]
        truth = 310.0 + slopes * (ndvi - 0.45)
        y_true = target(truth, ndvi)
        found = kelvin_per_ndvi("windows", tensor(y_true), 4, 3)
        # The sample's own slope, about −5, is mixed in with 0.3 of its variance.
        one, other = (numpy(found)[0, :, part, 0] for part in (np.s_[:50], np.s_[-50:]))
        assert np.median(one) < -14 and np.median(other) > 5
        windows = corrected(ndvi_scale_kelvin="windows", window_pixels=3)
        inner, all_alike = mge(windows, y_true, truth), corrected(ndvi_scale_kelvin="fitted")
        assert inner[0] < 0.3 * mge(all_alike, y_true, truth)[0]

    def test_where_ndvi_does_not_vary_the_sample_s_slope_holds(self):
        ndvi = np.full((1, 64, 64, 1), 0.3)
        ndvi[:, :, 32:] = np.kron(
            np.random.default_rng(5).uniform(0, 0.8, (16, 8)), np.ones((4, 4))
        )[None, ..., None]
        y_true = target(310.0 + SCALE * ndvi, ndvi)
        found = numpy(kelvin_per_ndvi("windows", tensor(y_true), 4, 3))[0, :, :24, 0]
        np.testing.assert_allclose(found, SCALE, rtol=0.02)

    def test_one_window_over_all_ground_is_the_fit_of_all_detail(self):
        """Levels do not count: a warm region that is green as well changes nothing inside it."""
        ndvi = guide(6, samples=2, side=32)
        y_true = target(312.0 + SCALE * ndvi + 0.3 * guide(7, samples=2, side=32), ndvi)
        found = numpy(kelvin_per_ndvi("windows", tensor(y_true), 4, 15))
        levels = np.array([0.0, 50.0])[:, None, None, None]
        lst = y_true[:, ::4, ::4, 0]
        green = ndvi[..., 0].reshape(2, 8, 4, 8, 4).mean(axis=(2, 4))
        for number, (one, other) in enumerate(zip(lst, green, strict=True)):
            inside = ndimage.uniform_filter(np.ones((8, 8)), 3, mode="constant")
            one, other = (
                v - ndimage.uniform_filter(v - v.mean(), 3, mode="constant") / inside - v.mean()
                for v in (one, other)
            )
            expected = 1.3 * np.sum(one * other) / (1.3 * np.sum(other**2) + 64e-5)
            np.testing.assert_allclose(found[number], expected, rtol=2e-5)
        warmer = numpy(kelvin_per_ndvi("windows", tensor(y_true + levels), 4, 15))
        np.testing.assert_allclose(warmer, found, rtol=1e-6)

    def test_a_window_has_a_middle(self):
        with pytest.raises(ConfigError, match=r"window_pixels.*an odd number"):
            MixedGradientLoss(window_pixels=4)


class TestRaisedNearInfrared:
    """The report's third defect: near infrared times 0.02 in NDVI instead of 0.0001."""

    def test_is_ndvi_of_the_bands_as_the_report_read_them(self):
        rng = np.random.default_rng(8)
        red, nir = rng.integers(100, 4000, (2, 1, 16, 16, 1))
        right = (nir - red) / (nir + red)
        read = (0.02 * nir - 1e-4 * red) / (0.02 * nir + 1e-4 * red)
        np.testing.assert_allclose(
            numpy(ndvi_of_raised_nir(tensor(right), 200.0)), read, rtol=1e-12
        )

    def test_the_switch_is_off_but_in_the_report(self):
        assert corrected().nir_factor == 1 and MixedGradientLoss.report().nir_factor == 200
        ndvi = guide(9, samples=1)
        prediction = 310.0 + SCALE * ndvi
        y_true = target(prediction, ndvi)
        raised = np.concatenate(
            [y_true[..., :1], (200 * (1 + ndvi) - (1 - ndvi)) / (200 * (1 + ndvi) + (1 - ndvi))], -1
        )
        found = mge(corrected(nir_factor=200), y_true, prediction)
        np.testing.assert_allclose(found, mge(corrected(), raised, prediction), rtol=1e-9)
        assert found[0] > 1e3 * mge(corrected(), y_true, prediction)[0]

    def test_hides_the_texture_of_ndvi_and_lets_the_report_s_error_lie_still(self):
        """Divided by its maximum, the wrong gradient of a guide near 1 is 1 wherever one looks."""
        ndvi = guide(10, samples=1, side=64)
        flat = np.full(ndvi.shape, 300.0)
        y_true = target(flat, ndvi)
        for nir_factor, least, most in ((200.0, 0.0, 0.02), (1.0, 0.1, 1.0)):
            report = MixedGradientLoss.report(nir_factor=nir_factor, dtype="float64")
            assert least <= mge(report, y_true, flat)[0] < most


class TestClosedForms:
    def test_zero_for_a_perfect_prediction(self):
        ndvi = guide()
        truth = 312.0 + SCALE * ndvi
        losses = numpy(corrected().call(tensor(target(truth, ndvi)), tensor(truth)))
        np.testing.assert_allclose(losses, 0, atol=1e-18)

    def test_fitted_scale_finds_the_relation_by_itself(self):
        ndvi = np.kron(np.random.default_rng(0).uniform(0.1, 0.8, (2, 8, 8)), np.ones((4, 4)))
        truth = (312.0 + SCALE * ndvi)[..., None]
        y_true = target(truth, ndvi[..., None])
        # NDVI's variance here is 0.04: the ridge of 1e-4 takes 0.25 % off the slope.
        assert (
            mge(corrected(ndvi_scale_kelvin="fitted"), y_true, truth).max()
            < 1e-4 * mge(corrected(ndvi_scale_kelvin=0.0), y_true, truth).min()
        )

    def test_a_ramp_over_flat_ndvi(self):
        rows, columns = np.mgrid[0:16, 0:16].astype(np.float64)
        ramp = (300 + 0.5 * columns - 0.25 * rows)[None, :, :, None]
        y_true = target(ramp, np.full(ramp.shape, 0.4))
        np.testing.assert_allclose(mge(corrected(), y_true, ramp), 0.5**2 + 0.25**2, rtol=1e-12)

    def test_a_flat_prediction_over_an_ndvi_ramp(self):
        _, columns = np.mgrid[0:16, 0:16].astype(np.float64)
        ndvi = (0.02 * columns)[None, :, :, None]
        flat = np.full(ndvi.shape, 300.0)
        expected = (0.02 * SCALE) ** 2
        np.testing.assert_allclose(mge(corrected(), target(flat, ndvi), flat), expected, rtol=1e-12)

    def test_the_wrong_sign_costs_four_times_the_missing_texture(self):
        ndvi = guide(1)
        truth, inverted, flat = 305 + SCALE * ndvi, 305 - SCALE * ndvi, np.full(ndvi.shape, 305.0)
        y_true = target(truth, ndvi)
        missing = mge(corrected(), y_true, flat)
        assert missing.min() > 0.1
        np.testing.assert_allclose(mge(corrected(), y_true, inverted), 4 * missing, rtol=1e-9)
        # Magnitudes cannot see it: the inverted field is as good as the true one.
        blind = mge(corrected(components="magnitude"), y_true, inverted)
        np.testing.assert_allclose(blind, 0, atol=1e-20)

    def test_mse_of_a_shift(self):
        ndvi = guide(2)
        truth = 300 + SCALE * ndvi
        fine = corrected(consistency="none").mean_squared_error(
            tensor(np.concatenate([truth, ndvi], -1)), tensor(truth + 1.5)
        )
        np.testing.assert_allclose(fine, 1.5**2, rtol=1e-12)
        # Norm-L4 of a shifted field is shifted by nearly as much: it is a mean of fourth powers.
        coarse = corrected().mean_squared_error(tensor(target(truth, ndvi)), tensor(truth + 1.5))
        np.testing.assert_allclose(coarse, 1.5**2, rtol=2e-3)

    def test_consistency_leaves_what_the_sensor_cannot_see(self):
        # A redistribution inside coarse pixels that keeps the mean fourth power costs nothing.
        rng = np.random.default_rng(4)
        fourth = 300.0**4 * (1 + 0.02 * rng.normal(size=(1, 8, 4, 8, 4)))
        other = fourth - fourth.mean((2, 4), keepdims=True) + 300.0**4
        fine = (other.reshape(1, 32, 32, 1)) ** 0.25
        y_true = np.concatenate([np.full(fine.shape, 300.0), np.zeros(fine.shape)], -1)
        np.testing.assert_allclose(
            corrected().mean_squared_error(tensor(y_true), tensor(fine)), 0, atol=1e-18
        )

    def test_the_weights_add_up(self):
        ndvi = guide(3)
        prediction = np.random.default_rng(3).normal(300, 3, ndvi.shape)
        y_true, y_pred = tensor(target(300 + SCALE * ndvi, ndvi)), tensor(prediction)
        for beta in (None, 2.5):
            loss = corrected(alpha=0.3, beta=beta)
            expected = 0.3 * loss.mean_gradient_error(y_true, y_pred)
            expected += (0.7 if beta is None else beta) * loss.mean_squared_error(y_true, y_pred)
            np.testing.assert_allclose(loss.call(y_true, y_pred), expected, rtol=1e-12)


class TestInvariance:
    @pytest.mark.parametrize("scale", [SCALE, "fitted"])
    def test_constants_change_no_gradient(self, scale):
        ndvi = guide(5)
        prediction = np.random.default_rng(5).normal(300, 2, ndvi.shape)
        loss = corrected(ndvi_scale_kelvin=scale)
        y_true = target(305 + SCALE * ndvi, ndvi)
        base = mge(loss, y_true, prediction)
        np.testing.assert_allclose(mge(loss, y_true, prediction + 7), base, rtol=1e-9)
        np.testing.assert_allclose(
            mge(loss, y_true + np.array([0, 0.2]), prediction), base, rtol=1e-9
        )

    @pytest.mark.parametrize(
        "move",
        [lambda x: x[:, ::-1], lambda x: x[:, :, ::-1], lambda x: np.rot90(x, axes=(1, 2))],
        ids=["up-down", "left-right", "quarter turn"],
    )
    def test_flips_and_quarter_turns(self, move):
        ndvi = guide(6)
        prediction = np.random.default_rng(6).normal(300, 2, ndvi.shape)
        y_true = target(305 + SCALE * ndvi, ndvi)
        for loss in (corrected(), corrected(ndvi_scale_kelvin="fitted", components="magnitude")):
            np.testing.assert_allclose(
                loss.call(tensor(move(y_true).copy()), tensor(move(prediction).copy())),
                loss.call(tensor(y_true), tensor(prediction)),
                rtol=1e-9,
            )

    def test_kelvin_units_scale_the_loss_by_their_square(self):
        ndvi = guide(7)
        prediction = np.random.default_rng(7).normal(300, 2, ndvi.shape)
        y_true = tensor(target(305 + SCALE * ndvi, ndvi))
        for consistency in ("norm_l4", "bicubic", "none"):
            loss = corrected(consistency=consistency).call(y_true, tensor(prediction))
            scaled = corrected(consistency=consistency, scale_kelvin=10.0)
            np.testing.assert_allclose(
                scaled.call(y_true, tensor(prediction)), np.asarray(loss) / 100, rtol=1e-9
            )

    def test_samples_do_not_see_each_other(self):
        ndvi = guide(8, samples=3)
        prediction = np.random.default_rng(8).normal(300, 2, ndvi.shape)
        y_true = target(305 + SCALE * ndvi, ndvi)
        loss = MixedGradientLoss(dtype="float64")
        together = loss.call(tensor(y_true), tensor(prediction))
        assert together.shape == (3,)
        for k in range(3):
            alone = loss.call(tensor(y_true[k : k + 1]), tensor(prediction[k : k + 1]))
            np.testing.assert_allclose(alone[0], together[k], rtol=1e-12)


class TestReport:
    @pytest.mark.real_data
    def test_golden_mge(self, lstsr_reference):
        golden = np.load(lstsr_reference / "golden" / "loss_gradient.npz")["mge_per_sample"]
        prediction, ndvi = (
            np.random.default_rng(seed).uniform(0, 1, (2, 1, 32, 32)).astype(np.float32)
            for seed in (3, 4)
        )
        y_pred, ndvi = prediction[:, 0, :, :, None], ndvi[:, 0, :, :, None]
        y_true = np.concatenate([np.ones_like(ndvi), ndvi], axis=-1)
        # What the reference code's loss is given as NDVI, wrong or right, is not its own.
        options = {"edge_crop": 0, "scale_kelvin": 1, "nir_factor": 1}
        both = MixedGradientLoss.report(gradient_scaling="batch_maximum", **options)
        np.testing.assert_allclose(
            both.mean_gradient_error(y_true, y_pred), golden, rtol=0, atol=1e-6
        )
        # As trained: NDVI by its maximum per image, which is the batch's for one of the two.
        trained = numpy(MixedGradientLoss.report(**options).mean_gradient_error(y_true, y_pred))
        assert np.isclose(trained, golden, rtol=0, atol=1e-6).tolist().count(True) == 1

    def test_a_constant_field_seems_full_of_edges(self):
        # T = 0.87 · 333.32 K: raw "gradient" 1.74 everywhere, 1 after division by its maximum.
        # A step of 1 K is 0.003 in these units, so its edge changes next to nothing.
        flat = np.full((1, 64, 64, 1), 0.87 * 333.32)
        step = flat.copy()
        step[:, :, 32:] += 1.0
        y_true = np.concatenate([flat, np.full(flat.shape, 0.5)], -1)
        report = MixedGradientLoss.report(dtype="float64")
        # NDVI is constant too: both maps are constant 1 after their division.
        np.testing.assert_allclose(mge(report, y_true, flat), 0, atol=1e-12)
        assert mge(report, y_true, step)[0] < 1e-4
        edges = guide(9, samples=1, side=64)
        blind = mge(report, np.concatenate([flat, edges], -1), flat)
        seen = mge(report, np.concatenate([flat, edges], -1), 310 + SCALE * edges)
        # The perfect field scores hardly better than the constant one: nothing to learn from.
        assert seen[0] > 0.9 * blind[0]
        right = corrected()
        y_true = np.concatenate([flat, edges], -1)
        assert mge(right, y_true, 310 + SCALE * edges)[0] < 1e-20 < mge(right, y_true, flat)[0]

    def test_the_crop_takes_sixteen_gradient_pixels_off_each_edge(self):
        ndvi = guide(10, samples=1, side=64)
        prediction = np.random.default_rng(0).normal(300, 2, ndvi.shape)
        y_true = target(prediction, ndvi)
        cropped = mge(corrected(edge_crop=16), y_true, prediction)
        inner = (np.s_[:], np.s_[16:-16], np.s_[16:-16])
        np.testing.assert_allclose(
            cropped, mge(corrected(), y_true[inner], prediction[inner]), rtol=1e-12
        )
        with pytest.raises(ConfigError, match="edge_crop"):
            mge(corrected(edge_crop=31), y_true, prediction)

    def test_preset_and_overrides(self):
        report = MixedGradientLoss.report()
        assert (report.alpha, report.gradient, report.components) == (
            1e-4,
            "sobel_report",
            "magnitude",
        )
        assert (report.consistency, report.edge_crop, report.scale_kelvin) == (
            "bicubic",
            16,
            333.32,
        )
        mended = MixedGradientLoss.report(gradient="sobel")
        assert (mended.gradient, mended.components) == ("sobel", "magnitude")

    def test_bicubic_consistency_is_not_norm_l4(self):
        # A bright pixel in a block's corner: norm-L4 weighs it 1/16, bicubic (3/32)².
        spiked = np.full((1, 16, 16, 1), 300.0)
        spiked[:, 4, 4] += 8.0
        y_true = np.concatenate([np.full(spiked.shape, 300.0), np.zeros(spiked.shape)], -1)
        bicubic = corrected(consistency="bicubic").mean_squared_error(
            tensor(y_true), tensor(spiked)
        )
        assert float(bicubic[0]) == pytest.approx((8 * (3 / 32) ** 2) ** 2 / 16, rel=1e-9)
        norm = corrected().mean_squared_error(tensor(y_true), tensor(spiked))
        assert float(norm[0]) == pytest.approx((8 / 16) ** 2 / 16, rel=0.1)


CONFIGURATIONS = {
    "default": {},
    "pixelwise": {"consistency": "none", "ndvi_scale_kelvin": SCALE},
    "magnitude": {"components": "magnitude"},
    "signed maximum": {"gradient_scaling": "maximum", "scale_kelvin": 333.32},
    "report": {
        "alpha": 0.5,
        "gradient": "sobel_report",
        "components": "magnitude",
        "gradient_scaling": "maximum",
        "consistency": "bicubic",
        "edge_crop": 2,
        "scale_kelvin": 30.0,
    },
}


@pytest.mark.parametrize("options", CONFIGURATIONS.values(), ids=CONFIGURATIONS)
class TestDerivatives:
    def case(self, masked: str) -> tuple[np.ndarray, np.ndarray]:
        rng = np.random.default_rng(11)
        ndvi = guide(11, samples=2, side=16)
        y_true = target(305 + SCALE * ndvi, ndvi)
        y_pred = rng.normal(300, 3, ndvi.shape)
        if masked == "half":
            y_true[0, :8, :, 0] = np.nan
            y_true[1, rng.random((16, 16)) < 0.5, 1] = np.nan
            y_pred[0, 12:] = np.nan
        elif masked == "all":
            y_true[...] = np.nan
        return y_true, y_pred

    @pytest.mark.parametrize("masked", ["none", "half"])
    def test_gradient_is_that_of_finite_differences(self, options, masked, value_and_gradient):
        y_true, y_pred = self.case(masked)
        loss = MixedGradientLoss(dtype="float64", **options)
        _, gradient = value_and_gradient(loss, y_true, y_pred)
        rng = np.random.default_rng(12)
        for _ in range(4):
            direction = rng.normal(size=y_pred.shape)
            step = 1e-5 * direction
            ahead, behind = (
                float(np.sum(numpy(loss.call(tensor(y_true), tensor(y_pred + way * step)))))
                for way in (1, -1)
            )
            slope = (ahead - behind) / 2e-5
            assert np.sum(gradient * direction) == pytest.approx(slope, rel=1e-5, abs=1e-8)

    @pytest.mark.parametrize("masked", ["half", "all"])
    def test_masked_pixels_weigh_nothing(self, options, masked, value_and_gradient):
        y_true, y_pred = self.case(masked)
        loss = MixedGradientLoss(dtype="float64", **options)
        value, gradient = value_and_gradient(loss, y_true, y_pred)
        assert np.isfinite(value) and np.isfinite(gradient).all()
        missing = np.isnan(y_true[..., :1]) | np.isnan(y_pred)
        np.testing.assert_array_equal(gradient[missing], 0)
        assert (value == 0) == (masked == "all")
        # Whatever the prediction says where the target is missing, the loss is the same.
        other = np.where(np.isnan(y_true[..., :1]), 1e4, y_pred)
        assert value_and_gradient(loss, y_true, other)[0] == pytest.approx(value, rel=1e-12)


def test_half_masked_equals_the_other_half_alone():
    ndvi = guide(13, samples=1, side=32)
    prediction = np.random.default_rng(13).normal(300, 3, ndvi.shape)
    y_true = target(305 + SCALE * ndvi, ndvi)
    holed = y_true.copy()
    holed[:, 16:] = np.nan
    for options in CONFIGURATIONS.values():
        if options.get("edge_crop") or options.get("consistency") == "bicubic":
            continue  # those look across the line or from the image's edge
        loss = MixedGradientLoss(dtype="float64", **options)
        np.testing.assert_allclose(
            loss.call(tensor(holed), tensor(prediction)),
            loss.call(tensor(y_true[:, :16]), tensor(prediction[:, :16])),
            rtol=1e-12,
        )


def test_a_diverged_network_does_not_look_perfect(value_and_gradient):
    ndvi = guide(14)
    y_true = target(305 + SCALE * ndvi, ndvi)
    lost = np.full(ndvi.shape, np.nan)
    lost[1] = 300.0
    losses = numpy(corrected().call(tensor(y_true), tensor(lost)))
    assert np.isnan(losses).tolist() == [True, False]
    # A scene without any data is no divergence.
    y_true[0] = np.nan
    assert np.isfinite(numpy(corrected().call(tensor(y_true), tensor(lost)))).all()


def test_float32_agrees_with_float64():
    ndvi = guide(15)
    prediction = 305 + SCALE * ndvi + np.random.default_rng(15).normal(0, 0.2, ndvi.shape)
    y_true = target(305 + SCALE * ndvi, ndvi)
    exact = numpy(MixedGradientLoss(dtype="float64").call(tensor(y_true), tensor(prediction)))
    single = MixedGradientLoss().call(tensor(y_true, "float32"), tensor(prediction, "float32"))
    np.testing.assert_allclose(single, exact, rtol=2e-4)


def test_maps_agree_with_the_operator():
    values = tensor(guide(16))
    for mine, theirs in zip(corrected()._maps(values), sobel(values), strict=True):
        np.testing.assert_array_equal(mine, theirs)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"alpha": 1.2}, "loss.alpha"),
        ({"alpha": -0.1}, "alpha"),
        ({"beta": -1}, "beta"),
        ({"gradient": "scharr"}, "gradient.*'scharr'.*'sobel'"),
        ({"components": "both"}, "components"),
        ({"gradient_scaling": True}, "gradient_scaling"),
        ({"ndvi_scale_kelvin": "guess"}, "ndvi_scale_kelvin.*'guess'.*'fitted'"),
        ({"ndvi_scale_kelvin": float("nan")}, "ndvi_scale_kelvin"),
        ({"consistency": "mean"}, "consistency"),
        ({"scale_factor": 2.5}, "scale_factor"),
        ({"edge_crop": -1}, "edge_crop"),
        ({"scale_kelvin": 0}, "scale_kelvin"),
    ],
)
def test_invalid_options_are_named(options, named):
    with pytest.raises(ConfigError, match=named):
        MixedGradientLoss(**options)


def test_a_target_without_ndvi_is_refused():
    with pytest.raises(ConfigError, match="records that hold NDVI"):
        MixedGradientLoss()(np.zeros((1, 8, 8, 1)), np.zeros((1, 8, 8, 1)))
