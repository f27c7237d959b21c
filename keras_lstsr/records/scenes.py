"""Scenes with truth on their way to records: surveyed one by one, planned as a set, then cut.

The survey of a scene is small. The plan needs all of them: which scenes share ground, and what the
shift of the set is, which moves the truths that show no clear shift of their own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import xarray as xr

from keras_lstsr.errors import LstsrError, ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.ground import covered
from keras_lstsr.grids.registration import Shift
from keras_lstsr.products.granule import sensor_from_texts
from keras_lstsr.records.cutting import (
    CutSettings,
    CutTally,
    cut_whole,
    scene_name,
    split_of_scene,
)
from keras_lstsr.records.places import locate, place_name
from keras_lstsr.records.planning import TruthItem, check_date, check_on_ground, connected_groups
from keras_lstsr.records.rasters import LST, TRUTH, RasterReader
from keras_lstsr.records.sample import Sample
from keras_lstsr.records.scene_sample import (
    FileSource,
    SampleSource,
    SceneSample,
    clear_shift,
    common_shift,
    cropped_to_guides,
    extent_of,
    nested,
    shift_of_scene,
)
from keras_lstsr.records.schema import (
    SCALE_FACTOR,
    DeadLetter,
    GridInfo,
    SceneInfo,
    SourceInfo,
    Split,
    with_rejection,
)

LocalCopy = Callable[[str], AbstractContextManager[Path]]
"""Lends a file, wherever it lies, under a path that every library can open."""


@dataclass(frozen=True)
class RasterScene:
    """A layer of an LST raster with its guides and its truth, as a source.

    Attributes:
        item: The rasters.
        readers: By role.
        local_copy: Lends the files.
        group: Not known before the plan.
    """

    item: TruthItem
    readers: Mapping[str, RasterReader]
    local_copy: LocalCopy
    group: str = ""

    @property
    def name(self) -> str:
        """The layer's name, and the truth's file: a tile of LST may have many truths."""
        lst = self.item.lst
        truth = self.item.truth.sha256[:16]
        return f"{scene_name(lst.granule_id, lst.sha256, self.item.layer)}/{truth}"

    def load(self) -> SceneSample:
        """Reads the rasters; of LST what lies on the truth's ground.

        Raises:
            ProductError: If a raster cannot be read, or LST has no pixel on the truth's ground.
        """
        item, lst = self.item, self._layer("lst", self.item.lst.path, self.item.layer)
        seen = covered(item.lst.grid, [item.truth.grid])
        if not seen.any():
            raise ProductError(
                "the truth does not overlap LST", path=item.truth.path, expected=item.lst.path
            )
        rows, columns = extent_of(seen)
        window = item.lst.grid.window(rows, columns)
        inside = lst.isel(y=rows, x=columns).values
        (time,) = item.truth.valid_pixels
        rasters = [item.lst, *item.guides.values(), item.truth]
        return SceneSample(
            self.name,
            self.group,
            day_night=item.layer if item.layer != "unknown" else time,
            lst=window.raster(inside, name=lst.name, attrs=lst.attrs, encoding=lst.encoding),
            guides={name: self._layer(name, o.path, name) for name, o in item.guides.items()},
            truth=self._layer("truth", item.truth.path, time),
            files={outline.path.rsplit("/", 1)[-1]: outline.sha256 for outline in rasters},
            product=item.lst.product,
            tile=item.lst.tile,
            acquisition_date=item.lst.acquisition_date or item.truth.acquisition_date,
            sensor=sensor_from_texts(
                item.truth.product, item.truth.platform, item.truth.granule_id
            ),
        )

    def _layer(self, role: str, path: str, name: str) -> xr.DataArray:
        reader = self.readers[role]
        with self.local_copy(path) as local:
            return reader.layers(reader.open(local))[name]

    @property
    def info(self) -> SourceInfo:
        """What ``dataset.json`` tells of the LST raster."""
        return self.item.lst.info(
            partners={
                role: outline.granule_id
                for role, outline in {**self.item.guides, TRUTH: self.item.truth}.items()
            }
        )


@dataclass(frozen=True)
class SceneSurvey:
    """A scene without its pixels.

    Attributes:
        source: Gives the scene.
        info: What ``dataset.json`` is to tell of its LST.
        scene: What it is to tell of the scene; its group is "" where only the plan tells.
        acquisition_date: ISO date; "" if unknown.
        shift: Of its truth, where this scene alone tells it clearly.
    """

    source: SampleSource
    info: SourceInfo
    scene: SceneInfo
    acquisition_date: str
    shift: Shift | None

    @property
    def name(self) -> str:
        """The scene's name."""
        return self.source.name


@dataclass(frozen=True)
class SceneItem:
    """A scene with what the plan decided; ``shift`` is None where its truth lies right."""

    survey: SceneSurvey
    scene: SceneInfo
    place: str
    split: Split
    shift: Shift | None


