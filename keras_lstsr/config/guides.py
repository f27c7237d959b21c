"""The guides by name: fine channels beside coarse LST, from which a network may take detail.

This is the one place where a guide is registered. Records, contracts, networks, the command line
and the server take what they need to know of a guide from here, by its name.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from keras_lstsr.errors import ConfigError
from keras_lstsr.registration import register

REFERENCE = "reference"
"""The guide made of fine LST of other dates."""


@dataclass(frozen=True)
class Guide:
    """A named fine channel.

    Attributes:
        name: Names it everywhere: in records, as a model's input, in ``--guide NAME=FILE``.
        units: Its unit; ``"1"`` where it has none.
        long_name: What it is called in sentences.
        valid_range: Least and greatest value that it can have, in ``units``.
        when_missing: What a model does where it is missing; a sentence of the contract.
        aggregation: How fine pixels make a coarse one.
        stand_in: The value that a network sees where all of it is missing, in ``units``.
        hint: What to do with values outside the valid range, a sentence.
        regressor: Whether classical methods regress LST on it. To the coarse pixels that such a
            guide covers whole a scene is cropped; others may be missing on parts of it.
        typical_spread: How far it departs from its mean over a coarse pixel, in ``units``.
        is_detail: Whether it is detail of LST already, in kelvin, and its level says nothing.
    """

    name: str
    units: str
    long_name: str
    valid_range: tuple[float, float]
    aggregation: Literal["mean"] = "mean"
    when_missing: str = "NaN"
    stand_in: float = 0.0
    hint: str = "Convert it to its unit first, and mark fill values as NaN."
    regressor: bool = True
    typical_spread: float = 1.0
    is_detail: bool = False


_REGISTERED = (
    Guide(
        name="ndvi",
        units="1",
        long_name="NDVI",
        valid_range=(-1.0, 1.0),
        when_missing="NaN; without NDVI the result is about bicubic there. NaN throughout means "
        "that there is no NDVI",
        stand_in=0.5,
        typical_spread=0.1,
        hint="Multiply integers by their scale (0.0001 for MODIS vegetation indices) and mark "
        "fill values as NaN.",
    ),
    Guide(
        name="water",
        units="1",
        long_name="the share of water",
        valid_range=(0.0, 1.0),
        when_missing="NaN; the share of water is not used there",
        hint="Choose one of several classes with the option class. Divide percent by 100, and mark "
        "fill values as NaN.",
        regressor=False,
        typical_spread=0.1,
    ),
    Guide(
        name="elevation",
        units="m",
        long_name="elevation",
        # With room for error below the Dead Sea's shore and above Mount Everest.
        valid_range=(-500.0, 9000.0),
        when_missing="NaN; elevation is not used there",
        hint="Convert it to metres, and mark fill values as NaN.",
        typical_spread=100.0,
    ),
    Guide(
        name=REFERENCE,
        units="kelvin",
        long_name="the detail of LST on other dates",
        valid_range=(-60.0, 60.0),
        when_missing="NaN; other dates are not used there",
        hint="It is the fine LST of other dates minus its mean over each coarse pixel, in kelvin, "
        "and not LST itself.",
        regressor=False,
        is_detail=True,
    ),
)

GUIDES: dict[str, Guide] = {guide.name: guide for guide in _REGISTERED}


def register_guide(guide: Guide, *, replace: bool = False) -> None:
    """Makes a guide known by its name: to records, networks, files, contracts and servers.

    Args:
        guide: The guide; its name is an identifier in lower case.
        replace: Whether a guide of that name may be replaced.

    Raises:
        ConfigError: If the name is taken, or stands for something else.
    """
    if not guide.name.isidentifier() or not guide.name.islower() or guide.name == "lst":
        raise ConfigError(
            "this cannot be the name of a guide",
            field="guide",
            found=repr(guide.name),
            expected='an identifier in lower case, and not "lst"',
        )
    register(GUIDES, guide.name, guide, field="guide", replace=replace)


def is_regressor(name: str) -> bool:
    """Tells whether methods regress LST on a guide; on one that is not registered they do."""
    return name not in GUIDES or GUIDES[name].regressor


def guide_named(name: str) -> Guide:
    """Returns the guide of that name.

    Raises:
        ConfigError: If there is none; the message lists those that there are.
    """
    if name not in GUIDES:
        raise ConfigError(
            "there is no such guide",
            field="guide",
            found=repr(name),
            expected=", ".join(GUIDES),
            action="keras_lstsr.register_guide makes another one known.",
        )
    return GUIDES[name]
