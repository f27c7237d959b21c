"""A whole evaluation: scores methods on sets of samples, writes tables and reports."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path

from keras_lstsr import __version__
from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.compare import Progress, SampleSet, compare
from keras_lstsr.evaluation.methods import Method, PredictorMethod
from keras_lstsr.evaluation.publish import REPORT_NAME, write_evaluation
from keras_lstsr.evaluation.report.content import Evaluation


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
            from keras_lstsr.evaluation.learnt import learnt_note

            notes = (learnt_note(n, p, evaluation.files) for n, p in networks.items())
            evaluation.learnt_from = [note for note in notes if note is not None]
        evaluation.notes.append(f"keras-lstsr {__version__}.")
        name = REPORT_NAME if len(sets) == 1 else f"report_{evaluation.results[0].name}.html"
        paths += write_evaluation(evaluation, output, report=name)
        evaluations.append(evaluation)
    return evaluations, paths
