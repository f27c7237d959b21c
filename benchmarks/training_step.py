"""Time and memory of a training step: ``python benchmarks/training_step.py``.

Each network is trained in a process of its own, with and without XLA, on the CPU and on the GPU
if there is one: first on a batch that lies in memory, then from records by the pipeline of
``keras-lstsr train``, which reads, decodes, shuffles, turns and degrades patches of 64 × 64 pixels.
Prints a Markdown table of

- the time of a step on the batch in memory, and from the pipeline,
- what the pipeline alone needs for a batch, as a share of the step. On a CPU it takes that from
  the step's own cores; a GPU does not wait for it as long as it is below 100 %,
- the operations of a step (three times those of the forward pass, by TensorFlow's profiler) per
  second, as a share of the most that a large matrix product reached on the same device in any of
  the processes,
- the peak memory: resident for a CPU, allocated for a GPU.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from keras_lstsr.config import NETWORKS as REGISTERED
from keras_lstsr.config import LossConfig, ModelConfig
from keras_lstsr.records.sample import Encoding, Sample
from keras_lstsr.testing.rasters import utm_grid
from keras_lstsr.testing.records import write_samples

# Variants of a network, by the setting that tells them apart.
VARIANTS = {"mrunet": ("strided", "maxpool")}
NETWORKS = [
    f"{architecture}_{variant}" if variant else architecture
    for architecture in REGISTERED
    for variant in VARIANTS.get(architecture, ("",))
]
MATRIX_SIDE = {"CPU": 2048, "GPU": 8192}
BACKWARD_AND_FORWARD = 3  # gradients by inputs and by weights cost as much as the forward pass each
PIPELINE_BATCHES = 20


def model_config(network: str, width: int) -> ModelConfig:
    """Returns the settings of a network by name, e.g. ``"mrunet_strided"``."""
    architecture, _, variant = network.partition("_")
    return ModelConfig(
        architecture=architecture,
        variant=variant or None,
        width=width,
        offset_kelvin=290.0,
        scale_kelvin=10.0,
    )


def write_records(folder: Path, *, patches: int, side: int) -> None:
    """Writes a training split of random patches, stored as MOD11A1's integers are."""
    rng = np.random.default_rng(0)
    stored = rng.integers(14000, 16000, (patches, side, side), dtype=np.uint16)
    samples = [
        Sample(
            name=str(number),
            lst_kelvin=(integers * 0.02).astype(np.float32),
            guides={},
            truth_kelvin=None,
            grid=utm_grid((side, side), 1000.0, column=side * number),
            day_night="day",
            product="MOD11A1",
            place=str(number),
            scene=str(number),
            encodings={"lst_kelvin": Encoding("uint16", 0.02, 0.0, 0)},
        )
        for number, integers in enumerate(stored)
    ]
    write_samples(folder, samples, num_shards=1)


def matrix_product_flops(device: str) -> float:
    """Measures the operations per second of a float32 matrix product; the best of five."""
    import tensorflow as tf

    side = MATRIX_SIDE[device]
    matrix = tf.random.normal((side, side))
    product = tf.function(lambda: tf.reduce_sum(tf.matmul(matrix, matrix)))
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        product().numpy()  # waits for the device
        seconds.append(time.perf_counter() - start)
    return 2.0 * side**3 / min(seconds[1:])


def step_flops(model: Any, batch: int, coarse_side: int) -> float:
    """Counts the operations of a training step; a multiplication with its addition is two."""
    import tensorflow as tf

    profiler = tf.compat.v1.profiler
    options = profiler.ProfileOptionBuilder(profiler.ProfileOptionBuilder.float_operation())
    shape = tf.TensorSpec((batch, coarse_side, coarse_side, 1), tf.float32)
    forward = tf.function(lambda x: model({"lst_kelvin": x}, training=False))
    graph = forward.get_concrete_function(shape).graph
    profile = profiler.profile(graph, options=options.with_empty_output().build())
    return BACKWARD_AND_FORWARD * float(profile.total_float_ops)


def seconds_per_step(model: Any, batches: Any, steps: int) -> float:
    """Times steps as ``fit`` takes them, after a first one that traces and compiles."""
    import keras

    ends = []

    def note_end(step: int, logs: dict[str, float] | None = None) -> None:
        if logs is not None and step in (0, steps):
            float(logs["loss"])  # waits for the device
            ends.append(time.perf_counter())

    clock = keras.callbacks.LambdaCallback(on_train_batch_end=note_end)
    model.fit(batches, steps_per_epoch=steps + 1, callbacks=[clock], verbose=0)
    return (ends[1] - ends[0]) / steps


