"""The plan of scenes with truth: shared ground, shifts, splits; whatever order they come in."""

from __future__ import annotations

import itertools

import pytest

from keras_lstsr.grids.registration import Shift
from keras_lstsr.records.cutting import CutSettings
from keras_lstsr.records.places import SplitSettings
from keras_lstsr.records.scenes import SceneSurvey, plan_scenes
from keras_lstsr.records.schema import GridInfo, SceneInfo, SourceInfo
from keras_lstsr.testing.rasters import utm_grid
from keras_lstsr.testing.samples import made_scene

CLEAR = Shift(-1.0, -1.0, 0.5)
SETTINGS = CutSettings(truth=True, split=SplitSettings((0.5, 0.25, 0.25)))


def survey(name, column=0, *, group="", origin="observed", shift=CLEAR, date="2020-06-01"):
    """A scene of 8 × 8 LST pixels, its corner so many pixels to the east."""
    info = SourceInfo(
        path=f"/{name}.tif",
        role="lst",
        sha256="",
        granule_id=name,
        product="",
        version="",
        tile="",
        acquisition_date=date,
        pixels=64,
    )
    scene = SceneInfo(
        group=group,
        origin=origin,
        day_night="day",
        grid=GridInfo.of(utm_grid((8, 8), 1000.0, column=column)),
        files={},
    )
    return SceneSurvey(made_scene(name, coarse_pixels=4), info, scene, date, shift)


def test_shared_ground_is_one_place_and_a_group_too():
    surveys = [
        survey("a"),
        survey("b", 6),
        survey("c", 12),
        survey("d", 40, group="x"),
        survey("e", 80, group="x"),
        survey("f", 120),
    ]
    plan = plan_scenes(surveys, SETTINGS)
    places = {item.survey.name: item.place for item in plan.items}
    # a and c do not touch, but both overlap b; d and e are said to.
    assert places["a"] == places["b"] == places["c"]
    assert places["d"] == places["e"]
    assert len(set(places.values())) == 3
    assert all(place.startswith("epsg32633-1000x1000@") for place in places.values())
    groups = {item.survey.name: item.scene.group for item in plan.items}
    assert groups["a"] == groups["b"] and groups["d"] == "x" and len(set(groups.values())) == 3
    for item in plan.items:
        assert item.split == {places[o.survey.name]: o.split for o in plan.items}[item.place]
    for order in list(itertools.permutations(surveys))[::101]:
        again = plan_scenes(order, SETTINGS)
        assert [(i.survey.name, i.place, i.split) for i in again.items] == [
            (i.survey.name, i.place, i.split) for i in plan.items
        ]


def test_a_clear_shift_goes_before_the_sets_and_a_degraded_scene_has_none():
    surveys = [
        survey("a", shift=Shift(-1.0, -2.0, 0.5)),
        survey("b", 20, shift=Shift(-3.0, -2.0, 0.5)),
        survey("c", 40, shift=None),
        survey("d", 60, origin="degraded", shift=None),
    ]
    found = {item.survey.name: item for item in plan_scenes(surveys, SETTINGS).items}
    assert found["a"].scene.truth_shift_pixels == (-1.0, -2.0) and found["a"].scene.own_shift
    # The weighted median of two lies between them.
    assert found["c"].scene.truth_shift_pixels == (-2.0, -2.0) and not found["c"].scene.own_shift
    assert found["d"].shift is None and found["d"].scene.truth_shift_pixels is None
    alone = plan_scenes([surveys[2], surveys[3]], SETTINGS)
    assert [item.survey.name for item in alone.items] == ["d"]
    assert "where its truth lies is unknown" in alone.dead_letters[0].reason


def test_one_name_is_used_once():
    first, second = survey("a"), survey("a", 50)
    plan = plan_scenes([second, first], SETTINGS)
    assert len(plan.items) == 1
    assert "a scene of the same name" in plan.dead_letters[0].reason


@pytest.mark.parametrize("by", ["date", "place_and_date"])
def test_splits_by_date_need_a_date_and_must_agree(by):
    settings = CutSettings(truth=True, split=SplitSettings((0.5, 0.25, 0.25), by=by))
    surveys = [survey(f"{k}", 20 * k, date=f"2020-06-{k + 1:02d}") for k in range(20)]
    plan = plan_scenes([*surveys, survey("z", 900, date="")], settings)
    assert f"split_by {by} needs it" in plan.dead_letters[0].reason
    assert len(plan.items) + len(plan.rejected) == 20
    assert bool(plan.rejected) == (by == "place_and_date")
    for source in plan.rejected:
        assert source.rejected == {"day": {"split_mismatch": 1}}
