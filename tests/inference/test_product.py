from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import rasterio
import rioxarray  # noqa: F401
import xarray as xr
from PIL import Image

from keras_lstsr.errors import GridError, LstsrError, ModelError, ProductError
from keras_lstsr.grids.consistency import consistency_residual
from keras_lstsr.inference.inputs import (
    GuideInput,
    LstInput,
    choose_layer,
    foreign_inputs,
    granule_difference,
    valid_share,
)
from keras_lstsr.inference.predictor import KerasPredictor, SavedModelPredictor
from keras_lstsr.inference.product import Outputs, predict_product
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.inference.tiles import TileSettings
from keras_lstsr.products import guide_layer, open_product
from keras_lstsr.simulate import simulate_scenes
from keras_lstsr.testing.rasters import utm_grid, write_geotiff

GRID = utm_grid((37, 53), 1000.0)


def layer(name, values, rejected=None):
    attributes = {"day_night": name}
    if rejected:
        attributes["rejected_pixels"] = json.dumps(rejected)
    return (("y", "x"), values.astype(np.float32), attributes)


def two_layers(day, night, rejected_by_day=None):
    return xr.Dataset(
        {
            "lst_day_kelvin": layer("day", day, rejected_by_day),
            "lst_night_kelvin": layer("night", night),
        },
        attrs={"source_file": "MOD11A1.hdf"},
    )


CLEAR = np.full((4, 5), 300.0)
CLOUDY = np.full((4, 5), np.nan)


def test_day_is_the_default_and_night_can_be_chosen():
    scene = two_layers(CLEAR, CLEAR - 20)
    assert choose_layer(scene, None)[0] == "day"
    name, chosen = choose_layer(scene, "night")
    assert name == "night"
    assert float(chosen[0, 0]) == 280.0


def test_a_cloudy_layer_is_an_error_that_names_the_shares_and_reasons():
    half = CLEAR.copy()
    half[:2] = np.nan
    scene = two_layers(CLOUDY, half, rejected_by_day={"cloud": 18, "fill": 2, "quality": 0})
    with pytest.raises(ProductError) as caught:
        choose_layer(scene, None)
    message = str(caught.value)
    assert "MOD11A1.hdf: day: the layer has no valid pixel" in message
    assert "day 0.0% valid, night 50.0% valid" in message
    assert "rejected: cloud 18, fill 2;" in message
    assert "--layer" in message


def test_a_layer_that_is_not_there_is_an_error():
    scene = xr.Dataset({"lst_kelvin": layer("unknown", CLEAR)})
    assert choose_layer(scene, None)[0] == "unknown"
    with pytest.raises(ProductError, match=r"night: the scene has no such layer.*unknown 100"):
        choose_layer(scene, "night")


@pytest.fixture
def geotiff(tmp_path):
    """An LST GeoTIFF as MODIS integers, 0 where missing."""
    rng = np.random.default_rng(0)
    stored = rng.integers(14_000, 15_500, (37, 53)).astype(np.uint16)
    stored[5:9, 10:20] = 0
    path = tmp_path / "LST2006_01_09.LST_Day_1km.tif"
    return write_geotiff(path, stored, GRID, scale=0.02, nodata=0)


