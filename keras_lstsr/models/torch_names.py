"""Names of the papers' PyTorch implementations for the layers of the networks here."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import keras
from keras import layers

from keras_lstsr.errors import ModelError

ReferenceArchitecture = Literal["mrunet-strided", "mrunet-maxpool", "vdsr", "dmcn"]
REFERENCE_ARCHITECTURES: tuple[ReferenceArchitecture, ...] = get_args(ReferenceArchitecture)

_Rule = tuple[str, Callable[[re.Match[str]], str]]

# Part of a layer's name here -> index in the reference's Sequential.
_DOUBLE_CONV = {"conv1": 0, "norm1": 1, "conv2": 3, "norm2": 4}
_OUT_CONV = {"conv": 0, "norm": 1}
_BRIDGE = {"conv1": 1, "norm1": 2, "conv2": 5, "norm2": 6}
_DMCN_UNIT = {"conv": 0, "conv1": 0, "norm": 1, "prelu": 2, "conv2": 3}

_MRUNET: list[_Rule] = [
    (r"inc_(\w+\d)", lambda m: f"inc.double_conv.{_DOUBLE_CONV[m[1]]}"),
    (r"bridge(\d+)_(\w+)", lambda m: f"resblocks.{int(m[1]) - 1}.conv_block.{_BRIDGE[m[2]]}"),
    (r"(up\d)_up", lambda m: f"{m[1]}.up"),
    (r"(up\d)_(\w+\d)", lambda m: f"{m[1]}.conv.double_conv.{_DOUBLE_CONV[m[2]]}"),
    (r"outc", lambda m: "outc.conv"),
]
_RULES: dict[ReferenceArchitecture, list[_Rule]] = {
    "mrunet-strided": [
        (r"(down\d)_in_conv", lambda m: f"{m[1]}.in_conv"),
        (r"(down\d)_mid_(\w+)", lambda m: f"{m[1]}.mid_conv.double_conv.{_DOUBLE_CONV[m[2]]}"),
        (r"(down\d)_out_(\w+)", lambda m: f"{m[1]}.out_conv.{_OUT_CONV[m[2]]}"),
        *_MRUNET,
    ],
    "mrunet-maxpool": [
        (r"(down\d)_(\w+)", lambda m: f"{m[1]}.maxpool_conv.1.double_conv.{_DOUBLE_CONV[m[2]]}"),
        *_MRUNET,
    ],
    "vdsr": [
        (r"(input|output)_conv", lambda m: m[1]),
        (r"residual(\d+)_conv", lambda m: f"residual_layer.{int(m[1]) - 1}.conv"),
    ],
    "dmcn": [
        (r"head(\d)_conv", lambda m: f"input{m[1]}"),
        (r"head(\d)_norm", lambda m: f"BN{int(m[1]) - 1}"),
        (r"head_prelu", lambda m: "relu"),
        (r"down(\d)_conv", lambda m: f"down_sample{m[1]}"),
        (
            r"down(\d)_unit(\d)_(\w+)",
            lambda m: f"Conv_DW_layers{m[1]}.{int(m[2]) - 1}.conv_dw.{_DMCN_UNIT[m[3]]}",
        ),
        (r"up(\d)_conv", lambda m: f"up_sample{m[1]}.conv"),
        (r"up(\d)_prelu", lambda m: f"up_sample{m[1]}.relu"),
        (r"up(\d)_choose", lambda m: f"choose{m[1]}"),
        (
            # The reference's own spelling.
            r"up(\d)_unit(\d)_(\w+)",
            lambda m: f"resudial_layers{m[1]}.{int(m[2]) - 1}.conv_dw.{_DMCN_UNIT[m[3]]}",
        ),
        (r"output_conv", lambda m: "output"),
    ],
}
# What the reference builds but never calls, and BatchNorm's step counter.
IGNORED_ENTRIES: dict[ReferenceArchitecture, str] = {
    "mrunet-strided": r"up\..*|up_dc\..*|down\d+\.maxpool_conv\..*|.*\.num_batches_tracked",
    "mrunet-maxpool": r"up\..*|up_dc\..*|.*\.num_batches_tracked",
    "vdsr": r".*\.num_batches_tracked",
    "dmcn": r".*\.num_batches_tracked",
}
# An entry that tells a network from the others; the strided one holds the other's, dead.
TELLTALE_ENTRIES: dict[str, ReferenceArchitecture] = {
    "down1.in_conv.weight": "mrunet-strided",
    "down1.maxpool_conv.1.double_conv.0.weight": "mrunet-maxpool",
    "residual_layer.0.conv.weight": "vdsr",
    "Conv_DW_layers1.0.conv_dw.0.weight": "dmcn",
}


def reference_names(core: keras.Model, architecture: ReferenceArchitecture) -> dict[str, Any]:
    """Maps names in the reference's ``state_dict`` to a core network's variables, to all of them.

    Raises:
        ModelError: If the network has a layer that the reference has not; the message names it.
    """
    names: dict[str, Any] = {}
    for layer in core.layers:
        parts = _parts(layer)
        if parts:
            block = _reference_block(layer.name, architecture)
            names |= {f"{block}.{part}": variable for part, variable in parts.items()}
    unmapped = {v.path for v in core.variables} - {v.path for v in names.values()}
    if unmapped:
        raise _other_network(architecture, sorted(unmapped)[0])
    return names


def _parts(layer: keras.layers.Layer) -> dict[str, Any]:
    """A layer's variables by their names in PyTorch."""
    if isinstance(layer, layers.BatchNormalization):
        return {
            "weight": layer.gamma,
            "bias": layer.beta,
            "running_mean": layer.moving_mean,
            "running_var": layer.moving_variance,
        }
    if isinstance(layer, layers.Conv2D | layers.Conv2DTranspose):
        bias = {"bias": layer.bias} if layer.use_bias else {}
        return {"weight": layer.kernel, **bias}
    if isinstance(layer, layers.PReLU):
        return {"weight": layer.alpha}
    return {}


def _reference_block(name: str, architecture: ReferenceArchitecture) -> str:
    for pattern, block in _RULES[architecture]:
        match = re.fullmatch(pattern, name)
        if match:
            try:
                return block(match)
            except KeyError:
                break  # the block exists there, this part of it does not
    raise _other_network(architecture, name)


def _other_network(architecture: str, layer: str) -> ModelError:
    return ModelError(
        "the model is not this network",
        field=layer,
        found="a layer that the reference has no weights for",
        expected=f"a model of {architecture}",
        action="Build the model with the architecture and variant of the weights.",
    )
