"""The process in which the HDF4 library runs; ``products.hdf4_pool`` starts it.

It is run as a script, with nothing of this package and no framework, so that it starts quickly. It
asks the library for names, shapes and attributes. Pixels it takes from the file itself, by the
data descriptors: the library does not compare the checksum of a deflated stream, zlib does.

A request is a line of JSON, and so is an answer, followed by as many bytes as it says.

Layouts: HDF4 Specification and Developer's Guide, chapters on data descriptors, on number types,
and on extended tags (linked blocks, compression, chunking).
"""

from __future__ import annotations

import contextlib
import json
import math
import mmap
import os
import select
import signal
import struct
import sys
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO

MEMORY_BYTES = 2 << 30
"""Address space of the process (RLIMIT_AS), where the system has such a limit."""

FIELD_BYTES = 512 << 20
"""No field is larger: 250 m pixels of a whole tile are 46 MB in 16 bits."""

ATTRIBUTE_BYTES = 16 << 20
"""All attributes of a file, as text."""

_NULL, _LINKED, _COMPRESSED, _CHUNK = 1, 20, 40, 61
_NUMBER_TYPE, _DIMENSIONS, _DATA, _GROUP = 106, 701, 702, 720
_TABLE_HEADER, _TABLE = 1962, 1963
_SPECIAL = 0x4000
_IS_LINKED, _IS_EXTERNAL, _IS_COMPRESSED, _IS_CHUNKED = 1, 2, 3, 5
_DEFLATE = 4
_MOST_DESCRIPTORS = 1_000_000
_PARENT_CHECK_SECONDS = 5.0
# HDF4 number types and how they are stored: 1 is big-endian, 4 little-endian.
_TYPES = {
    20: "int8",
    21: "uint8",
    22: "int16",
    23: "uint16",
    24: "int32",
    25: "uint32",
    5: "float32",
    6: "float64",
}
_ITEM_BYTES = {20: 1, 21: 1, 22: 2, 23: 2, 24: 4, 25: 4, 5: 4, 6: 8}
_METADATA = ("StructMetadata", "CoreMetadata", "OldCoreMetadata")
_BYTE_ORDERS = {1: ">", 4: "<"}


class DamagedError(Exception):
    """What the file holds contradicts itself; the text says where."""


