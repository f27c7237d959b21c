"""The contract of an exported model: what its tensors mean, and the check of an input against it.

The contract lies as ``contract.json`` beside the SavedModel and, word for word, inside it: the
signature ``contract`` returns it, so that a client of TF Serving learns units, valid range and
provenance from the server alone. This module imports no TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from os import PathLike
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from keras_lstsr.errors import ModelError

CONTRACT_FILE = "contract.json"
CONTRACT_SIGNATURE = "contract"
CONTRACT_SIGNATURE_INPUT = "contract_version"
CONTRACT_SIGNATURE_OUTPUT = "contract_json"
SERVING_SIGNATURE = "serving_default"
INPUT_NAME = "lst_kelvin"
GUIDE_NAME = "ndvi"
OUTPUT_NAME = "lst_kelvin_fine"
STD_NAME = "lst_std_kelvin"

# Colder than any ground ever measured from space (about 175 K, East Antarctica) and hotter than
# any (about 354 K, Lut desert), with room for sensor error; Celsius (-60…80) and raw integers of
# MODIS (7500…65535) lie far outside, and so does a fill value of 0.
VALID_RANGE_KELVIN = (150.0, 400.0)
VALID_RANGE_NDVI = (-1.0, 1.0)

# The deepest single-image network halves the fine grid six times, the guided one three times:
# windows that start at multiples of this many fine pixels are seen by every such network in the
# phase of the whole raster.
_STRIDE_FINE_PIXELS, _GUIDED_STRIDE_FINE_PIXELS = 64, 8
_FINE_DIMENSIONS = ("batch", "fine_row", "fine_column", "channel")


class TensorContract(BaseModel):
    """One tensor of the signature.

    Attributes:
        name: Name in the signature.
        dtype: TensorFlow's name of the data type.
        shape: Lengths of the dimensions; None where free.
        dimensions: What the dimensions are.
        units: Physical units, ``"1"`` where there are none.
        missing: What marks a missing pixel, and what follows from it.
        valid_range: Least and greatest value that is accepted, in ``units``; None for outputs.
        optional: Whether all of it may be missing. The signature wants the tensor all the same.
    """

    model_config = ConfigDict(frozen=True)

    name: str
    dtype: Literal["float32"] = "float32"
    shape: tuple[int | None, ...] = (None, None, None, 1)
    dimensions: tuple[str, ...] = ("batch", "row", "column", "channel")
    units: Literal["kelvin", "1"] = "kelvin"
    missing: str
    valid_range: tuple[float, float] | None = None
    optional: bool = False


class Contract(BaseModel):
    """What an exported model takes, gives and comes from.

    Attributes:
        contract_version: Version of this layout: 1 for models of one image, as ever; 2 for
            models with a guide, which a reader that knows only 1 must refuse.
        model_version: The SavedModel's version number; 0 for a model that is not exported.
        signature: Name of the signature that predicts.
        inputs: Its inputs.
        outputs: Its outputs.
        scale_factor: Fine pixels along a coarse pixel's side.
        minimum_size_pixels: Least height and width that the model takes, as tried out.
        alignment_pixels: Windows of a larger raster should start at multiples of it.
        margin_pixels: Coarse pixels along a window's border whose statistics lack pixels beyond
            the border; 0 for models without such statistics.
        provenance: Where the model comes from: run, data, settings, versions, weights.
    """

    model_config = ConfigDict(frozen=True)

    contract_version: Literal[1, 2] = 1
    model_version: int = Field(ge=0)
    signature: str = SERVING_SIGNATURE
    inputs: tuple[TensorContract, ...]
    outputs: tuple[TensorContract, ...]
    scale_factor: int = Field(ge=1)
    minimum_size_pixels: int = Field(ge=1)
    alignment_pixels: int = Field(ge=1)
    margin_pixels: int = Field(default=0, ge=0)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @classmethod
    def of_single_image_model(
        cls,
        *,
        model_version: int,
        scale_factor: int,
        minimum_size_pixels: int,
        provenance: dict[str, Any],
    ) -> Contract:
        """Makes the contract of a model with ``lst_kelvin`` as its only input."""
        return cls(
            model_version=model_version,
            inputs=(
                TensorContract(
                    name=INPUT_NAME,
                    missing="NaN; a missing pixel gives missing fine pixels",
                    valid_range=VALID_RANGE_KELVIN,
                ),
            ),
            outputs=(
                TensorContract(name=OUTPUT_NAME, missing="NaN where the input pixel is missing"),
            ),
            scale_factor=scale_factor,
            minimum_size_pixels=minimum_size_pixels,
            alignment_pixels=_STRIDE_FINE_PIXELS // math.gcd(_STRIDE_FINE_PIXELS, scale_factor),
            provenance=provenance,
        )

    @classmethod
    def of_guided_model(
        cls,
        *,
        model_version: int,
        scale_factor: int,
        minimum_size_pixels: int,
        margin_pixels: int,
        provenance: dict[str, Any],
    ) -> Contract:
        """Makes the contract of a model with ``lst_kelvin`` and ``ndvi`` as its inputs."""
        stride = _GUIDED_STRIDE_FINE_PIXELS
        return cls(
            contract_version=2,
            model_version=model_version,
            inputs=(
                TensorContract(
                    name=INPUT_NAME,
                    missing="NaN; a missing pixel gives missing fine pixels",
                    valid_range=VALID_RANGE_KELVIN,
                ),
                TensorContract(
                    name=GUIDE_NAME,
                    dimensions=_FINE_DIMENSIONS,
                    units="1",
                    missing="NaN; without NDVI the result is about bicubic there. NaN throughout "
                    "means that there is no NDVI",
                    valid_range=VALID_RANGE_NDVI,
                    optional=True,
                ),
            ),
            outputs=(
                TensorContract(
                    name=OUTPUT_NAME,
                    dimensions=_FINE_DIMENSIONS,
                    missing="NaN where the pixel of lst_kelvin is missing",
                ),
                TensorContract(
                    name=STD_NAME,
                    dimensions=_FINE_DIMENSIONS,
                    missing="NaN where the pixel of lst_kelvin is missing",
                ),
            ),
            scale_factor=scale_factor,
            minimum_size_pixels=minimum_size_pixels,
            alignment_pixels=stride // math.gcd(stride, scale_factor),
            margin_pixels=margin_pixels,
            provenance=provenance,
        )

    @property
    def guide(self) -> TensorContract | None:
        """The input that holds the guide; None for a model of one image."""
        return next((tensor for tensor in self.inputs if tensor.name == GUIDE_NAME), None)

    @property
    def gives_std(self) -> bool:
        """Whether the model gives the standard deviation of its result."""
        return any(tensor.name == STD_NAME for tensor in self.outputs)

    def to_json(self) -> str:
        """Returns the text of ``contract.json``."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str | PathLike[str] | None = None) -> Contract:
        """Reads the text of ``contract.json``; ``source`` names its origin in errors.

        Raises:
            ModelError: If the text is no contract of a known version.
        """
        try:
            return cls.model_validate_json(text)
        except ValidationError as error:
            first = error.errors()[0]
            raise ModelError(
                f"the model's contract is invalid: {first['msg']}",
                path=source,
                field=".".join(str(part) for part in first["loc"]) or None,
                action="Export the model again with this version of keras-lstsr.",
            ) from error

    @classmethod
    def read(cls, saved_model: str | PathLike[str]) -> Contract:
        """Reads the contract of a SavedModel's version folder.

        Raises:
            ModelError: If there is no contract, or it is invalid.
        """
        path = Path(saved_model) / CONTRACT_FILE
        try:
            text = path.read_bytes()
        except OSError as error:
            raise ModelError(
                "the SavedModel has no readable contract",
                path=path,
                found=error.strerror,
                action="Export the model with `keras-lstsr export RUN --output models/lstsr`.",
            ) from error
        return cls.from_json(text, source=path)

    def checked_input(self, lst_kelvin: NDArray[np.floating]) -> NDArray[np.float32]:
        """Checks an input's shape, type, size and units.

        Args:
            lst_kelvin: ``[B, h, w, 1]``, kelvin, NaN where missing.

        Returns:
            The same as contiguous float32.

        Raises:
            ModelError: If the rank, the channel count, the size or the data type does not fit,
                or if any value that is not NaN lies outside the valid range.
        """
        tensor = self.inputs[0]
        values = np.asarray(lst_kelvin)
        _check_floating(
            values,
            tensor,
            "Integers as delivered must be multiplied by their scale factor first (0.02 for "
            "MOD11A1) and their fill value turned into NaN.",
        )
        if values.ndim != len(tensor.shape) or values.shape[-1] != 1 or 0 in values.shape:
            raise ModelError(
                "the input has the wrong shape",
                field=tensor.name,
                found=list(values.shape),
                expected="[batch, height, width, 1], none of them 0",
            )
        least = self.minimum_size_pixels
        if min(values.shape[1:3]) < least:
            raise ModelError(
                "the input is too small for this network",
                field=tensor.name,
                found=f"{values.shape[1]} × {values.shape[2]} pixels",
                expected=f"at least {least} × {least}",
                action="Pad it with NaN; predict_scene does.",
            )
        if tensor.valid_range is not None:
            check_kelvin(values, name=tensor.name, valid_range=tensor.valid_range)
        return np.ascontiguousarray(values, np.float32)

    def check_takes_guide(self) -> None:
        """Refuses a guide for a model that takes none.

        Raises:
            ModelError: If the model takes none.
        """
        if self.guide is None:
            raise ModelError(
                "this model takes no guide",
                field=GUIDE_NAME,
                found=f"inputs {', '.join(entry.name for entry in self.inputs)}",
                action="Leave NDVI out, or take a model that was trained with it.",
            )

    def checked_guide(
        self, guide: NDArray[np.floating] | None, lst_shape: tuple[int, ...]
    ) -> NDArray[np.float32] | None:
        """Checks a guide's shape, type and range.

        Args:
            guide: ``[B, f·h, f·w, 1]``, NaN where missing; None where there is none.
            lst_shape: ``[B, h, w, 1]``, the shape of the LST that goes with it.

        Returns:
            The same as contiguous float32; all NaN for None; None for a model of one image.

        Raises:
            ModelError: If the model takes no guide but one is given, the shape or the data type
                does not fit, or any value that is not NaN lies outside the valid range.
        """
        tensor = self.guide
        if tensor is None:
            if guide is not None:
                self.check_takes_guide()
            return None
        batch, height, width = lst_shape[:3]
        expected = (batch, height * self.scale_factor, width * self.scale_factor, 1)
        if guide is None:
            return np.full(expected, np.nan, np.float32)
        values = np.asarray(guide)
        _check_floating(
            values,
            tensor,
            "Integers as delivered must be multiplied by their scale factor first (0.0001 for "
            "MODIS vegetation indices) and their fill value turned into NaN.",
        )
        if values.shape != expected:
            raise ModelError(
                "the guide does not lie on the fine grid of its LST",
                field=tensor.name,
                found=list(values.shape),
                expected=list(expected),
                action="Bring it there with keras_lstsr.grids.align.guide_on_fine_grid.",
            )
        if tensor.valid_range is not None:
            check_ndvi(values, name=tensor.name, valid_range=tensor.valid_range)
        return np.ascontiguousarray(values, np.float32)


