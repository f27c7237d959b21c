"""The networks by name: how each is built from settings, and what sizes it takes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import keras

from keras_lstsr.config import ModelConfig
from keras_lstsr.models.dmcn import SIDE_MULTIPLE as DMCN_SIDE_MULTIPLE
from keras_lstsr.models.dmcn import build_dmcn
from keras_lstsr.models.edsr import build_edsr
from keras_lstsr.models.mrunet import build_mrunet, smallest_side
from keras_lstsr.models.srcnn import build_srcnn
from keras_lstsr.models.vdsr import build_vdsr


@dataclass(frozen=True)
class CoreNetwork:
    """A network without its surroundings, and what it asks of its input.

    Attributes:
        build: Builds it from settings, ``[B, H, W, 1] → [B, H, W, 1]`` in normalised units; on
            the coarse grid ``[B, h, w, 1] → [B, h·f, w·f, 1]``, a residual.
        smallest_side: Smallest height and width in pixels that it takes.
        side_multiple: Number of which heights and widths must be multiples.
        on_coarse_grid: Whether it works on the coarse grid and upsamples for itself.
    """

    build: Callable[[ModelConfig], keras.Model]
    smallest_side: Callable[[ModelConfig], int]
    side_multiple: int = 1
    on_coarse_grid: bool = False


def _arguments(config: ModelConfig) -> dict[str, Any]:
    return {
        **config.shape,
        "padding": config.padding,
        "zero_initial_residual": config.zero_initial_residual,
    }


def _mrunet(config: ModelConfig) -> keras.Model:
    return build_mrunet(
        **_arguments(config), synchronised_batch_norm=config.synchronised_batch_norm
    )


def _vdsr(config: ModelConfig) -> keras.Model:
    return build_vdsr(**_arguments(config))


def _dmcn(config: ModelConfig) -> keras.Model:
    return build_dmcn(**_arguments(config), synchronised_batch_norm=config.synchronised_batch_norm)


def _srcnn(config: ModelConfig) -> keras.Model:
    return build_srcnn(**_arguments(config))


def _edsr(config: ModelConfig) -> keras.Model:
    return build_edsr(**_arguments(config), scale_factor=config.scale_factor)


def _reflecting(side: int) -> Callable[[ModelConfig], int]:
    """Smallest side of a network that takes any, but for reflection: one pixel plus the margin."""
    return lambda config: side if config.padding == "reflect" else 1


CORE_NETWORKS: dict[str, CoreNetwork] = {
    "mrunet": CoreNetwork(_mrunet, lambda config: smallest_side(config.shape["depth"])),
    "vdsr": CoreNetwork(_vdsr, _reflecting(2)),
    # Reflection needs two pixels after two halvings.
    "dmcn": CoreNetwork(
        _dmcn,
        lambda config: DMCN_SIDE_MULTIPLE * _reflecting(2)(config),
        side_multiple=DMCN_SIDE_MULTIPLE,
    ),
    "srcnn": CoreNetwork(_srcnn, _reflecting(5)),
    "edsr": CoreNetwork(_edsr, _reflecting(2), on_coarse_grid=True),
}
