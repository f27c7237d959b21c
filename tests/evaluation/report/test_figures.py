"""Maps show the right colours where they belong, and charts carry the values they are given."""

from __future__ import annotations

import base64
import io
import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib import colormaps
from PIL import Image

from keras_lstsr.evaluation import report_figures as figures
from keras_lstsr.evaluation.report_content import RegistrationShift, Spectra


def picture(uri: str) -> np.ndarray:
    head, _, body = uri.partition(",")
    assert head == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(body))).convert("RGB"))


def test_map_colours_and_grey_gap():
    scale = figures.ColourScale("inferno", 280.0, 300.0)
    drawn = picture(figures.map_png(np.array([[280.0, 300.0], [np.nan, 350.0]]), scale, 2))
    ends = np.rint(255 * colormaps["inferno"](np.array([0.0, 1.0]))[:, :3])
    np.testing.assert_array_equal(drawn[0], ends)
    np.testing.assert_array_equal(drawn[1], [[0xBF] * 3, ends[1]])


def test_small_map_is_repeated_and_large_one_averaged():
    scale = figures.ColourScale("inferno", 0.0, 1.0)
    repeated = picture(figures.map_png(np.array([[0.0, 1.0]]), scale, 7))
    assert repeated.shape == (3, 6, 3)
    assert (repeated[:, :3] == repeated[0, 0]).all()
    # Means of 2 × 2 pixels, of those that have a value; a block without any stays a gap.
    values = np.array([[0.2, 0.6, np.nan, np.nan], [np.nan, 0.4, np.nan, np.nan], [1.0] * 4])
    averaged = picture(figures.map_png(values, scale, 2))
    expected = picture(figures.map_png(np.array([[0.4, np.nan], [1.0, 1.0]]), scale, 2))
    np.testing.assert_array_equal(averaged, expected)


@given(
    low=st.floats(-400, 400, allow_nan=False),
    span=st.floats(0.05, 300, allow_nan=False),
)
def test_ticks_lie_where_their_text_says(low, span):
    scale = figures.ColourScale("inferno", low, low + span)
    assert 2 <= len(scale.ticks) <= 8
    for place, text in scale.ticks:
        assert 2 <= place <= 98
        value = float(text.replace("−", "-"))
        assert low + span * place / 100 == pytest.approx(value, abs=2e-4 * span + 1e-6)
        assert text not in {"−0", "−0.0", "−0.00"}


def test_scales():
    errors = [np.array([[-3.0, 1.0, np.nan]]), np.array([[0.5, 0.0, 2.0]])]
    scale = figures.error_scale(errors)
    assert scale.low == -scale.high
    assert 2.0 < scale.high <= 3.0
    nothing = np.full((2, 2), np.nan)
    for made in (figures.error_scale([nothing]), figures.value_scale([nothing], "inferno")):
        assert made.low < made.high
    flat = figures.value_scale([np.full((3, 3), 290.0)], "inferno")
    assert flat.low == 290.0 < flat.high


def test_no_two_series_are_alike():
    assert len({figures.series_style(index) for index in range(32)}) == 32


def _polylines(svg: str, colour: str) -> list[np.ndarray]:
    """Points of the curves that are drawn in one of the page's colours."""
    found = re.findall(
        rf'<path d="([^"]+)"[^>]*style="fill: none; stroke: {re.escape(colour)}', svg
    )
    return [
        np.array([[float(n) for n in pair] for pair in re.findall(r"[ML] (\S+) (\S+)", path)])
        for path in found
    ]


def test_spectra_are_drawn_where_they_belong():
    frequency = np.array([0.0, 0.1, 0.2, 0.4, 0.8])
    truth = np.array([9.0, 1e3, 1e2, 1e1, 1e0])
    spectra = Spectra(frequency, truth, {"a": truth / 10}, {"a": np.linspace(1, 0.2, 5)})
    power = figures.power_svg(spectra)
    (curve,) = _polylines(power, "var(--series-0)")
    truths = [line for line in _polylines(power, "var(--ink)") if len(line) == 4]
    # Frequency 0 has no wavelength; octaves and decades are equal steps on logarithmic axes.
    assert len(curve) == 4
    np.testing.assert_allclose(np.diff(curve, n=2, axis=0), 0, atol=1e-3)
    step = curve[1] - curve[0]
    assert step[0] > 0 and step[1] > 0  # to shorter wavelengths rightwards, to less power downwards
    # A tenth of the power lies one decade lower, which is as far as a step of the curve.
    np.testing.assert_allclose(curve[:, 1] - truths[0][:, 1], step[1], atol=1e-3)
    (ring,) = _polylines(figures.ring_correlation_svg(spectra), "var(--series-0)")
    np.testing.assert_allclose(np.diff(ring, n=2, axis=0), 0, atol=1e-3)


def test_charts_bring_no_names_of_other_sites_nor_colours_of_their_own():
    rng = np.random.default_rng(0)
    values = rng.normal(295, 5, 500)
    shifts = [RegistrationShift(str(i), *rng.normal(-1, 0.2, 2), 0.9) for i in range(5)]
    curve = np.geomspace(100, 1, 6)
    spectra = Spectra(np.linspace(0, 2, 6), curve, {"a": curve}, {"a": curve / 100})
    drawings = [
        figures.scatter_svg("s", values, values + rng.normal(size=500), (280.0, 310.0)),
        figures.shifts_svg(shifts, (-1.0, -1.0)),
        figures.differences_svg("d", {"a": values - 295}, {"a": (0.0, -0.1, 0.1)}, "K"),
        figures.power_svg(spectra),
        figures.ring_correlation_svg(spectra),
    ]
    for svg in drawings:
        assert svg.startswith('<svg viewBox="0 0 ')
        assert not any(name in svg for name in ("http", "xmlns", "xlink:"))
        assert not re.search(r"#0[1-4]0[0-3]0", svg)
        names = re.findall(r'\bid="([^"]+)"', svg)
        assert len(names) == len(set(names))
        used = re.findall(r'(?:href="#|url\(#)([^")]+)', svg)
        assert set(used) <= set(names)


def test_a_curve_without_values_is_no_error():
    nothing = np.full(4, np.nan)
    spectra = Spectra(np.arange(4.0), nothing, {"a": nothing}, {"a": nothing})
    assert "<svg" in figures.power_svg(spectra)
    assert "<svg" in figures.ring_correlation_svg(spectra)


def test_method_names_are_escaped_and_never_taken_for_formulas():
    svg = figures.differences_svg("d", {"<b>$x$": np.zeros(3)}, {}, "K")
    assert "&lt;b&gt;$x$" in svg and "<b>" not in svg
