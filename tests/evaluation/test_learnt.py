"""A model that is scored on what it has learnt from is named."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from keras_lstsr.evaluation.run import learnt_note

FILES = {name: frozenset({f"{name} lst", f"{name} ndvi", f"{name} truth"}) for name in "abc"}


def predictor(learnt_from, scores=None):
    card = {"name": "guided", "learnt_from": learnt_from, "scores": scores or {}}
    return SimpleNamespace(provenance={"model_card": card})


def test_samples_learnt_from_are_counted():
    means = {"guided": {"bias_free_rmse_kelvin": 1.25, "ssim": 0.8}, "bicubic": {"ssim": 0.1}}
    learnt = predictor({"b": ["b truth", "b lst"]}, {"aster": {"means": means}})
    note = learnt_note("ours", learnt, FILES)
    assert note is not None
    assert "ours has learnt from 1 of these 3 samples" in note
    assert note.endswith("(cross-validation): bias-free RMSE 1.250 K, SSIM 0.800.")


def test_the_same_name_with_other_content_is_not_the_same_sample():
    assert learnt_note("ours", predictor({"b": ["0" * 64]}), FILES) is None


@pytest.mark.parametrize("provenance", [{}, {"model_card": "damaged"}])
def test_models_without_a_card(provenance):
    assert learnt_note("ours", SimpleNamespace(provenance=provenance), FILES) is None


def test_samples_without_files():
    assert learnt_note("ours", predictor({"b": ["b truth"]}), {"b": frozenset()}) is None


def test_without_cross_validation_the_note_says_no_figure():
    note = learnt_note("ours", predictor({"b": ["b truth"]}), FILES)
    assert note is not None
    assert "cross-validation" not in note
