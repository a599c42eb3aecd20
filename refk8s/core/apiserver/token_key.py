"""The key that signs tokens of service accounts, and its algorithm in JSON Web Signature: ES256 for
an elliptic curve key on P-256, RS256 for an RSA key. Rules HTTP-19, API-16, HOST-6.

In a running cluster a library signs and verifies (`Config.sign`, `Config.verify`), which is fast
and takes constant time. This file has only the plain arithmetic of RSA, for tests and simulations,
whose signatures must be the same in every run. Source: RFC 7515, 7517 and 7518; RFC 8017 (PKCS #1);
RFC 5208 (PKCS #8); RFC 5915 (elliptic curve keys). Left out: other curves.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable, Iterable
from functools import lru_cache
from typing import Any, Final

from refk8s.core.apiserver.p256 import ORDER, public_point
from refk8s.core.value import Value

BITS_MIN: Final = 512  # of a test; RSA keys of running clusters have 2,048
COORDINATE_BYTES: Final = 32
_SHA256: Final = bytes.fromhex("3031300d060960864801650304020105000420")
# the identifiers of the algorithms: rsaEncryption, and ecPublicKey on P-256 (two elements)
_RSA: Final = bytes.fromhex("300d06092a864886f70d0101010500")
_P256: Final = bytes.fromhex("06082a8648ce3d030107")
_EC: Final = bytes.fromhex("06072a8648ce3d0201") + _P256


class BadKey(ValueError):
    """The text is not a private key that can sign tokens."""


class RsaKey(Value, frozen=True):
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
        """The length of a signature in bytes."""
        return (self.modulus.bit_length() + 7) // 8


class EcKey(Value, frozen=True):
    """A key on the curve P-256: the private number, and the public point, which follows from it."""

    private: int
    x: int
    y: int


TokenKey = RsaKey | EcKey


class PublicKey(Value, frozen=True, eq=False):
    """A key that only verifies tokens (HTTP-30): its id, its algorithm, its members in a JSON Web
    Key, and whether (data, signature) match."""

    id: str
    algorithm: str
    members: tuple[tuple[str, str], ...]
    verify: Callable[[bytes, bytes], bool]


def algorithm(key: TokenKey) -> str:
    """Its name in the header of a token: the key decides, as in Kubernetes."""
    return "ES256" if isinstance(key, EcKey) else "RS256"


def parse_key(pem: bytes) -> TokenKey:
    """The key in a PEM file: PKCS #8, PKCS #1 (RSA) or SEC 1 (EC). Raises BadKey for a damaged,
    unsupported or inconsistent one."""
    lines = pem.decode("ascii", "replace").strip().splitlines()
    if len(lines) < 3 or lines[-1] != lines[0].replace("BEGIN", "END"):
        raise BadKey("no private key in PEM form")
    try:
        der = base64.b64decode("".join(lines[1:-1]), validate=True)
        match lines[0]:
            case "-----BEGIN PRIVATE KEY-----":
                _, kind, wrapped = _sequence(der)[:3]
                if kind == _EC:
                    return _ec_key(wrapped)
                if _RSA[2:13] in kind:
                    return _rsa_key(wrapped)
                raise BadKey("a key of another kind than RSA or EC on P-256")
            case "-----BEGIN RSA PRIVATE KEY-----":
                return _rsa_key(der)
            case "-----BEGIN EC PRIVATE KEY-----":
                if _P256 not in _sequence(der)[2:3]:
                    raise BadKey("a key of another curve than P-256")
                return _ec_key(der)
            case _:
                raise BadKey("no private key in PEM form")
    except (binascii.Error, IndexError, ValueError) as error:
        raise BadKey(str(error) if isinstance(error, BadKey) else "damaged") from None


def _rsa_key(der: bytes) -> RsaKey:
    """A key from PKCS #1. Raises ValueError or IndexError for other bytes."""
    _, modulus, exponent, private_exponent, p, q = (
        int.from_bytes(part, "big") for part in _sequence(der)[:6]
    )
    if (
        p * q != modulus
        or p < 2
        or q < 2
        or any((exponent * private_exponent - 1) % (prime - 1) for prime in (p, q))
    ):
        raise BadKey("its numbers do not fit together")
    if modulus.bit_length() < BITS_MIN or modulus.bit_length() > 8_192:
        raise BadKey(f"{modulus.bit_length()} bits long")
    return RsaKey(p, q, exponent, private_exponent)


