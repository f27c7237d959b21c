"""Records of schema version 1: what they tell of the command that makes them anew."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from itertools import takewhile
from typing import Any

# Options of the job at their defaults are left out.
_DEFAULTS = {
    "patch_size": 64,
    "max_missing_fraction": 0.0,
    "anchor": "tile",
    "qc_policy": "default",
}
_SPLIT_DEFAULTS = {"fractions": [0.75, 0.125, 0.125], "by": "place", "seed": 0}
_READER_OPTIONS = ("scale", "offset", "nodata", "unit", "day_night", "date_pattern")


def command_of_version_1(content: Mapping[str, Any]) -> str:
    """Returns the command that makes records of version 1 anew.

    Args:
        content: Of ``dataset.json``; what it lacks is left out of the command.
    """
    settings: dict[str, Any] = content.get("settings") or {}
    paths: dict[str, list[str]] = {"lst": [], "ndvi": []}
    for source in content.get("sources") or ():
        paths.setdefault(source.get("role"), []).append(str(source.get("path")))
    words = ["keras-lstsr", "prepare", "--input", *_patterns(paths["lst"] or ["LST_GLOB"])]
    if content.get("has_guide"):
        patterns = _patterns(paths["ndvi"] or ["NDVI_GLOB"])
        words += ["--guide", *(f"ndvi={pattern}" for pattern in patterns)]
    lst, ndvi = settings.get("lst_reader") or {}, settings.get("ndvi_reader") or {}
    options = {"qc_policy": lst.get("qc_policy", "default"), **settings}
    if options.get("stride") != options.get("patch_size"):
        words += ["--stride", str(options.get("stride"))]
    for name, default in _DEFAULTS.items():
        if options.get(name, default) != default:
            words += [f"--{name}", str(options[name])]
    for name, default in _SPLIT_DEFAULTS.items():
        value = (settings.get("split") or {}).get(name, default)
        if value != default:
            text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
            words += [f"--split_{name}", text]
    for name in _READER_OPTIONS:
        if lst.get(name) is not None:
            words += [f"--{name}", str(lst[name])]
        if ndvi.get(name) is not None:
            words += [f"--guide_{name}", f"ndvi={ndvi[name]}"]
    return shlex.join([*words, "--output", "DIR"])


def _patterns(paths: Iterable[str]) -> list[str]:
    """Returns a pattern for the files of each folder: what their names begin and end with."""
    folders: dict[str, list[str]] = {}
    for path in paths:
        folder, slash, name = path.rpartition("/")
        folders.setdefault(folder + slash, []).append(name)
    return [
        folder + (names[0] if len(names) == 1 else f"{_common(names)}*{_common(names, -1)}")
        for folder, names in folders.items()
    ]


def _common(names: Iterable[str], step: int = 1) -> str:
    columns = zip(*(name[::step] for name in names), strict=False)
    same = takewhile(lambda column: len(set(column)) == 1, columns)
    return "".join(column[0] for column in same)[::step]
