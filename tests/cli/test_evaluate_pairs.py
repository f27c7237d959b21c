"""``keras-lstsr evaluate`` compares methods and models on pairs, and says what it cannot do."""

from __future__ import annotations

import csv
import json
import shutil
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from keras_lstsr.cli import main as entry
from keras_lstsr.cli.evaluate import command
from keras_lstsr.testing.samples import made_scene, moved, write_pair

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("pairs")
    for number in range(3):
        write_pair(folder, made_scene(f"{number:03d}", seed=number, off=(1, 1), noise_kelvin=0.3))
    return folder


def invoke(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def exits_with_2(capsys, monkeypatch, *arguments):
    """Runs the command as a user does, and returns what it prints as its error."""
    monkeypatch.setattr(sys, "argv", ["keras-lstsr", "evaluate", *map(str, arguments)])
    with pytest.raises(SystemExit) as left:
        entry.main()
    printed = capsys.readouterr().err
    assert left.value.code == 2 and "Traceback" not in printed
    return printed


def summary(path: Path) -> dict:
    return json.loads(path.read_text())["summary"]


def test_methods_on_pairs_with_and_without_co_registration(pairs, tmp_path):
    done = invoke(
        f"--pairs={pairs}",
        "--method=tsharp",
        "--method=tsharp:residual=block",
        "--coregister=both",
        "--protocol=aster",
        "--protocol=4km",
        "--no-mlflow",
        f"--output={tmp_path}",
    )
    assert done.exit_code == 0, done.output
    assert "tsharp:residual=block" in done.output and "shifted by (−1, −1)" in done.output
    registered, unshifted, degraded = (
        summary(tmp_path / f"{name}.json") for name in ("aster", "aster_unshifted", "4km")
    )
    assert list(registered) == list(degraded) == ["bicubic", "tsharp", "tsharp:residual=block"]
    assert registered["tsharp"]["bias_free_rmse_kelvin"] == pytest.approx(0.3, abs=0.02)
    assert unshifted["tsharp"]["bias_free_rmse_kelvin"] > 1
    assert (tmp_path / "report.html").stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "registration.csv").open()))
    assert len(rows) == 5


@pytest.mark.parametrize(
    ("options", "name", "shift"),
    [
        ([], "aster", -1.0),
        (["--coregister"], "aster", -1.0),
        (["--no-coregister"], "aster_unshifted", 0.0),
    ],
)
def test_co_registration_is_the_default(pairs, tmp_path, options, name, shift):
    done = invoke(
        *options, f"--pairs={pairs}", "--method=nearest", "--no-mlflow", f"--output={tmp_path}"
    )
    assert done.exit_code == 0, done.output
    details = json.loads((tmp_path / f"{name}.json").read_text())
    assert details["shift_applied_pixels"] == {"rows": shift, "columns": shift}


def test_simulated_scenes(tmp_path):
    done = invoke(
        "--simulated", 1, "--method=tsharp", "--no-mlflow", "--limit=1", f"--output={tmp_path}"
    )
    assert done.exit_code == 0, done.output
    scored = summary(tmp_path / "simulated.json")
    assert scored["bicubic"]["images"] == 1
    assert 0 < scored["tsharp"]["rmse_kelvin"] < 5
    assert not (tmp_path / "registration.csv").exists()


