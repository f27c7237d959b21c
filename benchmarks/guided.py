"""The guided model on ground that it has not seen: ``python benchmarks/guided.py``.

Takes the out-of-fold predictions that ``keras-lstsr pretrain`` leaves, scores them with the
classical methods on the same pixels, and prints the table of the README, how often the model beats
each method, and what its intervals cover. Writes the HTML report and the README's picture.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click
import numpy as np

from keras_lstsr.evaluation.methods import COMPARED as CLASSICAL

SHOWN = ("bias_free_rmse_kelvin", "rmse_kelvin", "psnr_db", "ssim", "high_pass_correlation")


def out_of_fold(folder: Path) -> dict[str, np.ndarray]:
    """Reads pair → fine LST in kelvin, predicted by the model of the pair's fold."""
    found = {}
    for path in sorted((folder / "folds").glob("fold_*.npz")):
        with np.load(path) as arrays:
            for name in arrays.files:
                if name.endswith(":kelvin"):
                    found[name.removesuffix(":kelvin")] = arrays[name]
    return found


def predicted(folder: Path, guides: set[str]) -> dict[str, np.ndarray]:
    """Predicts each pair by the model of its fold, with those guides alone, from the records."""
    from keras_lstsr.artifacts.loading import load_keras_model
    from keras_lstsr.artifacts.model_folder import ModelFolder
    from keras_lstsr.records.reading import iterate_samples
    from keras_lstsr.records.schema import load_metadata
    from keras_lstsr.training.cross_validation import predict_sample

    folds = {
        n: fold["fold"] for fold in ModelFolder(folder).read_card().folds for n in fold["tested"]
    }
    models = {
        fold: load_keras_model(folder / "folds" / f"fold_{fold}" / "model.keras")
        for fold in set(folds.values())
    }
    found = {}
    for split, count in load_metadata(folder / "records").counts.items():
        for sample in iterate_samples(folder / "records", split) if count else ():
            if sample.origin == "observed":
                own = {name: guide for name, guide in sample.guides.items() if name in guides}
                model = models[folds[sample.scene]]
                found[sample.name], _ = predict_sample(model, replace(sample, guides=own))
    return found


def print_table(result) -> None:
    """Prints means, the interval of the main metric, and comparisons pair by pair."""
    from keras_lstsr.evaluation.report.tables import HEADINGS, format_value

    summary = result.summary()
    errors = {name: result.values(name, "bias_free_rmse_kelvin") for name in result.methods}
    headings = [HEADINGS[name] for name in SHOWN]
    print(f"\n{result.title}\n")
    print(
        "| method | " + " | ".join(headings) + " | 95 % interval (K) | worse than bicubic | guided"
    )
    print("|---" * (len(SHOWN) + 4) + "|")
    for name, row in summary.items():
        cells = [format_value(metric, row[metric]) for metric in SHOWN]
        low, high = (row[f"bias_free_rmse_kelvin_{end}"] for end in ("low", "high"))
        better = int(np.sum(errors["guided"] < errors[name]))
        count = "–" if name == "guided" else f"better on {better} of {len(errors[name])}"
        print(
            f"| {name} | "
            + " | ".join(cells)
            + f" | {low:.2f} to {high:.2f} | {row['worse_than_bicubic']:.0f} | {count} |"
        )


def draw(evaluation, result, samples, predictions, best: str, path: Path) -> str:
    """Draws the pair whose gain on the best classical method is the median one."""
    from keras_lstsr.evaluation.cross_validation import OutOfFold
    from keras_lstsr.evaluation.methods import parse_method
    from keras_lstsr.maps import comparison_figure

    gain = result.values(best, "bias_free_rmse_kelvin") - result.values(
        "guided", "bias_free_rmse_kelvin"
    )
    name = result.images[int(np.argsort(gain)[len(gain) // 2])]
    source = next(s for s in samples.sources if s.name == name)
    (protocol,) = samples.protocols
    sample = protocol.prepared(source.load(), samples.factor)
    methods = {
        "nearest": parse_method("nearest"),
        best: parse_method(best),
        "guided": OutOfFold(predictions),
    }
    fine = {method: refine(sample).lst_kelvin for method, refine in methods.items()}
    (maps,) = protocol.images(sample, fine, evaluation.applied_shift)
    rows, columns = (slice(side // 2 - 60, side // 2 + 60) for side in maps.truth.shape)
    scored = np.isfinite(maps.truth)
    level = {m: float(np.mean((v - maps.truth)[scored])) for m, v in maps.maps.items()}
    # MODIS and ASTER differ in the mean; maps and errors are shown without that difference.
    shown = {
        "1 km MODIS": maps.maps["nearest"] - level["nearest"],
        "guided network": maps.maps["guided"] - level["guided"],
        best: maps.maps[best] - level[best],
        "ASTER": maps.truth,
    }
    figure = comparison_figure(
        {key: value[rows, columns] for key, value in shown.items()},
        title=f"Pair {name}, 28 km across; the network has not seen this ground",
        errors=True,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=80)
    return name


@click.command()
@click.option("--pairs", required=True, type=click.Path(path_type=Path), help="Folder of pairs.")
@click.option(
    "--pretrained",
    required=True,
    type=click.Path(path_type=Path),
    help="Folder that keras-lstsr pretrain has written.",
)
@click.option(
    "--guides",
    default=None,
    help="Guides that the network gets, e.g. ndvi,water; all that the pairs have by default.",
)
@click.option("--output", default=Path("guided_benchmark"), type=click.Path(path_type=Path))
def main(pairs: Path, pretrained: Path, guides: str | None, output: Path) -> None:
    """Prints the tables and writes report and picture."""
    from keras_lstsr.evaluation.compare import compare
    from keras_lstsr.evaluation.cross_validation import OutOfFold
    from keras_lstsr.evaluation.methods import parse_method
    from keras_lstsr.evaluation.run import write_evaluation
    from keras_lstsr.evaluation.sources import pairs_set

    if guides is None:
        predictions = out_of_fold(pretrained)
    else:
        predictions = predicted(pretrained, set(guides.split(",")))
    methods = {name: parse_method(name) for name in CLASSICAL}
    methods["guided"] = OutOfFold(predictions)
    for coregister in ("pixel", "subpixel"):
        samples = pairs_set(pairs, coregister=coregister)
        evaluation = compare(samples, methods)
        (result,) = evaluation.results
        print_table(result)
        if coregister == "subpixel":
            continue
        summary = result.summary()
        best = min(CLASSICAL, key=lambda name: summary[name]["bias_free_rmse_kelvin"])
        name = draw(evaluation, result, samples, predictions, best, output / "guided_pair.png")
        evaluation.notes.append(
            "guided: each pair is predicted by the model of its fold of cross-validation."
        )
        title = "The guided network on ground that it has not seen"
        write_evaluation(evaluation, output, title=title)
        print(f"\nPicture: pair {name}, where the gain on {best} is the median one.")


if __name__ == "__main__":
    main()
