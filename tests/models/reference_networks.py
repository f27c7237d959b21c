"""The papers' networks written down a second time, in NumPy and in the reference's own names.

``entries`` lists what a ``state_dict`` of the PyTorch implementation holds, ``forward`` computes
its output in float64 from such a ``state_dict``, and ``procedural`` makes the weights that the
golden outputs were computed with. Images are ``[C, H, W]`` as in PyTorch.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

Weights = dict[str, np.ndarray]


class Entry(NamedTuple):
    name: str
    shape: tuple[int, ...]
    module: str
    dead: bool = False


def _conv(name: str, inputs: int, outputs: int, size: int, *, bias: bool = True) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", (outputs, inputs, size, size), "Conv2d")
    if bias:
        yield Entry(f"{name}.bias", (outputs,), "Conv2d")


def _transposed(name: str, inputs: int, outputs: int) -> Iterator[Entry]:
    yield Entry(f"{name}.weight", (inputs, outputs, 2, 2), "ConvTranspose2d")
    yield Entry(f"{name}.bias", (outputs,), "ConvTranspose2d")


def _norm(name: str, channels: int) -> Iterator[Entry]:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield Entry(f"{name}.{part}", (channels,), "BatchNorm2d")
    yield Entry(f"{name}.num_batches_tracked", (), "BatchNorm2d", True)


def _double(name: str, inputs: int, outputs: int, middle: int | None = None) -> Iterator[Entry]:
    middle = middle or outputs
    yield from _conv(f"{name}.double_conv.0", inputs, middle, 3)
    yield from _norm(f"{name}.double_conv.1", middle)
    yield from _conv(f"{name}.double_conv.3", middle, outputs, 3)
    yield from _norm(f"{name}.double_conv.4", outputs)


def _dead(entries: Iterator[Entry]) -> Iterator[Entry]:
    return (entry._replace(dead=True) for entry in entries)


def _mrunet(strided: bool, width: int, bridge_blocks: int) -> Iterator[Entry]:
    sides = [width * k for k in (1, 2, 4, 8, 16 if strided else 8)]
    yield from _double("inc", 1, width)
    for level, (above, below) in enumerate(pairwise(sides), start=1):
        pooled = _double(f"down{level}.maxpool_conv.1", above, below)
        yield from _dead(pooled) if strided else pooled
        if strided:
            yield from _conv(f"down{level}.in_conv", above, above, 2)
            yield from _double(f"down{level}.mid_conv", above, above)
            yield from _conv(f"down{level}.out_conv.0", above, below, 3)
            yield from _norm(f"down{level}.out_conv.1", below)
    for block in range(bridge_blocks):
        for index in (1, 5):
            yield from _conv(f"resblocks.{block}.conv_block.{index}", sides[4], sides[4], 3)
            yield from _norm(f"resblocks.{block}.conv_block.{index + 1}", sides[4])
    for level in range(1, 5):
        skip = sides[4 - level]
        if strided:
            yield from _transposed(f"up{level}.up", 2 * skip, skip)
            yield from _double(f"up{level}.conv", 2 * skip, skip)
        else:
            yield from _double(f"up{level}.conv", 2 * skip, max(skip // 2, width), skip)
    yield from _conv("outc.conv", width, 1, 1)
    yield from _dead(_transposed("up", width, width))
    yield from _dead(_double("up_dc", width, width))


def _vdsr(width: int, depth: int) -> Iterator[Entry]:
    yield from _conv("input", 1, width, 3, bias=False)
    for index in range(depth - 2):
        yield from _conv(f"residual_layer.{index}.conv", width, width, 3, bias=False)
    yield from _conv("output", width, 1, 3, bias=False)


def _dmcn(width: int) -> Iterator[Entry]:
    def prelu(name: str) -> Entry:
        return Entry(f"{name}.weight", (1,), "PReLU")

    def unit(name: str, last: bool) -> Iterator[Entry]:
        yield from _conv(f"{name}.conv_dw.0", width, width, 3)
        yield from _norm(f"{name}.conv_dw.1", width)
        yield prelu(f"{name}.conv_dw.2")
        if last:
            yield from _conv(f"{name}.conv_dw.3", width, width, 3)

    for index in range(1, 6):
        yield from _conv(f"input{index}", 1 if index == 1 else width, width, 3, bias=False)
        if index > 1:
            yield from _norm(f"BN{index - 1}", width)
    yield prelu("relu")
    for level, (down_units, up_units) in enumerate([(5, 2), (2, 5)], start=1):
        yield from _conv(f"down_sample{level}", width, width, 3, bias=False)
        for k in range(down_units):
            yield from unit(f"Conv_DW_layers{level}.{k}", last=False)
        yield from _conv(f"up_sample{level}.conv", width, 4 * width, 3)
        yield prelu(f"up_sample{level}.relu")
        yield from _conv(f"choose{level}", 2 * width, width, 1, bias=False)
        for k in range(up_units):
            yield from unit(f"resudial_layers{level}.{k}", last=True)
    yield from _conv("output", width, 1, 3, bias=False)


def entries(
    architecture: str, *, width: int = 64, bridge_blocks: int = 1, depth: int = 20
) -> list[Entry]:
    """The entries of a ``state_dict``; ``depth`` is VDSR's."""
    if architecture == "vdsr":
        return list(_vdsr(width, depth))
    if architecture == "dmcn":
        return list(_dmcn(width))
    return list(_mrunet(architecture == "mrunet-strided", width, bridge_blocks))


