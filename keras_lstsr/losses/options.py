"""Validation of the losses' options, with errors that name the option."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

from keras_lstsr.errors import ConfigError


def check(fits: bool, name: str, value: object, expected: str) -> None:
    """Raises a ConfigError that names the option unless its value fits."""
    problem = "invalid option of the loss"
    ConfigError.unless(fits, f"loss.options.{name}", repr(value), expected, problem)


def number(name: str, value: Any) -> float:
    """Returns a finite number as float, or raises a ConfigError that names the option."""
    check(isinstance(value, Real) and not isinstance(value, bool), name, value, "a number")
    check(math.isfinite(value), name, value, "a finite number")
    return float(value)


def positive(name: str, value: Any) -> float:
    """Returns a number above 0, or raises a ConfigError that names the option."""
    result = number(name, value)
    check(result > 0, name, value, "a number above 0")
    return result


def not_negative(name: str, value: Any) -> float:
    """Returns a number from 0 on, or raises a ConfigError that names the option."""
    result = number(name, value)
    check(result >= 0, name, value, "a number of 0 or more")
    return result


def fraction(name: str, value: Any) -> float:
    """Returns a number between 0 and 1, neither included, or raises a ConfigError."""
    result = number(name, value)
    check(0 < result < 1, name, value, "a number between 0 and 1, neither included")
    return result


def whole(name: str, value: Any, minimum: int) -> int:
    """Returns a whole number from ``minimum`` on, or raises a ConfigError."""
    result = number(name, value)
    fits = result == int(result) and result >= minimum
    check(fits, name, value, f"a whole number of {minimum} or more")
    return int(result)


def one_of(name: str, value: Any, choices: Iterable[str]) -> str:
    """Returns one of the named choices, or raises a ConfigError that lists them."""
    choices = tuple(choices)
    check(value in choices, name, value, " or ".join(repr(choice) for choice in choices))
    return str(value)
