"""From a trained model to a SavedModel that TF Serving serves: signature, contract, warm-up."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from datetime import UTC, datetime
from importlib.metadata import version
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml

from keras_lstsr import __version__
from keras_lstsr.contract import (
    CONTRACT_FILE,
    GUIDE_NAME,
    INPUT_NAME,
    OUTPUT_NAME,
    Contract,
)
from keras_lstsr.errors import MissingExtraError, ModelError
from keras_lstsr.saved_model import WARMUP_FILE, write_archive, write_warmup_requests

if TYPE_CHECKING:
    import keras

_SIZES_TRIED_PIXELS = (*range(1, 17), 24, 32, 48, 64, 128)
_PROBE_KELVIN, _PROBE_NDVI = 290.0, 0.5


def export_run(run_dir: str | PathLike[str], output: str | PathLike[str]) -> Path:
    """Exports the best model of a training run.

    Args:
        run_dir: Folder with ``model.keras`` and ``run.json``; ``config.yaml`` and
            ``dataset.json`` are taken into the provenance where they are there.
        output: The model's folder, e.g. ``models/lstsr``; it gets a new version inside.

    Returns:
        The new version's folder.

    Raises:
        ModelError: If the run has no finished model, or a file of it is damaged, or Keras's
            backend is not TensorFlow.
        MissingExtraError: If TensorFlow or the extra ``serving`` is not installed.
    """
    _require_tensorflow_backend()
    run_dir = Path(run_dir)
    provenance = run_provenance(run_dir)
    return export_saved_model(load_keras_model(run_dir), output, provenance=provenance)


def load_keras_model(path: str | PathLike[str]) -> keras.Model:
    """Loads a ``.keras`` file, or the best model of a run folder.

    Raises:
        ModelError: If there is no such file, or Keras cannot read it.
    """
    path = Path(path)
    file = path / "model.keras" if path.is_dir() else path
    if not file.is_file():
        raise ModelError(
            "there is no trained model",
            path=file,
            expected="a run folder of `keras-lstsr train` with model.keras, or a .keras file",
            action="Train first, or let the training finish its first epoch.",
        )
    import keras

    import keras_lstsr.models  # noqa: F401  # registers the layers; Keras finds them by name

    try:
        return keras.models.load_model(file, compile=False)
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ModelError(
            "Keras cannot read the model",
            path=file,
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error),
            expected="a .keras file written by keras-lstsr",
            action="Train or copy it again.",
        ) from error


def run_provenance(run_dir: str | PathLike[str]) -> dict[str, Any]:
    """Collects what a run folder says of its model: run, settings, data.

    Returns:
        ``run`` (all of run.json), ``run_name``, ``dataset_fingerprint``, and ``config`` where
        config.yaml is there.

    Raises:
        ModelError: If run.json is missing, or one of the files is damaged.
    """
    run_dir = Path(run_dir)
    run = _read_mapping(run_dir / "run.json", required=True)
    provenance: dict[str, Any] = {
        "run_name": run.get("run_name", run_dir.resolve().name),
        "dataset_fingerprint": run.get("dataset_fingerprint", ""),
        "run": run,
    }
    config = _read_mapping(run_dir / "config.yaml", required=False)
    if config:
        provenance["config"] = config
    return provenance


def _read_mapping(path: Path, *, required: bool) -> dict[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
        content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except FileNotFoundError as error:
        if not required:
            return {}
        raise ModelError(
            "this is no finished training run",
            path=path,
            found="no such file",
            expected="a run folder of `keras-lstsr train`",
            action="Name the folder that was given to train as --output.",
        ) from error
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ModelError("the file of the run cannot be read", path=path, found=error) from error
    if not isinstance(content, dict):
        raise ModelError(
            "the file of the run is damaged",
            path=path,
            found=type(content).__name__,
            expected="a mapping",
        )
    return content


def model_contract(
    model: keras.Model, *, provenance: dict[str, Any], model_version: int = 0
) -> Contract:
    """Makes a model's contract; scale factor and least size are found by trying.

    A model with an input ``ndvi`` is one with a guide.

    Args:
        model: Takes ``[B, h, w, 1]`` kelvin and returns ``[B, f·h, f·w, 1]``; or a model of
            ``build_guided``.
        provenance: Where the model comes from; software versions, the hash of the weights and
            the time are added.
        model_version: Number of the SavedModel's version; 0 if it is not exported.

    Raises:
        ModelError: If the model takes none of the sizes tried, or its output is no whole
            multiple of its input, or a model with a guide is none of ``build_guided``.
    """
    import keras

    guided = takes_guide(model)
    factor = _guided_factor(model) if guided else None
    size, shape = _smallest_that_works(model, factor)
    wrong = len(shape) != 4 or shape[1] != shape[2] or shape[1] % size or shape[3] != 1
    if wrong or factor not in (None, shape[1] // size):
        raise ModelError(
            "the model's output does not fit its input",
            field=OUTPUT_NAME,
            found=list(shape),
            expected=f"[1, f·{size}, f·{size}, 1] with a whole factor f",
        )
    backend = keras.config.backend()
    software = {
        "keras_lstsr": __version__,
        "keras": keras.__version__,
        backend: version(backend),
    }
    known: dict[str, Any] = {
        "model_version": model_version,
        "scale_factor": shape[1] // size,
        "minimum_size_pixels": size,
        "provenance": {
            **provenance,
            "weights_sha256": weights_sha256(model),
            "parameters": int(model.count_params()),
            "software": software,
        },
    }
    if not guided:
        return Contract.of_single_image_model(**known)
    return Contract.of_guided_model(**known, margin_pixels=_statistics_margin(model))


def takes_guide(model: keras.Model) -> bool:
    """Says whether a model has an input for NDVI beside LST."""
    return GUIDE_NAME in {tensor.name for tensor in getattr(model, "inputs", None) or ()}


def _smallest_that_works(model: keras.Model, factor: int | None) -> tuple[int, tuple[int, ...]]:
    """Tries sizes, smallest first; returns the first that works and the shape of its result."""
    too_small = _errors_of_small_images()
    for size in _SIZES_TRIED_PIXELS:
        probe = {INPUT_NAME: np.full([1, size, size, 1], _PROBE_KELVIN, np.float32)}
        if factor is not None:
            probe[GUIDE_NAME] = np.full(
                [1, size * factor, size * factor, 1], _PROBE_NDVI, np.float32
            )
        try:
            result = model(probe, training=False)
        except too_small:
            continue  # for this network's depth
        return size, tuple((result if factor is None else result[OUTPUT_NAME]).shape)
    raise ModelError(
        "the model takes no single-channel image",
        found=f"failure for all sizes up to {_SIZES_TRIED_PIXELS[-1]} pixels",
        expected="a model of build_model or build_guided: [B, h, w, 1] in kelvin",
    )


def _guided_factor(model: keras.Model) -> int:
    from keras_lstsr.models.guidance import BlockMean

    return int(_layer_of(model, BlockMean).scale_factor)


def _statistics_margin(model: keras.Model) -> int:
    """Coarse pixels from which on a window's statistics lack nothing; bilinear adds the one."""
    from keras_lstsr.models.guidance import LocalRegression

    return int(_layer_of(model, LocalRegression).wide_window_pixels) // 2 + 1


