"""MOD09GQ and MYD09GQ: daily surface reflectance of red and near infrared, 250 m, and NDVI."""

from __future__ import annotations

from collections.abc import Collection
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
    flag_attributes,
    masked_variable,
    packing_of,
    range_rejection,
    read_field,
    rejection_name,
    stored_variable,
    valid_range_of,
    wanted_variables,
)

GRID_NAME = "MODIS_Grid_2D"

# NDVI is computed, not delivered: no integers stand for it, so it is stored as float32.
NDVI_PACKING = Packing("float32", fill_value=float("nan"))


def _attributes(
    dtype: str, long_name: str, units: str, valid_range: tuple[int, int], fill_value: int
) -> tuple[tuple[str, str, Any], ...]:
    return (
        ("long_name", "char", long_name),
        ("units", "char", units),
        ("valid_range", dtype, valid_range),
        ("_FillValue", dtype, fill_value),
    )


def _band(number: int, variable: str) -> FieldDefinition:
    long_name = f"250m Surface Reflectance Band {number} - first layer"
    valid_range, fill_value, scale_factor = (-100, 16000), -28672, 10000.0
    return FieldDefinition(
        f"sur_refl_b{number:02d}_1",
        variable,
        "int16",
        long_name,
        units="reflectance",
        scale_factor=scale_factor,
        add_offset=0.0,
        fill_value=fill_value,
        valid_range=valid_range,
        attributes=(
            *_attributes("int16", long_name, "reflectance", valid_range, fill_value),
            ("add_offset", "float64", 0.0),
            ("add_offset_err", "float64", 0.0),
            ("calibrated_nt", "int32", 5),
            ("scale_factor", "float64", scale_factor),
            ("scale_factor_err", "float64", 0.0),
            ("Nadir Data Resolution", "char", "250m"),
        ),
    )


def _plain(
    name: str,
    variable: str,
    dtype: str,
    long_name: str,
    units: str,
    valid_range: tuple[int, int],
    fill_value: int,
) -> FieldDefinition:
    attributes = _attributes(dtype, long_name, units, valid_range, fill_value)
    return FieldDefinition(
        name,
        variable,
        dtype,
        long_name,
        units=units,
        fill_value=fill_value,
        valid_range=valid_range,
        attributes=attributes,
    )


FIELDS: tuple[FieldDefinition, ...] = (
    _plain("num_observations", "", "int8", "Number of Observations", "none", (0, 127), -1),
    _band(1, "red_reflectance"),
    _band(2, "nir_reflectance"),
    _plain(
        "QC_250m_1",
        "qc_250m",
        "uint16",
        "250m Reflectance Band Quality - first layer",
        "bit field",
        (0, 32767),
        2995,
    ),
    _plain("obscov_1", "", "int8", "Observation coverage - first layer", "percent", (0, 100), -1),
)
"""The fields of the product that matter here, in the order of its files (collection 6, 6.1)."""

_BY_VARIABLE = {entry.variable: entry for entry in FIELDS if entry.variable}
_BANDS = {"red_reflectance": quality.RED_QUALITY, "nir_reflectance": quality.NIR_QUALITY}


def ndvi_of(
    red_reflectance: NDArray[np.float32], nir_reflectance: NDArray[np.float32]
) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Computes NDVI = (NIR − red) / (NIR + red).

    Args:
        red_reflectance: ``[H, W]``; NaN where missing.
        nir_reflectance: ``[H, W]``; NaN where missing.

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
    """Reads an open MOD09GQ or MYD09GQ granule and computes NDVI.

    Each band is masked by QC (MODLAND and its own band quality), fill value and valid range;
    NDVI where either band is.

    Args:
        file: The open file.
        metadata: What is known of the granule.
        qc_policy: ``"strict"``, ``"default"`` or ``"lenient"``.
        variables: Names of the variables to keep; None keeps all.

    Returns:
        The scene; see :func:`keras_lstsr.products.open_product`.

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
        entry = _BY_VARIABLE["qc_250m"]
        attributes = {"long_name": entry.long_name, **flag_attributes(quality.MOD09GQ_QC)}
        scene["qc_250m"] = stored_variable(qc, attributes)
    kept = {*wanted, *map(rejection_name, wanted)}
    scene = {name: variable for name, variable in scene.items() if name in kept}
    return grid.dataset(scene, {**metadata.as_attributes(), "qc_policy": qc_policy})


def _read_band(
    file: HdfEosFile, name: str, qc: NDArray[Any], qc_policy: str
) -> dict[str, xr.Variable]:
    entry = _BY_VARIABLE[name]
    stored, attributes = read_field(file, entry)
    packing = packing_of(file, entry, attributes)
    codes = quality.first_reason(
        [
            quality.mod09gq_rejection_table(qc_policy, _BANDS[name])[qc],
            range_rejection(stored, packing, valid_range_of(entry, attributes)),
        ]
    )
    described = {
        "units": "1",
        "long_name": entry.long_name,
        "standard_name": "surface_bidirectional_reflectance",
        "ancillary_variables": f"qc_250m {rejection_name(name)}",
    }
    return masked_variable(name, packing.decode(stored), codes, packing, described)


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
