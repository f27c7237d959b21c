"""Patches to ``tf.train.Example`` and back, both ways in one place.

``encode_patch`` and ``decode_patch`` need protobuf and NumPy alone; ``parse_patch`` is the same
decoding as a TensorFlow graph, for tf.data.
"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError
from numpy.typing import NDArray

from keras_lstsr.errors import RecordsError
from keras_lstsr.records.patches import Encoding, Patch, PatchKey, Transform
from keras_lstsr.records.schema import SCHEMA_VERSION, SPLITS, STORED_DTYPES, Feature, Split

if TYPE_CHECKING:
    import tensorflow as tf

_TEXTS = (
    Feature.KEY,
    Feature.GRANULE_ID,
    Feature.PRODUCT,
    Feature.TILE,
    Feature.DATE,
    Feature.DAY_NIGHT,
    Feature.PLACE,
    Feature.SPLIT,
    Feature.CRS_WKT,
)
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


def encode_patch(patch: Patch) -> bytes:
    """Serialises a patch as a ``tf.train.Example``; the same patch gives the same bytes.

    LST and NDVI are stored as the integers that were delivered, where these give the values back
    bit by bit, and as float32 otherwise.
    """
    features: dict[str, Any] = {
        Feature.SCHEMA_VERSION: [SCHEMA_VERSION],
        Feature.KEY: str(patch.key).encode(),
        Feature.GRANULE_ID: patch.key.granule_id.encode(),
        Feature.PRODUCT: patch.product.encode(),
        Feature.TILE: patch.tile.encode(),
        Feature.DATE: patch.acquisition_date.encode(),
        Feature.DAY_NIGHT: patch.day_night.encode(),
        Feature.PLACE: patch.place.encode(),
        Feature.SPLIT: patch.split.encode(),
        Feature.CRS_WKT: patch.crs_wkt.encode(),
        Feature.ROW: [patch.key.row],
        Feature.COLUMN: [patch.key.col],
        Feature.TRANSFORM: np.asarray(patch.transform, "<f8").tobytes(),
    }
    features |= _raster_features(Feature.LST, patch.lst_kelvin, patch.lst_encoding)
    if patch.ndvi is not None:
        features |= _raster_features(Feature.NDVI, patch.ndvi, patch.ndvi_encoding)
    example = _example_class()()
    for name, value in features.items():
        if isinstance(value, bytes):
            example.features.feature[name].bytes_list.value.append(value)
        else:
            example.features.feature[name].int64_list.value.extend(value)
    serialized: bytes = example.SerializeToString(deterministic=True)
    return serialized


def decode_patch(serialized: bytes) -> Patch:
    """Restores a patch from a record, in NumPy.

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
            action="Prepare the records again with this version of keras-lstsr.",
        )
    text = {name: _bytes(features, name).decode() for name in _TEXTS}
    lst, lst_encoding = _raster(features, Feature.LST)
    ndvi, ndvi_encoding = None, Encoding()
    if f"{Feature.NDVI}/values" in features:
        ndvi, ndvi_encoding = _raster(features, Feature.NDVI)
    return Patch(
        key=PatchKey(
            source=text[Feature.KEY].split("/")[-3],
            granule_id=text[Feature.GRANULE_ID],
            day_night=text[Feature.DAY_NIGHT],
            row=_int64(features, Feature.ROW)[0],
            col=_int64(features, Feature.COLUMN)[0],
        ),
        lst_kelvin=lst,
        ndvi=ndvi,
        product=text[Feature.PRODUCT],
        tile=text[Feature.TILE],
        acquisition_date=text[Feature.DATE],
        place=text[Feature.PLACE],
        split=_split(text[Feature.SPLIT]),
        crs_wkt=text[Feature.CRS_WKT],
        transform=_transform(_bytes(features, Feature.TRANSFORM)),
        lst_encoding=lst_encoding,
        ndvi_encoding=ndvi_encoding,
    )


def _split(name: str) -> Split:
    for split in SPLITS:
        if split == name:
            return split
    raise RecordsError(
        "the record's split is unknown", field=Feature.SPLIT, found=name, expected=", ".join(SPLITS)
    )


def _missing_feature(name: str) -> RecordsError:
    return RecordsError(
        "the record lacks a feature", field=name, action="Prepare the records again."
    )


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


def _transform(packed: bytes) -> Transform:
    a, b, c, d, e, f = np.frombuffer(packed, "<f8").tolist()
    return (a, b, c, d, e, f)


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
            action="Prepare the records again.",
        )
    stored = np.frombuffer(raw, _ON_DISK[dtype]).reshape(shape)
    if dtype == "float32":
        return stored.astype(np.float32), Encoding()
    scale, offset = np.frombuffer(_bytes(features, f"{prefix}/scale_offset"), "<f8").tolist()
    (fill,) = _int64(features, f"{prefix}/fill")
    values = (stored.astype(np.float64) * scale + offset).astype(np.float32)
    values[stored == fill] = np.nan
    return values, Encoding(dtype, scale, offset, fill)


def parse_patch(
    serialized: tf.Tensor, *, patch_size: int, scale_factor: int, with_ndvi: bool
) -> dict[str, tf.Tensor]:
    """Restores a patch from a record, as a TensorFlow graph.

    Args:
        serialized: A scalar string tensor.
        patch_size: LST pixels along a patch's side.
        scale_factor: NDVI pixels along an LST pixel's side.
        with_ndvi: Restore NDVI too; the record must hold it.

    Returns:
        ``lst_kelvin`` ``[patch_size, patch_size]`` and, if asked for, ``ndvi`` ``[patch_size ·
        scale_factor, patch_size · scale_factor]``, float32 with NaN where missing; and the scalar
        strings ``key``, ``place``, ``day_night``.
    """
    import tensorflow as tf

    texts = (Feature.KEY, Feature.PLACE, Feature.DAY_NIGHT)
    sides = {Feature.LST: patch_size}
    if with_ndvi:
        sides[Feature.NDVI] = patch_size * scale_factor
    wanted: dict[str, Any] = {name: tf.io.FixedLenFeature([], tf.string) for name in texts}
    for prefix in sides:
        for name in ("values", "dtype", "scale_offset"):
            wanted[f"{prefix}/{name}"] = tf.io.FixedLenFeature([], tf.string)
        wanted[f"{prefix}/fill"] = tf.io.FixedLenFeature([], tf.int64)
    features = tf.io.parse_single_example(serialized, wanted)
    parsed = {name: features[name] for name in texts}
    for prefix, side in sides.items():
        parsed[prefix] = _parse_raster(features, prefix, side)
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
    return tf.reshape(values, [side, side])
