"""All methods on places elsewhere: ``python benchmarks/everywhere.py --places DIR``.

With ``--pretrained RUN`` the network of each place is that of the fold of cross-validation that
left the place out.

Prints the tables of docs/everywhere.md, for footprints of 0.93 and 1.4 km, and leaves the tables
and the HTML report of each.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import click

FOOTPRINTS_M = (930.0, 1400.0)


@click.command()
@click.option("--places", required=True, type=click.Path(path_type=Path), help="Folder of places.")
@click.option("--model", default="pretrained", show_default=True, help="Model folder.")
@click.option(
    "--pretrained",
    type=click.Path(path_type=Path),
    help="Instead of a model: folder that keras-lstsr pretrain has written, with "
    "cross_validation.test_degraded. Each place gets the model of the fold that left it out.",
)
@click.option("--output", default=Path("everywhere"), type=click.Path(path_type=Path))
@click.option("--limit", type=int, help="At most so many scenes.")
def main(
    places: Path, model: str, pretrained: Path | None, output: Path, limit: int | None
) -> None:
    """Prints the tables and writes the reports."""
    from keras_lstsr.evaluation.cross_validation import ModelsOfFolds
    from keras_lstsr.evaluation.methods import COMPARED, PRETRAINED_LABEL, choose_methods
    from keras_lstsr.evaluation.places import places_markdown
    from keras_lstsr.evaluation.run import evaluate
    from keras_lstsr.evaluation.sources import places_set

    methods = choose_methods(COMPARED, [] if pretrained else [model])
    notes: tuple[str, ...] = ()
    if pretrained is not None:
        methods[PRETRAINED_LABEL] = ModelsOfFolds(pretrained)
        notes = (f"{PRETRAINED_LABEL}: each place by the model of the fold that left it out.",)
    for footprint_m in FOOTPRINTS_M:
        samples = places_set(places, footprint_m=footprint_m, limit=limit)
        samples = replace(samples, notes=(*samples.notes, *notes))
        ((evaluation,), _) = evaluate([samples], methods, output / f"{footprint_m:.0f}_m")
        (result,) = evaluation.results
        print(f"\nFootprint of {footprint_m / 1000:g} km\n\n{places_markdown(result)}", flush=True)
        for note in evaluation.notes:
            print(f"\n{note}")


if __name__ == "__main__":
    main()
