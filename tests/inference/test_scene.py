from __future__ import annotations

import numpy as np
import pytest
import rioxarray  # noqa: F401
import xarray as xr
from affine import Affine
from scipy.ndimage import gaussian_filter

from keras_lstsr.contract import Contract
from keras_lstsr.errors import GridError, ModelError
from keras_lstsr.grids.resample import upsample_nearest
from keras_lstsr.grids.tiling import make_tiling
from keras_lstsr.inference.predictor import KerasPredictor
from keras_lstsr.inference.scene import predict_scene, predict_tiles

SINUSOIDAL = "+proj=sinu +lon_0=0 +x_0=0 +y_0=0 +R=6371007.181 +units=m +no_defs"


class NearestPredictor:
    """Repeats pixels and adds what a test asks for; remembers the batches that it was given."""

    def __init__(self, *, minimum_size_pixels: int = 1, tile_error: float = 0.0) -> None:
        self.contract = Contract.of_single_image_model(
            model_version=0,
            scale_factor=4,
            minimum_size_pixels=minimum_size_pixels,
            provenance={},
        )
        self.scale_factor = 4
        self.provenance: dict[str, str] = {}
        self.tile_error = tile_error
        self.shapes: list[tuple[int, ...]] = []

    def predict(self, lst_kelvin):
        self.shapes.append(lst_kelvin.shape)
        fine = upsample_nearest(self.contract.checked_input(lst_kelvin)[..., 0], 4)
        return (fine + self.tile_error * len(self.shapes))[..., None]


def kelvin(height, width, *, gaps=0.0, seed=0):
    rng = np.random.default_rng(seed)
    values = 295 + 25 * gaussian_filter(rng.normal(size=(height, width)), 2)
    if gaps:
        texture = gaussian_filter(rng.normal(size=values.shape), 4)
        values[texture > np.quantile(texture, 1 - gaps)] = np.nan
    return values.astype(np.float32)


def scene(values, *, transform=None, crs=SINUSOIDAL):
    transform = transform or Affine(926.625433, 0, -4447802.079, 0, -926.625433, 1111950.52)
    height, width = values.shape
    array = xr.DataArray(
        values,
        coords={
            "y": transform.f + transform.e * (np.arange(height) + 0.5),
            "x": transform.c + transform.a * (np.arange(width) + 0.5),
        },
        dims=("y", "x"),
        name="lst_day_kelvin",
        attrs={"day_night": "day"},
    )
    return array.rio.write_crs(crs).rio.write_transform(transform)


def test_blending_keeps_what_all_tiles_agree_on_and_gaps_exactly():
    values = kelvin(150, 133, gaps=0.3)
    fine = predict_scene(scene(values), NearestPredictor(), tile_pixels=64, overlap_pixels=16)
    np.testing.assert_allclose(fine.values, upsample_nearest(values, 4), rtol=0, atol=1e-4)
    np.testing.assert_array_equal(np.isnan(fine.values), np.isnan(upsample_nearest(values, 4)))
    assert fine.dtype == np.float32


