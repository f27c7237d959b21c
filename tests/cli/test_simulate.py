from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from click.testing import CliRunner

from keras_lstsr.cli.simulate import command
from keras_lstsr.simulate import simulate_scenes


def test_command_writes_what_the_function_writes(tmp_path: Path) -> None:
    out = tmp_path / "by command"
    result = CliRunner().invoke(
        command, [str(out), "--scenes", "2", "--seed", "4", "--size", "20"], catch_exceptions=False
    )
    assert result.exit_code == 0
    assert "2 scenes of 20 × 20 pixels of 1 km" in result.output
    simulate_scenes(tmp_path / "by function", scenes=2, seed=4, size_pixels=20)
    ours = sorted(path for path in out.rglob("*") if path.is_file())
    assert len(ours) == 8
    for path in ours:
        other = tmp_path / "by function" / path.relative_to(out)
        assert path.read_bytes() == other.read_bytes()


def test_options_reach_the_simulation(tmp_path: Path) -> None:
    arguments = ["--scenes", "1", "--seed", "4", "--size", "20", "--noise", "0"]
    clear = [str(tmp_path / "clear"), *arguments, "--cloud-fraction", "0"]
    assert CliRunner().invoke(command, clear).exit_code == 0
    (scene,) = simulate_scenes(
        tmp_path / "same", scenes=1, seed=4, size_pixels=20, noise_kelvin=0, cloud_fraction=0
    )
    written = tmp_path / "clear" / scene.mod11a1.name
    assert written.read_bytes() == scene.mod11a1.read_bytes()


def test_error_is_one_line_and_status_2(tmp_path: Path) -> None:
    call = [sys.executable, "-m", "keras_lstsr.cli.main", "simulate", str(tmp_path / "out")]
    result = subprocess.run(
        [*call, "--scenes", "1", "--seed", "1", "--size", "5000"], capture_output=True, text=True
    )
    assert result.returncode == 2
    assert "size_pixels" in result.stderr
    assert "16 to 1200" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (tmp_path / "out").exists()


def test_help_needs_no_tensorflow() -> None:
    code = (
        "import sys; import keras_lstsr.cli.simulate;"
        "sys.exit(any(m in sys.modules for m in ('tensorflow', 'keras', 'apache_beam', 'mlflow')))"
    )
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
