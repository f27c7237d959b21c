"""Batches from records: the right numbers, the same under a seed, rasters moved jointly."""

from __future__ import annotations

import json
import re
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.config import AugmentationConfig, ExperimentConfig
from keras_lstsr.errors import ConfigError, RecordsError
from keras_lstsr.grids.resample import block_mean, norm_l4, upsample_nearest
from keras_lstsr.records import dataset as ds
from keras_lstsr.records.arrays import Rasters, task_view, turned
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.feed import SampleFeed
from keras_lstsr.records.reading import (
    check_split,
    decoded_split,
    iterate_samples,
    split_files,
)
from keras_lstsr.records.schema import load_metadata
from keras_lstsr.records.variation import CropBatches
from keras_lstsr.testing.records import vegetated_sample

COARSE_TASK = BatchSettings(task="4km_to_1km", target_channels=("ndvi",))
FINE_TASK = BatchSettings(task="1km_to_250m", target_channels=("ndvi",))
TASKS = [COARSE_TASK, FINE_TASK]
PLAIN = BatchSettings()


def sized(settings, batch_size, **changed):
    return replace(settings, batch_size=batch_size, **changed)


def batches(dataset):
    return [
        ({name: value.numpy() for name, value in inputs.items()}, target.numpy())
        for inputs, target in dataset
    ]


def whole_split(folder, settings):
    """The training split as one batch, in NumPy."""
    return SampleFeed(folder, "train", sized(settings, 100), training=False)[0]


def equal(first, second):
    return np.array_equal(first, second, equal_nan=True)


def same(first, second):
    return len(first) == len(second) and all(
        equal(a[0]["lst_kelvin"], b[0]["lst_kelvin"]) and equal(a[1], b[1])
        for a, b in zip(first, second, strict=True)
    )


def test_four_to_one_kilometre(records):
    folder = records()
    samples = {p.place: p for p in iterate_samples(folder, "validation")}
    dataset = ds.make_dataset(folder, "validation", sized(COARSE_TASK, 3), training=False)
    found = batches(dataset)
    assert [len(target) for _, target in found] == [3, 1]
    target = np.concatenate([target for _, target in found])
    coarse = np.concatenate([inputs["lst_kelvin"] for inputs, _ in found])
    assert coarse.shape == (4, 4, 4, 1) and target.shape == (4, 16, 16, 2)
    for inputs, wanted in zip(coarse, target, strict=True):
        sample = samples[f"place{round(float(wanted[0, 0, 0] - 300))}"]
        np.testing.assert_array_equal(wanted[..., 0], sample.lst_kelvin)
        np.testing.assert_array_equal(inputs[..., 0], norm_l4(sample.lst_kelvin, 4))
        np.testing.assert_array_equal(wanted[..., 1], block_mean(sample.guides["ndvi"], 4))


def test_one_kilometre_to_250_metres(records):
    folder = records()
    dataset = ds.make_dataset(folder, "train", sized(FINE_TASK, 12), training=False)
    ((inputs, target),) = batches(dataset)
    assert inputs["lst_kelvin"].shape == (12, 16, 16, 1) and target.shape == (12, 64, 64, 2)
    np.testing.assert_array_equal(target[..., 0], upsample_nearest(inputs["lst_kelvin"][..., 0], 4))
    # Whatever the model upsamples to, norm-L4 of the target gives the input back.
    np.testing.assert_allclose(norm_l4(target[..., 0], 4), inputs["lst_kelvin"][..., 0], rtol=1e-7)
    # In these patches NDVI is LST's own slope: its block means tell the same coordinates.
    slope = inputs["lst_kelvin"][..., 0] - inputs["lst_kelvin"][:, :1, :1, 0]
    np.testing.assert_allclose(block_mean(target[..., 1], 4) * 64, slope, atol=1e-4)


def test_settings_are_those_of_the_experiment():
    guided = ExperimentConfig.from_dict(
        {
            "data": {"task": "1km_to_250m", "crop_pixels": 24, "degraded_share": 0.06},
            "model": {"architecture": "guided"},
            "loss": {"name": "detail"},
            "training": {"batch_size": 8},
        }
    )
    found = BatchSettings.of(guided)
    assert (found.model_guides, found.target_channels) == (("ndvi",), ("spread",))
    assert found.fine_truth and (found.batch_size, found.crop_pixels) == (8, 24)
    assert (found.guides, found.degraded_share) == (("ndvi",), 0.06)
    assert not BatchSettings.of(ExperimentConfig()).fine_truth
    assert BatchSettings.of(ExperimentConfig()).guides == ()


