"""Prediction of a whole scene: overlapping tiles, blended, on the exactly nested fine grid."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from numpy.typing import NDArray

from keras_lstsr.artifacts.contract import (
    FOLLOWED_NAME,
    OUTPUT_NAME,
    STD_NAME,
    Contract,
    check_range,
)
from keras_lstsr.config.guides import is_regressor
from keras_lstsr.errors import GridError, ModelError
from keras_lstsr.grids.axes import checked_raster
from keras_lstsr.grids.grid import Grid, placed
from keras_lstsr.grids.values import array_values
from keras_lstsr.grids.warp import guide_over_lst
from keras_lstsr.grids.water import water_from_ndvi, water_share
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.quality import (
    guide_use,
    made_consistent,
    unused_guides,
    without_guides,
)
from keras_lstsr.inference.self_check import SelfCheck, self_check
from keras_lstsr.inference.tiles import Array, Progress, TileSettings, predict_tiles, untold
from keras_lstsr.sharpening.detail import fitted_footprint
from keras_lstsr.sharpening.fallback import ConstantGuideError
from keras_lstsr.sharpening.linear import tsharp

if TYPE_CHECKING:
    from keras_lstsr.grids.consistency import ConsistencyMode

_MEANINGS = {
    OUTPUT_NAME: {"units": "K", "long_name": "land surface temperature"},
    STD_NAME: {"units": "K", "long_name": "standard deviation of the error of its detail"},
    FOLLOWED_NAME: {"units": "1", "long_name": "how far the result follows its guides"},
}


def predict_scene(
    lst_kelvin: xr.DataArray,
    predictor: Predictor,
    guides: Mapping[str, xr.DataArray] | None = None,
    *,
    tiles: TileSettings | None = None,
    consistency: ConsistencyMode = "none",
    check: bool = True,
    outputs: Sequence[str] | None = None,
    progress: Progress | None = None,
) -> xr.Dataset:
    """Predicts a scene of any size on the grid that is finer by the model's factor.

    The scene goes to the predictor in overlapping tiles whose results are blended; a tile
    without a valid pixel is skipped. Tiles at the far borders are shifted inwards, so that
    nothing is padded; only a scene below the network's least size is filled up with NaN. Memory
    holds the scene, the guides, the results and one batch. Where the overlap covers the network's
    receptive field, the result does not depend on the tiles.

    With ``check`` the result is a mixture of the model with its guides, the model without, TsHARP
    with local regression and bicubic, by the weights of ``self_check``. Detail of other dates
    cannot be checked that way: the model has it in both.

    Where tiles overlap, their standard deviations are averaged with the weights of their
    temperatures: one network seeing the same ground errs alike in both, and the standard
    deviation of a weighted mean of fully correlated errors is the weighted mean.

    Args:
        lst_kelvin: LST ``[y, x]`` in kelvin, NaN where missing, with CRS; dimensions are known by
            their coordinates, whatever their order, names and directions.
        predictor: What predicts a tile.
        guides: Name → guide ``[y, x]`` of any grid of about the fine pixels' size, NaN where
            missing, with CRS; it is brought onto the fine grid. The model's contract names the
            guides that it takes and can do without; others are left out with a note. Where the
            model takes ``water`` and it is not given, NDVI tells it.
        tiles: How the scene is cut; by default ``TileSettings.for_contract`` of the model's.
        consistency: ``"block"`` or ``"psf"`` corrects the result until its mean over each LST
            pixel, or what MODIS would see of it, is the LST given; ``"none"`` leaves it as it is.
        check: Whether guides are followed only as far as they help one scale coarser, where LST
            itself is the truth; see ``keras_lstsr.inference.self_check``. It needs a model that can
            do without guides, and a scene of some size.
        outputs: What is wanted beside LST, ``"lst_std_kelvin"`` or ``"guide_followed"``; None
            means all that the model gives.
        progress: Called with (tiles done, tiles in all) after every batch.

    Returns:
        ``lst_kelvin_fine``, float32 in kelvin, and where the model gives them ``lst_std_kelvin``,
        the standard deviation of the error of detail in kelvin, and ``guide_followed``, 0 (about
        bicubic) to 1. Each coarse pixel holds factor × factor fine ones exactly, in the
        dimensions given. NaN on all fine pixels of a missing pixel, and nowhere else. Attributes
        of each, where they apply: ``guide_missing_share``, ``guide_unfollowed_share`` and
        ``guide_explained_share`` (see ``GuideUse``), those of ``SelfCheck`` and ``Correction``,
        and ``sharpening_notes`` in sentences.

    Raises:
        GridError: If an array is no raster of one band with CRS and a north-up grid, or tile and
            overlap do not fit, or a guide is clearly coarser than the fine grid or has no valid
            pixel in the scene.
        ModelError: If the values cannot be kelvin or the guide's, the model takes none
            of the guides given, or the model returns what it must not.
        ServingError: If a server cannot be reached or refuses.
    """
    given, contract = placed(lst_kelvin, "lst_kelvin"), predictor.contract
    name = str(given.raster.name or "lst_kelvin")
    values = array_values(given.raster, "lst", ModelError, role=name)
    check_range(values, contract.inputs[0], name=name)
    settings = tiles or TileSettings.for_contract(contract)
    tiling = settings.tiling(given.grid.shape, contract)
    guides, unused = _taken({} if guides is None else guides, contract)
    aligned = _on_fine_grid(guides, given.grid, contract.scale_factor)
    beside = (STD_NAME, FOLLOWED_NAME) if outputs is None else outputs
    given_guides = _with_water(aligned, contract)
    found = _checked(values, predictor, given_guides, settings) if check else None
    results = predict_tiles(
        values,
        predictor,
        tiling,
        tiling,
        batch_size=settings.batch_size,
        guides=given_guides,
        check=found,
        classical=_classical_of(values, given_guides, contract.scale_factor, found),
        outputs=[name for name in beside if contract.gives(name)],
        progress=progress,
    )
    attributes = {key: lst_kelvin.attrs[key] for key in ("day_night",) if key in lst_kelvin.attrs}
    notes = [unused_guides(unused)] if unused else []
    if found is not None:
        attributes |= found.as_attributes()
        notes += found.notes()
    if aligned:
        use = guide_use(values, aligned, contract.scale_factor, results.get(FOLLOWED_NAME))
        attributes |= use.as_attributes()
        notes += use.notes()
    elif contract.guides:
        notes.append(without_guides(contract.guides))
    if consistency != "none":
        results[OUTPUT_NAME], correction = made_consistent(
            results[OUTPUT_NAME], values, consistency
        )
        attributes |= correction.as_attributes()
        notes += correction.notes()
    if notes:
        attributes["sharpening_notes"] = " ".join(notes)
    grid = given.grid.finer(contract.scale_factor)
    fine = grid.dataset(
        {
            name: xr.Variable(
                ("y", "x"), result, {**_MEANINGS[name], **attributes}, {"_FillValue": np.nan}
            )
            for name, result in results.items()
        }
    )
    return given.as_given(fine)


def _checked(
    values: Array, predictor: Predictor, guides: Mapping[str, Array], settings: TileSettings
) -> SelfCheck | None:
    contract = predictor.contract
    if not contract.guides or not all(tensor.optional for tensor in contract.guides.values()):
        return None
    beside = [STD_NAME] if contract.gives(STD_NAME) else []

    def refine(lst: Array, fine_guides: Mapping[str, Array]) -> tuple[Array, Array | None]:
        plan, size = settings.tiling((lst.shape[0], lst.shape[1]), contract), settings.batch_size
        found = predict_tiles(
            lst, predictor, plan, plan, batch_size=size, guides=fine_guides, outputs=beside
        )
        return found[OUTPUT_NAME], found.get(STD_NAME)

    factor = contract.scale_factor
    checked = {name: guide for name, guide in guides.items() if not untold(name)}
    return self_check(
        values,
        checked,
        factor,
        refine,
        partial(_local_tsharp, factor=factor),
        footprint_pixels=_footprint(values, checked, factor),
        detail_beside=len(checked) < len(guides),
    )


def _footprint(lst: Array, guides: Mapping[str, Array], factor: int) -> float:
    """LST's footprint in its pixels as its guides find it; NaN where none can."""
    regressors = [guide for name, guide in guides.items() if is_regressor(name)]
    try:
        return fitted_footprint(lst, np.stack(regressors), factor) if regressors else math.nan
    except ConstantGuideError:
        return math.nan


