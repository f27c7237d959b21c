"""Scores agree with hand values, all methods see the same pixels, and tables tell the truth."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest
import rioxarray  # noqa: F401  (registers the .rio accessor)
import xarray as xr
from affine import Affine

from keras_lstsr.config import ModelConfig
from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.benchmark import (
    BenchmarkResult,
    ImageScore,
    bicubic_method,
    evaluate_scenes,
    predictor_method,
    score_image,
)
from keras_lstsr.evaluation.report import (
    interval_table,
    markdown_table,
    summary_metrics,
    write_tables,
)
from keras_lstsr.evaluation.run import clearest_window
from keras_lstsr.grids.resample import norm_l4, upsample_bicubic


def _field(size: int, seed: int = 0) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=(size, size))
    smooth = np.fft.ifft2(
        np.fft.fft2(noise) / (1 + np.hypot(*np.meshgrid(*[np.fft.fftfreq(size) * size] * 2))) ** 1.5
    )
    return (295 + 40 * smooth.real).astype(np.float32)


def _raster(values: np.ndarray, pixel_m: float, left_m: float = 0.0) -> xr.DataArray:
    raster = xr.DataArray(values, dims=("y", "x"))
    raster = raster.rio.write_crs("EPSG:32633")
    return raster.rio.write_transform(Affine(pixel_m, 0, left_m, 0, -pixel_m, 5_000_000.0))


@pytest.fixture(scope="module")
def untrained():
    """A network whose residual starts at zero: it must score exactly as bicubic."""
    from keras_lstsr.export import model_contract  # noqa: F401
    from keras_lstsr.inference.predictor import KerasPredictor
    from keras_lstsr.models import build_model

    config = ModelConfig(
        width=4, depth=2, offset_kelvin=290.0, scale_kelvin=10.0, zero_initial_residual=True
    )
    return KerasPredictor(build_model(config), {"run_name": "untrained"})


def test_hand_values():
    truth = _field(32)
    scores = score_image("a", {"off": truth + 2, "right": truth.copy()}, truth)
    by_method = {score.method: score.values for score in scores}
    assert by_method["off"]["rmse_kelvin"] == pytest.approx(2, rel=1e-5)
    assert by_method["off"]["bias_kelvin"] == pytest.approx(2, rel=1e-5)
    expected_psnr = 20 * np.log10(np.ptp(truth.astype(float)) / 2)
    assert by_method["off"]["psnr_db"] == pytest.approx(expected_psnr, rel=1e-5)
    assert by_method["right"]["rmse_kelvin"] == 0
    assert by_method["right"]["ssim"] == pytest.approx(1)


def test_all_methods_are_scored_on_the_same_pixels():
    truth = _field(32)
    holed, spoilt = truth + 1, truth + 1
    holed[:10] = np.nan
    spoilt[:10] = 500  # scored only where the other result exists as well
    scores = score_image("a", {"holed": holed, "spoilt": spoilt}, truth)
    assert [score.scored_pixels for score in scores] == [22 * 32] * 2
    assert scores[0].values["rmse_kelvin"] == scores[1].values["rmse_kelvin"]


def test_too_few_pixels_give_no_score():
    truth = np.full((16, 16), np.nan, np.float32)
    truth[0, : 48 % 16 + 10] = 290
    assert score_image("a", {"m": np.full((16, 16), 290, np.float32)}, truth) == []


def test_shapes_must_agree():
    with pytest.raises(GridError, match=r"\(8, 8\)"):
        score_image("a", {"m": np.zeros((8, 8), np.float32)}, _field(16))


def test_untrained_network_is_bicubic(untrained):
    coarse = np.stack([norm_l4(_field(64, seed), 4) for seed in range(3)])
    ours = predictor_method(untrained, batch_size=2)(coarse)
    np.testing.assert_allclose(ours, bicubic_method(4)(coarse), atol=1e-3)


def test_scene_with_clouds(untrained):
    truth = _field(96)
    coarse = norm_l4(truth, 4)
    coarse[3:6, 4:9] = np.nan
    result = evaluate_scenes(untrained, [("s", _raster(coarse, 1000), _raster(truth, 250))])
    summary = result.summary()
    assert set(summary) == {"bicubic", "model"}
    assert summary["model"]["images"] == 1
    finite = np.isfinite(upsample_bicubic(coarse, 4))
    assert {score.scored_pixels for score in result.scores} == {int(finite.sum())}
    expected = np.sqrt(np.mean((upsample_bicubic(coarse, 4) - truth)[finite] ** 2))
    assert summary["bicubic"]["rmse_kelvin"] == pytest.approx(expected, rel=1e-5)


def test_truth_beside_the_grid_is_refused(untrained):
    truth = _field(96)
    coarse = _raster(norm_l4(truth, 4), 1000)
    with pytest.raises(GridError, match="corner off by 250"):
        evaluate_scenes(untrained, [("s", coarse, _raster(truth, 250, left_m=250.0))])


def test_summary_and_tables(tmp_path):
    truth = _field(32)
    result = BenchmarkResult("patches_test", "a title")
    for index, errors in enumerate([(1.0, 0.5), (1.0, 2.0)]):
        images = {"bicubic": truth + errors[0], "model": truth + errors[1]}
        result.scores += score_image(f"patch {index}", images, truth)
    assert result.summary()["model"]["worse_than_bicubic"] == 1
    assert result.summary()["model"]["rmse_kelvin"] == pytest.approx(1.25, rel=1e-4)
    assert "| model | 1.250 | 1.250 |" in markdown_table(result)
    paths = write_tables(result, tmp_path)
    rows = list(csv.DictReader(paths[0].open()))
    assert [row["method"] for row in rows] == ["bicubic", "model"] * 2
    assert float(rows[3]["rmse_kelvin"]) == pytest.approx(2, rel=1e-4)
    assert json.loads(paths[1].read_text())["summary"]["bicubic"]["images"] == 2
    assert summary_metrics([result])["patches_test.model.rmse_kelvin"] == pytest.approx(
        1.25, rel=1e-4
    )


def test_intervals_are_drawn_by_groups(tmp_path):
    result = BenchmarkResult("r", "t", metrics=("bias_free_rmse_kelvin",), details={"pairs": 24})
    for number in range(24):
        value = 1.0 if number < 12 else 2.0
        values = {"bias_free_rmse_kelvin": value}
        result.scores.append(ImageScore(str(number), "m", 100, values))
    alone = result.interval("m", "bias_free_rmse_kelvin")
    result.groups = {str(number): "ab"[number // 12] for number in range(24)}
    grouped = result.interval("m", "bias_free_rmse_kelvin")
    assert alone.mean == grouped.mean == 1.5
    # Two groups alone: their means are the ends, as either may be drawn twice.
    assert (grouped.low, grouped.high) == (1.0, 2.0)
    assert alone.low > 1 and alone.high < 2
    row = result.summary()["m"]
    assert (row["bias_free_rmse_kelvin_low"], row["bias_free_rmse_kelvin_high"]) == (1.0, 2.0)
    assert "1.000 to 2.000" in interval_table(result)
    assert markdown_table(result, ["images", "ssim"]).splitlines()[0] == "| method | images |"
    paths = write_tables(result, tmp_path)
    assert [row["group"] for row in csv.DictReader(paths[0].open())] == ["a"] * 12 + ["b"] * 12
    assert json.loads(paths[1].read_text())["pairs"] == 24
    assert "bootstrap over 2 groups" in paths[2].read_text()
    assert not any("_low" in name for name in summary_metrics([result]))


def test_one_image_has_no_interval(tmp_path):
    truth = np.full((8, 8), 290.0, np.float32)
    result = BenchmarkResult("r", "t", score_image("a", {"m": truth + 1}, truth))
    assert interval_table(result) is None
    row = json.loads(write_tables(result, tmp_path)[1].read_text())["summary"]["m"]
    # A truth without range has no PSNR: null in JSON, which knows no NaN.
    assert row["psnr_db"] is None and "rmse_kelvin_low" not in row


def test_worse_than_bicubic_goes_by_the_bias_free_error():
    result = BenchmarkResult("r", "t", metrics=("rmse_kelvin", "bias_free_rmse_kelvin"))
    figures = {"bicubic": (2.0, 1.5), "biased": (3.0, 1.0), "noisy": (1.0, 1.6)}
    for method, (rmse, free) in figures.items():
        values = {"rmse_kelvin": rmse, "bias_free_rmse_kelvin": free}
        result.scores.append(ImageScore("a", method, 100, values))
    counts = {method: row["worse_than_bicubic"] for method, row in result.summary().items()}
    assert counts == {"bicubic": 0, "biased": 0, "noisy": 1}


def test_differences_to_bicubic_are_paired(tmp_path):
    result = BenchmarkResult("r", "t", metrics=("rmse_kelvin",))
    for number in range(12):
        # Images differ by far more than the methods do.
        for method, gain in (("bicubic", 0.0), ("better", -0.1 - 0.01 * (number % 2))):
            values = {"rmse_kelvin": 1.0 + number + gain}
            result.scores.append(ImageScore(str(number), method, 100, values))
    assert result.difference_to_baseline("bicubic") is None
    found = result.difference_to_baseline("better")
    assert found.mean == pytest.approx(-0.105)
    assert -0.11 < found.low < found.mean < found.high < -0.1
    paths = write_tables(result, tmp_path)
    written = json.loads(paths[1].read_text())["rmse_kelvin_less_bicubic"]
    assert written == {"better": {"mean": found.mean, "low": found.low, "high": found.high}}
    assert "| better | -0.105 |" in paths[2].read_text()


def test_clearest_window_is_brute_force():
    valid = np.random.default_rng(3).random((20, 30)) > 0.4
    rows, columns = clearest_window(valid, size=7)
    counts = {(r, c): valid[r : r + 7, c : c + 7].sum() for r in range(14) for c in range(24)}
    assert valid[rows, columns].sum() == max(counts.values())
    assert clearest_window(valid[:5], size=7)[0] == slice(0, 5)
