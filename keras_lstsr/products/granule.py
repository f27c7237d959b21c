"""What is known of a granule: from its core metadata, else its file name, else its grid."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from keras_lstsr.errors import ConfigError, ProductError, unknown
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import tile_of_bounds
from keras_lstsr.products.hdfeos import HdfEosFile, OdlNode

DAY_NIGHT = ("day", "night", "unknown")

_GRANULE_NAME = re.compile(
    r"(?P<product>M[OYC]D\w{2,7})\.A(?P<year>\d{4})(?P<doy>\d{3})"
    r"(?:\.(?P<tile>h\d{2}v\d{2}))?(?:\.(?P<version>\d{3})(?:\.\d{11,13})?)?"
)

# Tried in this order; the first that gives a real date counts.
_DATE_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        # AST_08: version, then month, day, year, hour, minute, second
        r"AST_\w{2,4}_\d{3}(?P<month>\d{2})(?P<day>\d{2})(?P<year>\d{4})(?P<time>\d{6})",
        r"(?<![A-Za-z0-9])A(?P<year>\d{4})(?P<doy>\d{3})(?:(?P<time>\d{4}))?(?!\d)",  # MODIS
        # AppEEARS, ECOSTRESS: with or without the time
        r"doy(?P<year>\d{4})(?P<doy>\d{3})(?P<time>\d{6})?",
        r"(?<!\d)(?P<year>\d{4})[_.-](?P<month>\d{2})[_.-](?P<day>\d{2})(?!\d)",
        r"(?<!\d)(?P<year>\d{4})(?P<month>\d{2})(?P<day>\d{2})(?:T(?P<time>\d{4}(?:\d{2})?))?(?!\d)",
        # MODIStsp: LST_Day_1km_2019_200
        r"(?<!\d)(?P<year>(?:19|20)\d{2})[_.-](?P<doy>[0-3]\d{2})(?!\d)",
        r"(?<!\d)(?P<year>(?:19|20)\d{2})(?P<doy>[0-3]\d{2})(?!\d)",
        # Such a date at the beginning; elsewhere, thirteen digits are a production time
        r"\A(?P<year>(?:19|20)\d{2})(?P<doy>[0-3]\d{2})(?P<time>\d{6})(?!\d)",
    )
)
_DAY_NIGHT_WORD = re.compile(
    r"(?<![A-Za-z])(?P<day_night>day|night)(?:time)?(?![A-Za-z])", re.IGNORECASE
)
# "8-day composite" is no time of day, but "2006-02-16-Day" is one.
_COMPOSITE_PERIOD = re.compile(
    r"(?<!\d)(?<!\d\d[-_.])(?:8|16)[- ]?days?(?![A-Za-z])", re.IGNORECASE
)
_TILE_NAME = re.compile(r"(?<![A-Za-z0-9])h\d{2}v\d{2}(?!\d)")
# What names and short names of products begin with, or hold as a word, by instrument.
_SENSOR_WORDS = {
    "ECOSTRESS": r"ecostress|ECO_L(?:\d|ST)|ECOv\d",
    "ASTER": r"aster|ast_(?:08|l\d)",
    "MODIS": r"modis|m[oy]d(?:09|11|21|13)",
    "VIIRS": r"viirs|v(?:np|j1|j2)(?:09|21|13)",
    "Landsat": r"landsat|l[cet]0[4-9]_l2sp",
}
_SENSORS = {
    sensor: re.compile(rf"(?<![A-Za-z0-9])(?:{words})", re.IGNORECASE)
    for sensor, words in _SENSOR_WORDS.items()
}
_PLATFORM_OF_PREFIX = {"MOD": "Terra", "MYD": "Aqua", "MCD": "Terra+Aqua"}


@dataclass(frozen=True)
class GranuleMetadata:
    """What is known of a granule; empty text where nothing is.

    Attributes:
        product: Short name, e.g. ``"MOD11A1"``.
        version: Collection, e.g. ``"061"``.
        granule_id: File name in the archive.
        acquisition_date: ISO date, e.g. ``"2021-08-15"``.
        tile: MODIS tile, e.g. ``"h11v05"``.
        platform: ``"Terra"``, ``"Aqua"`` or another.
        source_file: Path that was read.
    """

    product: str
    version: str
    granule_id: str
    acquisition_date: str
    tile: str
    platform: str
    source_file: str

    def as_attributes(self) -> dict[str, str]:
        """Returns the attributes of a scene."""
        return asdict(self)


def check_day_night(day_night: str) -> str:
    """Returns the option in lower case, or raises.

    Raises:
        ConfigError: If it is neither day nor night nor unknown.
    """
    if day_night.lower() not in DAY_NIGHT:
        raise unknown("time of day", day_night, DAY_NIGHT, field="day_night")
    return day_night.lower()


def check_date(date: str) -> str:
    """Returns an ISO date, or raises.

    Raises:
        ConfigError: If the text is no ISO date such as 2021-08-15.
    """
    try:
        return dt.date.fromisoformat(date).isoformat()
    except ValueError as error:
        raise ConfigError(
            "this is not a date", field="date", found=repr(date), expected="e.g. 2021-08-15"
        ) from error


def compile_date_pattern(date_pattern: str) -> re.Pattern[str]:
    """Compiles a user's regular expression for file names.

    It has the groups ``year`` and either ``doy`` or ``month`` and ``day``; ``day_night`` is
    optional.

    Raises:
        ConfigError: If it does not compile or lacks a group.
    """
    expected = "a regular expression with (?P<year>), and (?P<doy>) or (?P<month>) and (?P<day>)"
    problem = "the pattern lacks a named group"
    try:
        pattern = re.compile(date_pattern)
        groups = set(pattern.groupindex)
        if {"year", "doy"} <= groups or {"year", "month", "day"} <= groups:
            return pattern
    except re.error as error:
        problem = f"the pattern is not a regular expression: {error}"
    raise ConfigError(problem, field="date_pattern", found=repr(date_pattern), expected=expected)


def _date_of(match: re.Match[str]) -> str:
    groups = match.groupdict()
    try:
        if groups.get("doy"):
            year, doy = int(groups["year"] or 0), int(groups["doy"] or 0)
            date = dt.date(year, 1, 1) + dt.timedelta(days=doy - 1)
            return date.isoformat() if date.year == year else ""
        numbers = [int(groups[name] or 0) for name in ("year", "month", "day")]
        return dt.date(*numbers).isoformat()
    except (ValueError, OverflowError):
        return ""  # digits that look like a date and are none, e.g. an orbit number


def date_from_name(name: str, patterns: Iterable[re.Pattern[str]] | None = None) -> str:
    """Finds the ISO date in a file name by some patterns or the built-in ones, else empty text."""
    tried = _DATE_PATTERNS if patterns is None else patterns
    dates: Iterator[str] = (_date_of(hit) for pattern in tried for hit in pattern.finditer(name))
    return next((date for date in dates if date), "")


def utc_from_name(name: str) -> dt.datetime | None:
    """Finds date and time in the name of an AST_08 or ECOSTRESS file, or another in ISO form."""
    for pattern in _DATE_PATTERNS:
        for match in pattern.finditer(name):
            date, time = _date_of(match), match.groupdict().get("time") or "99"
            if date:  # a later date in a name may be the production's
                try:
                    return dt.datetime.fromisoformat(f"{date}T{time[:4]}+00:00")
                except ValueError:
                    return None
    return None


def day_night_from_text(text: str) -> str:
    """Finds ``"day"`` or ``"night"`` as a word of a name or description, else ``"unknown"``."""
    text = _COMPOSITE_PERIOD.sub("", text)
    words = {match["day_night"].lower() for match in _DAY_NIGHT_WORD.finditer(text)}
    return words.pop() if len(words) == 1 else "unknown"


def sensor_from_texts(*texts: str) -> str:
    """Finds the instrument that names, short names or platforms tell, else returns empty text.

    The first text that tells one decides.

    Returns:
        ``ECOSTRESS``, ``ASTER``, ``MODIS``, ``VIIRS`` or ``Landsat``.
    """
    named = (sensor for text in texts for sensor, words in _SENSORS.items() if words.search(text))
    return next(named, "")


def sensor_of(attributes: Mapping[Any, Any]) -> str:
    """Finds the instrument by a scene's product, platform and file name, else empty text."""
    told = (attributes.get(name, "") for name in ("product", "platform", "granule_id"))
    return sensor_from_texts(*map(str, told))