def test_a_geotiff_becomes_a_cog_with_provenance_and_quicklook(geotiff, tiny_models_dir, tmp_path):
    predictor = SavedModelPredictor(tiny_models_dir)
    steps = []
    done = predict_product(
        LstInput(geotiff),
        predictor,
        Outputs(tmp_path / "fine.tif"),
        tiles=TileSettings(tile_pixels=32, overlap_pixels=16, batch_size=4),
        progress=lambda tiles, total: steps.append((tiles, total)),
    )
    assert done.layer == "day"
    assert done.shape == (148, 212)
    assert done.valid_share == pytest.approx(1 - 40 / (37 * 53))
    assert steps[-1][0] == steps[-1][1]
    assert done.outputs.picture == tmp_path / "fine.png"
    assert done.outputs.picture.is_file()
    coarse = open_product(geotiff)["lst_kelvin"]
    with rasterio.open(done.outputs.map) as file:
        tags, fine = file.tags(), file.read(1)
        assert file.transform == GRID.finer(4).transform
        assert file.crs == "EPSG:32633"
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
    missing = np.repeat(np.repeat(np.isnan(coarse.values), 4, 0), 4, 1)
    np.testing.assert_array_equal(np.isnan(fine), missing)
    assert done.minimum_kelvin == np.nanmin(fine)
    assert done.maximum_kelvin == np.nanmax(fine)
    assert tags["units"] == "kelvin"
    assert tags["source_granule"] == geotiff.name
    assert tags["acquisition_date"] == "2006-01-09"
    assert tags["day_night"] == "day"
    assert tags["super_resolution_factor"] == "4"
    assert tags["model_run"] == "tiny"
    assert tags["model_version"] == "2"
    assert tags["model_weights_sha256"] == predictor.provenance["weights_sha256"]
    assert tags["model_dataset_fingerprint"] == "f" * 64
    assert tags["software"].startswith("keras-lstsr ")


def test_the_result_is_itself_a_product(geotiff, tiny_models_dir, tmp_path):
    predictor = SavedModelPredictor(tiny_models_dir)
    done = predicted(geotiff, predictor, tmp_path / "fine.tif")
    assert done.outputs.picture is None
    scene = open_product(done.outputs.map)
    assert scene.attrs["acquisition_date"] == "2006-01-09"
    assert scene["lst_kelvin"].attrs["day_night"] == "day"
    assert valid_share(scene["lst_kelvin"]) == pytest.approx(done.valid_share)


def test_the_input_is_never_replaced(geotiff, tiny_models_dir):
    before = geotiff.read_bytes()
    with pytest.raises(LstsrError, match="would replace the input"):
        predicted(geotiff, SavedModelPredictor(tiny_models_dir), geotiff)
    assert geotiff.read_bytes() == before


@pytest.fixture(scope="module")
def granules(tmp_path_factory):
    """A MOD11A1 granule and the MOD09GQ granule of its tile and day."""
    folder = tmp_path_factory.mktemp("granules")
    (made,) = simulate_scenes(folder, scenes=1, seed=3, size_pixels=48, cloud_fraction=0.1)
    return made


@pytest.fixture(scope="module")
def guided(tiny_guided_model):
    return KerasPredictor(tiny_guided_model, {"run_name": "tiny-guided"})


def predicted(lst, predictor, output, ndvi=None, options=None):
    """``predict_product`` without a quicklook."""
    guides = {} if ndvi is None else {"ndvi": GuideInput(ndvi, options or {})}
    return predict_product(LstInput(lst), predictor, Outputs(output, quicklook=False), guides)


@pytest.fixture
def ndvi_file(tmp_path):
    """NDVI under the LST GeoTIFF, of another day, missing in the last 20 columns."""
    values = np.random.default_rng(1).uniform(0, 0.9, (148, 212)).astype(np.float32)
    values[:, -20:] = np.nan
    path = tmp_path / "greenness_2006-01-05.tif"
    return write_geotiff(path, values, GRID.finer(4), nodata=np.nan)


