"""A whole evaluation: finds the images, scores them, writes tables and figures."""

from __future__ import annotations

import glob
from collections.abc import Sequence
from dataclasses import replace
from os import PathLike
from pathlib import Path

import numpy as np
import xarray as xr

from keras_lstsr.config import DataConfig
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.evaluation.benchmark import (
    BASELINE,
    BenchmarkResult,
    bicubic_method,
    evaluate_records,
    evaluate_scenes,
    predictor_method,
)
from keras_lstsr.evaluation.compare import PairsEvaluation, Progress, evaluate_pairs
from keras_lstsr.evaluation.methods import PredictorMethod, choose_methods
from keras_lstsr.evaluation.protocols import (
    PROTOCOLS,
    AsterProtocol,
    NestedProtocol,
    PairProtocol,
    Warp,
)
from keras_lstsr.evaluation.publish import report_content, write_evaluation
from keras_lstsr.evaluation.report import write_tables
from keras_lstsr.evaluation.seen_pairs import training_note
from keras_lstsr.grids.resample import upsample_bicubic
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.maps import comparison_figure
from keras_lstsr.pairs.files import LoadedPair, PairSource, find_pairs
from keras_lstsr.pairs.registration import Coregistration
from keras_lstsr.pairs.simulated import simulated_pairs
from keras_lstsr.products import lst_layers, open_product
from keras_lstsr.records.dataset import load_arrays

MODEL = "model"


def evaluate_model(
    predictor: Predictor,
    output: str | PathLike[str],
    *,
    records_dir: str | PathLike[str] | None = None,
    split: str = "test",
    lst: str | None = None,
    truth: str | None = None,
    limit: int | None = None,
) -> tuple[list[BenchmarkResult], list[Path]]:
    """Scores a predictor beside bicubic and writes tables and figures.

    Args:
        predictor: The model.
        output: Folder for tables and figures.
        records_dir: Records to score the 4 km → 1 km task on.
        split: Split of the records.
        lst: Glob of 1 km scenes to score at 250 m.
        truth: Glob of 250 m LST rasters, paired with the scenes by tile, date and day or night.
        limit: Score at most this many patches.

    Returns:
        The benchmarks, and the paths written.

    Raises:
        RecordsError: If the records cannot be read or scored.
        ProductError: If no scene has a truth, or a raster cannot be read.
        GridError: If a truth does not nest in its scene's grid.
    """
    output = Path(output)
    results, paths = [], []
    if records_dir is not None:
        methods = {
            BASELINE: bicubic_method(predictor.scale_factor),
            MODEL: predictor_method(predictor),
        }
        result = evaluate_records(methods, records_dir, split=split, limit=limit)
        results.append(result)
        paths += write_tables(result, output)
        paths.append(_draw_patch(predictor, records_dir, split, output))
    if lst is not None and truth is not None:
        pairs = pair_scenes(lst, truth)
        result = evaluate_scenes(predictor, pairs, method_name=MODEL)
        if not result.scores:
            raise ProductError("no scene can be scored: too few clear pixels", path=lst)
        results.append(result)
        paths += write_tables(result, output)
        paths.append(_draw_scene(predictor, pairs, output))
    return results, paths


def evaluate_methods(
    output: str | PathLike[str],
    *,
    pairs: str | PathLike[str] | None = None,
    simulated_scenes: int | None = None,
    methods: Sequence[str] = (),
    models: Sequence[str] = (),
    protocols: Sequence[str] = ("aster",),
    coregister: Coregistration = "pixel",
    warp: Warp = "gdal",
    limit: int | None = None,
    progress: Progress | None = None,
) -> tuple[PairsEvaluation, list[Path]]:
    """Scores classical methods and models on pairs and writes tables and an HTML report.

    Args:
        output: Folder for tables and report.
        pairs: Folder of pairs; see ``pairs.files.find_pairs``.
        simulated_scenes: Instead of ``pairs``: score on this many simulated scenes, against the
            truth on their own grid.
        methods: As ``methods.parse_method`` reads them; with no model either, all.
        models: Paths, or ``LABEL=PATH``.
        protocols: Names of ``protocols.PROTOCOLS``; the first gives maps and spectra. With
            simulated scenes ``"4km"`` is scored besides their own protocol, and the others are
            not used.
        coregister: What to do about a truth that is not where it says.
        warp: How the ASTER protocol warps results.
        limit: Score at most this many pairs.
        progress: Called after each pair.

    Returns:
        The evaluation, and the paths written.

    Raises:
        ConfigError: If a method, an option or a protocol is unknown, or there is nothing to score.
        ProductError: If the folder holds no whole pair, or a raster cannot be read or scored.
        ModelError: If a model cannot be loaded.
        LstsrError: If the folder cannot be written to.
    """
    if (pairs is None) == (simulated_scenes is None):
        raise ConfigError("give either pairs or simulated scenes", field="pairs")
    chosen = _protocols(protocols, warp=warp, simulated=pairs is None)
    # What is wrong with the folder shows before a model is loaded.
    sources: list[PairSource] = [] if pairs is None else list(find_pairs(pairs))
    built = choose_methods(methods, models)
    if simulated_scenes is not None:
        sources = [LoadedPair(pair) for pair in simulated_pairs(scenes=simulated_scenes)]
        coregister = "none"
    evaluation = evaluate_pairs(
        sources[:limit], built, chosen, coregister=coregister, progress=progress
    )
    data = f"{simulated_scenes} simulated scenes" if pairs is None else f"“{Path(pairs).name}”"
    notes = [f"Methods: {', '.join(built)}."]
    evaluation.training_notes = [
        note
        for label, method in built.items()
        if isinstance(method, PredictorMethod)
        and (note := training_note(label, method.predictor, sources[:limit]))
    ]
    notes += evaluation.training_notes
    if any(protocol.name == "aster" for protocol in chosen):
        notes.append(f"Results are warped onto ASTER's grid bilinearly ({warp}).")
    content = report_content(
        evaluation, title="LST at 250 m: methods compared", data=data, notes=notes
    )
    return evaluation, write_evaluation(evaluation, output, content)


