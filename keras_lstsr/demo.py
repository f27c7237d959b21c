"""The whole way on simulated scenes: one function that joins the rooms, as a user would."""

from __future__ import annotations

import contextlib
import queue
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import resources
from os import PathLike
from pathlib import Path

from rich.console import Console
from rich.markdown import Markdown
from rich.progress import Progress
from rich.table import Table

from keras_lstsr.config import ExperimentConfig
from keras_lstsr.errors import LstsrError, ServingError
from keras_lstsr.evaluation.result import BenchmarkResult
from keras_lstsr.simulate import simulate_scenes

MARKER = ".keras-lstsr-demo"
UNSEEN_SCENES = 2
SERVER_START_SECONDS = 120.0
SHOWN_COLUMNS = ("rmse_kelvin", "bias_kelvin", "psnr_db", "ssim", "worse_than_bicubic", "images")


class DemoPaths:
    """Where the demo puts what it makes; the quicklook of a map has its name with ``.png``."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.first_map = root / "first_map.tif"  # by the weights of the package
        self.scenes = root / "scenes"
        self.unseen = root / "unseen_scenes"  # of other ground, for the test
        self.records = root / "records"
        self.run = root / "run"
        self.evaluation = root / "evaluation"
        self.models = root / "models" / "lstsr"
        self.prediction = root / "prediction.tif"
        self.mlflow_store = f"sqlite:///{(root / 'mlflow.db').resolve()}"


@dataclass(frozen=True)
class DemoResult:
    """What the demo gave.

    Attributes:
        paths: Where everything is.
        first: Benchmark of the first map, by the weights of the package.
        results: Benchmarks on patches (4 km → 1 km) and on unseen scenes (1 km → 250 m).
        seconds: Step → wall-clock seconds.
    """

    paths: DemoPaths
    first: BenchmarkResult
    results: list[BenchmarkResult]
    seconds: dict[str, float]


class _Steps:
    """Prints and times the steps."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self.seconds: dict[str, float] = {}

    @contextlib.contextmanager
    def step(self, title: str) -> Iterator[None]:
        self.console.rule(f"[bold]{len(self.seconds) + 1}. {title}", align="left")
        start = time.monotonic()
        yield
        self.seconds[title] = time.monotonic() - start


def run_demo(
    output: str | PathLike[str],
    *,
    scenes: int,
    size_pixels: int,
    epochs: int | None = None,
    seed: int = 1,
    mlflow: bool = True,
    console: Console | None = None,
) -> DemoResult:
    """Makes a first map, then simulates, prepares, trains, evaluates, exports, serves, predicts.

    Args:
        output: The demo's folder. A former demo in it is replaced.
        scenes: Simulated scenes to train on; two more, of other ground, are the test.
        size_pixels: Side of a scene in 1 km pixels.
        epochs: Epochs of training; None takes the demo's settings.
        seed: Seed of the simulation; the unseen scenes take the next one.
        mlflow: Track the training run.
        console: Where to print.

    Returns:
        Paths, benchmarks and times.

    Raises:
        LstsrError: If the folder holds something else, or a step fails.
    """
    paths = _fresh_folder(Path(output))
    steps = _Steps(console or Console())
    with steps.step("Sharpen a simulated scene with the weights of the package"):
        _simulate(steps.console, paths.unseen, UNSEEN_SCENES, seed + 1, size_pixels)
        first = _first_map(steps.console, paths)
    with steps.step("Simulate scenes to train on"):
        _simulate(steps.console, paths.scenes, scenes, seed, size_pixels)
    with steps.step("Convert rasters to TFRecords with Apache Beam"):
        _prepare(steps.console, paths)
    with steps.step("Train a Multi-residual U-Net, 4 km → 1 km"):
        _train(steps.console, paths, epochs, mlflow)
    with steps.step("Evaluate beside bicubic on ground the model has not seen"):
        results = _evaluate(steps.console, paths, mlflow)
    with steps.step("Export a SavedModel for TF Serving"):
        from keras_lstsr.artifacts.export import export_model

        steps.console.print(f"Wrote {export_model(paths.run, paths.models)}", highlight=False)
    with steps.step("Serve it, and predict a 250 m map over gRPC"):
        _serve_and_predict(steps.console, paths)
    _summary(steps, paths, mlflow)
    return DemoResult(paths, first, results, steps.seconds)


def demo_config(epochs: int | None = None) -> ExperimentConfig:
    """Returns the demo's training settings, which ship with the package."""
    with resources.as_file(resources.files("keras_lstsr") / "demo.yaml") as path:
        config = ExperimentConfig.from_yaml(path)
    if epochs is None:
        return config
    training = config.training.model_copy(update={"epochs": epochs})
    return config.model_copy(update={"training": training})


