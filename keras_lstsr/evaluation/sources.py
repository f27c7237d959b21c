"""Where the samples of an evaluation come from: pairs, scenes with truth, records, simulation."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import chain
from os import PathLike
from pathlib import Path

from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.compare import SampleSet
from keras_lstsr.evaluation.protocols import (
    OWN_TRUTH_METRICS,
    PROTOCOLS,
    AsterProtocol,
    FourKilometreProtocol,
    NestedProtocol,
    ScoringProtocol,
    Warp,
)
from keras_lstsr.evaluation.result import MAIN_METRICS
from keras_lstsr.grids.degradation import Footprint
from keras_lstsr.records.pairs import find_pairs
from keras_lstsr.records.scene_sample import Coregistration, SceneSample
from keras_lstsr.records.schema import load_metadata


@dataclass(frozen=True)
class RecordSamples:
    """Samples of a records folder, read anew each time they are gone through.

    Attributes:
        folder: The records folder.
        splits: Of ``train``, ``validation`` and ``test``.
        limit: At most this many samples of each split.
        names: Only the samples of these names; None means all.
    """

    folder: Path
    splits: Sequence[str]
    limit: int | None = None
    names: Collection[str] | None = None

    def __iter__(self) -> Iterator[SceneSample]:
        """Yields one sample after the other.

        Raises:
            RecordsError: If the records cannot be read.
        """
        from keras_lstsr.records.reading import iterate_samples

        scenes = load_metadata(self.folder).scenes
        for sample in chain.from_iterable(
            iterate_samples(self.folder, split, self.limit) for split in self.splits
        ):
            if self.names is not None and sample.name not in self.names:
                continue
            attrs = {"units": "K", "day_night": sample.day_night}
            fine = sample.fine_grid
            truth = sample.truth_kelvin
            yield SceneSample(
                sample.name,
                # Parts of a scene share ground with the same part on other dates.
                sample.group if sample.name == sample.scene else sample.place,
                day_night=sample.day_night,
                lst=sample.grid.raster(sample.lst_kelvin, name="lst_kelvin", attrs=attrs),
                guides={n: fine.raster(v, name=n) for n, v in sample.guides.items()},
                truth=None if truth is None else fine.raster(truth, attrs=attrs),
                # Another split is other ground of the same files.
                files=scenes[sample.scene].files if sample.split == "train" else {},
                origin=sample.origin,
                product=sample.product,
                tile=sample.tile,
                acquisition_date=sample.acquisition_date,
                sensor=sample.sensor,
            )


def pairs_set(
    folder: str | PathLike[str],
    *,
    protocols: Sequence[str] = ("aster",),
    coregister: Coregistration = "pixel",
    warp: Warp = "gdal",
    limit: int | None = None,
) -> SampleSet:
    """Returns the pairs of a folder; see ``records.pairs.find_pairs`` for what it raises.

    Args:
        folder: Where the pairs lie.
        protocols: Names of ``protocols.PROTOCOLS``; the first gives maps and spectra.
        coregister: What to do about a truth that is not where it says.
        warp: How the ASTER protocol warps results.
        limit: Take at most this many pairs.

    Raises:
        ConfigError: If there is no such protocol.
    """
    chosen = protocols_named(protocols, warp=warp)
    warped = any(protocol.name == "aster" for protocol in chosen)
    return SampleSet(
        data=f"“{Path(folder).name}”",
        sources=find_pairs(folder)[:limit],
        protocols=chosen,
        coregister=coregister,
        notes=(f"Results are warped onto ASTER's grid bilinearly ({warp}).",) if warped else (),
    )


def records_set(
    folder: str | PathLike[str], split: str = "test", *, limit: int | None = None
) -> SampleSet:
    """Returns the samples of a split: from 4 km to 1 km, and to 250 m where they hold the truth.

    Args:
        folder: A records folder.
        split: ``train``, ``validation`` or ``test``.
        limit: Take at most this many samples.

    Raises:
        RecordsError: If the folder holds no records.
    """
    metadata = load_metadata(folder)
    protocols: list[ScoringProtocol] = [
        FourKilometreProtocol(
            f"patches_{split}", f"4 km → 1 km, {split} split", cropped=False, clear_of_gaps=True
        )
    ]
    if metadata.has_truth:
        title = f"1 km → 250 m, {split} split"
        foreign = any(scene.origin == "observed" for scene in metadata.scenes.values())
        metrics = MAIN_METRICS if foreign else OWN_TRUTH_METRICS
        name = f"patches_{split}_250m"
        protocols.append(NestedProtocol(name, title, main_metrics=metrics, cropped=False))
    return SampleSet(
        data=f"“{Path(folder).name}”",
        sources=RecordSamples(Path(folder), (split,), limit),
        protocols=protocols,
        factor=metadata.scale_factor,
        guided=bool(metadata.guides),
    )


def scenes_set(
    lst: str, truth: str, guides: Mapping[str, str] | None = None, *, limit: int | None = None
) -> SampleSet:
    """Returns whole scenes whose truth lies on the grid that nests in LST.

    See ``evaluation.scenes.find_scenes`` for arguments and errors.
    """
    from keras_lstsr.evaluation.scenes import find_scenes

    return SampleSet(
        data=f"“{Path(lst).name}”",
        sources=find_scenes(lst, truth, guides)[:limit],
        protocols=[NestedProtocol("scenes", "1 km → 250 m, whole scenes", clear_of_gaps=True)],
        guided=bool(guides),
    )


def simulated_set(
    scenes: int, *, protocols: Sequence[str] = (), limit: int | None = None
) -> SampleSet:
    """Returns simulated scenes with known truth on the grid that nests in LST.

    Args:
        scenes: Number of scenes, of up to two samples each.
        protocols: Names of protocols to score by besides.
        limit: Take at most this many samples.
    """
    from keras_lstsr.evaluation.simulated import simulated_samples

    return SampleSet(
        data=f"{scenes} simulated scenes",
        sources=simulated_samples(scenes=scenes)[:limit],
        protocols=[NestedProtocol(), *protocols_named(protocols)],
    )


def places_set(
    folder: str | PathLike[str], *, footprint_m: float = 930.0, limit: int | None = None
) -> SampleSet:
    """Returns the scenes of places, each degraded; see ``records.place_scenes.find_places``.

    Args:
        folder: Holds a folder for each place.
        footprint_m: Full width at half maximum of the Gaussian that LST is degraded with, in
            metres.
        limit: Take at most this many scenes.

    Raises:
        ProductError: If there is no scene.
        GridError: If the width is not above 0, or the pixels of a scene do not nest.
    """
    from keras_lstsr.evaluation.places import PlacesProtocol
    from keras_lstsr.records.place_scenes import find_places, left_out

    footprint = Footprint("gaussian", (footprint_m, footprint_m))
    scenes = find_places(folder, footprint=footprint)
    cloudy = left_out(folder, scenes)
    return SampleSet(
        data=f"“{Path(folder).name}”",
        sources=scenes[:limit],
        protocols=[PlacesProtocol()],
        some_unguided=True,
        notes=(
            f"Fine LST degraded by a Gaussian of {footprint_m:g} m full width at half maximum.",
            *([f"Nights left out, as they show clouds: {', '.join(cloudy)}."] if cloudy else []),
        ),
    )


def protocols_named(names: Sequence[str], *, warp: Warp = "gdal") -> list[ScoringProtocol]:
    """Returns the protocols of some names of ``protocols.PROTOCOLS``.

    Raises:
        ConfigError: If there is no such name.
    """
    unknown = [name for name in names if name not in PROTOCOLS]
    if unknown:
        raise ConfigError(
            "unknown protocol",
            field="protocol",
            found=", ".join(unknown),
            expected=", ".join(PROTOCOLS),
        )
    return [
        replace(protocol, warp=warp) if isinstance(protocol, AsterProtocol) else protocol
        for name in dict.fromkeys(names)
        for protocol in PROTOCOLS[name]
    ]
