from __future__ import annotations

import io

from rich.console import Console

from keras_lstsr.training.progress import RichProgress

RECORD = {
    "epoch": 2,
    "loss": 3.25,
    "val_loss": 2.5,
    "val_rmse_kelvin": 1.5811,
    "bicubic_val_rmse_kelvin": 1.75,
    "seconds": 12.34,
}


def shown(*, terminal: bool, width: int = 200) -> str:
    text = io.StringIO()
    progress = RichProgress(Console(file=text, force_terminal=terminal, width=width))
    progress.started({"devices": "1 × CPU"}, epochs=10, first=1, steps=4)
    progress.step(2, 3, 3.5)
    progress.epoch(RECORD, best=True)
    progress.finished("done")
    return text.getvalue()


def test_lines_of_a_log_file():
    text = shown(terminal=False)
    assert "\x1b" not in text
    assert "devices      1 × CPU" in text
    assert "epoch 2/10  step 3/4  loss 3.5" in text
    line = "epoch  2/10  loss 3.25  val loss 2.5  val RMSE 1.581 K (bicubic 1.750 K)  12.3 s  best"
    assert line in text
    assert text.rstrip().endswith("done")


def test_narrow_logs_are_not_wrapped():
    assert "val RMSE 1.581 K (bicubic 1.750 K)  12.3 s  best" in shown(terminal=False, width=40)


def test_a_bar_in_a_terminal():
    text = shown(terminal=True)
    assert "epoch 2/10, loss 3.5" in text
    assert "8/40" in text, "two of ten epochs of four steps"


def test_steps_are_not_read_too_often():
    progress = RichProgress(Console(file=io.StringIO()))
    assert not progress.wants_step()
