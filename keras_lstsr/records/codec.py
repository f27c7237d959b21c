"""Samples to ``tf.train.Example`` and back, both ways in one place, by protobuf and NumPy alone."""

from __future__ import annotations

import math
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, TypeVar, cast

import numpy as np
from affine import Affine
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from pyproj import CRS
from pyproj.exceptions import CRSError

from keras_lstsr.errors import RecordsError
from keras_lstsr.grids.grid import Grid
from keras_lstsr.records.sample import Encoding, Sample
from keras_lstsr.records.schema import (
    ORIGINS,
    PREPARE_AGAIN,
    SCHEMA_VERSION,
    SPLITS,
    STORED_DTYPES,
    Feature,
)

_GUIDE_PREFIX = Feature.GUIDE.format("")
_ON_DISK = {"uint16": "<u2", "int16": "<i2", "float32": "<f4"}


@lru_cache(maxsize=1)
def _example_class() -> Any:
    """Builds ``tensorflow.Example`` without TensorFlow.

    The descriptor lives in a pool of its own: TensorFlow registers the same names in the default
    pool, and would collide with ours.

    Source: field numbers of tensorflow/core/example/{example,feature}.proto.
    """
    file = descriptor_pb2.FileDescriptorProto(
        name="keras_lstsr/example.proto", package="tensorflow", syntax="proto3"
    )
    kinds = descriptor_pb2.FieldDescriptorProto

    def field(message: Any, name: str, kind: Any, number: int = 1, **options: Any) -> None:
        options.setdefault("label", kinds.LABEL_OPTIONAL)
        if isinstance(kind, str):
            options |= {"type_name": f".tensorflow.{kind}"}
            kind = kinds.TYPE_MESSAGE
        message.field.add(name=name, number=number, type=kind, **options)

    repeated = kinds.LABEL_REPEATED
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    stored = {"bytes": kinds.TYPE_BYTES, "float": kinds.TYPE_FLOAT, "int64": kinds.TYPE_INT64}
    for number, (name, kind) in enumerate(stored.items(), 1):
        values = file.message_type.add(name=f"{name.capitalize()}List")
        field(values, "value", kind, label=repeated)
        field(feature, f"{name}_list", values.name, number, oneof_index=0)
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    field(entry, "key", kinds.TYPE_STRING)
    field(entry, "value", "Feature", 2)
    field(features, "feature", "Features.FeatureEntry", label=repeated)
    field(file.message_type.add(name="Example"), "features", "Features")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


def _integers(values: NDArray[np.float32], encoding: Encoding) -> tuple[NDArray[Any], int] | None:
    """Returns the delivered integers and their fill, or None if they do not give values back."""
    if encoding.dtype not in ("uint8", "uint16", "int16") or encoding.scale_factor == 0:
        return None
    dtype = np.dtype("int16" if encoding.dtype == "int16" else "uint16")
    bounds = np.iinfo(dtype)
    fill = encoding.fill
    if fill is None:
        fill = 0 if dtype == np.uint16 else bounds.min
    if not (bounds.min <= fill <= bounds.max and float(fill).is_integer()):
        return None
    missing = np.isnan(values)
    exact = np.rint(
        (values.astype(np.float64) - encoding.add_offset) / encoding.scale_factor,
        where=~missing,
        out=np.full(values.shape, float(fill)),
    )
    if exact.min() < bounds.min or exact.max() > bounds.max or (exact[~missing] == fill).any():
        return None
    again = (exact * encoding.scale_factor + encoding.add_offset).astype(np.float32)
    if not np.array_equal(again[~missing], values[~missing]):
        return None
    return exact.astype(dtype), int(fill)


def _raster_features(
    prefix: str, values: NDArray[np.float32], encoding: Encoding
) -> dict[str, Any]:
    stored = _integers(values, encoding)
    if stored is None:
        array: NDArray[Any] = values.astype(np.float32)
        dtype, fill, scale_offset = "float32", 0, (1.0, 0.0)
    else:
        array, fill = stored
        dtype, scale_offset = array.dtype.name, (encoding.scale_factor, encoding.add_offset)
    return {
        f"{prefix}/values": array.astype(_ON_DISK[dtype]).tobytes(),
        f"{prefix}/dtype": dtype.encode(),
        f"{prefix}/scale_offset": np.asarray(scale_offset, "<f8").tobytes(),
        f"{prefix}/fill": [fill],
        f"{prefix}/shape": list(values.shape),
    }


def encode_sample(sample: Sample) -> bytes:
    """Serialises a sample as a ``tf.train.Example``; the same sample gives the same bytes.

    LST and guides are stored as the integers that were delivered, where these give the values back
    bit by bit, and as float32 otherwise.
    """
    features: dict[str, Any] = {
        Feature.SCHEMA_VERSION: [SCHEMA_VERSION],
        Feature.TRANSFORM: np.asarray(sample.grid.transform[:6], "<f8").tobytes(),
        Feature.CRS_WKT: sample.grid.crs_wkt.encode(),
    }
    features |= {name: [getattr(sample, name)] for name in Feature.NUMBERS}
    features |= {name: getattr(sample, name).encode() for name in Feature.TEXTS}
    # What is not known is left out, so that such records stay what they were.
    known = {name: getattr(sample, name) for name in Feature.OPTIONAL}
    features |= {name: text.encode() for name, text in known.items() if text}
    rasters = {Feature.LST: (Feature.LST, sample.lst_kelvin)}
    rasters |= {name: (Feature.GUIDE.format(name), g) for name, g in sample.guides.items()}
    if sample.truth_kelvin is not None:
        rasters[Feature.TRUTH] = (Feature.TRUTH, sample.truth_kelvin)
    for name, (prefix, values) in rasters.items():
        encoding = sample.encodings.get(name, Encoding())
        features |= _raster_features(prefix, values, encoding)
    example = _example_class()()
    for name, value in features.items():
        if isinstance(value, bytes):
            example.features.feature[name].bytes_list.value.append(value)
        else:
            example.features.feature[name].int64_list.value.extend(value)
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def decode_sample(serialized: bytes) -> Sample:
    """Restores a sample from a record, in NumPy.

    Raises:
        RecordsError: If the record is damaged, lacks a feature or is of another schema version.
    """
    try:
        return _decoded(serialized)
    # What is not text, no CRS, no number or no shape: any of its bytes may be wrong.
    except (ValueError, TypeError, CRSError, ArithmeticError) as error:
        lines = str(error).splitlines()
        raise RecordsError(
            "the record is damaged",
            found=f"{type(error).__name__}: {lines[0] if lines else ''}",
            action=PREPARE_AGAIN,
        ) from error


