"""``keras-lstsr evaluate`` scores models on records and scenes, and says what is missing."""

from __future__ import annotations

import csv
import json

import pytest
from click.testing import CliRunner

from keras_lstsr.cli.evaluate import command
from keras_lstsr.config import ModelConfig
from keras_lstsr.errors import ProductError
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
    texts = [str(argument) for argument in arguments]
    return CliRunner().invoke(command, [*texts, "--no-mlflow"], catch_exceptions=False)


def summary(path):
    return json.loads(path.read_text())["summary"]


def test_records_and_scenes(scenes, untrained, records, tmp_path):
    done = invoke(
        f"model={untrained}",
        f"--records={records}",
        f"--lst={scenes}/MOD11A1.*.hdf",
        f"--truth={scenes}/truth/*.tif",
        f"--output={tmp_path}",
    )
    assert done.exit_code == 0, done.output
    assert "4 km → 1 km" in done.output and "1 km → 250 m" in done.output
    for name in ("patches_test", "scenes"):
        scored = summary(tmp_path / f"{name}.json")
        # 1e-4 K is the rounding of float32 kelvin on its way through the normalisation.
        gap = scored["model"]["rmse_kelvin"] - scored["bicubic"]["rmse_kelvin"]
        assert abs(gap) < 1e-4 or name == "scenes"  # near gaps a scene is not bicubic's alone
        assert scored["model"]["images"] == scored["bicubic"]["images"] > 0
        assert (tmp_path / f"report_{name}.html").stat().st_size > 10_000
    rows = list(csv.DictReader((tmp_path / "scenes.csv").open()))
    assert {row["image"].rsplit(" ")[-1] for row in rows} == {"day", "night"}


def test_records_give_every_classical_method(records, tmp_path):
    done = invoke(f"--records={records}", "--method=bilinear", "--limit=3", f"--output={tmp_path}")
    assert done.exit_code == 0, done.output
    scored = summary(tmp_path / "patches_test.json")
    assert list(scored) == ["bicubic", "bilinear"]
    assert 0 < scored["bilinear"]["images"] <= 3
    assert (tmp_path / "report.html").is_file()


def test_a_guided_network_is_scored_with_its_guide(scenes, tmp_path):
    """On scenes whose LST follows NDVI, the guide must show in the scores."""
    lst, truth = f"--lst={scenes}/MOD11A1.*.hdf", f"--truth={scenes}/truth/*.tif"
    ndvi = f"{scenes}/MOD09GQ.*.hdf"
    scored = {}
    for name, guide in {
        "without": [],
        "short": [f"--ndvi={ndvi}"],
        "long": [f"--guide=ndvi={ndvi}"],
    }.items():
        output = tmp_path / name
        done = invoke("pretrained", lst, truth, *guide, f"--output={output}")
        assert done.exit_code == 0, done.output
        scored[name] = summary(output / "scenes.json")
        assert list(scored[name]) == ["bicubic", "guided"]
        assert scored[name]["guided"]["images"] == 4
    assert scored["short"] == scored["long"]
    with_guide, without = scored["short"]["guided"], scored["without"]["guided"]
    assert with_guide["rmse_kelvin"] < without["rmse_kelvin"] - 0.05
    assert with_guide["rmse_kelvin"] < scored["short"]["bicubic"]["rmse_kelvin"] - 0.05
    page = (tmp_path / "short" / "report.html").read_text()
    assert "guide: NDVI" in page
    assert "Without guides" in (tmp_path / "without" / "report.html").read_text()


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


def test_scenes_without_their_guide_are_an_error(scenes, untrained, tmp_path):
    tile = sorted(scenes.glob("MOD11A1.*.hdf"))[1].name.split(".")[2]
    with pytest.raises(ProductError, match="has no ndvi of the same ground and date"):
        invoke(
            untrained,
            f"--lst={scenes}/MOD11A1.*.hdf",
            f"--truth={scenes}/truth/*.tif",
            f"--ndvi={scenes}/MOD09GQ.*{tile}*.hdf",
            f"--output={tmp_path}",
        )
