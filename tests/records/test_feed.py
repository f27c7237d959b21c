"""The NumPy feed gives what tf.data gives, and its own randomness is reproducible."""

from __future__ import annotations

import tempfile
from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.config import AugmentationConfig
from keras_lstsr.errors import RecordsError
from keras_lstsr.records import dataset as ds
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.feed import SampleFeed
from keras_lstsr.records.reading import split_files
from keras_lstsr.testing.records import coordinate_sample, write_samples

TASKS = [BatchSettings(task=task, augment=False) for task in ("4km_to_1km", "1km_to_250m")]
GUIDED = {"target_channels": ("ndvi",), "model_guides": ("ndvi",)}


def all_batches(feed):
    return [feed[index] for index in range(len(feed))]


def as_numpy(dataset):
    return [
        ({name: value.numpy() for name, value in inputs.items()}, target.numpy())
        for inputs, target in dataset
    ]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for (inputs, target), (wanted_inputs, wanted_target) in zip(found, expected, strict=True):
        assert inputs.keys() == wanted_inputs.keys()
        for name in inputs:
            assert inputs[name].dtype == np.float32
            np.testing.assert_array_equal(inputs[name], wanted_inputs[name])
        assert target.dtype == np.float32
        np.testing.assert_array_equal(target, wanted_target)


def test_batches_are_those_of_tf_data(records):
    folder = records()
    settings = replace(TASKS[0], batch_size=5)
    feed = SampleFeed(folder, "train", settings, training=False)
    expected = as_numpy(ds.make_dataset(folder, "train", settings, training=False))
    assert [len(target) for _, target in expected] == [5, 5, 2]
    assert_same(all_batches(feed), expected)


@pytest.mark.parametrize("task", TASKS, ids=lambda settings: settings.task)
@pytest.mark.parametrize(
    "asked",
    [
        {"target_channels": ()},
        {"target_channels": ("ndvi",)},
        {"target_channels": ("spread",), "model_guides": ("ndvi",), "fine_truth": True},
    ],
    ids=lambda asked: "-".join(asked),
)
@pytest.mark.parametrize("side", [16, 14])
def test_numpy_and_tensorflow_agree_bit_by_bit(tmp_path, task, asked, side):
    # Not all samples are of one size.
    samples = [
        coordinate_sample(number, truth=True, side=side if number else 16) for number in range(5)
    ]
    samples[3] = replace(samples[3], origin="degraded")
    samples[2].lst_kelvin[3, 2] = samples[2].truth_kelvin[9, 9] = np.nan
    folder = tmp_path / "records"
    write_samples(folder, samples, num_shards=2)
    fine_truth = asked.get("fine_truth", False) and task.task == "1km_to_250m"
    settings = replace(task, batch_size=5, **{**asked, "fine_truth": fine_truth})
    found = all_batches(SampleFeed(folder, "train", settings, training=False))
    assert list(found[0][0]) == ["lst_kelvin", *settings.model_guides]
    assert found[0][1].shape[-1] == 1 + len(settings.target_channels)
    assert_same(found, as_numpy(ds.make_dataset(folder, "train", settings, training=False)))


def test_truth_and_spread_are_those_of_the_records(tmp_path):
    samples = [coordinate_sample(number, truth=True) for number in range(3)]
    samples[1] = replace(samples[1], origin="degraded")
    write_samples(tmp_path / "records", samples)
    asked = {"target_channels": ("spread",), "model_guides": ("ndvi",), "fine_truth": True}
    feed = SampleFeed(tmp_path / "records", "train", replace(TASKS[1], **asked), training=False)
    inputs, target = feed[0]
    for lst, ndvi, wanted in zip(inputs["lst_kelvin"], inputs["ndvi"], target, strict=True):
        number = round(float(lst[0, 0, 0] - 300))
        np.testing.assert_array_equal(ndvi[..., 0], samples[number].guides["ndvi"])
        np.testing.assert_array_equal(wanted[..., 0], samples[number].truth_kelvin)
        assert (wanted[..., 1] == (number != 1)).all()


def test_smaller_samples_are_filled_up_with_nan(tmp_path):
    samples = [coordinate_sample(0, side=16), coordinate_sample(1, side=13)]
    write_samples(tmp_path / "records", samples)
    inputs, target = SampleFeed(tmp_path / "records", "train", TASKS[1], training=False)[0]
    assert inputs["lst_kelvin"].shape == (2, 16, 16, 1)
    small = int(np.flatnonzero(np.isnan(target).any(axis=(1, 2, 3)))[0])
    assert np.isfinite(inputs["lst_kelvin"][small, :13, :13]).all()
    assert np.isnan(target[small, 52:]).all() and np.isnan(target[small, :, 52:]).all()
    inputs, _ = SampleFeed(tmp_path / "records", "train", TASKS[0], training=False)[0]
    assert np.isnan(inputs["lst_kelvin"][small, 3:]).all()
    assert np.isfinite(inputs["lst_kelvin"][small, :3, :3]).all()


