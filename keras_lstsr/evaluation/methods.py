"""What a benchmark of pairs compares: classical methods by name, networks by path, one interface.

A method is written ``NAME`` or ``NAME:option=value,option=value``, e.g. ``tsharp:residual=block``;
a model is a path, or ``LABEL=PATH`` to choose its name in the tables.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import xarray as xr

from keras_lstsr.artifacts.pretrained import PRETRAINED, shipped_weights
from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.benchmark import BASELINE
from keras_lstsr.inference.loading import load_predictor
from keras_lstsr.inference.predictor import Predictor
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.sharpening import METHODS, sharpen
from keras_lstsr.sharpening.fallback import SharpeningWarning

# What a result carries where a method went on otherwise than asked.
FALLBACK_ATTRIBUTES = ("sharpening_fallback", "sharpening_notes")


PRETRAINED_LABEL = "guided"
"""What the pretrained model is called in the tables."""


class PairMethod(Protocol):
    """Turns coarse LST and its guide into fine LST; a method may leave the guide alone."""

    def __call__(self, lst: xr.DataArray, guide: xr.DataArray) -> xr.DataArray:
        """Sharpens one scene.

        Args:
            lst: Coarse LST in kelvin, ``[h, w]``, NaN where missing, with CRS and transform.
            guide: The guide on the exactly nested fine grid, ``[h · f, w · f]``, NaN where missing.

        Returns:
            Fine LST in kelvin, ``[h · f, w · f]`` with CRS and transform, NaN where missing. The
            attributes ``sharpening_fallback`` and ``sharpening_notes``, where they are there,
            say what went differently.
        """
        ...


class SharpeningMethod:
    """A classical method with its options, as a ``PairMethod``.

    Args:
        name: One of ``sharpening.METHODS``.
        factor: Fine pixels along a coarse pixel's side.
        options: Keyword arguments of the method.

    Raises:
        ConfigError: If there is no such method.
    """

    def __init__(
        self, name: str, factor: int = 4, options: dict[str, bool | int | float | str] | None = None
    ) -> None:
        if name not in METHODS:
            raise ConfigError(
                "unknown method", field="method", found=repr(name), expected=", ".join(METHODS)
            )
        self.name, self.factor, self.options = name, factor, dict(options or {})

    def __call__(self, lst: xr.DataArray, guide: xr.DataArray) -> xr.DataArray:
        """See ``PairMethod``.

        Raises:
            ConfigError: If the method has no such option, or the option no such value.
        """
        with warnings.catch_warnings():
            # What fell back stands in the attribute, and from there in the tables.
            warnings.simplefilter("ignore", SharpeningWarning)
            return sharpen(lst, guide, method=self.name, factor=self.factor, **self.options)


class PredictorMethod:
    """A network as a ``PairMethod``; it gets the guide if it takes one.

    Args:
        predictor: Any predictor.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def __call__(self, lst: xr.DataArray, guide: xr.DataArray) -> xr.DataArray:
        """See ``PairMethod``."""
        guides = dict.fromkeys(self.predictor.contract.guides, guide)
        return predict_scene(lst, self.predictor, guides, outputs=())["lst_kelvin_fine"]


def parse_method(text: str) -> SharpeningMethod:
    """Reads ``NAME`` or ``NAME:option=value,option=value``.

    Values that look like a whole number, a number, ``true`` or ``false`` become one.

    Raises:
        ConfigError: If there is no such method, or an option lacks its value.
    """
    name, _, tail = text.partition(":")
    options: dict[str, bool | int | float | str] = {}
    for part in tail.split(",") if tail else []:
        option, sign, value = part.partition("=")
        if not (sign and option.isidentifier() and value):
            raise ConfigError(
                "an option of a method cannot be read",
                field="method",
                found=repr(text),
                expected="NAME:option=value,option=value",
            )
        options[option] = _value(value)
    return SharpeningMethod(name, options=options)


def _value(text: str) -> bool | int | float | str:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def choose_methods(
    method_texts: Sequence[str] = (), model_texts: Sequence[str] = (), *, factor: int = 4
) -> dict[str, PairMethod]:
    """Builds the methods that a benchmark compares.

    Args:
        method_texts: As ``parse_method`` reads them; with no method and no model, all classical
            methods with their defaults, and the pretrained model where its weights are installed.
        model_texts: Paths as ``load_predictor`` takes them, ``pretrained``, or ``LABEL=PATH``.
        factor: What all methods must refine by.

    Returns:
        Name in the tables → method; bicubic, with which all are compared, comes first where it is
        not named.

    Raises:
        ConfigError: If a method is unknown or named twice, or a model refines by another factor.
        ModelError: If a model cannot be loaded.
    """
    texts, model_texts = list(method_texts), list(model_texts)
    if not texts and not model_texts:
        texts, model_texts = list(METHODS), [PRETRAINED] if shipped_weights() else []
    methods: dict[str, PairMethod] = {}
    if BASELINE not in texts:
        methods[BASELINE] = SharpeningMethod(BASELINE, factor)
    for text in texts:
        if text in methods:
            raise ConfigError("a method is named twice", field="method", found=repr(text))
        methods[text] = parse_method(text)
    for text in model_texts:
        label, path = label_and_path(text)
        if label in methods:
            raise ConfigError(
                "two methods have one name",
                field="model",
                found=repr(label),
                action="Name the models: --model LABEL=PATH.",
            )
        predictor = load_predictor(path)
        if predictor.scale_factor != factor:
            raise ConfigError(
                "the model refines by another factor",
                path=path,
                field="scale_factor",
                found=predictor.scale_factor,
                expected=factor,
            )
        methods[label] = PredictorMethod(predictor)
    return methods


def label_and_path(text: str) -> tuple[str, str]:
    """Reads ``LABEL=PATH`` or ``PATH``, whose label is the file's or folder's name."""
    if text == PRETRAINED:
        return PRETRAINED_LABEL, text
    label, sign, path = text.partition("=")
    if sign and label and path and "/" not in label and not Path(text).exists():
        return label, path
    place = Path(text)
    # A run folder's file is called model.keras in all of them.
    name = place.parent.name if place.name == "model.keras" else place.stem
    return name or str(text), text
