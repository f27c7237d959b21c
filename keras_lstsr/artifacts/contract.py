"""The contract of a model: what its tensors mean, and the check of an input against it.

The contract lies as ``contract.json`` beside the SavedModel and, word for word, inside it: the
signature ``contract`` returns it, so that a client of TF Serving learns units, valid range and
provenance from the server alone. This module imports no TensorFlow.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, Literal, TypeVar

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, Field, FiniteFloat, model_validator

from keras_lstsr.config.guides import GUIDES, guide_named
from keras_lstsr.errors import ModelError
from keras_lstsr.files import file_bytes, validated
from keras_lstsr.grids.values import VALID_LST_KELVIN, range_refusal

CONTRACT_FILE = "contract.json"
CONTRACT_SIGNATURE = "contract"
CONTRACT_SIGNATURE_INPUT = "contract_version"
CONTRACT_SIGNATURE_OUTPUT = "contract_json"
SERVING_SIGNATURE: Literal["serving_default"] = "serving_default"
INPUT_NAME = "lst_kelvin"
OUTPUT_NAME = "lst_kelvin_fine"
STD_NAME = "lst_std_kelvin"
FOLLOWED_NAME = "guide_followed"

# The deepest single-image network halves the fine grid six times, the guided one three times:
# windows that start at multiples of this many fine pixels are seen by every such network in the
# phase of the whole raster.
_STRIDE_FINE_PIXELS, _GUIDED_STRIDE_FINE_PIXELS = 64, 8
_FINE_DIMENSIONS = ("batch", "fine_row", "fine_column", "channel")

# Beyond them no model lies; a contract that says more would make its reader fill the memory.
_MOST_TENSORS, _MOST_FACTOR, _MOST_PIXELS = 32, 64, 4096
_MOST_BYTES = 2**26

_Guide = TypeVar("_Guide")


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
    units: str = "kelvin"
    missing: str
    valid_range: tuple[FiniteFloat, FiniteFloat] | None = None
    optional: bool = False

    @model_validator(mode="after")
    def _range_in_order(self) -> TensorContract:
        if self.valid_range is not None and not self.valid_range[0] < self.valid_range[1]:
            raise ValueError("valid_range: the least value must lie below the greatest")
        return self


LST_INPUT = TensorContract(
    name=INPUT_NAME,
    missing="NaN; a missing pixel gives missing fine pixels",
    valid_range=VALID_LST_KELVIN,
)


class Contract(BaseModel):
    """What an exported model takes, gives and comes from.

    Attributes:
        contract_version: Version of this layout: 1 for models of one image; 2 for
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
    model_version: int = Field(ge=0, lt=2**63)
    signature: Literal["serving_default"] = SERVING_SIGNATURE
    inputs: tuple[TensorContract, ...] = Field(min_length=1, max_length=_MOST_TENSORS)
    outputs: tuple[TensorContract, ...] = Field(min_length=1, max_length=_MOST_TENSORS)
    scale_factor: int = Field(ge=1, le=_MOST_FACTOR)
    minimum_size_pixels: int = Field(ge=1, le=_MOST_PIXELS)
    alignment_pixels: int = Field(ge=1, le=_MOST_PIXELS)
    margin_pixels: int = Field(default=0, ge=0, le=_MOST_PIXELS)
    provenance: dict[str, Any] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _tensors_make_sense(self) -> Contract:
        """Holds whoever wrote the contract to what the check of an input relies on."""
        for kind, tensors in (("inputs", self.inputs), ("outputs", self.outputs)):
            names = [tensor.name for tensor in tensors]
            if len(set(names)) < len(names):
                raise ValueError(f"{kind}: a name stands twice")
            for tensor in tensors:
                if len(tensor.shape) != 4 or tensor.shape[3] != 1:
                    raise ValueError(f"{kind}: {tensor.name} is no [batch, row, column, 1]")
        if self.inputs[0].name != INPUT_NAME:
            raise ValueError(f"inputs: the first is not {INPUT_NAME}")
        for tensor in self.inputs:
            if tensor.valid_range is None:
                raise ValueError(f"inputs: {tensor.name} has no valid_range")
        low, high = self.inputs[0].valid_range or VALID_LST_KELVIN
        if low < VALID_LST_KELVIN[0] or high > VALID_LST_KELVIN[1]:
            raise ValueError(f"inputs: {INPUT_NAME} beyond {VALID_LST_KELVIN} kelvin")
        if not self.gives(OUTPUT_NAME):
            raise ValueError(f"outputs: no {OUTPUT_NAME}")
        return self

    @classmethod
    def of_model(
        cls,
        *,
        model_version: int,
        scale_factor: int,
        minimum_size_pixels: int,
        provenance: dict[str, Any],
        guides: Sequence[str] = (),
        outputs: Sequence[str] = (OUTPUT_NAME,),
        margin_pixels: int = 0,
    ) -> Contract:
        """Makes the contract of a model with ``lst_kelvin`` and any guides as its inputs.

        The guides are those that it takes and can do without, the outputs what it gives, both by
        name; for the rest see the class. An unknown guide raises a ConfigError.
        """
        stride = _GUIDED_STRIDE_FINE_PIXELS if guides else _STRIDE_FINE_PIXELS
        return cls(
            contract_version=2 if guides else 1,
            model_version=model_version,
            inputs=(LST_INPUT, *map(_guide_tensor, guides)),
            outputs=tuple(_output_tensor(name, guided=bool(guides)) for name in outputs),
            scale_factor=scale_factor,
            minimum_size_pixels=minimum_size_pixels,
            alignment_pixels=stride // math.gcd(stride, scale_factor),
            margin_pixels=margin_pixels,
            provenance=provenance,
        )

    @property
    def guides(self) -> dict[str, TensorContract]:
        """The guides that the model takes, by name: its inputs but for ``lst_kelvin``."""
        return {tensor.name: tensor for tensor in self.inputs if tensor.name != INPUT_NAME}

    def gives(self, output_name: str) -> bool:
        """Says whether the model has an output of that name, e.g. ``"lst_std_kelvin"``."""
        return any(tensor.name == output_name for tensor in self.outputs)

    def to_json(self) -> str:
        """Returns the text of ``contract.json``."""
        return self.model_dump_json(indent=2) + "\n"

    @classmethod
    def from_json(cls, text: str | bytes, *, source: str | PathLike[str] | None = None) -> Contract:
        """Reads the text of ``contract.json``; ``source`` names its origin in errors.

        Raises:
            ModelError: If the text is no contract of a known version.
        """
        action = "Export the model again with this version of keras-lstsr."
        return validated(cls, text, ModelError, path=source, action=action)

    @classmethod
    def read(cls, saved_model: str | PathLike[str]) -> Contract:
        """Reads the contract of a SavedModel's version folder.

        Raises:
            ModelError: If there is no contract, or it is invalid.
        """
        path = Path(saved_model) / CONTRACT_FILE
        try:
            text = file_bytes(path, _MOST_BYTES)
        except (OSError, ValueError) as error:
            raise ModelError(
                "the SavedModel has no readable contract",
                path=path,
                found=getattr(error, "strerror", None) or error,
                action="Export the model with `keras-lstsr export MODEL --output models/lstsr`.",
            ) from error
        return cls.from_json(text, source=path)

    def check_takes(self, guides: Iterable[str]) -> None:
        """Raises a ModelError if the model does not take one of the guides, given by name."""
        for name in guides:
            if name not in self.guides:
                raise ModelError(
                    f"this model takes no {'such ' if self.guides else ''}guide",
                    field=name,
                    found=f"inputs {', '.join(entry.name for entry in self.inputs)}",
                    action="Leave it out, or take a model that was trained with it.",
                )

    def taken(self, guides: Mapping[str, _Guide]) -> tuple[dict[str, _Guide], list[str]]:
        """Parts guides, by name, into those that the model takes and the names of the others.

        Raises:
            ModelError: If guides are given and the model takes none of them.
        """
        taken = {name: guide for name, guide in guides.items() if name in self.guides}
        if not taken:
            self.check_takes(guides)
        return taken, [name for name in guides if name not in taken]

    def checked(
        self,
        lst_kelvin: NDArray[np.floating],
        guides: Mapping[str, NDArray[np.floating]] | None = None,
    ) -> dict[str, NDArray[np.float32]]:
        """Checks all inputs' shapes, types, sizes and units.

        Args:
            lst_kelvin: ``[B, h, w, 1]``, kelvin, NaN where missing.
            guides: Name → ``[B, f·h, f·w, 1]``, NaN where missing. Those that the model can do
                without may be left out, and are then missing throughout.

        Returns:
            The model's inputs by name, contiguous float32.

        Raises:
            ModelError: If the rank, the channel count, the size or the data type of one does not
                fit, any value that is not NaN lies outside the valid range, or the model does not
                take a guide that is given or cannot do without one that is not.
        """
        guides = guides or {}
        self.check_takes(guides)
        inputs = {INPUT_NAME: self._checked_lst(np.asarray(lst_kelvin))}
        batch, height, width = inputs[INPUT_NAME].shape[:3]
        fine = (batch, height * self.scale_factor, width * self.scale_factor, 1)
        for name, tensor in self.guides.items():
            if name in guides:
                inputs[name] = _checked_guide(np.asarray(guides[name]), tensor, fine)
            elif tensor.optional:
                inputs[name] = np.full(fine, np.nan, np.float32)
            else:
                raise ModelError(
                    "this model needs the guide",
                    field=name,
                    found=f"inputs {', '.join((INPUT_NAME, *guides))}",
                    action="Give it: predict takes it with --guide NAME=FILE.",
                )
        return inputs

    def _checked_lst(self, values: NDArray[Any]) -> NDArray[np.float32]:
        tensor = self.inputs[0]
        _check_floating(
            values,
            tensor,
            "Integers as delivered must be multiplied by their scale factor first (0.02 for "
            "MOD11A1) and their fill value turned into NaN.",
        )
        fits = values.ndim == len(tensor.shape) and values.shape[-1] == 1 and 0 not in values.shape
        expected = "[batch, height, width, 1], all above 0"
        problem = "the input has the wrong shape"
        ModelError.unless(fits, tensor.name, list(values.shape), expected, problem)
        least = self.minimum_size_pixels
        ModelError.unless(
            min(values.shape[1:3]) >= least,
            tensor.name,
            f"{values.shape[1]} × {values.shape[2]} pixels",
            f"at least {least} × {least}",
            "the input is too small for this network",
            action="Pad it with NaN; predict_scene does.",
        )
        check_range(values, tensor)
        return np.ascontiguousarray(values, np.float32)


