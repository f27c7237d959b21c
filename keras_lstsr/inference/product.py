"""From a product's file to a file with the result: the work of ``keras-lstsr predict``."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import xarray as xr

from keras_lstsr import __version__
from keras_lstsr.artifacts.contract import FOLLOWED_NAME, OUTPUT_NAME, STD_NAME, guide_meaning
from keras_lstsr.errors import ModelError, ProductError
from keras_lstsr.files import check_outputs
from keras_lstsr.grids.grid import Grid
from keras_lstsr.inference.cog import write_cog, write_quicklook
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.quality import (
    Correction,
    implausible,
    made_consistent,
    unused_guides,
    without_guides,
)
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.inference.tiles import Progress, TileSettings
from keras_lstsr.products import guide_layer, lst_layers, open_guide, open_product

if TYPE_CHECKING:
    from keras_lstsr.grids.consistency import ConsistencyMode

Layer = Literal["day", "night"]
Announce = Callable[[str], None]

MAX_GUIDE_DAYS = 16
"""Composites of vegetation are of 16 days; what is older shows the ground of another season."""
# Pixels for which networks and their figures are meant, in metres.
_USUAL_PIXEL_M = (500.0, 2000.0)
_OTHER_INDEX = re.compile(
    r"(?<![A-Za-z])(EVI2?|M?SAVI2?|NDWI|NDMI|NDSI|NDBI|LAI|FPAR|FAPAR|FVC)(?![A-Za-z])", re.I
)
_COMPOSITE = re.compile(
    r"(?<![A-Za-z0-9])M[OYX]D(?:11|21)A[23]|(?<![A-Za-z0-9])8[-_ ]?days?(?![A-Za-z])", re.I
)


@dataclass(frozen=True)
class LstInput:
    """The product that is to be refined.

    Attributes:
        path: MOD11A1 or MYD11A1 HDF, or an LST GeoTIFF.
        layer: Which layer of a product with several; None takes day, or the only one.
        qc_policy: ``"strict"``, ``"default"`` or ``"lenient"``; the guides' too.
        options: Further options of ``open_product``, for GeoTIFF.
    """

    path: str | PathLike[str]
    layer: Layer | None = None
    qc_policy: str = "default"
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class GuideInput:
    """A product that holds a guide.

    Attributes:
        path: A file that ``open_guide`` opens.
        options: Further options of ``open_product``, for GeoTIFF: ``scale``, ``nodata``, ``date``.
    """

    path: str | PathLike[str]
    options: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Outputs:
    """What is to be written.

    Attributes:
        path: The GeoTIFF; the quicklook has the same name with ``.png``, the uncertainty with
            ``_std`` before its ending.
        uncertainty: Whether to write the standard deviation of the error, too.
        quicklook: Whether to write the PNG.
        dtype: See ``write_cog``.
        force: Whether to write a result, too, that its input makes implausible; its tags say so.
    """

    path: str | PathLike[str]
    uncertainty: bool = False
    quicklook: bool = True
    dtype: Literal["float32", "uint16"] = "float32"
    force: bool = False

    @property
    def map(self) -> Path:
        """The GeoTIFF."""
        return Path(self.path)

    @property
    def std(self) -> Path | None:
        """The GeoTIFF of standard deviations, or None."""
        return self.map.with_stem(f"{self.map.stem}_std") if self.uncertainty else None

    @property
    def picture(self) -> Path | None:
        """The PNG, or None."""
        return self.map.with_suffix(".png") if self.quicklook else None

    def check(self, inputs: Iterable[str | PathLike[str]]) -> None:
        """Checks that all can be written, beside each other and beside the inputs.

        Raises:
            LstsrError: If not, or the map's name does not end in .tif or .tiff.
        """
        files = filter(None, (self.map, self.std, self.picture))
        check_outputs(files, inputs, endings=(".tif", ".tiff"))


@dataclass(frozen=True)
class ProductPrediction:
    """What was written.

    Attributes:
        outputs: The files.
        layer: ``"day"``, ``"night"`` or ``"unknown"``.
        shape: Rows and columns of the result.
        valid_share: Share of the input's pixels that are valid, 0…1.
        minimum_kelvin: Least value of the result.
        maximum_kelvin: Greatest value of the result.
        median_std_kelvin: Median standard deviation, or None where it was not asked for.
        guide_missing_share: Share of the fine pixels with LST that have no guide, 0…1, the
            greatest of several guides; None without guides.
        correction: How the result was made to agree with the input, if it was.
        notes: What the user should know of the result: missing guides, other dates.
    """

    outputs: Outputs
    layer: str
    shape: tuple[int, int]
    valid_share: float
    minimum_kelvin: float
    maximum_kelvin: float
    median_std_kelvin: float | None = None
    guide_missing_share: float | None = None
    correction: Correction | None = None
    notes: tuple[str, ...] = ()


def predict_product(
    lst: LstInput,
    predictor: Predictor,
    outputs: Outputs,
    guides: Mapping[str, GuideInput] | None = None,
    *,
    tiles: TileSettings | None = None,
    consistency: ConsistencyMode = "none",
    check: bool = True,
    max_guide_days: int = MAX_GUIDE_DAYS,
    progress: Progress | None = None,
    announce: Announce = lambda note: None,
) -> ProductPrediction:
    """Predicts one LST layer of a product and writes a COG and a quicklook beside it.

    Args:
        lst: What is to be refined.
        predictor: What predicts.
        outputs: What is to be written.
        guides: Name → product, for a model that takes guides; without them, such a model works
            from LST alone. Those that it does not take are left out with a note.
        tiles: See ``predict_scene``.
        consistency: See ``predict_scene``.
        check: See ``predict_scene``.
        max_guide_days: Days that NDVI may be taken before or after LST, where both are known.
        progress: See ``predict_scene``.
        announce: Called with each of the result's notes as soon as it is known.

    Returns:
        What was written and its figures.

    Raises:
        ProductError: If an input cannot be read, has no such layer or guide, or no valid pixel
            in it, or two granules are of different tiles.
        ModelError: If the model takes none of the guides given, the uncertainty is asked of a
            model that gives none, or the result is not plausible.
        LstsrError: If the output is an input or cannot be written; or see ``predict_scene``.
    """
    guides, contract = guides or {}, predictor.contract
    outputs.check([lst.path, *(guide.path for guide in guides.values())])
    guides, unused = contract.taken(guides)
    if outputs.uncertainty and not contract.gives(STD_NAME):
        raise ModelError(
            "this model gives no uncertainty",
            field=STD_NAME,
            found=f"outputs {', '.join(entry.name for entry in contract.outputs)}",
            action="Leave --uncertainty out, or take a model with a guide.",
        )
    tiles = tiles or TileSettings.for_contract(contract)
    scene = open_product(lst.path, qc_policy=lst.qc_policy, **lst.options)
    name, coarse = choose_layer(scene, lst.layer)
    notes: list[str] = []

    def note(text: str) -> None:
        if text and text not in notes:
            notes.append(text)
            announce(text)

    note(unused_guides(unused))
    note(scene.attrs.get("notes", ""))
    scenes = {
        guide: open_guide(guide, given.path, qc_policy=lst.qc_policy, **given.options)
        for guide, given in guides.items()
    }
    for guide, guide_scene in scenes.items():
        note(guide_scene.attrs.get("notes", ""))
        note(granule_difference(guide, guide_scene, scene, max_guide_days))
    for text in foreign_inputs(scene, coarse, scenes):
        note(text)
    if contract.guides and not guides:
        note(without_guides(contract.guides))
    result = predict_scene(
        coarse,
        predictor,
        {guide: guide_layer(guide_scene, guide) for guide, guide_scene in scenes.items()},
        tiles=tiles,
        check=check,
        outputs=[STD_NAME, FOLLOWED_NAME] if outputs.uncertainty else [FOLLOWED_NAME],
        progress=progress,
    )
    fine = result[OUTPUT_NAME]
    note(fine.attrs.get("sharpening_notes", ""))
    tags = _provenance_tags(scene, name, predictor)
    for guide, guide_scene in scenes.items():
        tags |= {f"{guide}_{tag}": value for tag, value in _source(guide_scene).items()}
        tags[f"{guide}_date"] = guide_scene.attrs.get("acquisition_date", "")
    tags |= {"tile_pixels": tiles.tile_pixels, "overlap_pixels": tiles.overlap_pixels}
    tags |= {key: fine.attrs[key] for key in _TAGGED if key in fine.attrs}
    correction = None
    if consistency != "none":
        corrected, correction = made_consistent(fine.values, coarse.values, consistency)
        fine = fine.copy(data=corrected)
        tags |= correction.as_attributes()
        note(" ".join(correction.notes()))
    doubt = implausible(fine.values, np.asarray(coarse.values))
    if doubt and not outputs.force:
        raise ModelError(
            "the result is not plausible",
            path=outputs.map,
            found=doubt,
            action="Take another model, or check the input; --force writes it all the same.",
        )
    if doubt:
        tags["implausible"] = doubt
        note(f"The result is not plausible: {doubt}.")
    write_cog(fine, outputs.map, tags=tags, dtype=outputs.dtype)
    if outputs.std is not None:
        write_cog(result[STD_NAME], outputs.std, tags=tags | _STD_TAGS, dtype=outputs.dtype)
    if outputs.picture is not None:
        residuals = None if correction is None else correction.maps()
        title = _title(scene, name)
        write_quicklook(coarse, fine, outputs.picture, title=title, residuals=residuals)
    return ProductPrediction(
        outputs=outputs,
        layer=name,
        shape=(fine.shape[0], fine.shape[1]),
        valid_share=valid_share(coarse),
        minimum_kelvin=float(np.nanmin(fine.values)),
        maximum_kelvin=float(np.nanmax(fine.values)),
        median_std_kelvin=float(np.nanmedian(result[STD_NAME])) if outputs.uncertainty else None,
        guide_missing_share=fine.attrs.get("guide_missing_share"),
        correction=correction,
        notes=tuple(notes),
    )


_TAGGED = (
    "guide_missing_share",
    "guide_explained_share",
    "guide_unfollowed_share",
    "self_check_bicubic_kelvin",
    "self_check_alone_kelvin",
    "self_check_guided_kelvin",
    "self_check_classical_kelvin",
    "self_check_mean_trust",
    "self_check_mean_classical",
    "self_check_mean_std_factor",
    "sharpening_notes",
)
_STD_TAGS = {
    "quantity": "uncertainty",
    "meaning": "standard deviation of the error of the 250 m detail; it does not contain a bias "
    "of the whole scene",
}


def choose_layer(scene: xr.Dataset, layer: Layer | None) -> tuple[str, xr.DataArray]:
    """Returns name and LST of a scene's layer; None takes day, or the only layer.

    Raises:
        ProductError: If the scene has no such layer, or the layer has no valid pixel.
    """
    layers = lst_layers(scene)
    name: str = layer or next(key for key in (*_PREFERRED, *layers) if key in layers)
    shares = ", ".join(f"{key} {valid_share(item):.1%} valid" for key, item in layers.items())
    path = scene.attrs.get("source_file")
    if name not in layers:
        raise ProductError(
            "the scene has no such layer",
            path=path,
            field=name,
            found=shares,
            action="Leave out --layer, or name the layer's time with --day-night.",
        )
    if valid_share(layers[name]) == 0:
        rejected = json.loads(layers[name].attrs.get("rejected_pixels", "{}"))
        reasons = ", ".join(f"{reason} {count}" for reason, count in rejected.items() if count)
        raise ProductError(
            "the layer has no valid pixel",
            path=path,
            field=name,
            found=shares + (f"; {name} pixels rejected: {reasons}" if reasons else ""),
            expected="at least one clear pixel",
            action="Take another --layer, a more lenient --qc-policy, or another day.",
        )
    return name, layers[name]


_PREFERRED = ("day", "unknown", "night")


def valid_share(layer: xr.DataArray) -> float:
    """Returns the share of pixels that are not NaN, 0…1."""
    return float(np.mean(~np.isnan(layer.values)))


def _provenance_tags(scene: xr.Dataset, layer: str, predictor: Predictor) -> dict[str, object]:
    """Returns the GeoTIFF tags that say what the values are and where they come from."""
    kept = ("platform", "tile", "acquisition_date", "qc_policy")  # as ``open_product`` reads them
    model = predictor.provenance
    return {
        "quantity": "land surface temperature",
        "units": "kelvin",
        "missing": "NaN or nodata: the source pixel has no valid temperature",
        **{f"source_{tag}": value for tag, value in _source(scene).items()},
        "source_version": scene.attrs.get("version", ""),
        **{name: scene.attrs.get(name, "") for name in kept},
        "day_night": layer,
        "super_resolution_factor": predictor.scale_factor,
        "model_run": model.get("run_name", ""),
        "model_version": predictor.contract.model_version,
        "model_weights_sha256": model.get("weights_sha256", ""),
        "model_dataset_fingerprint": model.get("dataset_fingerprint", ""),
        "software": f"keras-lstsr {__version__}",
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _source(scene: xr.Dataset) -> dict[str, object]:
    return {
        "granule": scene.attrs.get("granule_id", ""),
        "file": Path(str(scene.attrs.get("source_file", ""))).name,
        "product": scene.attrs.get("product", ""),
    }


def _title(scene: xr.Dataset, layer: str) -> str:
    when = " ".join(
        part for part in (scene.attrs.get("acquisition_date", ""), layer) if part != "unknown"
    )
    return "\n".join(
        part for part in (str(scene.attrs.get("granule_id", "")), when.strip()) if part
    )


def foreign_inputs(
    lst_scene: xr.Dataset, lst: xr.DataArray, guides: Mapping[str, xr.Dataset]
) -> list[str]:
    """Says in sentences what of the inputs is other than what networks are trained on."""
    notes = []
    texts = [str(lst_scene.attrs.get("granule_id", "")), str(lst.attrs.get("long_name", ""))]
    if any(_COMPOSITE.search(text) for text in texts):
        notes.append(
            "LST seems to be a composite of several days: detail of one day's NDVI fits it less."
        )
    grid = Grid.of(lst)
    metres = grid.pixel_size[1] * (_METRES_PER_DEGREE if grid.crs.is_geographic else 1.0)
    if not _USUAL_PIXEL_M[0] <= metres <= _USUAL_PIXEL_M[1]:
        notes.append(
            f"LST's pixels are of {metres:.0f} m: networks are trained on pixels of about 1 km."
        )
    if "ndvi" in guides:
        layer, scene = guides["ndvi"]["ndvi"], guides["ndvi"]
        texts = [str(layer.attrs.get("long_name", "")), str(scene.attrs.get("granule_id", ""))]
        named = next((hit[1] for hit in map(_OTHER_INDEX.search, texts) if hit), "")
        if named and not any("ndvi" in text.lower() for text in texts[:1]):
            notes.append(
                f"The file given for NDVI calls itself {named.upper()}: it is taken for NDVI."
            )
    return notes


_METRES_PER_DEGREE = 111_320.0


def granule_difference(
    name: str, guide_scene: xr.Dataset, lst_scene: xr.Dataset, max_days: int = MAX_GUIDE_DAYS
) -> str:
    """Says how many days lie between a guide and LST; empty text for the same or an unknown day.

    Raises:
        ProductError: If they are of different tiles, or NDVI is further from LST than ``max_days``.
    """
    title = guide_meaning(name)
    tiles, days = (
        [str(scene.attrs.get(key, "")) for scene in (lst_scene, guide_scene)]
        for key in ("tile", "acquisition_date")
    )
    if all(tiles) and tiles[0] != tiles[1]:
        raise ProductError(
            f"LST and {title} are of different tiles",
            path=guide_scene.attrs.get("source_file"),
            field="tile",
            found=tiles[1],
            expected=tiles[0],
            action=f"Take the granule of {title} of the same tile.",
        )
    if not all(days) or days[0] == days[1]:
        return ""
    apart = (date.fromisoformat(days[1]) - date.fromisoformat(days[0])).days
    if name == "ndvi" and abs(apart) > max_days:
        raise ProductError(
            f"LST and {title} are too far apart in time",
            path=guide_scene.attrs.get("source_file"),
            field="acquisition_date",
            found=f"{days[1]}, {abs(apart)} days {'after' if apart > 0 else 'before'} LST of "
            f"{days[0]}",
            expected=f"at most {max_days} days",
            action=f"Take {title} of about the same day; --max-guide-days {abs(apart)} takes it "
            "all the same.",
        )
    return (
        f"{title} is of {days[1]}, {abs(apart)} day{'s' if abs(apart) > 1 else ''} "
        f"{'after' if apart > 0 else 'before'} LST ({days[0]}): what changed on the ground "
        "between them shows as false detail."
    )
