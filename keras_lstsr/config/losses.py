"""Settings of the losses, and what each asks of data and network."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, Self

from pydantic import Field, field_validator, model_validator

from keras_lstsr.config.settings import Settings


@dataclass(frozen=True)
class LossNeeds:
    """What a loss asks of data and network.

    Attributes:
        fine_truth: Whether it compares with LST that is truly fine.
        target_channels: Channels of the target beside LST: names of guides, or ``"spread"``, 1
            where the sample teaches how far LST and truth of two instruments differ, else 0.
        std: Whether it takes a prediction of two channels, LST and its standard deviation.
    """

    fine_truth: bool = True
    target_channels: tuple[str, ...] = ()
    std: bool = False


# Texture comes from NDVI and temperature from the coarse LST, so that these need no fine truth.
_TEXTURE = LossNeeds(fine_truth=False, target_channels=("ndvi",))

LOSS_NEEDS: dict[str, LossNeeds] = {
    "mse": LossNeeds(),
    "mae": LossNeeds(),
    "huber": LossNeeds(),
    "charbonnier": LossNeeds(),
    "mixgl": _TEXTURE,
    "perceptual": LossNeeds(),
    "sif": _TEXTURE,
    "detail": LossNeeds(target_channels=("spread",), std=True),
}
"""By the loss's name; ``keras_lstsr.losses.register_loss`` adds to it."""


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
            (scale-invariance-free) or ``"detail"`` (error of detail and its spread, of the guided
            network), or one that ``register_loss`` was told.
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
        if value not in LOSS_NEEDS:
            raise ValueError(f"must be one of {', '.join(LOSS_NEEDS)}")
        return value

    @property
    def needs(self) -> LossNeeds:
        """What the loss asks of data and network."""
        return LOSS_NEEDS[self.name]

    @property
    def needs_guide(self) -> bool:
        """Whether the loss wants NDVI as the target's second channel."""
        return "ndvi" in self.needs.target_channels

    @property
    def needs_fine_truth(self) -> bool:
        """Whether the loss compares with LST that is truly fine."""
        return self.needs.fine_truth
