"""Signs and verifies tokens of service accounts with the cryptography library. Rule HTTP-19.

Importing the library takes 50 ms, so it is imported with the first token and not at start.
"""

from functools import cached_property
from typing import TYPE_CHECKING, Any

from refk8s.core.apiserver.token_key import COORDINATE_BYTES, EcKey, RsaKey, TokenKey

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ec import (
        EllipticCurvePrivateKey,
        EllipticCurvePublicKey,
    )
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey, RSAPublicKey


def token_signer(key: TokenKey) -> "Es256 | Rs256":
    """The signer and verifier for this key."""
    return Es256(key) if isinstance(key, EcKey) else Rs256(key)


class Es256:
    """A signature is two numbers of 32 bytes each, one after the other (RFC 7518, 3.4)."""

    def __init__(self, key: EcKey) -> None:
        self._numbers = key

    def sign(self, data: bytes) -> bytes:
        key, algorithm, utils = self._loaded
        pair = utils.decode_dss_signature(key.sign(data, algorithm))
        return b"".join([number.to_bytes(COORDINATE_BYTES, "big") for number in pair])

    def verify(self, data: bytes, signature: bytes) -> bool:
        return is_es256(self._loaded[0].public_key(), data, signature)

    @cached_property
    def _loaded(self) -> "tuple[EllipticCurvePrivateKey, Any, Any]":
        from cryptography.hazmat.primitives.asymmetric import ec, utils
        from cryptography.hazmat.primitives.hashes import SHA256

        public = ec.EllipticCurvePublicNumbers(self._numbers.x, self._numbers.y, ec.SECP256R1())
        numbers = ec.EllipticCurvePrivateNumbers(self._numbers.private, public)
        return numbers.private_key(), ec.ECDSA(SHA256()), utils


class Rs256:
    """A signature of PKCS #1, as by the data directories of earlier versions (RFC 7518, 3.3)."""

    def __init__(self, key: RsaKey) -> None:
        self._numbers = key

    def sign(self, data: bytes) -> bytes:
        key, padding, digest = self._loaded
        return key.sign(data, padding, digest)

    def verify(self, data: bytes, signature: bytes) -> bool:
        return is_rs256(self._loaded[0].public_key(), data, signature)

    @cached_property
    def _loaded(self) -> "tuple[RSAPrivateKey, Any, Any]":
        from cryptography.hazmat.primitives.asymmetric import rsa
        from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
        from cryptography.hazmat.primitives.hashes import SHA256

        own, d = self._numbers, self._numbers.private_exponent
        public = rsa.RSAPublicNumbers(own.exponent, own.modulus)
        numbers = rsa.RSAPrivateNumbers(
            own.p, own.q, d, d % (own.p - 1), d % (own.q - 1), pow(own.q, -1, own.p), public
        )
        # parse_key has checked them
        return numbers.private_key(unsafe_skip_rsa_key_validation=True), PKCS1v15(), SHA256()


def is_es256(public: "EllipticCurvePublicKey", data: bytes, signature: bytes) -> bool:
    """Whether the private key to this one has made this signature of the data."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric import ec, utils
    from cryptography.hazmat.primitives.hashes import SHA256

    if len(signature) != 2 * COORDINATE_BYTES:
        return False
    r, s = signature[:COORDINATE_BYTES], signature[COORDINATE_BYTES:]
    pair = utils.encode_dss_signature(int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    try:
        public.verify(pair, data, ec.ECDSA(SHA256()))
    except InvalidSignature:
        return False
    return True


def is_rs256(public: "RSAPublicKey", data: bytes, signature: bytes) -> bool:
    """The same with RSA."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    try:
        public.verify(signature, data, PKCS1v15(), SHA256())
    except InvalidSignature:
        return False
    return True