def test_granules_of_lst_and_ndvi_become_a_map_and_its_uncertainty(granules, guided, tmp_path):
    told = []
    outputs = Outputs(tmp_path / "fine.tif", uncertainty=True)
    done = predict_product(
        LstInput(granules.mod11a1),
        guided,
        outputs,
        {"ndvi": GuideInput(granules.mod09gq)},
        announce=told.append,
    )
    assert done.outputs.std == tmp_path / "fine_std.tif"
    coarse = choose_layer(open_product(granules.mod11a1), None)[1]
    ndvi = guide_layer(open_product(granules.mod09gq), "ndvi")
    expected = predict_scene(coarse, guided, {"ndvi": ndvi})
    with rasterio.open(done.outputs.map) as file:
        np.testing.assert_array_equal(file.read(1), expected["lst_kelvin_fine"].values)
        tags = file.tags()
    with rasterio.open(done.outputs.std) as file:
        std = file.read(1)
        np.testing.assert_array_equal(std, expected["lst_std_kelvin"].values)
        assert file.descriptions == ("lst_std_kelvin",)
        assert file.units == ("K",)
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        std_tags = file.tags()
    assert done.median_std_kelvin == pytest.approx(np.nanmedian(std))
    assert tags["ndvi_granule"] == granules.mod09gq.name
    assert tags["ndvi_product"] == "MOD09GQ"
    assert tags["ndvi_date"] == tags["acquisition_date"] == granules.date.isoformat()
    assert float(tags["guide_missing_share"]) == pytest.approx(done.guide_missing_share)
    assert 0 < float(tags["guide_explained_share"]) < 1
    checked = {k: v for k, v in expected["lst_kelvin_fine"].attrs.items() if "self_check" in k}
    assert {"self_check_mean_bicubic", "self_check_footprint_pixels"} <= checked.keys()
    assert {name: float(tags[name]) for name in checked} == checked
    assert (tags["tile_pixels"], tags["overlap_pixels"]) == ("232", "36")
    assert tags["model_run"] == std_tags["model_run"] == "tiny-guided"
    assert std_tags["quantity"] == "uncertainty"
    assert std_tags["source_granule"] == granules.mod11a1.name
    assert list(done.notes) == told
    assert all("NDVI is missing" in note for note in told)


def test_a_geotiff_of_ndvi_needs_no_tags_and_its_gaps_and_date_are_told(
    geotiff, ndvi_file, guided, tmp_path
):
    done = predicted(geotiff, guided, tmp_path / "fine.tif", ndvi_file)
    dates, gaps = done.notes
    assert "NDVI is of 2006-01-05, 4 days before LST (2006-01-09)" in dates
    assert f"missing on {done.guide_missing_share:.1%}" in gaps
    coarse = open_product(geotiff)["lst_kelvin"].values
    valid = np.repeat(np.repeat(~np.isnan(coarse), 4, 0), 4, 1)
    assert done.guide_missing_share == pytest.approx(valid[:, -20:].sum() / valid.sum(), abs=1e-5)
    with rasterio.open(done.outputs.map) as file:
        np.testing.assert_array_equal(~np.isnan(file.read(1)), valid)
        assert gaps in file.tags()["sharpening_notes"]
    assert done.outputs.std is None
    assert sorted(path.name for path in tmp_path.glob("fine*")) == ["fine.tif"]


def test_scaled_integers_of_ndvi_are_told_apart(geotiff, guided, tmp_path):
    stored = np.random.default_rng(1).integers(0, 9000, (148, 212)).astype(np.int16)
    stored[0, 0] = -3000
    path = write_geotiff(tmp_path / "vi.tif", stored, GRID.finer(4))
    with pytest.raises(ProductError, match=r"raw integers instead of NDVI"):
        predicted(geotiff, guided, tmp_path / "fine.tif", path)
    options = {"scale": 0.0001, "nodata": -3000, "date": "2006-01-10"}
    done = predicted(geotiff, guided, tmp_path / "fine.tif", path, options)
    assert done.guide_missing_share == pytest.approx(1 / (16 * (37 * 53 - 40)), abs=1e-6)
    assert "1 day after LST" in done.notes[0]


def test_without_ndvi_a_guided_model_says_what_it_can_do(geotiff, guided, tmp_path):
    outputs = Outputs(tmp_path / "fine.tif", uncertainty=True, quicklook=False, dtype="uint16")
    done = predict_product(LstInput(geotiff), guided, outputs)
    (note,) = done.notes
    assert "LST alone" in note and "better than bicubic" in note
    assert done.guide_missing_share is None
    with rasterio.open(done.outputs.map) as file:
        assert "ndvi_granule" not in file.tags()
        assert file.tags()["sharpening_notes"] == note
    with rasterio.open(done.outputs.std) as file:
        assert (file.dtypes, file.scales) == (("uint16",), (0.01,))


