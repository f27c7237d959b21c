"""A model that is scored on what it was trained on is named."""

from __future__ import annotations

from types import SimpleNamespace

from keras_lstsr.artifacts.model_folder import ModelCard
from keras_lstsr.evaluation.seen_pairs import training_note
from keras_lstsr.pairs.files import LoadedPair, find_pairs
from keras_lstsr.training.pretrain_folder import files_of


def predictor(files, error=None):
    card = ModelCard(name="guided", learnt_from={"all": tuple(files.values())})
    if error is not None:
        means = {"guided": {"bias_free_rmse_kelvin": error, "ssim": 0.8}}
        card.scores["aster"] = {"means": means}
    return SimpleNamespace(provenance={"model_card": card.model_dump(mode="json")})


def test_pairs_seen_in_training_are_counted(pairs_dir):
    sources = find_pairs(pairs_dir)
    assert len(sources) > 1
    files = files_of(sources[:1])
    note = training_note("ours", predictor(files, 1.25), sources)
    assert note is not None
    assert f"ours was trained on 1 of these {len(sources)} pairs" in note
    assert note.endswith("(cross-validation): bias-free RMSE 1.250 K, SSIM 0.800.")


def test_the_same_name_with_other_content_is_not_the_same_pair(pairs_dir):
    sources = find_pairs(pairs_dir)
    files = dict.fromkeys(files_of(sources), "0" * 64)
    assert training_note("ours", predictor(files), sources) is None


def test_models_without_a_card_and_pairs_without_files(pairs_dir):
    sources = find_pairs(pairs_dir)
    assert training_note("ours", SimpleNamespace(provenance={}), sources) is None
    loaded = [LoadedPair(sources[0].load())]
    assert training_note("ours", predictor(files_of(sources)), loaded) is None


def test_without_cross_validation_the_note_says_no_figure(pairs_dir):
    sources = find_pairs(pairs_dir)
    note = training_note("ours", predictor(files_of(sources)), sources)
    assert note is not None
    assert "cross-validation" not in note