@dataclass(frozen=True)
class ScenePlan:
    """All scenes to cut, those that fit no split, and those that cannot be used."""

    items: list[SceneItem] = field(default_factory=list)
    rejected: list[SourceInfo] = field(default_factory=list)
    dead_letters: list[DeadLetter] = field(default_factory=list)


def survey_scene(source: FileSource | RasterScene) -> SceneSurvey:
    """Surveys a scene with truth.

    Raises:
        ProductError: If a raster cannot be read, or a guide covers no pixel of LST.
        GridError: If a raster does not fit.
    """
    scene = cropped_to_guides(source.load(), SCALE_FACTOR)
    observed = scene.origin == "observed"
    return SceneSurvey(
        source,
        source.info if isinstance(source, RasterScene) else _info_of(source, scene),
        SceneInfo(
            group=scene.group,
            origin=scene.origin,
            day_night=scene.day_night,
            grid=GridInfo.of(Grid.of(scene.lst, "lst")),
            files=dict(scene.files),
        ),
        scene.acquisition_date,
        clear_shift(shift_of_scene(scene, SCALE_FACTOR)) if observed else None,
    )


def _info_of(source: FileSource, scene: SceneSample) -> SourceInfo:
    path = source.paths[0]
    return SourceInfo(
        path=str(path),
        role=LST if scene.origin == "observed" else TRUTH,
        sha256=scene.files[path.name],
        granule_id=path.name,
        product=scene.product,
        version="",
        tile=scene.tile,
        acquisition_date=scene.acquisition_date,
        pixels=int(scene.lst.size),
        valid_pixels={scene.day_night: int(np.isfinite(scene.lst.values).sum())},
        partners={role: other.name for role, other in source.partners.items()},
    )


def plan_scenes(surveys: Iterable[SceneSurvey], settings: CutSettings) -> ScenePlan:
    """Decides on group, place, split and shift of each scene, whatever their order.

    Scenes that share ground, directly or through others, are one place, and so are those that are
    said to by their group. Its name is that of the first of their lattices.
    """
    plan = ScenePlan()
    known: dict[str, SceneSurvey] = {}
    for survey in sorted(surveys, key=lambda survey: (survey.name, survey.info.path)):
        try:
            check_on_ground(survey.scene.grid.grid, survey.info.path)
        except LstsrError as error:
            plan.dead_letters.append(DeadLetter(path=survey.info.path, reason=str(error)))
            continue
        same = known.setdefault(survey.name, survey)
        if same is not survey:
            reason = f"{survey.info.path}: {same.info.path} gives a scene of the same name"
            plan.dead_letters.append(DeadLetter(path=survey.info.path, reason=reason))
    scenes = [survey.scene for survey in known.values()]
    components = connected_groups([s.grid.grid for s in scenes], [s.group for s in scenes])
    places: dict[str, str] = {}
    for survey, component in zip(known.values(), components, strict=True):
        family = locate(survey.scene.grid.grid, anchor="raster").family
        name = place_name(family, (0, 0, 0, 0))
        places[component] = min(name, places.get(component, name))
    common = common_shift(survey.shift for survey in known.values())
    for survey, component in zip(known.values(), components, strict=True):
        observed = survey.scene.origin == "observed"
        shift = (survey.shift or common) if observed else None
        try:
            check_date(survey.acquisition_date, survey.info.path, settings)
            if observed and shift is None:
                raise ProductError(
                    "where its truth lies is unknown",
                    path=survey.info.path,
                    found="no clear shift, of this scene or another",
                    action="Check whether LST and truth show the same ground and time.",
                )
        except LstsrError as error:
            plan.dead_letters.append(DeadLetter(path=survey.info.path, reason=str(error)))
            continue
        place = places[component]
        split = split_of_scene(place, survey.acquisition_date, settings.split)
        if split is None:
            layer = survey.scene.day_night
            plan.rejected.append(with_rejection(survey.info, layer, "split_mismatch"))
            continue
        decided = {
            "group": survey.scene.group or f"ground-{component}",
            "truth_shift_pixels": None if shift is None else (shift.rows, shift.columns),
            "own_shift": survey.shift is not None,
        }
        scene = survey.scene.model_copy(update=decided)
        plan.items.append(SceneItem(survey, scene, place, split, shift))
    return plan


def samples_of(item: SceneItem, settings: CutSettings, tally: CutTally) -> Iterator[Sample]:
    """Makes the samples of a scene with truth, and adds to the counts.

    Raises:
        ProductError: If a raster cannot be read.
        GridError: If a raster does not fit.
    """
    whole = nested(item.survey.source.load(), SCALE_FACTOR, item.shift)
    whole = replace(whole, group=item.scene.group, place=item.place, split=item.split)
    yield from cut_whole(whole, settings, tally)
