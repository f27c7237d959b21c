"""The examples of docs/extending.md run as they stand, and the command line finds extensions."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import xarray as xr
import yaml

from keras_lstsr import products, registration, sharpening
from keras_lstsr.artifacts.model_folder import ModelFolder
from keras_lstsr.config import guides, losses, networks
from keras_lstsr.errors import ConfigError
from keras_lstsr.evaluation.methods import choose_methods
from keras_lstsr.inference.inputs import LstInput
from keras_lstsr.inference.product import Outputs, predict_product
from keras_lstsr.losses import build_loss
from keras_lstsr.registration import load_extensions
from keras_lstsr.testing.models import NearestPredictor
from keras_lstsr.testing.rasters import guide_raster, lst_raster, utm_grid, write_geotiff
from keras_lstsr.testing.records import write_made_records

PAGE = (Path(__file__).resolve().parents[1] / "docs" / "extending.md").read_text()
TABLES = (
    (networks, "NETWORKS"),
    (losses, "LOSSES"),
    (guides, "GUIDES"),
    (products, "FILE_PRODUCTS"),
    (sharpening, "METHODS"),
)
LST = lst_raster(utm_grid((16, 18), 1000.0), gaps=0.1)


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to work in; what is registered there is forgotten afterwards."""
    before = [dict(getattr(module, name)) for module, name in TABLES]
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for (module, name), entries in zip(TABLES, before, strict=True):
        table = getattr(module, name)
        table.clear()
        table.update(entries)


