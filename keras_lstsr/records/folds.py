"""Folds by place: what a model is tested on shows no ground that it has learnt from.

Scenes that share ground go to one fold, group by group. A group that is larger than a fold is cut
across its longest axis instead, and what lies on both sides of a cut is masked: a training sample
teaches nothing on ground that any scene of the test fold covers.

Scenes whose LST was made from their truth are tested only if that is wanted, whole places at a
time; without it they are in every training.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from os import PathLike
from typing import Any

import numpy as np
from pyproj import Transformer

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import covered
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.place_scenes import without_draw
from keras_lstsr.records.places import SplitSettings
from keras_lstsr.records.planning import connected_groups
from keras_lstsr.records.reading import iterate_samples
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.schema import DatasetMetadata, load_metadata, require_truth
from keras_lstsr.records.writer import write_records


def assign_folds(groups: Sequence[str], grids: Sequence[Grid], folds: int = 4) -> list[int]:
    """Assigns scenes to folds by place.

    A group of more than ``1 / folds`` of all scenes is cut into ``folds`` parts of equal size by
    lines across the axis along which its scenes lie furthest apart; the parts follow each other
    along that axis from north to south, or from west to east. The other groups stay whole and
    fill up the folds that have fewest scenes, the largest group first.

    Args:
        groups: Of each scene, the group of scenes with which it shares ground.
        grids: Of each scene.
        folds: Number of folds.

    Returns:
        The fold of each scene, 0 to ``folds − 1``; each fold has at least one.

    Raises:
        ConfigError: If there are fewer than 2 folds, or fewer scenes or places than folds.
    """
    expected, problem = "2 or more, and no more than scenes", "the scenes are too few for the folds"
    fits = 2 <= folds <= len(groups)
    ConfigError.unless(fits, "folds", f"{folds} for {len(groups)} scenes", expected, problem)
    members: dict[str, list[int]] = {}
    for number, group in enumerate(groups):
        members.setdefault(group, []).append(number)
    result = np.full(len(groups), -1)
    sizes = [0] * folds
    by_size = sorted(members.values(), key=lambda numbers: -len(numbers))
    for numbers in by_size:
        if len(numbers) * folds > len(groups) and len(numbers) >= folds:
            along = _along_longest_axis([grids[number] for number in numbers])
            parts = np.arange(len(numbers)) * folds // len(numbers)
            for place, fold in zip(along, parts.tolist(), strict=True):
                result[numbers[place]] = fold
                sizes[fold] += 1
    for numbers in by_size:
        if result[numbers[0]] < 0:
            fold = sizes.index(min(sizes))
            result[numbers] = fold
            sizes[fold] += len(numbers)
    if min(sizes) == 0:
        raise ConfigError(
            "there are fewer places than folds",
            field="folds",
            found=f"{folds} for {len(members)} groups of scenes",
            action="Take fewer folds.",
        )
    return [int(fold) for fold in result]


def _along_longest_axis(grids: Sequence[Grid]) -> list[int]:
    """Orders places along the axis of their largest spread, from the northern end on."""
    degrees = np.array([grid.longitude_latitude for grid in grids])
    longitude, latitude = degrees.mean(axis=0)
    local = Transformer.from_crs(
        "EPSG:4326", f"+proj=aeqd +lon_0={longitude} +lat_0={latitude} +units=m", always_xy=True
    )
    places = np.stack(local.transform(*degrees.T), axis=-1)
    places -= places.mean(axis=0)
    axis = np.linalg.svd(places, full_matrices=False)[2][0]
    # The sign of a singular vector is arbitrary: from north to south, or from west to east.
    from_end = -axis[1] if abs(axis[1]) >= abs(axis[0]) else axis[0]
    axis = axis * np.sign(from_end)
    return [int(place) for place in np.argsort(np.round(places @ axis), kind="stable")]


def scene_folds(metadata: DatasetMetadata, folds: int) -> dict[str, int]:
    """Assigns the observed scenes of records to folds; see ``assign_folds``.

    Scenes whose LST was made from their truth are tested in no fold.

    Returns:
        Scene → fold, 0 to ``folds − 1``, in the order of the scenes' names.
    """
    scenes = {n: info for n, info in sorted(metadata.scenes.items()) if info.origin == "observed"}
    grids = [info.grid.grid.finer(metadata.scale_factor) for info in scenes.values()]
    groups = [info.group for info in scenes.values()]
    return dict(zip(scenes, assign_folds(groups, grids, folds), strict=True))


def degraded_folds(metadata: DatasetMetadata, folds: int) -> dict[str, int]:
    """Deals the scenes whose LST was made from their truth into folds, whole places at a time.

    Scenes of one group, all draws of a date among them, and scenes that share ground are one
    place. Places are dealt out by their number of LST pixels over all their scenes, the largest
    first, to the folds in turn and back again, so that each fold gets large and small ones.

    Returns:
        Scene → fold, 0 to ``folds − 1``, in the order of the scenes' names; empty where there are
        no such scenes. Folds get no place where there are fewer places than folds.
    """
    scenes = {n: info for n, info in sorted(metadata.scenes.items()) if info.origin == "degraded"}
    grids = [info.grid.grid for info in scenes.values()]
    places = connected_groups(grids, [info.group for info in scenes.values()])
    members: dict[str, list[str]] = {}
    for name, place in zip(scenes, places, strict=True):
        members.setdefault(place, []).append(name)

    def pixels(names: Sequence[str]) -> int:
        return sum(height * width for height, width in (scenes[n].grid.shape for n in names))

    fold_of: dict[str, int] = {}
    by_size = sorted(members.values(), key=lambda names: (-pixels(names), names))
    for number, names in enumerate(by_size):
        turn, place_in_turn = divmod(number, folds)
        back = turn % 2 == 1
        fold_of |= dict.fromkeys(names, folds - 1 - place_in_turn if back else place_in_turn)
    return {name: fold_of[name] for name in scenes}


def fold_records(
    records_dir: str | PathLike[str],
    fold: int | None,
    folds: int,
    output: str | PathLike[str],
    *,
    test_degraded: bool = False,
) -> DatasetMetadata:
    """Writes the records of a fold of cross-validation.

    Split ``train`` holds the samples of the other folds, without truth on ground that a scene of
    this fold covers, and split ``test`` those of this fold whole. Samples whose LST was made from
    their truth have no truth for training on the ground of any observed scene. Memory holds all
    samples.

    Args:
        records_dir: A records folder with truth; its own splits do not matter.
        fold: From 0 on; None puts everything into ``train``.
        folds: Number of folds.
        output: The folder to write; a new or empty one.
        test_degraded: Whether samples whose LST was made from their truth are tested, see
            ``degraded_folds``: of several draws of a scene the first, and the others are left out.
            Else they are in every ``train``.

    Raises:
        RecordsError: If the records hold no truth, or cannot be read.
        ConfigError: If there are too few places for so many folds, or the output is not empty.
    """
    metadata = load_metadata(records_dir)
    require_truth(metadata, records_dir, "cross-validation needs")
    ConfigError.unless(fold is None or 0 <= fold < folds, "fold", fold, f"0 to {folds - 1}")
    assigned = {} if fold is None else scene_folds(metadata, folds)
    if fold is not None and test_degraded:
        assigned |= degraded_folds(metadata, folds)
    tested = {name for name, own in assigned.items() if own == fold}
    samples = list(_fold_samples(_all_samples(records_dir, metadata), metadata, tested))
    settings = CutSettings(guides=tuple(metadata.guides), truth=True, split=SplitSettings())
    described: dict[str, Any] = {
        "fold": fold,
        "folds": folds if fold is not None else None,
        "test_degraded": test_degraded,
        "of_fingerprint": metadata.fingerprint,
        "of_settings": metadata.settings,
    }
    return write_records(
        output,
        samples,
        metadata.scenes,
        settings,
        described_settings=described,
        sources=metadata.sources,
    )


def _all_samples(records_dir: str | PathLike[str], metadata: DatasetMetadata) -> Iterator[Sample]:
    for split, count in metadata.counts.items():
        if count:
            yield from iterate_samples(records_dir, split)


def _fold_samples(
    samples: Iterable[Sample], metadata: DatasetMetadata, tested: set[str]
) -> Iterator[Sample]:
    factor = metadata.scale_factor
    ground = {name: info.grid.grid.finer(factor) for name, info in metadata.scenes.items()}
    observed = [ground[n] for n, info in metadata.scenes.items() if info.origin == "observed"]
    # Draws and dates of a place mostly share their grid.
    kept_out = list(dict.fromkeys(ground[name] for name in sorted(tested)))
    for sample in samples:
        if sample.scene in tested:
            if without_draw(sample.scene)[1] <= 1:
                yield replace(sample, split="test")
            continue
        others = [*kept_out, *(observed if sample.origin == "degraded" else [])]
        hidden = covered(sample.fine_grid, others)
        assert sample.truth_kelvin is not None  # has_truth says so
        truth = np.where(hidden, np.float32(np.nan), sample.truth_kelvin)
        if np.isfinite(truth).any():
            yield replace(sample, split="train", truth_kelvin=truth)
