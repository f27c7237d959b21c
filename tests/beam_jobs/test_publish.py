"""Publishing may be repeated: a runner that lost an answer does a step again."""

from __future__ import annotations

import json

import pytest

from beam_jobs import publish as publishing
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.schema import DeadLetter, ShardInfo, SourceInfo, load_metadata
from keras_lstsr.records.statistics import SampleStatistics
from keras_lstsr.records.summary import SceneReport, ShardReport, dataset_metadata
from keras_lstsr.records.writer import shard_count, shard_of


@pytest.fixture
def job(tmp_path):
    staging, output = tmp_path / "out.incomplete-1", tmp_path / "out"
    staging.mkdir()
    shards = []
    for number in range(3):
        written = staging / f"attempt-{number}"
        written.write_bytes(bytes([number]))
        info = ShardInfo(file=f"train-{number:05d}-of-00003.tfrecord.gz", records=1, sha256="")
        shards.append(ShardReport("train", number, info, str(written), number))
    source = SourceInfo(
        path="a.tif",
        role="lst",
        sha256="",
        granule_id="a.tif",
        product="LST_GEOTIFF",
        version="",
        tile="",
        acquisition_date="",
        pixels=1,
    )
    report = SceneReport(source, SampleStatistics(), {("train", "here"): 3}, {("train", "day"): 3})
    metadata = dataset_metadata([report], [], shards, SampleStatistics(), 1, CutSettings(), {})
    letters = [DeadLetter(path="b.tif", reason="cut off")]
    return str(staging), output, metadata, shards, letters


def test_publishing_moves_all_and_may_be_repeated(job):
    staging, output, metadata, shards, letters = job
    for _ in range(2):
        publishing.publish(staging, str(output), metadata, shards, letters)
        assert [(output / shard.info.file).read_bytes() for shard in shards] == [
            b"\0",
            b"\1",
            b"\2",
        ]
        assert load_metadata(output) == metadata
        assert json.loads((output / "dead_letter.json").read_text())[0]["path"] == "b.tif"


@pytest.mark.parametrize("failing_move", [1, 2, 3])
def test_a_failure_halfway_never_looks_complete_and_the_next_attempt_ends_it(
    job, monkeypatch, failing_move
):
    staging, output, metadata, shards, letters = job
    output.mkdir()
    (output / "dataset.json").write_text("old")
    (output / "test-00000-of-00001.tfrecord.gz").write_text("old")
    moves = []
    original = publishing._move

    def fail_once(pairs):
        moves.append(pairs)
        if len(moves) == failing_move:
            original(pairs[: len(pairs) // 2])
            raise OSError("network gone")
        original(pairs)

    monkeypatch.setattr(publishing, "_move", fail_once)
    with pytest.raises(OSError, match="network gone"):
        publishing.publish(staging, str(output), metadata, shards, letters)
    assert not (output / "dataset.json").exists()
    publishing.publish(staging, str(output), metadata, shards, letters)
    assert load_metadata(output) == metadata
    names = {shard.info.file for shard in shards} | {"dataset.json", "dead_letter.json"}
    assert {path.name for path in output.iterdir()} == names


def test_shards_are_numbered_without_gaps_and_never_more_than_records():
    assert [shard_count(n, None, 256) for n in (0, 1, 256, 257)] == [0, 1, 1, 2]
    assert [shard_count(n, 4, 256) for n in (0, 3, 4, 1000)] == [0, 3, 4, 4]
    assert {shard_of(f"key {i}", 4) for i in range(100)} == {0, 1, 2, 3}
