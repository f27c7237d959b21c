"""Out-of-fold predictions are scored as ``evaluate --pairs`` scores."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import GridError
from keras_lstsr.evaluation.compare import evaluate_pairs
from keras_lstsr.evaluation.cross_validation import score_out_of_fold
from keras_lstsr.evaluation.methods import SharpeningMethod
from keras_lstsr.evaluation.protocols import AsterProtocol
from keras_lstsr.pairs.files import cropped_to_guide, find_pairs


@pytest.fixture(scope="module")
def predictions(pairs_dir):
    """What TsHARP says, 1 K too warm."""
    found = {}
    for source in find_pairs(pairs_dir):
        pair = cropped_to_guide(source.load(), 4)
        found[pair.name] = SharpeningMethod("tsharp")(pair.lst, pair.guide).values + np.float32(1)
    return found


def test_scores_are_those_of_the_same_maps_as_a_method(pairs_dir, predictions):
    sources = find_pairs(pairs_dir)
    scores = score_out_of_fold(sources, predictions)
    methods = {name: SharpeningMethod(name) for name in ("bicubic", "tsharp")}
    for variant, coregister in (("aster", "pixel"), ("aster_subpixel", "subpixel")):
        known = evaluate_pairs(sources, methods, [AsterProtocol()], coregister=coregister)
        summary = known.results[0].summary()
        for method in methods:
            assert scores.means[variant][method] == summary[method]
        ours, tsharp = scores.means[variant]["guided"], summary["tsharp"]
        for metric in ("bias_free_rmse_kelvin", "ssim", "high_pass_correlation"):
            assert ours[metric] == pytest.approx(tsharp[metric], rel=1e-3)
        assert ours["bias_kelvin"] == pytest.approx(tsharp["bias_kelvin"] + 1, abs=1e-3)
        assert scores.details[variant]["shift_found_pixels"]["rows"] == pytest.approx(-1, abs=0.1)
    assert len(scores.rows) == 2 * 3 * len(sources)


def test_a_prediction_must_be_there_and_fit(pairs_dir, predictions):
    sources = find_pairs(pairs_dir)
    with pytest.raises(GridError, match="no prediction"):
        score_out_of_fold(sources, {})
    wrong = {name: values[1:] for name, values in predictions.items()}
    with pytest.raises(GridError, match="found shape"):
        score_out_of_fold(sources, wrong)
