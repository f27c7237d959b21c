"""Records folders and folders of pairs for the tests of this room."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from keras_lstsr.testing.records import coordinate_sample, write_made_records
from keras_lstsr.testing.samples import write_pairs


@pytest.fixture
def records(tmp_path) -> Callable[..., Path]:
    """Writes a records folder with so many samples per split; more options as keywords."""

    def make(
        train=12, validation=4, test=0, *, with_ndvi=True, truth=False, shards=2, name="records"
    ) -> Path:
        return write_made_records(
            tmp_path / name,
            {"train": train, "validation": validation, "test": test},
            make=coordinate_sample,
            guides=("ndvi",) if with_ndvi else (),
            truth=truth,
            num_shards=shards,
        )

    return make


@pytest.fixture(scope="session")
def pairs_dir(tmp_path_factory) -> Path:
    """Four pairs in two groups, truths one pixel down and right of where they are; read only."""
    return write_pairs(tmp_path_factory.mktemp("pairs"))
