"""Batches from records: the right numbers, the same under a seed, rasters moved jointly."""

from __future__ import annotations

import json

import numpy as np
import pytest

from keras_lstsr.config import DataConfig
from keras_lstsr.errors import RecordsError
from keras_lstsr.grids.resample import (
    block_mean,
    norm_l4,
    upsample_bicubic,
    upsample_bilinear,
    upsample_nearest,
)
from keras_lstsr.records import dataset as ds

COARSE_TASK = DataConfig(task="4km_to_1km")
FINE_TASK = DataConfig(task="1km_to_250m")


def batches(dataset):
    return [
        ({name: value.numpy() for name, value in inputs.items()}, target.numpy())
        for inputs, target in dataset
    ]


def same(first, second):
    return len(first) == len(second) and all(
        np.array_equal(a[0]["lst_kelvin"], b[0]["lst_kelvin"]) and np.array_equal(a[1], b[1])
        for a, b in zip(first, second, strict=True)
    )


def test_four_to_one_kilometre(records):
    folder = records()
    patches = {p.place: p for p in ds.iterate_patches(folder, "validation")}
    dataset = ds.make_dataset(
        folder, "validation", COARSE_TASK, batch_size=3, training=False, with_guide=True
    )
    found = batches(dataset)
    assert [len(target) for _, target in found] == [3, 1]
    target = np.concatenate([target for _, target in found])
    coarse = np.concatenate([inputs["lst_kelvin"] for inputs, _ in found])
    assert coarse.shape == (4, 4, 4, 1) and target.shape == (4, 16, 16, 2)
    for inputs, wanted in zip(coarse, target, strict=True):
        patch = patches[f"place{round(float(wanted[0, 0, 0] - 300))}"]
        np.testing.assert_array_equal(wanted[..., 0], patch.lst_kelvin)
        np.testing.assert_array_equal(inputs[..., 0], norm_l4(patch.lst_kelvin, 4))
        np.testing.assert_array_equal(wanted[..., 1], block_mean(patch.ndvi, 4))


def test_one_kilometre_to_250_metres(records):
    folder = records()
    dataset = ds.make_dataset(
        folder, "train", FINE_TASK, batch_size=12, training=False, with_guide=True
    )
    ((inputs, target),) = batches(dataset)
    assert inputs["lst_kelvin"].shape == (12, 16, 16, 1) and target.shape == (12, 64, 64, 2)
    np.testing.assert_array_equal(target[..., 0], upsample_nearest(inputs["lst_kelvin"][..., 0], 4))
    # Whatever the model upsamples to, norm-L4 of the target gives the input back.
    np.testing.assert_allclose(norm_l4(target[..., 0], 4), inputs["lst_kelvin"][..., 0], rtol=1e-7)
    # In these patches NDVI is LST's own slope: its block means tell the same coordinates.
    slope = inputs["lst_kelvin"][..., 0] - inputs["lst_kelvin"][:, :1, :1, 0]
    np.testing.assert_allclose(block_mean(target[..., 1], 4) * 64, slope, atol=1e-4)


@pytest.mark.parametrize("data", [COARSE_TASK, FINE_TASK], ids=lambda data: data.task)
@pytest.mark.parametrize("with_guide", [True, False])
@pytest.mark.parametrize("upsampling", [None, "bicubic", "bilinear"])
def test_numpy_and_tensorflow_agree_bit_by_bit(records, data, with_guide, upsampling):
    folder = records()
    data = data.model_copy(update={"upsampling": upsampling})
    dataset = ds.make_dataset(
        folder, "train", data, batch_size=100, training=False, with_guide=with_guide
    )
    ((inputs, target),) = batches(dataset)
    expected_inputs, expected_target = ds.load_arrays(folder, "train", data, with_guide=with_guide)
    assert inputs.keys() == expected_inputs.keys()
    # Shards are interleaved on the one side and read one by one on the other.
    order = np.argsort(inputs["lst_kelvin"][:, 0, 0, 0])
    expected = np.argsort(expected_inputs["lst_kelvin"][:, 0, 0, 0])
    np.testing.assert_array_equal(target[order], expected_target[expected])
    for name in inputs:
        np.testing.assert_array_equal(inputs[name][order], expected_inputs[name][expected])


