"""A whole evaluation: scores methods on sets of samples, writes tables, reports, MLflow's run."""

from __future__ import annotations

import csv
import re
import tempfile
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lstsr import __version__
from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.compare import Progress, SampleSet, compare
from keras_lstsr.evaluation.methods import Method, PredictorMethod
from keras_lstsr.evaluation.places import PLACES, place_metrics, write_place_tables
from keras_lstsr.evaluation.report.content import Evaluation
from keras_lstsr.evaluation.report.html import TITLE, write_html_report
from keras_lstsr.evaluation.report.tables import (
    HEADINGS,
    format_value,
    summary_metrics,
    write_tables,
)
from keras_lstsr.evaluation.result import BASELINE, BenchmarkResult
from keras_lstsr.files import unwritable
from keras_lstsr.records.scene_sample import SetRegistration

if TYPE_CHECKING:
    from keras_lstsr.artifacts.model_folder import ModelCard
    from keras_lstsr.inference.predictor import Predictor

REPORT_NAME = "report.html"
REGISTRATION_TABLE = "registration.csv"
EXPERIMENT = "lstsr-evaluation"

_SHOWN = (
    "bias_free_rmse_kelvin",
    "rmse_kelvin",
    "psnr_db",
    "ssim",
    "high_pass_correlation",
)


def evaluate(
    sets: Sequence[SampleSet],
    methods: Mapping[str, Method],
    output: str | PathLike[str],
    *,
    progress: Progress | None = None,
) -> tuple[list[Evaluation], list[Path]]:
    """Scores methods on sets of samples and writes tables and HTML reports.

    Args:
        sets: What to score on; see ``evaluation.sources``.
        methods: Name → method; see ``evaluation.methods.choose_methods``.
        output: Folder for tables and reports.
        progress: Called after each sample.

    Returns:
        An evaluation of each set, and the paths written: the tables of each result, and
        ``report.html``, or one report of each set, named after its first result.

    Raises:
        ConfigError: If there is no set, or a method has no such option.
        ProductError: If a raster cannot be read, or no sample of a set can be scored.
        GridError: If a truth does not fit, or no sample can be registered.
        RecordsError: If records cannot be read.
        LstsrError: If the folder cannot be written to.
    """
    if not sets:
        raise ConfigError("there is nothing to score on", field="sets")
    networks = {n: m.predictor for n, m in methods.items() if isinstance(m, PredictorMethod)}
    evaluations, paths = [], []
    for samples in sets:
        evaluation = compare(samples, methods, progress=progress)
        if networks:
            notes = (learnt_note(n, p, evaluation.files) for n, p in networks.items())
            evaluation.learnt_from = [note for note in notes if note is not None]
        evaluation.notes.append(f"keras-lstsr {__version__}.")
        name = REPORT_NAME if len(sets) == 1 else f"report_{evaluation.results[0].name}.html"
        paths += write_evaluation(evaluation, output, report=name)
        evaluations.append(evaluation)
    return evaluations, paths