def _fresh_folder(root: Path) -> DemoPaths:
    if root.exists() and any(root.iterdir()):
        if not (root / MARKER).is_file():
            raise LstsrError(
                "the folder holds something other than a demo",
                path=root,
                action="Choose an empty folder with --output.",
            )
        shutil.rmtree(root)
    root.mkdir(parents=True, exist_ok=True)
    (root / MARKER).write_text("Made by keras-lstsr demo, which may replace this folder.\n")
    return DemoPaths(root)


def _first_map(console: Console, paths: DemoPaths) -> BenchmarkResult:
    """Predicts a scene with NDVI by the shipped weights, and scores it beside bicubic."""
    from keras_lstsr.artifacts.loading import PRETRAINED
    from keras_lstsr.evaluation.compare import compare
    from keras_lstsr.evaluation.methods import PRETRAINED_LABEL, choose_methods
    from keras_lstsr.evaluation.report.tables import markdown_table
    from keras_lstsr.evaluation.result import BASELINE
    from keras_lstsr.evaluation.sources import scenes_set
    from keras_lstsr.inference.inputs import GuideInput, LstInput
    from keras_lstsr.inference.predictor import load_predictor
    from keras_lstsr.inference.product import Outputs, predict_product

    lst, ndvi = (sorted(paths.unseen.glob(f"{name}.*.hdf"))[0] for name in ("MOD11A1", "MOD09GQ"))
    with console.status("Predicting the map"):
        done = predict_product(
            LstInput(lst),
            load_predictor(PRETRAINED),
            Outputs(paths.first_map),
            {"ndvi": GuideInput(ndvi)},
        )
    pictures = f"Wrote {done.outputs.map} and {done.outputs.picture}: look at them."
    console.print(pictures, highlight=False, soft_wrap=True)
    for note in done.notes:
        console.print(f"Note: {note}", highlight=False)
    with console.status("Scoring the map against the truth"):
        truth = f"{paths.unseen}/truth/*.tif"
        samples = scenes_set(str(lst), truth, {"ndvi": str(ndvi)}, limit=1)
        (result,) = compare(samples, choose_methods([], [PRETRAINED])).results
    console.print(Markdown(markdown_table(result, SHOWN_COLUMNS)))
    network, bicubic = (
        result.summary()[name]["rmse_kelvin"] for name in (PRETRAINED_LABEL, BASELINE)
    )
    console.print(
        f"On this scene the network's error is {abs(network / bicubic - 1):.1%} "
        f"{'below' if network < bicubic else 'above'} bicubic's. Simulated LST is smoother than "
        "real LST, so there is less to gain; docs/guided.md has the scores on real pairs.",
        highlight=False,
    )
    return result


def _simulate(console: Console, folder: Path, scenes: int, seed: int, size_pixels: int) -> None:
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{scenes} scenes into {folder}", total=scenes)
        simulate_scenes(
            folder,
            scenes=scenes,
            seed=seed,
            size_pixels=size_pixels,
            progress=lambda scene: progress.advance(task),
        )
    console.print(
        f"Wrote {scenes} scenes of {size_pixels} × {size_pixels} km to {folder}", highlight=False
    )


def _prepare(console: Console, paths: DemoPaths) -> None:
    from beam_jobs.rasters_to_tfrecords import run
    from keras_lstsr.records.schema import load_metadata

    with console.status("Running the Beam job"):
        run(
            [
                f"--input={paths.scenes}/MOD11A1.*.hdf",
                f"--guide=ndvi={paths.scenes}/MOD09GQ.*.hdf",
                f"--output={paths.records}",
                # Clear patches of 64 × 64 are rare among the clouds of a few scenes. The losses
                # give missing pixels no weight.
                "--patch_size=32",
                "--max_missing_fraction=0.25",
            ]
        )
    metadata = load_metadata(paths.records)
    counts = ", ".join(f"{number} {split}" for split, number in metadata.counts.items())
    console.print(f"Samples: {counts}. Rejected: {metadata.rejected}", highlight=False)


def _train(console: Console, paths: DemoPaths, epochs: int | None, mlflow: bool) -> None:
    from keras_lstsr.training.fit import train
    from keras_lstsr.training.progress import RichProgress
    from keras_lstsr.training.tracking import Tracker

    tracker = Tracker(tracking_uri=paths.mlflow_store) if mlflow else None
    config = demo_config(epochs)
    train(config, paths.records, paths.run, tracker=tracker, progress=RichProgress(console))


