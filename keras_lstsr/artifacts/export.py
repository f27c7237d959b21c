"""From a trained model to a SavedModel that TF Serving serves: signature, contract, warm-up."""

from __future__ import annotations

from datetime import UTC, datetime
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from keras_lstsr.artifacts.contract import CONTRACT_FILE
from keras_lstsr.artifacts.loading import model_contract, open_model
from keras_lstsr.artifacts.saved_model import (
    WARMUP_FILE,
    existing_versions,
    require_tensorflow,
    write_archive,
    write_warmup_requests,
)
from keras_lstsr.errors import ModelError
from keras_lstsr.files import written_whole

if TYPE_CHECKING:
    import keras


def export_model(source: str | PathLike[str], output: str | PathLike[str]) -> Path:
    """Exports a model with what is known of it; see ``export_saved_model``.

    Args:
        source: A model folder, a ``.keras`` file or the name of weights that come with the
            package; see ``open_model``.
        output: The model's folder, e.g. ``models/lstsr``; it gets a new version inside.

    Returns:
        The new version's folder.

    Raises:
        ModelError: If there is no finished model, or a file of it is damaged, or Keras's backend
            is not TensorFlow.
        MissingExtraError: If TensorFlow or the extra ``serving`` is not installed.
    """
    _require_tensorflow_backend()
    model, provenance = open_model(source)
    return export_saved_model(model, output, provenance=provenance)


def _require_tensorflow_backend() -> None:
    require_tensorflow("a SavedModel")
    import keras

    backend, problem = keras.config.backend(), "a SavedModel needs Keras's TensorFlow backend"
    action = "Export again with KERAS_BACKEND=tensorflow: model.keras is the same for all backends."
    fits = backend == "tensorflow"
    ModelError.unless(fits, "KERAS_BACKEND", backend, "tensorflow", problem, action=action)


def export_saved_model(
    model: keras.Model, output: str | PathLike[str], *, provenance: dict[str, Any]
) -> Path:
    """Writes a model as the next version under ``output``, ready for TF Serving.

    The version is written beside and then renamed, so that a server that polls the folder never
    sees half of it. The signature ``serving_default`` takes ``lst_kelvin [B, h, w, 1]`` and
    returns ``lst_kelvin_fine [B, f·h, f·w, 1]``, float32 kelvin; that of a guided model also takes
    its guides by name and returns ``lst_std_kelvin`` and ``guide_followed``, all of them
    ``[B, f·h, f·w, 1]``. It refuses values outside the contract's valid ranges
    (INVALID_ARGUMENT). The signature ``contract`` returns contract.json.

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
    version = output / str(model_version)
    try:
        with written_whole(version) as partial:
            partial.mkdir()
            write_archive(model, contract, partial)
            (partial / CONTRACT_FILE).write_text(contract.to_json(), encoding="utf-8")
            write_warmup_requests(partial / WARMUP_FILE, contract)
    except OSError as error:
        if not version.exists():
            raise
        raise ModelError(
            "another export took this version meanwhile", path=version, action="Export again."
        ) from error
    return version