def tile_from_name(name: str) -> str:
    """Finds a MODIS tile such as h18v04 in a file name, else returns empty text."""
    match = _TILE_NAME.search(name)
    return match[0] if match else ""


def _values(core: OdlNode | None) -> dict[str, str]:
    """Core metadata as name -> value, with the additional attributes under their own names."""
    values: dict[str, str] = {}
    if core is None:
        return values
    for node in core.walk():
        if "VALUE" in node.values:
            values.setdefault(node.name, node.values["VALUE"])
        names = [child for child in node.children if child.name == "ADDITIONALATTRIBUTENAME"]
        if names:
            inner = [child for child in node.walk() if child.name == "PARAMETERVALUE"]
            if inner:
                values[names[0].values["VALUE"]] = inner[0].values.get("VALUE", "")
    return values


def read_granule_metadata(file: HdfEosFile) -> GranuleMetadata:
    """Collects what an HDF4-EOS file tells of itself; ``product`` is empty if nothing names it.

    Core metadata come first; subsetting tools drop them or rename them to ``OldCoreMetadata``,
    then the file name and the grid's place count.

    Raises:
        ProductError: If the metadata are damaged or the file is no sinusoidal grid file.
    """
    name = file.path.name
    core = _values(file.metadata("CoreMetadata") or file.metadata("OldCoreMetadata"))
    named = _named(name)
    granule_id = core.get("LOCALGRANULEID", "")
    told = {
        "product": core.get("SHORTNAME", ""),
        "date": _core_date(core, file.path),
        "tile": _core_tile(core, file.path),
    }
    archived = _named(granule_id)
    for key, field, value in (
        ("product", "SHORTNAME", told["product"]),
        ("date", "RANGEBEGINNINGDATE", told["date"]),
        ("tile", "HORIZONTALTILENUMBER, VERTICALTILENUMBER", told["tile"]),
    ):
        for source in (named, archived):
            if value and source.get(key, value) != value:
                raise _contradiction(file.path, field, value, source[key])
    for key, value in named.items():
        if archived.get(key, value) != value:
            raise _contradiction(file.path, "LOCALGRANULEID", archived[key], value)
    version = core.get("VERSIONID", "")
    if version:
        # The core metadata write collection 6 as 6, and 6.1 as 61.
        version = f"{int(version):03d}" if version.isdecimal() else version
    product = told["product"] or named.get("product", "")
    here = tile_of_bounds(*file.grids[0].grid.bounds)
    tile = told["tile"] or named.get("tile", "")
    return GranuleMetadata(
        product=product,
        version=version or named.get("version", ""),
        granule_id=granule_id or (name if named else ""),
        acquisition_date=told["date"] or date_from_name(name),
        tile=tile or here,
        platform=core.get("ASSOCIATEDPLATFORMSHORTNAME")
        or _PLATFORM_OF_PREFIX.get(product[:3], ""),
        source_file=str(Path(file.path)),
    )


