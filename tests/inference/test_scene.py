from __future__ import annotations

import numpy as np
import pytest
import rioxarray  # noqa: F401
from affine import Affine
from pyproj import CRS

from keras_lstsr.artifacts.contract import Contract
from keras_lstsr.errors import GridError, ModelError
from keras_lstsr.grids.consistency import consistency_residual
from keras_lstsr.grids.grid import Grid
from keras_lstsr.grids.resample import block_mean, upsample_bicubic, upsample_nearest
from keras_lstsr.grids.tiling import make_tiling
from keras_lstsr.inference.predictor import KerasPredictor, Prediction
from keras_lstsr.inference.scene import predict_scene
from keras_lstsr.inference.tiles import TileSettings, predict_tiles
from keras_lstsr.testing.models import NearestPredictor
from keras_lstsr.testing.rasters import lst_and_ndvi, lst_raster, lst_values, modis_grid, utm_grid


def scene(values):
    """Values by day on a grid of MODIS."""
    grid = modis_grid(values.shape, tile="h14v08")
    return grid.raster(values, name="lst_day_kelvin", attrs={"day_night": "day"})


def predicted(lst, predictor, guide=None, *, progress=None, **cut):
    """``predict_scene`` with NDVI for a guide, tiles as told, and no self-check."""
    guides = {} if guide is None else {"ndvi": guide}
    tiles = TileSettings.for_contract(predictor.contract, **cut)
    return predict_scene(lst, predictor, guides, tiles=tiles, check=False, progress=progress)


def fine_lst(*arguments, **options):
    return predicted(*arguments, **options)["lst_kelvin_fine"]


def test_blending_keeps_what_all_tiles_agree_on_and_gaps_exactly():
    values = lst_values(150, 133, gaps=0.3)
    fine = fine_lst(scene(values), NearestPredictor(), tile_pixels=64, overlap_pixels=16)
    np.testing.assert_allclose(fine.values, upsample_nearest(values, 4), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(np.isnan(fine.values), np.isnan(upsample_nearest(values, 4)))
    assert fine.dtype == np.float32


def test_tiles_that_disagree_are_blended_without_seams():
    values = np.full((96, 96), 300, np.float32)
    fine = fine_lst(
        scene(values),
        NearestPredictor(tile_error_kelvin=1.0),
        tile_pixels=64,
        overlap_pixels=32,
        batch_size=1,
    ).values
    # Four tiles, 1 to 4 K too warm: sin² over half of 128 fine pixels rises by π/2/64 a pixel.
    assert np.abs(np.diff(fine, axis=1)).max() <= 1.01 * np.pi / 2 / 64
    assert np.abs(np.diff(fine, axis=0)).max() <= 2.01 * np.pi / 2 / 64
    np.testing.assert_allclose([fine[0, 0], fine[0, -1], fine[-1, 0], fine[-1, -1]],
                               [301, 302, 303, 304], atol=1e-4)  # fmt: skip


@pytest.mark.parametrize("gaps", [0.0, 0.3])
def test_tiles_give_what_the_whole_scene_gives(tiny_model, gaps):
    # 32 pixels of overlap cover the receptive field of a network of depth 2.
    predictor = KerasPredictor(tiny_model)
    values = lst_values(150, 133, gaps=gaps)
    whole = predictor.predict(values[None, ..., None]).lst_kelvin[0, ..., 0]
    tiled = fine_lst(scene(values), predictor, tile_pixels=64, overlap_pixels=32).values
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-3)
    abrupt = fine_lst(scene(values), predictor, tile_pixels=64, overlap_pixels=0).values
    assert np.nanmax(np.abs(abrupt - whole)) > 0.1  # the overlap is what makes the difference


def test_the_order_of_the_tiles_does_not_matter(tiny_model):
    predictor = KerasPredictor(tiny_model)
    values = lst_values(130, 100, gaps=0.2)
    tiling = make_tiling(
        values.shape, tile_pixels=64, overlap_pixels=32, factor=4, alignment_pixels=16
    )
    tiles = list(tiling)
    forward = predict_tiles(values, predictor, tiling, tiles, batch_size=2)
    backward = predict_tiles(values, predictor, tiling, tiles[::-1], batch_size=3)
    assert list(forward) == ["lst_kelvin_fine"]
    for name, expected in forward.items():
        np.testing.assert_allclose(backward[name], expected, rtol=0, atol=1e-4)


