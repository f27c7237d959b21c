"""Fixtures that find the real data, where it is there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def lstsr_data() -> Path:
    """The folder of real data: LSTSR_DATA, or shared/data beside the project."""
    named = os.environ.get("LSTSR_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip(f"no real data at {folder}: set LSTSR_DATA")
    return folder


@pytest.fixture(scope="session")
def lstsr_reference(lstsr_data: Path) -> Path:
    """The folder with golden outputs of reference implementations, beside the real data."""
    folder = lstsr_data.parent / "reference"
    if not folder.is_dir():
        pytest.skip(f"no reference outputs at {folder}")
    return folder
