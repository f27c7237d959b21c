"""Time and memory of the classical methods: ``python benchmarks/sharpening.py``.

Each method sharpens scenes of several sizes, each in a process of its own, so that the peak of
memory is the method's, or that of making the scene. The scene is smooth LST with noise and a
guide that explains a part of it; clouds cover the asked-for share.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
import time
from pathlib import Path

import click
import numpy as np
from scipy import ndimage

METHODS = ("bicubic", "tsharp", "atprk", "aatprk", "huts", "data_mining")
SIDES = (64, 256, 600, 1200)


def make_scene(side, factor, clouds, scattered, seed=0):
    """Makes coarse LST ``[side, side]`` with gaps and a guide on the fine grid, float32."""
    rng = np.random.default_rng(seed)
    fine = side * factor
    guide = np.empty((fine, fine), np.float32)
    smooth = ndimage.zoom(rng.standard_normal((side // 4, side // 4)), 4 * factor, order=1)
    guide[:] = 0.5 + 0.1 * smooth
    guide += rng.standard_normal((fine, fine), np.float32) * np.float32(0.05)
    lst = 300 - 12 * guide.reshape(side, factor, side, factor).mean((1, 3))
    lst += ndimage.gaussian_filter(rng.standard_normal((side, side)), 2) * 4
    if clouds:
        noise = rng.standard_normal((side, side))
        cover = noise if scattered else ndimage.gaussian_filter(noise, 3)
        lst[cover < np.quantile(cover, clouds)] = np.nan
    return lst.astype(np.float32), guide


def peak_bytes():
    """Returns the process's highest resident memory so far."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    raise OSError("no VmHWM in /proc/self/status: this benchmark needs Linux")


def measure(task):
    """Runs one method on one scene; in a process of its own."""
    from keras_lstsr.registration import code_of
    from keras_lstsr.sharpening import METHODS

    lst, guide = make_scene(task["side"], task["factor"], task["clouds"], task["scattered"])
    # A first, small run pays for imports.
    small = make_scene(16, task["factor"], 0.0, False)
    method = code_of(METHODS[task["method"]].function)
    if task["method"] == "bicubic":
        run = lambda scene: method(scene[0], task["factor"])  # noqa: E731
    else:
        run = lambda scene: method(*scene, task["factor"])  # noqa: E731
    run(small)
    seconds = []
    for _ in range(task["repeats"]):
        start = time.perf_counter()
        result = run((lst, guide))
        seconds.append(time.perf_counter() - start)
    gaps = np.repeat(np.repeat(np.isnan(lst), task["factor"], 0), task["factor"], 1)
    if not np.array_equal(np.isnan(result), gaps):
        raise AssertionError(f"{task['method']} did not keep the gaps")
    return {"seconds": min(seconds), "peak_bytes": peak_bytes()}


def measure_in_child(task):
    """Runs ``measure`` in a new process."""
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(task)],
        env=os.environ,
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return json.loads(done.stdout.splitlines()[-1])


@click.command(help=__doc__.split("\n")[0])
@click.option("--method", "methods", multiple=True, type=click.Choice(METHODS), default=METHODS)
@click.option("--side", "sides", multiple=True, type=int, default=SIDES, help="coarse pixels")
@click.option("--factor", default=4, show_default=True)
@click.option("--clouds", default=0.3, show_default=True, help="share of coarse pixels in gaps")
@click.option("--scattered", is_flag=True, help="gaps of single pixels instead of blobs")
@click.option("--child", hidden=True)
def main(methods, sides, factor, clouds, scattered, child):
    """Measures what was asked for and prints the table."""
    if child:
        print(json.dumps(measure(json.loads(child))))
        return
    cover = "scattered pixels" if scattered else "blobs"
    print(f"{platform.machine()} with {len(os.sched_getaffinity(0))} cores; factor {factor};")
    print(f"{clouds:.0%} of the coarse pixels in gaps ({cover}).\n")
    print("| method | coarse | fine | time (s) | µs per LST pixel | in bicubics | peak (GiB) |")
    print("|---|---:|---:|---:|---:|---:|---:|")
    for side in sides:
        unit = None
        for name in dict.fromkeys(("bicubic", *methods)):
            task = {
                "method": name,
                "side": side,
                "factor": factor,
                "clouds": clouds,
                "scattered": scattered,
                "repeats": 3 if side <= 256 else 1,
            }
            result = measure_in_child(task)
            unit = unit or result["seconds"]
            cells = [
                name,
                f"{side} × {side}",
                f"{side * factor} × {side * factor}",
                f"{result['seconds']:.3f}",
                f"{result['seconds'] / side**2 * 1e6:.2f}",
                f"{result['seconds'] / unit:.1f}",
                f"{result['peak_bytes'] / 2**30:.2f}",
            ]
            print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