def test_graph_degrades_and_upsamples_as_the_definitions_do_around_gaps():
    rng = np.random.default_rng(0)
    lst = rng.normal(300, 10, (24, 16)).astype(np.float32)
    lst[5, 7] = np.nan
    np.testing.assert_array_equal(ds.degrade_norm_l4(lst, 4).numpy(), norm_l4(lst, 4))
    for method, definition in (("bicubic", upsample_bicubic), ("bilinear", upsample_bilinear)):
        found = ds.upsample(lst, 4, method).numpy()
        np.testing.assert_array_equal(np.isnan(found), np.isnan(definition(lst, 4)))
        np.testing.assert_allclose(found, definition(lst, 4), rtol=1e-7)


def test_same_seed_same_batches_and_every_pass_is_another(records):
    folder = records()

    def passes(seed):
        dataset = ds.make_dataset(
            folder, "train", COARSE_TASK, batch_size=4, training=True, seed=seed, with_guide=True
        )
        return batches(dataset), batches(dataset)

    first, second = passes(1)
    again_first, again_second = passes(1)
    other, _ = passes(2)
    assert same(first, again_first) and same(second, again_second)
    assert not same(first, second)
    assert not same(first, other)
    # Each pass holds every patch once, whatever its order.
    for found in (first, second):
        brightness = sorted(np.concatenate([t[..., 0].mean(axis=(1, 2)) for _, t in found]))
        unaugmented = ds.load_arrays(folder, "train", COARSE_TASK)[1][..., 0].mean(axis=(1, 2))
        np.testing.assert_allclose(brightness, sorted(unaugmented), rtol=1e-6)


def test_without_shuffling_the_order_stays(records):
    folder = records()
    data = COARSE_TASK.model_copy(update={"shuffle_buffer": 0, "augment": False})
    training = ds.make_dataset(folder, "train", data, batch_size=4, training=True)
    plain = ds.make_dataset(folder, "train", COARSE_TASK, batch_size=4, training=False)
    assert same(batches(training), batches(plain))
    cached = data.model_copy(update={"cache": True})
    dataset = ds.make_dataset(folder, "train", cached, batch_size=4, training=True)
    assert same(batches(dataset), batches(dataset))


def test_augmentation_moves_lst_and_guide_jointly(records):
    folder = records()
    dataset = ds.make_dataset(
        folder, "train", COARSE_TASK, batch_size=12, training=True, seed=3, with_guide=True
    )
    unmoved = 0
    for _ in range(3):
        ((inputs, target),) = batches(dataset)
        lst, ndvi = target[..., 0], target[..., 1]
        # NDVI × 64 and LST are the same linear function of the ground but for a constant.
        difference = lst - ndvi * 64
        np.testing.assert_allclose(difference, difference[:, :1, :1] + 0 * lst, atol=1e-3)
        np.testing.assert_array_equal(inputs["lst_kelvin"][..., 0], norm_l4(lst, 4))
        originals = ds.load_arrays(folder, "train", COARSE_TASK)[1][..., 0]
        unmoved += sum(any(np.array_equal(one, o) for o in originals) for one in lst)
    assert 0 < unmoved < 18


def test_augmentation_takes_all_eight_symmetries_of_the_square():
    import tensorflow as tf

    raster = np.arange(16, dtype=np.float32).reshape(4, 4)
    fine = upsample_nearest(raster, 4)
    found = set()
    for number in range(-8, 8):
        moved = ds.augment(
            {"lst": tf.constant(raster), "ndvi": tf.constant(fine)}, tf.constant(number, tf.int64)
        )
        np.testing.assert_array_equal(upsample_nearest(moved["lst"].numpy(), 4), moved["ndvi"])
        found.add(moved["lst"].numpy().tobytes())
    turned = [np.rot90(flip, k) for flip in (raster, raster[::-1]) for k in range(4)]
    assert found == {np.ascontiguousarray(one).tobytes() for one in turned}


