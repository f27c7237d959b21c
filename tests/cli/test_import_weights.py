from __future__ import annotations

import hashlib
import json

import numpy as np
import pytest
import rasterio
import yaml
from click.testing import CliRunner

from keras_lstsr.artifacts.contract import Contract
from keras_lstsr.artifacts.imported import import_weights
from keras_lstsr.artifacts.model_folder import ModelFolder
from keras_lstsr.cli import main as cli_main
from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import ConfigError, ModelError
from keras_lstsr.grids.resample import upsample_bicubic, upsample_bilinear
from keras_lstsr.inference.predictor import load_predictor
from keras_lstsr.testing.rasters import utm_grid, write_geotiff
from keras_lstsr.testing.records import write_made_records

SHAPES = {
    "mrunet-strided": {"width": 2, "bridge_blocks": 0},
    "mrunet-maxpool": {"width": 2, "bridge_blocks": 2},
    "vdsr": {"width": 2, "depth": 3},
    "dmcn": {"width": 2},
}


@pytest.fixture(scope="module")
def files(tmp_path_factory, reference_networks):
    folder = tmp_path_factory.mktemp("weights")
    for architecture, shape in SHAPES.items():
        weights = reference_networks.state_dict(architecture, **shape)
        # Trained residuals are small; a mirrored field would leave the range of temperatures.
        for name in weights:
            if name.startswith("out"):
                weights[name] = weights[name] * np.float32(1e-3)
        np.savez(folder / f"{architecture}.npz", **weights)
    return folder


def run(*arguments: object):
    return CliRunner().invoke(cli_main.cli, [str(a) for a in arguments], catch_exceptions=False)


def import_run(files, architecture, output, *options):
    shape = [
        part
        for name, value in SHAPES[architecture].items()
        for part in (f"--{name.replace('_', '-')}", value)
    ]
    file = files / f"{architecture}.npz"
    arguments = (file, "--architecture", architecture, "--output", output, *shape, *options)
    return run("import-weights", *arguments)


@pytest.mark.parametrize("architecture", list(SHAPES))
def test_a_run_folder_that_predicts_what_the_reference_does(
    files, tmp_path, architecture, reference_networks
):
    result = import_run(files, architecture, tmp_path / "run")
    assert result.exit_code == 0, result.output
    coarse = np.random.default_rng(0).uniform(280, 320, (8, 12)).astype(np.float32)
    fine = load_predictor(tmp_path / "run").predict(coarse[None, :, :, None])
    field = upsample_bilinear(coarse.astype(np.float64), 4) / 333.32
    weights = dict(np.load(files / f"{architecture}.npz"))
    expected = 333.32 * reference_networks.forward(architecture, weights, field)
    assert np.abs(expected - 333.32 * field).max() > 0.05
    np.testing.assert_allclose(fine.lst_kelvin[0, :, :, 0], expected, rtol=0, atol=5e-4)


def test_the_folder_says_where_the_weights_come_from(files, tmp_path):
    result = import_run(files, "mrunet-maxpool", tmp_path / "deep" / "run")
    folder = ModelFolder(tmp_path / "deep" / "run")
    assert {path.name for path in folder.path.iterdir()} == {
        "config.yaml",
        "model.keras",
        "run.json",
    }
    info = folder.read_run()
    imported = info.imported_weights
    file = files / "mrunet-maxpool.npz"
    assert (info.status, info.run_name, info.dataset_fingerprint) == ("finished", "run", "")
    assert imported.sha256 == hashlib.sha256(file.read_bytes()).hexdigest()
    assert (imported.file, imported.architecture) == ("mrunet-maxpool.npz", "mrunet-maxpool")
    assert imported.ignored["up.*"] == 2
    assert f"in {imported.entries} entries" in result.output
    assert "Ignored, without influence: up_dc.* (12)" in result.output
    model = ExperimentConfig.from_yaml(folder.config).model
    assert (model.architecture, model.variant, model.bridge_blocks) == ("mrunet", "maxpool", 2)
    assert (model.offset_kelvin, model.scale_kelvin) == (0.0, 333.32)
    assert (model.normalisation, model.upsampling) == ("max", "bilinear")


def test_normalisation_and_upsampling_are_options(files, tmp_path, reference_networks):
    options = ("--normalisation-scale", 340, "--upsampling", "bicubic")
    import_run(files, "vdsr", tmp_path / "run", *options)
    content = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert content["model"]["scale_kelvin"] == 340
    assert content["model"]["upsampling"] == "bicubic"
    coarse = np.random.default_rng(0).uniform(280, 320, (3, 5)).astype(np.float32)
    fine = load_predictor(tmp_path / "run").predict(coarse[None, :, :, None])
    field = upsample_bicubic(coarse.astype(np.float64), 4) / 340
    expected = 340 * reference_networks.forward("vdsr", dict(np.load(files / "vdsr.npz")), field)
    np.testing.assert_allclose(fine.lst_kelvin[0, :, :, 0], expected, rtol=0, atol=5e-4)