def test_same_seed_same_batches_and_every_pass_is_another(records):
    folder = records()
    settings = sized(COARSE_TASK, 4)

    def passes(seed):
        dataset = ds.make_dataset(folder, "train", settings, training=True, seed=seed)
        return batches(dataset), batches(dataset)

    first, second = passes(1)
    again_first, again_second = passes(1)
    other, _ = passes(2)
    assert same(first, again_first) and same(second, again_second)
    assert not same(first, second)
    assert not same(first, other)
    # Each pass holds every sample once, whatever its order.
    for found in (first, second):
        brightness = sorted(np.concatenate([t[..., 0].mean(axis=(1, 2)) for _, t in found]))
        plain = whole_split(folder, COARSE_TASK)[1][..., 0].mean(axis=(1, 2))
        np.testing.assert_allclose(brightness, sorted(plain), rtol=1e-6)


def test_without_shuffling_the_order_stays(records):
    folder = records()
    settings = sized(COARSE_TASK, 4, shuffle_buffer=0, augment=False)
    training = ds.make_dataset(folder, "train", settings, training=True)
    plain = ds.make_dataset(folder, "train", sized(COARSE_TASK, 4), training=False)
    assert same(batches(training), batches(plain))
    cached = replace(settings, cache=True)
    dataset = ds.make_dataset(folder, "train", cached, training=True)
    assert same(batches(dataset), batches(dataset))


def test_augmentation_moves_lst_and_guide_jointly(records):
    folder = records()
    dataset = ds.make_dataset(folder, "train", sized(COARSE_TASK, 12), training=True, seed=3)
    unmoved = 0
    for _ in range(3):
        ((inputs, target),) = batches(dataset)
        lst, ndvi = target[..., 0], target[..., 1]
        # NDVI × 64 and LST are the same linear function of the ground but for a constant.
        difference = lst - ndvi * 64
        np.testing.assert_allclose(difference, difference[:, :1, :1] + 0 * lst, atol=1e-3)
        np.testing.assert_array_equal(inputs["lst_kelvin"][..., 0], norm_l4(lst, 4))
        originals = whole_split(folder, COARSE_TASK)[1][..., 0]
        unmoved += sum(any(np.array_equal(one, o) for o in originals) for one in lst)
    assert 0 < unmoved < 18


def test_augmentation_takes_all_eight_symmetries_of_the_square():
    raster = np.arange(16, dtype=np.float32).reshape(4, 4)
    found = set()
    for number in range(-8, 8):
        moved = turned(Rasters(raster, {"ndvi": upsample_nearest(raster, 4)}, None), number)
        np.testing.assert_array_equal(upsample_nearest(moved.lst_kelvin, 4), moved.guides["ndvi"])
        found.add(moved.lst_kelvin.tobytes())
    expected = [np.rot90(flip, k) for flip in (raster, raster[::-1]) for k in range(4)]
    assert found == {np.ascontiguousarray(one).tobytes() for one in expected}


def test_shapes_are_known_and_a_mirrored_strategy_takes_them(records):
    import tensorflow as tf

    folder = records()
    dataset = ds.make_dataset(folder, "train", sized(COARSE_TASK, 4), training=True)
    inputs, target = dataset.element_spec
    assert inputs["lst_kelvin"].shape == (4, 4, 4, 1)
    assert target.shape == (4, 16, 16, 2)
    assert int(dataset.cardinality()) == 3
    strategy = tf.distribute.MirroredStrategy(["CPU:0"])
    distributed = strategy.experimental_distribute_dataset(dataset)
    total = 0
    for batch, _ in distributed:
        total += int(strategy.run(lambda x: tf.shape(x)[0], args=(batch["lst_kelvin"],)))
    assert total == 12


def test_last_batch(records):
    folder = records(train=10)

    def sizes(**options):
        dataset = ds.make_dataset(folder, "train", sized(COARSE_TASK, 4), **options)
        return [len(target) for _, target in dataset]

    assert sizes(training=True) == [4, 4]
    assert sizes(training=False) == [4, 4, 2]


def test_limit(records):
    assert len(list(iterate_samples(records(), "train", limit=3))) == 3


def use(folder, split="train", **changed):
    ds.make_dataset(folder, split, sized(PLAIN, 4, **changed), training=True)


