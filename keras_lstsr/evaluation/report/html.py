"""The report of a benchmark as one HTML file that needs nothing else: no network, no scripts."""

from __future__ import annotations

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from numpy.typing import NDArray

from keras_lstsr import maps
from keras_lstsr.evaluation.report import figures
from keras_lstsr.evaluation.report.content import Evaluation, SceneMaps
from keras_lstsr.evaluation.report.views import (
    DASH,
    MAXIMUM_TABLE_IMAGES,
    name_and_unit,
    number_text,
    plain,
    result_view,
)
from keras_lstsr.files import write_text_whole

# Text of all maps in the page, so that the whole stays below 6 MB. When it takes more, maps are
# averaged over blocks of pixels down to a longer side of 240; then scenes are left out.
_MAPS_BYTES = 4_800_000
_BYTES_PER_MAP_PIXEL = 1.0  # one byte of palette, deflated to some 0.75, in base64
_SMALLEST_MAP_PIXELS = 240


TITLE = "Finer land surface temperature: methods compared"


def write_html_report(
    path: str | PathLike[str], evaluation: Evaluation, *, title: str = TITLE
) -> Path:
    """Writes an evaluation as one self-contained HTML file.

    Args:
        path: The file; replaced if it is there, and only by a whole one.
        evaluation: What the report shows; parts that are empty leave no section.
        title: The page's title.

    Returns:
        The path.

    Raises:
        LstsrError: If the folder cannot be written to.
    """
    write_text_whole(path, render_html_report(evaluation, title=title))
    return Path(path)


