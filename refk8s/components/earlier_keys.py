"""Keys that signed tokens of service accounts before the one that signs them now. Rule HTTP-30
(spec/http.md).

Nothing of it is loaded without `--service-account-key-file`.
"""

import base64
from collections.abc import Iterable
from functools import partial
from hashlib import sha256
from typing import Any

from refk8s.components.files import FILE_BYTES_MAX, CannotRun, read_bounded
from refk8s.components.token_signer import is_es256, is_rs256
from refk8s.core.api.pem import read_blocks
from refk8s.core.apiserver.token_key import COORDINATE_BYTES, PublicKey

FLAG = "--service-account-key-file"
KEYS_MAX = 32
RSA_BITS_MIN = 2048


def read_earlier_keys(paths: Iterable[str]) -> tuple[PublicKey, ...]:
    """The keys in these files: private or public ones in PEM, one or several in a file. Raises
    CannotRun."""
    found: dict[str, PublicKey] = {}
    for path in paths:
        text = read_bounded(path, FLAG, FILE_BYTES_MAX).decode("ascii", "replace")
        blocks = read_blocks(text)
        if not blocks:
            raise CannotRun(f"{FLAG} {path}: no keys in PEM")
        for label, content in blocks:
            try:
                key = _read_key(label, content)
            except Exception as error:  # the library raises errors of many types
                words = str(error) if isinstance(error, ValueError) else type(error).__name__
                raise CannotRun(f"{FLAG} {path}: not a key that verifies tokens: {words}") from None
            found[key.id] = key
    if len(found) > KEYS_MAX:
        raise CannotRun(f"{FLAG}: more than {KEYS_MAX} keys")
    return tuple(found.values())


def _read_key(label: str, content: str) -> PublicKey:
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec, rsa

    pem = f"-----BEGIN {label}-----\n{content}-----END {label}-----\n".encode()
    public: Any = (
        serialization.load_pem_private_key(pem, None).public_key()
        if "PRIVATE" in label
        else serialization.load_pem_public_key(pem)
    )
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    id = _encoded(sha256(public.public_bytes(serialization.Encoding.DER, form)).digest())
    numbers = public.public_numbers()
    if isinstance(public, rsa.RSAPublicKey):
        if not RSA_BITS_MIN <= public.key_size <= 8 * 1024:
            raise ValueError(f"an RSA key of {public.key_size} bits")
        members = {"kty": "RSA", "n": _number(numbers.n), "e": _number(numbers.e)}
        return PublicKey(id, "RS256", tuple(members.items()), partial(is_rs256, public))
    if isinstance(public, ec.EllipticCurvePublicKey) and public.curve.name == "secp256r1":
        members = {
            "kty": "EC",
            "crv": "P-256",
            "x": _encoded(numbers.x.to_bytes(COORDINATE_BYTES, "big")),
            "y": _encoded(numbers.y.to_bytes(COORDINATE_BYTES, "big")),
        }
        return PublicKey(id, "ES256", tuple(members.items()), partial(is_es256, public))
    raise ValueError("neither RSA nor EC on P-256")


def _number(number: int) -> str:
    return _encoded(number.to_bytes((number.bit_length() + 7) // 8, "big"))


def _encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