def test_crops_are_those_of_tf_data_pass_by_pass(records):
    folder = records(truth=True)
    settings = replace(
        TASKS[1],
        batch_size=3,
        crop_pixels=8,
        fine_truth=True,
        model_guides=("ndvi",),
        target_channels=("spread",),
        variation=AugmentationConfig(),
    )
    feed = SampleFeed(folder, "train", settings, training=True, seed=4, steps=5)
    assert len(feed) == 5
    feed.begin_pass(2)
    dataset = ds.make_dataset(folder, "train", settings, training=True, seed=4, first_batch=10)
    assert_same(all_batches(feed), as_numpy(dataset.take(5)))
    assert len(SampleFeed(folder, "train", settings, training=True)) == 4
    one = replace(settings, batch_size=50)
    assert len(SampleFeed(folder, "train", one, training=True)) == 1


@pytest.mark.parametrize("shards", [1, 3, 5, 12, 17])
def test_order_is_tf_datas_for_any_number_of_shards(records, shards):
    # 20 patches in 17 shards: more than are open at a time, and of unequal length.
    folder = records(train=20, shards=shards)
    settings = replace(TASKS[1], batch_size=20)
    ((inputs, _),) = all_batches(SampleFeed(folder, "train", settings, training=False))
    ((expected, _),) = ds.make_dataset(folder, "train", settings, training=False)
    np.testing.assert_array_equal(inputs["lst_kelvin"], expected["lst_kelvin"])


def test_a_pass_is_a_permutation_that_its_number_and_the_seed_tell(records):
    folder = records()

    def passes(seed, numbers):
        settings = replace(TASKS[1], batch_size=4)
        feed = SampleFeed(folder, "train", settings, training=True, seed=seed)
        found = []
        for number in numbers:
            feed.begin_pass(number)
            found.append(np.concatenate([inputs["lst_kelvin"] for inputs, _ in all_batches(feed)]))
        return found

    first, second = passes(1, [0, 1])
    (second_alone,) = passes(1, [1])
    (other,) = passes(2, [0])
    np.testing.assert_array_equal(second, second_alone)
    plain = np.concatenate(
        [
            inputs["lst_kelvin"]
            for inputs, _ in as_numpy(ds.make_dataset(folder, "train", TASKS[1], training=False))
        ]
    )
    for found in (first, second, other):
        assert not np.array_equal(found, plain)
        np.testing.assert_array_equal(np.sort(found[:, 0, 0, 0]), np.sort(plain[:, 0, 0, 0]))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_turns_move_lst_and_guide_jointly_and_every_pass_anew(records):
    settings = BatchSettings(shuffle_buffer=0, batch_size=12, target_channels=("ndvi",))
    feed = SampleFeed(records(), "train", settings, training=True, seed=3)
    targets = []
    for number in range(3):
        feed.begin_pass(number)
        ((_, target),) = all_batches(feed)
        # NDVI × 64 and LST are the same linear function of the ground but for a constant.
        difference = target[..., 0] - target[..., 1] * 64
        np.testing.assert_allclose(difference, difference[:, :1, :1] + 0 * difference, atol=1e-3)
        targets.append(target)
    assert not np.array_equal(targets[0], targets[1])
    assert not np.array_equal(targets[1], targets[2])


def test_number_of_batches(records):
    folder = records(train=10)

    def sizes(**options):
        feed = SampleFeed(folder, "train", replace(TASKS[0], batch_size=4), **options)
        return [len(target) for _, target in all_batches(feed)]

    assert sizes(training=True) == [4, 4]
    assert sizes(training=False) == [4, 4, 2]
    assert sizes(training=True, steps=1) == [4]
    assert sizes(training=True, steps=9) == [4, 4]


def test_in_memory_is_the_same(records):
    folder = records(truth=True)
    settings = replace(TASKS[1], batch_size=4, fine_truth=True, **GUIDED)
    feeds = [
        SampleFeed(folder, "train", replace(settings, cache=cache), training=False)
        for cache in (False, True)
    ]
    assert_same(*(all_batches(feed) for feed in feeds))


def test_clear_errors(records, monkeypatch):
    folder = records(shards=3)

    def read(batch_size=4):
        return SampleFeed(folder, "train", replace(TASKS[0], batch_size=batch_size), training=True)

    with pytest.raises(RecordsError, match=r"fewer samples than one batch.*12.*13"):
        read(batch_size=13)
    real = tempfile.TemporaryFile

    def full(*args, **kwargs):
        file = real(*args, **kwargs)

        class Full:
            def __enter__(self):
                return self

            def __exit__(self, *exception):
                file.close()

            def write(self, data):
                raise OSError(28, "No space left on device")

        return Full()

    with monkeypatch.context() as patch:
        patch.setattr(tempfile, "TemporaryFile", full)
        with pytest.raises(RecordsError, match=r"not enough room.*No space left on device.*TMPDIR"):
            read()
    files = split_files(folder, "train")
    files[1].write_bytes(files[0].read_bytes()[:0])
    with pytest.raises(RecordsError, match=r"train-00001.*sha256.*dataset\.json"):
        read()