def _ec_key(der: bytes) -> EcKey:
    """A key from SEC 1. The public point is required, because damage could not be detected without
    it. Raises ValueError or IndexError for other bytes."""
    parts = _sequence(der)
    private, point = int.from_bytes(parts[1], "big"), _element(parts[-1])[1]
    if not 0 < private < ORDER or len(point) != 2 + 2 * COORDINATE_BYTES or point[:2] != b"\0\x04":
        raise BadKey("its numbers do not fit together")
    x, y = (
        int.from_bytes(half, "big")
        for half in (point[2 : 2 + COORDINATE_BYTES], point[2 + COORDINATE_BYTES :])
    )
    if (x, y) != public_point(private):
        raise BadKey("its numbers do not fit together")
    return EcKey(private, x, y)


def _sequence(der: bytes) -> list[bytes]:
    """The contents of the elements of a DER sequence. Raises ValueError for other bytes."""
    tag, body, rest = _element(der)
    if tag != 0x30 or rest:
        raise ValueError("no sequence")
    found = []
    while body:
        _, content, body = _element(body)
        found.append(content)
    return found


def _element(der: bytes) -> tuple[int, bytes, bytes]:
    """(tag, content, the bytes after it) of the first DER element."""
    tag, length, start = der[0], der[1], 2
    if length & 0x80:
        count = length & 0x7F
        length, start = int.from_bytes(der[2 : 2 + count], "big"), 2 + count
    if len(der) < start + length:
        raise ValueError("cut off")
    return tag, der[start : start + length], der[start + length :]


def sign_plainly(key: RsaKey, data: bytes) -> bytes:
    """The signature of the data. Its time depends on the key, so it is not for running clusters."""
    number = pow(int.from_bytes(_padded(key, data), "big"), key.private_exponent, key.modulus)
    return number.to_bytes(key.length, "big")


def is_signed(key: RsaKey, data: bytes, signature: bytes) -> bool:
    """Whether this key made this signature of this data. Only public values are compared."""
    number, modulus = int.from_bytes(signature, "big"), key.modulus
    if len(signature) != key.length or number >= modulus:
        return False
    return pow(number, key.exponent, modulus).to_bytes(key.length, "big") == _padded(key, data)


def _padded(key: RsaKey, data: bytes) -> bytes:
    digest = _SHA256 + hashlib.sha256(data).digest()
    return b"\x00\x01" + b"\xff" * (key.length - len(digest) - 3) + b"\x00" + digest


@lru_cache(maxsize=8)
def key_id(key: TokenKey) -> str:
    """The key id: the hash of the public key, as in Kubernetes."""
    if isinstance(key, EcKey):
        kind, public = _tagged(0x30, _EC), b"\x04" + _coordinate(key.x) + _coordinate(key.y)
    else:
        kind = _RSA
        public = _tagged(0x30, _integer(key.modulus) + _integer(key.exponent))
    info = _tagged(0x30, kind + _tagged(0x03, b"\x00" + public))
    return _encoded(hashlib.sha256(info).digest())


def key_set(key: TokenKey, earlier: Iterable[PublicKey] = ()) -> dict[str, Any]:
    """The JSON Web Key Set with the public key, and those of earlier tokens."""
    numbers: dict[str, str]
    if isinstance(key, EcKey):
        kind = "EC"
        numbers = {
            "crv": "P-256",
            "x": _encoded(_coordinate(key.x)),
            "y": _encoded(_coordinate(key.y)),
        }
    else:
        kind = "RSA"
        numbers = {
            "n": _encoded(key.modulus.to_bytes(key.length, "big")),
            "e": _encoded(key.exponent.to_bytes(3, "big").lstrip(b"\0")),
        }
    members = {"use": "sig", "kty": kind, "kid": key_id(key), "alg": algorithm(key)}
    others = [
        {"use": "sig", "kid": one.id, "alg": one.algorithm, **dict(one.members)} for one in earlier
    ]
    return {"keys": [members | numbers, *others]}


def _coordinate(number: int) -> bytes:
    return number.to_bytes(COORDINATE_BYTES, "big")


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