def test_export_carries_the_provenance(files, tmp_path):
    import_run(files, "vdsr", tmp_path / "run")
    result = run("export", tmp_path / "run", "--output", tmp_path / "models")
    assert result.exit_code == 0, result.output
    provenance = Contract.read(tmp_path / "models" / "1").provenance
    imported = provenance["run"]["imported_weights"]
    assert imported["sha256"] == hashlib.sha256((files / "vdsr.npz").read_bytes()).hexdigest()
    assert provenance["config"]["model"]["architecture"] == "vdsr"


def test_evaluate_scores_it(files, tmp_path):
    import_run(files, "vdsr", tmp_path / "run")
    records = write_made_records(tmp_path / "records")
    scores = tmp_path / "scores"
    result = run("evaluate", tmp_path / "run", "--records", records, "--output", scores)
    assert result.exit_code == 0, result.output
    summary = json.loads((scores / "patches_test.json").read_text())["summary"]
    assert summary["run"]["images"] == 2
    # The network adds a little to bilinear, so it scores near bicubic and not as bicubic.
    assert 0.01 < abs(summary["run"]["rmse_kelvin"] - summary["bicubic"]["rmse_kelvin"]) < 1


def test_predict_writes_a_map_with_it(files, tmp_path):
    import_run(files, "dmcn", tmp_path / "run")
    values = np.random.default_rng(0).uniform(280, 310, (9, 11)).astype(np.float32)
    values[3, 4] = np.nan
    path = tmp_path / "lst_2021-08-15_day.tif"
    lst = write_geotiff(path, values, utm_grid(values.shape, 1000.0), units="K", nodata=np.nan)
    result = run("predict", lst, "--model", tmp_path / "run", "--output", tmp_path / "fine.tif")
    assert result.exit_code == 0, result.output
    with rasterio.open(tmp_path / "fine.tif") as file:
        fine, tags = file.read(1), file.tags()
    gaps = np.kron(np.isnan(values), np.ones((4, 4), bool))
    np.testing.assert_array_equal(np.isnan(fine), gaps)
    assert "run" in tags.values()


def test_weights_that_do_not_fit_are_named_and_leave_nothing(files, tmp_path):
    weights = dict(np.load(files / "vdsr.npz"))
    weights["residual_layer.0.conv.weight"] = np.zeros((2, 2, 5, 5), np.float32)
    np.savez(tmp_path / "bad.npz", **weights)
    with pytest.raises(ModelError) as caught:
        import_weights(
            tmp_path / "bad.npz", "vdsr", tmp_path / "run", scale_kelvin=333.0, width=2, depth=3
        )
    assert str(tmp_path / "bad.npz") in str(caught.value)
    assert caught.value.field == "residual_layer.0.conv.weight"
    assert [path.name for path in tmp_path.iterdir()] == ["bad.npz"]


def test_a_folder_that_is_there_is_kept(files, tmp_path):
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "run.json").write_text(json.dumps({"run_name": "mine"}))
    with pytest.raises(ConfigError, match="exists and is not empty"):
        import_run(files, "dmcn", tmp_path / "run")
    assert [path.name for path in (tmp_path / "run").iterdir()] == ["run.json"]


@pytest.mark.parametrize(
    ("architecture", "options", "message"),
    [
        ("vdsr", {"bridge_blocks": 2}, r"model\.bridge_blocks: .*does not apply to .* vdsr"),
        ("dmcn", {"depth": 2}, r"model\.depth: .*does not apply to .* dmcn"),
        ("mrunet-strided", {"depth": 9}, r"model\.depth: .*between 1 and 6"),
        ("unet", {}, r"architecture: .*'unet'.*mrunet-strided"),
    ],
)
def test_settings_that_do_not_apply_are_named(files, tmp_path, architecture, options, message):
    with pytest.raises(ConfigError, match=message):
        import_weights(
            files / "vdsr.npz", architecture, tmp_path / "run", scale_kelvin=333.0, **options
        )


def test_mistakes_exit_with_status_2(tmp_path, monkeypatch, capsys):
    arguments = ["keras-lstsr", "import-weights", str(tmp_path / "no.npz")]
    arguments += ["--architecture", "vdsr", "--output", str(tmp_path / "run")]
    monkeypatch.setattr("sys.argv", arguments)
    with pytest.raises(SystemExit) as caught:
        cli_main.main()
    assert caught.value.code == 2
    assert "no.npz: there are no weights; found no such file." in capsys.readouterr().err