def procedural(entry: Entry, conv_weight_scale: float = 1.0) -> np.ndarray:
    """The value that the golden outputs were computed with: a function of name and shape."""
    name, shape = entry.name, entry.shape
    if name.endswith("num_batches_tracked"):
        return np.array(1000, np.int64)
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    if len(shape) == 4:
        fan = shape[0 if entry.module == "ConvTranspose2d" else 1] * shape[2] * shape[3]
        value = rng.standard_normal(shape) * np.sqrt(2 / fan) * conv_weight_scale
    elif name.endswith(("running_mean", "bias")):
        value = 0.1 * rng.standard_normal(shape)
    elif entry.module == "PReLU":
        value = rng.uniform(0.1, 0.4, shape)
    else:
        value = rng.uniform(0.5, 1.5, shape)
    return value.astype(np.float32)


def state_dict(architecture: str, **shape: int) -> Weights:
    """Procedural weights of a network of any width."""
    scale = 0.5 if architecture == "dmcn" else 1.0
    return {entry.name: procedural(entry, scale) for entry in entries(architecture, **shape)}


def conv(
    x: np.ndarray,
    weight: np.ndarray,
    bias: np.ndarray | None = None,
    *,
    stride: int = 1,
    padding: int | None = None,
    mode: str = "constant",
) -> np.ndarray:
    """Correlation with ``[out, in, h, w]``, padded on all sides by half the kernel by default."""
    margin = weight.shape[-1] // 2 if padding is None else padding
    padded = np.pad(x, [(0, 0), (margin, margin), (margin, margin)], mode=mode)  # type: ignore[call-overload]
    windows = sliding_window_view(padded, weight.shape[2:], axis=(1, 2))[:, ::stride, ::stride]
    out = np.tensordot(weight.astype(np.float64), windows, ([1, 2, 3], [0, 3, 4]))
    return out if bias is None else out + bias[:, None, None]