def _layer_of(model: keras.Model, kind: type) -> Any:
    for layer in model.layers:
        if isinstance(layer, kind):
            return layer
    raise ModelError(
        "the model takes NDVI, but is none of build_guided",
        field=model.name,
        found=f"no layer {kind.__name__}",
        action="Build it with keras_lstsr.models.guided.build_guided.",
    )


def _errors_of_small_images() -> tuple[type[Exception], ...]:
    """What a network raises when nothing is left of an image: it depends on the backend."""
    import keras

    if keras.config.backend() != "tensorflow":
        return (ValueError, TypeError, ZeroDivisionError)
    import tensorflow as tf

    return (ValueError, tf.errors.InvalidArgumentError)


def require_tensorflow(purpose: str) -> None:
    """Checks that TensorFlow is installed.

    Args:
        purpose: What needs it, e.g. ``"serving"``.

    Raises:
        MissingExtraError: If it is not.
    """
    try:
        import tensorflow  # noqa: F401
    except ImportError as error:
        raise MissingExtraError(
            f"{purpose} needs TensorFlow",
            found=str(error),
            action="Install it with `pip install tensorflow`; predict and evaluate take the run "
            "folder or its model.keras without.",
        ) from error


def _require_tensorflow_backend() -> None:
    require_tensorflow("a SavedModel")
    import keras

    if keras.config.backend() != "tensorflow":
        raise ModelError(
            "a SavedModel is written with Keras's TensorFlow backend",
            field="KERAS_BACKEND",
            found=keras.config.backend(),
            expected="tensorflow",
            action="Export again with KERAS_BACKEND=tensorflow: model.keras is the same for all "
            "backends.",
        )