def test_tiles_without_a_valid_pixel_are_never_predicted():
    values = lst_values(256, 256)
    values[:, 128:] = np.nan
    predictor = NearestPredictor()
    counts = []
    fine_lst(
        scene(values), predictor, tile_pixels=64, overlap_pixels=0, batch_size=3,
        progress=lambda done, total: counts.append((done, total)),
    )  # fmt: skip
    assert sum(shape[0] for shape in predictor.shapes) == 8
    assert max(shape[0] for shape in predictor.shapes) == 3
    assert counts[-1] == (16, 16)
    assert counts == sorted(counts)


def test_a_scene_without_any_valid_pixel_is_all_missing_and_costs_nothing():
    predictor = NearestPredictor()
    fine = fine_lst(scene(np.full((20, 30), np.nan, np.float32)), predictor)
    assert fine.shape == (80, 120)
    assert np.isnan(fine.values).all()
    assert predictor.shapes == []


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (300, 3), (64, 65)])
def test_scenes_of_any_size(height, width):
    values = lst_values(height, width)
    predictor = NearestPredictor(minimum_size_pixels=8)
    fine = fine_lst(scene(values), predictor, tile_pixels=64, overlap_pixels=16)
    np.testing.assert_allclose(fine.values, upsample_nearest(values, 4), rtol=0, atol=1e-4)
    assert min(min(shape[1:3]) for shape in predictor.shapes) >= 8


@pytest.mark.parametrize(
    "grid",
    [
        modis_grid((20, 30), tile="h14v08"),
        utm_grid((20, 30), 1000.0),
        Grid(CRS(4326), Affine(0.01, 0, -118.5, 0, -0.01, 34.25), (20, 30)),
    ],
)
def test_the_fine_grid_nests_exactly(grid):
    coarse, transform = lst_raster(grid), grid.transform
    fine = fine_lst(coarse, NearestPredictor())
    nested = fine.rio.transform()
    assert nested @ Affine.scale(4) == transform
    assert (nested.c, nested.f) == (transform.c, transform.f)
    assert fine.rio.crs == coarse.rio.crs
    # Centres of the fine pixels average to the centre of their coarse one.
    np.testing.assert_allclose(
        fine.y.values.reshape(-1, 4).mean(axis=1), coarse.y, rtol=0, atol=1e-9 * abs(transform.f)
    )
    assert fine.rio.bounds() == pytest.approx(coarse.rio.bounds(), rel=1e-12)
    assert fine.name == "lst_kelvin_fine"
    assert fine.attrs["units"] == "K"
    assert fine.attrs["day_night"] == "day"


def test_a_window_of_a_scene_lies_where_it_was_cut():
    whole = scene(lst_values(60, 80))
    window = whole[16:48, 20:70]  # keeps the transform of the whole
    fine = fine_lst(window, NearestPredictor())
    expected = whole.rio.transform() @ Affine.translation(20, 16) @ Affine.scale(0.25)
    assert fine.rio.transform().almost_equals(expected, precision=1e-6)
    assert fine.rio.bounds() == pytest.approx(window.rio.bounds(recalc=True), rel=1e-12)


def test_unusable_scenes_are_refused():
    predictor = NearestPredictor()
    values = lst_values(20, 20)
    with pytest.raises(GridError, match="band"):
        fine_lst(scene(values).expand_dims(band=2), predictor)
    with pytest.raises(GridError, match="has no CRS"):
        fine_lst(scene(values).drop_vars("spatial_ref"), predictor)
    turned = Affine(900, 10, 0, 10, -900, 0)
    with pytest.raises(GridError, match="rotated"):
        fine_lst(scene(values).drop_vars(["x", "y"]).rio.write_transform(turned), predictor)
    with pytest.raises(GridError, match="multiple of 16"):
        fine_lst(scene(values), predictor, tile_pixels=50)
    with pytest.raises(ModelError, match=r"lst_day_kelvin.*degrees Celsius"):
        fine_lst(scene(values - 273.15), predictor)


