"""Fixtures that find the real data, where it is there."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

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


def _random_model(*, width: int = 4, depth: int = 2, seed: int = 0) -> Any:
    """A network with random weights and BatchNorm statistics that adds some 0.3 K of detail."""
    import numpy as np

    from keras_lstsr.config import ModelConfig
    from keras_lstsr.models.registry import build_model

    model = build_model(
        ModelConfig(width=width, depth=depth, offset_kelvin=290.0, scale_kelvin=10.0)
    )
    rng = np.random.default_rng(seed)
    weights = []
    for variable in model.weights:
        shape = variable.shape
        if "variance" in variable.path:
            weights.append(rng.uniform(0.5, 1.5, shape))
        elif len(shape) < 2:
            weights.append(rng.normal(0, 0.15, shape))
        else:
            weights.append(rng.normal(0, 2.5 / np.sqrt(np.prod(shape[:-1])), shape))
    model.set_weights(weights)
    return model


@pytest.fixture(scope="session")
def tiny_model() -> Any:
    """A small network of ``build_model`` with random weights."""
    return _random_model()


@pytest.fixture(scope="session")
def tiny_models_dir(tiny_model: Any, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model's folder: version 1 (other weights) and 2 (``tiny_model``); not to be changed."""
    from keras_lstsr.artifacts.export import export_saved_model

    folder = tmp_path_factory.mktemp("models") / "lstsr"
    export_saved_model(_random_model(seed=1), folder, provenance={"run_name": "older"})
    export_saved_model(
        tiny_model, folder, provenance={"run_name": "tiny", "dataset_fingerprint": "f" * 64}
    )
    return folder


@pytest.fixture(scope="session")
def untrained_guided_model() -> Any:
    """A small network of ``build_guided`` that adds nothing to its first guess."""
    from keras_lstsr.config import GuidedModelConfig
    from keras_lstsr.models.guided import build_guided

    return build_guided(GuidedModelConfig(width=4))


@pytest.fixture(scope="session")
def tiny_guided_model(untrained_guided_model: Any) -> Any:
    """The same with random weights: it adds some 0.2 K, and its spread varies."""
    import keras
    import numpy as np

    model = keras.models.clone_model(untrained_guided_model)
    rng = np.random.default_rng(0)
    model.set_weights(
        [rng.normal(0, 1 / np.sqrt(np.prod(w.shape[:-1])), w.shape) for w in model.get_weights()]
    )
    return model


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
