"""What a training says of its model: the card of the model folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from keras_lstsr.artifacts.model_folder import CardData, ModelCard, RunInfo, library_versions
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.files import sha256_of
from keras_lstsr.records.schema import DatasetMetadata, Origin, SceneInfo

_PURPOSES: dict[Origin, str] = {
    "observed": "training and validation",
    "degraded": "training: fine LST, and coarse LST made from it",
}


def training_card(
    config: ExperimentConfig,
    metadata: DatasetMetadata,
    info: RunInfo,
    model: Path,
    *,
    learnt_from: Iterable[str],
) -> ModelCard:
    """Describes a model that was trained on records.

    Args:
        config: The settings.
        metadata: The records' description.
        info: The run.
        model: Its ``model.keras``.
        learnt_from: Names of the scenes in the training split.
    """
    scenes = metadata.scenes
    return ModelCard(
        name=config.model.network,
        description=config.description,
        task=config.data.task,
        guides=config.model.guides,
        parameters=info.parameters,
        model_sha256=sha256_of(model),
        data={
            origin: CardData(
                purpose=_PURPOSES[origin],
                files=_files(scene for scene in scenes.values() if scene.origin == origin),
                licence=config.data.licences.get(origin, ""),
            )
            for origin in _PURPOSES
            if any(scene.origin == origin for scene in scenes.values())
        },
        dataset_fingerprint=metadata.fingerprint,
        settings=json.loads(config.model_dump_json()),
        learnt_from={
            name: tuple(scenes[name].files.values()) for name in sorted(set(learnt_from))
        },
        versions=library_versions(),
    )


def _files(scenes: Iterable[SceneInfo]) -> dict[str, str]:
    return {name: sha256 for scene in scenes for name, sha256 in scene.files.items()}
