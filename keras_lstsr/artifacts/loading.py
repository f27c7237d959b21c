"""Loading a model from wherever it lies, with its provenance, and finding out its contract."""

from __future__ import annotations

import hashlib
import re
import warnings
import zipfile
from os import PathLike
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from keras_lstsr.artifacts.contract import (
    FOLLOWED_NAME,
    INPUT_NAME,
    OUTPUT_NAME,
    STD_NAME,
    Contract,
)
from keras_lstsr.artifacts.model_folder import ModelFolder, library_versions
from keras_lstsr.config.guides import GUIDES
from keras_lstsr.errors import ModelError, OldLayoutWarning

if TYPE_CHECKING:
    import keras

Precision = Literal["auto", "float32", "bfloat16"]
PRETRAINED = "pretrained"
"""Stands for the newest weights."""

WEIGHTS_FOLDER = Path(__file__).resolve().parent.parent / "weights"

_SIZES_TRIED_PIXELS = (*range(1, 17), 24, 32, 48, 64, 128)
_MOST_UNPACKED_BYTES = 2**26
_PROBE_KELVIN = 290.0
# What `pretrain` wrote before there were model folders.
_OLD_MODEL, _OLD_CARD = "guided.keras", "guided.json"


def shipped_weights() -> list[str]:
    """Lists the names of the weights in this installation, e.g. ``guided-1``, the newest last."""
    numbered = {
        int(match.group(1)): path.name
        for path in WEIGHTS_FOLDER.glob("*-*")
        if (match := re.fullmatch(r"[a-z]+-(\d+)", path.name)) and path.is_dir()
    }
    return [numbered[number] for number in sorted(numbered)]


def shipped_folder(name: str) -> Path | None:
    """Returns the folder of weights that come with the package; None for any other name.

    Raises:
        ModelError: If ``"pretrained"`` is asked for and no weights are there.
    """
    weights = shipped_weights()
    if name == PRETRAINED and not weights:
        raise ModelError(
            "the pretrained weights are missing",
            path=WEIGHTS_FOLDER,
            expected="the folder that comes with keras-lstsr",
            action="Install keras-lstsr again, or give a model of your own with --model.",
        )
    if name == PRETRAINED:
        return WEIGHTS_FOLDER / weights[-1]
    return WEIGHTS_FOLDER / name if name in weights else None


def open_model(
    source: str | PathLike[str], precision: Precision = "float32"
) -> tuple[keras.Model, dict[str, Any]]:
    """Loads a model and what is known about it.

    Args:
        source: A model folder, its ``model.keras``, any other ``.keras`` file, or the name of
            weights that come with the package: ``"pretrained"`` for the newest.
        precision: See ``load_predictor``.

    Returns:
        The model and its provenance, see ``ModelFolder.provenance``; of a file without a folder
        ``run_name`` alone.

    Raises:
        ModelError: If there is no model, or it or what lies beside it is damaged.
    """
    model, provenance = _opened(source)
    if precision == "bfloat16" or (precision == "auto" and processor_is_fast_in_bfloat16()):
        from keras_lstsr.models.precision import in_bfloat16

        model = in_bfloat16(model)
    return model, provenance


def processor_is_fast_in_bfloat16() -> bool:
    """Says whether this machine's processor multiplies matrices of bfloat16 (AMX).

    AVX-512 has bfloat16, too, but with it alone the guided network takes longer than in float32
    (docs/performance.md). False where it does not tell.
    """
    try:
        flags = Path("/proc/cpuinfo").read_text(encoding="utf-8")
    except OSError:
        return False
    return "amx_bf16" in flags


def _opened(source: str | PathLike[str]) -> tuple[keras.Model, dict[str, Any]]:
    path = Path(source)
    if not path.exists():
        path = shipped_folder(str(source)) or path
    folder = ModelFolder(path if path.is_dir() else path.parent)
    old = folder.path / _OLD_MODEL
    if path == old or (path.is_dir() and old.is_file() and not folder.model.is_file()):
        return load_keras_model(old), _old_provenance(folder)
    if path.is_dir() or (path == folder.model and folder.run.is_file()):
        provenance = folder.provenance()
        return load_keras_model(folder.model), provenance
    return load_keras_model(path), {"run_name": path.stem}