def _evaluate(console: Console, paths: DemoPaths, mlflow: bool) -> list[BenchmarkResult]:
    from keras_lstsr.evaluation.methods import choose_methods
    from keras_lstsr.evaluation.report.tables import markdown_table, summary_metrics
    from keras_lstsr.evaluation.run import evaluate
    from keras_lstsr.evaluation.sources import records_set, scenes_set
    from keras_lstsr.training.tracking import log_evaluation

    with console.status("Scoring patches and scenes"):
        sets = [
            records_set(paths.records),
            scenes_set(f"{paths.unseen}/MOD11A1.*.hdf", f"{paths.unseen}/truth/*.tif"),
        ]
        methods = choose_methods([], [f"model={paths.run}"])
        evaluations, written = evaluate(sets, methods, paths.evaluation)
    results = [result for evaluation in evaluations for result in evaluation.results]
    for result in results:
        console.print(result.title, style="bold")
        console.print(Markdown(markdown_table(result, SHOWN_COLUMNS)))
    if mlflow:
        log_evaluation(paths.run, summary_metrics(results), written)
    return results


def _serve_and_predict(console: Console, paths: DemoPaths) -> None:
    from keras_lstsr.inference.inputs import LstInput
    from keras_lstsr.inference.predictor import load_predictor
    from keras_lstsr.inference.product import Outputs, predict_product

    source = sorted(paths.unseen.glob("MOD11A1.*.hdf"))[0]
    with _server(paths.models) as address, Progress(console=console, transient=True) as progress:
        console.print(f"Serving at {address}", highlight=False)
        task = progress.add_task(f"Tiles of {source.name}", total=None)
        done = predict_product(
            LstInput(source),
            load_predictor(server=address),
            Outputs(paths.prediction),
            progress=lambda tiles, total: progress.update(task, completed=tiles, total=total),
        )
    console.print(
        f"Wrote {done.outputs.map}: {done.shape[0]} × {done.shape[1]} pixels, "
        f"{done.minimum_kelvin:.2f} to {done.maximum_kelvin:.2f} K",
        highlight=False,
    )


@contextlib.contextmanager
def _server(models_dir: Path) -> Iterator[str]:
    """Starts ``keras-lstsr serve`` on a free port, yields its address and stops it."""
    command = [sys.executable, "-u", "-m", "keras_lstsr.cli.main", "serve", str(models_dir)]
    process = subprocess.Popen(
        [*command, "--port", "0"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    )
    lines: queue.Queue[str | None] = queue.Queue()

    def read() -> None:
        assert process.stdout is not None
        for line in process.stdout:
            lines.put(line)
        lines.put(None)

    threading.Thread(target=read, daemon=True).start()
    try:
        yield _announced_address(lines, models_dir)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _announced_address(lines: queue.Queue[str | None], models_dir: Path) -> str:
    said: list[str] = []
    deadline = time.monotonic() + SERVER_START_SECONDS
    while (left := deadline - time.monotonic()) > 0:
        try:
            line = lines.get(timeout=left)
        except queue.Empty:
            break
        if line is None:
            break
        said.append(line)
        if found := re.search(r"Serving model .* at (\S+:\d+)", line):
            return found.group(1)
    raise ServingError(
        "the local server did not start",
        path=models_dir,
        found="".join(said[-5:]).strip() or "no output",
        action=f"Start it by hand to see why: keras-lstsr serve {models_dir}",
    )


def _summary(steps: _Steps, paths: DemoPaths, mlflow: bool) -> None:
    console = steps.console
    console.rule("[bold]Done", align="left")
    table = Table(show_header=False, box=None)
    rows = [
        ("first map", paths.first_map),
        ("250 m map (COG)", paths.prediction),
        ("quicklook", paths.prediction.with_suffix(".png")),
        ("tables and reports", paths.evaluation),
        ("trained model", paths.run / "model.keras"),
        ("SavedModel", paths.models),
        ("records", paths.records),
        ("scenes and truth", paths.scenes),
    ]
    for name, path in rows:
        table.add_row(name, str(path))
    console.print(table)
    times = ", ".join(f"{title.split()[0].lower()} {s:.0f} s" for title, s in steps.seconds.items())
    console.print(f"Took {sum(steps.seconds.values()):.0f} s: {times}.", highlight=False)
    bin_dir = Path(sys.executable).parent
    console.print("Open the MLflow page:" if mlflow else "", style="bold")
    if mlflow:
        console.print(
            f"  {bin_dir / 'mlflow'} ui --backend-store-uri {paths.mlflow_store}",
            highlight=False,
            soft_wrap=True,
        )
    console.print("Serve the model:", style="bold")
    console.print(
        f"  {bin_dir / 'keras-lstsr'} serve {paths.models}", highlight=False, soft_wrap=True
    )