@pytest.mark.parametrize("mode", ["block", "psf"])
def test_a_consistent_map_tells_its_residual(geotiff, ndvi_file, guided, tmp_path, mode):
    done = predict_product(
        LstInput(geotiff),
        guided,
        Outputs(tmp_path / "fine.tif"),
        {"ndvi": GuideInput(ndvi_file)},
        consistency=mode,
    )
    coarse = open_product(geotiff)["lst_kelvin"].values
    with rasterio.open(done.outputs.map) as file:
        fine, tags = file.read(1), file.tags()
    left = np.nanmax(np.abs(consistency_residual(fine, coarse, mode)))
    assert left == pytest.approx(done.correction.left_kelvin, abs=1e-4)
    assert left <= 0.0101
    assert tags["consistency"] == mode
    assert float(tags["consistency_residual_left_kelvin"]) == pytest.approx(left, abs=1e-4)
    before = float(tags["consistency_residual_before_kelvin"])
    assert before == pytest.approx(done.correction.before_kelvin, abs=1e-4)
    assert before > 10 * left
    with Image.open(done.outputs.picture) as picture:
        assert picture.height > 1.05 * picture.width  # of 37 × 53 pixels, with a third row


def test_guides_that_the_model_does_not_take_are_told_and_not_read(
    geotiff, ndvi_file, guided, tmp_path
):
    alone = predicted(geotiff, guided, tmp_path / "alone.tif", ndvi_file)
    heard: list[str] = []
    done = predict_product(
        LstInput(geotiff),
        guided,
        Outputs(tmp_path / "both.tif", quicklook=False),
        {"water": GuideInput(tmp_path / "nothing.tif"), "ndvi": GuideInput(ndvi_file)},
        announce=heard.append,
    )
    assert heard[0] == "This model does not take the share of water: it makes no difference."
    assert done.notes[1:] == alone.notes and tuple(heard) == done.notes
    with rasterio.open(tmp_path / "alone.tif") as one, rasterio.open(tmp_path / "both.tif") as two:
        np.testing.assert_array_equal(one.read(1), two.read(1))
        assert "water_granule" not in two.tags()


def test_ndvi_that_cannot_belong_to_the_scene_is_refused(
    granules, geotiff, ndvi_file, guided, tiny_model, tmp_path
):
    output = tmp_path / "fine.tif"
    with pytest.raises(GridError, match="does not overlap"):
        predicted(granules.mod11a1, guided, output, ndvi_file, {"date": "2019-07-10"})
    with pytest.raises(ProductError, match="holds no NDVI; found MOD11A1"):
        predicted(granules.mod11a1, guided, output, granules.mod11a1)
    with pytest.raises(ProductError, match=r"nothing\.tif"):
        predicted(granules.mod11a1, guided, output, tmp_path / "nothing.tif")
    empty = write_geotiff(tmp_path / "e.tif", np.full((9, 9), np.nan, np.float32), GRID)
    with pytest.raises(ProductError, match="NDVI has no valid pixel"):
        predicted(geotiff, guided, output, empty)
    with pytest.raises(ModelError, match="takes no guide"):
        predicted(geotiff, KerasPredictor(tiny_model), output, ndvi_file)
    with pytest.raises(ModelError, match="gives no uncertainty"):
        predict_product(
            LstInput(geotiff), KerasPredictor(tiny_model), Outputs(output, uncertainty=True)
        )
    with pytest.raises(LstsrError, match="would replace the input"):
        predicted(geotiff, guided, ndvi_file, ndvi_file)
    assert not output.exists()