def check_tile(metadata: GranuleMetadata, grid: Grid) -> None:
    """Checks that a grid lies in the tile that name and metadata tell.

    Raises:
        ProductError: If it does not.
    """
    here = tile_of_bounds(*grid.bounds)
    if metadata.tile and metadata.tile != here:
        found = f"corners in {here or 'no tile, or in several'}"
        raise _contradiction(metadata.source_file, "StructMetadata.0", found, metadata.tile)


def _named(name: str) -> dict[str, str]:
    """What a file's name in the archive tells: product, date, tile and version."""
    match = _GRANULE_NAME.search(name)
    if match is None:
        return {}
    found = {**match.groupdict(), "date": _date_of(match)}
    return {key: found[key] for key in ("product", "date", "tile", "version") if found[key]}


def _core_date(core: Mapping[str, str], path: Path) -> str:
    date = core.get("RANGEBEGINNINGDATE", "")
    try:
        return dt.date.fromisoformat(date).isoformat() if date else ""
    except ValueError as error:
        raise ProductError(
            "the metadata's date is not in the calendar",
            path=path,
            field="RANGEBEGINNINGDATE",
            found=date,
            action="Download the file again.",
        ) from error


def _core_tile(core: Mapping[str, str], path: Path) -> str:
    numbers = [core.get(f"{axis}TILENUMBER", "") for axis in ("HORIZONTAL", "VERTICAL")]
    if not all(numbers):
        return ""
    try:
        column, row = map(int, numbers)
    except ValueError as error:
        raise ProductError(
            "the metadata's tile is unusable",
            path=path,
            field="HORIZONTALTILENUMBER, VERTICALTILENUMBER",
            found=", ".join(numbers),
        ) from error
    return f"h{column:02d}v{row:02d}"


def _contradiction(path: str | Path, field: str, found: str, expected: str) -> ProductError:
    return ProductError(
        "the file's name and its metadata contradict each other",
        path=path,
        field=field,
        found=found,
        expected=expected,
        action="Download the file again, and leave it the name that the archive gives it.",
    )
