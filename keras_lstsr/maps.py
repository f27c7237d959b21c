"""Pictures of maps: one way to colour, to shrink and to lay out, for quicklooks, runs and reports.

Temperatures, errors and guides each have their colours; missing pixels are grey everywhere.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import Normalize, to_hex
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray
from PIL import Image  # a requirement of matplotlib: it writes matplotlib's PNGs

Map = NDArray[np.floating]
"""``[H, W]``, NaN where missing."""

GAP_COLOUR = "#bfbfbf"
LST_COLOURS = "inferno"
ERROR_COLOURS = "RdBu_r"
GUIDE_COLOURS = "YlGn"
LST_LABEL = "land surface temperature (K)"

# A panel cannot show more.
_PANEL_PIXELS = 1200
_FRAME_COLOUR = "cyan"
_ZOOM_PIXELS = 64


@dataclass(frozen=True)
class ColourScale:
    """A colour scale for maps.

    Attributes:
        colours: Name of a matplotlib colormap.
        low: Value of the first colour; lower ones take it too.
        high: Value of the last colour; higher ones take it too.
        label: What is shown, with its unit; stands at the colour bar.
    """

    colours: str
    low: float
    high: float
    label: str = ""

    @property
    def gradient(self) -> str:
        """The colours as a CSS gradient, left to right."""
        stops = ", ".join(to_hex(c) for c in colormaps[self.colours](np.linspace(0, 1, 17)))
        return f"linear-gradient(to right, {stops})"

    @property
    def ticks(self) -> list[tuple[float, str]]:
        """Round values on the bar: (place in percent, text)."""
        span = self.high - self.low
        locator = MaxNLocator(5, steps=[1, 2, 2.5, 5, 10])
        values = np.asarray(locator.tick_values(self.low, self.high), dtype=np.float64)
        places = 100 * (values - self.low) / span
        digits = max(0, -int(np.floor(np.log10(values[1] - values[0]) + 1e-9)))
        if np.any(np.abs(values - np.round(values, digits)) > 1e-9 * span):
            digits += 1
        return [
            (round(float(place), 2), f"{value:.{digits}f}".replace("-", "−"))
            # Adding 0 turns a −0 into a 0.
            for place, value in zip(places, np.round(values, digits) + 0.0, strict=True)
            if 2 <= place <= 98
        ]


def value_scale(
    maps: Sequence[Map], colours: str = LST_COLOURS, label: str = LST_LABEL
) -> ColourScale:
    """Returns a scale from the 1st to the 99th percentile of all finite values of some maps."""
    finite = _finite(maps)
    if not finite.size:
        return ColourScale(colours, 0.0, 1.0, label)
    low, high = (float(value) for value in np.percentile(finite, [1, 99]))
    return ColourScale(colours, low, high if high > low else low + 1.0, label)


def error_scale(errors: Sequence[Map], label: str = "error (K)") -> ColourScale:
    """Returns a scale that is symmetric about 0 and ends at the 98th percentile of the errors."""
    finite = np.abs(_finite(errors))
    limit = max(float(np.percentile(finite, 98)), 0.1) if finite.size else 1.0
    return ColourScale(ERROR_COLOURS, -limit, limit, label)


def _finite(maps: Sequence[Map]) -> Map:
    return np.concatenate([values[np.isfinite(values)] for values in maps])


def map_png(values: Map, scale: ColourScale, side_pixels: int) -> bytes:
    """Draws a map alone as a PNG; missing pixels are grey.

    A map larger than ``side_pixels`` is averaged over blocks of pixels (of those that have a
    value), a smaller one is repeated a whole number of times so that its pixels stay sharp.

    Args:
        values: ``[H, W]``, NaN where missing.
        scale: The colours.
        side_pixels: The longer side of the picture, at most.

    Returns:
        The content of the PNG.
    """
    drawn = np.asarray(shrunk(values, side_pixels), np.float64)
    times = max(1, side_pixels // max(drawn.shape))
    drawn = drawn.repeat(times, axis=0).repeat(times, axis=1)
    finite = np.isfinite(drawn)
    place = (np.where(finite, drawn, scale.low) - scale.low) / (scale.high - scale.low)
    # Colour 0 of the palette is the gap's.
    index = np.where(finite, 1 + np.rint(254 * np.clip(place, 0, 1)), 0).astype(np.uint8)
    palette = np.empty((256, 3), dtype=np.uint8)
    palette[0] = [int(GAP_COLOUR[i : i + 2], 16) for i in (1, 3, 5)]
    palette[1:] = np.rint(255 * colormaps[scale.colours](np.linspace(0, 1, 255))[:, :3])
    picture = Image.fromarray(index)
    picture.putpalette(palette.tobytes())
    stream = io.BytesIO()
    picture.save(stream, "PNG", optimize=True)
    return stream.getvalue()


def shrunk(values: Map, side_pixels: int) -> Map:
    """Averages blocks of pixels until the longer side is at most ``side_pixels``.

    A block's mean is that of its finite pixels; NaN where it has none.
    """
    block = -(-max(values.shape) // side_pixels)
    if block == 1:
        return values
    padding = [(0, -side % block) for side in values.shape]
    padded = np.pad(values, padding, constant_values=np.nan)
    blocks = padded.reshape(padded.shape[0] // block, block, padded.shape[1] // block, block)
    count = np.isfinite(blocks).sum(axis=(1, 3))
    total = np.nansum(blocks, axis=(1, 3))
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


@dataclass(frozen=True, eq=False)
class Panel:
    """One map of a figure.

    Attributes:
        values: ``[H, W]``, NaN where missing.
        title: Stands above it.
        scale: Its colours; panels with equal scales share a colour bar.
        frame: Rows and columns of the map that a frame marks; None for no frame.
    """

    values: Map
    title: str
    scale: ColourScale
    frame: tuple[slice, slice] | None = None


def panel_figure(
    rows: Sequence[Sequence[Panel | None]], *, title: str = "", panel_inches: float = 3.6
) -> Figure:
    """Lays maps out in rows, with one colour bar for each scale at the right of its rows.

    Args:
        rows: Rows of equal length, each with maps of one scale; None leaves a place empty.
        title: Stands above all.
        panel_inches: Width of a panel.

    Returns:
        A figure that the caller saves.
    """
    tall = []
    for row in rows:
        ratios = [p.values.shape[0] / p.values.shape[1] for p in row if p is not None]
        tall.append(panel_inches * min(max(0.4, *ratios), 2.5) + 0.35)
    figure = Figure(
        figsize=(panel_inches * len(rows[0]) + 1.0, sum(tall) + 0.4), layout="compressed"
    )
    axes = figure.subplots(
        len(rows), len(rows[0]), squeeze=False, gridspec_kw={"height_ratios": tall}
    )
    of_scale: dict[ColourScale, list[int]] = {}
    for number, row in enumerate(rows):
        for axis, panel in zip(axes[number], row, strict=True):
            if panel is None:
                axis.set_axis_off()
            else:
                _draw(axis, panel)
                of_scale.setdefault(panel.scale, []).append(number)
    for scale, numbers in of_scale.items():
        beside = axes[sorted(set(numbers))]
        figure.colorbar(
            ScalarMappable(Normalize(scale.low, scale.high), scale.colours),
            ax=list(beside.flat),
            label=scale.label,
            shrink=0.85,
            aspect=20 * len(beside),
            extend="both",
        )
    figure.suptitle(title)
    return figure


def _draw(axis: Axes, panel: Panel) -> None:
    shown = shrunk(panel.values, _PANEL_PIXELS)
    scale = panel.scale
    axis.set_facecolor(GAP_COLOUR)  # what is NaN is not drawn
    axis.imshow(shown, cmap=scale.colours, vmin=scale.low, vmax=scale.high, interpolation="nearest")
    axis.set_title(panel.title, fontsize="medium")
    axis.set_xticks([])
    axis.set_yticks([])
    if panel.frame is not None:
        block = -(-panel.values.shape[0] // shown.shape[0])
        (top, height), (left, width) = (
            (part.start / block, (part.stop - part.start) / block) for part in panel.frame
        )
        axis.add_patch(
            Rectangle((left - 0.5, top - 0.5), width, height, fill=False, edgecolor=_FRAME_COLOUR)
        )


def comparison_figure(maps: Mapping[str, Map], *, title: str, errors: bool = False) -> Figure:
    """Draws LST maps side by side with one colour bar, and errors against the truth below.

    Args:
        maps: Name → LST in kelvin, ``[H, W]``, of any size over the same ground; NaN is grey. With
            ``errors`` the last one is the truth.
        title: The figure's title.
        errors: Add a second row with each map of the truth's size minus the truth.

    Returns:
        A figure that the caller saves.
    """
    scale = value_scale(list(maps.values()))
    rows: list[list[Panel | None]] = [[Panel(values, name, scale) for name, values in maps.items()]]
    if errors:
        *names, truth_name = maps
        truth = maps[truth_name]
        found = {n: maps[n] - truth for n in names if maps[n].shape == truth.shape}
        scale = error_scale(list(found.values()) or [np.full((1, 1), np.nan)])
        rows.append([_error_panel(name, truth_name, found.get(name), scale) for name in maps])
    return panel_figure(rows, title=title)


def _error_panel(name: str, truth: str, error: Map | None, scale: ColourScale) -> Panel | None:
    if error is None:
        return None
    rmse = float(np.sqrt(np.nanmean(error**2)))
    return Panel(error, f"{name} − {truth}: RMSE {rmse:.2f} K", scale)


def quicklook_figure(
    before: Map,
    after: Map,
    *,
    titles: tuple[str, str],
    title: str = "",
    residuals: Mapping[str, Map] | None = None,
) -> Figure:
    """Draws a scene before and after it was refined, whole and zoomed in.

    Left the input, right the result; above the whole scene, below the square of 64 coarse pixels
    with the most texture among the clearest ones. One colour bar serves all four.

    Args:
        before: LST in kelvin, ``[h, w]``, NaN where missing, valid somewhere.
        after: LST in kelvin, ``[f·h, f·w]``, with a whole factor f.
        titles: Of input and result.
        title: Stands above all.
        residuals: Title → residual in kelvin on the input's pixels, two of them; a third row.

    Returns:
        A figure that the caller saves.
    """
    factor = after.shape[0] // before.shape[0]
    window = _zoom_window(before)
    rows, columns = window
    fine_window = (
        slice(rows.start * factor, rows.stop * factor),
        slice(columns.start * factor, columns.stop * factor),
    )
    scale = value_scale([before])
    zoom = (
        f"zoom: rows {rows.start}–{rows.stop - 1}, columns {columns.start}–{columns.stop - 1} "
        "of the input"
    )
    panels: list[list[Panel | None]] = [
        [Panel(before, titles[0], scale, window), Panel(after, titles[1], scale, fine_window)],
        [Panel(before[window], zoom, scale), Panel(after[fine_window], zoom, scale)],
    ]
    if residuals:
        errors = error_scale(list(residuals.values()), "input − result at the input's pixels (K)")
        panels.append([Panel(values, name, errors) for name, values in residuals.items()])
    return panel_figure(panels, title=title, panel_inches=5.0)


def _zoom_window(values: Map) -> tuple[slice, slice]:
    """Finds the square with the most texture among those with nearly the most valid pixels."""
    height, width = (min(_ZOOM_PIXELS, side) for side in values.shape)
    best, best_score = (slice(0, height), slice(0, width)), (-1.0, -1.0)
    for top in _starts(values.shape[0], height):
        for left in _starts(values.shape[1], width):
            window = values[top : top + height, left : left + width]
            valid = window[~np.isnan(window)]
            # Steps of a tenth let texture decide between windows that are about as clear.
            score = (round(valid.size / window.size, 1), float(valid.std()) if valid.size else 0.0)
            if score > best_score:
                best_score = score
                best = (slice(top, top + height), slice(left, left + width))
    return best


def _starts(length: int, window: int) -> list[int]:
    return [*range(0, length - window, max(1, window // 2)), length - window]
