"""The guided network trained without any fine truth: ``python benchmarks/mixgl_guided.py``.

Makes records of the pairs' LST and NDVI alone, trains on them by ``configs/mixgl_guided.yaml``, and
scores the network on the pairs beside classical methods and beside itself before training. ASTER's
LST is read only to score. ``--folds 4`` trains four networks, each without the pairs of its fold.
"""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click
import numpy as np

CONFIG = Path(__file__).resolve().parents[1] / "configs" / "mixgl_guided.yaml"
SHOWN = ("bicubic", "tsharp", "tsharp:regression=local", "untrained", "trained")


def samples_without_truth(pairs: Path) -> list:
    """Brings LST and NDVI of each pair onto nested grids; the truth is dropped unread."""
    from keras_lstsr.records.pairs import find_pairs
    from keras_lstsr.records.scene_sample import nested

    return [nested(replace(pair.load(), truth=None), 4) for pair in find_pairs(pairs)]


def write(samples: Sequence, folder: Path) -> Path:
    """Writes the samples as the training split of a records folder."""
    from keras_lstsr.records.cutting import CutSettings
    from keras_lstsr.records.places import SplitSettings
    from keras_lstsr.records.schema import GridInfo, SceneInfo
    from keras_lstsr.records.writer import write_records

    samples = [replace(sample, split="train") for sample in samples]
    scenes = {
        sample.scene: SceneInfo(
            group=sample.group,
            origin="observed",
            day_night=sample.day_night,
            grid=GridInfo.of(sample.grid),
            files={},
        )
        for sample in samples
    }
    settings = CutSettings(guides=("ndvi",), truth=False, split=SplitSettings())
    write_records(folder, samples, scenes, settings)
    return folder


def folds_of(samples: Sequence, folds: int) -> list[int]:
    """Returns the fold of each sample, by place; all 0 for a single one."""
    from keras_lstsr.records.folds import assign_folds

    if folds == 1:
        return [0] * len(samples)
    return assign_folds([s.group for s in samples], [s.grid.finer(4) for s in samples], folds)


def score(pairs: Path, predictions: dict[str, dict[str, np.ndarray]]):
    """Scores sets of predictions beside classical methods, as ``benchmarks/guided.py`` does."""
    from keras_lstsr.evaluation.compare import compare
    from keras_lstsr.evaluation.cross_validation import OutOfFold
    from keras_lstsr.evaluation.methods import parse_method
    from keras_lstsr.evaluation.sources import pairs_set

    methods = {name: parse_method(name) for name in SHOWN if name not in predictions}
    methods |= {name: OutOfFold(maps) for name, maps in predictions.items()}
    (result,) = compare(pairs_set(pairs, coregister="pixel"), methods).results
    return result


@click.command()
@click.option("--pairs", required=True, type=click.Path(path_type=Path), help="Folder of pairs.")
@click.option("--config", default=CONFIG, type=click.Path(path_type=Path), show_default=True)
@click.option("--set", "settings", multiple=True, help="Override a setting: NAME=VALUE.")
@click.option(
    "--folds",
    default=1,
    show_default=True,
    help="1: one network, trained on LST and NDVI of all pairs. More: by place.",
)
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    help="Folder for records and runs; none are kept by default.",
)
def main(
    pairs: Path, config: Path, settings: tuple[str, ...], folds: int, output: Path | None
) -> None:
    """Trains, predicts and prints the table."""
    with tempfile.TemporaryDirectory() as temporary:
        result, seconds = run(pairs, config, settings, folds, output or Path(temporary))
    errors = {name: result.values(name, "bias_free_rmse_kelvin") for name in SHOWN}
    print(f"\n{result.title}; training: {seconds:.0f} s\n")
    print("| method | bias-free RMSE (K) | worse than bicubic | trained is better |")
    print("|---|---|---|---|")
    for name in SHOWN:
        worse = int(np.sum(errors[name] > errors["bicubic"]))
        better = int(np.sum(errors["trained"] < errors[name]))
        count = "–" if name == "trained" else f"on {better} of {len(errors[name])}"
        print(f"| {name} | {np.mean(errors[name]):.3f} | {worse} | {count} |")


def run(pairs: Path, config: Path, settings: tuple[str, ...], folds: int, output: Path):
    """Trains a network for each fold; returns the scores, and the seconds of training."""
    import keras

    from keras_lstsr.cli.run_options import apply_settings
    from keras_lstsr.models.registry import build_model
    from keras_lstsr.training.cross_validation import predict_sample
    from keras_lstsr.training.fit import train

    experiment = apply_settings(config, settings)
    untrained = build_model(experiment.model)
    samples = samples_without_truth(pairs)
    assigned = folds_of(samples, folds)
    predictions: dict[str, dict[str, np.ndarray]] = {"untrained": {}, "trained": {}}
    seconds = 0.0
    for fold in range(folds):
        tested = [s for s, own in zip(samples, assigned, strict=True) if own == fold]
        learnt = [s for s, own in zip(samples, assigned, strict=True) if own != fold]
        records = write(learnt if folds > 1 else samples, output / f"records_{fold + 1}")
        finished = train(experiment, records, output / f"fold_{fold + 1}")
        seconds += finished.info.training_seconds
        model = keras.saving.load_model(finished.model_path, compile=False)
        for sample in tested:
            for name, network in (("untrained", untrained), ("trained", model)):
                predictions[name][sample.name] = predict_sample(network, sample)[0]
    return score(pairs, predictions), seconds


if __name__ == "__main__":
    main()