def test_shapes_are_known_and_a_mirrored_strategy_takes_them(records):
    import tensorflow as tf

    folder = records()
    dataset = ds.make_dataset(
        folder, "train", COARSE_TASK, batch_size=4, training=True, with_guide=True
    )
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
        dataset = ds.make_dataset(folder, "train", COARSE_TASK, batch_size=4, **options)
        return [len(target) for _, target in dataset]

    assert sizes(training=True) == [4, 4]
    assert sizes(training=False) == [4, 4, 2]
    assert sizes(training=True, drop_remainder=False) == [4, 4, 2]


def test_limit_of_arrays(records):
    inputs, target = ds.load_arrays(records(), "train", FINE_TASK, limit=3)
    assert inputs["lst_kelvin"].shape == (3, 16, 16, 1)
    assert target.shape == (3, 64, 64, 1)


def use(folder, split="train", **options):
    ds.make_dataset(folder, split, COARSE_TASK, batch_size=4, training=True, **options)


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
    with pytest.raises(RecordsError, match=r"no NDVI.*--ndvi"):
        use(folder, with_guide=True)
    with pytest.raises(RecordsError, match=r"no NDVI.*--ndvi"):
        ds.load_arrays(folder, "train", COARSE_TASK, with_guide=True)
    with pytest.raises(RecordsError, match=r"fewer patches than one batch.*12.*13"):
        ds.make_dataset(folder, "train", COARSE_TASK, batch_size=13, training=True)


def test_another_schema_is_an_error(records):
    path = records() / "dataset.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps({**content, "schema_version": 2}))
    with pytest.raises(RecordsError, match=r"schema_version.*found 2; expected 1"):
        use(path.parent)
    path.write_text(json.dumps({**content, "counts": {"train": "many"}}))
    with pytest.raises(RecordsError, match="counts"):
        use(path.parent)
    path.write_text("{")
    with pytest.raises(RecordsError, match="cannot be read as JSON"):
        use(path.parent)


def test_missing_shards_and_lost_records_are_noticed(records):
    import tensorflow as tf

    folder = records(shards=3)
    files = ds.split_files(folder, "train")
    content = files[1].read_bytes()
    files[1].unlink()
    with pytest.raises(RecordsError, match=r"shards are missing.*train-00001-of-00003"):
        use(folder)
    files[1].write_bytes(files[0].read_bytes()[:0])
    with pytest.raises(tf.errors.FailedPreconditionError, match="expected to contain 12"):
        batches(ds.make_dataset(folder, "train", COARSE_TASK, batch_size=4, training=False))
    files[1].write_bytes(content[:-30])
    with pytest.raises(RecordsError, match="cannot be read"):
        list(ds.iterate_patches(folder, "train"))


def test_metadata(records):
    metadata = ds.load_metadata(records())
    assert metadata.counts == {"train": 12, "validation": 4, "test": 0}
    assert metadata.has_guide
    lst = np.stack([p.lst_kelvin for p in ds.iterate_patches(records(name="again"), "train")])
    summary = metadata.statistics["lst_kelvin"]
    assert summary.mean == pytest.approx(lst.mean(dtype=np.float64), rel=1e-12)
    assert summary.std == pytest.approx(lst.std(dtype=np.float64), rel=1e-9)
    assert (summary.min, summary.max) == (lst.min(), lst.max())
    assert metadata.ndvi_relation["all"].count == lst.size
    assert "The split test is empty" in metadata.warnings[0]


def test_fingerprint_depends_on_the_records_alone(records):
    few = ds.load_metadata(records(shards=1, name="few")).fingerprint
    many = ds.load_metadata(records(shards=4, name="many")).fingerprint
    other = ds.load_metadata(records(train=11, name="other")).fingerprint
    assert few == many != other
    assert len(few) == 64