def _decoded(serialized: bytes) -> Sample:
    example = _example_class()()
    try:
        example.ParseFromString(serialized)
    except DecodeError as error:
        raise RecordsError("the record is not a tf.train.Example", found=str(error)) from error
    features = example.features.feature
    version = _int64(features, Feature.SCHEMA_VERSION)[0]
    fits, problem = version == SCHEMA_VERSION, "the record has another schema"
    RecordsError.unless(
        fits, Feature.SCHEMA_VERSION, version, SCHEMA_VERSION, problem, action=PREPARE_AGAIN
    )
    encodings: dict[str, Encoding] = {}
    lst, encodings[Feature.LST] = _raster(features, Feature.LST)
    guides, truth = {}, None
    for name in _guide_names(features):
        guides[name], encodings[name] = _raster(features, Feature.GUIDE.format(name))
    if f"{Feature.TRUTH}/values" in features:
        truth, encodings[Feature.TRUTH] = _raster(features, Feature.TRUTH)
    transform = np.frombuffer(_bytes(features, Feature.TRANSFORM), "<f8").tolist()
    crs = _crs(_text(features, Feature.CRS_WKT))
    own: dict[str, Any] = {name: _text(features, name) for name in Feature.IDENTITY}
    own |= {name: _text(features, name) for name in Feature.OPTIONAL if name in features}
    own |= {name: _int64(features, name)[0] for name in Feature.NUMBERS}
    return Sample(
        lst_kelvin=lst,
        guides=guides,
        truth_kelvin=truth,
        grid=Grid(crs, Affine(*transform), (lst.shape[0], lst.shape[1])),
        split=_one_of(SPLITS, _text(features, Feature.SPLIT), Feature.SPLIT),
        origin=_one_of(ORIGINS, _text(features, Feature.ORIGIN), Feature.ORIGIN),
        encodings=encodings,
        **own,
    )


Known = TypeVar("Known", bound=str)


def _one_of(known: Sequence[Known], name: str, feature: str) -> Known:
    problem = f"the record's {feature} is unknown"
    RecordsError.unless(name in known, feature, name, ", ".join(known), problem)
    return known[known.index(cast(Known, name))]


@lru_cache(maxsize=256)
def _crs(wkt: str) -> CRS:
    return CRS.from_wkt(wkt)


def _guide_names(features: Any) -> list[str]:
    names = (name.split("/") for name in features if name.startswith(_GUIDE_PREFIX))
    return sorted(parts[1] for parts in names if parts[-1] == "values")


def _missing_feature(name: str) -> RecordsError:
    return RecordsError("the record lacks a feature", field=name, action=PREPARE_AGAIN)


def _bytes(features: Any, name: str) -> bytes:
    # A protobuf map creates what is asked for: look before.
    if name not in features or len(features[name].bytes_list.value) != 1:
        raise _missing_feature(name)
    value: bytes = features[name].bytes_list.value[0]
    return value


def _text(features: Any, name: str) -> str:
    return _bytes(features, name).decode()


def _int64(features: Any, name: str) -> list[int]:
    if name not in features or not features[name].int64_list.value:
        raise _missing_feature(name)
    return [int(value) for value in features[name].int64_list.value]


def _raster(features: Any, prefix: str) -> tuple[NDArray[np.float32], Encoding]:
    dtype = _bytes(features, f"{prefix}/dtype").decode()
    shape = _int64(features, f"{prefix}/shape")
    raw = _bytes(features, f"{prefix}/values")
    RecordsError.unless(
        dtype in STORED_DTYPES
        and len(shape) == 2
        and min(shape) > 0
        and len(raw) == math.prod(shape) * np.dtype(dtype).itemsize,
        prefix,
        f"{len(raw)} bytes of {dtype} for {shape}",
        " or ".join(STORED_DTYPES),
        "the record's raster is damaged",
        action=PREPARE_AGAIN,
    )
    stored = np.frombuffer(raw, _ON_DISK[dtype]).reshape(shape)
    if dtype == "float32":
        return stored.astype(np.float32), Encoding()
    scale, offset = np.frombuffer(_bytes(features, f"{prefix}/scale_offset"), "<f8").tolist()
    (fill,) = _int64(features, f"{prefix}/fill")
    problem = "the record's raster is damaged"
    finite = math.isfinite(scale) and math.isfinite(offset)
    RecordsError.unless(
        finite, f"{prefix}/scale_offset", (scale, offset), "finite numbers", problem
    )
    values = (stored.astype(np.float64) * scale + offset).astype(np.float32)
    values[stored == fill] = np.nan
    return values, Encoding(dtype, scale, offset, fill)
