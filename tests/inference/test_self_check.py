"""The self-check: its trust in closed form, and what it does to a scene."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.grids.resample import interpolated
from keras_lstsr.inference.predictor import KerasPredictor, load_predictor
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.inference.self_check import self_check
from keras_lstsr.records.place_scenes import find_places
from keras_lstsr.sharpening.raster import sharpen
from keras_lstsr.testing.models import tiny_guided_model
from keras_lstsr.testing.rasters import lst_and_ndvi, modis_grid

GUIDE = {"ndvi": np.zeros((128, 160), np.float32)}


def field(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(300, 3, (32, 40)).astype(np.float32)


def erring(lst, alone_kelvin, guided_kelvin, std_kelvin=None):
    """A model whose errors at the coarser scale are these everywhere, by turns up and down."""
    signs = np.where(np.indices(lst.shape).sum(axis=0) % 2, 1.0, -1.0)

    def refine(coarser, guides):
        assert coarser.shape == (8, 10)
        assert all(guide.shape == lst.shape for guide in guides.values())
        std = None if std_kelvin is None else np.full(lst.shape, std_kelvin, np.float32)
        error = signs * (guided_kelvin if guides else alone_kelvin)
        return (lst + error).astype(np.float32), std

    return refine


@pytest.mark.parametrize(
    ("alone", "guided", "trust"), [(1.0, 1.0, 0.5), (1.0, 0.8, 0.85), (1.0, 2.0, 0.0), (2.0, 1, 1)]
)
def test_trust_is_that_of_the_errors(alone, guided, trust):
    lst = field()
    found = self_check(lst, GUIDE, 4, erring(lst, alone, guided))
    plain = found.weights["bicubic"]
    expected = (1 - plain) / (1 + ((guided**2 + 0.01) / (alone**2 + 0.01)) ** 4)
    np.testing.assert_allclose(found.weights["guided"], expected, atol=1e-3)
    np.testing.assert_allclose(sum(found.weights.values()), 1, atol=1e-6)
    assert "classical" not in found.weights and np.isnan(found.mean_classical)
    assert found.mean_trust == pytest.approx(trust, abs=0.02)
    assert found.mean_bicubic < 0.01
    assert found.alone_kelvin == pytest.approx(alone, rel=1e-3)
    assert found.guided_kelvin == pytest.approx(guided, rel=1e-3)
    assert found.bicubic_kelvin > 1
    assert bool(found.notes()) == (trust < 0.8)


@pytest.mark.parametrize(
    ("error", "std", "factor"),
    [(1.0, 1.0, 1.0), (0.5, 1.0, 0.76), (2.0, 1.0, 1.32), (0.1, 9, 1 / 3)],
)
def test_standard_deviations_follow_the_errors_one_scale_coarser(error, std, factor):
    lst = field()
    found = self_check(lst, {}, 4, erring(lst, error, np.nan, std))
    assert "guided" not in found.weights and np.isnan(found.guided_kelvin)
    np.testing.assert_allclose(found.std_factor, factor, atol=0.02)
    names = {"bicubic_kelvin", "alone_kelvin", "mean_bicubic", "mean_std_factor"}
    assert set(found.as_attributes()) == {f"self_check_{name}" for name in names}
    assert found.notes() == []


def test_the_classical_method_counts_by_its_error_and_less_than_the_model():
    lst = field()
    signs = np.where(np.indices(lst.shape).sum(axis=0) % 2, 1.0, -1.0)

    def classical(coarser, guides):
        assert coarser.shape == (8, 10) and guides["ndvi"].shape == lst.shape
        return (lst + 0.9 * signs).astype(np.float32)

    for beside, share in ((False, 0.3), (True, 0.1)):
        found = self_check(lst, GUIDE, 4, erring(lst, 1.2, 1.0), classical, detail_beside=beside)
        raw = {"alone": 1.45**-4, "guided": 1.01**-4, "classical": share * 0.82**-4}
        plain = found.weights["bicubic"]
        for name, weight in raw.items():
            expected = (1 - plain) * weight / sum(raw.values())
            np.testing.assert_allclose(found.weights[name], expected, atol=2e-3)
        assert found.classical_kelvin == pytest.approx(0.9, rel=1e-3)
        expected = 1 - found.mean_bicubic - found.weights["alone"].mean()
        assert found.mean_trust == pytest.approx(expected, abs=1e-5)
    silent = self_check(lst, GUIDE, 4, erring(lst, 1.2, 1.0), lambda *_: None)
    assert "classical" not in silent.weights


def test_bicubic_counts_by_its_error_and_in_full_where_lst_is_not_blurred():
    """A plane looks alike through any footprint, far from its edges: only the priors differ."""
    lst = np.broadcast_to(np.linspace(300, 320, 240, dtype=np.float32), (32, 240))
    signs = np.where(np.indices(lst.shape).sum(axis=0) % 2, 1.0, -1.0)

    def refine(coarser, guides):
        return (lst + 0.1 * signs).astype(np.float32), None

    found = [self_check(lst, {}, 4, refine, footprint_pixels=width) for width in (1.0, 0.0)]
    blurred, unblurred = (each.weights["bicubic"] / each.weights["alone"] for each in found)
    np.testing.assert_allclose((unblurred / blurred)[:, 110:130], 1 / 0.3, rtol=1e-3)
    assert found[0].mean_bicubic < found[1].mean_bicubic
    assert found[1].as_attributes()["self_check_footprint_pixels"] == 0.0


def test_lst_is_degraded_as_it_is_itself():
    lst, seen = field(), []

    def refine(coarser, guides):
        seen.append(coarser)
        return lst, None

    for width in (np.nan, 0.6):
        self_check(lst, {}, 4, refine, footprint_pixels=width)
    np.testing.assert_allclose(seen[1], lst.reshape(8, 4, 10, 4).mean(axis=(1, 3)), rtol=1e-6)
    assert seen[0].std() < 0.9 * seen[1].std()


def test_the_factor_is_that_of_the_estimate_that_is_trusted():
    lst = field()
    for guided, expected in ((0.3, 0.3), (3.0, 1.0)):
        found = self_check(lst, GUIDE, 4, erring(lst, 1.0, guided, 1.0))
        np.testing.assert_allclose(found.std_factor, expected**0.4, atol=0.02)


def test_each_part_of_a_scene_is_checked_by_itself():
    lst = np.random.default_rng(1).normal(300, 3, (32, 160)).astype(np.float32)
    guides = {"ndvi": np.zeros((128, 640), np.float32)}
    west = np.arange(160) < 80

    def refine(coarser, under):
        error = np.where(west, 2.0, 0.5) if under else np.ones(160)
        return (lst + error).astype(np.float32), None

    trust = self_check(lst, guides, 4, refine).weights["guided"]
    assert trust[:, :40].max() < 0.01 and trust[:, -40:].min() > 0.99


def test_gaps_do_not_count():
    lst = field()
    lst[:, 30:] = np.nan
    refine = erring(np.nan_to_num(lst, nan=300), 1.0, 0.7)
    found = self_check(lst, GUIDE, 4, refine)
    assert np.isfinite(found.weights["guided"]).all()
    assert found.guided_kelvin == pytest.approx(0.7, rel=1e-3)


def test_small_scenes_tell_too_little():
    lst = field()[:8, :8]
    assert self_check(lst, {"ndvi": np.zeros((32, 32), np.float32)}, 4, None) is None
    empty = np.full((32, 40), np.nan, np.float32)
    assert self_check(empty, GUIDE, 4, None) is None


@pytest.fixture(scope="module")
def guided():
    return KerasPredictor(tiny_guided_model(seed=3))


def test_a_checked_scene_lies_between_lst_alone_and_the_guided_result(guided):
    lst, ndvi = lst_and_ndvi(modis_grid((40, 36), tile="h14v08"))
    lst = lst.copy(data=np.random.default_rng(0).normal(300, 2, lst.shape).astype(np.float32))
    lst[3:6, 4] = np.nan
    guides = {"ndvi": ndvi}
    checked = predict_scene(lst, guided, guides)
    whole, alone = predict_scene(lst, guided, guides, check=False), predict_scene(lst, guided)
    name = "lst_kelvin_fine"
    attributes = checked[name].attrs
    assert 0 <= attributes["self_check_mean_trust"] < 0.98
    assert attributes["self_check_alone_kelvin"] > 0
    assert not any(key.startswith("self_check") for key in whole[name].attrs)
    classical = sharpen(lst, ndvi, method="tsharp", regression="local").values
    classical = np.where(np.isnan(classical), whole[name], classical)
    bicubic = interpolated(lst.values, 4)
    parts = np.stack([whole[name], alone[name], classical, bicubic])
    low, high = parts.min(axis=0), parts.max(axis=0)
    inside = (checked[name] >= low - 1e-3) & (checked[name] <= high + 1e-3)
    assert inside.where(np.isfinite(whole[name]), True).all()
    assert (
        (checked["guide_followed"] <= whole["guide_followed"] + 1e-5)
        .where(np.isfinite(whole[name]), True)
        .all()
    )
    for each in checked:
        np.testing.assert_array_equal(np.isnan(checked[each]), np.isnan(whole[each]))


def test_a_guide_that_tells_all_is_followed(guided):
    """LST that is linear in NDVI: local TsHARP finds that, and random weights add noise to it."""
    lst, ndvi = lst_and_ndvi(modis_grid((48, 48), tile="h14v08"))
    checked = predict_scene(lst, guided, {"ndvi": ndvi})["lst_kelvin_fine"]
    whole = predict_scene(lst, guided, {"ndvi": ndvi}, check=False)["lst_kelvin_fine"]
    assert checked.attrs["self_check_mean_trust"] > 0.9
    assert checked.attrs["self_check_classical_kelvin"] < checked.attrs["self_check_guided_kelvin"]
    assert checked.attrs["self_check_mean_classical"] > 0.5
    classical = sharpen(lst, ndvi, method="tsharp", regression="local")
    assert np.std(checked - classical) < np.std(whole - classical)


@pytest.mark.real_data
@pytest.mark.parametrize(("name", "harm"), [("guided-1", 1.3), ("guided-2", 0.0)])
def test_at_a_real_shore_the_result_is_never_worse_than_bicubic(name, harm, lstsr_data):
    """Los Angeles with its sea, where guided-1 by itself errs 1.6 times as much."""
    predictor = load_predictor(name)
    scenes = [s for s in find_places(lstsr_data / "places") if s.name.startswith("los_angeles")]
    ratios = {}
    for scene in (scenes[6], scenes[9], scenes[12]):
        sample = scene.load()
        truth, guides = sample.truth.values, {"ndvi": sample.guides["ndvi"]}
        bicubic = interpolated(sample.lst.values, 4, "bicubic")
        results = [
            predict_scene(sample.lst, predictor, guides, check=check)["lst_kelvin_fine"].values
            for check in (True, False)
        ]
        there = np.isfinite(truth) & np.isfinite(results[0]) & np.isfinite(bicubic)
        plain, checked, unchecked = (
            float(np.std((values - truth)[there])) for values in (bicubic, *results)
        )
        ratios[scene.name] = (checked / plain, unchecked / plain)
    assert max(checked for checked, _ in ratios.values()) < 1.01, ratios
    assert max(unchecked for _, unchecked in ratios.values()) > harm, ratios


def test_the_bicubic_of_the_check_is_that_of_grids():
    lst = np.full((32, 40), 300, np.float32)
    lst += np.linspace(0, 4, 40, dtype=np.float32)
    found = self_check(lst, GUIDE, 4, erring(lst, 1.0, 1.0))
    # Means of 4 × 4 pixels of a plane, upsampled, are the plane but for its edges.
    assert found.bicubic_kelvin < 0.15
