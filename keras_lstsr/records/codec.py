"""Samples to ``tf.train.Example`` and back, both ways in one place.

``encode_sample`` and ``decode_sample`` need protobuf and NumPy alone; ``parse_sample`` is the same
decoding as a TensorFlow graph, for tf.data.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from affine import Affine
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from pyproj import CRS

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

if TYPE_CHECKING:
    import tensorflow as tf

_TEXTS = (
    Feature.NAME,
    Feature.SCENE,
    Feature.GROUP,
    Feature.ORIGIN,
    Feature.PRODUCT,
    Feature.TILE,
    Feature.DATE,
    Feature.DAY_NIGHT,
    Feature.PLACE,
    Feature.SPLIT,
    Feature.CRS_WKT,
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
    field = descriptor_pb2.FieldDescriptorProto
    for name, kind in (
        ("BytesList", field.TYPE_BYTES),
        ("FloatList", field.TYPE_FLOAT),
        ("Int64List", field.TYPE_INT64),
    ):
        values = file.message_type.add(name=name)
        values.field.add(name="value", number=1, type=kind, label=field.LABEL_REPEATED)
    feature = file.message_type.add(name="Feature")
    feature.oneof_decl.add(name="kind")
    for number, (name, kind_name) in enumerate(
        (("bytes_list", "BytesList"), ("float_list", "FloatList"), ("int64_list", "Int64List")), 1
    ):
        feature.field.add(
            name=name,
            number=number,
            type=field.TYPE_MESSAGE,
            type_name=f".tensorflow.{kind_name}",
            label=field.LABEL_OPTIONAL,
            oneof_index=0,
        )
    features = file.message_type.add(name="Features")
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=field.TYPE_STRING, label=field.LABEL_OPTIONAL)
    entry.field.add(
        name="value",
        number=2,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Feature",
        label=field.LABEL_OPTIONAL,
    )
    features.field.add(
        name="feature",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Features.FeatureEntry",
        label=field.LABEL_REPEATED,
    )
    example = file.message_type.add(name="Example")
    example.field.add(
        name="features",
        number=1,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Features",
        label=field.LABEL_OPTIONAL,
    )
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
    texts = {
        Feature.NAME: sample.name,
        Feature.SCENE: sample.scene,
        Feature.GROUP: sample.group,
        Feature.ORIGIN: sample.origin,
        Feature.PRODUCT: sample.product,
        Feature.TILE: sample.tile,
        Feature.DATE: sample.acquisition_date,
        Feature.DAY_NIGHT: sample.day_night,
        Feature.PLACE: sample.place,
        Feature.SPLIT: sample.split,
        Feature.CRS_WKT: sample.grid.crs_wkt,
    }
    features: dict[str, Any] = {
        Feature.SCHEMA_VERSION: [SCHEMA_VERSION],
        Feature.ROW: [sample.row],
        Feature.COLUMN: [sample.column],
        Feature.SCALE_FACTOR: [sample.scale_factor],
        Feature.TRANSFORM: np.asarray(sample.grid.transform[:6], "<f8").tobytes(),
    } | {name: text.encode() for name, text in texts.items()}
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
    example = _example_class()()
    try:
        example.ParseFromString(serialized)
    except DecodeError as error:
        raise RecordsError("the record is no tf.train.Example", found=str(error)) from error
    features = example.features.feature
    version = _int64(features, Feature.SCHEMA_VERSION)[0]
    if version != SCHEMA_VERSION:
        raise RecordsError(
            "the record has another schema",
            field=Feature.SCHEMA_VERSION,
            found=version,
            expected=SCHEMA_VERSION,
            action=PREPARE_AGAIN,
        )
    text = {name: _bytes(features, name).decode() for name in _TEXTS}
    encodings: dict[str, Encoding] = {}
    lst, encodings[Feature.LST] = _raster(features, Feature.LST)
    guides, truth = {}, None
    for name in _guide_names(features):
        guides[name], encodings[name] = _raster(features, Feature.GUIDE.format(name))
    if f"{Feature.TRUTH}/values" in features:
        truth, encodings[Feature.TRUTH] = _raster(features, Feature.TRUTH)
    transform = np.frombuffer(_bytes(features, Feature.TRANSFORM), "<f8").tolist()
    return Sample(
        name=text[Feature.NAME],
        lst_kelvin=lst,
        guides=guides,
        truth_kelvin=truth,
        grid=Grid(_crs(text[Feature.CRS_WKT]), Affine(*transform), (lst.shape[0], lst.shape[1])),
        scale_factor=_int64(features, Feature.SCALE_FACTOR)[0],
        day_night=text[Feature.DAY_NIGHT],
        product=text[Feature.PRODUCT],
        tile=text[Feature.TILE],
        acquisition_date=text[Feature.DATE],
        place=text[Feature.PLACE],
        split=_one_of(SPLITS, text[Feature.SPLIT], Feature.SPLIT),
        origin=_one_of(ORIGINS, text[Feature.ORIGIN], Feature.ORIGIN),
        scene=text[Feature.SCENE],
        group=text[Feature.GROUP],
        row=_int64(features, Feature.ROW)[0],
        column=_int64(features, Feature.COLUMN)[0],
        encodings=encodings,
    )


Known = TypeVar("Known", bound=str)


def _one_of(known: Sequence[Known], name: str, feature: str) -> Known:
    for each in known:
        if each == name:
            return each
    raise RecordsError(
        f"the record's {feature} is unknown", field=feature, found=name, expected=", ".join(known)
    )


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


def _int64(features: Any, name: str) -> list[int]:
    if name not in features or not features[name].int64_list.value:
        raise _missing_feature(name)
    return [int(value) for value in features[name].int64_list.value]


def _raster(features: Any, prefix: str) -> tuple[NDArray[np.float32], Encoding]:
    dtype = _bytes(features, f"{prefix}/dtype").decode()
    shape = _int64(features, f"{prefix}/shape")
    raw = _bytes(features, f"{prefix}/values")
    if dtype not in STORED_DTYPES or len(raw) != np.prod(shape) * np.dtype(dtype).itemsize:
        raise RecordsError(
            "the record's raster is damaged",
            field=prefix,
            found=f"{len(raw)} bytes of {dtype} for {shape}",
            expected=" or ".join(STORED_DTYPES),
            action=PREPARE_AGAIN,
        )
    stored = np.frombuffer(raw, _ON_DISK[dtype]).reshape(shape)
    if dtype == "float32":
        return stored.astype(np.float32), Encoding()
    scale, offset = np.frombuffer(_bytes(features, f"{prefix}/scale_offset"), "<f8").tolist()
    (fill,) = _int64(features, f"{prefix}/fill")
    values = (stored.astype(np.float64) * scale + offset).astype(np.float32)
    values[stored == fill] = np.nan
    return values, Encoding(dtype, scale, offset, fill)


def parse_sample(
    serialized: tf.Tensor,
    *,
    side: int,
    scale_factor: int,
    guides: Sequence[str] = (),
    with_truth: bool = False,
) -> dict[str, Any]:
    """Restores a sample from a record, as a TensorFlow graph.

    Args:
        serialized: A scalar string tensor.
        side: LST pixels along the sides of the result; smaller samples are filled up with NaN at
            the bottom and on the right.
        scale_factor: Fine pixels along an LST pixel's side.
        guides: Guides to restore; the record must hold them.
        with_truth: Restore the truth too; the record must hold it.

    Returns:
        ``lst_kelvin`` ``[side, side]``; ``guides``, by name, and, if asked for, ``truth_kelvin``
        ``[side · scale_factor, side · scale_factor]``, float32 with NaN where missing; and the
        scalar strings ``name``, ``place``, ``day_night``, ``origin``.
    """
    import tensorflow as tf

    texts = (Feature.NAME, Feature.PLACE, Feature.DAY_NIGHT, Feature.ORIGIN)
    sides = {Feature.LST: side} | {
        Feature.GUIDE.format(name): side * scale_factor for name in guides
    }
    if with_truth:
        sides[Feature.TRUTH] = side * scale_factor
    wanted: dict[str, Any] = {name: tf.io.FixedLenFeature([], tf.string) for name in texts}
    for prefix in sides:
        for name in ("values", "dtype", "scale_offset"):
            wanted[f"{prefix}/{name}"] = tf.io.FixedLenFeature([], tf.string)
        wanted[f"{prefix}/fill"] = tf.io.FixedLenFeature([], tf.int64)
        wanted[f"{prefix}/shape"] = tf.io.FixedLenFeature([2], tf.int64)
    features = tf.io.parse_single_example(serialized, wanted)
    parsed: dict[str, Any] = {name: features[name] for name in texts}
    rasters = {prefix: _parse_raster(features, prefix, length) for prefix, length in sides.items()}
    parsed[Feature.LST] = rasters[Feature.LST]
    parsed["guides"] = {name: rasters[Feature.GUIDE.format(name)] for name in guides}
    if with_truth:
        parsed[Feature.TRUTH] = rasters[Feature.TRUTH]
    return parsed


def _parse_raster(features: dict[str, tf.Tensor], prefix: str, side: int) -> tf.Tensor:
    import tensorflow as tf

    raw = features[f"{prefix}/values"]
    dtype = features[f"{prefix}/dtype"]
    # float64 as in NumPy: float32 arithmetic would not give the delivered values back exactly.
    scale_offset = tf.io.decode_raw(features[f"{prefix}/scale_offset"], tf.float64)

    def from_integers(kind: tf.DType) -> tf.Tensor:
        stored = tf.io.decode_raw(raw, kind)
        values = tf.cast(stored, tf.float64) * scale_offset[0] + scale_offset[1]
        missing = tf.equal(tf.cast(stored, tf.int64), features[f"{prefix}/fill"])
        return tf.where(missing, np.float32(np.nan), tf.cast(values, tf.float32))

    values = tf.case(
        [
            (tf.equal(dtype, "uint16"), lambda: from_integers(tf.uint16)),
            (tf.equal(dtype, "int16"), lambda: from_integers(tf.int16)),
        ],
        default=lambda: tf.io.decode_raw(raw, tf.float32),
        exclusive=True,
    )
    shape = features[f"{prefix}/shape"]
    filled_up = tf.pad(
        tf.reshape(values, shape),
        [[0, side - shape[0]], [0, side - shape[1]]],
        constant_values=np.float32(np.nan),
    )
    return tf.ensure_shape(filled_up, [side, side])