def test_clear_errors(records, tmp_path):
    with pytest.raises(RecordsError, match=r"nowhere.*no records folder.*prepare"):
        use(tmp_path / "nowhere")
    with pytest.raises(RecordsError, match=r"holds no dataset\.json"):
        use(tmp_path)
    folder = records(with_ndvi=False)
    with pytest.raises(RecordsError, match=r"split test is empty.*train 12.*--split_seed"):
        use(folder, "test")
    with pytest.raises(RecordsError, match="unknown split"):
        use(folder, "training")
    with pytest.raises(RecordsError, match=r"lack NDVI.*--guide ndvi=GLOB"):
        use(folder, target_channels=("ndvi",))
    with pytest.raises(RecordsError, match=r"lack NDVI.*--guide ndvi=GLOB"):
        use(folder, model_guides=("ndvi",))
    with pytest.raises(RecordsError, match=r"no fine truth.*--truth"):
        use(folder, task="1km_to_250m", fine_truth=True)
    with pytest.raises(RecordsError, match=r"fewer samples than one batch.*12.*13"):
        ds.make_dataset(folder, "train", sized(PLAIN, 13), training=True)


def test_another_schema_is_an_error(records):
    path = records() / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": 3}))
    with pytest.raises(RecordsError, match=r"schema_version.*found 3; expected 2"):
        use(path.parent)
    path.write_text(json.dumps({**content, "counts": {"train": "many"}}))
    with pytest.raises(RecordsError, match="counts"):
        use(path.parent)
    path.write_text("{")
    with pytest.raises(RecordsError, match="cannot be read as JSON"):
        use(path.parent)


def test_version_1_is_refused_with_the_command_that_makes_it_anew(tmp_path):
    sources = [
        {"role": "lst", "path": "/data/MOD11A1.A2020152.hdf"},
        {"role": "lst", "path": "/data/MOD11A1.A2020153.hdf"},
        {"role": "ndvi", "path": "/other/ndvi.tif"},
    ]
    (tmp_path / "dataset.json").write_text(json.dumps({"schema_version": 1, "sources": sources}))
    command = "keras-lstsr prepare --input '/data/*.hdf' --guide 'ndvi=/other/*.tif' --output DIR"
    with pytest.raises(RecordsError, match=re.escape(command)):
        load_metadata(tmp_path)


def test_missing_shards_and_lost_records_are_noticed(records):
    folder = records(shards=3)
    files = split_files(folder, "train")
    content = files[1].read_bytes()
    files[1].unlink()
    with pytest.raises(RecordsError, match=r"shards are missing.*train-00001-of-00003"):
        use(folder)
    files[1].write_bytes(files[0].read_bytes()[:0])
    with pytest.raises(RecordsError, match=r"train-00001.*sha256.*dataset\.json"):
        ds.make_dataset(folder, "train", sized(PLAIN, 4), training=False)
    files[1].write_bytes(content[:-30])
    with pytest.raises(RecordsError, match=r"train-00001.*sha256.*dataset\.json"):
        list(iterate_samples(folder, "train"))


def test_metadata(records):
    metadata = load_metadata(records())
    assert metadata.counts == {"train": 12, "validation": 4, "test": 0}
    assert metadata.guides == ["ndvi"] and not metadata.has_truth
    lst = np.stack([p.lst_kelvin for p in iterate_samples(records(name="again"), "train")])
    summary = metadata.statistics["lst_kelvin"]
    assert summary.mean == pytest.approx(lst.mean(dtype=np.float64), rel=1e-12)
    assert summary.std == pytest.approx(lst.std(dtype=np.float64), rel=1e-9)
    assert (summary.min, summary.max) == (lst.min(), lst.max())
    assert metadata.guide_relations["ndvi"]["all"].count == lst.size
    assert "The split test is empty" in metadata.warnings[0]


def test_fingerprint_depends_on_the_records_alone(records):
    few = load_metadata(records(shards=1, name="few")).fingerprint
    many = load_metadata(records(shards=4, name="many")).fingerprint
    other = load_metadata(records(train=11, name="other")).fingerprint
    assert few == many != other
    assert len(few) == 64


CROPS = BatchSettings(
    task="1km_to_250m",
    batch_size=3,
    model_guides=("ndvi",),
    target_channels=("spread",),
    fine_truth=True,
    crop_pixels=8,
    variation=AugmentationConfig(cloud_share=0.5),
)


def test_crops_are_those_of_numpy_and_can_go_on_in_the_middle(records):
    folder = records(truth=True)
    dataset = ds.make_dataset(folder, "train", CROPS, training=True, seed=5)
    inputs, target = dataset.element_spec
    assert (inputs["lst_kelvin"].shape, inputs["ndvi"].shape) == ((3, 8, 8, 1), (3, 32, 32, 1))
    assert target.shape == (3, 32, 32, 2)
    found = batches(dataset.take(4))
    metadata, files = check_split(folder, "train", CROPS, full_batches=False)
    store = decoded_split(folder, "train", files, 12, CROPS)
    expected = CropBatches(store, CROPS, metadata.scale_factor, 5)
    assert same(found, [expected.batch(number) for number in range(4)])
    np.testing.assert_array_equal(found[1][0]["ndvi"], expected.batch(1)[0]["ndvi"])
    later = ds.make_dataset(folder, "train", CROPS, training=True, seed=5, first_batch=2)
    assert same(batches(later.take(2)), found[2:])
    other = ds.make_dataset(folder, "train", CROPS, training=True, seed=6)
    assert not same(batches(other.take(4)), found)
    # Validation takes samples whole, and a batch may be larger than the split.
    whole = ds.make_dataset(folder, "validation", CROPS, training=False)
    assert [target.shape for _, target in batches(whole)] == [(3, 64, 64, 2), (1, 64, 64, 2)]
    ds.make_dataset(folder, "train", sized(CROPS, 30), training=True)


