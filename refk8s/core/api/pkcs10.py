"""Reads certificate requests (PKCS #10) from PEM, as far as an API server needs it: whether a text
is one, and the organizations of its subject.

A small parser of DER, the encoding of ASN.1 that certificates use. Every step consumes bytes of a
bounded text, so hostile input costs time in proportion to its length. Signatures and keys are
checked by signers, not here. Source: RFC 2986 (PKCS #10), RFC 7468 (PEM), ITU-T X.690 (DER).
"""

import binascii
from base64 import b64decode

from refk8s.core.value import Value

_INTEGER, _BIT_STRING, _OID, _SEQUENCE, _SET, _ATTRIBUTES = 0x02, 0x03, 0x06, 0x30, 0x31, 0xA0
_ORGANIZATION = bytes((0x55, 0x04, 0x0A))  # the object identifier 2.5.4.10
_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
WRONG_BLOCK = "PEM block type must be CERTIFICATE REQUEST"


class CertificateRequest(Value, frozen=True):
    """The fields of a request's subject."""

    organizations: tuple[str, ...]


class NotPkcs10(ValueError):
    """The bytes are not a certificate request; the message has the reason."""


def read_request(text: str) -> CertificateRequest:
    """The request in `text`, which is a PEM file in base64. Raises NoRequest if there is none.
    O(length)."""
    try:
        pem = b64decode(text)
    except (binascii.Error, ValueError):
        raise NotPkcs10(WRONG_BLOCK) from None
    label, der = _block(pem)
    if label != b"CERTIFICATE REQUEST":
        raise NotPkcs10(WRONG_BLOCK)
    body, rest = _take(der, _SEQUENCE)
    if rest:
        raise NotPkcs10("asn1: syntax error: trailing data")
    info, signed = _take(body, _SEQUENCE)
    _, signature = _take(signed, _SEQUENCE)
    _take(signature, _BIT_STRING)
    _, info = _take(info, _INTEGER)
    subject, info = _take(info, _SEQUENCE)
    key, info = _take(info, _SEQUENCE)
    if info:
        _take(info, _ATTRIBUTES)
    algorithm, bits = _take(key, _SEQUENCE)
    _take(algorithm, _OID)
    _take(bits, _BIT_STRING)
    return CertificateRequest(_organizations(subject))


def _block(pem: bytes) -> tuple[bytes, bytes]:
    """The label and the bytes of the first PEM block; the label is empty if there is no block."""
    begin = pem.find(_BEGIN)
    line, newline, rest = (
        pem[begin + len(_BEGIN) :].partition(b"\n") if begin >= 0 else (b"", b"", b"")
    )
    line = line.rstrip()
    if not newline or not line.endswith(_DASHES):
        return b"", b""
    label = line[: -len(_DASHES)]
    body, end, _ = rest.partition(_END + label + _DASHES)
    headers, blank, content = body.partition(b"\n\n")
    try:
        der = b64decode(
            b"".join((content if blank and b":" in headers else body).split()), validate=True
        )
    except (binascii.Error, ValueError):
        return b"", b""
    return (label, der) if end else (b"", b"")


def _take(der: bytes, tag: int) -> tuple[bytes, bytes]:
    """The content of the first element, which must have this tag, and the bytes after it."""
    if len(der) < 2 or der[0] != tag:
        raise NotPkcs10("asn1: structure error: tags don't match")
    length, begin = der[1], 2
    if length & 0x80:
        begin = 2 + (length & 0x7F)
        if not 3 <= begin <= 6 or len(der) < begin:
            raise NotPkcs10("asn1: structure error: length too large")
        length = int.from_bytes(der[2:begin], "big")
    if len(der) < begin + length:
        raise NotPkcs10("asn1: syntax error: data truncated")
    return der[begin : begin + length], der[begin + length :]


def _organizations(subject: bytes) -> tuple[str, ...]:
    """The values of every attribute `organizationName` of a name."""
    found: list[str] = []
    while subject:
        group, subject = _take(subject, _SET)
        while group:
            pair, group = _take(group, _SEQUENCE)
            kind, value = _take(pair, _OID)
            if kind == _ORGANIZATION and value:
                content, _ = _take(value, value[0])
                found.append(content.decode("utf-8", "replace"))
    return tuple(found)
