"""Crops keep the physics of what they are cut from."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy import ndimage

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.arrays import Rasters, filled_up, task_view, turned
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.scene_sample import nested
from keras_lstsr.records.variation import CropBatches, CropSampler, varied
from keras_lstsr.testing.samples import made_scene

# Nothing varied: single settings are switched on from here.
STILL = {name: 0.0 for name in AugmentationConfig.model_fields if name != "gap_cover"}


def settings(**changed: object) -> AugmentationConfig:
    return AugmentationConfig(**{**STILL, **changed})


PARTS = ("lst_kelvin", "ndvi", "truth_kelvin")


def part(crop: Rasters, name: str) -> np.ndarray:
    return crop.guides[name] if name == "ndvi" else getattr(crop, name)


def same(left: Rasters, right: Rasters) -> bool:
    return all(
        np.allclose(part(left, name), part(right, name), atol=1e-3, equal_nan=True)
        for name in PARTS
    )


def rasters(coarse_pixels: int, seed: int = 0, origin: str = "degraded") -> Rasters:
    """Rasters whose truth lies in its place; what tells them apart is asked of its origin."""
    scene = replace(made_scene(coarse_pixels=coarse_pixels, seed=seed), origin="degraded")
    sample = replace(nested(scene, 4), origin=origin)
    asked = BatchSettings(task="1km_to_250m", fine_truth=True, model_guides=("ndvi",))
    return task_view(sample, asked)


@pytest.fixture
def pair() -> Rasters:
    made = rasters(20)
    made.truth_kelvin[:, :32] = np.nan
    return made


@pytest.fixture
def crop(pair) -> Rasters:
    return CropSampler([pair], 12, 0.3, 4).draw(np.random.default_rng(3))


def test_exactly_the_crops_with_enough_truth_can_be_drawn(pair):
    sampler = CropSampler([pair], 12, 0.5, 4)
    # Columns 8 and on have truth: half of a crop of 12 begins at column 2, and there are 9 × 7.
    assert len(sampler) == 9 * 7
    rng = np.random.default_rng(0)
    shares = set()
    for _ in range(300):
        drawn = sampler.draw(rng)
        assert drawn.lst_kelvin.shape == (12, 12)
        assert drawn.guides["ndvi"].shape == drawn.truth_kelvin.shape == (48, 48)
        shares.add(round(float(np.isfinite(drawn.truth_kelvin).mean()), 3))
    assert min(shares) == 0.5 and max(shares) == 1.0
    # All three show the same ground.
    np.testing.assert_allclose(
        block_mean(320 - 25 * drawn.guides["ndvi"], 4), drawn.lst_kelvin, atol=1e-2
    )


def test_truth_under_a_cloud_does_not_count(pair):
    pair.lst_kelvin[:, 12:] = np.nan
    with pytest.raises(ConfigError, match="enough truth"):
        CropSampler([pair], 12, 0.5, 4)


def test_small_samples_are_filled_up():
    small = rasters(8)
    drawn = CropSampler([small], 12, 0.3, 4).draw(np.random.default_rng(0))
    assert np.isnan(drawn.lst_kelvin[8:]).all() and np.isnan(drawn.truth_kelvin[:, 32:]).all()
    np.testing.assert_array_equal(drawn.guides["ndvi"][:32, :32], small.guides["ndvi"])


def test_without_settings_nothing_changes(crop):
    assert same(varied(crop, settings(), np.random.default_rng(0)), crop)


def test_turns_turn_all_three_alike(crop):
    seen = set()
    for number in range(8):
        other = turned(crop, number)
        np.testing.assert_allclose(
            block_mean(320 - 25 * other.guides["ndvi"], 4), other.lst_kelvin, atol=1e-2
        )
        valid = np.isfinite(other.truth_kelvin)
        np.testing.assert_allclose(
            (320 - 25 * other.guides["ndvi"])[valid], other.truth_kelvin[valid], atol=1e-2
        )
        seen.add(tuple(np.round(other.lst_kelvin[0, :3], 3)))
    assert len(seen) == 8


@pytest.mark.parametrize("name", ["lst_contrast", "lst_offset_kelvin"])
def test_lst_and_truth_vary_together(crop, name):
    other = varied(crop, settings(**{name: 0.5}), np.random.default_rng(1))
    assert not np.allclose(other.lst_kelvin, crop.lst_kelvin, atol=0.01)
    np.testing.assert_allclose(other.guides["ndvi"], crop.guides["ndvi"], atol=1e-6)
    # One line leads from before to after, for LST and truth alike.
    slope, offset = np.polyfit(crop.lst_kelvin.ravel(), other.lst_kelvin.ravel(), 1)
    expected = slope * crop.truth_kelvin + offset
    np.testing.assert_allclose(other.truth_kelvin, expected, atol=2e-2)
    if name == "lst_contrast":
        assert other.lst_kelvin.mean() == pytest.approx(crop.lst_kelvin.mean(), abs=1e-2)
    else:
        assert slope == pytest.approx(1, abs=1e-4)


@pytest.mark.parametrize(
    ("changed", "spread"), [({"lst_noise_kelvin": 0.15}, 0.15), ({"guide_noise": 0.01}, 0.01)]
)
def test_noise_is_the_inputs_alone(crop, changed, spread):
    other = varied(crop, settings(**changed), np.random.default_rng(2))
    np.testing.assert_allclose(other.truth_kelvin, crop.truth_kelvin, atol=1e-3)
    name = "lst_kelvin" if "lst_noise_kelvin" in changed else "ndvi"
    difference = part(other, name) - part(crop, name)
    assert difference.std() == pytest.approx(spread, rel=0.2)


def test_ndvi_varies_alone(crop):
    other = varied(crop, settings(guide_contrast=0.3, guide_offset=0.1), np.random.default_rng(2))
    np.testing.assert_allclose(other.lst_kelvin, crop.lst_kelvin, atol=1e-3)
    slope, offset = np.polyfit(crop.guides["ndvi"].ravel(), other.guides["ndvi"].ravel(), 1)
    np.testing.assert_allclose(
        other.guides["ndvi"], slope * crop.guides["ndvi"] + offset, atol=1e-5
    )
    assert abs(slope - 1) > 0.01 and other.guides["ndvi"].mean() != pytest.approx(
        crop.guides["ndvi"].mean()
    )


def test_ndvi_is_shifted_in_its_share_of_crops(crop):
    asked = settings(guide_shift_pixels=0.3, guide_shift_share=0.5)
    moved = [
        not np.allclose(
            varied(crop, asked, np.random.default_rng(k)).guides["ndvi"], crop.guides["ndvi"]
        )
        for k in range(100)
    ]
    assert 30 < sum(moved) < 70


@pytest.mark.parametrize(
    ("share", "changed"),
    [("cloud_share", "lst_kelvin"), ("guide_gap_share", "ndvi"), ("guide_absent_share", "ndvi")],
)
def test_gaps_are_blobs_in_one_input(crop, share, changed):
    covers = []
    for seed in range(20):
        other = varied(crop, settings(**{share: 1.0}), np.random.default_rng(seed))
        for name in {*PARTS} - {changed}:
            np.testing.assert_array_equal(np.isnan(part(other, name)), np.isnan(part(crop, name)))
        gaps = np.isnan(part(other, changed))
        covers.append(gaps.mean())
        if share != "guide_absent_share":
            # Blobs, not salt and pepper: hardly a missing pixel has no missing neighbour.
            alone = gaps & (ndimage.uniform_filter(gaps.astype(float), 3) < 1.5 / 9)
            assert alone.sum() <= 0.1 * gaps.sum()
    if share == "guide_absent_share":
        assert set(covers) == {1.0}
    else:
        assert min(covers) >= 0.03 and max(covers) <= 0.42 and np.std(covers) > 0.03


def test_guides_are_absent_by_shares_of_their_own(crop):
    both = replace(crop, guides={**crop.guides, "water": np.full_like(crop.guides["ndvi"], 0.5)})
    asked = settings(guide_absent_share={"water": 1.0})
    other = varied(both, asked, np.random.default_rng(0))
    assert np.isnan(other.guides["water"]).all()
    assert np.isfinite(other.guides["ndvi"]).all()


def test_degraded_crops_teach_the_spread_where_they_are_to():
    samples = [ground(0, "a"), ground(1, "b")]
    for teaches in (False, True):
        asked = replace(ASKED, target_channels=("spread",), degraded_spread=teaches)
        target = CropBatches(samples, asked, 4, seed=0).batch(0)[1]
        assert set(np.unique(target[..., 1])) == {float(teaches)}


def test_without_truth_the_input_counts():
    made = replace(rasters(16), truth_kelvin=None)
    made.lst_kelvin[:, 12:] = np.nan
    # Of 8 columns half are there up to column 8, and rows do not matter.
    assert len(CropSampler([made], 8, 0.5, 4)) == 9 * 9
    assert len(CropSampler([made], 8, 0.75, 4)) == 9 * 7
    crop = CropSampler([made], 8, 0.5, 4).draw(np.random.default_rng(0))
    assert crop.truth_kelvin is None and crop.target(4).shape == (32, 32)
    other = varied(crop, settings(lst_offset_kelvin=3.0), np.random.default_rng(0))
    assert other.truth_kelvin is None and not np.allclose(other.lst_kelvin, crop.lst_kelvin)


ASKED = BatchSettings(
    task="1km_to_250m",
    batch_size=4,
    model_guides=("ndvi",),
    target_channels=("spread",),
    fine_truth=True,
    crop_pixels=6,
    degraded_share=0.25,
)


def test_places_and_kinds_are_drawn_by_their_shares():
    """In distribution: every place of observed samples alike, a quarter from the degraded ones."""
    observed = [rasters(8, 0, "observed"), rasters(10, 1, "observed")]
    degraded = [rasters(7, 2), rasters(20, 3)]
    # Every place is told by the mean of its crop's LST, whatever its turn.
    places = {}
    for number, sample in enumerate([*observed, *degraded]):
        height = sample.lst_kelvin.shape[0]
        for row in range(height - 5):
            for column in range(height - 5):
                crop = sample.lst_kelvin[row : row + 6, column : column + 6]
                places[round(float(crop.astype(np.float64).mean()), 4)] = number
    assert len(places) == 9 + 25 + 4 + 225
    batches = CropBatches([degraded[0], *observed, degraded[1]], ASKED, 4, seed=3)
    counts = np.zeros(4)
    drawn = set()
    for number in range(1000):
        inputs, target = batches.batch(number)
        for lst, wanted in zip(inputs["lst_kelvin"][..., 0], target, strict=True):
            mean = round(float(lst.astype(np.float64).mean()), 4)
            drawn.add(mean)
            counts[places[mean]] += 1
            assert (wanted[..., 1] == (places[mean] < 2)).all()
    # Standard deviation of a count of 4000 draws with these shares: at most 32.
    expected = 4000 * np.array([0.75 * 9 / 34, 0.75 * 25 / 34, 0.25 * 4 / 229, 0.25 * 225 / 229])
    np.testing.assert_allclose(counts, expected, atol=110)
    assert len(drawn & {mean for mean, number in places.items() if number < 2}) == 34


def test_without_a_share_all_samples_count_alike_and_one_kind_alone_is_no_matter():
    both = [rasters(8, 0, "observed"), rasters(8, 1)]
    alike = CropBatches(both, replace(ASKED, degraded_share=None), 4, seed=0)
    spread = np.mean([alike.batch(number)[1][..., 1].mean() for number in range(100)])
    assert 0.4 < spread < 0.6
    for kind in both:
        inputs, target = CropBatches([kind], ASKED, 4, seed=0).batch(0)
        assert inputs["lst_kelvin"].shape == (4, 6, 6, 1)
        assert (target[..., 1] == kind.observed).all()


def ground(seed: int, group: str, origin: str = "degraded", side: int = 8) -> Rasters:
    """Rasters of a group; LST and guide lie between two multiples of 1000 that tell the seed."""
    made = rasters(side, seed, origin)
    return replace(
        made,
        lst_kelvin=made.lst_kelvin + 1000 * seed,
        guides={"ndvi": made.guides["ndvi"] + 1000 * seed},
        group=group,
    )


def seeds_of(values: np.ndarray) -> set[int]:
    """The seeds of the rasters that an input shows."""
    return set(np.unique(values[np.isfinite(values)] // 1000).astype(int).tolist())


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("degraded_share", [None, 0.5])
def test_groups_are_drawn_by_a_power_of_their_crops(power, degraded_share):
    # Places of crops: 9 and 25 of one group, 4 of another, and as many observed of its name.
    samples = [ground(0, "a"), ground(1, "a", side=10), ground(2, "b", side=7)]
    samples += [ground(3, "b", "observed", side=7)]
    asked = replace(ASKED, group_power=power, degraded_share=degraded_share)
    batches = CropBatches(samples, asked, 4, seed=0)
    counts = np.zeros(4)
    for number in range(750):
        for crop in batches.batch(number)[0]["ndvi"]:
            (seed,) = seeds_of(crop)
            counts[seed] += 1
    crops = np.array([9.0, 25.0, 4.0, 4.0])
    # The power is of degraded samples alone.
    groups = np.array([34.0**power, 4.0**power, 4.0])
    if degraded_share is None:
        groups /= groups.sum()
    else:
        groups = np.array([*(0.5 * groups[:2] / groups[:2].sum()), 0.5])
    expected = 3000 * groups[[0, 0, 1, 2]] * crops / np.array([34.0, 34.0, 4.0, 4.0])
    # Standard deviation of such a count: at most 27.
    np.testing.assert_allclose(counts, expected, atol=100)


def test_decoys_are_guides_of_other_ground_on_degraded_crops():
    samples = [ground(1, "a"), ground(2, "a"), ground(3, "b"), ground(4, "a", "observed")]
    lacking = replace(ground(5, "c"), guides={"ndvi": np.full((32, 32), np.nan, np.float32)})
    samples.append(lacking)
    group = {1: "a", 2: "a", 3: "b", 4: "observed a", 5: "c"}
    still = replace(ASKED, variation=settings(decoy_share=0.4))
    batches = CropBatches(samples, still, 4, seed=0)
    decoys, crops, seen = 0, 0, set()
    for number in range(300):
        inputs, target = batches.batch(number)
        rows = zip(inputs["lst_kelvin"], inputs["ndvi"], target[..., 1], strict=True)
        for lst, guide, observed in rows:
            (own,) = seeds_of(lst)
            shown = seeds_of(guide)
            if own == 4 or own == 5:
                assert shown == ({4} if own == 4 else set()) and (observed == (own == 4)).all()
                continue
            crops += 1
            if shown != {own}:
                decoys += 1
                # A decoy's own gaps come with it.
                assert all(group[own] != group[other] for other in shown)
                seen |= shown or {5}
    assert abs(decoys / crops - 0.4) < 4 * (0.24 / crops) ** 0.5
    assert seen == {1, 2, 3, 4, 5}


def test_decoys_need_other_ground():
    asked = replace(ASKED, variation=settings(decoy_share=0.4))
    with pytest.raises(ConfigError, match="decoy_share"):
        CropBatches([ground(1, "a"), ground(2, "a")], asked, 4, seed=0)


def test_scattered_gaps_are_single_pixels(crop):
    made = replace(crop, guides={**crop.guides, "water": crop.guides["ndvi"]})
    both = 0
    for seed in range(60):
        asked = settings(guide_scatter_share=0.5, gap_cover=(0.1, 0.2))
        other = varied(made, asked, np.random.default_rng(seed))
        np.testing.assert_array_equal(other.lst_kelvin, crop.lst_kelvin)
        gaps = [np.isnan(guide) for guide in other.guides.values()]
        for each in gaps:
            # Standard deviation of a share of 2304 pixels: below 0.01.
            assert not each.any() or 0.07 < each.mean() < 0.23
            if each.any():
                beside = (each[1:] & each[:-1]).sum() / each[1:].sum()
                assert beside < 0.3, "a neighbour is missing no more often than any other pixel"
        both += all(each.any() for each in gaps)
    assert 5 <= both <= 25, "each guide on its own, in half of the samples"


def test_all_guides_are_absent_together(crop):
    made = replace(crop, guides={**crop.guides, "water": crop.guides["ndvi"]})
    counts = {True: 0, False: 0}
    for seed in range(100):
        other = varied(made, settings(all_absent_share=0.5), np.random.default_rng(seed))
        absent = {bool(np.isnan(guide).all()) for guide in other.guides.values()}
        (together,) = absent
        counts[together] += 1
        assert together or same(other, crop)
    assert min(counts.values()) > 30


def test_guides_stay_within_their_range_if_wanted(crop):
    made = replace(
        crop, guides={"water": np.round(crop.guides["ndvi"]), "own": 9 * crop.lst_kelvin}
    )
    asked = {"guide_noise": 0.2, "guide_offset": 0.3}
    free, clipped = (
        varied(made, settings(**asked, clip_guides=clip), np.random.default_rng(0)).guides
        for clip in (False, True)
    )
    assert free["water"].min() < 0 and free["water"].max() > 1
    np.testing.assert_array_equal(clipped["water"], free["water"].clip(0, 1))
    # What is not registered has no range.
    np.testing.assert_array_equal(clipped["own"], free["own"])


# Of batches 0 and 5 without variation, with its defaults, and with all that there was at first:
# means of LST, NDVI and truth, and the part of NDVI that is missing.
FORMER = [
    [306.38092, 0.54476291, 306.38092, 0.0],
    [306.3385, 0.54646027, 306.3385, 0.0],
    [304.5235, 0.5553602, 304.5235, 0.022569444],
    [310.92899, 0.53455865, 310.05655, 0.077690972],
    [304.27432, 0.55482477, 304.5235, 0.022569444],
    [310.93686, 0.53333831, 310.05655, 0.14366319],
]


def test_batches_of_former_settings_stay_what_they_were():
    """The weights that are shipped can be trained anew only if nothing else is drawn."""
    samples = [rasters(8, 0, "observed"), rasters(12, 1), rasters(9, 2)]
    every = AugmentationConfig(
        other_contrast_share=0.2,
        lst_noise_kelvin=0.05,
        guide_noise=0.01,
        guide_shift_share=0.5,
        cloud_share=0.3,
        guide_gap_share=0.3,
        guide_absent_share=0.1,
    )
    found = []
    for variation in (None, AugmentationConfig(), every):
        batches = CropBatches(samples, replace(ASKED, variation=variation), 4, seed=7)
        for number in (0, 5):
            inputs, target = batches.batch(number)
            found.append([np.nanmean(inputs["lst_kelvin"]), np.nanmean(inputs["ndvi"])])
            found[-1] += [np.nanmean(target[..., 0]), np.isnan(inputs["ndvi"]).mean()]
    np.testing.assert_allclose(found, FORMER, rtol=1e-5)


def test_a_batch_depends_on_seed_and_number_alone():
    samples = [rasters(8, 0, "observed"), rasters(8, 1)]
    asked = replace(ASKED, variation=AugmentationConfig())
    first, again = (CropBatches(samples, asked, 4, seed=1) for _ in range(2))
    for number in (3, 0, 3):
        for one, other in zip(
            (first.batch(number)[0]["ndvi"], first.batch(number)[1]),
            (again.batch(number)[0]["ndvi"], again.batch(number)[1]),
            strict=True,
        ):
            np.testing.assert_array_equal(one, other)
    other = CropBatches(samples, asked, 4, seed=2)
    assert not np.array_equal(first.batch(0)[1], other.batch(0)[1], equal_nan=True)


def test_small_rasters_grow_at_the_bottom_and_on_the_right():
    grown = filled_up(rasters(8), 10, 8, 4)
    assert grown.lst_kelvin.shape == (10, 8) and grown.truth_kelvin.shape == (40, 32)
    assert (
        np.isnan(grown.guides["ndvi"][32:]).all() and np.isfinite(grown.guides["ndvi"][:32]).all()
    )
    assert filled_up(grown, 4, 4, 4).lst_kelvin is grown.lst_kelvin
