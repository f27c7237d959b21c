"""Pairs on disk, made by ``keras_lstsr.testing``."""

from __future__ import annotations

from pathlib import Path

import pytest

from keras_lstsr.testing.samples import write_pairs


@pytest.fixture(scope="session")
def pairs_dir(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Four pairs in two groups, truths one pixel down and right of where they are; read only."""
    return write_pairs(tmp_path_factory.mktemp("evaluation") / "pairs")
