"""Means, intervals and differences agree with hand values, and tables tell them."""

from __future__ import annotations

import csv
import json

import numpy as np
import pytest

from keras_lstsr.evaluation.report.tables import (
    interval_table,
    markdown_table,
    summary_metrics,
    write_tables,
)
from keras_lstsr.evaluation.result import BenchmarkResult, ImageMaps, ImageScore, score_maps
from keras_lstsr.testing.samples import texture


def score_image(name, results, truth):
    return score_maps(ImageMaps(name, truth, results, 250.0))


def test_summary_and_tables(tmp_path):
    truth = (295 + 10 * texture(32, seed=0)).astype(np.float32)
    result = BenchmarkResult("patches_test", "a title", main_metrics=("rmse_kelvin",))
    for index, errors in enumerate([(1.0, 0.5), (1.0, 2.0)]):
        images = {"bicubic": truth + errors[0], "model": truth + errors[1]}
        result.scores += score_image(f"patch {index}", images, truth)
    assert result.summary()["model"]["worse_than_bicubic"] == 1
    assert result.summary()["model"]["rmse_kelvin"] == pytest.approx(1.25, rel=1e-4)
    assert "| model | 1.250 | 1.250 |" in markdown_table(result, ["rmse_kelvin", "bias_kelvin"])
    paths = write_tables(result, tmp_path)
    rows = list(csv.DictReader(paths[0].open()))
    assert [row["method"] for row in rows] == ["bicubic", "model"] * 2
    assert float(rows[3]["rmse_kelvin"]) == pytest.approx(2, rel=1e-4)
    assert json.loads(paths[1].read_text())["summary"]["bicubic"]["images"] == 2
    assert summary_metrics([result])["patches_test.model.rmse_kelvin"] == pytest.approx(
        1.25, rel=1e-4
    )


def test_intervals_are_drawn_by_groups(tmp_path):
    result = BenchmarkResult("r", "t", details={"pairs": 24})
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
    result = BenchmarkResult("r", "t")
    figures = {"bicubic": (2.0, 1.5), "biased": (3.0, 1.0), "noisy": (1.0, 1.6)}
    for method, (rmse, free) in figures.items():
        values = {"rmse_kelvin": rmse, "bias_free_rmse_kelvin": free}
        result.scores.append(ImageScore("a", method, 100, values))
    counts = {method: row["worse_than_bicubic"] for method, row in result.summary().items()}
    assert counts == {"bicubic": 0, "biased": 0, "noisy": 1}


def test_differences_to_bicubic_are_paired(tmp_path):
    result = BenchmarkResult("r", "t")
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