def pixel_shuffle(x: np.ndarray, factor: int = 2) -> np.ndarray:
    """Output pixel (i, j) of channel c comes from channel c·factor² + factor·i + j."""
    channels, height, width = x.shape
    out = np.empty((channels // factor**2, height * factor, width * factor))
    for c in range(channels // factor**2):
        for i in range(factor):
            for j in range(factor):
                out[c, i::factor, j::factor] = x[c * factor**2 + factor * i + j]
    return out


class _Forward:
    def __init__(self, weights: Weights) -> None:
        self.weights = weights

    def conv(self, x: np.ndarray, name: str, **options) -> np.ndarray:
        return conv(x, self.weights[f"{name}.weight"], self.weights.get(f"{name}.bias"), **options)

    def norm(self, x: np.ndarray, name: str) -> np.ndarray:
        parts = ("weight", "bias", "running_mean", "running_var")
        scale, shift, mean, variance = (
            self.weights[f"{name}.{part}"].astype(np.float64)[:, None, None] for part in parts
        )
        return (x - mean) / np.sqrt(variance + 1e-5) * scale + shift

    def prelu(self, x: np.ndarray, name: str) -> np.ndarray:
        return np.where(x > 0, x, self.weights[f"{name}.weight"] * x)

    def double(self, x: np.ndarray, name: str) -> np.ndarray:
        for index in (0, 3):
            x = self.conv(x, f"{name}.double_conv.{index}")
            x = np.maximum(self.norm(x, f"{name}.double_conv.{index + 1}"), 0)
        return x

    def strided_down(self, x: np.ndarray, name: str) -> np.ndarray:
        halved = self.conv(x, f"{name}.in_conv", stride=2, padding=0)
        x = self.conv(self.double(halved, f"{name}.mid_conv") + halved, f"{name}.out_conv.0")
        return np.maximum(self.norm(x, f"{name}.out_conv.1"), 0)

    def maxpool_down(self, x: np.ndarray, name: str) -> np.ndarray:
        height, width = (side // 2 for side in x.shape[1:])
        even = x[:, : 2 * height, : 2 * width].reshape(len(x), height, 2, width, 2)
        return self.double(even.max(axis=(2, 4)), f"{name}.maxpool_conv.1")

    def bridge(self, x: np.ndarray, name: str) -> np.ndarray:
        y = self.conv(x, f"{name}.conv_block.1", mode="reflect")
        y = np.maximum(self.norm(y, f"{name}.conv_block.2"), 0)
        y = self.conv(y, f"{name}.conv_block.5", mode="reflect")
        return self.norm(y, f"{name}.conv_block.6") + x

    def up(self, x: np.ndarray, skip: np.ndarray, name: str) -> np.ndarray:
        weight = self.weights.get(f"{name}.up.weight")
        if weight is None:
            for axis in (1, 2):
                length = x.shape[axis]
                at = np.linspace(0, length - 1, 2 * length)
                weights = np.stack([np.interp(at, np.arange(length), e) for e in np.eye(length)])
                x = np.moveaxis(np.tensordot(x, weights, (axis, 0)), -1, axis)
        else:
            blocks = np.einsum("chw,coab->ohawb", x, weight, optimize=True)
            x = blocks.reshape(weight.shape[1], 2 * x.shape[1], 2 * x.shape[2])
            x = x + self.weights[f"{name}.up.bias"][:, None, None]
        lacking = [skip.shape[axis] - x.shape[axis] for axis in (1, 2)]
        margins = [(lack // 2, lack - lack // 2) for lack in lacking]
        x = np.pad(x, [(0, 0), *margins], mode="reflect")
        return self.double(np.concatenate([skip, x]), f"{name}.conv")


def _forward_mrunet(net: _Forward, field: np.ndarray) -> np.ndarray:
    x, skips = net.double(field, "inc"), []
    strided = "down1.in_conv.weight" in net.weights
    for level in range(1, 5):
        skips.append(x)
        x = (net.strided_down if strided else net.maxpool_down)(x, f"down{level}")
    block = 0
    while f"resblocks.{block}.conv_block.1.weight" in net.weights:
        x = net.bridge(x, f"resblocks.{block}")
        block += 1
    for level, skip in enumerate(reversed(skips), start=1):
        x = net.up(x, skip, f"up{level}")
    return net.conv(x, "outc.conv") + field


def _forward_vdsr(net: _Forward, field: np.ndarray) -> np.ndarray:
    x, index = np.maximum(net.conv(field, "input"), 0), 0
    while f"residual_layer.{index}.conv.weight" in net.weights:
        x = np.maximum(net.conv(x, f"residual_layer.{index}.conv"), 0)
        index += 1
    return net.conv(x, "output") + field


def _forward_dmcn(net: _Forward, field: np.ndarray) -> np.ndarray:
    x = net.prelu(net.conv(field, "input1"), "relu")
    for index in range(1, 5):
        x = net.prelu(net.norm(net.conv(x, f"input{index + 1}"), f"BN{index}"), "relu")
    skips = []
    for level, units in ((1, 5), (2, 2)):
        skips.append(x)
        x = net.conv(x, f"down_sample{level}", stride=2)
        for k in range(units):
            unit = f"Conv_DW_layers{level}.{k}.conv_dw"
            y = net.norm(net.conv(x, f"{unit}.0"), f"{unit}.1")
            x = net.prelu(y, f"{unit}.2") + x
    for level, units in ((1, 2), (2, 5)):
        y = net.prelu(net.conv(x, f"up_sample{level}.conv"), f"up_sample{level}.relu")
        x = net.conv(np.concatenate([skips.pop(), pixel_shuffle(y)]), f"choose{level}")
        for k in range(units):
            unit = f"resudial_layers{level}.{k}.conv_dw"
            y = net.prelu(net.norm(net.conv(x, f"{unit}.0"), f"{unit}.1"), f"{unit}.2")
            x = net.conv(y, f"{unit}.3") + x
    return net.conv(x, "output") + field


def forward(architecture: str, weights: Weights, field: np.ndarray) -> np.ndarray:
    """The reference's output ``[H, W]`` for a normalised field ``[H, W]``, in float64."""
    networks = {"vdsr": _forward_vdsr, "dmcn": _forward_dmcn}
    network = networks.get(architecture, _forward_mrunet)
    return network(_Forward(weights), field[None].astype(np.float64))[0]