@pytest.mark.parametrize(
    ("broken", "message"),
    [
        (lambda fine: np.where(fine > 0, np.nan, fine), "no number where its input is valid"),
        (lambda fine: fine[:, :-4], "wrong shape"),
    ],
)
def test_a_model_that_breaks_its_contract_is_found_out(broken, message):
    predictor = NearestPredictor()
    honest = predictor.predict
    predictor.predict = lambda values, guides, outputs: Prediction(
        broken(honest(values, guides).lst_kelvin)
    )
    with pytest.raises(ModelError, match=message):
        fine_lst(scene(lst_values(20, 20)), predictor)


def pair(height, width, *, lst_gaps=0.0, ndvi_gaps=0.0):
    grid = modis_grid((height, width), tile="h14v08")
    return lst_and_ndvi(grid, lst_gaps=lst_gaps, ndvi_gaps=ndvi_gaps)


@pytest.fixture(scope="module")
def untrained(untrained_guided_model):
    return KerasPredictor(untrained_guided_model)


@pytest.fixture(scope="module")
def guided(tiny_guided_model):
    return KerasPredictor(tiny_guided_model)


def test_without_a_correction_the_result_is_the_local_regression(untrained):
    lst, guide = pair(40, 40)
    coarse_ndvi = block_mean(guide.values, 4)
    lst.values[:] = 305 - 15 * coarse_ndvi
    fine = fine_lst(lst, untrained, guide)
    detail = guide.values - upsample_bicubic(coarse_ndvi, 4)
    added = fine.values - upsample_bicubic(lst.values, 4)
    # The slope is drawn to zero by a guide variance of 1e-4 beside about 0.005.
    assert np.abs(added + 15 * detail).max() < 0.1 * 15 * np.abs(detail).max()
    np.testing.assert_allclose(np.polyfit(detail.ravel(), added.ravel(), 1)[0], -15, rtol=0.04)
    assert fine.attrs["guide_missing_share"] == 0
    assert fine.attrs["guide_explained_share"] == pytest.approx(1, abs=1e-4)
    assert "sharpening_notes" not in fine.attrs


def test_without_a_guide_an_untrained_model_is_bicubic_and_says_so(untrained):
    lst, _ = pair(40, 50)
    result = predicted(lst, untrained)
    fine = result["lst_kelvin_fine"]
    np.testing.assert_allclose(fine.values, upsample_bicubic(lst.values, 4), rtol=0, atol=1e-3)
    assert "LST alone" in fine.attrs["sharpening_notes"]
    assert "guide_missing_share" not in fine.attrs
    assert (result["lst_std_kelvin"].values > 0).all()


def test_gaps_of_lst_are_gaps_and_gaps_of_ndvi_are_none(guided):
    lst, guide = pair(60, 50, lst_gaps=0.2, ndvi_gaps=0.3)
    result = predicted(lst, guided, guide, tile_pixels=40, overlap_pixels=16)
    missing = np.isnan(upsample_nearest(lst.values, 4))
    share = (np.isnan(guide.values) & ~missing).sum() / (~missing).sum()
    assert 0.1 < share < 0.5
    assert list(result) == ["lst_kelvin_fine", "lst_std_kelvin", "guide_followed"]
    for name, units in zip(result, ("K", "K", "1"), strict=True):
        np.testing.assert_array_equal(np.isnan(result[name].values), missing)
        assert result[name].dtype == np.float32
        assert result[name].attrs["guide_missing_share"] == pytest.approx(share, abs=1e-5)
        assert f"missing on {share:.1%}" in result[name].attrs["sharpening_notes"]
        assert result[name].attrs["units"] == units
        assert result[name].rio.transform() == guide.rio.transform()
    assert (result["lst_std_kelvin"].values[~missing] > 0).all()
    only = predict_scene(
        lst,
        guided,
        {"ndvi": guide},
        tiles=TileSettings.for_contract(guided.contract, tile_pixels=40, overlap_pixels=16),
        check=False,
        outputs=(),
    )
    assert list(only) == ["lst_kelvin_fine"]
    np.testing.assert_array_equal(only["lst_kelvin_fine"], result["lst_kelvin_fine"])


def test_far_from_ndvi_the_first_guess_is_bicubic(untrained):
    lst, guide = pair(60, 60)
    guide[:, 120:] = np.nan
    fine = fine_lst(lst, untrained, guide)
    bicubic = upsample_bicubic(lst.values, 4)
    # FillGaps reaches 8 fine pixels into the gap and gives it texture of its rim.
    np.testing.assert_allclose(fine.values[:, 140:], bicubic[:, 140:], rtol=0, atol=2e-3)
    assert np.abs(fine.values - bicubic)[:, :110].max() > 0.3


