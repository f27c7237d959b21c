"""Records folders that somebody damaged or made up: each fault is an error that names its place."""

from __future__ import annotations

import gzip
import hashlib
import json
import struct
import time
from dataclasses import replace

import numpy as np
import pytest

from keras_lstsr.errors import RecordsError
from keras_lstsr.records import checking
from keras_lstsr.records.batch_settings import BatchSettings
from keras_lstsr.records.codec import encode_sample
from keras_lstsr.records.dataset import make_dataset
from keras_lstsr.records.feed import SampleFeed
from keras_lstsr.records.reading import iterate_samples
from keras_lstsr.records.tfrecord import masked_crc32c, read_shard, shard_bytes
from keras_lstsr.testing import damaged_records
from keras_lstsr.testing.records import coordinate_sample
from keras_lstsr.testing.robustness import ACCEPTED, Round, judged

SETTINGS = BatchSettings(batch_size=2, augment=False, shuffle_buffer=0)
READERS = {
    "TensorFlow": lambda folder: list(make_dataset(folder, "train", SETTINGS, training=False)),
    "NumPy": lambda folder: list(SampleFeed(folder, "train", SETTINGS, training=False)),
    "samples": lambda folder: list(iterate_samples(folder, "train")),
}


def edited(folder, change):
    path = folder / "dataset.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def replaced(folder, content):
    """Puts another shard in the place of the first, with a checksum to match."""
    (folder / "train-00000-of-00001.tfrecord.gz").write_bytes(content)

    def change(metadata):
        metadata["shards"]["train"][0]["sha256"] = hashlib.sha256(content).hexdigest()

    edited(folder, change)


def of_sample(**changed):
    def damage(folder):
        sample = replace(coordinate_sample(1), **changed)
        records = [encode_sample(coordinate_sample(0)), encode_sample(sample)]
        replaced(folder, shard_bytes(records))

    return damage


def of_record(change):
    def damage(folder):
        record = encode_sample(coordinate_sample(1))
        assert change(record) != record
        replaced(folder, shard_bytes([encode_sample(coordinate_sample(0)), change(record)]))

    return damage


def of_metadata(change):
    return lambda folder: edited(folder, change)


def of_shard_entry(**changed):
    return of_metadata(lambda content: content["shards"]["train"][0].update(changed))


def bomb(folder):
    """A small file whose only record says to be of 3 GB, and is, of zeros."""
    length = struct.pack("<Q", 3 * 2**30)
    head = length + struct.pack("<I", masked_crc32c(length))
    replaced(folder, gzip.compress(head + bytes(2**20)))


def linked_out(folder):
    shard = folder / "train-00000-of-00001.tfrecord.gz"
    shard.rename(folder.parent / "elsewhere.gz")
    shard.symlink_to(folder.parent / "elsewhere.gz")


def flipped(folder):
    shard = folder / "train-00000-of-00001.tfrecord.gz"
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)


def lst(**edits):
    values = coordinate_sample(1).lst_kelvin.copy()
    for value in edits.values():
        values[3, 4] = value
    return values


