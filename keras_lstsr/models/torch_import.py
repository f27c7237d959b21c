"""Weights of the papers' PyTorch implementations, mapped onto the networks here.

A ``state_dict`` maps names such as ``inc.double_conv.0.weight`` to arrays. Each layer here has
exactly one place there; what the reference builds but never calls is ignored and reported, all
else must fit in name, shape and type. PyTorch itself is needed to read ``.pth`` files alone.
"""

from __future__ import annotations

import math
import re
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import keras
import numpy as np
from numpy.typing import NDArray

from keras_lstsr.errors import MissingExtraError, ModelError
from keras_lstsr.models.torch_names import (
    IGNORED_ENTRIES,
    REFERENCE_ARCHITECTURES,
    TELLTALE_ENTRIES,
    ReferenceArchitecture,
    reference_names,
)

_WRAPPERS = ("state_dict", "model_state_dict", "model", "net", "network")
_PARALLEL_PREFIX = "module."


@dataclass(frozen=True)
class ImportReport:
    """What was taken from a ``state_dict`` and what was not.

    Attributes:
        architecture: The reference network.
        imported: Name in the ``state_dict`` → path of the variable here, for all variables.
        ignored: Names of entries that have no influence on the reference's output.
        parameters: Number of trained values imported; BatchNorm's statistics are not counted.
    """

    architecture: str
    imported: dict[str, str]
    ignored: tuple[str, ...]
    parameters: int

    def ignored_groups(self) -> dict[str, int]:
        """Counts the ignored entries by what they belong to, e.g. ``{"up_dc.*": 10}``."""
        groups: dict[str, int] = {}
        for name in self.ignored:
            parts = name.split(".")
            if parts[-1] == "num_batches_tracked":
                group = "*.num_batches_tracked"
            else:
                group = ".".join(parts[: 2 if "maxpool_conv" in parts else 1]) + ".*"
            groups[group] = groups.get(group, 0) + 1
        return groups


def load_torch_weights(
    model: keras.Model, state_dict: Mapping[str, Any], architecture: str
) -> ImportReport:
    """Gives a network the weights of the reference's ``state_dict``: all of them or none.

    Args:
        model: A model of ``build_model``, or a core network of ``build_mrunet``, ``build_vdsr`` or
            ``build_dmcn``, of the shape that the weights were trained with.
        state_dict: Names and arrays or tensors; may be nested in a checkpoint under
            ``"state_dict"`` or ``"model"``, and its names may have the prefix ``module.`` of
            PyTorch's DataParallel.
        architecture: ``"mrunet-strided"``, ``"mrunet-maxpool"``, ``"vdsr"`` or ``"dmcn"``.

    Returns:
        What was imported and what was ignored.

    Raises:
        ModelError: If the architecture is unknown or not the model's, or if an entry is missing,
            unexpected, of another shape, no floating-point array or not finite; the message names
            the first such entry and says how many there are. The model is then unchanged.
    """
    reference = next((known for known in REFERENCE_ARCHITECTURES if known == architecture), None)
    if reference is None:
        raise ModelError(
            "there is no such reference network",
            field="architecture",
            found=repr(architecture),
            expected=", ".join(REFERENCE_ARCHITECTURES),
        )
    entries = unwrap_state_dict(state_dict)
    variables = reference_names(_core_network(model), reference)
    dead = re.compile(IGNORED_ENTRIES[reference])
    ignored = [name for name in entries if name not in variables and dead.fullmatch(name)]
    _refuse_other_names(reference, entries, variables, set(ignored))
    arrays = {name: _checked(name, entries[name], variables[name]) for name in variables}
    for name, variable in variables.items():
        variable.assign(arrays[name])
    return ImportReport(
        architecture=reference,
        imported={name: variable.path for name, variable in variables.items()},
        ignored=tuple(ignored),
        parameters=sum(math.prod(v.shape) for v in variables.values() if v.trainable),
    )


def unwrap_state_dict(content: Mapping[str, Any]) -> dict[str, Any]:
    """Takes a ``state_dict`` out of a checkpoint and DataParallel's prefix off its names.

    A checkpoint holds it under ``"state_dict"``, ``"model_state_dict"``, ``"model"``, ``"net"`` or
    ``"network"``.

    Raises:
        ModelError: If there is none.
    """
    for wrapper in _WRAPPERS:
        if isinstance(content.get(wrapper), Mapping):
            return unwrap_state_dict(content[wrapper])
    entries = dict(content)
    if not entries or not all(isinstance(name, str) for name in entries):
        raise ModelError(
            "there are no weights",
            found=f"{len(entries)} entries that are not named" if entries else "no entries",
            expected="a state_dict: names of parameters and their arrays",
        )
    if all(name.startswith(_PARALLEL_PREFIX) for name in entries):
        entries = {name.removeprefix(_PARALLEL_PREFIX): v for name, v in entries.items()}
    return entries


