"""What a report shows is chosen by the scores, and bounded however large the images are."""

from __future__ import annotations

import numpy as np

from keras_lstsr.evaluation.report import content
from keras_lstsr.evaluation.report.content import (
    Collector,
    clearest_window,
    representative_images,
    scene_maps,
)
from keras_lstsr.evaluation.result import BenchmarkResult, ImageMaps, ImageScore
from keras_lstsr.testing.samples import made_scene


def test_representative_images_are_best_median_and_worst():
    gains = {"a": -0.1, "b": -0.5, "c": 0.2, "d": -0.2, "e": -0.3}
    result = BenchmarkResult("r", "t")
    for image, gain in gains.items():
        for method, value in {"bicubic": 2.0, "good": 2.0 + gain, "bad": 5.0}.items():
            result.scores.append(ImageScore(image, method, 100, {"rmse_kelvin": value}))
    images, rule = representative_images(result)
    assert images == ["b", "d", "c"]
    assert "good" in rule and rule.endswith("(RMSE).")


def test_clearest_window_is_brute_force():
    valid = np.random.default_rng(3).random((20, 30)) > 0.4
    rows, columns = clearest_window(valid, size=7)
    counts = {(r, c): valid[r : r + 7, c : c + 7].sum() for r in range(14) for c in range(24)}
    assert valid[rows, columns].sum() == max(counts.values())
    assert clearest_window(valid[:5], size=7)[0] == slice(0, 5)


def test_a_sample_of_pixels_is_drawn_evenly_from_all_images(monkeypatch):
    monkeypatch.setattr(content, "SCATTER_PIXELS", 300)
    collector = Collector()
    for number in range(30):
        truth = np.full((20, 20), float(number))
        truth[:2] = np.nan
        collector.add(ImageMaps(str(number), truth, {"a": truth + 0.5, "b": truth - 1}, 250.0))
    scatter = collector.scatter()
    truth, values = scatter["a"]
    assert truth.shape == (300,)
    np.testing.assert_array_equal(values, truth + 0.5)
    np.testing.assert_array_equal(scatter["b"][1], truth - 1)
    # Ten of each image are expected; none is left out or takes all.
    assert np.bincount(truth.astype(int), minlength=30).min() >= 1
    assert np.bincount(truth.astype(int)).max() <= 30


def test_a_large_scene_is_shown_in_part_on_the_same_ground(monkeypatch):
    monkeypatch.setattr(content, "MAXIMUM_MAP_PIXELS", 32)
    scene = made_scene(coarse_pixels=20)
    truth = np.add.outer(np.arange(80.0), np.arange(80.0) / 100)
    truth[:, :30] = np.nan
    result = BenchmarkResult("r", "t", [ImageScore("000", "m", 1, {"rmse_kelvin": 0.0})])
    shown = scene_maps(ImageMaps("000", truth, {"m": truth}, 250.0), scene, result)
    row, column = round(shown.truth_kelvin[0, 0] // 1), 30
    assert shown.truth_kelvin.shape == shown.maps["m"].shape == (32, 32)
    np.testing.assert_array_equal(shown.truth_kelvin, truth[row : row + 32, column : column + 32])
    guide = scene.guides["ndvi"].values[row : row + 32, column : column + 32]
    np.testing.assert_array_equal(shown.guides["NDVI"], guide)
    coarse = scene.lst.values[row // 4 : -(-(row + 32) // 4), column // 4 : -(-(column + 32) // 4)]
    np.testing.assert_array_equal(shown.coarse_kelvin, coarse)
