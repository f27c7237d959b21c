"""Records folders that are damaged or made up: flipped bits, other names, wrong counts, bombs."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
import struct
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstsr.records.codec import encode_sample
from keras_lstsr.records.reading import iterate_samples
from keras_lstsr.records.tfrecord import masked_crc32c, shard_bytes
from keras_lstsr.testing.records import coordinate_sample, write_made_records
from keras_lstsr.testing.robustness import Round, Trial

_SAMPLES = 4
Damage = Callable[[Path, np.random.Generator], None]


def _shard(folder: Path) -> Path:
    return next(iter(folder.glob("train-*.tfrecord.gz")))


def _edit(folder: Path, change: Callable[[dict[str, Any]], None]) -> None:
    path = folder / "dataset.json"
    content = json.loads(path.read_text(encoding="utf-8"))
    change(content)
    path.write_text(json.dumps(content), encoding="utf-8")


def _replace(folder: Path, content: bytes) -> None:
    """Writes another shard, with the checksum to match."""
    _shard(folder).write_bytes(content)
    sha256 = hashlib.sha256(content).hexdigest()
    _edit(folder, lambda metadata: metadata["shards"]["train"][0].update(sha256=sha256))


def flipped(folder: Path, rng: np.random.Generator) -> None:
    """A shard with some bits flipped."""
    shard = _shard(folder)
    content = bytearray(shard.read_bytes())
    for place in rng.integers(len(content), size=rng.integers(1, 4)):
        content[place] ^= 1 << int(rng.integers(8))
    shard.write_bytes(content)


def cut(folder: Path, rng: np.random.Generator) -> None:
    """A shard without its end."""
    content = _shard(folder).read_bytes()
    _shard(folder).write_bytes(content[: rng.integers(len(content))])


def misnamed(folder: Path, rng: np.random.Generator) -> None:
    """An entry that names a file elsewhere."""
    name = rng.choice(["../x", "/etc/passwd", "..", "a/b", "", "\\\\host\\x", "x\x00"])
    _edit(folder, lambda metadata: metadata["shards"]["train"][0].update(file=str(name)))


def miscounted(folder: Path, rng: np.random.Generator) -> None:
    """Counts that are not those of the shards."""
    number = int(rng.choice([-1, 0, _SAMPLES - 1, _SAMPLES + 1, 10**15]))
    place = int(rng.integers(3))

    def change(metadata: dict[str, Any]) -> None:
        if place != 1:
            metadata["counts"]["train"] = number
        if place != 0:
            metadata["shards"]["train"][0]["records"] = number

    _edit(folder, change)


def bombs(folder: Path, rng: np.random.Generator) -> None:
    """A record that says to be of gigabytes."""
    length = struct.pack("<Q", int(rng.choice([2**30, 3 * 2**30, 2**45, 2**63])))
    head = length + struct.pack("<I", masked_crc32c(length))
    _replace(folder, gzip.compress(head + bytes(2**20)))


def implausible(folder: Path, rng: np.random.Generator) -> None:
    """A sample whose temperatures are none, with right checksums."""
    values = coordinate_sample(0).lst_kelvin.copy()
    values.flat[rng.integers(values.size)] = rng.choice([0.0, 149.0, 401.0, 14500.0, np.inf])
    sample = replace(coordinate_sample(0), lst_kelvin=values)
    others = [encode_sample(coordinate_sample(number)) for number in range(1, _SAMPLES)]
    _replace(folder, shard_bytes([encode_sample(sample), *others]))


def mutated(folder: Path, rng: np.random.Generator) -> None:
    """A record whose features are cut, doubled or of other kinds, with right checksums."""
    record = bytearray(encode_sample(coordinate_sample(0)))
    match int(rng.integers(3)):
        case 0:
            del record[rng.integers(len(record)) :]
        case 1:
            record = bytearray(rng.bytes(len(record)))
        case _:
            record[: rng.integers(1, 200)] = rng.bytes(100)
    others = [encode_sample(coordinate_sample(number)) for number in range(1, _SAMPLES)]
    _replace(folder, shard_bytes([bytes(record), *others]))


def metadata_bytes(folder: Path, rng: np.random.Generator) -> None:
    """A ``dataset.json`` with some bytes replaced, cut or nested."""
    path = folder / "dataset.json"
    content = bytearray(path.read_bytes())
    match int(rng.integers(3)):
        case 0:
            content[rng.integers(len(content))] = int(rng.integers(256))
        case 1:
            del content[rng.integers(len(content)) :]
        case _:
            content[:0] = b"[" * int(rng.choice([10, 10**6]))
    path.write_bytes(content)


DAMAGES: tuple[Damage, ...] = (
    flipped,
    cut,
    misnamed,
    miscounted,
    bombs,
    implausible,
    mutated,
    metadata_bytes,
)


def reads_right(folder: Path) -> bool:
    """Reads the training split; returns whether it holds what was written."""
    found = {sample.name: sample.lst_kelvin for sample in iterate_samples(folder, "train")}
    wanted = {f"scene{number}": coordinate_sample(number) for number in range(_SAMPLES)}
    return sorted(found) == sorted(wanted) and all(
        np.array_equal(found[name], sample.lst_kelvin) for name, sample in wanted.items()
    )


def trials(round_: Round) -> Iterator[Trial]:
    """Yields the trials with records."""
    rng = np.random.default_rng(round_.seed)
    whole = write_made_records(
        round_.folder / "whole", {"train": _SAMPLES, "validation": 1}, make=coordinate_sample
    )
    yield Trial("whole folders", "whole", partial(reads_right, whole))
    for number in range(round_.count):
        damage = DAMAGES[number % len(DAMAGES)]
        folder = round_.folder / f"{damage.__name__}-{number}"
        shutil.copytree(whole, folder)
        damage(folder, rng)
        yield Trial(damage.__name__, folder.name, partial(reads_right, folder), folder.name)
