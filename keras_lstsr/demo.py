"""The whole way on simulated scenes: one function that joins the rooms, as a user would."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.table import Table

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, ServingError
from keras_lstsr.evaluation.benchmark import BASELINE, BenchmarkResult

MARKER = ".keras-lstsr-demo"
SERVER_START_SECONDS = 120


@dataclass(frozen=True)
class DemoPaths:
    """Where the demo puts what it makes.

    Attributes:
        root: The demo's folder.
    """

    root: Path

    @property
    def scenes(self) -> Path:
        """Simulated scenes for training."""
        return self.root / "scenes"

    @property
    def unseen(self) -> Path:
        """Simulated scenes of other ground, for the test."""
        return self.root / "unseen_scenes"

    @property
    def records(self) -> Path:
        """TFRecords."""
        return self.root / "records"

    @property
    def run(self) -> Path:
        """The training run."""
        return self.root / "run"

    @property
    def evaluation(self) -> Path:
        """Tables and figures."""
        return self.root / "evaluation"

    @property
    def models(self) -> Path:
        """SavedModel versions, as TF Serving wants them."""
        return self.root / "models" / "lstsr"

    @property
    def prediction(self) -> Path:
        """The 250 m map."""
        return self.root / "prediction.tif"
