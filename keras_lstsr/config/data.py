"""Settings of the data: how batches are made from records."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, field_validator, model_validator

from keras_lstsr.config.settings import Settings

Task = Literal["4km_to_1km", "1km_to_250m", "4km_to_1km_to_250m"]
BOTH_STEPS = "4km_to_1km_to_250m"
Share = Annotated[float, Field(ge=0, le=1)]


class AugmentationConfig(Settings):
    """How a sample is varied each time it is seen, beyond turns and flips.

    Attributes:
        lst_contrast: Standard deviation of the logarithm of the factor by which LST and truth
            alike depart from the sample's mean.
        lst_offset_kelvin: Standard deviation of what is added to LST and truth alike.
        other_contrast_share: Share of samples whose LST and truth depart from the mean by a
            factor between −1 and 1 instead, evenly drawn: by night and in other seasons LST hardly
            follows its guide, or the other way round, and the model is to read that from the scene.
        lst_noise_kelvin: Standard deviation of the noise of each coarse pixel; LST alone.
        guide_contrast: As ``lst_contrast``, of each guide.
        guide_offset: Standard deviation of what is added to a guide, in its unit.
        guide_noise: Standard deviation of the noise of each of a guide's pixels, in its unit.
        guide_shift_pixels: Standard deviation, along either axis, of the shift of a guide in fine
            pixels, as imperfect registration leaves it.
        guide_shift_share: Share of samples whose guide is shifted.
        cloud_share: Share of samples with clouds put into LST.
        guide_gap_share: Share of samples with gaps put into a guide.
        guide_scatter_share: Share of samples with gaps of single pixels scattered over a guide.
        guide_absent_share: Share of samples without a guide, each guide on its own, from which the
            model learns what to do without it: a number, or numbers by the guides' names, 0 for
            those that are not named.
        all_absent_share: Share of samples without any guide.
        decoy_share: Share of the crops of degraded samples whose guides are those of a random crop
            of other ground: the model is to read from the scene whether guides tell anything.
            Guides that are missing throughout stay so.
        gap_cover: Least and largest part of a sample that clouds or gaps put into it cover.
        clip_guides: Whether varied guides are cut to their valid range, e.g. shares to 0 to 1.
    """

    lst_contrast: float = Field(default=0.2, ge=0)
    lst_offset_kelvin: float = Field(default=5.0, ge=0)
    other_contrast_share: float = Field(default=0.0, ge=0, le=1)
    lst_noise_kelvin: float = Field(default=0.0, ge=0)
    guide_contrast: float = Field(default=0.1, ge=0)
    guide_offset: float = Field(default=0.02, ge=0)
    guide_noise: float = Field(default=0.0, ge=0)
    guide_shift_pixels: float = Field(default=0.3, ge=0)
    guide_shift_share: float = Field(default=0.0, ge=0, le=1)
    cloud_share: float = Field(default=0.15, ge=0, le=1)
    guide_gap_share: float = Field(default=0.1, ge=0, le=1)
    guide_scatter_share: float = Field(default=0.0, ge=0, le=1)
    guide_absent_share: Share | dict[str, Share] = 0.1
    all_absent_share: float = Field(default=0.0, ge=0, le=1)
    decoy_share: float = Field(default=0.0, ge=0, le=1)
    gap_cover: tuple[float, float] = (0.05, 0.4)
    clip_guides: bool = False

    def absent_share(self, guide: str) -> float:
        """Share of samples without that guide."""
        shares = self.guide_absent_share
        return shares.get(guide, 0.0) if isinstance(shares, dict) else shares

    @field_validator("gap_cover")
    @classmethod
    def _part(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not 0 <= value[0] <= value[1] < 1:
            raise ValueError("must be two numbers from 0 to 1, the smaller first")
        return value


class DataConfig(Settings):
    """How batches are made from records.

    Attributes:
        task: ``"4km_to_1km"`` degrades LST by norm-L4 and learns to undo it (the 2022 paper);
            ``"1km_to_250m"`` feeds 1 km LST and learns from the records' fine truth, or, with a
            loss that needs none, from the loss alone (the report); ``"4km_to_1km_to_250m"`` draws
            crops of both steps, for losses that learn the second one without truth.
        augment: Flip and turn training samples by quarter turns, all rasters alike.
        shuffle_buffer: Samples held for shuffling; 0 keeps the order of the shards. Does not
            matter where crops are drawn.
        cache: Keep decoded samples in memory.
        crop_pixels: LST pixels of the records along the side of the crops that are drawn at random
            from the training samples; None takes samples whole. In ``"4km_to_1km_to_250m"`` it is
            pixels of the input of either step, of 4 km or of 1 km.
        min_valid_share: Part of a crop's target pixels that have a value, at least.
        degraded_share: Share of the crops that are drawn from samples whose LST was made from
            their own fine truth, where there are such; None lets all samples count alike.
        group_power: Among degraded samples, a group of those that share ground is drawn with a
            probability proportional to this power of the number of its crops: 1 lets all crops
            count alike, 0 all groups. Crops of one group, and observed ones, always count alike.
        coarse_share: Share of the crops that are of the step from 4 km to 1 km, in
            ``"4km_to_1km_to_250m"``.
        footprint_pixels: Width of the footprint with which LST is degraded from 1 km to 4 km: full
            width at half maximum of a Gaussian, in pixels of 4 km, before the mean over the pixel;
            None is norm-L4, the pixel's own square.
        optional_guides: Guides of the model that the records may lack; they are missing throughout
            then.
        degraded_spread: Whether degraded samples teach the standard deviation, too; their errors
            are smaller than those between two instruments.
        variation: How crops are varied; None leaves them as they are.
        licences: Under which the data may be used, for the model's card: of ``"observed"`` LST,
            guides and truth, and of ``"degraded"`` fine LST.
    """

    task: Task = "4km_to_1km"
    augment: bool = True
    shuffle_buffer: int = Field(default=2048, ge=0)
    cache: bool = False
    crop_pixels: int | None = Field(default=None, ge=2)
    min_valid_share: float = Field(default=0.3, gt=0, le=1)
    degraded_share: float | None = Field(default=None, ge=0, lt=1)
    group_power: float = Field(default=1.0, ge=0, le=1)
    coarse_share: float = Field(default=0.5, ge=0, le=1)
    footprint_pixels: float | None = Field(default=None, gt=0)
    optional_guides: tuple[str, ...] = ()
    degraded_spread: bool = False
    variation: AugmentationConfig | None = None
    licences: dict[Literal["observed", "degraded"], str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _share_of_crops(self) -> Self:
        for name in ("degraded_share", "variation"):
            if getattr(self, name) is not None and self.crop_pixels is None:
                raise ValueError(f"{name} applies to crops: set crop_pixels, too")
        if self.task == BOTH_STEPS and self.crop_pixels is None:
            raise ValueError(f"task {self.task} draws crops: set crop_pixels, too")
        if self.task == BOTH_STEPS and self.degraded_share is not None:
            raise ValueError(f"degraded_share does not apply to task {self.task}")
        if self.group_power != 1 and self.crop_pixels is None:
            raise ValueError("group_power applies to crops: set crop_pixels, too")
        return self
