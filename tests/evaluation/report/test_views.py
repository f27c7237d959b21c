"""What the report says in words and marks as best agrees with the scores."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.evaluation.report.views import (
    MAXIMUM_TABLE_IMAGES,
    finding,
    name_and_unit,
    plain,
    result_view,
)
from keras_lstsr.evaluation.result import BenchmarkResult, ImageScore


def benchmark(values: dict[str, list[float]], metric="rmse_kelvin", **options) -> BenchmarkResult:
    scores = [
        ImageScore(f"image {index}", method, 100, {metric: value})
        for method, column in values.items()
        for index, value in enumerate(column)
    ]
    return BenchmarkResult("name", "title", scores, **options)


def test_finding_by_hand():
    found = finding(
        benchmark({"bicubic": [2.0, 2.0, 1.0, 3.0], "a": [1.0, 1.5, 1.25, 2.0], "b": [2.0] * 4})
    )
    assert found.headline.replace("\u202f", " ") == (
        "The best of 3 methods is a: 1.44 K RMSE, bicubic 2.00 K; better on 3 of 4 images."
    )
    assert "−0.56\u202fK (below 0 is better)" in found.certainty


def test_finding_says_when_the_interval_includes_zero():
    surely = benchmark({"bicubic": [2.0] * 20, "a": list(np.linspace(1.0, 1.2, 20))})
    hardly = benchmark({"bicubic": [2.0] * 20, "a": list(np.linspace(0.5, 3.4, 20))})
    assert "includes 0" not in finding(surely).certainty
    assert "includes 0" in finding(hardly).certainty
    # Two groups that disagree tell less than twenty images that look independent.
    groups = {f"image {i}": "left" if i < 10 else "right" for i in range(20)}
    values = {"bicubic": [2.0] * 20, "a": [1.0] * 10 + [2.1] * 10}
    assert "includes 0" not in finding(benchmark(values)).certainty
    assert "includes 0" in finding(benchmark(values, groups=groups)).certainty


def test_finding_without_a_winner_over_bicubic():
    beaten = finding(benchmark({"bicubic": [1.0, 1.0], "a": [2.0, 2.0], "b": [1.5, 1.5]}))
    assert beaten.headline.startswith("No method beats bicubic")
    assert "nearest is b with 1.50" in beaten.headline
    assert "ahead of b with 2.00" in finding(benchmark({"a": [1.0], "b": [2.0]})).headline
    assert finding(benchmark({"a": [1.0]})).headline == "a: 1.00\u202fK RMSE."
    assert "nothing can be concluded" in finding(benchmark({"a": [np.nan]})).headline


def test_more_is_better_for_ssim():
    found = finding(benchmark({"bicubic": [0.5, 0.6], "a": [0.7, 0.5], "b": [0.1, 0.1]}, "ssim"))
    assert found.headline == "The best of 3 methods is a: 0.60 SSIM, bicubic 0.55; " + (
        "better on 1 of 2 images."
    )


def _best(result: BenchmarkResult) -> list[str]:
    return [m for m, cells in result_view(result, 0)["tables"][0]["rows"] if cells[0].best]


@pytest.mark.parametrize(
    ("metric", "values", "best"),
    [
        ("rmse_kelvin", {"a": [1.0], "b": [2.0]}, ["a"]),
        ("psnr_db", {"a": [20.0], "b": [21.0]}, ["b"]),
        ("bias_kelvin", {"a": [-0.1], "b": [0.05], "c": [-3.0]}, ["b"]),
        ("ssim", {"a": [0.5], "b": [0.5], "c": [0.4]}, ["a", "b"]),
        ("ssim", {"a": [0.5], "b": [0.5]}, []),
        ("rmse_kelvin", {"a": [1.0]}, []),
        ("rmse_kelvin", {"a": [np.nan], "b": [2.0], "c": [3.0]}, ["b"]),
    ],
)
def test_best_of_a_column(metric, values, best):
    assert _best(benchmark(values, metric)) == best


def test_images_and_values_that_are_not_finite():
    result = benchmark({"bicubic": [20.0, np.inf], "a": [21.0, np.nan]}, "psnr_db")
    (table,) = result_view(result, 0)["image_tables"]
    texts = {row[0]: [cell.text for cell in row[3]] for row in table["rows"]}
    assert texts == {"image 0": ["20.00", "21.00"], "image 1": ["–", "–"]}


def test_counts_and_intervals():
    result = benchmark({"bicubic": [1.0, 1.0, 1.0], "a": [0.5, 2.0, 3.0]})
    (table,) = result_view(result, 0)["tables"]
    rows = dict(table["rows"])
    assert table["headings"] == ["RMSE (K)", "worse than bicubic"]
    assert [cell.text for cell in rows["a"]] == ["1.833", "2 of 3"]
    interval = result.interval("a", "rmse_kelvin")
    assert rows["a"][0].interval == f"{interval.low:.3f} to {interval.high:.3f}".replace("-", "−")
    # Equal values have no width; bicubic is not compared with itself.
    assert rows["bicubic"][0].interval == ""
    assert rows["bicubic"][1].text == "–"


def test_many_metrics_make_several_tables():
    metrics = ("ssim", *(f"m{i}_kelvin" for i in range(9)), "bias_free_rmse_kelvin")
    scores = [
        ImageScore("i", method, 50, dict.fromkeys(metrics, value))
        for method, value in (("bicubic", 1.0), ("a", 2.0))
    ]
    view = result_view(BenchmarkResult("n", "t", scores), 0)
    first, second = (table["headings"] for table in view["tables"])
    assert first[:2] == ["bias-free RMSE (K)", "SSIM"] and first[-1] == "worse than bicubic"
    assert len(first) + len(second) == len(metrics) + 1


def test_long_benchmarks_are_cut_in_the_page():
    view = result_view(benchmark({"a": [1.0] * (MAXIMUM_TABLE_IMAGES + 5)}), 0)
    assert len(view["image_tables"][0]["rows"]) == MAXIMUM_TABLE_IMAGES == view["images_shown"]
    assert view["images"] == MAXIMUM_TABLE_IMAGES + 5


def test_words():
    assert plain(-0.001) == "0.00"
    assert plain(-1.5) == "−1.50"
    assert plain(np.nan) == "–"
    assert name_and_unit("rmse_kelvin") == ("RMSE", "\u202fK")
    assert name_and_unit("edge_error_kelvin") == ("edge error", "\u202fK")
