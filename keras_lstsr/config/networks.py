"""Settings of the networks: shape, and scaling of temperature."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from pydantic import Discriminator, Field, Tag, ValidationInfo, field_validator

from keras_lstsr.config.guides import GUIDES
from keras_lstsr.config.settings import Settings, in_brackets
from keras_lstsr.registration import Code, register

GUIDED = "guided"
"""Architecture of the network that takes guides."""


@dataclass(frozen=True)
class Network:
    """A network that sees LST alone: how it is built, and what it asks of settings and input.

    Attributes:
        build: Builds it without its surroundings: ``[B, H, W, 1] → [B, H, W, 1]`` in normalised
            units, H and W on the fine grid and free. It gets each field of ``ModelConfig`` of
            which it has an argument by name, and ``ModelConfig.options`` as further arguments.
        published: Setting (``variant``, ``depth``, ``bridge_blocks``) → published value; none of
            the others applies to the network.
        depths: Least and largest ``depth``.
        smallest_side: Smallest height and width in pixels that it takes, from settings.
        side_multiple: Number of which heights and widths must be multiples.
        on_coarse_grid: Whether it works on the coarse grid and upsamples for itself,
            ``[B, h, w, 1] → [B, h·f, w·f, 1]``; what it gives is then added to upsampled LST.
    """

    build: Code
    published: Mapping[str, str | int] = field(default_factory=dict)
    depths: tuple[int, int] = (1, 100)
    smallest_side: Callable[[ModelConfig], int] = lambda config: 1
    side_multiple: int = 1
    on_coarse_grid: bool = False


def _reflecting(side: int) -> Callable[[ModelConfig], int]:
    """Smallest side of a network that takes any, but for reflection: one pixel plus the margin."""
    return lambda config: side if config.padding == "reflect" else 1


NETWORKS: dict[str, Network] = {
    "mrunet": Network(
        "keras_lstsr.models.mrunet:build_mrunet",
        {"variant": "strided", "depth": 4, "bridge_blocks": 1},
        (1, 6),
        # The bridge pads by reflection, which needs two pixels after all halvings.
        smallest_side=lambda config: 2 ** (config.shape["depth"] + 1),
    ),
    "vdsr": Network("keras_lstsr.models.vdsr:build_vdsr", {"depth": 20}, (2, 100), _reflecting(2)),
    # Two halvings; reflection needs two pixels after them.
    "dmcn": Network(
        "keras_lstsr.models.dmcn:build_dmcn",
        smallest_side=lambda config: 4 * _reflecting(2)(config),
        side_multiple=4,
    ),
    "srcnn": Network("keras_lstsr.models.srcnn:build_srcnn", smallest_side=_reflecting(5)),
    "edsr": Network(
        "keras_lstsr.models.edsr:build_edsr",
        {"depth": 16},
        smallest_side=_reflecting(2),
        on_coarse_grid=True,
    ),
}
"""By the name that ``model.architecture`` calls it. This is where a network is registered."""


def register_network(name: str, network: Network, *, replace: bool = False) -> None:
    """Makes a network known under a name: to settings, ``build_model`` and training.

    Args:
        name: What ``model.architecture`` calls it.
        network: How it is built, and what it asks for.
        replace: Whether a network of that name may be replaced.

    Raises:
        ConfigError: If the name is taken.
    """
    known = NETWORKS if name != GUIDED else {GUIDED: network}
    register(known, name, network, field="model.architecture", replace=replace)


class ModelConfig(Settings):
    """The shape of a network that sees LST alone, and its scaling of temperature.

    Attributes:
        architecture: ``"mrunet"``, the Multi-residual U-Net; ``"vdsr"``, ``"dmcn"``, ``"srcnn"``
            or ``"edsr"``, or one that ``register_network`` was told. See docs/networks.md.
        variant: Of ``mrunet`` alone: ``"strided"`` (2022 paper: strided convolutions, transposed
            convolutions; the default) or ``"maxpool"`` (report: max-pooling, bilinear
            upsampling).
        width: Channels; in ``mrunet`` those of the first level, which each level doubles. 64 is
            what all networks were published with.
        depth: ``mrunet``: down and up levels, 1 to 6 (4 published); ``vdsr``: convolutions (20);
            ``edsr``: residual blocks (16). Does not apply to ``dmcn`` and ``srcnn``.
        bridge_blocks: Of ``mrunet`` alone: residual blocks between encoder and decoder (1).
        padding: What convolutions see beyond the border: ``"zero"`` as published, or
            ``"reflect"``, the mirrored field.
        scale_factor: Fine pixels along a coarse pixel's side.
        upsampling: How the input reaches the output grid before the network.
        normalisation: ``"standard"``: (T − mean) / std of the training split; ``"max"``:
            T / max of the training split, as the reference code does.
        offset_kelvin: Subtracted from temperature; None takes it from the training statistics.
        scale_kelvin: Divides temperature; None takes it from the training statistics.
        synchronised_batch_norm: BatchNorm statistics over all replicas; set by training.
        zero_initial_residual: Start the last convolution at zero, so that the untrained model
            equals its upsampling (the references start it at random).
        options: Further arguments of the network's builder, by name.
    """

    architecture: str = "mrunet"
    variant: Literal["strided", "maxpool"] | None = Field(default=None, validate_default=True)
    width: int = Field(default=64, ge=1)
    depth: int | None = Field(default=None, validate_default=True)
    bridge_blocks: int | None = Field(default=None, ge=0, validate_default=True)
    padding: Literal["zero", "reflect"] = "zero"
    scale_factor: int = Field(default=4, ge=2)
    upsampling: Literal["bicubic", "bilinear"] = "bicubic"
    normalisation: Literal["standard", "max"] = "standard"
    offset_kelvin: float | None = None
    scale_kelvin: float | None = Field(default=None, gt=0)
    synchronised_batch_norm: bool = False
    zero_initial_residual: bool = False
    options: dict[str, float | bool | str | int | list[str] | None] = Field(default_factory=dict)

    @field_validator("architecture")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in NETWORKS:
            known = ", ".join(f"'{name}'" for name in (*NETWORKS, GUIDED))
            raise ValueError(f"must be one of {known}")
        return value

    @field_validator("variant", "depth", "bridge_blocks")
    @classmethod
    def _applies_to_the_architecture(cls, value: Any, info: ValidationInfo) -> Any:
        architecture, name = info.data.get("architecture"), str(info.field_name)
        if architecture is None:
            return value  # an unknown architecture has been reported already
        network = NETWORKS[architecture]
        if value is None:
            return network.published.get(name)
        if name not in network.published:
            taken = ", ".join(["width", *network.published])
            raise ValueError(f"does not apply to architecture {architecture}, which takes {taken}")
        low, high = network.depths
        if name == "depth" and not low <= value <= high:
            raise ValueError(f"must lie between {low} and {high} for architecture {architecture}")
        return value

    @property
    def shape(self) -> dict[str, Any]:
        """The width and what else shapes the network, by the names of its builder's arguments."""
        names = ("width", *NETWORKS[self.architecture].published)
        return {**{name: getattr(self, name) for name in names}, **self.options}

    @property
    def network(self) -> str:
        """The network's name, with the variant where there are several: ``"mrunet_strided"``."""
        return self.architecture + (f"_{self.variant}" if self.variant else "")

    @property
    def guides(self) -> tuple[str, ...]:
        """The guides that the network takes: none."""
        return ()

    @property
    def gives_std(self) -> bool:
        """Whether the network gives a standard deviation beside LST: it does not."""
        return False

    def with_statistics(
        self, *, mean_kelvin: float, std_kelvin: float, max_kelvin: float
    ) -> ModelConfig:
        """Returns the settings with offset and scale filled in from the training split."""
        if self.normalisation == "standard":
            offset, scale = mean_kelvin, max(std_kelvin, 1e-3)
        else:
            offset, scale = 0.0, max_kelvin
        return self.model_copy(
            update={
                "offset_kelvin": offset if self.offset_kelvin is None else self.offset_kelvin,
                "scale_kelvin": scale if self.scale_kelvin is None else self.scale_kelvin,
            }
        )


