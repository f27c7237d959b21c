"""Validated, immutable settings: data, model, loss and training; YAML in and out."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)

from keras_lstsr.errors import ConfigError

Task = Literal["4km_to_1km", "1km_to_250m"]
Architecture = Literal["mrunet", "vdsr", "dmcn", "srcnn", "edsr"]
LossName = Literal["mse", "mae", "huber", "charbonnier", "mixgl", "perceptual", "sif"]

# The losses that take texture from NDVI and temperature from the coarse LST, so that they can do
# without fine truth; all others need it.
_GUIDED_LOSSES = ("mixgl", "sif")

# What shapes each network beside its width, with the published value. None of it applies to a
# network that does not list it.
_PUBLISHED_SHAPES: dict[str, dict[str, str | int]] = {
    "mrunet": {"variant": "strided", "depth": 4, "bridge_blocks": 1},
    "vdsr": {"depth": 20},
    "dmcn": {},
    "srcnn": {},
    "edsr": {"depth": 16},
}
_DEPTH_RANGES = {"mrunet": (1, 6), "vdsr": (2, 100), "edsr": (1, 100)}


class _Settings(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class DataConfig(_Settings):
    """How batches are made from records.

    Attributes:
        task: ``"4km_to_1km"`` degrades LST by norm-L4 and learns to undo it (the 2022 paper);
            ``"1km_to_250m"`` feeds 1 km LST and learns from the loss alone (the report).
        augment: Flip and turn training patches by quarter turns, LST and guide jointly.
        shuffle_buffer: Patches held for shuffling; 0 keeps the order of the shards.
        upsampling: Adds the upsampled input as ``lst_kelvin_upsampled`` to the inputs. Models
            upsample for themselves, so the default is not to.
        cache: Keep decoded patches in memory.
    """

    task: Task = "4km_to_1km"
    augment: bool = True
    shuffle_buffer: int = Field(default=2048, ge=0)
    upsampling: Literal["bicubic", "bilinear"] | None = None
    cache: bool = False


class ModelConfig(_Settings):
    """A network's shape and its scaling of temperature.

    Attributes:
        architecture: ``"mrunet"``, the Multi-residual U-Net; ``"vdsr"``, ``"dmcn"``, ``"srcnn"``
            or ``"edsr"``. See docs/networks.md.
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
    """

    architecture: Architecture = "mrunet"
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

    @field_validator("variant", "depth", "bridge_blocks")
    @classmethod
    def _applies_to_the_architecture(cls, value: Any, info: ValidationInfo) -> Any:
        architecture, name = info.data.get("architecture"), str(info.field_name)
        if architecture is None:
            return value  # an unknown architecture has been reported already
        published = _PUBLISHED_SHAPES[architecture]
        if value is None:
            return published.get(name)
        if name not in published:
            taken = ", ".join(["width", *published])
            raise ValueError(f"does not apply to architecture {architecture}, which takes {taken}")
        low, high = _DEPTH_RANGES[architecture]
        if name == "depth" and not low <= value <= high:
            raise ValueError(f"must lie between {low} and {high} for architecture {architecture}")
        return value

    @property
    def shape(self) -> dict[str, Any]:
        """The width and what else shapes the network, by the names of its builder's arguments."""
        names = ("width", *_PUBLISHED_SHAPES[self.architecture])
        return {name: getattr(self, name) for name in names}

    @property
    def network(self) -> str:
        """The network's name, with the variant where there are several: ``"mrunet_strided"``."""
        return self.architecture + (f"_{self.variant}" if self.variant else "")

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


class GuidedModelConfig(_Settings):
    """The shape of the NDVI-guided network; see ``keras_lstsr.models.guided``.

    Attributes:
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
    """

    width: int = Field(default=32, ge=1)
    scale_factor: int = Field(default=4, ge=2)
    narrow_window_pixels: int = Field(default=5, ge=3)
    wide_window_pixels: int = Field(default=25, ge=5)
    slope_prior: float = Field(default=0.3, ge=0)
    level_window_pixels: int = Field(default=7, ge=1)

    @field_validator("narrow_window_pixels", "wide_window_pixels", "level_window_pixels")
    @classmethod
    def _odd(cls, value: int) -> int:
        if value % 2 == 0:
            raise ValueError("must be odd, so that the window has a middle pixel")
        return value


class AlphaScheduleConfig(_Settings):
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