@pytest.mark.parametrize("gaps", [0.0, 0.1])
def test_tiles_of_the_first_guess_are_the_whole_scene(untrained, gaps):
    # The default overlap spares the margins in which windows of 25 pixels are cut.
    lst, guide = pair(150, 133, lst_gaps=gaps)
    whole = untrained.predict(lst.values[None, ..., None], {"ndvi": guide.values[None, ..., None]})
    whole = whole.lst_kelvin[0, ..., 0]
    tiled = fine_lst(lst, untrained, guide, tile_pixels=80).values
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=2e-3)
    abrupt = fine_lst(lst, untrained, guide, tile_pixels=80, overlap_pixels=0).values
    assert np.nanmax(np.abs(abrupt - whole)) > 0.02


def test_tiles_of_a_corrected_result_are_nearly_the_whole_scene(guided):
    lst, guide = pair(150, 134)  # even: the network sees odd sides in another phase
    whole = guided.predict(lst.values[None, ..., None], {"ndvi": guide.values[None, ..., None]})
    tiled = predicted(lst, guided, guide, tile_pixels=80)
    for name, expected in (
        ("lst_kelvin_fine", whole.lst_kelvin),
        ("lst_std_kelvin", whole.std_kelvin),
        ("guide_followed", whole.guide_followed),
    ):
        error = np.abs(tiled[name].values - expected[0, ..., 0])
        # The U-Net reaches 17 pixels beyond its features, which need 15 themselves, but weakly.
        assert error.max() < 1e-3


def test_the_settings_follow_the_contract(guided, tiny_model):
    settings = TileSettings.for_contract(guided.contract)
    assert (settings.tile_pixels, settings.overlap_pixels, settings.batch_size) == (232, 36, 1)
    assert settings.trim_fraction * settings.overlap_pixels == pytest.approx(15)
    chosen = TileSettings.for_contract(
        guided.contract, tile_pixels=40, overlap_pixels=8, batch_size=3
    )
    assert (chosen.tile_pixels, chosen.overlap_pixels, chosen.batch_size) == (40, 8, 3)
    assert 0.25 <= chosen.trim_fraction < 0.5
    single = TileSettings.for_contract(KerasPredictor(tiny_model).contract)
    assert (single.tile_pixels, single.overlap_pixels, single.batch_size) == (128, 32, 4)
    assert single.trim_fraction == 0.25
    with pytest.raises(GridError, match="multiple of 2"):
        fine_lst(*(pair(20, 20)[:1]), guided, tile_pixels=51)


def test_windows_of_scenes_take_the_guide_that_lies_under_them(untrained):
    lst, guide = pair(60, 80)
    window = lst[16:48, 20:70]  # keeps the transform of the whole
    fine = fine_lst(window, untrained, guide)
    cut = fine_lst(window, untrained, guide[64:192, 80:280])
    np.testing.assert_array_equal(fine.values, cut.values)
    whole = fine_lst(lst, untrained, guide)[64:192, 80:280]
    inner = (slice(60, -60), slice(60, -60))
    np.testing.assert_allclose(fine.values[inner], whole.values[inner], rtol=0, atol=2e-3)


def test_a_guide_of_another_grid_is_warped_onto_the_fine_one(untrained):
    lst, guide = pair(30, 30)
    doubled = upsample_nearest(guide.values, 2)
    finer = Grid.of(guide).finer(2).raster(doubled)
    np.testing.assert_allclose(
        fine_lst(lst, untrained, finer).values,
        fine_lst(lst, untrained, guide).values,
        rtol=0,
        atol=1e-3,
    )


def test_a_small_scene_is_filled_up_with_its_guide(guided):
    contract = guided.contract.model_copy(update={"minimum_size_pixels": 12})
    asked = []

    class Demanding:
        scale_factor, provenance = 4, {}

        def __init__(self):
            self.contract = contract

        def predict(self, lst_kelvin, guides=None, *, outputs=None):
            asked.append((lst_kelvin.shape, guides["ndvi"].shape))
            return guided.predict(lst_kelvin, guides, outputs=outputs)

    lst, guide = pair(5, 7)
    fine = fine_lst(lst, Demanding(), guide)
    assert asked == [((1, 12, 12, 1), (1, 48, 48, 1))]
    assert np.isfinite(fine.values).all()


