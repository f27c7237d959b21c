"""The report is whole HTML that needs no network, shows all it is given, and nothing it is not."""

from __future__ import annotations

import re
import tomllib
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest

import keras_lstsr
from keras_lstsr.evaluation.report import html
from keras_lstsr.evaluation.report.content import Evaluation, SceneMaps, Spectra
from keras_lstsr.evaluation.report.html import render_html_report, write_html_report
from keras_lstsr.evaluation.result import BenchmarkResult, ImageScore
from keras_lstsr.grids.registration import ConstantShift, Shift
from keras_lstsr.records.scene_sample import SetRegistration

METHODS = ("nearest", "bicubic", "TsHARP")
METRICS = ("rmse_kelvin", "bias_kelvin", "psnr_db", "ssim", "bias_free_rmse_kelvin")
PACKAGE = Path(keras_lstsr.__file__).parent
VOID = {"wbr", "meta", "img", "br", "link", "input", "hr"}


class Page(HTMLParser):
    """Collects what a page is made of and fails on tags that do not match."""

    def __init__(self, text: str):
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self.feed(text)
        self.close()
        assert not self.open

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.texts).split())

    def all(self, name: str) -> list[dict[str, str | None]]:
        return [attributes for tag, attributes in self.tags if tag == name]


def _result(name: str = "pairs") -> BenchmarkResult:
    rng = np.random.default_rng(0)
    scores = [
        ImageScore(
            f"{i:03d}", method, 900, {m: 2.0 - 0.3 * k + rng.uniform(0, 0.1) for m in METRICS}
        )
        for i in range(6)
        for k, method in enumerate(METHODS)
    ]
    groups = {f"{i:03d}": f"g{i // 2}" for i in range(6)}
    return BenchmarkResult(name, "1 km → 250 m", scores, groups=groups)


