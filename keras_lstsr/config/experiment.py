"""Settings of an experiment: data, model, loss and training."""

from __future__ import annotations

from typing import Any, Literal, Self

from pydantic import Field, ValidationInfo, field_validator, model_validator

from keras_lstsr.config.settings import Settings, SettingsFile

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


class DataConfig(Settings):
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


class ModelConfig(Settings):
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


class TrainingConfig(Settings):
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


class ExperimentConfig(SettingsFile):
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