@pytest.mark.slow
def test_a_model_on_pairs(pairs, tmp_path):
    """A network whose residual starts at zero scores as bicubic."""
    from keras_lstsr.config import ModelConfig
    from keras_lstsr.models.registry import build_model

    config = ModelConfig(
        width=4, depth=2, offset_kelvin=290.0, scale_kelvin=10.0, zero_initial_residual=True
    )
    path = tmp_path / "zero.keras"
    build_model(config).save(path)
    done = invoke(
        path,
        f"--model=again={path}",
        f"--pairs={pairs}",
        "--no-mlflow",
        f"--output={tmp_path / 'out'}",
    )
    assert done.exit_code == 0, done.output
    scored = summary(tmp_path / "out" / "aster.json")
    assert list(scored) == ["bicubic", "zero", "again"]
    gap = scored["zero"]["rmse_kelvin"] - scored["bicubic"]["rmse_kelvin"]
    assert abs(gap) < 1e-4


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--pairs=nowhere"], "no such folder"),
        (["--pairs={pairs}", "--method=sharpest"], "expected nearest, bilinear"),
        (["--pairs={pairs}", "--method=tsharp:residue=block"], "residue"),
        (["--pairs={pairs}", "--method=tsharp:residual=blocks"], "blocks"),
        (["--pairs={pairs}", "--model=nowhere"], "nowhere"),
        (["--pairs={pairs}", "--protocol=paper"], "paper"),
        (["--pairs={pairs}", "--coregister=twice"], "twice"),
        (["--pairs={pairs}", "--coregister", "--no-coregister"], "contradict"),
        (["--pairs={pairs}", "--simulated"], "several sources"),
        (["--simulated", "--protocol=report"], "simulated truth"),
        (["--simulated", "--coregister=both"], "simulated truth"),
        (["--method=tsharp"], "nothing to score on"),
        (["--lst={pairs}/*.tif"], "nothing to score on"),
        (["--records={pairs}"], "not a complete records folder"),
        (["--records={pairs}", "--ndvi={pairs}"], "bring their guides"),
        (["--records={pairs}", "--protocol=aster"], "for pairs"),
        (["--pairs={pairs}", "--records={pairs}"], "several sources"),
        (["--lst={pairs}", "--truth={pairs}", "--guide=ndvi"], "NAME=GLOB"),
        (["--lst={pairs}", "--truth={pairs}", "--guide=snow=x"], "no such guide"),
    ],
)
def test_what_cannot_be_done(pairs, tmp_path, capsys, monkeypatch, arguments, words):
    output = tmp_path / "out"
    given = [text.format(pairs=pairs) for text in arguments]
    printed = exits_with_2(capsys, monkeypatch, *given, "--no-mlflow", f"--output={output}")
    assert words in printed
    assert not output.exists()


def test_a_pair_without_ndvi(pairs, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    (folder / "001_ndvi_250m.tif").unlink()
    printed = exits_with_2(
        capsys, monkeypatch, f"--pairs={folder}", "--no-mlflow", f"--output={tmp_path / 'out'}"
    )
    assert "pair 001 has no NDVI" in printed and not (tmp_path / "out").exists()


def test_a_damaged_raster(pairs, tmp_path, capsys, monkeypatch):
    folder = shutil.copytree(pairs, tmp_path / "pairs")
    (folder / "002_aster_lst_250m.tif").write_bytes(b"no raster")
    printed = exits_with_2(
        capsys,
        monkeypatch,
        f"--pairs={folder}",
        "--method=nearest",
        "--no-mlflow",
        f"--output={tmp_path / 'out'}",
    )
    assert "002_aster_lst_250m.tif" in printed and not (tmp_path / "out").exists()


@pytest.mark.slow
@pytest.mark.usefixtures("step_by_step")
def test_a_model_of_ones_own_warns_of_pairs_that_it_has_learnt_from(tmp_path):
    """From a folder of pairs to a trained model, which is then scored on one of them."""
    from keras_lstsr.cli.main import cli

    def run(*arguments):
        done = CliRunner().invoke(cli, [str(each) for each in arguments], catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return " ".join(done.output.split())

    folders = {name: tmp_path / name for name in ("learnt", "partly", "new")}
    for name, numbers in {"learnt": (0, 1), "partly": (1, 2), "new": (2, 3)}.items():
        folders[name].mkdir()
        for number in numbers:
            scene = made_scene(f"{number:03d}", seed=number, noise_kelvin=0.3)
            write_pair(folders[name], moved(scene, rows=100 * number))
    run("prepare", "--pairs", folders["learnt"], "--references", "--output", tmp_path / "records")
    settings = {
        "training.epochs": 1,
        "training.steps_per_epoch": 1,
        "training.batch_size": 1,
        "training.keep": "last",
        "data.crop_pixels": 8,
        "model.width": 1,
        "model.wide_window_pixels": 7,
    }
    options = [part for name, value in settings.items() for part in ("--set", f"{name}={value}")]
    config = ["--config", ROOT / "configs" / "pretrain.yaml", *options]
    run(
        *("train", *config, "--records", tmp_path / "records"),
        *("--output", tmp_path / "own", "--no-mlflow"),
    )

    def scored(name):
        output = tmp_path / "scores" / name
        pairs = ["--pairs", folders[name], "--output", output, "--no-mlflow"]
        return run("evaluate", tmp_path / "own", *pairs), (output / "report.html").read_text()

    told, page = scored("partly")
    words = "own has learnt from 1 of these 2 samples: its figures here are not those of unseen"
    assert words in told and words in page
    told, page = scored("new")
    assert "has learnt from" not in told + page
    assert "own" in told
