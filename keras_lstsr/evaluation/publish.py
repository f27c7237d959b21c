"""An evaluation of pairs as tables, an HTML report and a run in MLflow."""

from __future__ import annotations

import csv
import re
import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

from keras_lstsr import __version__
from keras_lstsr.errors import LstsrError
from keras_lstsr.evaluation.benchmark import BASELINE, BenchmarkResult
from keras_lstsr.evaluation.compare import PairsEvaluation, shift_text
from keras_lstsr.evaluation.html import write_html_report
from keras_lstsr.evaluation.report import summary_metrics, write_tables
from keras_lstsr.evaluation.report_content import RegistrationShift, ReportContent
from keras_lstsr.pairs.registration import SetRegistration

REPORT_NAME = "report.html"
REGISTRATION_TABLE = "registration.csv"
SHOWN_METRICS = (
    "rmse_kelvin",
    "bias_free_rmse_kelvin",
    "bias_kelvin",
    "psnr_db",
    "ssim",
    "high_pass_correlation",
    "worse_than_bicubic",
)
"""Columns of the table in a terminal."""

EXPERIMENT = "lstsr-evaluation"
_MAXIMUM_NAMED_PAIRS = 5


def report_content(
    evaluation: PairsEvaluation, *, title: str, data: str, notes: Sequence[str] = ()
) -> ReportContent:
    """Puts together what the HTML report shows.

    Args:
        evaluation: The evaluation.
        title: The page's title.
        data: Names the pairs, e.g. the folder.
        notes: What else to say about settings.
    """
    first = evaluation.results[0]
    groups = len(set(first.groups.values()))
    lead = (
        f"{len(first.methods)} methods on {len(set(first.images))} images of {data}, in {groups} "
        f"groups that share ground. {first.title}."
    )
    registration, applied = evaluation.registration, evaluation.applied_shift
    shifts = registration.shifts if registration is not None else {}
    return ReportContent(
        title=title,
        lead=lead,
        results=evaluation.results,
        scenes=evaluation.scenes,
        spectra=evaluation.spectra,
        scatter=evaluation.scatter,
        shifts=[
            RegistrationShift(name, shift.rows, shift.columns, shift.quality)
            for name, shift in shifts.items()
        ],
        constant_shift=None if applied is None else (applied.rows, applied.columns),
        notes=[*_notes(evaluation), *notes, f"keras-lstsr {__version__}."],
    )


def _notes(evaluation: PairsEvaluation) -> list[str]:
    notes = [evaluation.scene_rule]
    registration = evaluation.registration
    if registration is not None:
        found, whole = registration.constant, registration.whole_pixels
        notes.append(
            f"Co-registration: the truth's position against the sharpened LST, median of "
            f"{found.count} pairs weighted by quality: {shift_text(found)}, spread "
            f"{found.row_spread:.2f} and {found.column_spread:.2f}; rounded to whole ones: "
            f"{shift_text(whole)}."
        )
    for method, cases in evaluation.fallbacks.items():
        reasons = Counter(case.partition(": ")[2] for case in cases)
        described = "; ".join(f"{reason} ({n} ×)" for reason, n in reasons.most_common(3))
        notes.append(f"{method} went on otherwise: {described}.")
    if evaluation.left_out:
        named = ", ".join(evaluation.left_out[:_MAXIMUM_NAMED_PAIRS])
        more = len(evaluation.left_out) - _MAXIMUM_NAMED_PAIRS
        notes.append(
            f"Left out, as too little is clear: {named}"
            + (f" and {more} more." if more > 0 else ".")
        )
    return notes


def write_evaluation(
    evaluation: PairsEvaluation, folder: str | PathLike[str], content: ReportContent
) -> list[Path]:
    """Writes the tables of all results, ``registration.csv`` and ``report.html``.

    All is written beside the folder first and then moved, so that an error leaves nothing there.

    Args:
        evaluation: The evaluation.
        folder: Where to; made if it is not there. Files of the same names are replaced.
        content: What the report shows.

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
            paths.append(write_html_report(partial / REPORT_NAME, content))
            return [path.replace(folder / path.name) for path in paths]
    except OSError as error:
        raise LstsrError(
            "the results cannot be written",
            path=folder,
            found=error.strerror or error,
            expected="a folder that may be written to",
            action="Choose another output.",
        ) from error


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
