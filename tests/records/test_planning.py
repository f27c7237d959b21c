"""The plan of a job: partners, duplicates, and what cannot be used."""

from __future__ import annotations

import itertools

import pytest
from affine import Affine
from pyproj import CRS

from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.modis import MODIS_TILE_SIZE_M, modis_sinusoidal_crs
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.places import SplitSettings
from keras_lstsr.records.planning import Outline, Partners, plan_job

NEEDS = CutSettings(patch_size=64, stride=64, guides=("ndvi",))
_counter = itertools.count()


def outline(role="lst", date="2020-06-01", path=None, tile="h18v04", platform="Terra", **more):
    size = 1200 if role == "lst" else 4800
    pixel = MODIS_TILE_SIZE_M / size
    horizontal = int(tile[1:3]) - 18 if tile else 0
    values = {
        "path": path or f"/{role}{next(_counter):03d}.hdf",
        "role": role,
        "sha256": f"{next(_counter):064x}",
        "granule_id": "granule",
        "product": "MOD11A1" if role == "lst" else "MOD09GQ",
        "version": "061",
        "platform": platform,
        "tile": tile,
        "acquisition_date": date,
        "grid": Grid(
            modis_sinusoidal_crs(),
            Affine(pixel, 0.0, horizontal * MODIS_TILE_SIZE_M, 0.0, -pixel, 5 * MODIS_TILE_SIZE_M),
            (size, size),
        ),
        "pixels": size**2,
        "valid_pixels": {"day": 1} if role != "ndvi" else {"ndvi": 1},
    }
    return Outline(**{**values, **more})


def utm(role, left, top, size, pixel, **more):
    return outline(
        role,
        tile="",
        grid=Grid(CRS.from_epsg(32633), Affine(pixel, 0.0, left, 0.0, -pixel, top), (size, size)),
        **more,
    )


def test_partner_has_the_tile_and_the_date_and_rather_the_platform():
    lst = outline()
    wrong_date = outline("ndvi", "2020-06-02")
    wrong_tile = outline("ndvi", tile="h19v04")
    aqua = outline("ndvi", path="/a.hdf", platform="Aqua")
    terra = outline("ndvi", path="/b.hdf")
    assert Partners([wrong_date, wrong_tile]).of(lst) is None
    assert Partners([wrong_date, wrong_tile, aqua]).of(lst) == aqua
    assert Partners([aqua, terra, wrong_tile]).of(lst) == terra


def test_without_tile_the_ground_decides():
    lst = utm("lst", 5e5, 5e6, 64, 1000.0)
    apart = utm("ndvi", 5e5 + 40000, 5e6, 256, 250.0)
    close = utm("ndvi", 5e5 + 500, 5e6 - 250, 256, 250.0)
    assert Partners([apart]).of(lst) is None
    assert Partners([apart, close]).of(lst) == close


def test_a_modis_tile_serves_a_utm_raster_within_it():
    # 12° E, 45° N lies in h18v04 (x = 0…1112 km, y = 4448…5560 km).
    lst = utm("lst", 263000.0, 4987000.0, 64, 1000.0)
    assert Partners([outline("ndvi")]).of(lst) is not None
    assert Partners([outline("ndvi", tile="h19v04")]).of(lst) is None


def test_static_ndvi_serves_all_dates_but_a_dated_one_comes_first():
    lst = utm("lst", 5e5, 5e6, 64, 1000.0)
    static = utm("ndvi", 5e5, 5e6, 256, 250.0, date="")
    dated = utm("ndvi", 5e5 + 2000, 5e6, 256, 250.0)
    assert Partners([static]).of(lst) == static
    assert Partners([static]).of(lst.model_copy(update={"acquisition_date": ""})) == static
    assert Partners([static, dated]).of(lst) == dated
    assert Partners([dated]).of(lst.model_copy(update={"acquisition_date": ""})) is None


def test_undated_scenes_of_one_ground_go_by_their_names():
    lst = utm("lst", 5e5, 5e6, 64, 1000.0, date="", path="/data/scene_07_lst.tif")
    guides = [
        utm("ndvi", 5e5, 5e6, 256, 250.0, date="", path=f"/data/scene_{i:02d}_ndvi.tif")
        for i in range(10)
    ]
    assert Partners(guides).of(lst).path == "/data/scene_07_ndvi.tif"


def test_same_content_is_used_once_and_the_second_file_is_a_dead_letter():
    first = outline(path="/a/one.hdf")
    copy = first.model_copy(update={"path": "/b/one.hdf"})
    plan = plan_job([copy, first], CutSettings())
    assert [item.lst.path for item in plan.items] == ["/a/one.hdf"]
    (letter,) = plan.dead_letters
    assert letter.path == "/b/one.hdf"
    assert "the same content as /a/one.hdf" in letter.reason