class Elements:
    """The data elements of an HDF4 file, by tag and reference number.

    Args:
        content: The whole file.

    Raises:
        DamagedError: If the descriptors are unusable, or an element lies in another file.
    """

    def __init__(self, content: bytes | mmap.mmap) -> None:
        self._content = content
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        for tag, reference, offset, length in self._descriptors():
            if offset < 0 or length < 0 or offset + length > len(content):
                # Descriptors that are reserved and not filled in have -1 in both.
                if (offset, length) != (-1, -1):
                    raise DamagedError(f"element {tag}/{reference} reaches beyond the file")
                continue
            if (tag, reference) in self._places:
                raise DamagedError(f"two elements {tag}/{reference}")
            if tag == _NUMBER_TYPE and length != 4:
                raise DamagedError(f"a number type of {length} bytes")
            self._places[tag, reference] = (offset, length)
            extended = tag & _SPECIAL and not tag & 0x8000 and length >= 2
            if extended and self._number(">H", self._bytes(tag, reference)) == _IS_EXTERNAL:
                raise DamagedError("its data lie in another file")

    def _descriptors(self) -> Iterator[tuple[int, int, int, int]]:
        block, seen, left = 4, set(), _MOST_DESCRIPTORS
        while block:
            if block in seen:
                raise DamagedError("its descriptors form a ring")
            seen.add(block)
            count, following = self._unpack(">Hi", block)
            left -= count
            if left < 0:
                raise DamagedError("too many descriptors")
            for entry in range(count):
                found = self._unpack(">HHii", block + 6 + 12 * entry)
                if found[0] not in (0, _NULL):
                    yield found[0], found[1], found[2], found[3]
            block = following

    def _unpack(self, layout: str, at: int) -> tuple[Any, ...]:
        if at < 0 or at + struct.calcsize(layout) > len(self._content):
            raise DamagedError("its descriptors reach beyond the file")
        return struct.unpack_from(layout, self._content, at)

    @staticmethod
    def _number(layout: str, element: bytes, at: int = 0) -> int:
        if at < 0 or at + struct.calcsize(layout) > len(element):
            raise DamagedError("an element is too short")
        return int(struct.unpack_from(layout, element, at)[0])

    def _bytes(self, tag: int, reference: int) -> bytes:
        if (tag, reference) not in self._places:
            raise DamagedError(f"no element {tag}/{reference}")
        offset, length = self._places[tag, reference]
        return self._content[offset : offset + length]

    def _stored(self, tag: int, reference: int, size: int | None = None) -> bytes:
        """Returns an element as written, from its linked blocks where it has some."""
        if (tag, reference) in self._places:
            return self._bytes(tag, reference)
        head = self._bytes(tag | _SPECIAL, reference)
        if self._number(">H", head) != _IS_LINKED:
            raise DamagedError(f"element {tag}/{reference} is stored in an unknown way")
        length, per_table = self._number(">i", head, 2), self._number(">i", head, 10)
        table_at = self._number(">H", head, 14)
        parts: list[bytes] = []
        have = 0
        seen = set()
        while have < length and table_at:
            if table_at in seen:
                raise DamagedError("linked blocks form a ring")
            seen.add(table_at)
            table = self._bytes(_LINKED, table_at)
            for number in range(min(per_table, len(table) // 2 - 1)):
                block = self._number(">H", table, 2 + 2 * number)
                if block and have < length:
                    parts.append(self._bytes(_LINKED, block))
                    have += len(parts[-1])
            table_at = self._number(">H", table)
        if have < length or length < 0:
            raise DamagedError("linked blocks are missing")
        return b"".join(parts)[:length]

    def _inflated(self, head: bytes, size: int) -> bytes:
        """Returns the content of a compressed element, its checksum compared."""
        length, reference = self._number(">i", head, 4), self._number(">H", head, 8)
        coder = self._number(">H", head, 12)
        if coder != _DEFLATE or self._number(">H", head, 10) != 0:
            raise DamagedError(f"its compression (coder {coder}) is not deflate")
        if length != size:
            raise DamagedError(f"{length} bytes of pixels instead of {size}")
        try:
            # A stream that goes on for ever meets the limit of memory.
            content = zlib.decompress(self._stored(_COMPRESSED, reference), bufsize=size)
        except zlib.error as error:
            raise DamagedError(f"a deflated stream is damaged: {error}") from error
        if len(content) != size:
            raise DamagedError("a deflated stream has another length than its field")
        return content

    def _pixels(self, tag: int, reference: int, size: int) -> bytes:
        """Returns the content of a plain or compressed element."""
        special = (tag | _SPECIAL, reference)
        if special in self._places:
            head = self._bytes(*special)
            if self._number(">H", head) == _IS_COMPRESSED:
                return self._inflated(head, size)
        content = self._stored(tag, reference)
        if len(content) != size:
            raise DamagedError(f"{len(content)} bytes of pixels instead of {size}")
        return content

    def metadata(self) -> dict[str, str]:
        """Returns the attributes with the structural and core metadata, by name.

        The library takes a second for twenty files, as it hands texts over by the character. An
        attribute is a table of one field, whose header ends with the table's name and class.
        """
        found = {}
        for tag, reference in self._places:
            if tag != _TABLE_HEADER:
                continue
            head = self._bytes(tag, reference)
            at = 10 + 8 * self._number(">H", head, 8)
            for _ in range(self._number(">H", head, 8)):
                at += 2 + self._number(">H", head, at)
            size = self._number(">H", head, at)
            name = head[at + 2 : at + 2 + size].decode("latin-1")
            if name.startswith(_METADATA):
                if name in found:
                    raise DamagedError(f"two attributes {name}")
                found[name] = self._stored(_TABLE, reference).decode("latin-1")
        return found

    def field(self, reference: int, kind: int, shape: Sequence[int]) -> tuple[bytes, str]:
        """Returns the pixels of a data set, as stored, and their byte order.

        Args:
            reference: The data set's.
            kind: Its HDF4 number type.
            shape: Rows and columns.
        """
        group = self._bytes(_GROUP, reference)
        members = [struct.unpack_from(">HH", group, at) for at in range(0, len(group) - 3, 4)]
        data = [number for tag, number in members if tag & ~_SPECIAL == _DATA]
        described = [number for tag, number in members if tag == _DIMENSIONS]
        if len(data) != 1 or len(described) != 1:
            raise DamagedError("the field has no pixels")
        dimensions = self._bytes(_DIMENSIONS, described[0])
        type_at = 2 + 4 * self._number(">H", dimensions)
        sides = [self._number(">i", dimensions, 2 + 4 * axis) for axis in range(len(shape))]
        if self._number(">H", dimensions) != len(shape) or sides != list(shape):
            raise DamagedError("the field's dimensions contradict each other")
        number_type = self._bytes(_NUMBER_TYPE, self._number(">H", dimensions, type_at + 2))
        _, code, bits, layout = number_type
        if code != kind or bits != 8 * _ITEM_BYTES[kind] or layout not in _BYTE_ORDERS:
            raise DamagedError(f"number type {number_type.hex()} is unknown")
        size = math.prod(shape) * _ITEM_BYTES[kind]
        special = (_DATA | _SPECIAL, data[0])
        chunked = special in self._places and (
            self._number(">H", self._bytes(*special)) == _IS_CHUNKED
        )
        if chunked:
            content = self._from_chunks(self._bytes(*special), shape, _ITEM_BYTES[kind])
        else:
            content = self._pixels(_DATA, data[0], size)
        return content, _BYTE_ORDERS[layout]

    def _from_chunks(self, head: bytes, shape: Sequence[int], item: int) -> bytes:
        """Puts the chunks of a field ``[H, W]`` together; all have to be there."""
        rank = self._number(">i", head, 31)
        if len(shape) != 2 or rank != 2 or self._number(">i", head, 19) != item:
            raise DamagedError("its chunks are not those of its field")
        sides = [self._number(">i", head, 35 + 12 * axis + 4) for axis in range(2)]
        (rows, columns) = (self._number(">i", head, 35 + 12 * axis + 8) for axis in range(2))
        size = rows * columns * item
        if sides != list(shape) or not (rows > 0 and columns > 0 and size <= FIELD_BYTES):
            raise DamagedError("its chunks have unusable sides")
        if self._number(">i", head, 15) != rows * columns:
            raise DamagedError("its chunks have another size than their sides tell")
        records = self._stored(_TABLE, self._number(">H", head, 25))
        across = -(-shape[1] // columns)
        expected = -(-shape[0] // rows) * across
        if len(records) // 12 < expected:
            raise DamagedError("chunks are missing")
        picture = bytearray(math.prod(shape) * item)
        line = shape[1] * item
        seen = set()
        for number in range(expected):
            row, column, tag, reference = struct.unpack_from(">iiHH", records, 12 * number)
            top, left = row * rows, column * columns
            inside = 0 <= top < shape[0] and 0 <= left < shape[1]
            if tag != _CHUNK or not inside or (row, column) in seen:
                raise DamagedError("its table of chunks is unusable")
            seen.add((row, column))
            content = self._pixels(_CHUNK, reference, size)
            wide = min(columns, shape[1] - left) * item
            for each in range(min(rows, shape[0] - top)):
                at = (top + each) * line + left * item
                start = each * columns * item
                picture[at : at + wide] = content[start : start + wide]
        return bytes(picture)


class Reader:
    """One HDF4 file at a time, by the library and by its elements."""

    def __init__(self) -> None:
        self._sd: Any = None
        self._elements: Elements | None = None
        self._content: mmap.mmap | None = None

    def answer(self, request: dict[str, Any]) -> tuple[dict[str, Any], bytes]:
        """Answers one request."""
        if request["do"] == "open":
            return self._open(request["path"]), b""
        if request["do"] == "attributes":
            return {"attributes": self._sd.attributes()}, b""
        if request["do"] == "read":
            return self._read(request["name"], request["shape"])
        self._close()
        return {}, b""

    def _open(self, path: str) -> dict[str, Any]:
        from pyhdf.SD import SD, SDC

        self._close()
        with open(path, "rb") as file:  # noqa: PTH123  (pathlib would cost time at each start)
            self._content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        self._elements = Elements(self._content)
        self._sd = SD(path, SDC.READ)
        fields = {}
        for name, (_, shape, kind, _) in self._sd.datasets().items():
            sides = [shape] if isinstance(shape, int) else list(shape)
            fields[name] = [sides, _TYPES.get(kind, f"HDF4 type {kind}")]
        return {"metadata": self._elements.metadata(), "fields": fields}

    def _read(self, name: str, shape: list[int]) -> tuple[dict[str, Any], bytes]:
        if self._elements is None:
            raise DamagedError("no file is open")
        dataset = self._sd.select(name)
        try:
            _, _, sides, kind, _ = dataset.info()
            attributes, reference = dataset.attributes(), int(dataset.ref())
        finally:
            dataset.endaccess()
        if sides != shape or kind not in _TYPES:
            raise DamagedError(f"the field's shape or type changed: {sides}, {kind}")
        if math.prod(sides) * _ITEM_BYTES[kind] > FIELD_BYTES:
            raise DamagedError("the field is too large")
        content, order = self._elements.field(reference, kind, sides)
        return {"attributes": attributes, "dtype": _TYPES[kind], "order": order}, content

    def _close(self) -> None:
        if self._sd is not None:
            self._sd.end()
        self._sd = self._elements = None
        if self._content is not None:
            self._content.close()
            self._content = None


def _limit(memory_bytes: int) -> None:
    """Limits memory where the system can, and leaves no core dump."""
    with contextlib.suppress(ImportError, ValueError, OSError):
        import resource

        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))


def _wait_for_request(requests: BinaryIO, parent: int) -> bytes:
    """Returns the next line; empty if the parent has ended, however it did."""
    while not select.select([requests], [], [], _PARENT_CHECK_SECONDS)[0]:
        if os.getppid() != parent:
            return b""
    return requests.readline()


def serve(memory_bytes: int, limit_s: float) -> None:
    """Answers requests until there are no more, or the parent has ended."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides what an interrupt ends
    signal.signal(signal.SIGALRM, signal.SIG_DFL)
    requests, answers = os.fdopen(os.dup(0), "rb", buffering=0), os.fdopen(os.dup(1), "wb")
    # What the library prints must not get among the answers.
    with open(os.devnull, "r+b") as nowhere:  # noqa: PTH123
        for stream in (0, 1, 2):
            os.dup2(nowhere.fileno(), stream)
    from pyhdf.error import HDF4Error

    _limit(memory_bytes)
    reader, parent = Reader(), os.getppid()
    while line := _wait_for_request(requests, parent):
        # The alarm ends this process even where the library loops and the parent has gone.
        signal.setitimer(signal.ITIMER_REAL, limit_s)
        content = b""
        try:
            answer, content = reader.answer(json.loads(line))
        except DamagedError as error:
            answer = {"error": str(error), "certain": True}
        except HDF4Error as error:
            answer = {"error": str(error)}
        except Exception as error:
            answer = {"error": f"{type(error).__name__}: {error}"}
        text = json.dumps({**answer, "bytes": len(content)}).encode()
        if len(text) > ATTRIBUTE_BYTES:
            content, text = b"", b'{"error": "too many attributes", "certain": true, "bytes": 0}'
        answers.write(text + b"\n")
        answers.write(content)
        answers.flush()
        signal.setitimer(signal.ITIMER_REAL, 0)


if __name__ == "__main__":
    sys.path[:] = json.loads(sys.argv[1])
    serve(int(sys.argv[2]), float(sys.argv[3]))
