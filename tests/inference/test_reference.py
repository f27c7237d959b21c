"""A reference from files: masks, scales, grids, day and night, positions, and what is refused."""

from __future__ import annotations

import json

import numpy as np
import pytest
import rasterio
from affine import Affine
from pyproj import CRS

from keras_lstsr.errors import ConfigError, GridError, LstsrError, ProductError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.reference import detail_of
from keras_lstsr.grids.resample import block_mean
from keras_lstsr.inference.reference import make_reference
from keras_lstsr.products import open_guide
from keras_lstsr.testing.rasters import utm_grid, write_geotiff
from keras_lstsr.testing.samples import texture

PIXELS = 64
GROUND = 280 + 30 * texture(PIXELS * 4, 7)  # 62.5 m
GRID = utm_grid((PIXELS, PIXELS))
TRUE = detail_of(GRID.raster(block_mean(GROUND, 4))).values


def write(path, kelvin=GROUND, pixel_m=62.5, *, row=0.0, column=0.0, **settings):
    """LST as a file; row and column move it by so many of its pixels."""
    grid = utm_grid(kelvin.shape, pixel_m, row=row, column=column)
    values = kelvin.astype(np.float32)
    return write_geotiff(path, values, grid, units="K", nodata=np.nan, **settings)


def dates(folder, count=4, *, noise_kelvin=0.3, time="day"):
    """Files of some dates: the same detail, another level, noise."""
    rng = np.random.default_rng(1)
    return [
        write(
            folder / f"lst_2022-06-0{i + 1}_{time}.tif",
            GROUND + 3 * i + rng.normal(0, noise_kelvin, GROUND.shape),
        )
        for i in range(count)
    ]


def cloud_tops(shape):
    """No cloud is of one temperature: a number that often is there would be taken for missing."""
    return np.random.default_rng(5).normal(0, 1, shape)


def read(path):
    with rasterio.open(path) as file:
        return file.read(1), file.read(2), file.tags(), file.profile


def error_of(values):
    inner = (slice(8, -8), slice(8, -8))
    difference = (values - TRUE)[inner]
    return float(np.sqrt(np.mean(difference[np.isfinite(difference)] ** 2)))


def test_dates_make_a_reference_that_reads_as_a_guide(tmp_path):
    output = tmp_path / "out" / "reference.tif"
    made = make_reference(dates(tmp_path), output, grid=GRID)
    values, count, tags, profile = read(output)
    assert profile["count"] == 2 and profile["dtype"] == "float32" and np.isnan(profile["nodata"])
    assert error_of(values) < 0.1 < 0.5 * np.nanstd(TRUE)
    assert made.shape == (PIXELS, PIXELS) and made.day_night == "day" and made.notes == ()
    assert (tags["day_night"], tags["date_count"], tags["units"]) == ("day", "4", "kelvin")
    assert tags["dates"] == "2022-06-01, 2022-06-02, 2022-06-03, 2022-06-04"
    assert json.loads(tags["source_files"]) == {
        f"lst_2022-06-0{i}_day.tif": 1.0 for i in range(1, 5)
    }
    assert np.median(count) == 4
    guide = open_guide("reference", output)["reference"]
    np.testing.assert_array_equal(guide, values)
    assert Grid.of(guide) == GRID
    assert [path.name for path in output.parent.iterdir()] == ["reference.tif"]


def test_known_forms_and_masks(tmp_path):
    """ECOSTRESS, ASTER and Landsat as delivered, clouds masked or not."""
    cloud = np.zeros(GROUND.shape, bool)
    cloud[60:140, 80:160] = True
    cold = np.where(cloud, 250.0 + cloud_tops(GROUND.shape), GROUND)
    grid = utm_grid(GROUND.shape, 62.5)
    eco = "ECO_L2_LSTE.002_{}_doy2023175112358_aid0001.tif"
    landsat = "LC08_L2SP_196024_20220308_20220314_02_T1_{}.TIF"

    def stored(name, scale, offset=0.0, **settings):
        integers = np.round((cold - offset) / scale).astype(np.uint16)
        return write_geotiff(tmp_path / name, integers, grid, **settings)

    paths = [
        stored(eco.format("LST"), 0.02, nodata=0, tags={"scale_factor": "0.02", "units": "K"}),
        stored("AST_08_00308152021103000_20210816120000_1234.tif", 0.1),
        stored(landsat.format("ST_B10"), 0.00341802, 149.0),
    ]
    for name, bits in ((eco.format("cloud_mask"), 1), (landsat.format("QA_PIXEL"), 0b1000)):
        write_geotiff(tmp_path / name, (cloud * bits).astype(np.uint16), grid)
    output = tmp_path / "reference.tif"
    made = make_reference(paths, output, grid=GRID)
    values, count, *_ = read(output)
    assert made.day_night == "day" and made.files.keys() == {path.name for path in paths}
    inside = np.isfinite(block_mean(np.where(cloud, np.nan, 0.0), 4))
    assert error_of(np.where(inside, values, np.nan)) < 0.35
    # Under the cloud only ASTER, which has no mask, has a value.
    assert set(np.unique(count[~inside])) <= {0, 1} and (count[inside][100:-100] >= 2).mean() > 0.8