def _guide_tensor(name: str) -> TensorContract:
    guide = guide_named(name)
    return TensorContract(
        name=name,
        dimensions=_FINE_DIMENSIONS,
        units=guide.units,
        missing=guide.when_missing,
        valid_range=guide.valid_range,
        optional=True,
    )


def _output_tensor(name: str, *, guided: bool) -> TensorContract:
    if not guided:
        return TensorContract(name=name, missing="NaN where the input pixel is missing")
    return TensorContract(
        name=name,
        dimensions=_FINE_DIMENSIONS,
        units="1" if name == FOLLOWED_NAME else "kelvin",
        missing=f"NaN where the pixel of {INPUT_NAME} is missing",
    )


def _checked_guide(
    values: NDArray[Any], tensor: TensorContract, expected: tuple[int, ...]
) -> NDArray[np.float32]:
    _check_floating(values, tensor, _guide_hint(tensor.name))
    ModelError.unless(
        values.shape == expected,
        tensor.name,
        list(values.shape),
        list(expected),
        "the guide does not lie on the fine grid of its LST",
        action="keras_lstsr.predict_scene brings rasters there by their coordinates.",
    )
    check_range(values, tensor)
    return np.ascontiguousarray(values, np.float32)


def guide_meaning(name: str) -> str:
    """Returns what a guide is called in sentences; its name where it is not registered."""
    return GUIDES[name].long_name if name in GUIDES else name


