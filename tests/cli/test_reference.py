"""``keras-lstsr reference``: from files to a guide, and errors without a traceback."""

from __future__ import annotations

import numpy as np
import pytest
import rasterio
from click.testing import CliRunner

from keras_lstsr.cli import main as cli_main
from keras_lstsr.grids.grid import Grid
from keras_lstsr.testing.rasters import utm_grid, write_geotiff
from keras_lstsr.testing.samples import texture


@pytest.fixture
def files(tmp_path):
    rng = np.random.default_rng(0)
    ground = 285 + 20 * texture(120, 1)
    paths = []
    for date in ("2022-06-01_day", "2022-06-09_day", "2022-06-20_day", "2022-06-21_night"):
        kelvin = (ground + rng.normal(0, 0.2, ground.shape)).astype(np.float32)
        path = tmp_path / f"lst_{date}.tif"
        paths.append(write_geotiff(path, kelvin, utm_grid(ground.shape, 125.0), nodata=np.nan))
    return paths


def run(*arguments, monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["keras-lstsr", "reference", *map(str, arguments)])
    with pytest.raises(SystemExit) as caught:
        cli_main.main()
    captured = capsys.readouterr()
    return caught.value.code, captured.out + captured.err


def test_it_nests_in_lst(files, tmp_path, monkeypatch, capsys):
    kelvin = np.full((12, 14), 290.0, np.float32)
    lst = write_geotiff(tmp_path / "lst_1km.tif", kelvin, utm_grid(kelvin.shape, 1000.0))
    output = tmp_path / "out" / "reference.tif"
    code, text = run(
        *files, "--lst", lst, "--output", output, "--day-night", "day",
        monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code in (0, None), text
    assert "Note: 1 of 4 files are not of the day: left out." in text
    assert f"{output}: 48 × 56 pixels, day, files 3 of 3" in text
    assert Grid.of(output) == utm_grid((48, 56))
    with rasterio.open(output) as file:
        assert file.descriptions == ("reference", "date_count") and file.units == ("K", "1")
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"


def test_on_the_pixels_of_any_raster(files, tmp_path, monkeypatch, capsys):
    grid = utm_grid((30, 20), 240.0, row=3, column=2)
    like = write_geotiff(tmp_path / "like.tif", np.zeros(grid.shape, np.uint8), grid)
    code, text = run(
        files[0], "--grid", like, "--output", tmp_path / "r.tif",
        monkeypatch=monkeypatch, capsys=capsys,
    )  # fmt: skip
    assert code in (0, None), text
    assert Grid.of(tmp_path / "r.tif") == grid


def test_errors_end_with_two_and_write_nothing(files, tmp_path, monkeypatch, capsys):
    output = tmp_path / "r.tif"
    broken = tmp_path / "lst_broken_day.tif"
    broken.write_bytes(files[0].read_bytes()[:500])
    for arguments, expected in (
        (files, "a reference is of days or of nights"),
        ([broken], "cannot be read"),
        ([files[0], "--grid", tmp_path / "none.tif"], "none.tif"),
        ([files[0], "--lst", tmp_path / "none.hdf"], "none.hdf"),
    ):
        code, text = run(*arguments, "--output", output, monkeypatch=monkeypatch, capsys=capsys)
        assert code == 2 and expected in text and "Traceback" not in text, text
    assert not output.exists() and not list(tmp_path.glob(".r.tif*"))


def test_not_both_of_grid_and_lst(files):
    options = ["--output", "r.tif", "--grid", "a.tif", "--lst", "b.tif"]
    result = CliRunner().invoke(cli_main.cli, ["reference", str(files[0]), *options])
    assert result.exit_code == 2 and "only one of --grid and --lst" in result.output