def test_a_scene_whose_lst_hardly_follows_ndvi_is_told(untrained):
    lst, guide = pair(40, 40)
    day = predicted(lst, untrained, guide)
    assert day["guide_followed"].mean() > 0.9
    assert day["lst_kelvin_fine"].attrs["guide_unfollowed_share"] == 0
    noise = np.random.default_rng(4).normal(285, 1, lst.shape).astype(np.float32)
    night = predicted(lst.copy(data=noise), untrained, guide)
    followed = night["guide_followed"].values
    share = night["lst_kelvin_fine"].attrs["guide_unfollowed_share"]
    assert share == pytest.approx(np.mean(followed < 0.5), abs=1e-6)
    assert share > 0.9
    note = night["lst_kelvin_fine"].attrs["sharpening_notes"]
    assert "hardly follows NDVI" in note and "bicubic" in note


def test_a_model_that_does_not_tell_how_far_it_follows_gives_no_share(untrained):
    lst, guide = pair(20, 20)
    outputs = [entry for entry in untrained.contract.outputs if entry.name != "guide_followed"]

    class Silent:
        scale_factor, provenance = 4, {}
        contract = untrained.contract.model_copy(update={"outputs": tuple(outputs)})
        predict = staticmethod(untrained.predict)

    result = predicted(lst, Silent(), guide)
    assert list(result) == ["lst_kelvin_fine", "lst_std_kelvin"]
    assert "guide_unfollowed_share" not in result["lst_kelvin_fine"].attrs
    assert "guide_explained_share" in result["lst_kelvin_fine"].attrs


@pytest.mark.parametrize("mode", ["block", "psf"])
def test_the_result_can_be_made_to_agree_with_the_input(guided, mode):
    lst, guide = pair(30, 34, lst_gaps=0.1)
    result = predict_scene(lst, guided, {"ndvi": guide}, consistency=mode, check=False)
    fine, plain = result["lst_kelvin_fine"], predicted(lst, guided, guide)["lst_kelvin_fine"]
    residual = consistency_residual(fine.values, lst.values, mode)
    before = consistency_residual(plain.values, lst.values, mode)
    assert np.nanmax(np.abs(before)) > 0.1 > 0.0101 > np.nanmax(np.abs(residual))
    assert fine.attrs["consistency"] == mode
    rms = np.sqrt(np.nanmean(before**2))
    assert fine.attrs["consistency_residual_before_kelvin"] == pytest.approx(rms, abs=1e-4)
    assert fine.attrs["consistency_residual_left_kelvin"] <= 0.0101
    np.testing.assert_array_equal(np.isnan(fine.values), np.isnan(plain.values))


def test_results_come_back_as_the_raster_was_given(untrained):
    lst, guide = pair(20, 24)
    expected = predicted(lst, untrained, guide)
    turned = lst.rename(y="lat", x="lon").transpose("lon", "lat").isel(lat=slice(None, None, -1))
    found = predicted(turned.expand_dims("time"), untrained, guide[:, ::-1])
    assert found["lst_kelvin_fine"].dims == ("lon", "lat")
    for name in expected:
        back = found[name].transpose("lat", "lon").isel(lat=slice(None, None, -1))
        np.testing.assert_array_equal(back.values, expected[name].values)
        np.testing.assert_array_equal(back.lat.values, expected.y.values)


def test_guides_that_cannot_be_used_are_refused(guided, untrained, tiny_model):
    lst, guide = pair(20, 20)
    with pytest.raises(ModelError, match="takes no guide"):
        fine_lst(lst, KerasPredictor(tiny_model), guide)
    with pytest.raises(ModelError, match="cannot be NDVI"):
        fine_lst(lst, guided, guide * 10_000)
    far = Grid.of(guide).shifted(0, 9999).raster(guide.values)
    with pytest.raises(GridError, match="does not overlap"):
        fine_lst(lst, guided, far)
    with pytest.raises(GridError, match="has no CRS"):
        fine_lst(lst, guided, guide.drop_vars("spatial_ref"))
    with pytest.raises(GridError, match=r"by their names.*'ndvi': raster"):
        predict_scene(lst, guided, guide)
    with pytest.raises(ModelError, match="water: this model takes no such guide"):
        predict_scene(lst, guided, {"water": guide})