class GuidedModelConfig(Settings):
    """The shape of the guided network; see ``keras_lstsr.models.guided``.

    Attributes:
        architecture: ``"guided"``.
        guides: Names of the guides that it takes, see ``keras_lstsr.config.guides``.
        width: Channels of the finest level.
        scale_factor: Fine pixels along a coarse pixel's side.
        narrow_window_pixels: Side of the window, in coarse pixels, in which LST is regressed on
            the guide for the first guess; odd.
        wide_window_pixels: Side of the window whose statistics tell the network what kind of
            scene it sees, and whose slope steadies the narrow one; odd.
        slope_prior: How far the narrow window's slope is drawn to the wide one's: the weight of
            the wide window's guide variance beside the narrow one's own.
        level_window_pixels: Side of the window, in coarse pixels, over which the network's
            correction is kept at a mean of zero, so that the level of LST stays MODIS's; odd.
        full_explained_share: Share of LST's variance in the wide window that the guide must
            explain for the result to follow it in full; below, it fades to bicubic.
        full_slope_kelvin: Kelvin per typical spread of a guide that the wide window's slope must
            have for the same, by its size.
    """

    architecture: Literal["guided"] = "guided"
    guides: tuple[str, ...] = Field(default=("ndvi",), min_length=1)
    width: int = Field(default=32, ge=1)
    scale_factor: int = Field(default=4, ge=2)
    narrow_window_pixels: int = Field(default=5, ge=3)
    wide_window_pixels: int = Field(default=25, ge=5)
    slope_prior: float = Field(default=0.3, ge=0)
    level_window_pixels: int = Field(default=7, ge=1)
    full_explained_share: float = Field(default=0.3, gt=0, le=1)
    full_slope_kelvin: float = Field(default=1.2, gt=0)

    @field_validator("guides")
    @classmethod
    def _registered(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        for name in value:
            if name not in GUIDES:
                raise ValueError(f"must be names of guides: {', '.join(GUIDES)}")
        return value

    @field_validator("narrow_window_pixels", "wide_window_pixels", "level_window_pixels")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that the window has a middle pixel")
        return value

    @property
    def shape(self) -> dict[str, Any]:
        """What shapes the network most."""
        return {"width": self.width, "guides": " and ".join(self.guides)}

    @property
    def network(self) -> str:
        """The network's name."""
        return self.architecture

    @property
    def gives_std(self) -> bool:
        """Whether the network gives a standard deviation beside LST: it does."""
        return True


_ALONE, _GUIDED = in_brackets("LST alone"), in_brackets(GUIDED)


def _kind(value: Any) -> str:
    found = value.get("architecture") if isinstance(value, dict) else value
    return _GUIDED if found == GUIDED or isinstance(value, GuidedModelConfig) else _ALONE


NetworkConfig = Annotated[
    Annotated[ModelConfig, Tag(_ALONE)] | Annotated[GuidedModelConfig, Tag(_GUIDED)],
    Discriminator(_kind),
]
"""Settings of any network; ``architecture`` tells which."""