@pytest.mark.parametrize(
    ("lst", "ndvi", "words"),
    [
        (("h18v04", "2019-11-01"), ("h18v04", "2019-11-01"), ""),
        (("", "2019-11-01"), ("h18v04", ""), ""),
        (("h18v04", "2019-11-01"), ("", "2019-10-31"), "1 day before LST"),
        (("h18v04", "2019-11-01"), ("h18v04", "2020-11-01"), "366 days after LST"),
    ],
)
def test_the_days_between_granules_are_told(lst, ndvi, words):
    scenes = [xr.Dataset(attrs={"tile": t, "acquisition_date": d}) for t, d in (lst, ndvi)]
    text = granule_difference("ndvi", *scenes[::-1], max_days=1000)
    assert words in text
    assert bool(words) == bool(text)


def test_granules_of_different_tiles_are_an_error():
    scenes = [xr.Dataset(attrs={"tile": tile}) for tile in ("h18v04", "h17v04")]
    with pytest.raises(ProductError, match="different tiles; found h17v04; expected h18v04"):
        granule_difference("ndvi", *scenes[::-1])


def test_ndvi_of_another_season_is_refused_unless_told():
    scenes = [
        xr.Dataset(attrs={"acquisition_date": day, "source_file": "ndvi.tif"})
        for day in ("2019-07-19", "2019-07-02")
    ]
    with pytest.raises(ProductError, match=r"17 days before LST.*--max-guide-days 17"):
        granule_difference("ndvi", *scenes[::-1])
    assert "17 days before" in granule_difference("ndvi", *scenes[::-1], max_days=17)
    assert "17 days before" in granule_difference("elevation", *scenes[::-1])


@pytest.mark.parametrize(
    ("pixel_m", "lst_name", "ndvi_name", "words"),
    [
        (70.0, "LST", "NDVI", "pixels are of 70 m"),
        (5000.0, "LST", "NDVI", "pixels are of 5000 m"),
        (1000.0, "8-day LST", "NDVI", "composite"),
        (1000.0, "LST", "16 days EVI", "calls itself EVI"),
        (1000.0, "LST", "16 days NDVI", None),
    ],
)
def test_inputs_of_another_kind_are_noted(pixel_m, lst_name, ndvi_name, words):
    grid = utm_grid((4, 4), pixel_m)
    lst = grid.raster(np.full((4, 4), 300.0), name="lst_kelvin", attrs={"long_name": lst_name})
    ndvi = grid.raster(np.full((4, 4), 0.5), name="ndvi", attrs={"long_name": ndvi_name})
    notes = foreign_inputs(lst.to_dataset(), lst, {"ndvi": ndvi.to_dataset()})
    assert len(notes) == (words is not None) and all(words in note for note in notes)


@pytest.mark.parametrize("name", ["lst.png", "lst.nc", "lst"])
def test_the_map_s_name_ends_in_tif(geotiff, tiny_models_dir, tmp_path, name):
    outputs = Outputs(tmp_path / name)
    with pytest.raises(LstsrError, match=r"expected \.tif or \.tiff"):
        predict_product(LstInput(geotiff), SavedModelPredictor(tiny_models_dir), outputs)
    assert not (tmp_path / name).exists()


class Wild(KerasPredictor):
    """Gives what no ground has beside what it was given."""

    def predict(self, *arguments, **options):
        found = super().predict(*arguments, **options)
        lst = found.lst_kelvin.copy()
        lst[:, :8, :8] = 605.0
        return replace(found, lst_kelvin=lst)


def test_a_result_that_its_input_makes_implausible_is_refused_unless_forced(
    geotiff, tiny_guided_model, tmp_path
):
    wild, lst = Wild(tiny_guided_model), LstInput(geotiff)
    with pytest.raises(ModelError, match=r"to 605\.0 K, its input from .*--force"):
        predict_product(lst, wild, Outputs(tmp_path / "a.tif"), check=False)
    assert not list(tmp_path.glob("a*"))
    done = predict_product(lst, wild, Outputs(tmp_path / "b.tif", force=True), check=False)
    assert "not plausible" in done.notes[-1]
    with rasterio.open(tmp_path / "b.tif") as written:
        assert "605.0 K" in written.tags()["implausible"]