def _protocols(names: Sequence[str], *, warp: Warp, simulated: bool) -> list[PairProtocol]:
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown or not names:
        raise ConfigError(
            "unknown protocol",
            field="protocol",
            found=", ".join(unknown) or "none",
            expected=", ".join(PROTOCOLS),
        )
    if simulated:
        return [NestedProtocol(), *(p for p in PROTOCOLS["4km"] if "4km" in names)]
    return [
        replace(protocol, warp=warp) if isinstance(protocol, AsterProtocol) else protocol
        for name in dict.fromkeys(names)
        for protocol in PROTOCOLS[name]
    ]


def pair_scenes(lst: str, truth: str) -> list[tuple[str, xr.DataArray, xr.DataArray]]:
    """Pairs 1 km scenes with 250 m truth by tile, date and day or night.

    Args:
        lst: Glob of 1 km rasters.
        truth: Glob of 250 m LST rasters.

    Returns:
        Of each pair its name, the coarse and the fine LST in kelvin.

    Raises:
        ProductError: If a glob matches nothing, or nothing pairs.
    """
    truths = {key: layer for key, _, layer in _layers(truth)}
    pairs = [
        (f"{name} {key[2]}", layer, truths[key])
        for key, name, layer in _layers(lst)
        if key in truths
    ]
    if not pairs:
        raise ProductError(
            "no scene has a truth of the same tile, date and day or night",
            path=lst,
            expected=f"a partner among {truth}",
            action="Check both globs with keras-lstsr inspect.",
        )
    return pairs


def _layers(pattern: str) -> list[tuple[tuple[str, str, str], str, xr.DataArray]]:
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise ProductError("no file matches", path=pattern, action="Quote the glob and check it.")
    found = []
    for path in paths:
        scene = open_product(path)
        for day_night, layer in lst_layers(scene).items():
            key = (scene.attrs["tile"], scene.attrs["acquisition_date"], day_night)
            found.append((key, Path(path).stem, layer))
    return found


def _draw_patch(
    predictor: Predictor, records_dir: str | PathLike[str], split: str, output: Path
) -> Path:
    data = DataConfig(task="4km_to_1km", augment=False, shuffle_buffer=0)
    inputs, target = load_arrays(records_dir, split, data, limit=1)
    coarse, truth = inputs["lst_kelvin"][0, ..., 0], target[0, ..., 0]
    maps = {
        "4 km input": coarse,
        BASELINE: upsample_bicubic(coarse, predictor.scale_factor),
        MODEL: predictor.predict(coarse[None, ..., None])[0, ..., 0],
        "1 km truth": truth,
    }
    return _save(maps, f"4 km → 1 km, first patch of the {split} split", output / "patch.png")


def _draw_scene(
    predictor: Predictor, pairs: list[tuple[str, xr.DataArray, xr.DataArray]], output: Path
) -> Path:
    name, coarse, truth = max(pairs, key=lambda pair: int(np.isfinite(pair[1].values).sum()))
    rows, columns = clearest_window(np.isfinite(coarse.values), size=48)
    factor = predictor.scale_factor
    fine_rows, fine_columns = (slice(s.start * factor, s.stop * factor) for s in (rows, columns))
    window = coarse.isel(y=rows, x=columns)
    maps = {
        "1 km input": window.values,
        BASELINE: upsample_bicubic(window.values, factor),
        MODEL: predict_scene(window, predictor).values,
        "250 m truth": truth.values[fine_rows, fine_columns],
    }
    return _save(maps, f"1 km → 250 m, a part of {name}", output / "scene.png")


def clearest_window(valid: np.ndarray, size: int) -> tuple[slice, slice]:
    """Returns rows and columns of the ``size`` × ``size`` window with most valid pixels.

    Args:
        valid: ``[H, W]``, True where there is a value.
        size: Side of the window; a smaller raster is taken whole.
    """
    height, width = (min(size, side) for side in valid.shape)
    total = np.pad(valid.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts = (
        total[height:, width:]
        - total[:-height, width:]
        - total[height:, :-width]
        + total[:-height, :-width]
    )
    row, column = np.unravel_index(int(counts.argmax()), counts.shape)
    return slice(int(row), int(row) + height), slice(int(column), int(column) + width)


def _save(maps: dict[str, np.ndarray], title: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    comparison_figure(maps, title=title, errors=True).savefig(path, dpi=110)
    return path
