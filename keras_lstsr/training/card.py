"""What a training says of its model: the card of the model folder."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from keras_lstsr.artifacts.model_folder import CardData, ModelCard, RunInfo, library_versions
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.files import sha256_of
from keras_lstsr.records.schema import Origin, SceneInfo, load_metadata

_PURPOSES: dict[Origin, str] = {
    "observed": "training and validation",
    "degraded": "training: fine LST, and coarse LST made from it",
}


def training_card(
    config: ExperimentConfig,
    records_dir: Path,
    info: RunInfo,
    model: Path,
) -> ModelCard:
    """Describes a model that was trained on records, from its run and its ``model.keras``."""
    metadata = load_metadata(records_dir)
    scenes = metadata.scenes
    learnt_from = [name for name, scene in scenes.items() if scene.records.get("train")]
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
        learnt_from={name: tuple(scenes[name].files.values()) for name in sorted(learnt_from)},
        versions=library_versions(),
    )


def _files(scenes: Iterable[SceneInfo]) -> dict[str, str]:
    return {name: sha256 for scene in scenes for name, sha256 in scene.files.items()}