def test_unmasked_clouds_do_no_harm(tmp_path):
    paths = dates(tmp_path)
    rng = np.random.default_rng(5)
    cloudy = write(tmp_path / "lst_2022-07-01_day.tif", 250 + 20 * texture(PIXELS * 4, 99))
    part = GROUND + rng.normal(0, 0.3, GROUND.shape)
    part[100:140, 100:140] = 250 + cloud_tops((40, 40))
    partly = write(tmp_path / "lst_2022-07-02_day.tif", part)
    made = make_reference([*paths, cloudy, partly], tmp_path / "r.tif", grid=GRID)
    values, _, tags, _ = read(tmp_path / "r.tif")
    assert made.files[cloudy.name] == 0 and made.files[partly.name] == 1
    assert f"{cloudy.name} hardly agrees" in " ".join(made.notes)
    assert json.loads(tags["source_files"])[cloudy.name] == 0
    # The rim of a small cloud moves what is seen at 1 km around it, on one date of five.
    assert error_of(values) < 0.2


def test_dates_are_moved_onto_each_other(tmp_path):
    paths = dates(tmp_path, noise_kelvin=0.1)
    # What lies right says that it lies 1.2 pixels of 250 m too far down and 0.8 to the right.
    off = write(tmp_path / "lst_2022-07-01_day.tif", row=1.2 * 4, column=0.8 * 4)
    made = make_reference([*paths, off], tmp_path / "r.tif", grid=GRID)
    moved = np.array(made.shifts[off.name])
    stayed = [np.array(made.shifts.get(path.name, (0.0, 0.0))) for path in paths]
    # All are moved to their mean; what matters is where they lie to each other. A fifth may be
    # left, since the robust mean of the others is hardly moved by the one that lies off.
    for each in stayed:
        np.testing.assert_allclose(moved - each, [-1.2, -0.8], atol=0.3)
    values, *_ = read(tmp_path / "r.tif")
    unmoved = (TRUE + np.roll(TRUE, (1, 1), (0, 1))) / 2
    assert error_of(values) < error_of(unmoved)


def test_two_dates_meet_halfway(tmp_path):
    first = write(tmp_path / "lst_2022-06-01_day.tif")
    second = write(tmp_path / "lst_2022-06-02_day.tif", row=4.0)
    made = make_reference([first, second], tmp_path / "r.tif", grid=GRID)
    np.testing.assert_allclose(made.shifts[first.name], (0.5, 0.0), atol=0.05)
    np.testing.assert_allclose(made.shifts[second.name], (-0.5, 0.0), atol=0.05)


def test_day_and_night_are_not_mixed(tmp_path):
    days, nights = dates(tmp_path, 2), dates(tmp_path, 3, time="night")
    untold = write(tmp_path / "lst_2022-08-01.tif")
    with pytest.raises(ConfigError, match=r"--day-night: .*day: lst_2022-06-01_day.*night: ") as e:
        make_reference([*days, *nights], tmp_path / "r.tif")
    assert "Choose with --day-night" in str(e.value) and not (tmp_path / "r.tif").exists()
    heard: list[str] = []
    made = make_reference(
        [*days, *nights, untold], tmp_path / "r.tif", day_night="night", announce=heard.append
    )
    assert made.day_night == "night" and len(made.files) == 4 and tuple(heard) == made.notes
    assert "2 of 6 files are not of the night" in heard[0] and untold.name in heard[1]
    with pytest.raises(ConfigError, match="no file is of that time"):
        make_reference(days, tmp_path / "r.tif", day_night="night")
    assert make_reference([untold], tmp_path / "u.tif").day_night == "unknown"