def weights_sha256(model: keras.Model) -> str:
    """Hashes all weights with their shapes, in the model's order: the same weights, the same hash.

    Names are left out, since Keras numbers layers anew in every process.
    """
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def export_saved_model(
    model: keras.Model, output: str | PathLike[str], *, provenance: dict[str, Any]
) -> Path:
    """Writes a model as the next version under ``output``, ready for TF Serving.

    The version is written beside and then renamed, so that a server that polls the folder never
    sees half of it. The signature ``serving_default`` takes ``lst_kelvin [B, h, w, 1]`` and
    returns ``lst_kelvin_fine [B, f·h, f·w, 1]``, float32 kelvin; that of a guided model also takes
    ``ndvi`` and returns ``lst_std_kelvin``, both ``[B, f·h, f·w, 1]``. It refuses values outside
    the contract's valid ranges (INVALID_ARGUMENT). The signature ``contract`` returns
    contract.json.

    Args:
        model: A model of ``build_model`` or ``build_guided``.
        output: The model's folder, e.g. ``models/lstsr``.
        provenance: Goes into the contract.

    Returns:
        The version's folder: ``saved_model.pb``, ``variables/``, ``contract.json`` and
        ``assets.extra/tf_serving_warmup_requests``.

    Raises:
        ModelError: If the model does not fit the signature, another export took the version, or
            Keras's backend is not TensorFlow.
        MissingExtraError: If TensorFlow or the extra ``serving`` is not installed.
    """
    _require_tensorflow_backend()
    output = Path(output)
    output.mkdir(parents=True, exist_ok=True)
    model_version = max(existing_versions(output), default=0) + 1
    contract = model_contract(
        model,
        provenance={**provenance, "exported_at": datetime.now(UTC).isoformat(timespec="seconds")},
        model_version=model_version,
    )
    # TF Serving looks at folders whose name is a number; this one is none.
    partial = Path(tempfile.mkdtemp(prefix=f".{model_version}.partial-", dir=output))
    try:
        write_archive(model, contract, partial)
        (partial / CONTRACT_FILE).write_text(contract.to_json(), encoding="utf-8")
        write_warmup_requests(partial / WARMUP_FILE, contract)
        partial.chmod(0o755)  # mkdtemp's 0700 would hide the model from a server's own user
        try:
            partial.rename(output / str(model_version))
        except OSError as error:
            raise ModelError(
                "another export took this version meanwhile",
                path=output / str(model_version),
                action="Export again.",
            ) from error
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise
    return output / str(model_version)


def existing_versions(models_dir: str | PathLike[str]) -> list[int]:
    """Lists the version numbers under a model's folder, ascending."""
    with os.scandir(models_dir) as entries:
        return sorted(
            int(entry.name) for entry in entries if entry.name.isdecimal() and entry.is_dir()
        )
