"""Time and memory of ``keras-lstsr predict`` on a whole tile: ``python benchmarks/guided_tile.py``.

A tile of 1200 × 1200 LST pixels and its NDVI of 4800 × 4800 are written as GeoTIFFs; the command
reads them, sharpens with the pretrained model, and writes map, standard deviation and quicklook.
Its time is from the start of the process to its end.
"""

from __future__ import annotations

import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click
import numpy as np
import rasterio
from affine import Affine
from sharpening import make_scene

PIXEL_M = 926.625433
"""Of MODIS's sinusoidal grid."""


def write_tile(folder, side, clouds):
    """Writes LST and NDVI as GeoTIFFs and returns their paths."""
    lst, ndvi = make_scene(side, 4, clouds, scattered=False)
    paths = []
    for name, values, pixel_m in (("lst_1km", lst, PIXEL_M), ("ndvi_250m", ndvi, PIXEL_M / 4)):
        path = Path(folder) / f"{name}.tif"
        profile = {
            "driver": "GTiff",
            "height": values.shape[0],
            "width": values.shape[1],
            "count": 1,
            "dtype": "float32",
            "nodata": np.nan,
            "crs": "+proj=sinu +R=6371007.181 +units=m",
            "transform": Affine(pixel_m, 0, 0, 0, -pixel_m, 5_559_752.6),
        }
        with rasterio.open(path, "w", **profile) as file:
            file.write(values, 1)
        paths.append(path)
    return paths


@click.command(help=__doc__.split("\n")[0])
@click.option("--side", default=1200, show_default=True, help="coarse pixels")
@click.option("--clouds", default=0.3, show_default=True, help="share of coarse pixels in gaps")
@click.option("--repeats", default=2, show_default=True)
@click.option("--model", default="pretrained", show_default=True)
@click.option("--precision", default="auto", show_default=True)
@click.option("--check/--no-check", default=True, show_default=True, help="the self-check")
def main(side, clouds, repeats, model, precision, check):
    """Measures and prints."""
    print(f"{platform.machine()} with {len(os.sched_getaffinity(0))} cores; {clouds:.0%} clouds")
    with tempfile.TemporaryDirectory() as folder:
        lst, ndvi = write_tile(folder, side, clouds)
        command = [sys.executable, "-m", "keras_lstsr.cli.main", "predict", str(lst)]
        command += ["--ndvi", str(ndvi), "--uncertainty", "--model", model]
        command += ["--precision", precision, *([] if check else ["--no-self-check"])]
        command += ["--unit", "kelvin", "--quantity", "lst", "--output", f"{folder}/lst_250m.tif"]
        for _ in range(repeats):
            before = resource.getrusage(resource.RUSAGE_CHILDREN)
            start = time.perf_counter()
            subprocess.run(command, check=True)
            wall = time.perf_counter() - start
            after = resource.getrusage(resource.RUSAGE_CHILDREN)
            seconds = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
            print(
                f"{side} × {side} → {4 * side} × {4 * side}: {wall:.1f} s, {seconds:.1f} s of CPU, "
                f"at most {after.ru_maxrss / 2**20:.2f} GiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
