"""Charts of the HTML report as SVG that take the page's colours."""

from __future__ import annotations

import io
import re
from collections.abc import Callable, Mapping

import numpy as np
from matplotlib import colormaps, rc_context
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap, LogNorm
from matplotlib.figure import Figure
from matplotlib.ticker import (
    FuncFormatter,
    LogLocator,
    MaxNLocator,
    NullFormatter,
)
from numpy.typing import NDArray

from keras_lstsr.evaluation.report.content import Spectra
from keras_lstsr.grids.registration import Shift

# Colours of series that the page defines for light and for dark.
SERIES_COLOURS = 8
_DASHES = ((), (6.0, 2.5), (2.0, 2.0), (7.0, 2.0, 2.0, 2.0))

# Stand-ins that matplotlib writes into the SVG and `_themed` turns into the page's colours.
_INK, _MUTED, _GRID = "#010101", "#020202", "#030303"
_SERIES = [f"#0400{index:02x}" for index in range(SERIES_COLOURS)]
# Bright enough for a dark page and dark enough for a white one.
_DENSITY = LinearSegmentedColormap.from_list(
    "density", colormaps["plasma"](np.linspace(0.22, 0.82, 64))
)
_SCATTER_BINS = 90
_MAXIMUM_DOTS = 300  # more dots of a row cannot be told apart


