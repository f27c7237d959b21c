"""Samples to records and back: without loss, and wire-compatible with tf.train.Example."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace

import numpy as np
import pytest
from affine import Affine
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pyproj import CRS

from keras_lstsr.errors import RecordsError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import modis_sinusoidal_crs
from keras_lstsr.records import codec
from keras_lstsr.records.sample import Encoding, Sample
from keras_lstsr.records.schema import Feature


def make_sample(lst, guides=None, truth=None, lst_encoding=None) -> Sample:
    a, c, f = 926.6254331391661, -7783653.638366, 4447802.079066
    return Sample(
        name="MOD11A1.A2021227.h11v05.061/0123456789abcdef/day/r00064c00128",
        lst_kelvin=lst,
        guides=guides or {},
        truth_kelvin=truth,
        grid=Grid(modis_sinusoidal_crs(), Affine(a, 0, c, 0, -926.625, f), lst.shape),
        day_night="day",
        product="MOD11A1",
        tile="h11v05",
        acquisition_date="2021-08-15",
        place="modis1200/h11v05/r001c002",
        split="train",
        origin="degraded",
        scene="MOD11A1.A2021227.h11v05.061/0123456789abcdef/day",
        group="7",
        row=64,
        column=128,
        encodings={"lst_kelvin": lst_encoding or Encoding()},
    )


def test_sensor_is_kept_and_may_lack():
    sample = make_sample(np.full((4, 4), 300, np.float32))
    assert codec.decode_sample(codec.encode_sample(replace(sample, sensor="ASTER"))).sensor == (
        "ASTER"
    )
    # Records of before have no such feature: it is written only where there is something to say.
    serialized = codec.encode_sample(sample)
    assert b"sensor" not in serialized and codec.decode_sample(serialized).sensor == ""


@pytest.mark.parametrize(
    ("date", "north", "south"),
    [
        ("2020-02-29", "winter", "summer"),
        ("2020-03-01", "spring", "autumn"),
        ("2020-06-15", "summer", "winter"),
        ("2020-11-30", "autumn", "spring"),
        ("2020-12-01", "winter", "summer"),
        ("", "", ""),
    ],
)
def test_seasons_follow_the_hemisphere(date, north, south):
    for latitude, season in ((48.0, north), (-33.0, south)):
        grid = Grid(CRS.from_epsg(4326), Affine(0.01, 0, 12, 0, -0.01, latitude), (4, 4))
        sample = replace(make_sample(np.ones((4, 4), np.float32)), grid=grid)
        assert replace(sample, acquisition_date=date).season == season


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
    sample = make_sample(values, lst_encoding=Encoding("uint16", scale, offset, 0.0))
    back = codec.decode_sample(codec.encode_sample(sample))
    np.testing.assert_array_equal(back.lst_kelvin, values)
    assert back.lst_kelvin.dtype == np.float32
    assert back.encodings["lst_kelvin"].dtype == "uint16"


@settings(deadline=None)
@given(
    values=arrays(np.float32, (4, 4), elements=st.floats(150, 400, width=32)),
    encoding=st.sampled_from([MODIS, Encoding(), Encoding("int16", 0.1, 0.0, -32768.0)]),
)
def test_values_that_are_no_such_integers_are_kept_as_floats(values, encoding):
    values[0, 0] = np.nan
    values[1, 1] = np.float32(300.000001)
    back = codec.decode_sample(codec.encode_sample(make_sample(values, lst_encoding=encoding)))
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
    back = codec.decode_sample(codec.encode_sample(make_sample(column, lst_encoding=encoding)))
    assert back.encodings["lst_kelvin"].dtype == stored
    np.testing.assert_array_equal(back.lst_kelvin, column)


def full_sample() -> Sample:
    rng = np.random.default_rng(0)
    lst = (rng.integers(13000, 16000, (8, 8)) * 0.02).astype(np.float32)
    lst[2, 3] = np.nan
    ndvi = rng.uniform(-1, 1, (32, 32)).astype(np.float32)
    ndvi[5, 6] = np.nan
    guides = {"ndvi": ndvi, "water": (ndvi > 0).astype(np.float32)}
    return make_sample(lst, guides, rng.normal(300, 5, (32, 32)).astype(np.float32), MODIS)


def test_everything_a_sample_knows_comes_back():
    sample = full_sample()
    back = codec.decode_sample(codec.encode_sample(sample))
    rasters = ("lst_kelvin", "guides", "truth_kelvin", "encodings")
    for field in fields(Sample):
        if field.name not in rasters:
            assert getattr(back, field.name) == getattr(sample, field.name), field.name
    assert list(back.guides) == ["ndvi", "water"]
    for name, guide in sample.guides.items():
        np.testing.assert_array_equal(back.guides[name], guide)
    np.testing.assert_array_equal(back.truth_kelvin, sample.truth_kelvin)
    assert back.encodings["lst_kelvin"] == MODIS
    assert codec.encode_sample(back) == codec.encode_sample(sample)


def test_a_sample_may_have_neither_guide_nor_truth_and_any_shape():
    sample = make_sample(np.full((3, 5), 300, np.float32))
    back = codec.decode_sample(codec.encode_sample(sample))
    assert (back.guides, back.truth_kelvin, back.grid.shape) == ({}, None, (3, 5))


def test_wire_format_is_that_of_tensorflow_both_ways():
    import tensorflow as tf

    serialized = codec.encode_sample(full_sample())
    theirs = tf.train.Example.FromString(serialized)
    assert theirs.SerializeToString(deterministic=True) == serialized
    features = theirs.features.feature
    assert features["place"].bytes_list.value[0] == b"modis1200/h11v05/r001c002"
    assert features["row"].int64_list.value == [64]
    # From TensorFlow to us, with the entries of the map in another order.
    shuffled = tf.train.Example()
    for name in sorted(features, reverse=True):
        shuffled.features.feature[name].CopyFrom(features[name])
    back = codec.decode_sample(shuffled.SerializeToString())
    assert codec.encode_sample(back) == serialized


def test_other_schema_and_damage_are_errors(monkeypatch):
    serialized = codec.encode_sample(full_sample())
    with pytest.raises(RecordsError, match=r"not a tf\.train\.Example"):
        codec.decode_sample(serialized[: len(serialized) // 2])
    with pytest.raises(RecordsError, match=f"{Feature.SCHEMA_VERSION}.*lacks"):
        codec.decode_sample(b"")
    monkeypatch.setattr(codec, "SCHEMA_VERSION", 99)
    with pytest.raises(RecordsError, match=r"another schema.*expected 99"):
        codec.decode_sample(serialized)


def test_a_raster_of_the_wrong_length_is_an_error():
    import tensorflow as tf

    example = tf.train.Example.FromString(codec.encode_sample(full_sample()))
    example.features.feature["lst_kelvin/values"].bytes_list.value[0] = b"\0\0\0"
    with pytest.raises(RecordsError, match=r"lst_kelvin.*damaged"):
        codec.decode_sample(example.SerializeToString())


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
