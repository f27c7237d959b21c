"""What the self-check and bfloat16 do to maps: ``python benchmarks/self_check.py``.

Prints the error over bicubic's on places elsewhere, with the self-check and without, by the
weights shipped; the same on pairs at home, each predicted by the model of the fold that has not
seen its ground; and how far bfloat16 takes the maps of the pairs from those in float32.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np

if TYPE_CHECKING:
    from keras_lstsr.inference.predictor import Predictor
    from keras_lstsr.records.scene_sample import SceneSample


@dataclass(frozen=True)
class Network:
    """A network as a method, with the self-check or without."""

    predictor: Predictor
    check: bool

    def __call__(self, sample: SceneSample) -> Any:
        """See ``keras_lstsr.evaluation.methods.Method``."""
        from keras_lstsr.evaluation.methods import Refined
        from keras_lstsr.inference.scene import predict_scene

        taken = self.predictor.contract.guides
        guides = {name: guide for name, guide in sample.guides.items() if name in taken}
        scene = predict_scene(sample.lst, self.predictor, guides, check=self.check)
        return Refined(scene["lst_kelvin_fine"])


def elsewhere(places: Path, footprint_m: float) -> None:
    """Prints the errors on places."""
    from keras_lstsr.evaluation.compare import compare
    from keras_lstsr.evaluation.methods import parse_method
    from keras_lstsr.evaluation.places import TO_BICUBIC, place_rows
    from keras_lstsr.evaluation.sources import places_set
    from keras_lstsr.inference.predictor import load_predictor

    predictor = load_predictor("pretrained")
    methods = {
        "bicubic": parse_method("bicubic"),
        "without": Network(predictor, check=False),
        "with": Network(predictor, check=True),
    }
    (result,) = compare(places_set(places, footprint_m=footprint_m), methods).results
    print(f"\nFootprint of {footprint_m / 1000:g} km, error over bicubic's\n")
    print("| place | dates | without | with | worse than bicubic, without | with |")
    print("|---" * 6 + "|")
    for row in place_rows(result):
        own = [row.figures[name] for name in ("without", "with")]
        ratios = " | ".join(f"{each[TO_BICUBIC]:.2f}" for each in own)
        worse = " | ".join(f"{each['worse_than_bicubic']:.0f}" for each in own)
        print(f"| {row.label} | {row.dates} | {ratios} | {worse} |", flush=True)


def samples_of(records: Path, names: list[str] | None = None) -> Any:
    """Returns the samples of all splits."""
    from keras_lstsr.evaluation.sources import RecordSamples
    from keras_lstsr.records.schema import load_metadata

    splits = [split for split, count in load_metadata(records).counts.items() if count]
    return RecordSamples(records, splits, names=names)


def at_home(folds: Path, records: Path) -> None:
    """Prints the errors on pairs that a cross-validation's models have not seen."""
    from keras_lstsr.inference.predictor import load_predictor

    errors: dict[bool, list[float]] = {False: [], True: []}
    for path in sorted((folds / "folds").glob("fold_*.json")):
        predictor = load_predictor(path.with_suffix(""))
        tested = json.loads(path.read_text(encoding="utf-8"))["tested"]
        for sample in samples_of(records, tested):
            assert sample.truth is not None
            for check, found in errors.items():
                fine = Network(predictor, check)(sample).lst_kelvin.values
                error = (fine - sample.truth.values)[np.isfinite(fine - sample.truth.values)]
                found.append(float(error.std()))
    without, checked = (np.mean(errors[check]) for check in (False, True))
    print(f"\n{len(errors[True])} pairs on unseen ground, bias-free error on the nested grid:")
    print(f"{without:.3f} K without the self-check, {checked:.3f} K with it", flush=True)


def in_bfloat16(records: Path) -> None:
    """Prints how far bfloat16 takes the maps of the pairs from those in float32."""
    from keras_lstsr.inference.predictor import load_predictor

    exact, fast = (load_predictor("pretrained", precision=p) for p in ("float32", "bfloat16"))
    root, largest = [], []
    for sample in samples_of(records):
        if sample.origin == "observed":
            maps = [Network(each, check=False)(sample).lst_kelvin.values for each in (exact, fast)]
            apart = (maps[1] - maps[0])[np.isfinite(maps[0])]
            root.append(float(np.sqrt(np.mean(apart**2))))
            largest.append(float(np.abs(apart).max()))
    print(f"\nbfloat16 against float32 on {len(root)} pairs: {min(root):.3f} to {max(root):.3f} K")
    print(f"root mean square, {max(largest):.3f} K at most", flush=True)


@click.command()
@click.option("--places", type=click.Path(path_type=Path), help="Folder of places.")
@click.option(
    "--pretrained",
    type=click.Path(path_type=Path),
    help="Folder that keras-lstsr pretrain or cross-validate has written.",
)
@click.option(
    "--records", type=click.Path(path_type=Path), help="Its records  [default: its own folder]"
)
def main(places: Path | None, pretrained: Path | None, records: Path | None) -> None:
    """Prints what there is data for."""
    if pretrained is not None:
        at_home(pretrained, records or pretrained / "records")
        in_bfloat16(records or pretrained / "records")
    if places is not None:
        for footprint_m in (930.0, 1400.0):
            elsewhere(places, footprint_m)


if __name__ == "__main__":
    main()
