"""What the batches of a training hold, taken from the settings of data, network and loss."""

from __future__ import annotations

from dataclasses import dataclass

from keras_lstsr.config import AugmentationConfig, ExperimentConfig, Task
from keras_lstsr.errors import ConfigError

SPREAD = "spread"
"""Channel of the target: 1 where the sample teaches how far two instruments differ, else 0."""


@dataclass(frozen=True)
class BatchSettings:
    """What the batches hold.

    Attributes:
        task: ``"4km_to_1km"``: the input is LST degraded by norm-L4, the target LST itself;
            ``"1km_to_250m"``: the input is LST, the target the fine truth (see ``fine_truth``).
        batch_size: Samples per batch.
        model_guides: Guides that the model takes, besides ``lst_kelvin``.
        target_channels: Channels of the target beside LST: names of guides, or ``"spread"``.
        fine_truth: Of ``1km_to_250m``: whether channel 0 of the target is the records' truth; else
            it is the input with each pixel repeated.
        crop_pixels: LST pixels of the records along the side of crops that are drawn at random in
            training; None takes samples whole.
        min_valid_share: Part of a crop's target pixels that have a value, at least.
        degraded_share: Share of the crops that are drawn from samples whose LST was made from
            their own truth, where there are such; None lets all samples count alike.
        variation: How crops are varied; None leaves them as they are.
        turns: Turn and flip training samples, all rasters alike.
        shuffle_buffer: Samples held for shuffling; 0 keeps the order of the shards. Does not
            matter where crops are drawn.
        cache: Keep decoded samples in memory.
    """

    task: Task = "4km_to_1km"
    batch_size: int = 32
    model_guides: tuple[str, ...] = ()
    target_channels: tuple[str, ...] = ()
    fine_truth: bool = False
    crop_pixels: int | None = None
    min_valid_share: float = 0.3
    degraded_share: float | None = None
    variation: AugmentationConfig | None = None
    turns: bool = True
    shuffle_buffer: int = 2048
    cache: bool = False

    @classmethod
    def of(cls, config: ExperimentConfig) -> BatchSettings:
        """Returns the settings of the training batches of an experiment."""
        data, needs = config.data, config.loss.needs
        return cls(
            task=data.task,
            batch_size=config.training.batch_size,
            model_guides=tuple(config.model.guides),
            target_channels=needs.target_channels,
            fine_truth=needs.fine_truth and data.task == "1km_to_250m",
            crop_pixels=data.crop_pixels,
            min_valid_share=data.min_valid_share,
            degraded_share=data.degraded_share,
            variation=data.variation,
            turns=data.augment,
            shuffle_buffer=data.shuffle_buffer,
            cache=data.cache,
        )

    @property
    def guides(self) -> tuple[str, ...]:
        """The guides that model or target take, each once."""
        wanted = dict.fromkeys((*self.model_guides, *self.target_channels))
        return tuple(name for name in wanted if name != SPREAD)

    def crop_side(self, factor: int) -> int:
        """Returns the input pixels along a crop's side.

        Args:
            factor: Fine pixels along a coarse pixel's side.

        Raises:
            ConfigError: If the crop holds no whole number of input pixels.
        """
        assert self.crop_pixels is not None
        if self.task == "1km_to_250m":
            return self.crop_pixels
        if self.crop_pixels % factor:
            raise ConfigError(
                "a crop holds whole pixels of the input",
                field="data.crop_pixels",
                found=self.crop_pixels,
                expected=f"a multiple of {factor} for task {self.task}",
            )
        return self.crop_pixels // factor