def series_style(index: int) -> tuple[int, tuple[float, ...]]:
    """Returns the page's colour and the dashes of a series; no two of the first 32 are alike."""
    return index % SERIES_COLOURS, _DASHES[(index + index // SERIES_COLOURS) % len(_DASHES)]


def power_svg(spectra: Spectra) -> str:
    """Draws power against wavelength, both logarithmic, longest wavelength at the left."""

    def draw(axis: Axes) -> None:
        shown = spectra.frequency_per_km > 0
        wavelength_km = 1 / spectra.frequency_per_km[shown]
        axis.plot(wavelength_km, spectra.truth[shown], color=_INK, linewidth=2.4)
        for index, power in enumerate(spectra.methods.values()):
            _draw_curve(axis, index, wavelength_km, power[shown])
        axis.set_yscale("log")
        # Interpolation leaves next to nothing at short wavelengths; how little tells nothing more.
        curves = [spectra.truth[shown], *(power[shown] for power in spectra.methods.values())]
        positive = [curve[np.isfinite(curve) & (curve > 0)] for curve in curves]
        if positive[0].size:
            lowest = min(float(curve.min()) for curve in positive if curve.size)
            axis.set_ylim(bottom=max(0.7 * lowest, float(positive[0].min()) / 100))
        axis.yaxis.set_major_locator(LogLocator(numticks=6))
        axis.yaxis.set_major_formatter(FuncFormatter(_power_of_ten))
        axis.yaxis.set_minor_formatter(NullFormatter())
        _wavelength_axis(axis, wavelength_km, spectra.coarse_pixel_size_m)
        axis.set_ylabel(f"power ({spectra.power_unit})", parse_math=False)

    return _svg(draw, "power", 4.5, 3.6)


def ring_correlation_svg(spectra: Spectra) -> str:
    """Draws the Fourier ring correlation with the truth against wavelength."""

    def draw(axis: Axes) -> None:
        shown = spectra.frequency_per_km > 0
        wavelength_km = 1 / spectra.frequency_per_km[shown]
        for index, name in enumerate(spectra.methods):
            if name in spectra.ring_correlation:
                _draw_curve(axis, index, wavelength_km, spectra.ring_correlation[name][shown])
        axis.axhline(0.5, color=_MUTED, linewidth=0.8)
        values = np.concatenate([c[shown] for c in spectra.ring_correlation.values()])
        lowest = values[np.isfinite(values)].min(initial=0.0)
        axis.set_ylim(lowest - 0.02, 1.02)
        _wavelength_axis(axis, wavelength_km, spectra.coarse_pixel_size_m)
        axis.set_ylabel("ring correlation with the truth")

    return _svg(draw, "ring", 4.5, 3.6)


def scatter_svg(
    prefix: str,
    truth_kelvin: NDArray[np.floating],
    prediction_kelvin: NDArray[np.floating],
    limits_kelvin: tuple[float, float],
) -> str:
    """Draws how many pixels fall where, predicted against true, with the 1:1 line.

    Args:
        prefix: Makes the ids of this drawing unique on the page.
        truth_kelvin: ``[N]``.
        prediction_kelvin: ``[N]``.
        limits_kelvin: Ends of both axes, the same for all methods.
    """
    edges = np.linspace(*limits_kelvin, _SCATTER_BINS + 1)
    counts, _, _ = np.histogram2d(prediction_kelvin, truth_kelvin, bins=(edges, edges))

    def draw(axis: Axes) -> None:
        top = max(float(counts.max()), 2.0)
        axis.imshow(
            np.where(counts > 0, counts, np.nan),
            extent=(*limits_kelvin, *limits_kelvin),
            origin="lower",
            norm=LogNorm(1, top),
            cmap=_DENSITY,
            interpolation="none",
        )
        axis.plot(limits_kelvin, limits_kelvin, color=_INK, linewidth=0.9)
        axis.grid(visible=False)
        for one_axis in (axis.xaxis, axis.yaxis):
            one_axis.set_major_locator(MaxNLocator(4, integer=True))
        axis.set_xlabel("true LST (K)")
        axis.set_ylabel("predicted LST (K)")

    return _svg(draw, prefix, 2.9, 2.75)


def shifts_svg(places: NDArray[np.float64], applied: Shift | None) -> str:
    """Draws the shift of each image, rows downwards as on a raster, and the one applied to all.

    Args:
        places: Rows and columns of each shift, ``[N, 2]``; NaN where none was found.
        applied: The shift of all; None where none was applied.
    """
    rows, columns = places.T
    cross = () if applied is None else (applied.rows, applied.columns)

    def draw(axis: Axes) -> None:
        axis.axhline(0, color=_MUTED, linewidth=0.8)
        axis.axvline(0, color=_MUTED, linewidth=0.8)
        axis.scatter(columns, rows, s=20, color=_SERIES[0], alpha=0.55, linewidths=0)
        if cross:
            axis.plot(*cross[::-1], "+", color=_INK, markersize=15, markeredgewidth=1.8)
        reach = np.concatenate([rows, columns, cross, [0.0]])
        reach = reach[np.isfinite(reach)]
        margin = 0.08 * max(float(np.ptp(reach)), 0.5)
        ends = float(reach.min()) - margin, float(reach.max()) + margin
        axis.set_xlim(*ends)
        axis.set_ylim(*ends[::-1])
        axis.set_aspect("equal")
        for one_axis in (axis.xaxis, axis.yaxis):
            one_axis.set_major_locator(MaxNLocator(6))
        axis.set_xlabel("columns (pixels of the truth)")
        axis.set_ylabel("rows (pixels of the truth)")

    return _svg(draw, "shifts", 3.9, 3.7)


def differences_svg(
    prefix: str,
    differences: Mapping[str, NDArray[np.floating]],
    intervals: Mapping[str, tuple[float, float, float]],
    label: str,
) -> str:
    """Draws each image's difference to the baseline, and mean and interval by method.

    Args:
        prefix: Makes the ids of this drawing unique on the page.
        differences: Method → difference of each image, ``[N]``, NaN where there is none.
        intervals: Method → mean, low and high end; may lack methods.
        label: What the differences are, with their unit.
    """
    rng = np.random.default_rng(0)  # spreads the points of a row; moves none along the axis

    def draw(axis: Axes) -> None:
        axis.axvline(0, color=_INK, linewidth=0.9)
        for row, (method, values) in enumerate(differences.items()):
            colour = _SERIES[0]
            dots = values[np.isfinite(values)]
            if dots.size > _MAXIMUM_DOTS:
                dots = rng.choice(dots, _MAXIMUM_DOTS, replace=False)
            spread = row + rng.uniform(-0.24, 0.24, dots.size)
            axis.scatter(dots, spread, s=9, color=colour, alpha=0.4, linewidths=0)
            if method in intervals:
                mean, low, high = intervals[method]
                axis.plot([low, high], [row, row], color=_INK, linewidth=2.2)
                axis.plot([mean], [row], "o", color=_INK, markersize=5)
        axis.set_ylim(len(differences) - 0.5, -0.5)
        axis.set_yticks(range(len(differences)))
        axis.set_yticklabels(
            [name if len(name) <= 24 else name[:23] + "…" for name in differences],
            parse_math=False,
        )
        axis.xaxis.set_major_locator(MaxNLocator(6))
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="y", visible=False)
        axis.set_xlabel(label, parse_math=False)

    return _svg(draw, prefix, 4.6, 0.95 + 0.36 * len(differences))


def _draw_curve(
    axis: Axes, index: int, x: NDArray[np.floating], values: NDArray[np.floating]
) -> None:
    colour, dashes = series_style(index)
    (line,) = axis.plot(x, values, color=_SERIES[colour], linewidth=1.5)
    if dashes:
        line.set_dashes([length / 1.5 for length in dashes])


def _wavelength_axis(
    axis: Axes, wavelength_km: NDArray[np.floating], coarse_pixel_size_m: float | None
) -> None:
    axis.set_xscale("log")
    axis.set_xlim(wavelength_km.max(), wavelength_km.min())
    axis.xaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0), numticks=12))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.xaxis.set_minor_formatter(NullFormatter())
    axis.set_xlabel("wavelength (km)")
    if coarse_pixel_size_m is not None:
        axis.axvline(2 * coarse_pixel_size_m / 1000, color=_MUTED, linewidth=0.8)


