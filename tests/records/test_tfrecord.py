"""TFRecord framing beside TensorFlow's own."""

from __future__ import annotations

import gzip

import pytest
from hypothesis import given
from hypothesis import strategies as st

from keras_lstsr.errors import RecordsError
from keras_lstsr.records.tfrecord import read_shard, shard_bytes

RECORDS = [b"", b"a", bytes(range(256)) * 50]


def test_bytes_are_those_of_tensorflow(tmp_path):
    import tensorflow as tf

    path = tmp_path / "theirs.tfrecord"
    with tf.io.TFRecordWriter(str(path)) as writer:
        for record in RECORDS:
            writer.write(record)
    assert gzip.decompress(shard_bytes(RECORDS)) == path.read_bytes()


def test_tensorflow_reads_ours(tmp_path):
    import tensorflow as tf

    path = tmp_path / "ours.tfrecord.gz"
    path.write_bytes(shard_bytes(RECORDS))
    dataset = tf.data.TFRecordDataset(str(path), compression_type="GZIP")
    assert list(dataset.as_numpy_iterator()) == RECORDS


@given(records=st.lists(st.binary(max_size=50), max_size=5))
def test_reading_gives_back_what_was_written(tmp_path_factory, records):
    path = tmp_path_factory.mktemp("shard") / "shard.gz"
    path.write_bytes(shard_bytes(records))
    assert list(read_shard(path)) == records


def test_same_records_same_bytes():
    assert shard_bytes(RECORDS) == shard_bytes(RECORDS)
    # Bytes 4 to 7 of a gzip header are the time.
    assert shard_bytes(RECORDS)[4:8] == b"\0\0\0\0"


@pytest.mark.parametrize("damage", ["cut", "record", "no gzip"])
def test_damaged_shards_are_errors(tmp_path, damage):
    path = tmp_path / "shard.gz"
    content = shard_bytes(RECORDS)
    if damage == "cut":
        content = content[:-20]
    elif damage == "record":
        content = gzip.compress(gzip.decompress(content)[:-10])
    else:
        content = b"no gzip at all"
    path.write_bytes(content)
    with pytest.raises(RecordsError, match=r"shard\.gz.*cannot be read"):
        list(read_shard(path))
