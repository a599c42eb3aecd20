"""Reads certificate requests (PKCS #10) from PEM: the names in their subject, and the other names
that they ask for.

A small parser of DER, the encoding of ASN.1 that certificates use. Every step consumes bytes of a
bounded text, so hostile input costs time in proportion to its length. Signatures and keys are
checked by signers, not here. Source: RFC 2986 (PKCS #10), RFC 2985 (extensionRequest), RFC 5280
(subjectAltName), RFC 7468 (PEM), ITU-T X.690 (DER).
"""

import binascii
from base64 import b64decode
from ipaddress import ip_address

from refk8s.core.value import Value

_INTEGER, _BIT_STRING, _OID, _SEQUENCE, _SET, _ATTRIBUTES = 0x02, 0x03, 0x06, 0x30, 0x31, 0xA0
_COMMON_NAME = bytes((0x55, 0x04, 0x03))  # the object identifier 2.5.4.3
_ORGANIZATION = bytes((0x55, 0x04, 0x0A))  # the object identifier 2.5.4.10
_EXTENSION_REQUEST = bytes.fromhex("2a864886f70d01090e")  # 1.2.840.113549.1.9.14
_ALTERNATIVE_NAMES = bytes((0x55, 0x1D, 0x11))  # 2.5.29.17
_BOOLEAN, _OCTETS = 0x01, 0x04
_EMAIL, _DNS, _URI, _IP = 0x81, 0x82, 0x86, 0x87  # the kinds of GeneralName, by their tags
_TEXTS = {0x0C: "utf-8", 0x13: "ascii", 0x16: "ascii"}
"""How a UTF8String, a PrintableString and an IA5String are decoded."""
_BEGIN, _END, _DASHES = b"-----BEGIN ", b"-----END ", b"-----"
WRONG_BLOCK = "PEM block type must be CERTIFICATE REQUEST"


class CertificateRequest(Value, frozen=True):
    """The names that a request asks for. An authority takes the names of the certificate from here,
    and so issues none that were not examined.

    `common_names`: usually one. `problem`: why its names are not to be used, if they are not.
    """

    organizations: tuple[str, ...]
    common_names: tuple[str, ...] = ()
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()
    problem: str = ""

    @property
    def has_alternative_names(self) -> bool:
        return bool(self.dns_names or self.ip_addresses or self.emails or self.uris)


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
    attributes = _take(info, _ATTRIBUTES)[0] if info else b""
    algorithm, bits = _take(key, _SEQUENCE)
    _take(algorithm, _OID)
    _take(bits, _BIT_STRING)
    return _named(subject, attributes)


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


def _named(subject: bytes, attributes: bytes) -> CertificateRequest:
    """The names of the subject, and the other names."""
    problems: list[str] = []
    organizations: list[str] = []
    common_names: list[str] = []
    for kind, value in _pairs(subject):
        if kind in (_ORGANIZATION, _COMMON_NAME) and value:
            content, _ = _take(value, value[0])
            text = content.decode("utf-8", "replace")
            if not _is_text(content, _TEXTS.get(value[0], "")):
                problems.append("its subject has a name that is not printable text")
            (organizations if kind == _ORGANIZATION else common_names).append(text)
    found: dict[int, list[str]] = {_EMAIL: [], _DNS: [], _URI: [], _IP: []}
    try:
        for tag, content in _alternative_names(attributes):
            if tag not in found:
                problems.append("its subjectAltName has names of another kind")
            elif tag == _IP:
                found[tag].append(str(ip_address(content)))
            elif _is_text(content, "ascii"):
                found[tag].append(content.decode("ascii"))
            else:
                problems.append("its subjectAltName has a name that is not printable text")
    except ValueError as error:
        problems.append(f"its extensions cannot be read: {error}")
    return CertificateRequest(
        tuple(organizations),
        tuple(common_names),
        tuple(found[_DNS]),
        tuple(found[_IP]),
        tuple(found[_EMAIL]),
        tuple(found[_URI]),
        problems[0] if problems else "",
    )


def _is_text(content: bytes, encoding: str) -> bool:
    try:
        return bool(encoding) and bool(content) and content.decode(encoding).isprintable()
    except UnicodeDecodeError:
        return False


def _pairs(name: bytes) -> list[tuple[bytes, bytes]]:
    """(object identifier, value) of each attribute of a name."""
    found = []
    while name:
        group, name = _take(name, _SET)
        while group:
            pair, group = _take(group, _SEQUENCE)
            found.append(_take(pair, _OID))
    return found


def _alternative_names(attributes: bytes) -> list[tuple[int, bytes]]:
    """(tag, content) of each name in each requested extension subjectAltName."""
    found = []
    while attributes:
        attribute, attributes = _take(attributes, _SEQUENCE)
        kind, values = _take(attribute, _OID)
        if kind != _EXTENSION_REQUEST:
            continue
        values, _ = _take(values, _SET)
        while values:
            extensions, values = _take(values, _SEQUENCE)
            while extensions:
                extension, extensions = _take(extensions, _SEQUENCE)
                which, rest = _take(extension, _OID)
                if rest[:1] == bytes((_BOOLEAN,)):
                    _, rest = _take(rest, _BOOLEAN)
                content, _ = _take(rest, _OCTETS)
                if which == _ALTERNATIVE_NAMES:
                    names, _ = _take(content, _SEQUENCE)
                    while names:
                        tag = names[0]
                        name, names = _take(names, tag)
                        found.append((tag, name))
    return found
