"""The whole way, small: simulated scenes in, a served 250 m map out."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
import rasterio
from rich.console import Console

from keras_lstsr.errors import LstsrError


@pytest.mark.slow
def test_whole_way(tmp_path):
    from keras_lstsr.demo import run_demo

    output = io.StringIO()
    result = run_demo(
        tmp_path / "demo",
        scenes=6,
        size_pixels=192,
        epochs=15,
        console=Console(file=output, width=120),
    )
    first = result.first.summary()
    assert first["guided"]["images"] == 1
    # On a simulated day the network with NDVI is near bicubic or better, never far worse.
    assert first["guided"]["rmse_kelvin"] < 1.1 * first["bicubic"]["rmse_kelvin"]
    patches, scenes = (benchmark.summary() for benchmark in result.results)
    assert patches["model"]["rmse_kelvin"] < patches["bicubic"]["rmse_kelvin"]
    assert scenes["model"]["rmse_kelvin"] < scenes["bicubic"]["rmse_kelvin"]
    paths = result.paths
    for path in (paths.first_map, paths.prediction):
        with rasterio.open(path) as raster:
            assert raster.shape == (768, 768)
            assert raster.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
            assert ("ndvi_granule" in raster.tags()) == (path == paths.first_map)
            values = raster.read(1)
        assert 250 < np.nanmin(values) < np.nanmax(values) < 350
        assert path.with_suffix(".png").is_file()
    run = json.loads((paths.run / "run.json").read_text())
    assert run["status"] == "finished" and run["mlflow_run_id"]
    text = output.getvalue()
    assert f"mlflow ui --backend-store-uri {paths.mlflow_store}" in text
    assert str(paths.prediction) in text.replace("\n", "")
    # The first map is shown before anything is trained.
    assert text.index(str(paths.first_map)) < text.index("2. Simulate")
    assert next(iter(result.seconds)).startswith("Sharpen")


def test_foreign_folder_is_left_alone(tmp_path):
    from keras_lstsr.demo import run_demo

    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(LstsrError, match="something other than a demo"):
        run_demo(tmp_path, scenes=2, size_pixels=128)
    assert (tmp_path / "thesis.tex").read_text() == "years of work"