class LossConfig(_Settings):
    """The training loss, see docs/losses.md.

    Attributes:
        name: ``"mse"``, ``"mae"``, ``"huber"``, ``"charbonnier"`` (pixel by pixel),
            ``"perceptual"`` (features of VGG19), ``"mixgl"`` (Mixed Gradient Loss) or ``"sif"``
            (scale-invariance-free).
        preset: ``"default"`` is right; ``"report"`` sets MixGL's options to what the report's
            code ran, ``"paper_2022"`` those of MSE to what the paper's code ran. Options given
            beside a preset override it.
        alpha: Of ``mixgl`` alone: weight of the gradient term; the MSE weight is 1 − alpha.
        alpha_schedule: Of ``mixgl`` alone: how alpha changes; None keeps it.
        options: Further options of the loss, by the names of its constructor's arguments.
    """

    name: LossName = "mse"
    preset: Literal["default", "report", "paper_2022"] = "default"
    alpha: float | None = Field(default=None, ge=0, le=1)
    alpha_schedule: AlphaScheduleConfig | None = None
    options: dict[str, float | bool | str | int | list[str] | None] = Field(default_factory=dict)

    @property
    def needs_guide(self) -> bool:
        """Whether the loss wants NDVI as the target's second channel."""
        return self.name in _GUIDED_LOSSES

    @property
    def needs_fine_truth(self) -> bool:
        """Whether the loss compares with LST that is truly fine."""
        return not self.needs_guide


class TrainingConfig(_Settings):
    """How a network is trained.

    Attributes:
        epochs: Passes over the training split.
        batch_size: Patches per optimiser step over all replicas together.
        learning_rate: Adam's rate at the start.
        learning_rate_drop_epoch: From this epoch on (0-based) the rate is divided by
            ``learning_rate_drop_factor``; None keeps it constant. The 2022 paper: 50 and 100.
        learning_rate_drop_factor: See above.
        adam_epsilon: Adam's epsilon (1e-8 in the reference).
        early_stopping_patience: Epochs without a better validation loss before stopping; None
            never stops early.
        mixed_precision: Compute in float16 on GPUs (bfloat16 on CPUs); weights stay float32.
        xla: Compile the training step with XLA.
        seed: Seeds weights, shuffling and augmentation.
        steps_per_epoch: Caps the steps of an epoch; None takes them all.
        save_freq: Batches between backups inside an epoch; None backs up once per epoch.
        cpu_devices: Logical CPU devices to train on when there is no GPU.
    """

    epochs: int = Field(default=100, ge=1)
    batch_size: int = Field(default=32, ge=1)
    learning_rate: float = Field(default=1e-3, gt=0)
    learning_rate_drop_epoch: int | None = Field(default=None, ge=1)
    learning_rate_drop_factor: float = Field(default=100.0, gt=1)
    adam_epsilon: float = Field(default=1e-8, gt=0)
    early_stopping_patience: int | None = Field(default=None, ge=1)
    mixed_precision: bool = False
    xla: bool = False
    seed: int = 0
    steps_per_epoch: int | None = Field(default=None, ge=1)
    save_freq: int | None = Field(default=None, ge=1)
    cpu_devices: int = Field(default=1, ge=1)


