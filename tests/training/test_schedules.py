from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.config import AlphaScheduleConfig, ExperimentConfig
from keras_lstsr.testing.training import TINY
from keras_lstsr.training import fit
from keras_lstsr.training.fit import train
from keras_lstsr.training.schedules import alpha_callbacks, scheduled_alpha


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("linear", [0.1, 0.3, 0.5, 0.7, 0.9, 0.9]),
        ("cosine", [0.1, 0.5 - 0.4 * np.sqrt(0.5), 0.5, 0.5 + 0.4 * np.sqrt(0.5), 0.9, 0.9]),
        ("step", [0.1, 0.1, 0.1, 0.1, 0.9, 0.9]),
    ],
)
def test_hand_values(kind, expected):
    schedule = AlphaScheduleConfig(kind=kind, end=0.9, epochs=4)
    alphas = [scheduled_alpha(schedule, 0.1, epoch) for epoch in range(6)]
    np.testing.assert_allclose(alphas, expected, rtol=1e-12)


def test_constant_and_falling():
    assert scheduled_alpha(AlphaScheduleConfig(kind="constant"), 0.3, 50) == 0.3
    falling = AlphaScheduleConfig(kind="linear", end=0.0, epochs=10)
    assert scheduled_alpha(falling, 1.0, 3) == pytest.approx(0.7)


def scheduled(**settings) -> ExperimentConfig:
    schedule = {"kind": "linear", "end": 0.8, "epochs": 2}
    return ExperimentConfig.from_dict(
        {
            **TINY,
            "data": {"task": "1km_to_250m"},
            "loss": {"name": "mixgl", "alpha": 0.2, "alpha_schedule": schedule, **settings},
        }
    )


def test_no_schedule_needs_no_callback():
    assert alpha_callbacks(ExperimentConfig().loss) == []
    assert len(alpha_callbacks(scheduled().loss)) == 1


class Killed(BaseException):
    """What no handler of errors expects."""


@pytest.mark.usefixtures("shallow")
def test_training_follows_it_and_a_restart_goes_on(records, tmp_path, monkeypatch):
    unbroken = train(scheduled(), records, tmp_path / "unbroken").history
    assert [record["alpha"] for record in unbroken] == pytest.approx([0.2, 0.5, 0.8])
    assert [record["val_alpha"] for record in unbroken] == pytest.approx([0.8] * 3)
    publish, published = fit.Publisher.on_epoch_end, []

    def killed(self, epoch, logs=None):
        published.append(epoch)
        if len(published) == 2:
            raise Killed
        publish(self, epoch, logs)

    with monkeypatch.context() as patch:
        patch.setattr(fit.Publisher, "on_epoch_end", killed)
        with pytest.raises(Killed):
            train(scheduled(), records, tmp_path / "run")
    resumed = train(scheduled(), records, tmp_path / "run")
    assert resumed.resumed_from == 2
    for name in ("alpha", "loss", "val_loss", "mean_gradient_error"):
        expected = [record[name] for record in unbroken]
        assert [record[name] for record in resumed.history] == pytest.approx(expected, rel=1e-4)


@pytest.mark.usefixtures("shallow")
def test_the_scale_invariance_free_loss_trains_without_truth(records, tmp_path):
    config = ExperimentConfig.from_dict(
        {
            **TINY,
            "data": {"task": "1km_to_250m"},
            "loss": {"name": "sif", "options": {"directions": 2}},
            "training": {**TINY["training"], "epochs": 1},
        }
    )
    record = train(config, records, tmp_path / "run").history[0]
    # Of two terms, texture with two directions is the mean gradient error.
    assert 0 < record["val_mean_gradient_error"] < record["val_loss"] < np.inf
    assert "val_rmse_kelvin" not in record
