"""Satellite products: one function that opens them all as scenes in physical units.

A scene is an :class:`xarray.Dataset` of dimensions ``("y", "x")`` with its CRS in
``spatial_ref``, temperatures in kelvin and NaN where there is no value.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from keras_lstsr.config.guides import GUIDES, guide_named
from keras_lstsr.errors import ConfigError, ProductError, unknown
from keras_lstsr.grids.raster_file import check_is_file, reading
from keras_lstsr.products import granule
from keras_lstsr.products.hdfeos import HDF4_MAGIC, HdfEosFile, check_on_lattice
from keras_lstsr.products.quality import POLICIES, REASONS, Rejection, check_policy
from keras_lstsr.products.scene import rejection_reason
from keras_lstsr.registration import Code, code_of

__all__ = [
    "FILE_PRODUCTS",
    "HDF_PRODUCTS",
    "POLICIES",
    "REASONS",
    "FileProduct",
    "HdfProduct",
    "Rejection",
    "guide_layer",
    "is_hdf",
    "lst_layers",
    "open_guide",
    "open_product",
    "product_names",
    "register_product",
    "rejection_reason",
]


@dataclass(frozen=True)
class HdfProduct:
    """A product that comes as HDF4-EOS files.

    Attributes:
        open: Reads an open file: ``open(file, metadata, qc_policy=…, variables=…)`` returns the
            scene, see ``open_product``; ``products.scene`` has what makes its layers.
        grid_name: Name of its grid, by which with ``fields`` a file without core metadata is
            recognised.
        fields: Some of its fields, likewise.
        pixels_per_tile: Pixels along a MODIS tile's side; None where its grids differ.
    """

    open: Code
    grid_name: str = ""
    fields: frozenset[str] = frozenset()
    pixels_per_tile: int | None = None


_MOD11A1 = HdfProduct(
    "keras_lstsr.products.mod11a1:open_mod11a1",
    "MODIS_Grid_Daily_1km_LST",
    frozenset({"LST_Day_1km", "QC_Day"}),
    1200,
)
_MOD09GQ = HdfProduct(
    "keras_lstsr.products.mod09gq:open_mod09gq",
    "MODIS_Grid_2D",
    frozenset({"sur_refl_b01_1", "QC_250m_1"}),
    4800,
)
HDF_PRODUCTS = {
    "MOD11A1": _MOD11A1,
    "MYD11A1": _MOD11A1,
    "MOD09GQ": _MOD09GQ,
    "MYD09GQ": _MOD09GQ,
}
"""By the short name in their metadata; ``register_product`` adds others."""


@dataclass(frozen=True)
class FileProduct:
    """A product in files of any other kind.

    Attributes:
        open: ``open(path, qc_policy=…)`` returns the scene: rasters ``[y, x]`` with CRS and
            coordinates, named ``lst_kelvin``, ``lst_day_kelvin``, ``lst_night_kelvin`` or after a
            guide, in kelvin or the guide's unit, NaN where missing. What is known of the file
            goes into its attributes, see ``open_product``; the file's name tells the rest.
        recognises: Tells from a path whether it is one of its files.
    """

    open: Callable[..., xr.Dataset]
    recognises: Callable[[Path], bool]


FILE_PRODUCTS: dict[str, FileProduct] = {}
"""By name; ``register_product`` adds to it, and asks these before the others."""

_ASTER, _LANDSAT = "ASTER_LST", "LANDSAT_LST"
_RASTER_OPTIONS = ("quantity", "scale", "offset", "nodata", "class_value", "unit", "day_night")
_LST_VARIABLES = ("lst_day_kelvin", "lst_night_kelvin", "lst_kelvin")
_HDF_SUFFIXES = {".hdf", ".hdf4", ".h4"}


def register_product(
    name: str, product: HdfProduct | FileProduct, *, replace: bool = False
) -> None:
    """Makes a product known to ``open_product``, and so to all that reads files.

    Args:
        name: Its short name; that of HDF4-EOS as in its files' metadata, e.g. ``"MOD11A2"``.
        product: How it is read.
        replace: Whether a product of that name may be replaced.

    Raises:
        ConfigError: If the name is taken and ``replace`` is not set.
    """
    if not replace and name in product_names():
        raise ConfigError("this name is taken", field="product", found=repr(name))
    if isinstance(product, HdfProduct):
        HDF_PRODUCTS[name] = product
    else:
        FILE_PRODUCTS[name] = product


def product_names() -> tuple[str, ...]:
    """Returns the names of the products that ``open_product`` reads."""
    return (*FILE_PRODUCTS, *HDF_PRODUCTS, *_raster_quantities())


def _raster_quantities() -> dict[str, str]:
    """The quantity that each product holds which comes as GeoTIFF."""
    return {_ASTER: "lst", _LANDSAT: "lst"} | {
        f"{name.upper()}_GEOTIFF": name for name in ("lst", *GUIDES)
    }


def open_product(
    path: str | PathLike[str],
    *,
    qc_policy: str = "default",
    product: str | None = None,
    variables: Collection[str] | None = None,
    date: str | None = None,
    date_pattern: str | None = None,
    **raster_options: Any,
) -> xr.Dataset:
    """Opens a satellite product, recognised by its contents, as a scene.

    - MOD11A1 and MYD11A1: ``lst_day_kelvin``, ``lst_night_kelvin``, ``qc_day``, ``qc_night``
      (uint8), ``view_time_*_hours``, ``view_angle_*_degrees``, ``emissivity_31`` and ``_32``;
    - MOD09GQ and MYD09GQ: ``red_reflectance``, ``nir_reflectance``, ``ndvi``, ``qc_250m``;
    - ASTER, Landsat's ST_B10 or another GeoTIFF: ``lst_kelvin``, or a guide by its name. Of
      several bands, the one that is described by a guide's name is read.

    LST, reflectance and NDVI have ``attrs["rejected_pixels"]`` (JSON text, reason -> count) and a
    uint8 companion ``<name>_rejection`` with the reason per pixel (:data:`REASONS`). ``encoding``
    holds dtype, scale_factor, add_offset and _FillValue as on disk. CRS and
    transform are in ``spatial_ref``.

    Args:
        path: The file.
        qc_policy: ``"strict"``, ``"default"`` or ``"lenient"``; see :data:`POLICIES`.
        product: One of :func:`product_names`; None recognises it. Another product is an error.
        variables: Of an HDF product: names of the variables to read; None reads all.
        date: Acquisition date, ISO; goes before what the file says.
        date_pattern: Regular expression for the file name with groups ``year`` and ``doy`` or
            ``month`` and ``day``, optionally ``day_night``.
        **raster_options: What the tags of a GeoTIFF may not tell: ``quantity`` (``"lst"`` or the
            name of a guide; by default tags and file name tell LST and NDVI apart), ``scale``
            (units per stored unit), ``offset`` (physical value of a stored zero), ``nodata``,
            ``class_value`` (the stored class that becomes 1, all others 0),
            ``unit`` (``"kelvin"`` or ``"celsius"``, converted to kelvin), ``day_night``
            (``"day"``, ``"night"`` or ``"unknown"``). None asks the tags.

    Returns:
        The scene, with attributes ``product``, ``version``, ``granule_id``,
        ``acquisition_date``, ``tile``, ``platform``, ``source_file`` and ``qc_policy``
        (``"none"`` for GeoTIFF, which comes without QC); empty text where nothing is known.

    Raises:
        ProductError: If the file can't be read, recognised or interpreted, whatever the reason.
        ConfigError: If an option is invalid or does not apply.
    """
    path = Path(path)
    check_policy(qc_policy)
    if product is not None and product not in product_names():
        raise unknown("product", product, product_names(), field="product")
    for name in raster_options:
        if name not in _RASTER_OPTIONS:
            raise unknown("option", name, _RASTER_OPTIONS, field=name)
    with reading(path):
        return _opened(path, qc_policy, product, variables, date, date_pattern, raster_options)


def _opened(
    path: Path,
    qc_policy: str,
    product: str | None,
    variables: Collection[str] | None,
    date: str | None,
    date_pattern: str | None,
    raster_options: dict[str, Any],
) -> xr.Dataset:
    own = product if product in FILE_PRODUCTS else None
    if product is None:
        own = next((name for name, each in FILE_PRODUCTS.items() if each.recognises(path)), None)
    if not (own or (is_hdf(path) if product is None else product in HDF_PRODUCTS)):
        return _open_raster(path, product, date=date, date_pattern=date_pattern, **raster_options)
    # A guide is asked for by its quantity, whatever file it is in.
    ignored = {"day_night", "quantity"} if own else {"day_night"}
    for name, value in raster_options.items():
        if value is not None and name not in ignored:
            raise ConfigError(
                "this option is for GeoTIFF; files of other products hold it",
                path=path,
                field=name,
                found=value,
            )
    if own:
        return _open_own(path, own, qc_policy, date, date_pattern)
    return _open_hdf(path, product, qc_policy, date, date_pattern, variables)


def _open_own(
    path: Path, product: str, qc_policy: str, date: str | None, date_pattern: str | None
) -> xr.Dataset:
    check_is_file(path)
    patterns = None if date_pattern is None else [granule.compile_date_pattern(date_pattern)]
    named = granule.date_from_name(path.name, patterns)
    of_name = granule.GranuleMetadata(
        product, "", path.name, named, granule.tile_from_name(path.name), "", str(path)
    )
    scene = FILE_PRODUCTS[product].open(path, qc_policy=qc_policy)
    told = {**of_name.as_attributes(), "qc_policy": qc_policy, **scene.attrs}
    if date is not None:
        told["acquisition_date"] = granule.check_date(date)
    return scene.assign_attrs(told)


def is_hdf(path: Path) -> bool:
    """Returns whether a file is HDF4, by the ending of its name or by its first bytes."""
    if path.suffix.lower() in _HDF_SUFFIXES:
        return True
    try:
        if not path.is_file():
            return False
        with path.open("rb") as file:
            return file.read(len(HDF4_MAGIC)) == HDF4_MAGIC
    except OSError:
        return False  # the reader that opens it tells why it cannot be read


def _open_hdf(
    path: Path,
    product: str | None,
    qc_policy: str,
    date: str | None,
    date_pattern: str | None,
    variables: Collection[str] | None,
) -> xr.Dataset:
    with HdfEosFile(path) as file:
        metadata = granule.read_granule_metadata(file)
        found = metadata.product or _product_from_fields(file)
        if found not in HDF_PRODUCTS or product not in (None, found):
            raise ProductError(
                "this product is not the one asked for" if product else "not a supported product",
                path=path,
                found=found or f"fields {', '.join(sorted(file.datasets)[:6])} …",
                expected=product or ", ".join(HDF_PRODUCTS),
                action="Download that product for the same tile and day.",
            )
        metadata = replace(metadata, product=found)
        known = HDF_PRODUCTS[found]
        for each in file.grids:
            if known.pixels_per_tile is not None and known.grid_name in ("", each.name):
                check_on_lattice(path, each, known.pixels_per_tile)
                granule.check_tile(metadata, each.grid)
        if date is not None:
            metadata = replace(metadata, acquisition_date=granule.check_date(date))
        elif not metadata.acquisition_date and date_pattern is not None:
            pattern = granule.compile_date_pattern(date_pattern)
            named = granule.date_from_name(path.name, [pattern])
            metadata = replace(metadata, acquisition_date=named)
        read = code_of(known.open)
        return read(file, metadata, qc_policy=qc_policy, variables=variables)


def _product_from_fields(file: HdfEosFile) -> str:
    """Recognises a renamed file without core metadata; Terra and Aqua look alike in there."""
    grid = file.grids[0]
    for name, product in HDF_PRODUCTS.items():
        if grid.name == product.grid_name and product.fields <= set(grid.fields):
            return name
    return ""


def _open_raster(path: Path, product: str | None, **given: Any) -> xr.Dataset:
    from keras_lstsr.products import aster, landsat, raster
    from keras_lstsr.products.band import read_band
    from keras_lstsr.products.raster_options import RasterOptions

    options = RasterOptions(**given)
    quantity = None if product is None else _raster_quantities()[product]
    if quantity is not None and options.quantity not in (None, quantity):
        raise ConfigError(
            "quantity and product contradict each other",
            field="quantity",
            found=options.quantity,
            expected=quantity,
        )
    band = read_band(path, GUIDES if options.quantity is None else [options.quantity])
    if quantity is not None:
        options = replace(options, quantity=quantity)
    elif options.quantity in (None, "lst") and landsat.is_landsat(band):
        product = _LANDSAT
    elif options.quantity in (None, "lst") and aster.is_aster(band):
        product = _ASTER
    if product == _LANDSAT:
        return landsat.open_landsat(band, options, product)
    if product == _ASTER:
        return aster.open_aster(band, options, product)
    quantity = raster.quantity_of(band, options)
    name = f"{quantity.upper()}_GEOTIFF"
    return raster.open_band(band, options, product=name, quantity=quantity)


def lst_layers(scene: xr.Dataset) -> dict[str, xr.DataArray]:
    """Returns LST in kelvin ``[y, x]`` by time of day: ``"day"``, ``"night"`` or ``"unknown"``.

    Raises:
        ProductError: If the scene has no LST.
    """
    layers = [scene[name] for name in _LST_VARIABLES if name in scene]
    if not layers:
        raise ProductError(
            "the scene holds no land surface temperature",
            path=scene.attrs.get("source_file"),
            found=f"{scene.attrs.get('product')} with {', '.join(map(str, scene.data_vars))}",
            expected="MOD11A1, MYD11A1, ASTER, Landsat or an LST GeoTIFF",
        )
    return {layer.attrs.get("day_night", "unknown"): layer for layer in layers}


def guide_layer(scene: xr.Dataset, name: str) -> xr.DataArray:
    """Returns the guide of that name in a scene, ``[y, x]``.

    Raises:
        ProductError: If the scene does not have it.
    """
    if name not in scene:
        title = guide_named(name).long_name
        products = "MOD09GQ, MYD09GQ or an" if name == "ndvi" else "a"
        raise ProductError(
            f"the scene holds no {title}",
            path=scene.attrs.get("source_file"),
            found=f"{scene.attrs.get('product')} with {', '.join(map(str, scene.data_vars))}",
            expected=f"{products} {title} GeoTIFF",
        )
    return scene[name]


def open_guide(
    name: str, path: str | PathLike[str], *, qc_policy: str = "default", **options: Any
) -> xr.Dataset:
    """Opens a product for one guide in it.

    Args:
        name: The guide's name.
        path: For NDVI, MOD09GQ or MYD09GQ HDF; or a GeoTIFF, which is taken for the guide whatever
            its tags say.
        qc_policy: See :func:`open_product`.
        options: Further options of :func:`open_product`, for GeoTIFF.

    Returns:
        The scene with the guide alone.

    Raises:
        ProductError: If the file cannot be read, or has no valid pixel of the guide.
        ConfigError: If there is no such guide, or an option is invalid.
    """
    guide = guide_named(name)
    if not is_hdf(Path(path)):
        options = {"quantity": name, **options}
    scene = open_product(path, qc_policy=qc_policy, **options)
    layer = guide_layer(scene, name)
    if not np.isfinite(layer.values).any():
        raise ProductError(
            f"{guide.long_name} has no valid pixel",
            path=path,
            found=layer.attrs.get("rejected_pixels"),
            action="Take a file with fewer clouds, or a more lenient --qc-policy.",
        )
    return scene[[name]]  # a granule's other layers would stay in memory for nothing