class _SettingsFile(_Settings):
    """Settings that are kept in a YAML file of their own."""

    @classmethod
    def from_yaml(cls, path: str | PathLike[str]) -> Self:
        """Reads and validates a YAML file.

        Raises:
            ConfigError: If the file is missing, no YAML mapping, or holds an unknown or invalid
                setting; the message names the setting.
        """
        path = Path(path)
        try:
            content = yaml.safe_load(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise ConfigError(
                "the configuration cannot be read",
                path=path,
                found=error.strerror,
                action="Give the path of a YAML file; configs/ holds examples.",
            ) from error
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise ConfigError(
                "the configuration is no valid YAML", path=path, found=str(error)
            ) from error
        if content is None:
            content = {}
        if not isinstance(content, dict):
            raise ConfigError(
                "the configuration is no mapping",
                path=path,
                found=type(content).__name__,
                expected="settings by name",
            )
        return cls.from_dict(content, source=path)

    @classmethod
    def from_dict(
        cls, content: dict[str, Any], *, source: str | PathLike[str] | None = None
    ) -> Self:
        """Validates a mapping; ``source`` names its file in errors.

        Raises:
            ConfigError: If a setting is unknown or invalid; the message names it.
        """
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            first = error.errors()[0]
            raise ConfigError(
                first["msg"],
                path=source,
                field=".".join(str(part) for part in first["loc"]) or None,
                found=repr(first["input"]) if first["loc"] else None,
                action="Correct this setting; docs/configuration.md lists them all.",
            ) from error

    def to_yaml(self, path: str | PathLike[str]) -> None:
        """Writes the settings, defaults included, so that a run can be repeated."""
        text = yaml.safe_dump(self.model_dump(mode="json"), sort_keys=False)
        Path(path).write_text(text, encoding="utf-8")


class ExperimentConfig(_SettingsFile):
    """Everything that defines an experiment but its data.

    Attributes:
        name: Names the experiment in MLflow.
        data: See ``DataConfig``.
        model: See ``ModelConfig``.
        loss: See ``LossConfig``.
        training: See ``TrainingConfig``.
    """

    name: str = "lstsr"
    data: DataConfig = DataConfig()
    model: ModelConfig = ModelConfig()
    loss: LossConfig = LossConfig()
    training: TrainingConfig = TrainingConfig()

    @model_validator(mode="after")
    def _no_truth_below_one_kilometre(self) -> Self:
        if self.data.task == "1km_to_250m" and self.loss.needs_fine_truth:
            guided = " or ".join(_GUIDED_LOSSES)
            raise ValueError(
                f"task 1km_to_250m has no fine LST to learn from: loss.name must be {guided}"
            )
        return self


class AugmentationConfig(_Settings):
    """How a patch of a pair is varied each time it is seen.

    Attributes:
        turns: Quarter turns and flips of the whole patch.
        lst_contrast: Standard deviation of the logarithm of the factor by which LST and truth
            alike depart from the patch's mean.
        lst_offset_kelvin: Standard deviation of what is added to LST and truth alike.
        other_contrast_share: Share of patches whose LST and truth depart from the mean by a
            factor between −1 and 1 instead, evenly drawn: by night and in other seasons LST hardly
            follows NDVI, or the other way round, and the model is to read that from the scene.
        lst_noise_kelvin: Standard deviation of the noise of each coarse pixel; LST alone.
        ndvi_contrast: As ``lst_contrast``, of NDVI.
        ndvi_offset: Standard deviation of what is added to NDVI.
        ndvi_noise: Standard deviation of the noise of each NDVI pixel.
        ndvi_shift_pixels: Standard deviation, along either axis, of the shift of NDVI in fine
            pixels, as imperfect registration leaves it.
        ndvi_shift_share: Share of patches whose NDVI is shifted.
        cloud_share: Share of patches with clouds put into LST.
        ndvi_gap_share: Share of patches with gaps put into NDVI.
        ndvi_absent_share: Share of patches without any NDVI, from which the model learns what to
            do with LST alone.
        gap_cover: Least and largest part of a patch that clouds or gaps put into it cover.
    """

    turns: bool = True
    lst_contrast: float = Field(default=0.2, ge=0)
    lst_offset_kelvin: float = Field(default=5.0, ge=0)
    other_contrast_share: float = Field(default=0.15, ge=0, le=1)
    lst_noise_kelvin: float = Field(default=0.0, ge=0)
    ndvi_contrast: float = Field(default=0.1, ge=0)
    ndvi_offset: float = Field(default=0.02, ge=0)
    ndvi_noise: float = Field(default=0.0, ge=0)
    ndvi_shift_pixels: float = Field(default=0.3, ge=0)
    ndvi_shift_share: float = Field(default=0.0, ge=0, le=1)
    cloud_share: float = Field(default=0.15, ge=0, le=1)
    ndvi_gap_share: float = Field(default=0.1, ge=0, le=1)
    ndvi_absent_share: float = Field(default=0.05, ge=0, le=1)
    gap_cover: tuple[float, float] = (0.05, 0.4)

    @field_validator("gap_cover")
    @classmethod
    def _part(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] < 1:
            raise ValueError("must be two parts of 1, the smaller first")
        return value


class PretrainTrainingConfig(_Settings):
    """How the guided network is trained on pairs.

    Attributes:
        steps: Optimiser steps on the pairs.
        batch_size: Patches per step.
        learning_rate: AdamW's rate after the warm-up; it falls along a cosine.
        final_learning_rate_share: Part of ``learning_rate`` at the end.
        warmup_steps: Steps in which the rate rises from a tenth; at most half of all.
        weight_decay: AdamW's.
        clip_norm: Longest gradient, of each weight tensor.
        ema_momentum: The model keeps the exponential moving average of its weights.
        std_weight: Weight of the likelihood from which the standard deviation is learnt.
        patch_size: Coarse pixels along a patch's side.
        min_valid_share: Part of a patch's fine pixels that have truth, at least.
        simulated_steps: Steps on simulated scenes before; 0 leaves them out.
        simulated_scenes: Simulated scenes for those steps.
        seed: Seeds weights, patches and their variation.
    """

    steps: int = Field(default=1600, ge=1)
    batch_size: int = Field(default=8, ge=1)
    learning_rate: float = Field(default=2e-3, gt=0)
    final_learning_rate_share: float = Field(default=0.01, ge=0, le=1)
    warmup_steps: int = Field(default=100, ge=0)
    weight_decay: float = Field(default=1e-4, ge=0)
    clip_norm: float = Field(default=1.0, gt=0)
    ema_momentum: float = Field(default=0.995, ge=0, lt=1)
    std_weight: float = Field(default=0.1, ge=0)
    patch_size: int = Field(default=24, ge=2)
    min_valid_share: float = Field(default=0.3, gt=0, le=1)
    simulated_steps: int = Field(default=0, ge=0)
    simulated_scenes: int = Field(default=16, ge=1)
    seed: int = 0


class PretrainConfig(_SettingsFile):
    """Everything that defines the pretraining of the guided network but its pairs.

    Attributes:
        name: Names the experiment in MLflow.
        folds: Parts of the pairs, by place, each of which is predicted by a model that has seen
            only the others.
        model: See ``GuidedModelConfig``.
        augmentation: See ``AugmentationConfig``.
        training: See ``PretrainTrainingConfig``.
    """

    name: str = "lstsr-guided"
    folds: int = Field(default=4, ge=2)
    model: GuidedModelConfig = GuidedModelConfig()
    augmentation: AugmentationConfig = AugmentationConfig()
    training: PretrainTrainingConfig = PretrainTrainingConfig()
