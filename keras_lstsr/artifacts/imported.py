"""A model folder from weights that were trained elsewhere."""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import Any

from keras_lstsr.artifacts.model_folder import (
    ImportedWeights,
    ModelFolder,
    RunInfo,
    library_versions,
    utc_now,
)
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, ModelError
from keras_lstsr.files import sha256_of
from keras_lstsr.models.registry import build_model
from keras_lstsr.models.torch_import import ImportReport, load_torch_weights, read_state_dict

# Reference network -> settings of the same network here.
_SETTINGS: dict[str, dict[str, str]] = {
    "mrunet-strided": {"architecture": "mrunet", "variant": "strided"},
    "mrunet-maxpool": {"architecture": "mrunet", "variant": "maxpool"},
    "vdsr": {"architecture": "vdsr"},
    "dmcn": {"architecture": "dmcn"},
}


def import_weights(
    file: str | PathLike[str],
    architecture: str,
    output_dir: str | PathLike[str],
    *,
    scale_kelvin: float,
    upsampling: str = "bilinear",
    scale_factor: int = 4,
    **shape: Any,
) -> ImportReport:
    """Writes a model folder with weights of the papers' PyTorch code.

    The folder has ``config.yaml``, ``model.keras`` and ``run.json`` with status ``"finished"`` and
    the file's SHA-256; it appears whole or not at all. Export, prediction and evaluation take it
    as they take a folder of ``train``.

    Args:
        file: ``.pth``, ``.pt`` or ``.npz``; see ``read_state_dict``.
        architecture: ``"mrunet-strided"``, ``"mrunet-maxpool"``, ``"vdsr"`` or ``"dmcn"``.
        output_dir: The model folder; must not exist, or be empty.
        scale_kelvin: Maximum of the training data in kelvin, by which the input is divided.
        upsampling: ``"bilinear"``, which the papers' code ran, or ``"bicubic"``.
        scale_factor: Fine pixels along a coarse pixel's side.
        **shape: ``width``, ``depth`` and ``bridge_blocks`` where they are not the published ones;
            None stands for the published one.

    Returns:
        What was imported and what was ignored.

    Raises:
        ModelError: If the file cannot be read or its weights are not the network's.
        MissingExtraError: If it needs PyTorch and that is not installed.
        ConfigError: If a setting is invalid or the output folder is not free.
    """
    file, folder = Path(file), ModelFolder(output_dir)
    config = _settings(
        architecture,
        {name: value for name, value in shape.items() if value is not None},
        name=folder.path.resolve().name,
        scale_kelvin=scale_kelvin,
        upsampling=upsampling,
        scale_factor=scale_factor,
    )
    if not folder.is_free():
        raise ConfigError(
            "the folder exists and is not empty",
            path=folder.path,
            action="Choose another --output, or delete it.",
        )
    state_dict = read_state_dict(file)
    model = build_model(config.model)
    try:
        report = load_torch_weights(model, state_dict, architecture)
    except ModelError as error:
        raise error.restated(file) from error
    info = RunInfo(
        run_name=config.name,
        status="finished",
        dataset_fingerprint="",
        parameters=model.count_params(),
        versions=library_versions(),
        finished=utc_now(),
        imported_weights=ImportedWeights(
            file=file.name,
            sha256=sha256_of(file),
            architecture=architecture,
            entries=len(report.imported),
            ignored=report.ignored_groups(),
        ),
    )
    folder.create(config, info, model=model)
    return report


def _settings(
    architecture: str, shape: dict[str, Any], *, name: str, **settings: Any
) -> ExperimentConfig:
    known, problem = ", ".join(_SETTINGS), "there is no such reference network"
    fits = architecture in _SETTINGS
    ConfigError.unless(fits, "architecture", repr(architecture), known, problem)
    # The papers' code divides by the maximum and subtracts nothing.
    scaling = {"normalisation": "max", "offset_kelvin": 0.0}
    model = {**_SETTINGS[architecture], **shape, **scaling, **settings}
    return ExperimentConfig.from_dict({"name": name, "model": model})