def _check_floating(values: NDArray[Any], tensor: TensorContract, action: str) -> None:
    if values.dtype.kind != "f":
        raise ModelError(
            "the input holds no floating-point numbers",
            field=tensor.name,
            found=values.dtype.name,
            expected=f"{tensor.dtype} kelvin" if tensor.units == "kelvin" else tensor.dtype,
            action=action,
        )


def check_kelvin(
    values: NDArray[np.floating],
    *,
    name: str = INPUT_NAME,
    valid_range: tuple[float, float] = VALID_RANGE_KELVIN,
) -> None:
    """Refuses temperatures that cannot be kelvin.

    Args:
        values: Temperatures of any shape; NaN where missing.
        name: Named in the error.
        valid_range: Least and greatest valid value.

    Raises:
        ModelError: If any value that is not NaN lies outside the range; the message says how
            many, their range, and what they look like (Celsius, raw integers, a fill value).
    """
    low, high = valid_range
    _refuse_outside(
        values,
        valid_range,
        "these values cannot be temperatures in kelvin",
        field=name,
        expected=f"kelvin from {low:g} to {high:g}, NaN where missing",
        action=lambda present: _unit_hint(present, low, high),
    )


def check_ndvi(
    values: NDArray[np.floating],
    *,
    name: str = GUIDE_NAME,
    valid_range: tuple[float, float] = VALID_RANGE_NDVI,
) -> None:
    """Refuses values that cannot be NDVI.

    Args:
        values: NDVI of any shape; NaN where missing.
        name: Named in the error.
        valid_range: Least and greatest valid value.

    Raises:
        ModelError: If any value that is not NaN lies outside the range.
    """
    low, high = valid_range
    _refuse_outside(
        values,
        valid_range,
        "these values cannot be NDVI",
        field=name,
        expected=f"{low:g} to {high:g}, NaN where missing",
        action=lambda present: (
            "Multiply integers by their scale (0.0001 for MODIS vegetation "
            "indices) and mark fill values as NaN."
        ),
    )


def _refuse_outside(
    values: NDArray[np.floating],
    valid_range: tuple[float, float],
    problem: str,
    *,
    field: str,
    expected: str,
    action: Callable[[NDArray[np.floating]], str],
) -> None:
    """Raises where values lie outside the range; ``action`` sees all that are present."""
    present = values[~np.isnan(values)]
    outside = (present < valid_range[0]) | (present > valid_range[1])
    if not outside.any():
        return
    raise ModelError(
        problem,
        field=field,
        found=f"{np.count_nonzero(outside)} of {present.size} values outside the range; values "
        f"run from {present.min():.6g} to {present.max():.6g}, median {np.median(present):.6g}",
        expected=expected,
        action=action(present),
    )


def _unit_hint(present: NDArray[np.floating], low: float, high: float) -> str:
    median = float(np.median(present))
    if low <= median <= high:
        return "Mark fill values and other outliers as NaN, e.g. name the fill value by --nodata."
    if -100 <= median < 100:
        return "They look like degrees Celsius: add 273.15, or say --unit celsius."
    if low <= 0.02 * median <= high:
        return "They look like MODIS's integers: multiply by 0.02, or say --scale 0.02 --nodata 0."
    return "Convert them to kelvin: give their scale, offset and unit."
