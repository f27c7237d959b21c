"""Tables, report and MLflow's run say what was found, and an error leaves nothing behind."""

from __future__ import annotations

import csv
import json
import sqlite3

import pytest

from keras_lstsr.errors import LstsrError
from keras_lstsr.evaluation import run
from keras_lstsr.evaluation.compare import compare
from keras_lstsr.evaluation.methods import choose_methods
from keras_lstsr.evaluation.sources import pairs_set


@pytest.fixture(scope="module")
def evaluation(pairs_dir):
    methods = choose_methods(["tsharp", "tsharp:residual=block"])
    found = compare(pairs_set(pairs_dir, coregister="both"), methods)
    found.notes.append("A note.")
    return found


def test_files_of_an_evaluation(evaluation, tmp_path):
    paths = run.write_evaluation(evaluation, tmp_path / "out", title="A title")
    assert {path.name for path in paths} == {
        *(f"aster{ending}" for ending in (".csv", ".json", ".md")),
        *(f"aster_unshifted{ending}" for ending in (".csv", ".json", ".md")),
        "registration.csv",
        "report.html",
    }
    assert set(paths) == set((tmp_path / "out").iterdir())
    rows = list(csv.DictReader((tmp_path / "out" / "aster.csv").open()))
    assert [row["group"] for row in rows[::3]] == ["0", "0", "1", "1"]
    content_json = json.loads((tmp_path / "out" / "aster.json").read_text())
    assert content_json["shift_applied_pixels"] == {"rows": -1, "columns": -1}
    row = content_json["summary"]["tsharp"]
    assert row["psnr_db_low"] <= row["psnr_db"] <= row["psnr_db_high"]
    table = (tmp_path / "out" / "aster.md").read_text()
    assert "bootstrap over 2 groups" in table and "rows -1, columns -1" in table
    shifts = list(csv.DictReader((tmp_path / "out" / "registration.csv").open()))
    assert [row["pair"] for row in shifts[-2:]] == ["constant", "constant_whole_pixels"]
    assert shifts[-1]["row_pixels"] == shifts[-1]["column_pixels"] == "-1.00"
    page = (tmp_path / "out" / "report.html").read_text()
    assert "A title" in page and "tsharp:residual=block" in page and "A note." in page


def test_report_tells_groups_shift_and_rule(evaluation):
    assert "3 methods on 4 images of “pairs”, in 2 groups" in evaluation.lead()
    assert (evaluation.applied_shift.rows, evaluation.applied_shift.columns) == (-1, -1)
    notes = evaluation.all_notes()
    assert any("in whole pixels: (−1, −1)" in note for note in notes)
    assert any(note.startswith("Scenes shown: where tsharp") for note in notes)


def test_an_error_leaves_nothing(evaluation, tmp_path, monkeypatch):
    def fail(path, evaluation, title):
        raise LstsrError("no report")

    monkeypatch.setattr(run, "write_html_report", fail)
    with pytest.raises(LstsrError, match="no report"):
        run.write_evaluation(evaluation, tmp_path / "out")
    assert list((tmp_path / "out").iterdir()) == []


def test_output_that_cannot_be_written(evaluation, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(LstsrError, match="cannot be written"):
        run.write_evaluation(evaluation, tmp_path / "file" / "out")


def test_a_run_folder_gets_the_figures_of_its_model(evaluation, tmp_path, monkeypatch):
    logged = {}

    def log(run_dir, metrics, files):
        logged[run_dir] = set(metrics)
        return "id"

    monkeypatch.setattr("keras_lstsr.training.tracking.log_evaluation", log)
    run_ids = run.log_to_mlflow(
        evaluation.results,
        [],
        run_folders={"tsharp": tmp_path},
        run_name="out",
        parameters={},
    )
    assert run_ids == ["id"]
    methods = {name.split(".")[1] for name in logged[tmp_path]}
    assert methods == {"tsharp", "bicubic"}


@pytest.mark.slow
def test_a_run_of_its_own_in_mlflow(evaluation, tmp_path):
    pytest.importorskip("mlflow")
    paths = run.write_evaluation(evaluation, tmp_path / "out")
    database = tmp_path / "mlflow.db"
    (run_id,) = run.log_to_mlflow(
        evaluation.results,
        paths,
        run_folders={},
        run_name="out",
        parameters={"pairs": 4},
        tracking_uri=f"sqlite:///{database}",
        experiment="trial",
    )
    with sqlite3.connect(database) as connection:
        logged = dict(
            connection.execute("SELECT key, value FROM metrics WHERE run_uuid = ?", (run_id,))
        )
    summary = evaluation.results[0].summary()
    name = "aster.tsharp:residual-block.ssim"
    assert logged[name] == pytest.approx(summary["tsharp:residual=block"]["ssim"])
    assert {path.name for path in tmp_path.rglob("evaluation/*")} == {path.name for path in paths}