def _scene(size: int = 32, guide: bool = True) -> SceneMaps:
    rng = np.random.default_rng(1)
    truth = rng.normal(295, 5, (size, size))
    truth[:3] = np.nan
    return SceneMaps(
        name="017",
        group="g3",
        coarse_kelvin=rng.normal(295, 4, (size // 4, size // 4)),
        guides={"NDVI": rng.uniform(0.1, 0.8, (size, size))} if guide else {},
        truth_kelvin=truth,
        maps={method: truth + rng.normal(0, 1, truth.shape) for method in METHODS},
        scores={method: {"rmse_kelvin": 1.25} for method in METHODS},
        pixel_size_m=250.0,
    )


@pytest.fixture(scope="module")
def evaluation() -> Evaluation:
    rng = np.random.default_rng(2)
    curve = np.geomspace(1e4, 1e-2, 30)
    truth = rng.normal(295, 5, 400)
    shifts = {f"{i:03d}": Shift(*rng.normal(-1, 0.1, 2), 0.8) for i in range(6)}
    constant = ConstantShift(-1.0, -1.02, 0.8, 6, 0.1, 0.1)
    return Evaluation(
        data="six pairs",
        results=[_result()],
        scenes=[_scene()],
        spectra=Spectra(
            np.linspace(0, 2, 30),
            curve,
            dict.fromkeys(METHODS, curve / 2),
            {method: np.linspace(1, 0, 30) for method in METHODS},
            coarse_pixel_size_m=1000.0,
        ),
        scatter={method: (truth, truth + rng.normal(0, 1, 400)) for method in METHODS},
        registration=SetRegistration(shifts, constant, constant),
        applied_shift=constant,
        notes=["NumPy 2", "TsHARP fell back to bicubic on 003"],
    )


def _without_figures(evaluation: Evaluation) -> Evaluation:
    return replace(evaluation, results=[], scenes=[], spectra=None, scatter={})


@pytest.fixture(scope="module")
def page(evaluation) -> Page:
    return Page(render_html_report(evaluation, title="Sharpening methods"))


def test_everything_is_there(evaluation, page):
    for method in METHODS:
        named = sum(method == text.strip() for text in page.texts)
        # Table, difference chart (not bicubic), map, legend, scatter, table of every image.
        assert named >= 5, method
    for expected in (
        "Sharpening methods",
        "3 methods on 6 images of six pairs, in 3 groups; images of one group share ground.",
        *evaluation.notes,
        "median of 6 pairs",
        "The best of 3 methods is TsHARP",
    ):
        assert expected in page.text
    assert "−1.00 rows and −1.02 columns" in page.text
    assert "in 3 groups that share no ground" in page.text
    # Input, guide, truth, and for each method a map and its error.
    assert len(page.all("img")) == 3 + 2 * len(METHODS)
    assert page.text.count("error (K)") == 1 and page.text.count("LST (K)") >= 1


def test_no_network(evaluation):
    text = render_html_report(evaluation)
    page = Page(text)
    assert not re.search(r"https?://|@import|<script|<link|<iframe", text)
    for _, attributes in page.tags:
        for name in ("src", "href", "srcset", "data", "poster", "action"):
            target = attributes.get(name)
            assert target is None or target.startswith(("#", "data:image/png;base64,"))
    assert not re.search(r"url\((?!#)", text)


def test_what_a_model_has_learnt_from_stands_before_the_sections(evaluation):
    warned = replace(evaluation, learnt_from=["TsHARP has learnt from 2 of these 6 samples."])
    text = render_html_report(warned)
    assert text.index("The best of 3") < text.index("has learnt from 2") < text.index("<nav")
    assert "has learnt" not in render_html_report(evaluation)


def test_accessible(page):
    assert page.all("html")[0]["lang"] == "en"
    assert all(image["alt"] for image in page.all("img"))
    assert all(head.get("scope") in {"col", "row"} for head in page.all("th"))
    assert all(a.get("aria-label") for _, a in page.tags if a.get("role") == "img")
    names = [a["id"] for _, a in page.tags if a.get("id")]
    assert len(names) == len(set(names))
    targets = {a["href"][1:] for a in page.all("a")}
    labels = {a["aria-labelledby"] for _, a in page.tags if a.get("aria-labelledby")}
    assert targets | labels <= set(names)


SECTIONS = ("maps", "spectra", "scatter", "registration", "images", "notes")


def test_full_content_has_all_sections(page):
    names = {a.get("id") for _, a in page.tags}
    assert set(SECTIONS) <= names


def test_what_is_missing_leaves_no_section(evaluation):
    bare = Page(render_html_report(Evaluation("", []), title="Bare"))
    names = {a.get("id") for _, a in bare.tags}
    assert not set(SECTIONS) & names
    assert not bare.all("section") and not bare.all("a") and not bare.all("figure")
    assert bare.text.split() == ["Bare", "Bare"]  # the title of the page and its heading


@pytest.mark.parametrize(
    ("field", "empty", "section"),
    [
        ("scenes", [], "maps"),
        ("spectra", None, "spectra"),
        ("scatter", {}, "scatter"),
        ("notes", [], "notes"),
        ("results", [BenchmarkResult("empty", "nothing scored")], "images"),
    ],
)
def test_each_part_may_be_missing(evaluation, field, empty, section):
    # The registration has a section and a note of its own.
    page = Page(render_html_report(replace(evaluation, registration=None, **{field: empty})))
    assert section not in {a.get("id") for _, a in page.tags}
    assert f"#{section}" not in {a["href"] for a in page.all("a")}


def test_registration_may_be_missing_or_half_there(evaluation):
    evaluation = _without_figures(evaluation)
    neither = Page(render_html_report(replace(evaluation, registration=None, applied_shift=None)))
    assert "Registration" not in neither.text
    constant = Page(render_html_report(replace(evaluation, registration=None)))
    assert "−1.02 columns" in constant.text and "Shift of every image" not in constant.text
    found = Page(render_html_report(replace(evaluation, applied_shift=None)))
    assert "Shift applied" not in found.text and "the one applied" not in found.text
    assert "Shift of every image" in found.text


def test_no_guide_no_scores_no_group(evaluation):
    scene = replace(_scene(guide=False), scores={}, group="", pixel_size_m=None)
    page = Page(render_html_report(replace(_without_figures(evaluation), scenes=[scene])))
    assert len(page.all("img")) == 2 + 2 * len(METHODS)
    assert "guide:" not in page.text and "(group" not in page.text and " km by " not in page.text


def test_values_that_are_not_finite_are_dashes(evaluation):
    evaluation = _without_figures(evaluation)
    result = _result()
    result.scores = [
        replace(s, values=s.values | {"psnr_db": np.inf, "ssim": np.nan}) for s in result.scores
    ]
    text = render_html_report(replace(evaluation, results=[result]))
    cells = re.findall(r"<td[^>]*>(.*?)</td>", text)
    assert sum(cell == "–" for cell in cells) >= 2 * len(METHODS) * 7
    assert not any(re.search(r"\b(nan|inf)\b", cell, re.IGNORECASE) for cell in cells)


def test_text_is_escaped(evaluation):
    evil = "<script>alert('1')</script>&"
    scene = replace(_scene(), name=evil, maps={evil: _scene().truth_kelvin}, scores={})
    result = _result(evil)
    result.title = evil
    result.scores = [replace(s, image=evil) for s in result.scores if s.image == "000"]
    result.scores.append(replace(result.scores[0], method=evil))
    changed = replace(
        evaluation,
        data=evil,
        notes=[evil],
        results=[result],
        scenes=[scene],
        scatter={evil: evaluation.scatter["bicubic"]},
        registration=replace(evaluation.registration, shifts={evil: Shift(0.0, 0.0, 1.0)}),
    )
    page = Page(render_html_report(changed, title=evil))
    assert not page.all("script")
    # A name may break after its slash.
    assert page.text.replace("</ script", "</script").count(evil) >= 12


def test_long_names_may_break_at_their_joints(evaluation):
    result = _result()
    result.scores = [replace(s, method=f"tsharp:residual=<{s.method}>") for s in result.scores]
    text = render_html_report(replace(_without_figures(evaluation), results=[result]))
    assert '<th scope="row">tsharp:<wbr>residual=&lt;nearest&gt;</th>' in text


def test_maps_are_cropped_to_the_truth(evaluation):
    text = render_html_report(replace(_without_figures(evaluation), scenes=evaluation.scenes))
    assert "32 pixels across and 29 down, 8 km by 7 km" in text
    assert "NDVI lie" not in text
    assert "the input lies on a grid of its own" in text  # its guide has the truth's shape


def test_large_maps_stay_within_the_budget(evaluation, monkeypatch):
    monkeypatch.setattr(html, "_MAPS_BYTES", 400_000)
    scenes = [_scene(600), _scene(600)]
    text = render_html_report(replace(_without_figures(evaluation), scenes=scenes))
    pictures = re.findall(r'<img src="([^"]+)"', text)
    assert 200_000 < sum(map(len, pictures)) < 1.15 * 400_000
    assert "drawn as means of" in text
    assert "1 more scene is left out" in text


def test_written_whole_or_not_at_all(tmp_path, evaluation, monkeypatch):
    evaluation = _without_figures(evaluation)
    path = tmp_path / "made" / "report.html"
    assert write_html_report(path, evaluation) == path
    first = path.read_text(encoding="utf-8")
    assert first.startswith("<!DOCTYPE html>") and first.rstrip().endswith("</html>")
    assert list(path.parent.iterdir()) == [path]

    def full_disk(target, text, **_options):
        target.write_bytes(text[: len(text) // 2].encode())
        raise OSError("no space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("pathlib.Path.write_text", full_disk)
        with pytest.raises(OSError, match="no space"):
            write_html_report(path, evaluation, title="second")
    assert path.read_text(encoding="utf-8") == first
    assert list(path.parent.iterdir()) == [path]


def test_same_content_same_page(evaluation):
    assert render_html_report(evaluation) == render_html_report(evaluation)


def test_template_is_part_of_the_package():
    settings = tomllib.loads((PACKAGE.parent / "pyproject.toml").read_text(encoding="utf-8"))
    patterns = settings["tool"]["setuptools"]["package-data"]["keras_lstsr"]
    shipped = {path for pattern in patterns for path in PACKAGE.glob(pattern)}
    templates = set(PACKAGE.rglob("*.j2"))
    assert templates and templates <= shipped
