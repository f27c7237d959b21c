"""What an evaluation compares: classical methods by name, networks by path, one interface.

A method is written ``NAME`` or ``NAME:option=value,option=value``, e.g. ``tsharp:residual=block``;
a model is a path, or ``LABEL=PATH`` to choose its name in the tables.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import xarray as xr

from keras_lstsr.artifacts.contract import FOLLOWED_NAME, OUTPUT_NAME, STD_NAME
from keras_lstsr.artifacts.loading import PRETRAINED, shipped_weights
from keras_lstsr.config.guides import is_regressor
from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.result import BASELINE
from keras_lstsr.records.scene_sample import SceneSample
from keras_lstsr.sharpening import METHODS, sharpen
from keras_lstsr.sharpening.fallback import SharpeningWarning

if TYPE_CHECKING:
    from keras_lstsr.inference.predictor import Predictor

PRETRAINED_LABEL = "guided"
"""What the pretrained model is called in the tables."""

COMPARED = (
    "bicubic",
    "tsharp",
    "tsharp:regression=local",
    "atprk",
    "aatprk",
    "huts",
    "data_mining",
)
"""The classical methods that networks are compared with."""


@dataclass(frozen=True, eq=False)
class Refined:
    """What a method makes of a sample.

    Attributes:
        lst_kelvin: Fine LST in kelvin, ``[h · f, w · f]`` on the fine grid, with CRS and
            transform; NaN where missing. A network's has the standard deviation of its error as
            the coordinate ``lst_std_kelvin``.
        note: What it did differently than asked, in words; empty where all went well.
    """

    lst_kelvin: xr.DataArray
    note: str = ""


class Method(Protocol):
    """Turns coarse LST into fine LST; a method may use guides or leave them alone.

    One that can do nothing without a guide says so by an attribute ``needs_guide = True``.
    """

    def __call__(self, sample: SceneSample) -> Refined:
        """Refines one sample.

        Args:
            sample: Coarse LST and its guides on exactly nested grids, without the truth and
                without guides that are missing throughout.
        """
        ...


class SharpeningMethod:
    """A classical method with its options; it gets the guides that it can regress on, and water.

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
        self.needs_guide = METHODS[name].needs_guide

    def __call__(self, sample: SceneSample) -> Refined:
        """See ``Method``.

        Raises:
            ConfigError: If the method has no such option, the option has no such value, or the
                method needs a guide and there is none.
        """
        guides = [g.rename(n) for n, g in sample.guides.items() if is_regressor(n)] or None
        water = sample.guides.get("water")
        with warnings.catch_warnings():
            # What a warning says stands in the attributes as well, and goes into the note.
            warnings.simplefilter("ignore", SharpeningWarning)
            fine = sharpen(
                sample.lst,
                guides,
                method=self.name,
                factor=self.factor,
                water=water,
                **self.options,
            )
        return Refined(fine, _said(fine))


class PredictorMethod:
    """A network as a method; it gets those guides that it takes.

    Args:
        predictor: Any predictor.
    """

    def __init__(self, predictor: Predictor) -> None:
        self.predictor = predictor

    def __call__(self, sample: SceneSample) -> Refined:
        """See ``Method``."""
        from keras_lstsr.inference.scene import predict_scene

        taken = self.predictor.contract.guides
        guides = {name: guide for name, guide in sample.guides.items() if name in taken}
        outputs = (STD_NAME, FOLLOWED_NAME)  # the second tells where the guide was of little use
        scene = predict_scene(sample.lst, self.predictor, guides, outputs=outputs)
        fine = scene[OUTPUT_NAME]
        if STD_NAME in scene:
            fine = fine.assign_coords({STD_NAME: scene[STD_NAME]})
        return Refined(fine, _said(fine))


def _said(fine: xr.DataArray) -> str:
    """What ``sharpen`` and ``predict_scene`` say of their result."""
    said = (fine.attrs.get(f"sharpening_{name}", "") for name in ("fallback", "notes"))
    return " ".join(text for text in said if text)


def parse_method(text: str, factor: int = 4) -> SharpeningMethod:
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
    return SharpeningMethod(name, factor, options)


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
    method_texts: Sequence[str] = (),
    model_texts: Sequence[str] = (),
    *,
    factor: int = 4,
    guided: bool = True,
) -> dict[str, Method]:
    """Builds the methods that an evaluation compares.

    Args:
        method_texts: As ``parse_method`` reads them; with no method and no model, all classical
            methods with their defaults, and the pretrained model where its weights are installed.
        model_texts: Paths as ``load_predictor`` takes them, ``pretrained``, or ``LABEL=PATH``.
        factor: What all methods must refine by.
        guided: Whether there is a guide; without one, methods that need it are no default.

    Returns:
        Name in the tables → method; bicubic, with which all are compared, comes first where it is
        not named.

    Raises:
        ConfigError: If a method is unknown or named twice, or a model refines by another factor.
        ModelError: If a model cannot be loaded.
    """
    texts, model_texts = list(method_texts), list(model_texts)
    if not texts and not model_texts:
        texts = [name for name, method in METHODS.items() if guided or not method.needs_guide]
        model_texts = [PRETRAINED] if shipped_weights() else []
    methods: dict[str, Method] = {}
    if BASELINE not in texts:
        methods[BASELINE] = SharpeningMethod(BASELINE, factor)
    for text in texts:
        if text in methods:
            raise ConfigError("a method is named twice", field="method", found=repr(text))
        methods[text] = parse_method(text, factor)
    for text in model_texts:
        label, path = label_and_path(text)
        if label in methods:
            raise ConfigError(
                "two methods have one name",
                field="model",
                found=repr(label),
                action="Name the models: --model LABEL=PATH.",
            )
        from keras_lstsr.inference.predictor import load_predictor

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
