"""Model folders and contracts that are damaged or made up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstsr.artifacts.contract import CONTRACT_FILE, Contract
from keras_lstsr.artifacts.loading import open_model, weights_sha256
from keras_lstsr.testing.models import tiny_model, write_model_folder
from keras_lstsr.testing.robustness import Round, Trial

Damage = Callable[[Path, np.random.Generator], None]
_NONSENSE: tuple[Any, ...] = (None, [], {}, -1, 0, 10**12, 1e300, "x", [1], {"a": {}}, True)


def _bytes_changed(path: Path, rng: np.random.Generator) -> None:
    content = bytearray(path.read_bytes())
    match int(rng.integers(3)):
        case 0:
            content[rng.integers(len(content))] ^= 1 << int(rng.integers(8))
        case 1:
            del content[rng.integers(len(content)) :]
        case _:
            start = int(rng.integers(len(content)))
            content[start : start + 50] = rng.bytes(50)
    path.write_bytes(content)


def keras_file(folder: Path, rng: np.random.Generator) -> None:
    """A ``model.keras`` with changed or missing bytes."""
    _bytes_changed(folder / "model.keras", rng)


def run_file(folder: Path, rng: np.random.Generator) -> None:
    """A ``run.json`` with changed or missing bytes."""
    _bytes_changed(folder / "run.json", rng)


def settings_file(folder: Path, rng: np.random.Generator) -> None:
    """A ``config.yaml`` that is deep, or grows without end, or has changed bytes."""
    path = folder / "config.yaml"
    match int(rng.integers(3)):
        case 0:
            _bytes_changed(path, rng)
        case 1:
            path.write_text("name: " + "[" * 20_000, encoding="utf-8")
        case _:
            lines = ["a0: &a0 [x, x]"]
            lines += [f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]" for n in range(1, 60)]
            path.write_text("\n".join(lines), encoding="utf-8")


def contract_values(folder: Path, rng: np.random.Generator) -> None:
    """A contract in which a value is nonsense."""
    path = folder / CONTRACT_FILE
    content = json.loads(path.read_text(encoding="utf-8"))
    place = content
    names = ("inputs", "outputs", "scale_factor", "minimum_size_pixels", "alignment_pixels")
    name = str(rng.choice(names))
    if name in ("inputs", "outputs") and rng.integers(2):
        place = content[name][0]
        name = str(rng.choice(["name", "shape", "valid_range", "dtype", "units"]))
    place[name] = _NONSENSE[rng.integers(len(_NONSENSE))]
    path.write_text(json.dumps(content), encoding="utf-8")


def contract_bytes(folder: Path, rng: np.random.Generator) -> None:
    """A contract with changed or missing bytes."""
    _bytes_changed(folder / CONTRACT_FILE, rng)


MODEL_DAMAGES: tuple[Damage, ...] = (keras_file, run_file, settings_file)
CONTRACT_DAMAGES: tuple[Damage, ...] = (contract_values, contract_bytes)


def model_is_whole(folder: Path, weights: str) -> bool:
    """Loads a model folder; returns whether its weights are those that were written."""
    model, _ = open_model(folder)
    return weights_sha256(model) == weights


def contract_makes_sense(folder: Path) -> bool:
    """Reads a contract; returns whether an input can be checked by it."""
    contract = Contract.read(folder)
    least = contract.minimum_size_pixels
    checked = contract.checked(np.full((1, least, least, 1), 290, np.float32))
    return list(checked) == [tensor.name for tensor in contract.inputs]


def trials(round_: Round) -> Iterator[Trial]:
    """Yields the trials with models."""
    rng = np.random.default_rng(round_.seed)
    model = tiny_model()
    whole = write_model_folder(round_.folder / "whole", model).path
    contract = Contract.of_model(
        model_version=1, scale_factor=4, minimum_size_pixels=1, provenance={}, guides=["ndvi"]
    )
    (whole / CONTRACT_FILE).write_text(contract.to_json(), encoding="utf-8")
    weights = weights_sha256(model)
    yield Trial("whole models", "whole", partial(model_is_whole, whole, weights))
    damages = (*MODEL_DAMAGES, *CONTRACT_DAMAGES)
    for number in range(round_.count):
        damage = damages[number % len(damages)]
        folder = round_.folder / f"{damage.__name__}-{number}"
        shutil.copytree(whole, folder)
        damage(folder, rng)
        call: Callable[[], bool] = partial(contract_makes_sense, folder)
        if damage in MODEL_DAMAGES:
            call = partial(model_is_whole, folder, weights)
        yield Trial(damage.__name__, folder.name, call, folder.name)