def measure(task: dict[str, Any]) -> dict[str, float]:
    """Trains one network and returns what was measured; in a process of its own."""
    import keras
    import tensorflow as tf

    from keras_lstsr.losses import build_loss
    from keras_lstsr.models.registry import build_model
    from keras_lstsr.records.batch_settings import BatchSettings
    from keras_lstsr.records.dataset import make_dataset

    device, batch = task["device"], task["batch"]
    before = matrix_product_flops(device)
    keras.utils.set_random_seed(0)
    model = build_model(model_config(task["network"], task["width"]))
    model.compile(
        optimizer=keras.optimizers.Adam(1e-4),
        loss=build_loss(LossConfig()),
        jit_compile=task["xla"],
        run_eagerly=False,
    )
    settings = BatchSettings(batch_size=batch)
    records = make_dataset(task["records"], "train", settings, training=True).repeat()
    in_memory = tf.data.Dataset.from_tensors(next(iter(records))).repeat()
    memory_seconds = seconds_per_step(model, in_memory, task["steps"])
    result = {
        "parameters": sum(int(np.prod(weight.shape)) for weight in model.trainable_weights),
        "memory_seconds": memory_seconds,
        "pipeline_seconds": seconds_per_step(model, records, task["steps"]),
        "flops": step_flops(model, batch, task["patch"] // 4),
        "peak_flops": max(before, matrix_product_flops(device)),
    }
    batches = iter(records)
    next(batches)
    start = time.perf_counter()
    for _ in range(PIPELINE_BATCHES):
        next(batches)
    result["batch_seconds"] = (time.perf_counter() - start) / PIPELINE_BATCHES
    if device == "GPU":
        result["peak_bytes"] = tf.config.experimental.get_memory_info("GPU:0")["peak"]
    else:
        result["peak_bytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return result


def measure_in_child(task: dict[str, Any]) -> dict[str, float]:
    """Runs ``measure`` in a new process, so that peaks of memory are the network's own."""
    hidden = {} if task["device"] == "GPU" else {"CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [sys.executable, __file__, "--child", json.dumps(task)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow", "TF_CPP_MIN_LOG_LEVEL": "3", **hidden},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    result: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return result


def devices() -> dict[str, str]:
    """Names the devices: always the CPU, and the first GPU if TensorFlow sees one."""
    found = {"CPU": f"{platform.machine()} with {len(os.sched_getaffinity(0))} cores"}
    code = (
        "import tensorflow as tf; gpus = tf.config.list_physical_devices('GPU'); "
        "print(*[tf.config.experimental.get_device_details(g).get('device_name', 'GPU') "
        "for g in gpus[:1]])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    if name := done.stdout.strip():
        found["GPU"] = name
    return found


def row(task: dict[str, Any], result: dict[str, float], peak_flops: float) -> str:
    """Formats a line of the table; ``peak_flops`` is the device's."""
    step = result["memory_seconds"]
    cells = [
        task["network"],
        f"{result['parameters']:,.0f}",
        task["device"],
        "on" if task["xla"] else "off",
        f"{step:.3f}",
        f"{result['pipeline_seconds']:.3f}",
        f"{result['batch_seconds'] / step:.1%}",
        f"{result['flops'] / step / peak_flops:.0%}",
        f"{result['peak_bytes'] / 2**30:.2f}",
    ]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Measures what was asked for and prints the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--networks", nargs="+", choices=NETWORKS, default=NETWORKS)
    parser.add_argument("--width", type=int, default=64, help="channels [default: as published]")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--patch", type=int, default=64, help="side in fine pixels")
    parser.add_argument("--steps", type=int, default=2, help="steps to time, after the first")
    parser.add_argument("--xla", choices=["on", "off", "both"], default="both")
    parser.add_argument("--child", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.child:
        print(json.dumps(measure(json.loads(arguments.child))))
        return
    with tempfile.TemporaryDirectory() as temporary:
        records = Path(temporary) / "records"
        write_records(records, patches=4 * arguments.batch, side=arguments.patch)
        tasks = [
            {
                "network": network,
                "device": device,
                "xla": xla,
                "records": str(records),
                "width": arguments.width,
                "batch": arguments.batch,
                "patch": arguments.patch,
                "steps": arguments.steps,
            }
            for device in devices()
            for network in arguments.networks
            for xla in {"on": [True], "off": [False], "both": [False, True]}[arguments.xla]
        ]
        results = []
        for number, task in enumerate(tasks):
            print(f"{number + 1}/{len(tasks)} {task['network']}", file=sys.stderr, flush=True)
            results.append(measure_in_child(task))
    print_table(tasks, results)


def print_table(tasks: list[dict[str, Any]], results: list[dict[str, float]]) -> None:
    """Prints what was measured, where, as Markdown."""
    size = "{batch} × {patch} × {patch} fine pixels, width {width}".format(**tasks[0])
    print(f"Batches of {size}, float32.")
    peaks: dict[str, float] = {}
    for task, result in zip(tasks, results, strict=True):
        peaks[task["device"]] = max(peaks.get(task["device"], 0.0), result["peak_flops"])
    for device, name in devices().items():
        print(f"{device}: {name}; matrix product {peaks[device] / 1e9:,.0f} GFLOP/s.")
    print(
        "\n| network | trained parameters | device | XLA | step, in memory (s) "
        "| step, from records (s) | pipeline's share | share of peak | peak memory (GiB) |"
        "\n|---|---:|---|---|---:|---:|---:|---:|---:|"
    )
    for task, result in zip(tasks, results, strict=True):
        print(row(task, result, peaks[task["device"]]))


if __name__ == "__main__":
    main()