def blocks(section: str) -> list[tuple[str, str]]:
    """The language and the text of each block under a heading."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    return re.findall(r"```(\w+)\n(.*?)```", text, re.DOTALL)


def run(section: str) -> dict[str, object]:
    """Runs the Python blocks under a heading, with its YAML as config.yaml; returns the names."""
    names: dict[str, object] = {"__name__": "user"}
    for language, text in blocks(section):
        if language == "yaml":
            Path("config.yaml").write_text(text)
    for language, text in blocks(section):
        if language == "python":
            exec(compile(text, f"docs/extending.md: {section}", "exec"), names)
    return names


def test_every_example_is_short_and_imports_from_the_top():
    sections = re.findall(r"\n## (An? [\w ]+)\n", PAGE)
    assert len(sections) == 5
    for section in sections:
        texts = [text for language, text in blocks(section) if language == "python"]
        assert texts and all(text.count("\n") <= 30 for text in texts), section
    assert not re.search(r"(from|import) keras_lstsr\.", PAGE)


@pytest.mark.usefixtures("step_by_step")
def test_a_network(place):
    write_made_records(place / "records")
    predictor = run("A network")["predictor"]
    assert predictor.scale_factor == 4
    model = ModelFolder("runs/shallow").read_config().model
    assert (model.architecture, model.options) == ("shallow", {"kernel_pixels": 5})
    fine = predictor.predict(LST.values[None, ..., None])
    assert fine.lst_kelvin.shape == (1, 64, 72, 1)


@pytest.mark.usefixtures("step_by_step")
def test_a_loss(place):
    write_made_records(place / "records")
    log_cosh = run("A loss")["LogCosh"](2.0)
    assert ModelFolder("runs/log_cosh").read_run().status == "finished"
    target, prediction = np.full((2, 4, 4, 1), 300.0), np.full((2, 4, 4, 1), 303.0)
    target[0, 0, 0] = prediction[0, 1, 1] = np.nan
    assert float(log_cosh(target, prediction)) == pytest.approx(np.log(np.cosh(1.5)), rel=1e-5)
    wrong = losses.LossConfig(name="log_cosh", options={"scale": 1.0})
    with pytest.raises(ConfigError, match=r"options\.scale: .*log_cosh.*expected scale_kelvin"):
        build_loss(wrong)


def test_a_classical_method(place):
    ndvi = guide_raster(utm_grid((64, 72)))
    write_geotiff("lst_2021-08-15_day.tif", LST.values, utm_grid((16, 18), 1000.0), units="K")
    write_geotiff("ndvi_2021-08-15.tif", ndvi.values, utm_grid((64, 72)))
    fine = run("A classical method")["fine"]
    coarse = fine.values.reshape(16, 4, 18, 4).mean(axis=(1, 3))
    np.testing.assert_allclose(coarse, LST.values, rtol=0, atol=1e-3)
    slope = np.polyfit((ndvi - ndvi.mean()).values[:4, :4].ravel(), fine.values[:4, :4].ravel(), 1)
    assert slope[0] == pytest.approx(-15, rel=1e-3)
    assert fine.attrs["sharpening_method"] == "fixed_slope"
    with pytest.raises(ConfigError, match="expected kelvin_per_unit"):
        sharpening.sharpen(LST, ndvi, method="fixed_slope", slope=1)
    assert "fixed_slope:kelvin_per_unit=-15" in choose_methods(["fixed_slope:kelvin_per_unit=-15"])
    assert "fixed_slope" in choose_methods() and "fixed_slope" not in choose_methods(guided=False)


def test_a_product(place):
    celsius = (LST - 273.15).drop_vars("spatial_ref").drop_attrs().rename("lst_celsius")
    quality = xr.zeros_like(celsius, np.int8).rename("quality")
    quality[0] = 1
    file = xr.Dataset({"lst_celsius": celsius, "quality": quality})
    file.attrs = {"crs": "EPSG:32633", "platform": "Station"}
    file.to_netcdf("station_2021-08-15.nc", engine="scipy")
    scene = run("A product")["scene"]
    np.testing.assert_allclose(scene["lst_kelvin"][1:], LST[1:], rtol=0, atol=1e-3)
    assert np.isnan(scene["lst_kelvin"][0]).all()
    assert scene.attrs["product"] == "STATION_LST" and scene.attrs["platform"] == "Station"
    assert (scene.attrs["acquisition_date"], scene.attrs["qc_policy"]) == ("2021-08-15", "strict")
    request = LstInput("station_2021-08-15.nc", qc_policy="lenient")
    done = predict_product(request, NearestPredictor(), Outputs(place / "fine.tif"))
    assert (done.layer, done.shape) == ("day", (64, 72))
    with pytest.raises(ConfigError, match="scale: this option is for GeoTIFF"):
        products.open_product("station_2021-08-15.nc", scale=0.1)


@pytest.mark.usefixtures("step_by_step")
def test_a_guide(place):
    # Registered first, so that the records may hold it.
    exec(next(text for _, text in blocks("A guide")), {})
    options = {"guides": ("albedo",), "truth": True, "side": 12}
    write_made_records(place / "records", {"train": 3, "validation": 1}, **options)
    del guides.GUIDES["albedo"]
    albedo = guide_raster(utm_grid((64, 72)), "ndvi").clip(0, 1)
    write_geotiff("lst_2021-08-15_day.tif", LST.values, utm_grid((16, 18), 1000.0), units="K")
    write_geotiff("albedo.tif", albedo.values, utm_grid((64, 72)))
    fine = run("A guide")["fine"]
    assert {"lst_kelvin_fine", "lst_std_kelvin", "guide_followed"} <= set(fine)
    settings = yaml.safe_load(Path("runs/albedo/config.yaml").read_text())
    assert settings["model"]["guides"] == ["albedo"]


def install(folder: Path, code: str) -> Path:
    """Lays a package down as installed that names its module in the way of the page."""
    ((_, entry),) = (block for block in blocks("The command line") if block[0] == "toml")
    name, module = re.search(r'\n(\w+) = "([\w.]+)"', entry).groups()
    path = folder / Path(*module.split("."))
    path.parent.mkdir(parents=True)
    path.with_suffix(".py").write_text(code)
    info = folder / "my_package-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1.0\n")
    group = re.search(r"entry-points\.(\w+)\]", entry)[1]
    (info / "entry_points.txt").write_text(f"[{group}]\n{name} = {module}\n")
    return folder


def test_the_command_line_finds_installed_extensions(tmp_path):
    install(tmp_path / "site", next(text for _, text in blocks("A guide")))
    grid = utm_grid((8, 8))
    write_geotiff(tmp_path / "albedo.tif", np.full((8, 8), 0.25, np.float32), grid)
    program = f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r}); "
    program += "from keras_lstsr.cli.main import main; sys.argv[0] = 'keras-lstsr'; main()"
    options = ["inspect", tmp_path / "albedo.tif", "--quantity", "albedo"]
    done = subprocess.run(
        [sys.executable, "-c", program, *map(str, options)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "ALBEDO_GEOTIFF" in done.stdout


def test_an_extension_that_cannot_be_imported_is_named(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(install(tmp_path, "import nothing_of_that_name\n")))
    load_extensions.cache_clear()
    with pytest.raises(ConfigError, match=r"mine: an installed extension.*nothing_of_that_name"):
        load_extensions()
    load_extensions.cache_clear()


def test_names_are_taken_once():
    table = {"a": 1}
    with pytest.raises(ConfigError, match=r"field: this name is taken; found 'a'"):
        registration.register(table, "a", 2, field="field", replace=False)
    registration.register(table, "a", 3, field="field", replace=True)
    assert table == {"a": 3}
    for name in ("lst", "Albedo", "of water"):
        with pytest.raises(ConfigError, match="cannot be the name of a guide"):
            guides.register_guide(guides.Guide(name, "1", name, (0.0, 1.0)))
