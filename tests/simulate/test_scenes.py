from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import rasterio
import xarray as xr
from scipy import ndimage

from keras_lstsr.errors import ConfigError
from keras_lstsr.grids.resample import block_mean, norm_l4
from keras_lstsr.products import open_product
from keras_lstsr.simulate import SimulatedScene, simulate_scenes
from keras_lstsr.simulate import scenes as scenes_module
from keras_lstsr.simulate.fields import RandomStreams
from keras_lstsr.simulate.landcover import Crop, make_ground
from keras_lstsr.simulate.place import TileGrid, scene_place_and_date
from keras_lstsr.simulate.surface import make_surface


def _files(scene: SimulatedScene) -> list[Path]:
    return [scene.mod11a1, scene.mod09gq, scene.truth_day, scene.truth_night]


def _digest(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def _truth(path: Path) -> np.ndarray:
    return open_product(path)["lst_kelvin"].values


@pytest.fixture(scope="module")
def surfaces() -> list[tuple]:
    """Ground and true surface of three tiles, without noise, clouds and quantisation."""
    result = []
    for index in (0, 2, 4):
        h, v, date = scene_place_and_date(index)
        grid = TileGrid(h, v, 192)
        ground = make_ground(RandomStreams((21, h, v)), 192)
        streams = RandomStreams((21, h, v, date.toordinal()))
        result.append((ground, make_surface(ground, grid, date, streams)))
    return result


def test_same_arguments_give_the_same_bytes_in_another_process(tmp_path: Path) -> None:
    simulate_scenes(tmp_path / "here", scenes=2, seed=3, size_pixels=32)
    there = tmp_path / "elsewhere" / "and deeper"
    code = (
        "from keras_lstsr.simulate import simulate_scenes;"
        f"simulate_scenes({str(there)!r}, scenes=2, seed=3, size_pixels=32)"
    )
    # Other threads, another hash seed, another time zone.
    environment = os.environ | {
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "GDAL_NUM_THREADS": "2",
        "PYTHONHASHSEED": "77",
        "TZ": "Asia/Tokyo",
    }
    subprocess.run([sys.executable, "-c", code], check=True, env=environment)
    assert _digest(tmp_path / "here") == _digest(there)
    assert len(_digest(there)) == 8


def test_fewer_scenes_are_the_same_scenes(tmp_path: Path, scenes: list[SimulatedScene]) -> None:
    (first,) = simulate_scenes(tmp_path, scenes=1, seed=11, size_pixels=96)
    for mine, other in zip(_files(first), _files(scenes[0]), strict=True):
        assert mine.name == other.name
        assert mine.read_bytes() == other.read_bytes()


def test_another_seed_is_another_ground(tmp_path: Path, scenes: list[SimulatedScene]) -> None:
    (other,) = simulate_scenes(tmp_path, scenes=1, seed=12, size_pixels=96)
    ours, theirs = _truth(scenes[0].truth_day), _truth(other.truth_day)
    assert (np.isnan(ours) != np.isnan(theirs)).mean() > 0.01
    both = np.isfinite(ours) & np.isfinite(theirs)
    assert abs(np.corrcoef(ours[both], theirs[both])[0, 1]) < 0.5


def test_ground_stays_and_weather_changes(scenes: list[SimulatedScene]) -> None:
    first, later = scenes[0], scenes[8]
    assert first.tile == later.tile
    assert first.date != later.date
    ours, theirs = _truth(first.truth_day), _truth(later.truth_day)
    np.testing.assert_array_equal(np.isnan(ours), np.isnan(theirs))
    land = np.isfinite(ours)
    assert 0.3 < np.corrcoef(ours[land], theirs[land])[0, 1] < 0.98


def test_names_follow_nasas_convention(scenes: list[SimulatedScene]) -> None:
    for scene in scenes:
        pattern = rf"MOD(11A1|09GQ)\.A{scene.date:%Y%j}\.{scene.tile}\.061\.\d{{13}}\.hdf"
        for path in (scene.mod11a1, scene.mod09gq):
            assert re.fullmatch(pattern, path.name)
        assert scene.truth_day.parent.name == "truth"
    assert len({(scene.tile, scene.date) for scene in scenes}) == len(scenes)


def test_open_product_reads_everything_without_options(scenes: list[SimulatedScene]) -> None:
    for scene in scenes[:3]:
        lst, reflectance = open_product(scene.mod11a1), open_product(scene.mod09gq)
        truths = [open_product(scene.truth_day), open_product(scene.truth_night)]
        for dataset, product in zip(
            (lst, reflectance, *truths),
            ("MOD11A1", "MOD09GQ", "ASTER_LST", "ASTER_LST"),
            strict=True,
        ):
            assert dataset.attrs["product"] == product
            assert dataset.attrs["acquisition_date"] == scene.date.isoformat()
            assert dataset.attrs["tile"] == scene.tile
        assert lst.attrs["granule_id"] == scene.mod11a1.name
        assert [t["lst_kelvin"].attrs["day_night"] for t in truths] == ["day", "night"]
        coarse, fine = lst.rio.transform(), truths[0].rio.transform()
        assert coarse.a == pytest.approx(4 * fine.a, rel=1e-9)
        assert (coarse.c, coarse.f) == pytest.approx((fine.c, fine.f), abs=1e-5)
        assert reflectance.rio.transform().a == pytest.approx(fine.a, rel=1e-9)
        assert lst.rio.crs == truths[0].rio.crs == reflectance.rio.crs
        assert lst.sizes["y"] * 4 == truths[0].sizes["y"] == reflectance.sizes["y"] == 384


def test_truth_is_tagged_and_stored_like_aster(scenes: list[SimulatedScene]) -> None:
    with rasterio.open(scenes[0].truth_night) as file:
        assert file.dtypes == ("uint16",)
        assert file.nodata == 0
        assert file.scales == (0.02,)
        assert file.units == ("K",)
        assert file.profile["tiled"]
        assert file.tags()["DAY_NIGHT"] == "night"
        assert file.tags()["ACQUISITION_DATE"] == scenes[0].date.isoformat()


@pytest.mark.parametrize("half", ["day", "night"])
def test_good_lst_is_the_norm_l4_aggregate_of_the_truth(
    noiseless: SimulatedScene, half: str
) -> None:
    truth = _truth(noiseless.truth_day if half == "day" else noiseless.truth_night)
    granule = open_product(noiseless.mod11a1, qc_policy="strict")
    observed = granule[f"lst_{half}_kelvin"].values
    expected = norm_l4(truth.astype(np.float64), 4)
    good = np.isfinite(observed)
    assert good.mean() > 0.4
    # Half a step of 0.02 K, and float32 on the way.
    assert np.abs(observed - expected)[good].max() <= 0.01 + 1e-4


def test_noise_is_what_was_asked_for(tmp_path: Path) -> None:
    (scene,) = simulate_scenes(
        tmp_path, scenes=1, seed=5, size_pixels=96, noise_kelvin=0.4, cloud_fraction=0
    )
    observed = open_product(scene.mod11a1, qc_policy="strict")["lst_day_kelvin"].values
    error = observed - norm_l4(_truth(scene.truth_day).astype(np.float64), 4)
    error = error[np.isfinite(error)]
    assert error.size > 4000
    assert error.std() == pytest.approx(0.4, rel=0.05)
    assert abs(error.mean()) < 0.03


def test_qc_says_why_pixels_are_missing(noiseless: SimulatedScene) -> None:
    granule = open_product(noiseless.mod11a1, qc_policy="lenient")
    truth = _truth(noiseless.truth_day)
    sea = np.isnan(block_mean(truth, 4))
    for half in ("day", "night"):
        qc, lst = granule[f"qc_{half}"].values, granule[f"lst_{half}_kelvin"].values
        mandatory = qc & 3
        np.testing.assert_array_equal(mandatory == 3, sea)
        np.testing.assert_array_equal(np.isfinite(lst), mandatory <= 1)
        # The asked share of the overpass is cloudy; land's share of it varies.
        assert 0.05 < (mandatory == 2)[~sea].mean() < 0.5
        good = mandatory == 0
        assert not (qc[good] >> 2).any()
        assert ((qc[mandatory == 1] >> 2) > 0).all()
        time = granule[f"view_time_{half}_hours"].values
        np.testing.assert_array_equal(np.isnan(time), mandatory > 1)


def test_undetected_cloud_is_cold_and_beside_clouds(noiseless: SimulatedScene) -> None:
    granule = open_product(noiseless.mod11a1, qc_policy="lenient")
    expected = norm_l4(_truth(noiseless.truth_day).astype(np.float64), 4)
    qc = granule["qc_day"].values
    error = granule["lst_day_kelvin"].values - expected
    produced = (qc & 3) <= 1
    classes = qc >> 6
    means = [error[produced & (classes == k)].mean() for k in range(4)]
    assert abs(means[0]) < 0.01
    assert 0 > means[1] > means[3]
    # Errors stay within their class: at most 1, 2, 3 K; the last is open.
    for k in range(3):
        members = np.abs(error[produced & (classes == k)])
        assert members.size == 0 or members.max() <= k + 1
    distance = ndimage.distance_transform_edt((qc & 3) != 2)
    near, good = produced & (classes >= 1), produced & (classes == 0)
    assert distance[near].mean() < 0.6 * distance[good].mean()


def test_no_clouds_when_none_are_asked_for(tmp_path: Path) -> None:
    (scene,) = simulate_scenes(tmp_path, scenes=1, seed=5, size_pixels=32, cloud_fraction=0)
    for path in (scene.mod11a1, scene.mod09gq):
        dataset = open_product(path)
        for name in ("qc_day", "qc_night", "qc_250m"):
            if name in dataset:
                assert not ((dataset[name].values & 3) == 2).any()


def test_ndvi_passes_through_the_reflectances(noiseless: SimulatedScene) -> None:
    h, v, date = scene_place_and_date(0)
    grid = TileGrid(h, v, 96)
    ground = make_ground(RandomStreams((5, h, v)), 96)
    surface = make_surface(ground, grid, date, RandomStreams((5, h, v, date.toordinal())))
    reflectance = open_product(noiseless.mod09gq, qc_policy="strict")
    ndvi = reflectance["ndvi"].values
    dry = np.isfinite(ndvi) & (ground.terrain.water_fraction == 0)
    assert dry.mean() > 0.4
    error = (ndvi - surface.ndvi)[dry]
    assert np.sqrt(np.mean(error**2)) < 0.02
    assert abs(error.mean()) < 0.002
    lake = np.isfinite(ndvi) & (ground.terrain.water_fraction > 0.95)
    assert lake.sum() > 20
    assert np.nanmean(ndvi[lake]) < 0.1
    modland = reflectance["qc_250m"].values & 3
    np.testing.assert_array_equal(modland == 3, ground.terrain.sea)
    assert 0.05 < (modland == 2).mean() < 0.4
    assert not np.isfinite(ndvi[modland >= 2]).any()


def test_day_lst_follows_ndvi_and_night_lst_hardly(surfaces: list[tuple]) -> None:
    for ground, surface in surfaces:
        land = ~ground.terrain.sea
        ndvi = surface.ndvi[land]
        by_day = np.corrcoef(surface.lst_day_kelvin[land], ndvi)[0, 1]
        by_night = np.corrcoef(surface.lst_night_kelvin[land], ndvi)[0, 1]
        assert -0.80 < by_day < -0.58
        assert -0.40 < by_night < -0.15


def test_spectra_are_those_of_landscapes(surfaces: list[tuple], log_spectrum) -> None:
    """Wavelengths of 600 m to 40 km; MODIS and ASTER LST give slopes of -2.1 to -3.1 here."""
    for ground, surface in surfaces:
        land = ~ground.terrain.sea
        slopes = []
        for layer in (surface.lst_day_kelvin, surface.lst_night_kelvin, surface.ndvi):
            filled = np.where(land, layer, layer[land].mean())
            wavenumber, power = log_spectrum(filled)
            band = (wavenumber > 0.25 / 40) & (wavenumber < 0.25 / 0.6)
            slopes.append(np.polyfit(np.log(wavenumber[band]), np.log(power[band]), 1)[0])
        assert -3.2 < slopes[0] < -2.3
        assert -3.2 < slopes[1] < -2.0
        # NDVI has sharper edges than LST by day: its spectrum falls more slowly.
        assert -3.0 < slopes[2] < -1.8
        assert slopes[2] > slopes[0]


def test_temperatures_are_plausible(surfaces: list[tuple]) -> None:
    for ground, surface in surfaces:
        terrain = ground.terrain
        land = ~terrain.sea
        day, night = surface.lst_day_kelvin, surface.lst_night_kelvin
        assert np.isnan(day[~land]).all()
        assert day[land].min() > 255
        assert day[land].max() < 333
        assert 280 < day[land].mean() < 310
        dry = land & (terrain.water_fraction == 0)
        assert (day[dry] > night[dry]).mean() > 0.97
        lakes = terrain.water_fraction > 0.95
        assert lakes.sum() > 50
        # Beside lakes, not anywhere: lakes lie at all heights.
        shores = ndimage.binary_dilation(lakes, iterations=12) & dry
        assert day[lakes].mean() < day[shores].mean() - 1
        assert night[lakes].mean() > night[shores].mean() + 1
        towns = ground.urban > 0.5
        around = ndimage.binary_dilation(towns, iterations=12) & dry & (ground.urban < 0.1)
        assert night[towns].mean() > night[around].mean() + 0.5
        assert surface.ndvi[towns].mean() < surface.ndvi[around].mean()


def test_height_cools(surfaces: list[tuple]) -> None:
    for ground, surface in surfaces:
        dry = ~ground.terrain.sea & (ground.terrain.water_fraction == 0)
        heights = ground.terrain.elevation_km[dry]
        low, high = heights < np.quantile(heights, 0.2), heights > np.quantile(heights, 0.9)
        for lst in (surface.lst_day_kelvin[dry], surface.lst_night_kelvin[dry]):
            assert lst[high].mean() < lst[low].mean() - 1


def test_ground_has_all_that_a_landscape_has(surfaces: list[tuple]) -> None:
    for ground, surface in surfaces:
        assert 0.01 < ground.terrain.sea.mean() < 0.25
        assert 0.1 < ground.forest.mean() < 0.6
        assert 0.05 < (ground.crop != Crop.NONE).mean() < 0.6
        assert 0.001 < ground.urban.mean() < 0.05
        assert 0.003 < ground.terrain.water_fraction.mean() < 0.05
        rivers = (ground.terrain.water_fraction > 0) & (ground.terrain.water_fraction < 0.5)
        assert rivers.sum() > 200
        # A parcel's edge is a step within two pixels, many times the difference inside parcels.
        field = ground.crop != Crop.NONE
        step = np.abs(np.diff(surface.ndvi, axis=1))
        same = (ground.crop[:, 1:] == ground.crop[:, :-1]) & field[:, 1:]
        changed = (ground.crop[:, 1:] != ground.crop[:, :-1]) & field[:, 1:] & field[:, :-1]
        assert np.median(step[changed]) > 4 * np.median(step[same])


def test_fine_detail_is_not_noise(surfaces: list[tuple]) -> None:
    """The 250 m detail within 1 km pixels follows NDVI: a network has something to learn."""
    for _, surface in surfaces:
        whole = np.isfinite(norm_l4(surface.lst_day_kelvin, 4)).repeat(4, 0).repeat(4, 1)
        detail = [
            (layer - block_mean(layer, 4).repeat(4, 0).repeat(4, 1))[whole]
            for layer in (np.nan_to_num(surface.lst_day_kelvin, nan=290.0), surface.ndvi)
        ]
        assert detail[0].std() > 0.4
        assert np.corrcoef(*detail)[0, 1] < -0.3
        day = np.nan_to_num(surface.lst_day_kelvin, nan=290.0)
        right, left = day[:, 1:][whole[:, 1:]], day[:, :-1][whole[:, 1:]]
        assert np.corrcoef(right, left)[0, 1] > 0.9


@pytest.mark.parametrize(
    ("arguments", "field"),
    [
        ({"scenes": 0}, "scenes"),
        ({"seed": -1}, "seed"),
        ({"size_pixels": 15}, "size_pixels"),
        ({"size_pixels": 1201}, "size_pixels"),
        ({"noise_kelvin": -0.1}, "noise_kelvin"),
        ({"noise_kelvin": float("nan")}, "noise_kelvin"),
        ({"cloud_fraction": 1.1}, "cloud_fraction"),
    ],
)
def test_arguments_out_of_range_are_refused(
    tmp_path: Path, arguments: dict[str, float], field: str
) -> None:
    with pytest.raises(ConfigError, match=rf"^{field}: .*found.*expected"):
        simulate_scenes(
            tmp_path / "out", **({"scenes": 1, "seed": 1, "size_pixels": 16} | arguments)
        )
    assert not (tmp_path / "out").exists()


def test_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("x")
    with pytest.raises(ConfigError, match="a folder"):
        simulate_scenes(path, scenes=1, seed=1, size_pixels=16)
    with pytest.raises(ConfigError, match="cannot be made"):
        simulate_scenes(path / "below", scenes=1, seed=1, size_pixels=16)


def test_a_failure_leaves_no_half_written_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def break_off(path: Path, *_: object, **__: object) -> None:
        path.write_bytes(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(scenes_module, "write_grid_file", break_off)
    with pytest.raises(OSError, match="disk full"):
        simulate_scenes(tmp_path, scenes=1, seed=1, size_pixels=16)
    left = [path.name for path in tmp_path.rglob("*") if path.is_file()]
    assert sorted(left) == [
        "LST_TRUTH.A2019191.h18v04.day.tif",
        "LST_TRUTH.A2019191.h18v04.night.tif",
    ]


@pytest.mark.parametrize("size", [16, 17, 50])
def test_any_size_works(tmp_path: Path, size: int) -> None:
    scenes = simulate_scenes(tmp_path, scenes=2, seed=1, size_pixels=size)
    for scene in scenes:
        lst: xr.Dataset = open_product(scene.mod11a1)
        assert lst["lst_day_kelvin"].shape == (size, size)
        assert scene.size_pixels == size


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="peak memory is read from /proc")
def test_a_whole_tile_needs_less_than_3_gib(tmp_path: Path) -> None:
    # Not ru_maxrss: a child inherits the peak of the process that it was forked from.
    code = (
        "from pathlib import Path; from keras_lstsr.simulate import simulate_scenes;"
        f"simulate_scenes({str(tmp_path)!r}, scenes=1, seed=1);"
        "lines = Path('/proc/self/status').read_text().splitlines();"
        "print(next(line.split()[1] for line in lines if line.startswith('VmHWM')))"
    )
    output = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, text=True
    )
    assert int(output.stdout) < 3 * 2**20  # KiB
    (granule,) = tmp_path.glob("MOD11A1*.hdf")
    assert open_product(granule)["lst_day_kelvin"].shape == (1200, 1200)