def _guide_hint(name: str) -> str:
    return GUIDES[name].hint if name in GUIDES else "See the model's contract."


def _check_floating(values: NDArray[Any], tensor: TensorContract, action: str) -> None:
    problem = "the input does not hold floating-point numbers"
    expected = tensor.dtype + _unit_text(tensor.units)
    fits = values.dtype.kind == "f"
    ModelError.unless(fits, tensor.name, values.dtype.name, expected, problem, action=action)


def check_range(
    values: NDArray[np.floating], tensor: TensorContract, *, name: str | None = None
) -> None:
    """Refuses values that a tensor cannot have.

    Args:
        values: Of any shape; NaN where missing.
        tensor: What the contract says of it.
        name: Names it in the error; by default the tensor's name.

    Raises:
        ModelError: If any value that is not NaN lies outside the valid range; the message says how
            many, their range, and what temperatures look like (Celsius, integers, a fill value).
    """
    if tensor.valid_range is None:
        return
    refusal = range_refusal(
        values[~np.isnan(values)],
        tensor.valid_range,
        "lst" if tensor.name == INPUT_NAME else tensor.name,
        ModelError,
        field=name or tensor.name,
    )
    if refusal is not None:
        raise refusal


def _unit_text(units: str) -> str:
    """Returns a unit as it follows a number in a sentence; nothing where there is none."""
    return "" if units == "1" else f" {units}"
