"""The framing of TFRecord files, so that neither Beam workers nor NumPy readers need TensorFlow.

Source: the format's description in tensorflow/core/lib/io/record_writer.h: length (uint64),
masked CRC-32C of the length, data, masked CRC-32C of the data, all little-endian.
"""

from __future__ import annotations

import gzip
import io
import struct
import zlib
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from os import PathLike
from pathlib import Path

from keras_lstsr.errors import MissingExtraError, RecordsError

_LENGTH = struct.Struct("<Q")
_CRC = struct.Struct("<I")
_MASK_DELTA = 0xA282EAD8
_COMPRESSION_LEVEL = 6


@lru_cache(maxsize=1)
def _crc32c() -> Callable[[bytes], int]:
    try:
        from crcmod.predefined import mkPredefinedCrcFun  # type: ignore[import-untyped]
    except ImportError as error:
        raise MissingExtraError(
            "writing TFRecords needs a CRC-32C library",
            found="no crcmod",
            action="Install keras-lstsr[beam].",
        ) from error
    function: Callable[[bytes], int] = mkPredefinedCrcFun("crc-32c")
    return function


def masked_crc32c(data: bytes) -> int:
    """Returns the CRC-32C of ``data``, masked as TFRecord wants it."""
    crc = _crc32c()(data)
    return (((crc >> 15) | (crc << 17)) + _MASK_DELTA) & 0xFFFFFFFF


def shard_bytes(records: Iterable[bytes]) -> bytes:
    """Frames records, in their order, and compresses them; the same records give the same bytes."""
    buffer = io.BytesIO()
    # Neither clock nor file name may get into the gzip header.
    with gzip.GzipFile(
        filename="", mode="wb", fileobj=buffer, mtime=0, compresslevel=_COMPRESSION_LEVEL
    ) as stream:
        for record in records:
            length = _LENGTH.pack(len(record))
            stream.write(length + _CRC.pack(masked_crc32c(length)))
            stream.write(record + _CRC.pack(masked_crc32c(record)))
    return buffer.getvalue()


def read_shard(path: str | PathLike[str], *, most_bytes: int = 2**30) -> Iterator[bytes]:
    """Yields the records of a gzip-compressed TFRecord file.

    The record checksums are skipped: gzip's own CRC-32 covers the same bytes.

    Args:
        path: The file.
        most_bytes: A record that says to be larger is not read.

    Raises:
        RecordsError: If the file is truncated or no gzip-compressed TFRecord file, or a record is
            too large.
    """
    try:
        with gzip.open(Path(path), "rb") as stream:
            while header := stream.read(_LENGTH.size + _CRC.size):
                (length,) = _LENGTH.unpack_from(header)
                RecordsError.unless(
                    length <= most_bytes,
                    "record length",
                    f"{length} bytes",
                    f"at most {most_bytes}",
                    "the record is larger than its sample can be",
                    path=path,
                )
                body = stream.read(length + _CRC.size)
                if len(body) != length + _CRC.size:
                    raise EOFError("the last record is cut off")
                yield body[:length]
    except (OSError, EOFError, struct.error, zlib.error) as error:
        raise RecordsError(
            "the shard cannot be read",
            path=path,
            found=str(error),
            action="Prepare the records again.",
        ) from error
