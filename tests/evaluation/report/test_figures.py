"""Charts carry the values they are given."""

from __future__ import annotations

import re

import numpy as np

from keras_lstsr.evaluation.report import figures
from keras_lstsr.evaluation.report.content import Spectra
from keras_lstsr.grids.registration import Shift


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
    places = rng.normal(-1, 0.2, (5, 2))
    curve = np.geomspace(100, 1, 6)
    spectra = Spectra(np.linspace(0, 2, 6), curve, {"a": curve}, {"a": curve / 100})
    drawings = [
        figures.scatter_svg("s", values, values + rng.normal(size=500), (280.0, 310.0)),
        figures.shifts_svg(places, Shift(-1.0, -1.0, 1.0)),
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
