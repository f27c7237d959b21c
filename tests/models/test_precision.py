"""A guided model in bfloat16: where it computes so, and how far its result departs."""

from __future__ import annotations

import numpy as np
import pytest
from keras import ops

from keras_lstsr.artifacts import loading
from keras_lstsr.artifacts.loading import open_model
from keras_lstsr.models.precision import in_bfloat16
from keras_lstsr.testing.models import tiny_guided_model, tiny_model


@pytest.fixture(scope="module", params=["guided-1", "guided-2"])
def shipped(request):
    return open_model(request.param)[0]


def result(model, seed=0):
    rng = np.random.default_rng(seed)
    ndvi = rng.uniform(0.1, 0.9, (1, 96, 96, 1)).astype(np.float32)
    lst = 305 - 15 * ndvi.reshape(1, 24, 4, 24, 4, 1).mean(axis=(2, 4)) + rng.normal(0, 1, 1)
    others = {each.name for each in model.inputs} - {"lst_kelvin", "ndvi"}
    inputs = {name: np.full_like(ndvi, np.nan) for name in others}
    inputs |= {"lst_kelvin": lst.astype(np.float32), "ndvi": ndvi}
    answer = model(inputs, training=False)
    return {name: ops.convert_to_numpy(values) for name, values in answer.items()}


def test_the_map_hardly_changes_and_stays_float32(shipped):
    twin = in_bfloat16(shipped)
    before, after = result(shipped), result(twin)
    for name, values in after.items():
        assert values.dtype == np.float32
        assert np.abs(values - before[name]).max() > 0 or name == "guide_followed"
    apart = after["lst_kelvin_fine"] - before["lst_kelvin_fine"]
    assert np.sqrt(np.mean(apart**2)) < 0.03
    np.testing.assert_array_equal(after["guide_followed"], before["guide_followed"])


def test_weights_are_the_same_and_answers_are_float32(shipped):
    twin = in_bfloat16(shipped)
    for one, other in zip(shipped.get_weights(), twin.get_weights(), strict=True):
        np.testing.assert_array_equal(one, other)
    network = twin.get_layer("guided")
    policies = {layer.name: layer.dtype_policy.compute_dtype for layer in network.layers}
    assert policies["stem_conv"] == "bfloat16"
    assert policies["fine_correction"] == policies["coarse_correction"] == "float32"
    assert shipped.get_layer("guided").get_layer("stem_conv").compute_dtype == "float32"
    outside = {layer.compute_dtype for layer in twin.layers if layer.name != "guided"}
    assert outside == {"float32"}


def test_other_models_stay_as_they_are():
    model = tiny_model()
    assert in_bfloat16(model) is model
    assert in_bfloat16(tiny_guided_model()) is not None


@pytest.mark.parametrize(
    ("flags", "expected"),
    [("flags : avx512_bf16 amx_bf16", True), ("flags : avx2 avx512_bf16", False)],
)
def test_auto_asks_the_processor(monkeypatch, flags, expected):
    monkeypatch.setattr(loading.Path, "read_text", lambda *_, **__: flags)
    assert loading.processor_is_fast_in_bfloat16() is expected


def test_auto_follows_the_processor(monkeypatch):
    for has in (True, False):
        monkeypatch.setattr(loading, "processor_is_fast_in_bfloat16", lambda has=has: has)
        model, _ = open_model("guided-1", "auto")
        dtype = model.get_layer("guided").get_layer("stem_conv").compute_dtype
        assert dtype == ("bfloat16" if has else "float32")
