"""Settings of the losses, and what each asks of data and network."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, Self

from pydantic import Field, field_validator, model_validator

from keras_lstsr.config.settings import Settings
from keras_lstsr.registration import Code, register

REPORT_OPTIONS: dict[str, float | int | str] = {
    "alpha": 1e-4,
    "gradient": "sobel_report",
    "components": "magnitude",
    "gradient_scaling": "maximum",
    "consistency": "bicubic",
    "nir_factor": 200.0,
    "edge_crop": 16,
    "scale_kelvin": 333.32,
}
"""What the report's code ran of MixGL; each option's defect is described in the loss."""


@dataclass(frozen=True)
class Loss:
    """A loss: its class, and what it asks of data and network.

    Attributes:
        build: The class; its constructor's arguments are the loss's options. It must return a
            value per sample or per pixel, or replicas will not add up.
        fine_truth: Whether it compares with LST that is truly fine.
        target_channels: Channels of the target beside LST: names of guides; ``"spread"``, 1 where
            the sample teaches how far LST and truth of two instruments differ, else 0; or
            ``"truly_fine"``, 1 where the target is truly fine, 0 where it repeats the input.
        std: Whether it takes a prediction of two channels, LST and its standard deviation.
        presets: Preset → options; what was run for the papers.
    """

    build: Code
    fine_truth: bool = True
    target_channels: tuple[str, ...] = ()
    std: bool = False
    presets: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


_PIXELWISE = "keras_lstsr.losses.pixelwise:Masked"
# Texture comes from NDVI and temperature from the coarse LST, so that these need no fine truth.
_TEXTURE: dict[str, Any] = {"fine_truth": False, "target_channels": ("ndvi",)}

LOSSES: dict[str, Loss] = {
    "mse": Loss(f"{_PIXELWISE}MeanSquaredError", presets={"paper_2022": {"scale_kelvin": 1.0}}),
    "mae": Loss(f"{_PIXELWISE}MeanAbsoluteError"),
    "huber": Loss(f"{_PIXELWISE}Huber"),
    "charbonnier": Loss(f"{_PIXELWISE}Charbonnier"),
    "mixgl": Loss(
        "keras_lstsr.losses.mixgl:MixedGradientLoss",
        **_TEXTURE,
        presets={"report": REPORT_OPTIONS},
    ),
    "perceptual": Loss("keras_lstsr.losses.perceptual:PerceptualLoss"),
    "sif": Loss("keras_lstsr.losses.scale_invariance_free:ScaleInvarianceFreeLoss", **_TEXTURE),
    "self_supervised": Loss(
        "keras_lstsr.losses.self_supervised:SelfSupervisedLoss",
        fine_truth=False,
        target_channels=("ndvi", "truly_fine"),
        std=True,
    ),
    "detail": Loss("keras_lstsr.losses.detail:DetailLoss", target_channels=("spread",), std=True),
}
"""By the name that ``loss.name`` calls it. This is where a loss is registered."""


def register_loss(name: str, loss: Loss, *, replace: bool = False) -> None:
    """Makes a loss known under a name: to settings, ``build_loss`` and training.

    Args:
        name: What ``loss.name`` calls it.
        loss: Its class, and what it asks for.
        replace: Whether a loss of that name may be replaced.

    Raises:
        ConfigError: If the name is taken.
    """
    register(LOSSES, name, loss, field="loss.name", replace=replace)


class AlphaScheduleConfig(Settings):
    """How the weight of MixGL's gradient term changes over the epochs.

    It starts at ``loss.alpha`` (or the loss's own default).

    Attributes:
        kind: ``"constant"``; ``"linear"`` and ``"cosine"``: from the start to ``end`` within
            ``epochs``, then ``end``; ``"step"``: the start for ``epochs``, then ``end``.
        end: The last value, 0 to 1; not for ``"constant"``.
        epochs: Epochs until ``end`` is reached; not for ``"constant"``.
    """

    kind: Literal["constant", "linear", "cosine", "step"] = "linear"
    end: float | None = Field(default=None, ge=0, le=1)
    epochs: int | None = Field(default=None, ge=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        for name in ("end", "epochs"):
            missing = getattr(self, name) is None
            if self.kind == "constant" and not missing:
                raise ValueError(f"a constant alpha has no {name}: leave it out")
            if self.kind != "constant" and missing:
                raise ValueError(f"kind {self.kind} needs {name}")
        return self


class LossConfig(Settings):
    """The training loss, see docs/losses.md.

    Attributes:
        name: ``"mse"``, ``"mae"``, ``"huber"``, ``"charbonnier"`` (pixel by pixel),
            ``"perceptual"`` (features of VGG19), ``"mixgl"`` (Mixed Gradient Loss), ``"sif"``
            (scale-invariance-free), ``"detail"`` (error of detail and its spread, of the guided
            network) or ``"self_supervised"`` (``"detail"`` one scale coarser and ``"mixgl"``, of
            the guided network without truth), or one that ``register_loss`` was told.
        preset: ``"default"`` is right; ``"report"`` sets MixGL's options to what the report's
            code ran, ``"paper_2022"`` those of MSE to what the paper's code ran. Options given
            beside a preset override it.
        alpha: Of ``mixgl`` alone: weight of the gradient term; the MSE weight is 1 − alpha.
        alpha_schedule: Of ``mixgl`` alone: how alpha changes; None keeps it.
        options: Further options of the loss, by the names of its constructor's arguments.
    """

    name: str = "mse"
    preset: Literal["default", "report", "paper_2022"] = "default"
    alpha: float | None = Field(default=None, ge=0, le=1)
    alpha_schedule: AlphaScheduleConfig | None = None
    options: dict[str, float | bool | str | int | list[str] | None] = Field(default_factory=dict)

    @field_validator("name")
    @classmethod
    def _known(cls, value: str) -> str:
        if value not in LOSSES:
            raise ValueError(f"must be one of {', '.join(LOSSES)}")
        return value

    @property
    def needs(self) -> Loss:
        """What the loss asks of data and network."""
        return LOSSES[self.name]

    @property
    def needs_guide(self) -> bool:
        """Whether the loss wants NDVI as the target's second channel."""
        return "ndvi" in self.needs.target_channels

    @property
    def needs_fine_truth(self) -> bool:
        """Whether the loss compares with LST that is truly fine."""
        return self.needs.fine_truth