def read_state_dict(path: str | PathLike[str]) -> dict[str, Any]:
    """Reads a ``state_dict`` from a file; no code in it is run.

    Args:
        path: ``.npz`` with one array per entry, or ``.pth`` or ``.pt`` as ``torch.save`` writes
            it, which needs PyTorch and is read with ``weights_only=True``.

    Returns:
        Names and NumPy arrays, taken out of a checkpoint as ``unwrap_state_dict`` does.

    Raises:
        ModelError: If the file is missing, damaged, of another kind, or holds more than weights.
        MissingExtraError: If it is a ``.pth`` or ``.pt`` and PyTorch is not installed.
    """
    path = Path(path)
    readers = {".npz": _read_npz, ".pth": _read_pth, ".pt": _read_pth}
    reader = readers.get(path.suffix.lower())
    if reader is None:
        raise ModelError(
            "this is not a file of weights",
            path=path,
            found=f"the suffix {path.suffix or '(none)'}",
            expected=".pth, .pt or .npz",
        )
    if not path.is_file():
        raise ModelError("there are no weights", path=path, found="no such file")
    try:
        return {name: _to_numpy(value) for name, value in unwrap_state_dict(reader(path)).items()}
    except ModelError as error:
        if error.path is not None:
            raise
        raise error.restated(path) from error


def _read_npz(path: Path) -> dict[str, NDArray[Any]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    except (OSError, ValueError, EOFError, AttributeError, zipfile.BadZipFile) as error:
        raise ModelError(
            "the file of weights cannot be read",
            path=path,
            found=error,
            expected="an .npz archive of plain arrays, as numpy.savez writes it",
        ) from error


def _read_pth(path: Path) -> Mapping[str, Any]:
    try:
        import torch
    except ImportError as error:
        raise MissingExtraError(
            "PyTorch is not installed, and .pth files need it",
            path=path,
            field="torch",
            action="pip install 'keras-lstsr[torch]', or write the weights as .npz where PyTorch "
            "is: numpy.savez(FILE, **{k: v.numpy() for k, v in state_dict.items()}).",
        ) from error
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file raises whatever the unpickler stumbles over
        raise ModelError(
            "PyTorch does not read this as weights alone",
            path=path,
            found=f"{type(error).__name__}: {str(error).strip()}".splitlines()[0],
            expected="a state_dict",
            action="If it holds a whole model, load it where it was made and save "
            "model.state_dict(). Files that run code are not read.",
        ) from error
    if not isinstance(content, Mapping):
        raise ModelError("there are no weights", found=type(content).__name__)
    return content


def _to_numpy(value: Any) -> Any:
    """A tensor as an array; half precision as float32, since NumPy knows no bfloat16."""
    if hasattr(value, "detach"):
        value = value.detach().cpu()
        return (value.float() if value.is_floating_point() else value).numpy()
    return np.asarray(value)


def _core_network(model: keras.Model) -> keras.Model:
    nested = [layer for layer in model.layers if isinstance(layer, keras.Model)]
    return nested[0] if len(nested) == 1 else model


def _refuse_other_names(
    architecture: ReferenceArchitecture,
    entries: Mapping[str, Any],
    variables: Mapping[str, Any],
    ignored: set[str],
) -> None:
    missing = [name for name in variables if name not in entries]
    unexpected = [name for name in entries if name not in variables and name not in ignored]
    if not missing and not unexpected:
        return
    looks_like = next(
        (known for entry, known in TELLTALE_ENTRIES.items() if entry in entries), None
    )
    if looks_like is not None and looks_like != architecture:
        action = f"These look like weights of {looks_like}."
    else:
        action = "Compare the network's depth and number of bridge blocks with the weights'."
    more = [
        f"{len(names)} {kind}: {', '.join(names[:4])}{', …' if len(names) > 4 else ''}"
        for kind, names in (("missing", missing), ("unexpected", unexpected))
        if names
    ]
    raise ModelError(
        "the weights lack a parameter" if missing else "the weights hold an unexpected parameter",
        field=(missing or unexpected)[0],
        found="; ".join(more),
        expected=f"the {len(variables)} entries of {architecture}",
        action=action,
    )


def _checked(name: str, value: Any, variable: Any) -> NDArray[np.float32]:
    """An entry in the layout of the variable that takes it."""
    array = _to_numpy(value)
    if array.dtype.kind != "f":
        raise ModelError(
            "the parameter does not hold floating-point numbers", field=name, found=array.dtype
        )
    wanted = tuple(variable.shape)
    is_kernel = len(wanted) == 4
    # Convolution: [out, in, h, w] there, [h, w, in, out] here. Transposed convolution:
    # [in, out, h, w] there, [h, w, out, in] here. So both are turned round alike. All else are
    # vectors there; a PReLU has one value.
    there = wanted[:1:-1] + wanted[:2] if is_kernel else (math.prod(wanted),)
    if array.shape != there:
        raise ModelError(
            "the parameter has another shape",
            field=name,
            found=list(array.shape),
            expected=list(there),
            action="Compare the network's width and depth with the weights'.",
        )
    if not np.isfinite(array).all():
        bad = int(np.count_nonzero(~np.isfinite(array)))
        raise ModelError(
            "the parameter is not finite", field=name, found=f"{bad} of {array.size} values"
        )
    turned = array.transpose(2, 3, 1, 0) if is_kernel else array.reshape(wanted)
    return np.ascontiguousarray(turned, np.float32)
