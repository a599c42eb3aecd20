"""The key that signs tokens of service accounts: RSA, as JSON Web Signature's RS256. Rules HTTP-19,
API-16.

Verifying needs only the public numbers and is done here. Signing here is plain arithmetic whose
time depends on the key: it is for tests and simulations. A running cluster hands in a signer that
hides its time (`Config.sign`). Source: RFC 7515, 7517 and 7518; RFC 8017 (PKCS #1); RFC 5208 (PKCS
#8).
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from functools import lru_cache
from typing import Any, Final

from refk8s.core.value import Value

ALGORITHM: Final = "RS256"
BITS_MIN: Final = 512  # of a test; the keys of running clusters have 2,048
_SHA256: Final = bytes.fromhex("3031300d060960864801650304020105000420")
# the algorithm's identifier, rsaEncryption
_RSA: Final = bytes.fromhex("300d06092a864886f70d0101010500")


class BadKey(ValueError):
    """The text is no RSA private key that can be used."""


class TokenKey(Value, frozen=True):
    """An RSA key by its numbers: the product of two primes, and two exponents."""

    p: int
    q: int
    exponent: int
    private_exponent: int

    @property
    def modulus(self) -> int:
        return self.p * self.q

    @property
    def length(self) -> int:
        """Of a signature, in bytes."""
        return (self.modulus.bit_length() + 7) // 8


def parse_key(pem: bytes) -> TokenKey:
    """The key in a PEM file, PKCS #8 or PKCS #1. BadKey for what is damaged, is of another kind, or
    does not fit together."""
    lines = pem.decode("ascii", "replace").strip().splitlines()
    labels = {"-----BEGIN PRIVATE KEY-----": True, "-----BEGIN RSA PRIVATE KEY-----": False}
    if len(lines) < 3 or lines[0] not in labels or lines[-1] != lines[0].replace("BEGIN", "END"):
        raise BadKey("no RSA private key in PEM form")
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
        if labels[lines[0]]:
            _, algorithm, wrapped = _sequence(der)
            if _RSA[2:13] not in algorithm:
                raise BadKey("a key of another kind than RSA")
            der = wrapped
        _, modulus, exponent, private_exponent, p, q = (
            int.from_bytes(part, "big") for part in _sequence(der)[:6]
        )
    except (binascii.Error, IndexError, ValueError) as error:
        raise BadKey(str(error) if isinstance(error, BadKey) else "damaged") from None
    if (
        p * q != modulus
        or p < 2
        or q < 2
        or any((exponent * private_exponent - 1) % (prime - 1) for prime in (p, q))
    ):
        raise BadKey("its numbers do not fit together")
    if modulus.bit_length() < BITS_MIN or modulus.bit_length() > 8_192:
        raise BadKey(f"{modulus.bit_length()} bits long")
    return TokenKey(p, q, exponent, private_exponent)


def _sequence(der: bytes) -> list[bytes]:
    """The contents of the elements of a DER sequence. ValueError for what is none."""
    tag, body, rest = _element(der)
    if tag != 0x30 or rest:
        raise ValueError("no sequence")
    found = []
    while body:
        _, content, body = _element(body)
        found.append(content)
    return found


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """(tag, content, what follows) of the first DER element."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[2 : 2 + count], "big"), 2 + count
    if len(der) < start + length:
        raise ValueError("cut off")
    return tag, der[start : start + length], der[start + length :]


def sign_plainly(key: TokenKey, data: bytes) -> bytes:
    """The signature of the data, in a time that depends on the key: not for running clusters."""
    number = pow(int.from_bytes(_padded(key, data), "big"), key.private_exponent, key.modulus)
    return number.to_bytes(key.length, "big")


def is_signed(key: TokenKey, data: bytes, signature: bytes) -> bool:
    """Whether this key made this signature of this data. Nothing secret is compared."""
    number, modulus = int.from_bytes(signature, "big"), key.modulus
    if len(signature) != key.length or number >= modulus:
        return False
    return pow(number, key.exponent, modulus).to_bytes(key.length, "big") == _padded(key, data)


def _padded(key: TokenKey, data: bytes) -> bytes:
    digest = _SHA256 + hashlib.sha256(data).digest()
    return b"\x00\x01" + b"\xff" * (key.length - len(digest) - 3) + b"\x00" + digest


@lru_cache(maxsize=8)
def key_id(key: TokenKey) -> str:
    """The name of the key: the hash of its public part, as in Kubernetes."""
    public = _tagged(0x30, _integer(key.modulus) + _integer(key.exponent))
    info = _tagged(0x30, _RSA + _tagged(0x03, b"\x00" + public))
    return _encoded(hashlib.sha256(info).digest())


def key_set(key: TokenKey) -> dict[str, Any]:
    """The JSON Web Key Set in which others find the public key."""
    numbers = {
        "n": _encoded(key.modulus.to_bytes(key.length, "big")),
        "e": _encoded(key.exponent.to_bytes(3, "big").lstrip(b"\0")),
    }
    return {"keys": [{"use": "sig", "kty": "RSA", "kid": key_id(key), "alg": ALGORITHM, **numbers}]}


def _integer(number: int) -> bytes:
    return _tagged(0x02, number.to_bytes(number.bit_length() // 8 + 1, "big"))


def _tagged(tag: int, content: bytes) -> bytes:
    length = len(content)
    if length < 0x80:
        return bytes((tag, length)) + content
    digits = length.to_bytes((length.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(digits))) + digits + content


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