SHARD = "train-00000-of-00001.tfrecord.gz"
FAULTS = {
    "a flipped bit": (flipped, [SHARD, "sha256"]),
    "a link out": (linked_out, [SHARD, "outside its folder"]),
    "a bomb": (bomb, [SHARD, "record length", "3221225472"]),
    "another's name": (of_shard_entry(file="../evil"), ["dataset.json", "file"]),
    "an absolute name": (of_shard_entry(file="/etc/passwd"), ["dataset.json", "file"]),
    "a hidden name": (of_shard_entry(file=".."), ["dataset.json", "file"]),
    "a count of its own": (of_shard_entry(records=3), ["dataset.json", "counts.train"]),
    "a count below zero": (of_shard_entry(records=-2), ["dataset.json", "records"]),
    "no checksum": (of_shard_entry(sha256=""), ["dataset.json", "sha256"]),
    "a count of all": (
        of_metadata(lambda content: content["counts"].update(train=10**12)),
        ["dataset.json", "counts.train", "sum over its shards"],
    ),
    "a shard twice": (
        of_metadata(lambda c: c["shards"].update(validation=c["shards"]["train"])),
        ["dataset.json"],
    ),
    "a split that lacks": (
        of_metadata(lambda content: content["shards"].pop("test")),
        ["dataset.json", "shards"],
    ),
    "a huge patch": (
        of_metadata(lambda content: content.update(patch_size=10**9)),
        ["dataset.json", "patch_size"],
    ),
    "another factor": (
        of_metadata(lambda content: content.update(scale_factor=0)),
        ["dataset.json", "scale_factor"],
    ),
    "a smaller patch": (
        of_metadata(lambda content: content.update(patch_size=15)),
        [SHARD, "record 1: lst_kelvin/shape", "patch_size = 15"],
    ),
    "more records": (
        lambda folder: replaced(folder, shard_bytes([encode_sample(coordinate_sample(0))] * 3)),
        [SHARD, "records", "found 3; expected 2"],
    ),
    "fewer records": (
        lambda folder: replaced(folder, shard_bytes([encode_sample(coordinate_sample(0))])),
        [SHARD, "records", "found 1; expected 2"],
    ),
    "too hot": (of_sample(lst_kelvin=lst(at=450.0)), [SHARD, "record 2: lst_kelvin", "450"]),
    "too cold": (of_sample(lst_kelvin=lst(at=0.0)), [SHARD, "record 2: lst_kelvin", "150"]),
    "infinite": (of_sample(lst_kelvin=lst(at=np.inf)), [SHARD, "record 2: lst_kelvin"]),
    "another split": (of_sample(split="test"), [SHARD, "record 2: split"]),
    "another guide": (
        of_sample(guides={"water": np.zeros((64, 64), np.float32)}),
        [SHARD, "record 2: guides", "water"],
    ),
    "a coarse guide": (
        of_sample(guides={"ndvi": np.zeros((16, 16), np.float32)}),
        [SHARD, "record 2: guide/ndvi/shape", "[64, 64]"],
    ),
    "a truth": (
        of_sample(truth_kelvin=np.zeros((64, 64), np.float32), guides={}),
        [SHARD, "record 2: guides"],
    ),
    "no CRS": (
        of_record(lambda record: record.replace(b"PROJC", b"PROJX")),
        [SHARD, "record 2", "damaged"],
    ),
    "no text": (
        of_record(lambda record: record.replace(b"place1", b"plac\xff1")),
        [SHARD, "record 2", "damaged"],
    ),
    "no record": (of_record(lambda record: b"\xff" * 40), [SHARD, "record 2", "tf.train.Example"]),
    "no gzip": (lambda folder: replaced(folder, b"TFRecord" * 9), [SHARD, "cannot be read"]),
    "cut off": (
        lambda folder: replaced(folder, shard_bytes([encode_sample(coordinate_sample(0))])[:-30]),
        [SHARD, "cannot be read"],
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_told_with_its_place_by_each_way_of_reading(records, fault):
    damage, words = FAULTS[fault]
    folder = records(train=2, validation=1, shards=1)
    damage(folder)
    for name, read in READERS.items():
        start = time.monotonic()
        with pytest.raises(RecordsError) as caught:
            read(folder)
        assert time.monotonic() - start < 20, name
        for word in words:
            assert word in str(caught.value), name


def test_a_whole_folder_is_read_and_its_files_are_hashed_once(records, monkeypatch):
    folder = records(train=4, validation=1, shards=2)
    hashed = []
    sha256_of = checking.sha256_of
    monkeypatch.setattr(checking, "sha256_of", lambda path: hashed.append(path) or sha256_of(path))
    for read in READERS.values():
        assert len(read(folder)) > 0
    assert sorted(hashed) == sorted(folder.glob("train-*.gz"))
    shard = hashed[0]
    content = shard.read_bytes()
    shard.write_bytes(content)  # another time of change, the same content
    READERS["samples"](folder)
    assert len(hashed) == 3


def test_a_record_is_not_read_beyond_its_limit(tmp_path):
    path = tmp_path / "shard.gz"
    path.write_bytes(shard_bytes([bytes(100)]))
    assert list(read_shard(path, most_bytes=100)) == [bytes(100)]
    with pytest.raises(RecordsError, match="found 100 bytes; expected at most 99"):
        list(read_shard(path, most_bytes=99))


def test_a_small_part_of_the_benchmark(tmp_path):
    for trial in damaged_records.trials(Round(tmp_path, 7, 32)):
        verdict, text = judged(trial)
        assert verdict in ACCEPTED, f"{trial.name}: {verdict}: {text}"