def test_a_guide_that_the_model_does_not_take_changes_nothing(guided):
    lst, guide = pair(20, 20)
    alone = predict_scene(lst, guided, {"ndvi": guide})
    both = predict_scene(lst, guided, {"reference": guide, "ndvi": guide, "water": guide})
    for name in alone:
        np.testing.assert_array_equal(both[name].values, alone[name].values)
    notes = both["lst_kelvin_fine"].attrs["sharpening_notes"]
    assert "does not take the detail of LST on other dates and the share of water" in notes


class GuidesPredictor(NearestPredictor):
    """Adds the guides that it gets to the LST, each missing one as nothing."""

    def __init__(self, *names):
        super().__init__()
        self.contract = Contract.of_model(
            model_version=0, scale_factor=4, minimum_size_pixels=1, provenance={}, guides=names
        )
        self.seen = {}

    def predict(self, lst_kelvin, guides=None, *, outputs=None):
        self.seen = dict(guides or {})
        inputs = self.contract.checked(lst_kelvin, guides)
        fine = upsample_nearest(inputs["lst_kelvin"][..., 0], 4)
        for name in self.contract.guides:
            fine = fine + np.nan_to_num(inputs[name][..., 0])
        return Prediction(fine[..., None])


def test_several_guides_each_on_its_own_grid():
    lst, ndvi = pair(20, 20)
    fine = Grid.of(lst).finer(4)
    model = GuidesPredictor("ndvi", "water", "reference")
    reference = fine.raster(np.full(fine.shape, 2.0, np.float32))
    lakes = np.zeros((10, 10), np.float32)
    lakes[2, 3] = 1
    water = Grid.of(lst).coarser(2).raster(lakes)  # classes of 2 km
    given = {"water": water, "reference": reference, "ndvi": ndvi}
    result = fine_of(lst, model, given)
    expected = np.repeat(np.repeat(lst.values, 4, 0), 4, 1) + ndvi.values + 2
    expected[16:24, 24:32] += 1
    np.testing.assert_allclose(result, expected, atol=1e-3)
    np.testing.assert_allclose(fine_of(lst, model, {"ndvi": ndvi, **given}), expected, atol=1e-3)


def test_water_is_told_by_ndvi_where_it_is_not_given():
    lst, ndvi = pair(20, 20)
    ndvi.values[:] = np.maximum(ndvi.values, 0.06)
    ndvi.values[8:16, 8:16] = -0.2
    ndvi.values[0, 0] = np.nan
    model = GuidesPredictor("ndvi", "water")
    expected = np.repeat(np.repeat(lst.values, 4, 0), 4, 1) + np.nan_to_num(ndvi.values)
    expected[8:16, 8:16] += 1
    np.testing.assert_allclose(fine_of(lst, model, {"ndvi": ndvi}), expected, atol=1e-3)
    assert np.isnan(model.seen["water"]).sum() == 1
    dry = ndvi.copy(data=np.zeros_like(ndvi.values))
    expected[8:16, 8:16] -= 1
    given = {"ndvi": ndvi, "water": dry}
    np.testing.assert_allclose(fine_of(lst, model, given), expected, atol=1e-3)
    reference = GuidesPredictor("ndvi", "reference")
    fine_of(lst, reference, {"ndvi": ndvi})
    assert list(reference.seen) == ["ndvi"]
    percent = dry.copy(data=dry.values + 40)
    with pytest.raises(GridError, match="not shares of water"):
        fine_of(lst, model, {"water": percent})


def fine_of(lst, model, guides):
    return predict_scene(lst, model, guides, check=False)["lst_kelvin_fine"].values


def test_a_constant_guide_is_told(untrained):
    lst, guide = pair(20, 20)
    fine = fine_lst(lst, untrained, guide.copy(data=np.full_like(guide.values, 0.5)))
    assert "same in all LST pixels" in fine.attrs["sharpening_notes"]
    np.testing.assert_allclose(fine.values, upsample_bicubic(lst.values, 4), rtol=0, atol=1e-3)