def holds_keras_model(folder: Path) -> bool:
    """Says whether a folder is a model folder, of today's or the older layout."""
    return any((folder / name).is_file() for name in (ModelFolder(folder).model.name, _OLD_MODEL))


def _old_provenance(folder: ModelFolder) -> dict[str, Any]:
    warnings.warn(
        f"{folder.path} has {_OLD_MODEL}, as older versions wrote it. The next release will not "
        "read it: train the model again with `keras-lstsr pretrain`",
        OldLayoutWarning,
        stacklevel=4,
    )
    folder.card = folder.path / _OLD_CARD
    card = folder.read_card()
    provenance: dict[str, Any] = {"run_name": folder.path.resolve().name}
    if card is not None:
        provenance["dataset_fingerprint"] = card.dataset_fingerprint
        provenance["model_card"] = card.model_dump(mode="json")
    return provenance


def load_keras_model(file: Path) -> keras.Model:
    """Loads a ``.keras`` file.

    Raises:
        ModelError: If there is no such file, or Keras cannot read it.
    """
    if not file.is_file():
        raise ModelError(
            "there is no trained model",
            path=file,
            expected="a folder of `keras-lstsr train` with model.keras, or a .keras file",
            action="Train first, or let the training finish its first epoch.",
        )
    import keras

    import keras_lstsr.models  # noqa: F401  # registers the layers; Keras finds them by name

    try:
        _check_archive(file)
        # Code in the file, such as a Lambda layer's, is refused and not run.
        return keras.models.load_model(file, compile=False, safe_mode=True)
    # A file that somebody made up fails anywhere within Keras, h5py or zipfile.
    except Exception as error:
        raise ModelError(
            "Keras cannot read the model",
            path=file,
            found=str(error).strip().splitlines()[0] if str(error).strip() else type(error),
            expected="a .keras file written by keras-lstsr",
            action="Train or copy it again.",
        ) from error


def _check_archive(file: Path) -> None:
    """Refuses a .keras file that would unpack to far more than it is.

    Raises:
        ValueError: If it does, or holds names that lead elsewhere.
        BadZipFile: If it is no archive.
    """
    most = max(_MOST_UNPACKED_BYTES, 4 * file.stat().st_size)
    with zipfile.ZipFile(file) as archive:
        entries = archive.infolist()
    unpacked = sum(entry.file_size for entry in entries)
    if unpacked > most:
        raise ValueError(f"the archive unpacks to {unpacked} bytes")
    for entry in entries:
        parts = PurePosixPath(entry.filename.replace("\\", "/")).parts
        if ".." in parts or entry.filename.startswith(("/", "\\")):
            raise ValueError(f"the archive holds {entry.filename!r}")