def _power_of_ten(value: float, _: object) -> str:
    """Writes 10⁻³ in plain text: mathtext would be laid out for another font than the page's."""
    exponent = str(round(np.log10(value)))
    return "10" + exponent.translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))


def _svg(draw: Callable[[Axes], None], prefix: str, width_inches: float, height: float) -> str:
    style = {
        "svg.fonttype": "none",
        "svg.hashsalt": prefix,
        "font.size": 9.5,
        "axes.edgecolor": _MUTED,
        "axes.labelcolor": _INK,
        "axes.grid": True,
        "axes.spines.top": False,
        "axes.spines.right": False,
        "axes.unicode_minus": True,
        "grid.color": _GRID,
        "grid.linewidth": 0.7,
        "text.color": _INK,
        "xtick.color": _MUTED,
        "ytick.color": _MUTED,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "axes.axisbelow": True,
    }
    with rc_context(style):
        figure = Figure(figsize=(width_inches, height), layout="constrained")
        figure.patch.set_alpha(0)
        axis = figure.subplots()
        axis.patch.set_alpha(0)
        draw(axis)
        stream = io.StringIO()
        figure.savefig(stream, format="svg", metadata={"Date": None})
    return _themed(stream.getvalue(), prefix)


def _themed(svg: str, prefix: str) -> str:
    """Makes a drawing part of a page: the page's colours and font, ids of its own, no namespaces.

    Inside HTML an ``<svg>`` needs no namespaces, and without them the page names no other site.
    """
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = svg.replace("xlink:href=", "href=")
    svg = re.sub(r'\b(id=")', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r'(href="#|url\(#)', rf"\g<1>{prefix}-", svg)
    svg = re.sub(r"(font: [\d.]+px )[^;\"]*", r"\1var(--font)", svg)
    for stand_in, name in {_INK: "ink", _MUTED: "muted", _GRID: "grid"}.items():
        svg = svg.replace(stand_in, f"var(--{name})")
    for index, stand_in in enumerate(_SERIES):
        svg = svg.replace(stand_in, f"var(--series-{index})")
    # The namespaces stand in the outer tag. The page sets the size, and tells what is drawn.
    return re.sub(
        r'<svg[^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', svg, count=1
    )
