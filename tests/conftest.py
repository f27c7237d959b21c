"""Real data where it is there, the papers' networks a second time, and tiny models."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from keras_lstsr.testing import models

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


@pytest.fixture(scope="session")
def reference_networks() -> ModuleType:
    """The papers' networks written down a second time, in ``tests/models``."""
    path = ROOT / "tests" / "models" / "reference_networks.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """See ``testing.models.tiny_model``."""
    return models.tiny_model()


@pytest.fixture(scope="session")
def tiny_models_dir(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder: version 1 (other weights) and 2 (``tiny_model``); not to be changed."""
    from keras_lstsr.artifacts.export import export_saved_model

    folder = tmp_path_factory.mktemp("models") / "lstsr"
    export_saved_model(models.tiny_model(seed=1), folder, provenance={"run_name": "older"})
    export_saved_model(
        tiny_model, folder, provenance={"run_name": "tiny", "dataset_fingerprint": "f" * 64}
    )
    return folder


@pytest.fixture(scope="session")
def untrained_guided_model() -> Any:
    """A small guided network that adds nothing to its first guess."""
    return models.tiny_guided_model(seed=None)


@pytest.fixture(scope="session")
def tiny_guided_model() -> Any:
    """The same with random weights: it adds some 0.2 K, and its spread varies."""
    return models.tiny_guided_model()


@pytest.fixture(scope="session")
def tiny_guided_models_dir(
    tiny_guided_model: Any, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    """A model's folder with ``tiny_guided_model`` as version 1; not to be changed."""
    from keras_lstsr.artifacts.export import export_saved_model

    folder = tmp_path_factory.mktemp("guided_models") / "lstsr"
    export_saved_model(tiny_guided_model, folder, provenance={"run_name": "tiny-guided"})
    return folder


@pytest.fixture(scope="module")
def step_by_step():
    """Lets TensorFlow run the few steps as they come: a graph would take longest to make."""
    import keras

    if keras.config.backend() != "tensorflow":
        yield
        return
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)