def _classical_of(
    values: Array, guides: Mapping[str, Array], factor: int, found: SelfCheck | None
) -> Array | None:
    if found is None or "classical" not in found.weights:
        return None
    return _local_tsharp(values, guides, factor)


def _local_tsharp(lst: Array, guides: Mapping[str, Array], factor: int) -> Array | None:
    """Returns TsHARP with local regression; None where no guide can explain LST."""
    regressors = [guide for name, guide in guides.items() if is_regressor(name)]
    if not regressors:
        return None
    try:
        stack = np.stack(regressors)
        fine = tsharp(lst, stack, factor, regression="local", water=guides.get("water"))
    except ConstantGuideError:
        return None
    return np.asarray(fine, np.float32)


def _taken(
    guides: Mapping[str, xr.DataArray], contract: Contract
) -> tuple[dict[str, xr.DataArray], list[str]]:
    """Parts guides into those that the model takes and the names of the others."""
    if not isinstance(guides, Mapping):
        raise GridError(
            "guides are given by their names",
            field="guides",
            found=type(guides).__name__,
            expected="a mapping of names to rasters",
            action=f"Pass {{{', '.join(f'{name!r}: raster' for name in contract.guides)}}}.",
        )
    return contract.taken(guides)


def _on_fine_grid(
    guides: Mapping[str, xr.DataArray], lst: Grid, factor: int
) -> dict[str, NDArray[np.float32]]:
    """Brings guides onto the fine grid: ``[f·h, f·w]``, NaN where missing or out of reach."""
    onto = {"water": water_share}
    return {
        name: guide_over_lst(
            _with_gaps(guide, name), lst, factor, field=name, onto=onto.get(name)
        ).values
        for name, guide in guides.items()
    }


def _with_gaps(guide: xr.DataArray, name: str) -> xr.DataArray:
    """Takes the numbers for missing that the guide's own attributes name out of it."""
    raster = checked_raster(guide, name)
    return raster.copy(data=array_values(raster, name, role=name, check=False))


def _with_water(
    aligned: dict[str, NDArray[np.float32]], contract: Contract
) -> dict[str, NDArray[np.float32]]:
    """Adds the share of water as NDVI tells it, where the model takes it and it is not given."""
    if "water" in contract.guides and "water" not in aligned and "ndvi" in aligned:
        return {**aligned, "water": water_from_ndvi(aligned["ndvi"])}
    return aligned
