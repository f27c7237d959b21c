"""From a product's file to a file with the result: the work of ``keras-lstsr predict``."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
import xarray as xr

from keras_lstsr import __version__
from keras_lstsr.artifacts.contract import FOLLOWED_NAME, OUTPUT_NAME, STD_NAME
from keras_lstsr.errors import ModelError
from keras_lstsr.files import check_outputs
from keras_lstsr.inference.cog import write_cog, write_quicklook
from keras_lstsr.inference.inputs import (
    MAX_GUIDE_DAYS,
    GuideInput,
    LstInput,
    choose_layer,
    foreign_inputs,
    granule_difference,
    valid_share,
)
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
from keras_lstsr.products import guide_layer, open_guide, open_product

if TYPE_CHECKING:
    from keras_lstsr.grids.consistency import ConsistencyMode

Announce = Callable[[str], None]


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
    tags |= {
        key: value
        for key, value in fine.attrs.items()
        if key in _TAGGED or key.startswith("self_check_")
    }
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
    "sharpening_notes",
)
_STD_TAGS = {
    "quantity": "uncertainty",
    "meaning": "standard deviation of the error of the 250 m detail; it does not contain a bias "
    "of the whole scene",
}


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