def write_evaluation(
    evaluation: Evaluation,
    folder: str | PathLike[str],
    *,
    report: str = REPORT_NAME,
    title: str = TITLE,
) -> list[Path]:
    """Writes the tables of all results, the HTML report, and ``registration.csv`` if there is one.

    All is written beside the folder first and then moved, so that an error leaves nothing there.

    Args:
        evaluation: The evaluation.
        folder: Where to; made if it is not there. Files of the same names are replaced.
        report: Name of the HTML file.
        title: Its title.

    Returns:
        The paths written.

    Raises:
        LstsrError: If the folder cannot be written to.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".partial-", dir=folder) as name:
            partial = Path(name)
            paths = [
                path for result in evaluation.results for path in write_tables(result, partial)
            ]
            if evaluation.registration is not None:
                paths.append(_write_registration(evaluation.registration, partial))
            for result in evaluation.results:
                if result.details.get("protocol") == PLACES:
                    paths += write_place_tables(result, partial)
            paths.append(write_html_report(partial / report, evaluation, title=title))
            return [path.replace(folder / path.name) for path in paths]
    except OSError as error:
        raise unwritable(folder, error) from error


def _write_registration(registration: SetRegistration, folder: Path) -> Path:
    path = folder / REGISTRATION_TABLE
    rows = {
        **registration.shifts,
        "constant": registration.constant,
        "constant_whole_pixels": registration.whole_pixels,
    }
    with path.open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream)
        writer.writerow(["pair", "row_pixels", "column_pixels", "quality"])
        for name, shift in rows.items():
            # Shifts are found to a hundredth of a pixel.
            writer.writerow(
                [name, *(f"{v:.2f}" for v in (shift.rows, shift.columns)), f"{shift.quality:.3f}"]
            )
    return path


def log_to_mlflow(
    results: Sequence[BenchmarkResult],
    paths: Sequence[Path],
    *,
    run_folders: Mapping[str, Path],
    run_name: str,
    parameters: Mapping[str, Any],
    tracking_uri: str | None = None,
    experiment: str | None = None,
) -> list[str]:
    """Logs the figures and files of an evaluation to MLflow.

    Each model that is a run folder gets its own figures and bicubic's in the run that trained it.
    Where no model is one, or none was trained with MLflow, the evaluation is a run of its own.

    Args:
        results: The benchmarks.
        paths: Tables and report.
        run_folders: Method → run folder.
        run_name: Name of a run of its own.
        parameters: Settings of a run of its own.
        tracking_uri: Where a run of its own is kept; None: MLflow's setting.
        experiment: Experiment of a run of its own; None: MLflow's setting, else
            ``lstsr-evaluation``.

    Returns:
        The ids of the runs.

    Raises:
        MissingExtraError: If MLflow is not installed.
    """
    from keras_lstsr.training.tracking import Tracker, log_evaluation

    figures = summary_metrics(results)
    for result in results:
        if result.details.get("protocol") == PLACES:
            figures |= place_metrics(result)
    run_ids = []
    for method, run_folder in run_folders.items():
        names = [f"{result.name}.{m}." for result in results for m in (method, BASELINE)]
        own = {_allowed(k): v for k, v in figures.items() if k.startswith(tuple(names))}
        run_id = log_evaluation(run_folder, own, paths)
        if run_id is not None:
            run_ids.append(run_id)
    if run_ids:
        return run_ids
    tracker = Tracker(experiment=experiment, tracking_uri=tracking_uri)
    run_id = tracker.start(
        run_name=run_name, experiment=EXPERIMENT, parameters=parameters, tags={"kind": "evaluation"}
    )
    try:
        tracker.log_summary({_allowed(name): value for name, value in figures.items()})
        tracker.log_files(paths, "evaluation")
    except BaseException:
        tracker.finish("FAILED")
        raise
    tracker.finish()
    return [run_id]


def _allowed(name: str) -> str:
    """Replaces what MLflow does not allow in a metric's name, e.g. the ``=`` of an option."""
    return re.sub(r"[^\w\-./: ]", "-", name)


def learnt_note(
    label: str, predictor: Predictor, files: Mapping[str, frozenset[str]]
) -> str | None:
    """Says from how many of the samples a model has learnt, if from any.

    A sample counts where the model's card has the SHA-256 of one of its files.

    Args:
        label: The model's name in the tables.
        predictor: The model.
        files: Sample → SHA-256 of the files that it was read from.

    Returns:
        A sentence with the model's cross-validated scores instead; None if it has seen none, or
        has no card.
    """
    from keras_lstsr.artifacts.model_folder import card_of

    card = card_of(predictor.provenance)
    if card is None:
        return None
    seen = sum(not card.known_files.isdisjoint(own) for own in files.values())
    if not seen:
        return None
    scores = _cross_validated(card)
    instead = "" if not scores else f" On ground it had not seen (cross-validation): {scores}."
    return (
        f"{label} has learnt from {seen} of these {len(files)} samples: its figures here are not "
        f"those of unseen ground.{instead}"
    )


def _cross_validated(card: ModelCard) -> str:
    """Says in words what the card holds of the scores that are shown."""
    if not card.scores:
        return ""
    means = next(iter(card.scores.values())).get("means", {}).get(card.name, {})
    words = {metric: HEADINGS[metric].partition(" (") for metric in _SHOWN if metric in means}
    return ", ".join(
        f"{name} {format_value(metric, means[metric])} {unit.rstrip(')')}".rstrip()
        for metric, (name, _, unit) in words.items()
    )
