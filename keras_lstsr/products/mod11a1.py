"""MOD11A1 and MYD11A1: daily land surface temperature and emissivity, 1 km, day and night."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import xarray as xr

from keras_lstsr.grids.values import VALID_LST_KELVIN
from keras_lstsr.products import quality
from keras_lstsr.products.granule import GranuleMetadata
from keras_lstsr.products.hdfeos import FieldDefinition, HdfEosFile
from keras_lstsr.products.quality import Rejection
from keras_lstsr.products.scene import (
    flag_variable,
    masked_variable,
    plain_values,
    read_field,
    read_values,
    rejection_name,
    wanted_variables,
)


def _field(
    name: str,
    variable: str,
    dtype: str,
    long_name: str,
    *,
    units: str = "",
    valid_range: tuple[int, int],
    fill_value: int | str | None = None,
    formula: tuple[str, str] | None = None,
    scale_factor: float | None = None,
    add_offset: float | None = None,
) -> FieldDefinition:
    """Puts the attributes in the order in which NASA's files have them."""
    attributes: list[tuple[str, str, Any]] = [("long_name", "char", long_name)]
    if units:
        attributes.append(("units", "char", units))
    attributes.append(("Number Type", "char", dtype))
    attributes.append(("valid_range", dtype, valid_range))
    if fill_value is not None:
        kind = "char" if isinstance(fill_value, str) else dtype
        attributes.append(("_FillValue", kind, fill_value))
    if formula is not None:
        attributes.append((formula[0], "char", formula[1]))
    if scale_factor is not None:
        attributes.append(("scale_factor", "float64", scale_factor))
        if add_offset is not None:
            attributes.append(("add_offset", "float64", add_offset))
        attributes.append(("scale_factor_err", "float64", 0.0))
        attributes.append(("add_offset_err", "float64", 0.0))
        attributes.append(("calibrated_nt", "int32", 5))
    return FieldDefinition(name, variable, dtype, tuple(attributes))


def _half_day(name: str, adverb: str, variable: str) -> tuple[FieldDefinition, ...]:
    """The four fields of the day or of the night, in the order of the file."""
    return (
        _field(
            f"LST_{name}_1km",
            f"lst_{variable}_kelvin",
            "uint16",
            f"Daily {adverb} 1km grid Land-surface Temperature",
            units="K",
            valid_range=(7500, 65535),
            fill_value=0,
            formula=("LST", "LST data * scale_factor"),
            scale_factor=0.02,
        ),
        _field(
            f"QC_{name}",
            f"qc_{variable}",
            "uint8",
            f"Quality control for {adverb} LST and emissivity",
            valid_range=(0, 255),
            fill_value="NA\0",  # v061's own text; v006 has no _FillValue here
        ),
        _field(
            f"{name}_view_time",
            f"view_time_{variable}_hours",
            "uint8",
            f"Time of {adverb} Land-surface Temperature observation",
            units="hrs",
            valid_range=(0, 240),
            fill_value=255,
            formula=("View_time", "View_time data * scale_factor"),
            scale_factor=0.1,
        ),
        _field(
            f"{name}_view_angl",
            f"view_angle_{variable}_degrees",
            "uint8",
            f"View zenith angle of {adverb} Land-surface Temperature",
            units="deg",
            valid_range=(0, 130),
            fill_value=255,
            formula=("View_angle", "View_angle data * scale_factor + add_offset"),
            scale_factor=1.0,
            add_offset=-65.0,
        ),
    )


def _emissivity(band: int) -> FieldDefinition:
    return _field(
        f"Emis_{band}",
        f"emissivity_{band}",
        "uint8",
        f"Band {band} emissivity",
        valid_range=(1, 255),
        fill_value=0,
        formula=(f"Emis_{band}", f"Emis_{band} data * scale_factor + add_offset"),
        scale_factor=0.002,
        add_offset=0.49,
    )


def _clear_coverage(name: str, stem: str) -> FieldDefinition:
    return _field(
        f"Clear_{name}_cov",
        "",
        "uint16",
        f"{name} clear-sky coverage",
        valid_range=(1, 65535),
        fill_value=0,
        formula=(f"{name} clear_sky_cov", f"{stem}_clear_sky_cov data * scale_factor"),
        scale_factor=0.0005,
    )


FIELDS: tuple[FieldDefinition, ...] = (
    *_half_day("Day", "daytime", "day"),
    *_half_day("Night", "nighttime", "night"),
    _emissivity(31),
    _emissivity(32),
    _clear_coverage("day", "day"),
    _clear_coverage("night", "nit"),
)
"""All fields of the product, in the order of its files (collections 6 and 6.1)."""

_CF_UNITS = {"hrs": "hour", "deg": "degree", None: "1"}


def open_mod11a1(
    file: HdfEosFile,
    metadata: GranuleMetadata,
    *,
    qc_policy: str,
    variables: Collection[str] | None = None,
) -> xr.Dataset:
    """Reads an open MOD11A1 or MYD11A1 granule; see :func:`keras_lstsr.products.open_product`.

    Subsets that hold some of the product's fields are read as far as they go: without
    ``variables``, all that the file has.

    LST is masked by QC, fill value, valid range and policy; the reason is kept per pixel in
    ``lst_day_kelvin_rejection`` and ``lst_night_kelvin_rejection``.

    Raises:
        ProductError: If a field is missing or damaged.
        ConfigError: If the policy or a variable is unknown.
    """
    quality.check_policy(qc_policy)
    held = {name for each in file.grids for name in each.fields}
    lst = ("LST_Day_1km", "LST_Night_1km")
    grid = file.grid_of(next((name for name in lst if name in held), lst[0])).grid
    by_variable = {entry.variable: entry for entry in FIELDS if entry.variable}
    if variables is None:
        variables = [name for name, entry in by_variable.items() if entry.name in held]
    scene: dict[str, xr.Variable] = {}
    for entry in (by_variable[name] for name in wanted_variables(by_variable, variables)):
        if entry.variable.startswith("lst_"):
            scene |= _read_lst(file, entry, qc_policy)
        elif entry.variable.startswith("qc_"):
            stored, _ = read_field(file, entry)
            scene[entry.variable] = flag_variable(stored, entry, quality.MOD11_QC)
        else:
            scene[entry.variable] = plain_values(file, entry, _CF_UNITS[entry.get("units")])
    return grid.dataset(scene, {**metadata.as_attributes(), "qc_policy": qc_policy})


def _read_lst(file: HdfEosFile, entry: FieldDefinition, qc_policy: str) -> dict[str, xr.Variable]:
    half_day = "Day" if "Day" in entry.name else "Night"
    values, in_range, packing = read_values(file, entry)
    low, high = VALID_LST_KELVIN
    in_range[(in_range == Rejection.VALID) & ((values < low) | (values > high))] = (
        Rejection.OUT_OF_RANGE
    )
    qc, _ = read_field(file, next(field for field in FIELDS if field.name == f"QC_{half_day}"))
    codes = quality.first_reason([quality.mod11_rejection_table(qc_policy)[qc], in_range])
    return masked_variable(
        entry.variable,
        values,
        codes,
        packing,
        {
            "units": "K",
            "long_name": entry.get("long_name"),
            "standard_name": "surface_temperature",
            "day_night": half_day.lower(),
            "ancillary_variables": f"qc_{half_day.lower()} {rejection_name(entry.variable)}",
        },
    )
