"""``keras-lstsr evaluate`` scores a run on records and scenes, and says what is missing."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner

from keras_lstsr.cli.evaluate import command
from keras_lstsr.config import ModelConfig
from keras_lstsr.errors import ConfigError, ProductError
from keras_lstsr.simulate import simulate_scenes

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scenes(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scenes")
    simulate_scenes(folder, scenes=2, seed=5, size_pixels=128)
    return folder


@pytest.fixture(scope="module")
def untrained(tmp_path_factory):
    """A network whose residual starts at zero, so that its scores are those of bicubic."""
    from keras_lstsr.models.registry import build_model

    path = tmp_path_factory.mktemp("model") / "model.keras"
    config = ModelConfig(
        width=4, depth=2, offset_kelvin=290.0, scale_kelvin=10.0, zero_initial_residual=True
    )
    build_model(config).save(path)
    return path


@pytest.fixture(scope="module")
def records(scenes, tmp_path_factory):
    from beam_jobs.rasters_to_tfrecords import run

    output = tmp_path_factory.mktemp("records") / "records"
    run(
        [
            f"--input={scenes}/MOD11A1.*.hdf",
            f"--output={output}",
            "--patch_size=16",
            "--max_missing_fraction=0.2",
        ]
    )
    return output


def invoke(*arguments):
    return CliRunner().invoke(command, [str(a) for a in arguments], catch_exceptions=False)


def test_records_and_scenes(scenes, untrained, records, tmp_path):
    done = invoke(
        untrained,
        f"--records={records}",
        f"--lst={scenes}/MOD11A1.*.hdf",
        f"--truth={scenes}/truth/*.tif",
        f"--output={tmp_path}",
    )
    assert done.exit_code == 0, done.output
    assert "4 km → 1 km" in done.output and "1 km → 250 m" in done.output
    for name in ("patches_test", "scenes"):
        summary = json.loads((tmp_path / f"{name}.json").read_text())["summary"]
        # 1e-4 K is the rounding of float32 kelvin on its way through the normalisation.
        gap = summary["model"]["rmse_kelvin"] - summary["bicubic"]["rmse_kelvin"]
        assert abs(gap) < 1e-4 or name == "scenes"  # near gaps a scene is not bicubic's alone
        assert summary["model"]["images"] == summary["bicubic"]["images"] > 0
    rows = list(csv.DictReader((tmp_path / "scenes.csv").open()))
    assert {row["image"].rsplit(" ")[-1] for row in rows} == {"day", "night"}
    for figure in ("patch.png", "scene.png"):
        assert (tmp_path / figure).read_bytes().startswith(b"\x89PNG")


def test_nothing_to_score_is_an_error(untrained, tmp_path):
    with pytest.raises(ConfigError, match="--records DIR"):
        invoke(untrained, f"--output={tmp_path}")


def test_scenes_without_truth_are_an_error(scenes, untrained, tmp_path):
    day, other = sorted(scenes.glob("MOD11A1.*.hdf"))
    tile = other.name.split(".")[2]
    with pytest.raises(ProductError, match="no scene has a truth"):
        invoke(
            untrained,
            f"--lst={day}",
            f"--truth={scenes}/truth/*{tile}*.tif",
            f"--output={tmp_path}",
        )
