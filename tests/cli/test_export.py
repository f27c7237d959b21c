from __future__ import annotations

import json
import warnings

import pytest
from click.testing import CliRunner

from keras_lstsr.artifacts import loading
from keras_lstsr.artifacts.contract import Contract
from keras_lstsr.artifacts.model_folder import ModelCard, card_of
from keras_lstsr.cli import main as cli_main
from keras_lstsr.errors import OldLayoutWarning
from keras_lstsr.testing.models import write_model_folder


@pytest.fixture
def run_dir(tiny_model, tmp_path):
    folder = tmp_path / "run"
    folder.mkdir()
    tiny_model.save(folder / "model.keras")
    run = {"run_name": "bold-bear", "dataset_fingerprint": "ab" * 32}
    (folder / "run.json").write_text(json.dumps(run))
    return folder


def test_a_run_becomes_a_version_and_the_command_says_how_to_serve_it(run_dir, tmp_path):
    models = tmp_path / "models" / "lstsr"
    result = CliRunner().invoke(cli_main.cli, ["export", str(run_dir), "--output", str(models)])
    assert result.exit_code == 0, result.output
    contract = Contract.read(models / "1")
    assert contract.provenance["run_name"] == "bold-bear"
    assert f"{models / '1'}: version 1 (×4" in result.output
    assert contract.provenance["weights_sha256"] in result.output
    assert f"keras-lstsr serve {models}" in result.output


@pytest.mark.parametrize("by_name", [True, False])
def test_pretrained_weights_and_keras_files_are_exported(
    tiny_guided_model, tmp_path, monkeypatch, by_name
):
    monkeypatch.setattr(loading, "WEIGHTS_FOLDER", tmp_path / "weights")
    card = ModelCard(name="guided", learnt_from={"000": ("ab" * 32,)})
    folder = write_model_folder(tmp_path / "weights" / "guided-3", tiny_guided_model, card=card)
    file = folder.model.rename(tmp_path / "mine.keras") if not by_name else None
    models = tmp_path / "models"
    arguments = ["export", str(file or "pretrained"), "--output", str(models)]
    result = CliRunner().invoke(cli_main.cli, arguments)
    assert result.exit_code == 0, result.output
    contract = Contract.read(models / "1")
    assert list(contract.guides) == ["ndvi"]
    assert contract.provenance["run_name"] == ("guided-3" if by_name else "mine")
    assert (card_of(contract.provenance) == card) == by_name


def test_no_run_is_a_clear_error_with_status_2(tmp_path, monkeypatch, capsys):
    models = tmp_path / "models"
    arguments = ["keras-lstsr", "export", str(tmp_path / "nothing"), "--output", str(models)]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        cli_main.main()
    assert caught.value.code == 2
    assert "nothing: there is no trained model" in capsys.readouterr().err
    assert not models.exists()


def test_without_tensorflow_the_error_says_so_instead_of_a_traceback(monkeypatch, capsys):
    def halted(**keywords):
        raise ModuleNotFoundError("No module named 'tensorflow'", name="tensorflow")

    monkeypatch.setattr(cli_main, "cli", halted)
    with pytest.raises(SystemExit) as caught:
        cli_main.main()
    assert caught.value.code == 2
    error = capsys.readouterr().err
    assert error.startswith("Error: TensorFlow is not installed.")
    assert "KERAS_BACKEND=jax" in error


def test_warnings_of_old_files_are_printed_as_notes(monkeypatch, capsys):
    def warned(**keywords):
        warnings.warn("runs/old has guided.keras", OldLayoutWarning, stacklevel=1)

    monkeypatch.setattr(cli_main, "cli", warned)
    with warnings.catch_warnings(), pytest.raises(SystemExit) as ended:
        warnings.simplefilter("always")
        cli_main.main()
    assert ended.value.code == 0
    assert capsys.readouterr().err == "Note: runs/old has guided.keras.\n"
