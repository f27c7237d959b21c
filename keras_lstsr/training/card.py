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
    before: ModelCard | None = None,
) -> ModelCard:
    """Describes a model that was trained on records.

    Args:
        config: Its settings.
        records_dir: The records.
        info: Its run.
        model: Its ``model.keras``.
        before: The card of the model whose weights the training started from: what that has learnt
            from, this one has learnt from, too.
    """
    metadata = load_metadata(records_dir)
    scenes = metadata.scenes
    learnt_from = [name for name, scene in scenes.items() if scene.records.get("train")]
    card = ModelCard(
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
        initial_weights=info.initial_weights,
    )
    return card if before is None else _with_what_was_learnt(card, before)


def _with_what_was_learnt(card: ModelCard, before: ModelCard) -> ModelCard:
    """Returns a card with the data and samples of the model that the training started from."""
    data = {**before.data, **card.data}
    for name in before.data.keys() & card.data.keys():
        old, new = before.data[name], card.data[name]
        licences = dict.fromkeys(filter(None, (new.licence, old.licence)))
        data[name] = new.model_copy(
            update={"files": {**old.files, **new.files}, "licence": "; ".join(licences)}
        )
    learnt = dict(before.learnt_from)
    for name, files in card.learnt_from.items():
        # The same name may stand for another sample.
        learnt[name] = tuple(dict.fromkeys((*learnt.get(name, ()), *files)))
    return card.model_copy(update={"data": data, "learnt_from": learnt})


def _files(scenes: Iterable[SceneInfo]) -> dict[str, str]:
    return {name: sha256 for scene in scenes for name, sha256 in scene.files.items()}
