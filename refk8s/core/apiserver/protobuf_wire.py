"""The protobuf wire format: varints, tags and lengths. Rules PROTO-3, PROTO-4 (spec/protobuf.md).

Source: Protocol Buffers documentation, "Encoding". Left out: groups, which no Kubernetes message
has.
"""

import struct
from collections.abc import Iterator

VARINT, FIXED64, LENGTH, FIXED32 = 0, 1, 2, 5
_FIXED_SIZE = {FIXED64: 8, FIXED32: 4}


class Malformed(ValueError):
    """The bytes are not such a message."""


def read_fields(data: memoryview) -> Iterator[tuple[int, int, int | memoryview]]:
    """The fields of a message in order: number, wire type, and the value: an int for a varint, else
    its bytes."""
    position, end = 0, len(data)
    while position < end:
        tag, position = read_varint(data, position)
        number, wire = tag >> 3, tag & 7
        if number == 0:
            raise Malformed("field number 0")
        if wire == VARINT:
            value, position = read_varint(data, position)
            yield number, wire, value
            continue
        if wire == LENGTH:
            size, position = read_varint(data, position)
        elif wire in _FIXED_SIZE:
            size = _FIXED_SIZE[wire]
        else:
            raise Malformed(f"wire type {wire}")
        if size > end - position:
            raise Malformed("unexpected end")
        yield number, wire, data[position : position + size]
        position += size


def read_varint(data: memoryview, position: int) -> tuple[int, int]:
    """An unsigned number of at most 64 bits at `position`, and the position after it."""
    result = shift = 0
    end = min(len(data), position + 10)
    while position < end:
        byte = data[position]
        position += 1
        result |= (byte & 0x7F) << shift
        if byte < 0x80:
            if result >> 64:
                raise Malformed("varint of more than 64 bits")
            return result, position
        shift += 7
    raise Malformed("unexpected end or overlong varint")


def signed(value: int, bits: int) -> int:
    """The number, of this many bits in two's complement, of a varint."""
    value &= (1 << bits) - 1
    return value - (1 << bits) if value >> (bits - 1) else value


def read_double(data: memoryview) -> float:
    return float(struct.unpack("<d", data)[0])


def varint(value: int) -> bytes:
    """A number as a varint; a negative one as its 64-bit two's complement."""
    value &= (1 << 64) - 1
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def varint_field(number: int, value: int) -> bytes:
    return varint(number << 3 | VARINT) + varint(value)


def bytes_field(number: int, value: bytes) -> bytes:
    return varint(number << 3 | LENGTH) + varint(len(value)) + value


def double_field(number: int, value: float) -> bytes:
    return varint(number << 3 | FIXED64) + struct.pack("<d", value)
