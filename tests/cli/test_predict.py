from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import rasterio
from affine import Affine
from click.testing import CliRunner

from keras_lstsr.cli import main as cli_main
from keras_lstsr.testing.rasters import utm_grid, write_geotiff

GRID = utm_grid((20, 30), 1000.0)


@pytest.fixture
def kelvin_file(tmp_path):
    values = np.random.default_rng(0).uniform(280, 310, (20, 30)).astype(np.float32)
    values[3, 4] = np.nan
    path = tmp_path / "lst_2021-08-15_day.tif"
    return write_geotiff(path, values, GRID, units="K", nodata=np.nan)


def run(*arguments, monkeypatch, capsys):
    """Runs the command line as a process would: exit status and what it printed."""
    monkeypatch.setattr("sys.argv", ["keras-lstsr", "predict", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli_main.main()
    captured = capsys.readouterr()
    return caught.value.code, captured.out + captured.err


def test_a_geotiff_is_predicted_and_reported(
    kelvin_file, tiny_models_dir, tmp_path, monkeypatch, capsys
):
    output = tmp_path / "out" / "fine.tif"
    code, text = run(
        kelvin_file, "--model", tiny_models_dir, "--output", output,
        monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code in (0, None), text
    assert f"{output}: 80 × 120 pixels, layer day, 99.8% valid" in text
    assert sorted(path.name for path in output.parent.iterdir()) == ["fine.png", "fine.tif"]
    with rasterio.open(output) as file:
        assert np.isnan(file.read(1)).sum() == 16
        assert file.tags()["acquisition_date"] == "2021-08-15"


def test_a_server_predicts_the_same_file(
    kelvin_file, tiny_models_dir, tmp_path, monkeypatch, capsys
):
    from serving.local_server import LocalServer

    local, served = tmp_path / "local.tif", tmp_path / "served.tif"
    with LocalServer(tiny_models_dir, port=0) as server:
        for output, option, value in (
            (local, "--model", tiny_models_dir / "2"),
            (served, "--server", server.address),
        ):
            code, text = run(
                kelvin_file, option, value, "--output", output, "--no-quicklook",
                monkeypatch=monkeypatch, capsys=capsys,
            )  # fmt: skip
            assert code in (0, None), text
    with rasterio.open(local) as first, rasterio.open(served) as second:
        np.testing.assert_allclose(first.read(1), second.read(1), rtol=0, atol=1e-4)
        tags = [{**file.tags(), "created": ""} for file in (first, second)]
    assert tags[0] == tags[1]  # provenance too comes over the wire


def test_not_both_of_model_and_server():
    options = ["--output", "out.tif", "--model", "a", "--server", "b:1"]
    result = CliRunner().invoke(cli_main.cli, ["predict", "in.hdf", *options])
    assert result.exit_code == 2
    assert "only one of --model and --server" in result.output


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("celsius", ["Celsius"]),
        ("raw integers", ["0.02"]),
        ("all cloud", ["no valid pixel", "0.0% valid"]),
        ("no file", ["nothing.tif"]),
        ("no model", ["there is no SavedModel", "keras-lstsr export"]),
        ("no server", ["cannot be reached", "keras-lstsr serve"]),
        ("bad tile", ["tile_pixels", "multiple of 16"]),
        ("no night", ["night", "no such layer", "unknown"]),
    ],
)
def test_errors_are_clear_end_with_status_2_and_write_nothing(
    case, words, tiny_models_dir, tmp_path, monkeypatch, capsys
):
    rng = np.random.default_rng(0)
    values = rng.uniform(280, 310, (20, 30)).astype(np.float32)
    path, options = tmp_path / "lst.tif", ["--model", tiny_models_dir]
    write_geotiff(path, values, GRID, units="K")
    if case == "celsius":
        write_geotiff(path, values - 273.15, GRID, units="K")
    elif case == "raw integers":
        write_geotiff(path, (values * 50).astype(np.uint16), GRID, nodata=0)
    elif case == "all cloud":
        write_geotiff(path, np.full_like(values, np.nan), GRID, units="K")
    elif case == "no file":
        path = tmp_path / "nothing.tif"
    elif case == "no model":
        options = ["--model", tmp_path]
    elif case == "no server":
        options = ["--server", "127.0.0.1:9", "--timeout", "0.2"]
    elif case == "bad tile":
        options += ["--tile", "50"]
    elif case == "no night":
        options += ["--layer", "night"]
    code, text = run(
        path, *options, "--output", tmp_path / "out.tif", monkeypatch=monkeypatch, capsys=capsys
    )
    assert code == 2
    assert "Error: " in text
    assert "Traceback" not in text
    for word in words:
        assert word in text
    assert not [file for file in tmp_path.iterdir() if "out" in file.name]


def test_units_scale_and_nodata_can_be_told(tiny_models_dir, tmp_path, monkeypatch, capsys):
    rng = np.random.default_rng(0)
    stored = rng.integers(14_000, 15_500, (20, 30)).astype(np.uint16)
    stored[2, 2] = 0
    write_geotiff(tmp_path / "lst.tif", stored, GRID)
    output = tmp_path / "out.tif"
    code, text = run(
        tmp_path / "lst.tif", "--model", tiny_models_dir, "--output", output, "--scale", 0.02,
        "--nodata", 0, "--unit", "kelvin", "--day-night", "night", "--date", "2020-02-03",
        "--dtype", "uint16", monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code in (0, None), text
    with rasterio.open(output) as file:
        assert file.dtypes == ("uint16",)
        assert (file.read(1) == 0).sum() == 16
        assert file.tags()["day_night"] == "night"
        assert file.tags()["acquisition_date"] == "2020-02-03"


# Runs the command, but stands still in the middle of writing the file, with half of it there.
SLOW_PREDICT = """
import sys, time
from pathlib import Path
import keras_lstsr.inference.cog as cog
from keras_lstsr.cli.main import main

mark = Path(sys.argv.pop())

def stand_still(path, *arguments, **profile):
    Path(path).write_bytes(b"half a file")
    mark.write_bytes(b"")
    time.sleep(120)

class Rasterio:
    open = staticmethod(stand_still)

cog.rasterio = Rasterio
main()
"""


@pytest.mark.parametrize(
    "number",
    [
        signal.SIGKILL,
        pytest.param(signal.SIGTERM, marks=pytest.mark.slow),
        pytest.param(signal.SIGINT, marks=pytest.mark.slow),
    ],
)
def test_killing_it_leaves_no_half_written_file(kelvin_file, tiny_models_dir, tmp_path, number):
    output, mark = tmp_path / "out" / "fine.tif", tmp_path / "mark"
    output.parent.mkdir()
    output.write_bytes(b"the former result")
    process = subprocess.Popen(
        [sys.executable, "-c", SLOW_PREDICT, "predict", kelvin_file, "--model", tiny_models_dir,
         "--output", output, mark],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        # A test run in the background ignores SIGINT, and its children would, too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    try:
        deadline = time.monotonic() + 120
        while not mark.exists():
            assert process.poll() is None, "predict ended before it wrote"
            assert time.monotonic() < deadline, "predict never came to write"
            time.sleep(0.05)
        process.send_signal(number)
        assert process.wait(60) != 0
    finally:
        process.kill()
        process.wait()
    assert output.read_bytes() == b"the former result"
    left = [path.name for path in output.parent.iterdir() if path != output]
    if number == signal.SIGKILL:  # nothing can tidy up, but the name tells what it is
        assert all(name.startswith(".fine.tif.partial-") for name in left)
        assert len(left) == 1
    else:
        assert left == []


@pytest.mark.slow
@pytest.mark.real_data
def test_a_whole_modis_tile_over_grpc(lstsr_data, tiny_models_dir, tmp_path, monkeypatch, capsys):
    from keras_lstsr.products import open_product
    from serving.local_server import LocalServer

    granule = lstsr_data / "modis" / "MOD11A1.A2019305.h14v09.006.2019306084028.hdf"
    output = tmp_path / "lst_250m.tif"
    started = time.monotonic()
    with LocalServer(tiny_models_dir, port=0) as server:
        code, text = run(
            granule, "--server", server.address, "--output", output,
            monkeypatch=monkeypatch, capsys=capsys,
        )  # fmt: skip
    print(f"4800 × 4800 over gRPC: {time.monotonic() - started:.1f} s")
    assert code in (0, None), text
    coarse = open_product(granule)["lst_day_kelvin"]
    with rasterio.open(output) as file:
        assert file.shape == (4800, 4800)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        assert file.overviews(1) == [2, 4, 8, 16]
        assert file.transform @ Affine.scale(4) == coarse.rio.transform()
        tags, fine = file.tags(), file.read(1)
    assert (tags["tile"], tags["acquisition_date"]) == ("h14v09", "2019-11-01")
    missing = np.repeat(np.repeat(np.isnan(coarse.values), 4, 0), 4, 1)
    np.testing.assert_array_equal(np.isnan(fine), missing)
    assert output.with_suffix(".png").is_file()


def test_an_all_cloud_granule_is_an_error(tiny_models_dir, tmp_path, monkeypatch, capsys):
    from keras_lstsr.simulate import simulate_scenes

    (scene,) = simulate_scenes(tmp_path / "in", scenes=1, seed=2, size_pixels=32, cloud_fraction=1)
    output = tmp_path / "out.tif"
    code, text = run(
        scene.mod11a1, "--model", tiny_models_dir, "--output", output,
        monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert scene.mod11a1.name in text.replace("\n", "") and "cloud" in text
    assert "Traceback" not in text
    assert list(tmp_path.glob("out*")) == []


@pytest.fixture
def shipped(tiny_guided_model, tmp_path, monkeypatch):
    """Puts a tiny guided model in the place of the weights that come with the package."""
    from keras_lstsr.artifacts import loading
    from keras_lstsr.testing.models import write_model_folder

    monkeypatch.setattr(loading, "WEIGHTS_FOLDER", tmp_path / "weights")
    write_model_folder(tmp_path / "weights" / "guided-3", tiny_guided_model)


@pytest.mark.usefixtures("shipped")
def test_the_pretrained_model_sharpens_a_granule_with_ndvi(tmp_path, monkeypatch, capsys):
    from keras_lstsr.simulate import simulate_scenes

    (scene,) = simulate_scenes(tmp_path / "in", scenes=1, seed=3, size_pixels=48, cloud_fraction=0)
    output = tmp_path / "out" / "fine.tif"
    code, text = run(
        scene.mod11a1, "--ndvi", scene.mod09gq, "--uncertainty", "--output", output,
        monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code in (0, None), text
    written = sorted(path.name for path in output.parent.iterdir())
    assert written == ["fine.png", "fine.tif", "fine_std.tif"]
    assert f"{output}: 192 × 192 pixels, layer day" in text
    assert "NDVI: missing on " in text
    assert f"{output.with_name('fine_std.tif')}: standard deviation, median " in text
    assert "LST alone" not in text
    with rasterio.open(output) as file:
        assert file.tags()["model_run"] == "guided-3"
        assert file.tags()["ndvi_granule"] == scene.mod09gq.name


@pytest.mark.usefixtures("shipped")
def test_without_ndvi_the_pretrained_model_says_what_it_can_do(
    kelvin_file, tmp_path, monkeypatch, capsys
):
    code, text = run(
        kelvin_file, "--output", tmp_path / "fine.tif", "--no-quicklook",
        monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code in (0, None), text
    assert "Note: Without NDVI the model works from LST alone" in text
    assert text.count("Note:") == 1


@pytest.mark.usefixtures("shipped")
def test_without_output_the_map_lies_in_the_current_folder(
    kelvin_file, tmp_path, monkeypatch, capsys
):
    here = tmp_path / "here"
    here.mkdir()
    monkeypatch.chdir(here)
    code, text = run(kelvin_file, "--no-quicklook", monkeypatch=monkeypatch, capsys=capsys)
    assert code in (0, None), text
    assert [path.name for path in here.iterdir()] == [f"{kelvin_file.stem}_fine.tif"]


def test_a_served_guided_model_predicts_the_same_file(
    kelvin_file, tiny_guided_models_dir, tmp_path, monkeypatch, capsys
):
    from serving.local_server import LocalServer

    ndvi = np.random.default_rng(1).integers(0, 9000, (80, 120)).astype(np.int16)
    write_geotiff(tmp_path / "vi.tif", ndvi, GRID.finer(4))
    results = []
    with LocalServer(tiny_guided_models_dir, port=0) as server:
        for name, option, value in (
            ("local", "--model", tiny_guided_models_dir),
            ("served", "--server", server.address),
        ):
            code, text = run(
                kelvin_file, option, value, "--output", tmp_path / f"{name}.tif", "--uncertainty",
                "--ndvi", tmp_path / "vi.tif", "--ndvi-scale", 0.0001, "--ndvi-nodata", -3000,
                "--ndvi-date", "2021-08-14", "--no-quicklook",
                monkeypatch=monkeypatch, capsys=capsys,
            )  # fmt: skip
            assert code in (0, None), text
            assert "Note: NDVI is of 2021-08-14, 1 day before LST (2021-08-15)" in text
            results.append([])
            for path in (tmp_path / f"{name}.tif", tmp_path / f"{name}_std.tif"):
                with rasterio.open(path) as file:
                    results[-1].append((file.read(1), {**file.tags(), "created": ""}))
    for (local, tags), (served, served_tags) in zip(*results, strict=True):
        np.testing.assert_allclose(local, served, rtol=0, atol=1e-4)
        assert tags == served_tags


def test_guides_go_by_name_and_their_options_too(
    kelvin_file, tiny_guided_models_dir, tmp_path, monkeypatch, capsys
):
    ndvi = np.random.default_rng(1).integers(0, 9000, (80, 120)).astype(np.int16)
    write_geotiff(tmp_path / "vi.tif", ndvi, GRID.finer(4))
    ways = {
        "short": ["--ndvi", tmp_path / "vi.tif", "--ndvi-scale", 0.0001, "--ndvi-nodata", -3000],
        "long": ["--guide", f"ndvi={tmp_path / 'vi.tif'}", "--guide-option", "ndvi.scale=0.0001",
                 "--guide-option", "ndvi.nodata=-3000", "--guide-option", "ndvi.date=2021-08-14",
                 "--guide", f"water={tmp_path / 'cover.tif'}", "--guide-option", "water.class=17"],
    }  # fmt: skip
    results = {}
    for name, options in ways.items():
        code, text = run(
            kelvin_file, "--model", tiny_guided_models_dir, *options, "--output",
            tmp_path / f"{name}.tif", "--consistency", "block",
            monkeypatch=monkeypatch, capsys=capsys,
        )  # fmt: skip
        assert code in (0, None), text
        assert ("1 day before LST" in text) == (name == "long")
        assert ("does not take the share of water" in text) == (name == "long")
        assert "Consistency (block): residual " in text
        with rasterio.open(tmp_path / f"{name}.tif") as file:
            results[name] = file.read(1)
            assert file.tags()["consistency"] == "block"
    np.testing.assert_array_equal(results["short"], results["long"])


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--guide", "ndvi"], "expected NAME=FILE"),
        (["--guide", "ndwi=x.tif"], "no such guide"),
        (["--ndvi", "x.tif", "--guide", "ndvi=y.tif"], "a file of ndvi is given already"),
        (["--guide-option", "ndvi.scale=1"], "a guide that is given"),
        (
            ["--ndvi", "x.tif", "--guide-option", "ndvi.unit=1"],
            "one of scale, offset",
        ),
        (["--ndvi", "x.tif", "--guide-option", "ndvi.scale=a"], "could not convert"),
        (["--guide", "water=x.tif"], "water: this model takes no such guide"),
    ],
)
def test_guides_that_cannot_be_read_are_refused(
    kelvin_file, tiny_guided_models_dir, tmp_path, monkeypatch, capsys, options, words
):
    code, text = run(
        kelvin_file, "--model", tiny_guided_models_dir, "--output", tmp_path / "out.tif", *options,
        monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert words in text and "Traceback" not in text


def test_a_model_of_one_image_refuses_ndvi(
    kelvin_file, tiny_models_dir, tmp_path, monkeypatch, capsys
):
    code, text = run(
        kelvin_file, "--model", tiny_models_dir, "--ndvi", kelvin_file,
        "--output", tmp_path / "out.tif", monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code == 2
    assert "Error: ndvi: this model takes no guide" in text


def test_missing_pretrained_weights_are_an_error_with_a_way_out(
    kelvin_file, tmp_path, monkeypatch, capsys
):
    from keras_lstsr.artifacts import loading

    monkeypatch.setattr(loading, "WEIGHTS_FOLDER", tmp_path / "weights")
    code, text = run(
        kelvin_file, "--output", tmp_path / "out.tif", monkeypatch=monkeypatch, capsys=capsys
    )
    assert code == 2
    assert "weights: the pretrained weights are missing" in text
    assert "--model" in text


@pytest.mark.real_data
@pytest.mark.usefixtures("shipped")
def test_a_real_pair_of_lst_and_ndvi(lstsr_data, tmp_path, monkeypatch, capsys):
    pairs = lstsr_data / "modis_aster"
    output = tmp_path / "lst_250m.tif"
    code, text = run(
        pairs / "000_lst_1km.tif", "--ndvi", pairs / "000_ndvi_250m.tif", "--uncertainty",
        "--output", output, monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code in (0, None), text
    with rasterio.open(pairs / "000_lst_1km.tif") as coarse, rasterio.open(output) as fine:
        assert fine.shape == tuple(4 * side for side in coarse.shape)
        assert fine.crs == coarse.crs
        assert float(fine.tags()["guide_missing_share"]) < 0.5
