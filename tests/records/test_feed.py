"""The NumPy feed gives what tf.data gives, and its own randomness is reproducible."""

from __future__ import annotations

import tempfile

import numpy as np
import pytest

from keras_lstsr.config import DataConfig
from keras_lstsr.errors import RecordsError
from keras_lstsr.records import dataset as ds
from keras_lstsr.records.arrays import turn
from keras_lstsr.records.feed import PatchFeed

TASKS = [DataConfig(task=task, augment=False) for task in ("4km_to_1km", "1km_to_250m")]


def all_batches(feed):
    return [feed[index] for index in range(len(feed))]


def assert_same(found, expected):
    assert len(found) == len(expected)
    for (inputs, target), (wanted_inputs, wanted_target) in zip(found, expected, strict=True):
        assert inputs.keys() == wanted_inputs.keys()
        for name in inputs:
            assert inputs[name].dtype == np.float32
            np.testing.assert_array_equal(inputs[name], wanted_inputs[name])
        assert target.dtype == np.float32
        np.testing.assert_array_equal(target, wanted_target)


@pytest.mark.parametrize("data", TASKS, ids=lambda data: data.task)
@pytest.mark.parametrize("with_guide", [True, False])
@pytest.mark.parametrize("upsampling", [None, "bicubic"])
def test_batches_are_those_of_tf_data_bit_by_bit(records, data, with_guide, upsampling):
    folder = records()
    data = data.model_copy(update={"upsampling": upsampling})
    options = {"batch_size": 5, "training": False, "with_guide": with_guide}
    feed = PatchFeed(folder, "train", data, **options)
    dataset = ds.make_dataset(folder, "train", data, **options)
    expected = [
        ({name: value.numpy() for name, value in inputs.items()}, target.numpy())
        for inputs, target in dataset
    ]
    assert [len(target) for _, target in expected] == [5, 5, 2]
    assert_same(all_batches(feed), expected)


@pytest.mark.parametrize("shards", [1, 3, 5, 12, 17])
def test_order_is_tf_datas_for_any_number_of_shards(records, shards):
    # 20 patches in 17 shards: more than are open at a time, and of unequal length.
    folder = records(train=20, shards=shards)
    options = {"batch_size": 20, "training": False}
    ((inputs, _),) = all_batches(PatchFeed(folder, "train", TASKS[1], **options))
    ((expected, _),) = ds.make_dataset(folder, "train", TASKS[1], **options)
    np.testing.assert_array_equal(inputs["lst_kelvin"], expected["lst_kelvin"])


def test_a_pass_is_a_permutation_that_its_number_and_the_seed_tell(records):
    folder = records()

    def passes(seed, numbers):
        data = TASKS[1]
        feed = PatchFeed(folder, "train", data, batch_size=4, training=True, seed=seed)
        found = []
        for number in numbers:
            feed.begin_pass(number)
            found.append(np.concatenate([inputs["lst_kelvin"] for inputs, _ in all_batches(feed)]))
        return found

    first, second = passes(1, [0, 1])
    (second_alone,) = passes(1, [1])
    (other,) = passes(2, [0])
    np.testing.assert_array_equal(second, second_alone)
    plain = ds.load_arrays(folder, "train", TASKS[1])[0]["lst_kelvin"]
    for found in (first, second, other):
        assert not np.array_equal(found, plain)
        np.testing.assert_array_equal(np.sort(found[:, 0, 0, 0]), np.sort(plain[:, 0, 0, 0]))
    assert not np.array_equal(first, second)
    assert not np.array_equal(first, other)


def test_symmetries_are_those_of_tf_data():
    import tensorflow as tf

    numbers = np.arange(16)
    rasters = np.random.default_rng(0).random((16, 4, 4), np.float32)
    moved = turn(rasters, numbers)
    for raster, number, found in zip(rasters, numbers, moved, strict=True):
        expected = ds.augment({"lst": tf.constant(raster)}, tf.constant(number, tf.int64))["lst"]
        np.testing.assert_array_equal(found, expected)
    assert len({one.tobytes() for one in turn(rasters[:1].repeat(8, 0), np.arange(8))}) == 8


def test_augmentation_moves_lst_and_guide_jointly_and_every_pass_anew(records):
    data = DataConfig(task="4km_to_1km", shuffle_buffer=0)
    feed = PatchFeed(
        records(), "train", data, batch_size=12, training=True, seed=3, with_guide=True
    )
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
        feed = PatchFeed(folder, "train", TASKS[0], batch_size=4, **options)
        return [len(target) for _, target in all_batches(feed)]

    assert sizes(training=True) == [4, 4]
    assert sizes(training=False) == [4, 4, 2]
    assert sizes(training=True, drop_remainder=False) == [4, 4, 2]
    assert sizes(training=True, steps=1) == [4]
    assert sizes(training=True, steps=9) == [4, 4]


def test_in_memory_is_the_same(records):
    folder = records()
    cached = TASKS[1].model_copy(update={"cache": True})
    options = {"batch_size": 4, "training": False, "with_guide": True}
    feeds = [PatchFeed(folder, "train", data, **options) for data in (TASKS[1], cached)]
    assert_same(*(all_batches(feed) for feed in feeds))


def test_clear_errors(records, monkeypatch):
    folder = records(shards=3)

    def read(**options):
        return PatchFeed(folder, "train", TASKS[0], training=True, **{"batch_size": 4, **options})

    with pytest.raises(RecordsError, match=r"fewer patches than one batch.*12.*13"):
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
        with pytest.raises(RecordsError, match=r"no room.*No space left on device.*TMPDIR"):
            read()
    files = ds.split_files(folder, "train")
    files[1].write_bytes(files[0].read_bytes()[:0])
    with pytest.raises(RecordsError, match=r"not complete; found 8 patches; expected 12"):
        read()
