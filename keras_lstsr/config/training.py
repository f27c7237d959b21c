"""Settings of the training: optimiser, schedule, length and what is kept."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from keras_lstsr.config.settings import Settings


class ScheduleConfig(Settings):
    """How the learning rate changes.

    Attributes:
        kind: ``"constant"``; ``"drop"``: divided by ``drop_factor`` from ``drop_epoch`` on;
            ``"cosine"``: along half a wave down to ``final_share`` at the last step.
        drop_epoch: Epochs at the full rate; of ``"drop"`` alone. The 2022 paper: 50.
        drop_factor: Of ``"drop"`` alone. The 2022 paper: 100.
        warmup_steps: Steps in which the rate rises from a tenth, at most half of all; of
            ``"cosine"`` alone.
        final_share: Part of the rate at the end; of ``"cosine"`` alone.
    """

    kind: Literal["constant", "drop", "cosine"] = "constant"
    drop_epoch: int | None = Field(default=None, ge=1)
    drop_factor: float = Field(default=100.0, gt=1)
    warmup_steps: int = Field(default=0, ge=0)
    final_share: float = Field(default=0.01, ge=0, le=1)

    @model_validator(mode="after")
    def _complete(self) -> Self:
        belongs_to = {
            "drop_epoch": "drop",
            "drop_factor": "drop",
            "warmup_steps": "cosine",
            "final_share": "cosine",
        }
        for name, kind in belongs_to.items():
            if getattr(self, name) != type(self).model_fields[name].default and kind != self.kind:
                raise ValueError(f"{name} belongs to kind {kind}, and kind is {self.kind}")
        if self.kind == "drop" and self.drop_epoch is None:
            raise ValueError("kind drop needs drop_epoch")
        return self


class TrainingConfig(Settings):
    """How a network is trained.

    Attributes:
        epochs: Passes over the training split, or over ``steps_per_epoch`` of it.
        batch_size: Samples per optimiser step over all replicas together.
        steps_per_epoch: Steps of an epoch. Where crops are drawn, any number, and None takes as
            many as the training split has batches; else at most that many.
        optimizer: ``"adam"`` or ``"adamw"``.
        learning_rate: The optimiser's rate at the start, or after the warm-up.
        schedule: How the rate changes, see ``ScheduleConfig``.
        adam_epsilon: Adam's epsilon (1e-8 in the reference).
        weight_decay: AdamW's; of ``"adamw"`` alone.
        clip_norm: Longest gradient of each weight tensor; None cuts none.
        ema_momentum: The model gets the exponential moving average of its weights with this
            momentum, in validation too; None leaves them as they are.
        keep: Which weights ``model.keras`` gets: those of the ``"best"`` epoch by validation loss,
            or of the ``"last"`` one, for which no validation split is needed.
        early_stopping_patience: Epochs without a better validation loss before stopping; None
            never stops early.
        mixed_precision: Compute in float16 on GPUs (bfloat16 on CPUs); weights stay float32.
        xla: Compile the training step with XLA.
        seed: Seeds weights, order, crops and variation.
        save_freq: Batches between backups inside an epoch; None backs up once per epoch.
        cpu_devices: Logical CPU devices to train on when there is no GPU.
    """

    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=32, ge=1)
    steps_per_epoch: int | None = Field(default=None, ge=1)
    optimizer: Literal["adam", "adamw"] = "adam"
    learning_rate: float = Field(default=1e-3, gt=0)
    schedule: ScheduleConfig = ScheduleConfig()
    adam_epsilon: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.0, ge=0)
    clip_norm: float | None = Field(default=None, gt=0)
    ema_momentum: float | None = Field(default=None, gt=0, lt=1)
    keep: Literal["best", "last"] = "best"
    early_stopping_patience: int | None = Field(default=None, ge=1)
    mixed_precision: bool = False
    xla: bool = False
    seed: int = 0
    save_freq: int | None = Field(default=None, ge=1)
    cpu_devices: int = Field(default=1, ge=1)

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.weight_decay and self.optimizer != "adamw":
            raise ValueError("weight_decay belongs to optimizer adamw")
        return self

    @property
    def needs_validation(self) -> bool:
        """Whether a validation loss decides anything."""
        return self.keep == "best" or self.early_stopping_patience is not None


class CrossValidationConfig(Settings):
    """How a network is cross-validated.

    Attributes:
        folds: Parts of the samples, by place, each of which is predicted by a model that has seen
            only the others.
        test_degraded: Whether samples whose LST was made from their truth are tested, too, whole
            places at a time; else they are in every training.
    """

    folds: int = Field(default=4, ge=2)
    test_degraded: bool = False
