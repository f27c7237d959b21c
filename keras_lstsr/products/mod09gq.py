"""MOD09GQ and MYD09GQ: daily surface reflectance of red and near infrared, 250 m, and NDVI."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from typing import Any

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.products import quality
from keras_lstsr.products.granule import GranuleMetadata
from keras_lstsr.products.hdfeos import FieldDefinition, HdfEosFile
from keras_lstsr.products.quality import Rejection
from keras_lstsr.products.scene import (
    Packing,
    flag_variable,
    masked_variable,
    read_field,
    read_values,
    rejection_name,
    wanted_variables,
)

# NDVI is computed, not delivered: no integers stand for it, so it is stored as float32.
NDVI_PACKING = Packing("float32", fill_value=float("nan"))


def plain_field(
    name: str,
    dtype: str,
    long_name: str,
    units: str,
    valid_range: tuple[int, int],
    fill_value: int,
    *,
    variable: str = "",
) -> FieldDefinition:
    """Defines a field of whole numbers, its attributes in the order of NASA's files."""
    attributes = (
        ("long_name", "char", long_name),
        ("units", "char", units),
        ("valid_range", dtype, valid_range),
        ("_FillValue", dtype, fill_value),
    )
    return FieldDefinition(name, variable, dtype, attributes)


def _band(number: int, variable: str) -> FieldDefinition:
    long_name = f"250m Surface Reflectance Band {number} - first layer"
    plain = plain_field(
        f"sur_refl_b{number:02d}_1", "int16", long_name, "reflectance", (-100, 16000), -28672
    )
    scaling = (
        ("add_offset", "float64", 0.0),
        ("add_offset_err", "float64", 0.0),
        ("calibrated_nt", "int32", 5),
        ("scale_factor", "float64", 10000.0),
        ("scale_factor_err", "float64", 0.0),
        ("Nadir Data Resolution", "char", "250m"),
    )
    return replace(plain, variable=variable, attributes=(*plain.attributes, *scaling))


FIELDS: tuple[FieldDefinition, ...] = (
    plain_field("num_observations", "int8", "Number of Observations", "none", (0, 127), -1),
    _band(1, "red_reflectance"),
    _band(2, "nir_reflectance"),
    plain_field(
        "QC_250m_1",
        "uint16",
        "250m Reflectance Band Quality - first layer",
        "bit field",
        (0, 32767),
        2995,
        variable="qc_250m",
    ),
    plain_field("obscov_1", "int8", "Observation coverage - first layer", "percent", (0, 100), -1),
)
"""The fields of the product that matter here, in the order of its files (collection 6, 6.1)."""

_BY_VARIABLE = {entry.variable: entry for entry in FIELDS if entry.variable}
_BANDS = {"red_reflectance": quality.RED_QUALITY, "nir_reflectance": quality.NIR_QUALITY}


def ndvi_of(
    red_reflectance: NDArray[np.float32], nir_reflectance: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Computes NDVI = (NIR − red) / (NIR + red) of reflectances ``[H, W]``, NaN where missing.

    Returns:
        NDVI ``[H, W]``, NaN where undefined or outside [−1, 1]; and rejection codes:
        ``UNDEFINED`` where NIR + red is not positive, ``OUT_OF_RANGE`` where a negative
        reflectance drives |NDVI| over 1; missing bands count as valid here.
    """
    total = nir_reflectance + red_reflectance
    codes = np.where(total <= 0, Rejection.UNDEFINED, Rejection.VALID).astype(np.uint8)
    with np.errstate(divide="ignore", invalid="ignore"):
        ndvi = (nir_reflectance - red_reflectance) / total
    outside = (np.abs(ndvi) > 1) & (codes == Rejection.VALID)
    codes[outside] = Rejection.OUT_OF_RANGE
    ndvi[codes != Rejection.VALID] = np.nan
    return ndvi, codes


def open_mod09gq(
    file: HdfEosFile,
    metadata: GranuleMetadata,
    *,
    qc_policy: str,
    variables: Collection[str] | None = None,
) -> xr.Dataset:
    """Reads an open MOD09GQ or MYD09GQ granule; see :func:`keras_lstsr.products.open_product`.

    Each band is masked by QC (MODLAND and its own band quality), fill value and valid range;
    NDVI where either band is.

    Raises:
        ProductError: If a field is missing or damaged.
        ConfigError: If the policy or a variable is unknown.
    """
    quality.check_policy(qc_policy)
    wanted = wanted_variables([*_BY_VARIABLE, "ndvi"], variables)
    grid = file.grid_of("sur_refl_b01_1").grid
    qc, _ = read_field(file, _BY_VARIABLE["qc_250m"])
    needed = [name for name in _BANDS if name in wanted or "ndvi" in wanted]
    bands = {name: _read_band(file, name, qc, qc_policy) for name in needed}
    scene: dict[str, xr.Variable] = {}
    for layers in bands.values():
        scene |= layers
    if "ndvi" in wanted:
        scene |= _ndvi_layers(bands)
    if "qc_250m" in wanted:
        scene["qc_250m"] = flag_variable(qc, _BY_VARIABLE["qc_250m"], quality.MOD09GQ_QC)
    kept = {*wanted, *map(rejection_name, wanted)}
    scene = {name: variable for name, variable in scene.items() if name in kept}
    return grid.dataset(scene, {**metadata.as_attributes(), "qc_policy": qc_policy})


def _read_band(
    file: HdfEosFile, name: str, qc: NDArray[Any], qc_policy: str
) -> dict[str, xr.Variable]:
    entry = _BY_VARIABLE[name]
    values, in_range, packing = read_values(file, entry)
    table = quality.mod09gq_rejection_table(qc_policy, _BANDS[name])
    codes = quality.first_reason([table[qc], in_range])
    described = {
        "units": "1",
        "long_name": entry.get("long_name"),
        "standard_name": "surface_bidirectional_reflectance",
        "ancillary_variables": f"qc_250m {rejection_name(name)}",
    }
    return masked_variable(name, values, codes, packing, described)


def _ndvi_layers(bands: dict[str, dict[str, xr.Variable]]) -> dict[str, xr.Variable]:
    red, nir = (bands[name][name].values for name in _BANDS)
    ndvi, computed = ndvi_of(red, nir)
    reasons = [bands[name][rejection_name(name)].values for name in _BANDS]
    codes = quality.first_reason([*reasons, computed])
    described = {
        "units": "1",
        "long_name": "normalized difference vegetation index",
        "standard_name": "normalized_difference_vegetation_index",
        "day_night": "day",
        "ancillary_variables": f"qc_250m {rejection_name('ndvi')}",
    }
    return masked_variable("ndvi", ndvi, codes, NDVI_PACKING, described)
