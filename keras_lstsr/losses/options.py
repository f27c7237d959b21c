"""Validation of the losses' options, with errors that name the option."""

from __future__ import annotations

from collections.abc import Iterable
from numbers import Real
from typing import Any

from keras_lstsr.errors import ConfigError


def _refuse(name: str, value: object, expected: str) -> ConfigError:
    return ConfigError(
        "invalid option of the loss",
        field=f"loss.options.{name}",
        found=repr(value),
        expected=expected,
    )


def number(name: str, value: Any) -> float:
    """Returns a finite number as float, or raises a ConfigError that names the option."""
    if isinstance(value, bool) or not isinstance(value, Real):
        raise _refuse(name, value, "a number")
    result = float(value)
    if result != result or result in (float("inf"), float("-inf")):
        raise _refuse(name, value, "a finite number")
    return result


def positive(name: str, value: Any) -> float:
    """Returns a number above 0, or raises a ConfigError that names the option."""
    result = number(name, value)
    if result <= 0:
        raise _refuse(name, value, "a number above 0")
    return result


def not_negative(name: str, value: Any) -> float:
    """Returns a number from 0 on, or raises a ConfigError that names the option."""
    result = number(name, value)
    if result < 0:
        raise _refuse(name, value, "a number of 0 or more")
    return result


def fraction(name: str, value: Any) -> float:
    """Returns a number between 0 and 1, neither included, or raises a ConfigError."""
    result = number(name, value)
    if not 0 < result < 1:
        raise _refuse(name, value, "a number between 0 and 1, neither included")
    return result


def whole(name: str, value: Any, minimum: int) -> int:
    """Returns a whole number from ``minimum`` on, or raises a ConfigError."""
    result = number(name, value)
    if result != int(result) or result < minimum:
        raise _refuse(name, value, f"a whole number of {minimum} or more")
    return int(result)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Returns one of the named choices, or raises a ConfigError that lists them."""
    choices = tuple(choices)
    if value not in choices:
        raise _refuse(name, value, " or ".join(repr(choice) for choice in choices))
    return str(value)