def test_without_a_grid_it_covers_all_files(tmp_path):
    first = write(tmp_path / "lst_2022-06-01_day.tif", GROUND[:, :128])
    second = write(tmp_path / "lst_2022-06-02_day.tif", GROUND[:, 128:], column=128)
    make_reference([first, second], tmp_path / "r.tif")
    grid = Grid.of(tmp_path / "r.tif")
    assert grid == GRID
    # Maps of about 250 m keep their own pixels.
    size = 231.65635826
    own = write(tmp_path / "lst_2022-06-03_day.tif", block_mean(GROUND, 4), size, row=0.3)
    make_reference([own], tmp_path / "own.tif")
    assert Grid.of(tmp_path / "own.tif") == utm_grid((PIXELS, PIXELS), size, row=0.3)
    values, count, *_ = read(tmp_path / "own.tif")
    np.testing.assert_allclose(values[8:-8, 8:-8], TRUE[8:-8, 8:-8], atol=1e-3)
    assert np.nanmax(count) == 1


def test_degrees_become_metres(tmp_path):
    grid = Grid(CRS(4326), Affine(0.0007, 0, -118.5, 0, -0.0007, -34.0), GROUND.shape)
    path = write_geotiff(tmp_path / "lst_2022-06-01_day.tif", GROUND.astype(np.float32), grid)
    make_reference([path], tmp_path / "r.tif")
    made = Grid.of(tmp_path / "r.tif")
    assert made.crs.to_epsg() == 32711 and made.pixel_size == (250, 250)
    assert made.transform.c % 250 == 0 and made.transform.f % 250 == 0


def test_a_folder_gives_its_files_and_not_its_masks(tmp_path):
    dates(tmp_path / "in", 3)
    mask = np.ones(GROUND.shape, np.uint8)
    write_geotiff(tmp_path / "in" / "lst_mask_2022.tif", mask, utm_grid(mask.shape, 62.5))
    seen: list[tuple[int, int]] = []
    made = make_reference(
        [tmp_path / "in"], tmp_path / "r.tif", progress=lambda *numbers: seen.append(numbers)
    )
    assert len(made.files) == 3 and seen == [(1, 3), (2, 3), (3, 3)]
    again = make_reference(
        [tmp_path / "in", *(tmp_path / "in").glob("*day.tif")], tmp_path / "s.tif"
    )
    assert len(again.files) == 3


def test_what_is_refused(tmp_path):
    output = tmp_path / "r.tif"
    path, *_ = dates(tmp_path, 1)
    with pytest.raises(ProductError, match="there is no such file"):
        make_reference([tmp_path / "none.tif"], output)
    with pytest.raises(LstsrError, match="would replace the input"):
        make_reference([path], path)
    with pytest.raises(ProductError, match="no file has valid LST on the reference's ground"):
        make_reference([path], output, grid=utm_grid((40, 40), row=900))
    coarse = write(tmp_path / "lst_2022-06-09_day.tif", block_mean(GROUND, 16), 1000.0)
    with pytest.raises(GridError, match=r"coarser than the reference; found pixels 4\.00 times"):
        make_reference([coarse], output)
    far = write(tmp_path / "lst_2022-06-08_day.tif", GROUND, row=90_000, column=30_000)
    with pytest.raises(GridError, match="too far apart"):
        make_reference([path, far], output)
    ndvi = write(tmp_path / "ndvi_2022-06-08_day.tif", GROUND / 1000)
    with pytest.raises(ProductError, match=r"ndvi_2022.*"):
        make_reference([ndvi], output)
    noise = [
        write(tmp_path / f"lst_2023-06-0{i}_day.tif", 280 + texture(PIXELS * 4, 20 + i))
        for i in range(1, 5)
    ]
    rng = np.random.default_rng(0)
    for file in noise:
        write(file, 290 + rng.normal(0, 9, GROUND.shape))
    with pytest.raises(ProductError, match="no detail in common"):
        make_reference(noise, output, grid=GRID)
    assert not output.exists() and not list(tmp_path.glob(".*"))


def test_one_date_of_two_elsewhere(tmp_path):
    here, *_ = dates(tmp_path, 1)
    there = write(tmp_path / "lst_2022-07-01_day.tif", row=2000)
    made = make_reference([here, there], tmp_path / "r.tif", grid=GRID)
    assert made.files.keys() == {here.name}
    assert f"{there.name} shows nothing of this ground" in made.notes[0]
    assert made.notes[1].startswith("One date alone")


@pytest.mark.real_data
def test_real_nights_of_ecostress(lstsr_data, tmp_path):
    folder = lstsr_data / "ecostress"
    made = make_reference([folder], tmp_path / "r.tif", day_night="night")
    assert len(made.files) == 6 and all(made.files.values())
    assert 0.3 < made.spread_kelvin < 0.6 and made.valid_share > 0.9
    assert len(made.shifts) >= 4  # ECOSTRESS lies off by up to half a pixel of 250 m