def model_contract(
    model: keras.Model, *, provenance: dict[str, Any], model_version: int = 0
) -> Contract:
    """Makes a model's contract; scale factor and least size are found by trying.

    Args:
        model: Takes ``[B, h, w, 1]`` kelvin and returns ``[B, f·h, f·w, 1]``; or a model of
            ``build_guided``, whose inputs but for LST are named after guides.
        provenance: Where the model comes from; software versions and the hash of the weights are
            added.
        model_version: Number of the SavedModel's version; 0 if it is not exported.

    Raises:
        ModelError: If the model takes none of the sizes tried, or its output is not a whole
            multiple of its input, or a model with guides is not one of ``build_guided``, or takes
            a guide that is not registered.
    """
    guides = guides_of(model)
    factor = _guided_factor(model) if guides else None
    size, results = _smallest_that_works(model, guides, factor)
    shape = tuple(results[OUTPUT_NAME].shape)
    square = len(shape) == 4 and shape[1] == shape[2] and shape[1] % size == 0 and shape[3] == 1
    ModelError.unless(
        square and factor in (None, shape[1] // size),
        OUTPUT_NAME,
        list(shape),
        f"[1, f·{size}, f·{size}, 1] with a whole factor f",
        "the model's output does not fit its input",
    )
    return Contract.of_model(
        model_version=model_version,
        scale_factor=shape[1] // size,
        minimum_size_pixels=size,
        margin_pixels=_statistics_margin(model) if guides else 0,
        guides=guides,
        outputs=[name for name in (OUTPUT_NAME, STD_NAME, FOLLOWED_NAME) if name in results],
        provenance={
            **provenance,
            "weights_sha256": weights_sha256(model),
            "parameters": int(model.count_params()),
            "software": library_versions(),
        },
    )


def guides_of(model: keras.Model) -> tuple[str, ...]:
    """Returns the names of the guides that a model takes: its inputs but for LST.

    Raises:
        ModelError: If one of them is not registered.
    """
    names = [tensor.name for tensor in getattr(model, "inputs", None) or ()]
    if INPUT_NAME not in names:
        return ()  # a model of one image may call its input what it likes
    guides = tuple(name for name in names if name != INPUT_NAME)
    unknown = [name for name in guides if name not in GUIDES]
    if unknown:
        raise ModelError(
            "the model takes a guide that is not registered",
            field=unknown[0],
            expected=", ".join(GUIDES),
            action="Make it known with keras_lstsr.register_guide.",
        )
    return guides


def _smallest_that_works(
    model: keras.Model, guides: tuple[str, ...], factor: int | None
) -> tuple[int, dict[str, Any]]:
    """Tries sizes, smallest first; returns the first that works and its results by name."""
    too_small = _errors_of_small_images()
    for size in _SIZES_TRIED_PIXELS:
        probe = {INPUT_NAME: np.full([1, size, size, 1], _PROBE_KELVIN, np.float32)}
        fine = [1, size * (factor or 1), size * (factor or 1), 1]
        probe |= {name: np.full(fine, GUIDES[name].stand_in, np.float32) for name in guides}
        try:
            results = model(probe, training=False)
        except too_small:
            continue  # for this network's depth
        return size, results if isinstance(results, dict) else {OUTPUT_NAME: results}
    raise ModelError(
        "the model does not take a single-channel image",
        found=f"failure for all sizes up to {_SIZES_TRIED_PIXELS[-1]} pixels",
        expected="a model of build_model or build_guided: [B, h, w, 1] in kelvin",
    )


def _guided_factor(model: keras.Model) -> int:
    from keras_lstsr.models.guidance import BlockMean

    return int(_layer_of(model, BlockMean).scale_factor)


def _statistics_margin(model: keras.Model) -> int:
    """Coarse pixels from which on a window's statistics lack nothing; bilinear adds the one."""
    from keras_lstsr.models.guidance import LocalRegression, LocalSpread

    layer = _layer_of(model, LocalSpread, LocalRegression)
    margin = int(layer.wide_window_pixels) // 2 + 1
    # Windows of what is left of narrow ones.
    return margin + (layer.narrow_window_pixels // 2 if isinstance(layer, LocalSpread) else 0)


def _layer_of(model: keras.Model, *kinds: type) -> Any:
    """Returns the first layer of the first kind of which there is one."""
    for kind in kinds:
        for layer in model.layers:
            if isinstance(layer, kind):
                return layer
    raise ModelError(
        "the model takes a guide, but is not one of build_guided",
        field=model.name,
        found=f"no layer {kinds[0].__name__}",
        action="Build it with keras_lstsr.models.guided.build_guided.",
    )


def _errors_of_small_images() -> tuple[type[Exception], ...]:
    """What a network raises when nothing is left of an image: it depends on the backend."""
    import keras

    if keras.config.backend() != "tensorflow":
        return (ValueError, TypeError, ZeroDivisionError)
    import tensorflow as tf

    return (ValueError, tf.errors.InvalidArgumentError)


def weights_sha256(model: keras.Model) -> str:
    """Hashes all weights with their shapes, in the model's order: the same weights, the same hash.

    Names are left out, since Keras numbers layers anew in every process.
    """
    digest = hashlib.sha256()
    for array in model.get_weights():
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()