def render_html_report(evaluation: Evaluation, *, title: str = TITLE) -> str:
    """Returns the page that ``write_html_report`` writes."""
    environment = Environment(
        loader=PackageLoader("keras_lstsr.evaluation.report"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["breakable"] = _breakable
    scored = [result for result in evaluation.results if result.scores]
    return environment.get_template("report.html.j2").render(
        title=title,
        lead=evaluation.lead(),
        warnings=evaluation.learnt_from,
        notes=evaluation.all_notes(),
        results=[result_view(result, index) for index, result in enumerate(scored)],
        maps=_maps_view(evaluation.scenes),
        spectra=_spectra_view(evaluation),
        scatter=_scatter_view(evaluation),
        shifts=_shifts_view(evaluation),
        gap_colour=maps.GAP_COLOUR,
        dash=DASH,
    )


def _breakable(name: str) -> Markup:
    """Allows a line to break after the signs that join the parts of a name."""
    return Markup(re.sub(r"(?<=[:,/_.])(?=\w)", "<wbr>", str(escape(name))))


def _maps_view(scenes: Sequence[SceneMaps]) -> dict[str, Any] | None:
    if not scenes:
        return None
    cropped = [_cropped(scene) for scene in scenes]
    averaged = 1
    while _maps_bytes(cropped[:1], averaged) > _MAPS_BYTES or (
        _maps_bytes(cropped, averaged) > _MAPS_BYTES
        and max(cropped[0].truth_kelvin.shape) > averaged * _SMALLEST_MAP_PIXELS
    ):
        averaged += 1
    shown = len(cropped)
    while shown > 1 and _maps_bytes(cropped[:shown], averaged) > _MAPS_BYTES:
        shown -= 1
    return {
        "scenes": [_scene_view(scene, averaged) for scene in cropped[:shown]],
        "left_out": len(scenes) - shown,
    }


def _maps_bytes(scenes: Sequence[SceneMaps], averaged: int) -> float:
    """Estimates the text of all pictures when means of averaged × averaged pixels are drawn."""
    pixels = sum((2 * len(scene.maps) + 2) * scene.truth_kelvin.size for scene in scenes)
    return pixels / averaged**2 * _BYTES_PER_MAP_PIXEL


def _cropped(scene: SceneMaps) -> SceneMaps:
    """Returns a scene without the margin in which the truth has no value."""
    finite = np.isfinite(scene.truth_kelvin)
    if not finite.any():
        return scene
    rows, columns = (np.flatnonzero(finite.any(axis=axis)) for axis in (1, 0))
    window = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)

    def crop(values: NDArray[np.floating]) -> NDArray[np.floating]:
        return values[window] if values.shape == finite.shape else values

    return replace(
        scene,
        truth_kelvin=crop(scene.truth_kelvin),
        maps={method: crop(values) for method, values in scene.maps.items()},
        coarse_kelvin=crop(scene.coarse_kelvin),
        guides={name: crop(values) for name, values in scene.guides.items()},
    )


def _scene_view(scene: SceneMaps, averaged: int) -> dict[str, Any]:
    side = -(-max(scene.truth_kelvin.shape) // averaged)
    kelvin = {"input": scene.coarse_kelvin, **scene.maps, "truth": scene.truth_kelvin}
    lst_scale = maps.value_scale(list(kelvin.values()))
    tiles = [
        _tile(
            name,
            maps.map_png(values, lst_scale, side),
            f"LST of scene {scene.name}, {name}: {_range_in_words(values, 'K')}",
            _score_in_words(scene.scores.get(name, {})),
        )
        for name, values in kelvin.items()
    ]
    for place, (name, guide) in enumerate(scene.guides.items(), start=1):
        scale = maps.value_scale([guide], maps.GUIDE_COLOURS)
        alt = f"{name} of scene {scene.name}: {_range_in_words(guide, '')}"
        png = maps.map_png(guide, scale, side)
        tiles.insert(place, _tile(f"guide: {name}", png, alt, bar=scale))
    errors = {method: values - scene.truth_kelvin for method, values in scene.maps.items()}
    errors_scale = maps.error_scale(list(errors.values())) if errors else None
    error_tiles = [
        _tile(
            f"{method} − truth",
            maps.map_png(error, errors_scale, side),
            f"Error of {method}, scene {scene.name}: {_error_in_words(error)}",
            _error_in_words(error),
        )
        for method, error in errors.items()
        if errors_scale is not None
    ]
    return {
        "name": scene.name,
        "group": scene.group,
        "tiles": tiles,
        "scale": lst_scale,
        "error_tiles": error_tiles,
        "error_scale": errors_scale,
        "ground": _ground_in_words(scene, averaged),
    }


def _tile(
    name: str, png: bytes, alt: str, score: str = "", bar: maps.ColourScale | None = None
) -> dict[str, Any]:
    uri = "data:image/png;base64," + base64.b64encode(png).decode("ascii")
    return {"name": name, "png": uri, "alt": alt, "score": score, "bar": bar}


def _ground_in_words(scene: SceneMaps, averaged: int) -> str:
    height, width = scene.truth_kelvin.shape
    words = f"The truth is {width} pixels across and {height} down"
    if scene.pixel_size_m is not None:
        across, down = (side * scene.pixel_size_m / 1000 for side in (width, height))
        words += f", {across:.0f} km by {down:.0f} km"
    if averaged > 1:
        words += f", drawn as means of {averaged} × {averaged} pixels"
    own_grid = [
        name
        for name, values in {"the input": scene.coarse_kelvin, **scene.guides}.items()
        if values.shape != scene.truth_kelvin.shape
    ]
    if own_grid:
        lies = "lies on a grid of its own" if len(own_grid) == 1 else "lie on grids of their own"
        words += f"; {' and '.join(own_grid)} {lies} and may reach further"
    return words + "."


def _range_in_words(values: NDArray[np.floating], unit: str) -> str:
    finite = values[np.isfinite(values)]
    if not finite.size:
        return "no value"
    low, high = (plain(float(value)) for value in (finite.min(), finite.max()))
    return f"{low} to {high} {unit}".strip()


def _error_in_words(error: NDArray[np.floating]) -> str:
    finite = error[np.isfinite(error)].astype(np.float64)
    if not finite.size:
        return "no value"
    return f"mean {plain(float(finite.mean()))} K, std {plain(float(finite.std()))} K"


def _score_in_words(scores: Mapping[str, float]) -> str:
    metric = next(iter(scores), None)
    if metric is None:
        return ""
    name, unit = name_and_unit(metric)
    value = scores[metric]
    return f"{name} {number_text(metric, value)}{unit if np.isfinite(value) else ''}"


def _spectra_view(evaluation: Evaluation) -> dict[str, Any] | None:
    spectra = evaluation.spectra
    if spectra is None or not np.any(np.asarray(spectra.frequency_per_km) > 0):
        return None
    legend = [(name, *figures.series_style(index)) for index, name in enumerate(spectra.methods)]
    correlated = any(np.isfinite(curve).any() for curve in spectra.ring_correlation.values())
    return {
        "legend": legend,
        "power": Markup(figures.power_svg(spectra)),
        "ring": Markup(figures.ring_correlation_svg(spectra)) if correlated else None,
        "nyquist_km": None
        if spectra.coarse_pixel_size_m is None
        else f"{2 * spectra.coarse_pixel_size_m / 1000:.2g}",
    }


def _scatter_view(evaluation: Evaluation) -> list[dict[str, Any]]:
    pairs = {
        method: np.stack([np.asarray(truth, np.float64), np.asarray(prediction, np.float64)])
        for method, (truth, prediction) in evaluation.scatter.items()
    }
    pairs = {method: pair[:, np.isfinite(pair).all(axis=0)] for method, pair in pairs.items()}
    pairs = {method: pair for method, pair in pairs.items() if pair.shape[1] > 1}
    if not pairs:
        return []
    # The same axes for all methods, so that the panels can be compared.
    every = np.concatenate([pair.ravel() for pair in pairs.values()])
    low, high = (float(value) for value in np.percentile(every, [0.1, 99.9]))
    limits = (low, high) if high > low else (low - 1, low + 1)
    panels = []
    for index, (method, (truth, prediction)) in enumerate(pairs.items()):
        constant = truth.std() == 0 or prediction.std() == 0
        correlation = DASH if constant else plain(float(np.corrcoef(truth, prediction)[0, 1]))
        words = (
            f"r {correlation}, mean {plain(float((prediction - truth).mean()))}\u202fK, "
            f"std {plain(float((prediction - truth).std()))}\u202fK"
        )
        svg = figures.scatter_svg(f"scatter{index}", truth, prediction, limits)
        panels.append(
            {"method": method, "svg": Markup(svg), "words": words, "pixels": f"{truth.size:,}"}
        )
    return panels


def _shifts_view(evaluation: Evaluation) -> dict[str, Any] | None:
    shifts = {} if evaluation.registration is None else evaluation.registration.shifts
    applied = evaluation.applied_shift
    if not shifts and applied is None:
        return None
    view: dict[str, Any] = {"svg": None, "rows": [], "constant": None, "summary": []}
    if applied is not None:
        view["constant"] = plain(applied.rows), plain(applied.columns)
    places = np.array([(s.rows, s.columns) for s in shifts.values()], np.float64).reshape(-1, 2)
    finite = places[np.isfinite(places).all(axis=1)]
    if len(finite):
        view["svg"] = Markup(figures.shifts_svg(places, applied))
        lower, median, upper = np.percentile(finite, [25, 50, 75], axis=0)
        view["summary"] = [
            (name, *(plain(float(value[axis])) for value in (median, lower, upper)))
            for axis, name in enumerate(("rows", "columns"))
        ]
    view["rows"] = [
        (image, *map(plain, (shift.rows, shift.columns, shift.quality)))
        for image, shift in [*shifts.items()][:MAXIMUM_TABLE_IMAGES]
    ]
    return view