BOTH_STEPS = BatchSettings(
    task="4km_to_1km_to_250m",
    batch_size=4,
    model_guides=("ndvi", "reference"),
    target_channels=("ndvi", "truly_fine"),
    optional_guides=("reference",),
    crop_pixels=4,
    coarse_share=0.25,
    variation=AugmentationConfig(cloud_share=0.0, guide_absent_share=0.0, guide_gap_share=0.0),
)


def test_crops_of_both_steps_tell_which_they_are_of(records):
    folder = records()  # LST and NDVI without truth, and no other dates
    dataset = ds.make_dataset(folder, "train", BOTH_STEPS, training=True, seed=5)
    found = batches(dataset.take(20))
    metadata, files = check_split(folder, "train", BOTH_STEPS, full_batches=False)
    store = decoded_split(folder, "train", files, 12, BOTH_STEPS)
    assert len(store) == 24, "each sample as either step sees it"
    expected = CropBatches(store, BOTH_STEPS, metadata.scale_factor, 5)
    assert same(found, [expected.batch(number) for number in range(20)])
    shares = []
    for inputs, target in found:
        assert np.isnan(inputs["reference"]).all() and target.shape == (4, 16, 16, 3)
        assert np.isfinite(inputs["ndvi"]).all()
        for lst, kelvin, fine in zip(
            inputs["lst_kelvin"], target[..., 0], target[..., 2], strict=True
        ):
            repeats = np.array_equal(kelvin, np.kron(lst[..., 0], np.ones((4, 4), np.float32)))
            assert (fine == (0 if repeats else 1)).all()
            shares.append(float(fine[0, 0]))
    assert 0.1 < np.mean(shares) < 0.4
    # Validation is of the step that the network is for.
    whole = ds.make_dataset(folder, "validation", BOTH_STEPS.steps[0], training=False)
    assert all((target[..., 2] == 0).all() for _, target in batches(whole))
    with pytest.raises(RecordsError, match="lack"):
        check_split(folder, "train", replace(BOTH_STEPS, optional_guides=()), full_batches=False)


def test_a_footprint_beyond_the_pixel_blurs_what_the_coarser_step_sees():
    sample = vegetated_sample(0, side=32)
    plain = BatchSettings(task="4km_to_1km")
    square, wide = (
        task_view(sample, replace(plain, footprint_pixels=width)).lst_kelvin
        for width in (None, 0.93)
    )
    assert wide.std() < 0.9 * square.std()
    # Hardly any blur is the mean of radiance over the pixel.
    narrow = task_view(sample, replace(plain, footprint_pixels=0.02)).lst_kelvin
    np.testing.assert_allclose(narrow, square, atol=1e-3)


def test_crops_of_the_coarser_task_are_whole_pixels_of_it(records):
    folder = records()
    settings = replace(
        CROPS,
        task="4km_to_1km",
        fine_truth=False,
        target_channels=("ndvi",),
        model_guides=(),
        variation=None,
    )
    ((inputs, target),) = batches(ds.make_dataset(folder, "train", settings, training=True).take(1))
    assert inputs["lst_kelvin"].shape == (3, 2, 2, 1) and target.shape == (3, 8, 8, 2)
    np.testing.assert_array_equal(inputs["lst_kelvin"][..., 0], norm_l4(target[..., 0], 4))
    with pytest.raises(ConfigError, match=r"crop_pixels.*whole pixels.*found 6.*multiple of 4"):
        ds.make_dataset(folder, "train", replace(settings, crop_pixels=6), training=True)


def test_python_waits_at_exit_until_no_pipeline_calls_it():
    """Threads of tf.data that enter Python when it goes away would never end."""
    calls, ended = ds._Calls(), []
    call = calls.counted(lambda number: time.sleep(0.02) or ended.append(number))
    thread = threading.Thread(target=lambda: [call(number) for number in range(10)])
    thread.start()
    calls.rest()
    assert ended == list(range(10))
    thread.join()
    started = time.monotonic()
    calls.rest()
    assert time.monotonic() - started < 1