def test_tiles_that_disagree_are_blended_without_seams():
    values = np.full((96, 96), 300, np.float32)
    fine = predict_scene(
        scene(values),
        NearestPredictor(tile_error=1.0),
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
    values = kelvin(150, 133, gaps=gaps)
    whole = predictor.predict(values[None, ..., None])[0, ..., 0]
    tiled = predict_scene(scene(values), predictor, tile_pixels=64, overlap_pixels=32).values
    np.testing.assert_allclose(tiled, whole, rtol=0, atol=1e-3)
    abrupt = predict_scene(scene(values), predictor, tile_pixels=64, overlap_pixels=0).values
    assert np.nanmax(np.abs(abrupt - whole)) > 0.1  # the overlap is what makes the difference


def test_the_order_of_the_tiles_does_not_matter(tiny_model):
    predictor = KerasPredictor(tiny_model)
    values = kelvin(130, 100, gaps=0.2)
    tiling = make_tiling(
        values.shape, tile_pixels=64, overlap_pixels=32, factor=4, alignment_pixels=16
    )
    tiles = list(tiling)
    forward = predict_tiles(values, predictor, tiling, tiles, batch_size=2)
    backward = predict_tiles(values, predictor, tiling, tiles[::-1], batch_size=3)
    np.testing.assert_allclose(backward, forward, rtol=0, atol=1e-4)


def test_tiles_without_a_valid_pixel_are_never_predicted():
    values = kelvin(256, 256)
    values[:, 128:] = np.nan
    predictor = NearestPredictor()
    counts = []
    predict_scene(
        scene(values), predictor, tile_pixels=64, overlap_pixels=0, batch_size=3,
        progress=lambda done, total: counts.append((done, total)),
    )  # fmt: skip
    assert sum(shape[0] for shape in predictor.shapes) == 8
    assert max(shape[0] for shape in predictor.shapes) == 3
    assert counts[-1] == (16, 16)
    assert counts == sorted(counts)


def test_a_scene_without_any_valid_pixel_is_all_missing_and_costs_nothing():
    predictor = NearestPredictor()
    fine = predict_scene(scene(np.full((20, 30), np.nan, np.float32)), predictor)
    assert fine.shape == (80, 120)
    assert np.isnan(fine.values).all()
    assert predictor.shapes == []


@pytest.mark.parametrize(("height", "width"), [(5, 7), (1, 1), (300, 3), (64, 65)])
def test_scenes_of_any_size(height, width):
    values = kelvin(height, width)
    predictor = NearestPredictor(minimum_size_pixels=8)
    fine = predict_scene(scene(values), predictor, tile_pixels=64, overlap_pixels=16)
    np.testing.assert_allclose(fine.values, upsample_nearest(values, 4), rtol=0, atol=1e-4)
    assert min(min(shape[1:3]) for shape in predictor.shapes) >= 8


@pytest.mark.parametrize(
    ("transform", "crs"),
    [
        (Affine(926.62543306, 0, -4447802.079066, 0, -926.62543306, 1111950.519767), SINUSOIDAL),
        (Affine(1000, 0, 400_000, 0, -1000, 5_000_000), "EPSG:32633"),
        (Affine(0.01, 0, -118.5, 0, -0.01, 34.25), "EPSG:4326"),
    ],
)  # fmt: skip
def test_the_fine_grid_nests_exactly(transform, crs):
    coarse = scene(kelvin(20, 30), transform=transform, crs=crs)
    fine = predict_scene(coarse, NearestPredictor())
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
    whole = scene(kelvin(60, 80))
    window = whole[16:48, 20:70]  # keeps the transform of the whole
    fine = predict_scene(window, NearestPredictor())
    expected = whole.rio.transform() @ Affine.translation(20, 16) @ Affine.scale(0.25)
    assert fine.rio.transform().almost_equals(expected, precision=1e-6)
    assert fine.rio.bounds() == pytest.approx(window.rio.bounds(recalc=True), rel=1e-12)


def test_unusable_scenes_are_refused():
    predictor = NearestPredictor()
    values = kelvin(20, 20)
    with pytest.raises(GridError, match="two-dimensional"):
        predict_scene(scene(values).expand_dims("band"), predictor)
    with pytest.raises(GridError, match="no coordinate reference system"):
        predict_scene(scene(values).drop_vars("spatial_ref"), predictor)
    turned = Affine(900, 10, 0, 10, -900, 0)
    with pytest.raises(GridError, match="turned"):
        predict_scene(scene(values).drop_vars(["x", "y"]).rio.write_transform(turned), predictor)
    with pytest.raises(GridError, match="multiple of 16"):
        predict_scene(scene(values), predictor, tile_pixels=50)
    with pytest.raises(ModelError, match=r"lst_day_kelvin.*degrees Celsius"):
        predict_scene(scene(values - 273.15), predictor)


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
    predictor.predict = lambda values: broken(honest(values))
    with pytest.raises(ModelError, match=message):
        predict_scene(scene(kelvin(20, 20)), predictor)
