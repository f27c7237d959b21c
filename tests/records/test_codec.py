"""Patches to records and back: without loss, and wire-compatible with tf.train.Example."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from keras_lstsr.errors import RecordsError
from keras_lstsr.records import codec
from keras_lstsr.records.patches import Encoding, Patch, PatchKey
from keras_lstsr.records.schema import Feature


def make_patch(lst, ndvi=None, lst_encoding=None, ndvi_encoding=None) -> Patch:
    return Patch(
        key=PatchKey("0123456789abcdef", "MOD11A1.A2021227.h11v05.061", "day", 64, 128),
        lst_kelvin=lst,
        ndvi=ndvi,
        product="MOD11A1",
        tile="h11v05",
        acquisition_date="2021-08-15",
        place="modis1200/h11v05/r001c002",
        split="train",
        crs_wkt="LOCAL_CS[]",
        transform=(926.6254331391661, 0.0, -7783653.638366, 0.0, -926.625, 4447802.079066),
        lst_encoding=lst_encoding or Encoding(),
        ndvi_encoding=ndvi_encoding or Encoding(),
    )


MODIS = Encoding("uint16", 0.02, 0.0, 0.0)


@settings(deadline=None)
@given(
    stored=arrays(np.uint16, (4, 4), elements=st.integers(0, 65535)),
    scale=st.sampled_from([0.02, 0.1, 0.01, 1.0, 0.0001]),
    offset=st.sampled_from([0.0, 273.15, -65.0]),
)
def test_integers_as_delivered_come_back_bit_by_bit(stored, scale, offset):
    values = (stored.astype(np.float64) * scale + offset).astype(np.float32)
    values[stored == 0] = np.nan
    patch = make_patch(values, lst_encoding=Encoding("uint16", scale, offset, 0.0))
    back = codec.decode_patch(codec.encode_patch(patch))
    np.testing.assert_array_equal(back.lst_kelvin, values)
    assert back.lst_kelvin.dtype == np.float32
    assert back.lst_encoding.dtype == "uint16"


@settings(deadline=None)
@given(
    values=arrays(np.float32, (4, 4), elements=st.floats(150, 400, width=32)),
    encoding=st.sampled_from([MODIS, Encoding(), Encoding("int16", 0.1, 0.0, -32768.0)]),
)
def test_values_that_are_no_such_integers_are_kept_as_floats(values, encoding):
    values[0, 0] = np.nan
    values[1, 1] = np.float32(300.000001)
    back = codec.decode_patch(codec.encode_patch(make_patch(values, lst_encoding=encoding)))
    np.testing.assert_array_equal(back.lst_kelvin, values)


@pytest.mark.parametrize(
    ("encoding", "values", "stored"),
    [
        (MODIS, [300.0, 310.02], "uint16"),
        (MODIS, [300.0, 300.01], "float32"),  # between two integers
        (Encoding("uint16", 0.02, 0.0, 15000.0), [300.0, 310.0], "float32"),  # valid is the fill
        (Encoding("uint16", 0.02, 0.0, None), [300.0, np.nan], "uint16"),
        (Encoding("uint8", 2.0, 0.0, 255.0), [300.0, 302.0], "uint16"),
        (Encoding("int16", 0.02, 273.15, -32768.0), [273.15, 273.17], "int16"),
        (Encoding("int16", 0.001, 0.0, -32768.0), [300.0, 310.0], "float32"),  # beyond int16
        (Encoding("int32", 0.02, 0.0, 0.0), [300.0, 310.0], "float32"),
        (Encoding("uint16", 0.02, 0.0, float("nan")), [300.0, 310.0], "float32"),
    ],
)
def test_stored_type(encoding, values, stored):
    column = np.array([values], np.float32)
    if "int16" in stored:
        column = (
            np.rint((column.astype(np.float64) - encoding.add_offset) / encoding.scale_factor)
            * encoding.scale_factor
            + encoding.add_offset
        ).astype(np.float32)
    back = codec.decode_patch(codec.encode_patch(make_patch(column, lst_encoding=encoding)))
    assert back.lst_encoding.dtype == stored
    np.testing.assert_array_equal(back.lst_kelvin, column)


def full_patch() -> Patch:
    rng = np.random.default_rng(0)
    lst = (rng.integers(13000, 16000, (8, 8)) * 0.02).astype(np.float32)
    lst[2, 3] = np.nan
    ndvi = rng.uniform(-1, 1, (32, 32)).astype(np.float32)
    ndvi[5, 6] = np.nan
    return make_patch(lst, ndvi, MODIS)


def test_everything_a_patch_knows_comes_back():
    patch = full_patch()
    back = codec.decode_patch(codec.encode_patch(patch))
    np.testing.assert_array_equal(back.ndvi, patch.ndvi)
    for name in ("key", "product", "tile", "acquisition_date", "place", "split", "crs_wkt"):
        assert getattr(back, name) == getattr(patch, name)
    assert back.transform == patch.transform
    assert back.lst_encoding == MODIS
    assert codec.encode_patch(back) == codec.encode_patch(patch)


def test_wire_format_is_that_of_tensorflow_both_ways():
    import tensorflow as tf

    serialized = codec.encode_patch(full_patch())
    theirs = tf.train.Example.FromString(serialized)
    assert theirs.SerializeToString(deterministic=True) == serialized
    features = theirs.features.feature
    assert features[Feature.PLACE].bytes_list.value[0] == b"modis1200/h11v05/r001c002"
    assert features[Feature.ROW].int64_list.value == [64]
    # From TensorFlow to us, with the entries of the map in another order.
    shuffled = tf.train.Example()
    for name in sorted(features, reverse=True):
        shuffled.features.feature[name].CopyFrom(features[name])
    back = codec.decode_patch(shuffled.SerializeToString())
    assert codec.encode_patch(back) == serialized


@pytest.mark.parametrize("with_ndvi", [True, False])
@pytest.mark.parametrize(
    "encoding",
    [MODIS, Encoding(), Encoding("int16", 0.02, 273.15, -32768.0)],
    ids=lambda e: e.dtype,
)
def test_graph_decodes_as_numpy_does(encoding, with_ndvi):
    import tensorflow as tf

    patch = full_patch()
    stored = np.arange(64).reshape(8, 8) * 7
    lst = (stored * encoding.scale_factor + encoding.add_offset).astype(np.float32)
    lst[0, 0] = np.nan
    patch = replace(patch, lst_kelvin=lst, lst_encoding=encoding)
    serialized = codec.encode_patch(patch)

    @tf.function
    def parse(record):
        return codec.parse_patch(record, patch_size=8, scale_factor=4, with_ndvi=with_ndvi)

    parsed = parse(tf.constant(serialized))
    np.testing.assert_array_equal(parsed["lst_kelvin"].numpy(), lst)
    assert parsed["place"].numpy().decode() == patch.place
    assert parsed["lst_kelvin"].shape == (8, 8)
    assert ("ndvi" in parsed) is with_ndvi
    if with_ndvi:
        np.testing.assert_array_equal(parsed["ndvi"].numpy(), patch.ndvi)


def test_other_schema_and_damage_are_errors(monkeypatch):
    serialized = codec.encode_patch(full_patch())
    with pytest.raises(RecordsError, match=r"no tf\.train\.Example"):
        codec.decode_patch(serialized[: len(serialized) // 2])
    with pytest.raises(RecordsError, match=f"{Feature.SCHEMA_VERSION}.*lacks"):
        codec.decode_patch(b"")
    monkeypatch.setattr(codec, "SCHEMA_VERSION", 99)
    with pytest.raises(RecordsError, match=r"another schema.*expected 99"):
        codec.decode_patch(serialized)


def test_a_raster_of_the_wrong_length_is_an_error():
    import tensorflow as tf

    example = tf.train.Example.FromString(codec.encode_patch(full_patch()))
    example.features.feature["lst_kelvin/values"].bytes_list.value[0] = b"\0\0\0"
    with pytest.raises(RecordsError, match=r"lst_kelvin.*damaged"):
        codec.decode_patch(example.SerializeToString())


def test_workers_import_no_tensorflow_and_do_not_collide_with_it():
    script = (
        "import sys\n"
        "import beam_jobs.rasters_to_tfrecords\n"
        "from keras_lstsr.records import codec\n"
        "codec._example_class()\n"
        "assert 'tensorflow' not in sys.modules and 'keras' not in sys.modules\n"
        "import tensorflow as tf\n"
        "tf.train.Example()\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, timeout=120)
