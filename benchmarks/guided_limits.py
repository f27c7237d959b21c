"""The guided model by night and with less guides: ``python benchmarks/guided_limits.py``.

Pairs are predicted by the models of cross-validation that have not seen their ground, with all
their guides, with NDVI and water, with other dates alone, and without any; simulated scenes, by day
and by night, by the final model, which has seen none.
All is scored on the grid nested in LST by the bias-free error, beside bicubic. Intervals of 90 %
are those of the calibrated standard deviations.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np


def row(name, samples, model_of, calibration):
    """Prints one line of the table."""
    from keras_lstsr.grids.resample import interpolated
    from keras_lstsr.training.cross_validation import predict_sample

    errors, plain, inside = [], [], []
    for sample in samples:
        kelvin, std = predict_sample(model_of(sample.name), sample)
        bicubic = interpolated(sample.lst_kelvin, 4, "bicubic")
        there = np.isfinite(kelvin) & np.isfinite(sample.truth_kelvin)
        error, other = ((each - sample.truth_kelvin)[there] for each in (kelvin, bicubic))
        errors.append(error.std())
        plain.append(other.std())
        inside.append(np.mean(np.abs(error - error.mean()) < 1.645 * calibration * std[there]))
    worse = int(np.sum(np.array(errors) > np.array(plain)))
    print(
        f"| {name} | {np.mean(errors):.3f} | {np.mean(plain):.3f} | {worse} of {len(errors)} | "
        f"{np.mean(inside):.1%} ({np.min(inside):.0%} to {np.max(inside):.0%}) |",
        flush=True,
    )


def with_guides(sample, *names):
    """Returns the sample with those of its guides."""
    return replace(sample, guides={n: sample.guides[n] for n in names if n in sample.guides})


@click.command()
@click.option(
    "--pretrained",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder that keras-lstsr pretrain has written.",
)
@click.option("--seed", default=250, show_default=True, help="of the simulated scenes")
def main(pretrained, seed):
    """Prints the table."""
    from keras_lstsr.artifacts.loading import load_keras_model
    from keras_lstsr.artifacts.model_folder import ModelFolder
    from keras_lstsr.evaluation.simulated import simulated_samples
    from keras_lstsr.records.reading import iterate_samples
    from keras_lstsr.records.scene_sample import nested
    from keras_lstsr.records.schema import load_metadata

    card = ModelFolder(pretrained).read_card()
    factor = card.calibration["factor"]
    folds = {name: fold["fold"] for fold in card.folds for name in fold["tested"]}
    models = {
        fold: load_keras_model(pretrained / "folds" / f"fold_{fold}" / "model.keras")
        for fold in set(folds.values())
    }
    final = load_keras_model(pretrained / "model.keras")
    records = pretrained / "records"
    splits = [split for split, count in load_metadata(records).counts.items() if count]
    every = [sample for split in splits for sample in iterate_samples(records, split)]
    real = [sample for sample in every if sample.origin == "observed"]
    # Their truth lies where it says and needs no mask, as that of degraded scenes.
    scenes = [source.load() for source in simulated_samples(seed=seed)]
    made = [nested(replace(scene, origin="degraded"), 4) for scene in scenes]
    days = [sample for sample in made if sample.day_night == "day"]
    nights = [sample for sample in made if sample.day_night == "night"]
    print("| scenes | guided (K) | bicubic (K) | worse than bicubic | 90 % intervals hold |")
    print("|---" * 5 + "|")
    for names in (("ndvi", "water", "reference"), ("ndvi", "water"), ("reference",), ()):
        some = [with_guides(sample, *names) for sample in real]
        title = f"pairs, out of fold, {', '.join(names) or 'no guide'}"
        row(title, some, lambda name: models[folds[name]], factor)
    for name, scenes in (("simulated days", days), ("simulated nights", nights)):
        row(name, scenes, lambda name: final, 1.0)
        bare = [with_guides(sample) for sample in scenes]
        row(f"{name}, no guide", bare, lambda name: final, 1.0)


if __name__ == "__main__":
    main()