def test_rasters_that_cannot_be_cut_are_dead_letters():
    small = utm("lst", 5e5, 5e6, 63, 1000.0)
    whole = outline()
    shifted = whole.model_copy(update={"grid": whole.grid.window(slice(0, 64), slice(1000, 1064))})
    plan = plan_job([small, shifted], CutSettings())
    assert plan.items == []
    reasons = {letter.path: letter.reason for letter in plan.dead_letters}
    assert "no whole sample fits" in reasons[small.path] and "63 × 63" in reasons[small.path]
    assert "--anchor raster" in reasons[shifted.path]
    again = plan_job([shifted], CutSettings(anchor="raster"))
    assert len(again.items) == 1


def test_splitting_by_date_needs_a_date():
    undated = outline(date="")
    settings = CutSettings(split=SplitSettings(by="date"))
    plan = plan_job([undated, outline()], settings)
    assert len(plan.items) == 1
    assert "split_by date" in plan.dead_letters[0].reason
    assert not plan_job([undated], CutSettings()).dead_letters


def test_the_plan_does_not_depend_on_the_order_of_the_inputs():
    inputs = [
        outline(),
        outline(date="2020-06-02"),
        outline("ndvi"),
        utm("lst", 263000.0, 4987000.0, 80, 1000.0),
        utm("lst", 270500.0, 4980300.0, 80, 1000.0),
    ]
    reference = plan_job(inputs, NEEDS)
    assert len(reference.items) == 4
    for order in list(itertools.permutations(inputs))[::17]:
        assert plan_job(order, NEEDS) == reference
    # The rasters overlap each other and the tile: their places are merged, and the work item of
    # each knows of the blocks that concern it.
    of_utm = {name for item in reference.items[2:] for name in item.merged_places.values()}
    of_tile = set(reference.items[0].merged_places.values())
    (merged,) = of_utm & of_tile
    assert merged.startswith("epsg32633")  # the smallest name: "e" comes before "m"


@pytest.mark.parametrize("need", [True, False])
def test_ndvi_is_looked_for_only_where_it_is_needed(need):
    plan = plan_job([outline(), outline("ndvi")], CutSettings(guides=("ndvi",) if need else ()))
    assert ("ndvi" in plan.items[0].guides) is need


def truth(left, top, time="unknown", **more):
    made = utm("truth", left, top, 240, 250.0, product="ASTER", **more)
    return made.model_copy(update={"valid_pixels": {time: 1}})


TRUTHS = CutSettings(guides=("ndvi",), truth=True)


def test_every_truth_finds_the_layer_of_its_ground_date_and_time():
    # 12° E, 45° N lies in h18v04, and all truths within it.
    tile = outline().model_copy(update={"valid_pixels": {"day": 1, "night": 1}})
    truths = [
        truth(263000.0, 4987000.0, "day"),
        truth(300000.0, 4987000.0, "night"),
        truth(263000.0, 4987000.0, "day", date="2020-06-02"),
        # By day or by night: nobody knows.
        truth(263000.0, 4987000.0, "unknown"),
    ]
    ndvi = outline("ndvi")
    plan = plan_job([tile, ndvi, *truths], TRUTHS)
    assert plan.items == []
    assert [(item.lst, item.layer, item.truth) for item in plan.truths] == [
        (tile, "day", truths[0]),
        (tile, "night", truths[1]),
    ]
    assert all(item.guides == {"ndvi": ndvi} for item in plan.truths)


def test_a_layer_of_unknown_time_serves_any_truth_and_a_truth_of_unknown_time_the_only_layer():
    for known, asked in (("unknown", "day"), ("day", "unknown"), ("unknown", "unknown")):
        lst = utm("lst", 5e5, 5e6, 64, 1000.0, valid_pixels={known: 1})
        plan = plan_job([lst, truth(5e5, 5e6, asked)], CutSettings(truth=True))
        assert [item.layer for item in plan.truths] == [known]
    night = lst.model_copy(update={"valid_pixels": {"night": 1}})
    plan = plan_job([night, truth(5e5, 5e6, "day")], CutSettings(truth=True))
    assert plan.truths == []
    counts = {source.role: source.rejected for source in plan.sources}
    assert counts["lst"] == {"night": {"no_partner:truth": 1}}


def test_a_truth_without_guide_is_counted():
    lst = utm("lst", 5e5, 5e6, 64, 1000.0)
    plan = plan_job([lst, truth(5e5, 5e6, "day")], TRUTHS)
    assert plan.truths == []
    assert [s.rejected for s in plan.sources if s.rejected] == [{"day": {"no_partner:ndvi": 1}}]
