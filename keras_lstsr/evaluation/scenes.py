"""Scenes with truth as they lie in files, each with its guides."""

from __future__ import annotations

import glob
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

from keras_lstsr.errors import ProductError
from keras_lstsr.files import sha256_of
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.planning import groups_of, outline_scene, plan_job
from keras_lstsr.records.rasters import LST, TRUTH, RasterReader
from keras_lstsr.records.scenes import RasterScene


@dataclass(frozen=True)
class TruthScene(RasterScene):
    """A scene with truth, named after its files."""

    @property
    def name(self) -> str:
        """The LST file and the layer."""
        return f"{Path(self.item.lst.path).stem} {self.item.layer}"


def find_scenes(lst: str, truth: str, guides: Mapping[str, str] | None = None) -> list[TruthScene]:
    """Finds the scenes that have a truth, with their guides, as ``keras-lstsr prepare`` does.

    Args:
        lst: Glob of 1 km rasters.
        truth: Glob of 250 m LST rasters; each belongs to the LST of its ground, date and time of
            day.
        guides: Name of a guide → glob of its rasters; each belongs to the LST of its ground and
            date.

    Returns:
        The scenes in the order of their files.

    Raises:
        ProductError: If a glob matches nothing, a raster cannot be read, nothing has a truth, or a
            scene with truth lacks a guide.
    """
    patterns = {LST: lst, TRUTH: truth, **(guides or {})}
    readers = {role: RasterReader(role) for role in patterns}
    outlines = [
        outline_scene(readers[role].open(path), str(path), readers[role], sha256_of(path))
        for role, pattern in patterns.items()
        for path in _matches(pattern)
    ]
    plan = plan_job(outlines, CutSettings(guides=tuple(guides or ()), truth=True))
    for source in plan.sources:
        for reason in (reason for counts in source.rejected.values() for reason in counts):
            role = reason.partition(":")[2]
            if role in (guides or {}):
                raise ProductError(
                    f"a scene has no {role} of the same ground and date",
                    path=source.path,
                    expected=f"a partner among {patterns[role]}",
                )
    if not plan.truths:
        raise ProductError(
            "no scene has a truth of the same ground, date and time of day",
            path=lst,
            expected=f"a partner among {truth}",
            action="Check both globs with keras-lstsr inspect.",
        )
    items = sorted(plan.truths, key=lambda item: (item.lst.path, item.layer))
    groups = groups_of([item.lst.grid for item in items])
    return [
        TruthScene(item, readers, lambda path: nullcontext(Path(path)), group)
        for item, group in zip(items, groups, strict=True)
    ]


def _matches(pattern: str) -> list[Path]:
    paths = sorted(glob.glob(pattern, recursive=True))
    if not paths:
        raise ProductError("no file matches", path=pattern, action="Quote the glob and check it.")
    return [Path(path) for path in paths]
