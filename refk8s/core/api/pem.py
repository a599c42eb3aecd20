"""Certificates in PEM, as far as objects have them. Rules VAL-70, CRD-29.

The outer structure of a certificate is examined, and not the rest: the core has no library for it.
Source: RFC 7468; X.690 (DER).
"""

import binascii
import re
from base64 import b64decode

CERTIFICATE = "CERTIFICATE"
_BEGIN = re.compile(r"-----BEGIN ([^\n-]{0,64})-----[ \t]*\r?\n")
_END = "-----END "


def read_blocks(text: str) -> list[tuple[str, str]]:
    """The label and the content of each block. O(length of the text), also if no block ends."""
    found = []
    after = end = 0
    for begin in _BEGIN.finditer(text):
        if begin.start() < after:
            continue
        if end < begin.end():
            end = text.find(_END, begin.end())
        if end < 0:
            break
        last = f"{_END}{begin[1]}-----"
        if text.startswith(last, end):
            found.append((begin[1], text[begin.end() : end]))
            after = end + len(last)
    return found


def decode_block(content: str) -> bytes | None:
    """The bytes of a block; None if they are not base64."""
    try:
        return b64decode("".join(content.split()), validate=True)
    except (binascii.Error, ValueError):
        return None


def is_sequence(der: bytes) -> bool:
    """Whether these bytes are one SEQUENCE of DER, as a certificate is."""
    if len(der) < 4 or der[0] != 0x30:
        return False
    if not der[1] & 0x80:
        return len(der) == 2 + der[1]
    count = der[1] & 0x7F
    return 1 <= count <= 4 and len(der) == 2 + count + int.from_bytes(der[2 : 2 + count], "big")


def problem_of_bundle(bundle: str | None) -> str:
    """Why a `caBundle`, PEM in base64, has no authority to trust (CRD-29); empty if it has one, or
    is empty itself."""
    if not bundle:
        return ""
    blocks = read_blocks((decode_block(bundle) or b"").decode("latin-1"))
    contents = [decode_block(content) for label, content in blocks if label == CERTIFICATE]
    if any(der is not None and is_sequence(der) for der in contents):
        return ""
    if not blocks:
        return "unable to load root certificates: unable to parse bytes as PEM block"
    if contents:
        return "unable to load root certificates: failed to parse certificate"
    return "unable to load root certificates: no valid certificate authority data seen"
