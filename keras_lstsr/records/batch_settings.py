"""What the batches of a training hold, taken from the settings of data, network and loss."""

from __future__ import annotations

from dataclasses import dataclass, fields, replace

from keras_lstsr.config import AugmentationConfig, ExperimentConfig, Task
from keras_lstsr.config.data import BOTH_STEPS
from keras_lstsr.errors import ConfigError

SPREAD = "spread"
"""Channel of the target: 1 where the sample teaches how far two instruments differ, else 0."""

TRULY_FINE = "truly_fine"
"""Channel of the target: 1 where it is truly fine, 0 where it repeats the input."""

_TOLD = (SPREAD, TRULY_FINE)


@dataclass(frozen=True)
class BatchSettings:
    """What the batches hold. What is not told here is as in ``DataConfig``.

    Attributes:
        task: ``"4km_to_1km"``: the input is LST degraded by norm-L4, the target LST itself;
            ``"1km_to_250m"``: the input is LST, the target the fine truth (see ``fine_truth``);
            ``"4km_to_1km_to_250m"``: crops of either.
        batch_size: Samples per batch.
        model_guides: Guides that the model takes, besides ``lst_kelvin``.
        target_channels: Channels of the target beside LST: names of guides, ``"spread"`` or
            ``"truly_fine"``.
        fine_truth: Of ``1km_to_250m``: whether channel 0 of the target is the records' truth; else
            it is the input with each pixel repeated.
    """

    task: Task = "4km_to_1km"
    batch_size: int = 32
    model_guides: tuple[str, ...] = ()
    target_channels: tuple[str, ...] = ()
    fine_truth: bool = False
    crop_pixels: int | None = None
    min_valid_share: float = 0.3
    degraded_share: float | None = None
    group_power: float = 1.0
    coarse_share: float = 0.5
    footprint_pixels: float | None = None
    optional_guides: tuple[str, ...] = ()
    degraded_spread: bool = False
    variation: AugmentationConfig | None = None
    augment: bool = True
    shuffle_buffer: int = 2048
    cache: bool = False

    @classmethod
    def of(cls, config: ExperimentConfig) -> BatchSettings:
        """Returns the settings of the training batches of an experiment."""
        data, needs = dict(config.data), config.loss.needs
        return cls(
            batch_size=config.training.batch_size,
            model_guides=tuple(config.model.guides),
            target_channels=needs.target_channels,
            fine_truth=needs.fine_truth and config.data.task == "1km_to_250m",
            **{each.name: data[each.name] for each in fields(cls) if each.name in data},
        )

    @property
    def guides(self) -> tuple[str, ...]:
        """The guides that model or target take, each once."""
        wanted = dict.fromkeys((*self.model_guides, *self.target_channels))
        return tuple(name for name in wanted if name not in _TOLD)

    @property
    def steps(self) -> tuple[BatchSettings, ...]:
        """The settings of each step of the task: one, but for ``"4km_to_1km_to_250m"``."""
        if self.task != BOTH_STEPS:
            return (self,)
        return replace(self, task="1km_to_250m"), replace(self, task="4km_to_1km")

    @property
    def target_is_fine(self) -> bool:
        """Whether the target of whole samples is truly fine."""
        return self.fine_truth or self.task == "4km_to_1km"

    def crop_side(self, factor: int) -> int:
        """Returns the input pixels along a crop's side; a ConfigError if they are not whole."""
        assert self.crop_pixels is not None
        if self.task != "4km_to_1km":
            return self.crop_pixels
        expected = f"a multiple of {factor} for task {self.task}"
        whole, problem = self.crop_pixels % factor == 0, "a crop holds whole pixels of the input"
        ConfigError.unless(whole, "data.crop_pixels", self.crop_pixels, expected, problem)
        return self.crop_pixels // factor
