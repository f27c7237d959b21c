"""Fine LST of places becomes samples with guides, drawn footprints and other dates' detail."""

from __future__ import annotations

import numpy as np
import pytest

from keras_lstsr.errors import GridError, ProductError
from keras_lstsr.grids.degradation import Footprint, degrade
from keras_lstsr.grids.reference import detail_of
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.records.place_scenes import PlaceScene, find_places, left_out, shows_cloud
from keras_lstsr.records.scene_sample import nested
from keras_lstsr.testing.rasters import utm_grid, utm_raster, write_geotiff
from keras_lstsr.testing.samples import place_lst, texture, write_places


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_places(tmp_path_factory.mktemp("places"))


@pytest.fixture(scope="module")
def scenes(folder):
    return {scene.name: scene for scene in find_places(folder)}


def test_scenes_are_found_by_name_and_cloudy_nights_left_out(folder, scenes):
    assert list(scenes) == [
        "coast/20230601_day",
        "coast/20230602_night",
        "coast/20230620_morning",
        "coast/2023170201530_day",
        "river/unknown-warm_day",
    ]
    assert left_out(folder, list(scenes.values())) == ["coast/20230603_night"]
    halves = [scene.day_night for scene in scenes.values()]
    assert halves == ["day", "night", "day", "day", "day"]
    dates = [scene.load().acquisition_date for scene in scenes.values()]
    assert dates == ["2023-06-01", "2023-06-02", "2023-06-20", "2023-06-19", ""]


def test_places_on_one_ground_are_one_group(scenes):
    assert {scene.group for scene in scenes.values()} == {"coast"}


def test_the_truth_is_what_is_stored_and_lst_what_the_footprint_sees(scenes):
    scene = scenes["coast/20230601_day"].load()
    np.testing.assert_allclose(scene.truth.values, place_lst(0), atol=0.0051)
    seen = degrade(scene.truth.values, 4, "psf", psf=Footprint().psf(1000.0))
    np.testing.assert_array_equal(scene.lst.values, seen)
    assert nested(scene, 4).truth_kelvin.shape == (48, 48)
    assert set(scene.files) == {"20230601_day_lst_83m.tif", "median_day_ndvi_83m.tif"}


def test_guides_come_from_files_other_dates_and_ndvi(scenes):
    coast, river = (scenes[n].load() for n in ("coast/20230602_night", "river/unknown-warm_day"))
    ndvi = 0.7 - 0.8 * texture(48, 0)
    np.testing.assert_allclose(coast.guides["ndvi"].values, ndvi, atol=1e-4)
    water = np.clip((0.05 - ndvi) / 0.1, 0, 1)
    np.testing.assert_allclose(coast.guides["water"].values, water, atol=1e-3)
    assert 0.0 < water.mean() < 1.0
    # There is no other clear night.
    assert list(coast.guides) == scenes["coast/20230602_night"].guide_names == ["ndvi", "water"]
    np.testing.assert_allclose(river.guides["water"].values, texture(32, 1) < 0.4, atol=1e-6)
    assert river.guides["water"].values.min() == 0.0
    assert list(river.guides) == scenes["river/unknown-warm_day"].guide_names == ["water"]


def test_a_reference_is_the_other_days_detail_and_never_its_own(folder, scenes):
    name = "coast/20230601_day"
    reference = scenes[name].load().guides["reference"].values
    details = []
    for date in (1, 2):
        fine = utm_raster(np.round(place_lst(date), 2), name="lst_kelvin")
        details.append(detail_of(fine, 4).values)
    np.testing.assert_allclose(reference, np.mean(details, axis=0), atol=0.01)
    for scene in scenes.values():
        assert scene.path not in scene.other_dates
        assert not any("night" in path.name for path in scene.other_dates)


def test_draws_hang_on_name_and_number_alone(folder):
    drawn = find_places(folder, draws=3)
    assert [scene.name for scene in drawn[:3]] == [f"coast/20230601_day#{n}" for n in (1, 2, 3)]
    assert drawn == find_places(folder, draws=3)
    assert drawn[:2] == find_places(folder, draws=2)[:2]
    every = find_places(folder, draws=200)
    plain = [scene.footprint for scene in every if scene.draw % 4 == 0]
    narrow = np.array([footprint.fwhm_m for footprint in plain])
    assert narrow.min() >= 50 and narrow.max() <= 900 and (narrow[:, 0] == narrow[:, 1]).all()
    assert {footprint.kind for footprint in plain} == {"gaussian"}
    wide = [scene.footprint for scene in every if scene.draw % 4]
    widths = np.array([footprint.fwhm_m for footprint in wide])
    assert widths.min() >= 850 and widths.max(axis=1).min() > 900 and widths.max() <= 2000
    assert 0.4 < np.mean(widths[:, 0] > widths[:, 1]) < 0.6
    modis = np.mean([footprint.kind == "modis" for footprint in wide])
    assert 0.2 < modis < 0.3
    first, again = drawn[0].load(), drawn[0].load()
    np.testing.assert_array_equal(first.lst.values, again.lst.values)
    seen = degrade(first.truth.values, 4, "psf", psf=drawn[0].footprint.psf(1000.0))
    assert 0.03 < np.std(first.lst.values - seen) < 0.07


def test_what_does_not_fit_is_named(tmp_path):
    with pytest.raises(ProductError, match="holds no place"):
        find_places(tmp_path)
    path = tmp_path / "a" / "20230601_day_lst_100m.tif"
    lst = np.full((60, 60), 30_000, np.uint16)
    write_geotiff(path, lst, utm_grid(lst.shape, 100.0), scale=0.01, units="K", nodata=0)
    with pytest.raises(GridError, match=r"do not nest in 250 m.*100"):
        PlaceScene(path, "a").load()


def test_gaps_stay_gaps(tmp_path):
    values = np.full((24, 24), 30_000, np.uint16)
    values[5, 7] = 0
    path = tmp_path / "a" / "x_night_lst_83m.tif"
    write_geotiff(path, values, utm_grid((24, 24), 250 / 3), scale=0.01, units="K", nodata=0)
    scene = find_places(tmp_path)[0].load()
    gap = np.zeros((8, 8), bool)
    gap[1, 2] = True
    np.testing.assert_array_equal(np.isnan(scene.truth.values), gap)
    np.testing.assert_array_equal(np.isnan(scene.lst.values), block_mean(gap * 1.0, 4) > 0)
    np.testing.assert_allclose(scene.lst.values[np.isfinite(scene.lst.values)], 300.0)


def test_a_night_is_cloudy_where_no_ground_is_so_cold():
    lst = utm_raster(np.full((40, 40), 290.0), name="lst_kelvin")
    assert not shows_cloud(lst)
    lst.values[:2] = 264.0
    assert shows_cloud(lst)
    assert shows_cloud(lst * np.nan)


@pytest.mark.real_data
def test_real_places(lstsr_data):
    scenes = {scene.name: scene for scene in find_places(lstsr_data / "places")}
    groups = {scene.group for name, scene in scenes.items() if name.startswith("montana")}
    assert groups == {"montana_judith"}
    assert not any("phoenix/201708" in name for name in scenes)
    coast = scenes["los_angeles/2023209214058_day"]
    assert coast.partners["ndvi"].name == "median-summer_day_ndvi_77m.tif"
    assert coast.load().acquisition_date == "2023-07-28"
    wuhan = scenes["wuhan/unknown-warm_day"].load()
    warm, wet = wuhan.truth.values, wuhan.guides["water"].values
    assert np.nanmean(warm[wet == 1]) < np.nanmean(warm[wet == 0]) - 5
