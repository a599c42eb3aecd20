"""The keys of other issuers of tokens, over HTTPS. Rules OIDC-2, OIDC-4 (spec/oidc.md).

Keys are fetched when the server starts, and again when a token is refused, since the issuer may
have new ones; at most once in `AGAIN_SECONDS`. What was verified is remembered until the keys
change.
"""

import asyncio
import json
import logging
import ssl
import time
import urllib.request
from base64 import urlsafe_b64decode
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from refk8s.core.apiserver.oidc.issuers import Issuer, Trusted

log = logging.getLogger("refk8s")

AGAIN_SECONDS: Final = 10.0
TIMEOUT_SECONDS: Final = 10.0
DOCUMENT_BYTES_MAX: Final = 1 << 20
KEYS_MAX: Final = 256
REMEMBERED_MAX: Final = 4096
RSA_BITS_MIN: Final = 2048

Verify = Callable[[bytes, bytes], None]
"""(signature, data): raises InvalidSignature."""


class IssuerKeys:
    """The keys of one issuer. `fetch` returns the document at a URL; tests pass their own."""

    def __init__(
        self,
        issuer: Issuer,
        fetch: Callable[[str], bytes] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.issuer = issuer
        self._fetch = fetch or _fetcher(issuer.authority)
        self._clock = clock
        self._keys: tuple[Mapping[str, Any], ...] = ()
        self.version = 0
        """How often the keys have changed."""
        self._tried = -AGAIN_SECONDS
        self._lock = asyncio.Lock()
        self._verified: dict[tuple[bytes, bytes], None] = {}

    def is_signed(self, header: Mapping[str, Any], data: bytes, signature: bytes) -> bool:
        """Whether a key of the issuer has signed these bytes, by the algorithm of the header."""
        if (data, signature) in self._verified:
            return True
        algorithm, name = header.get("alg"), header.get("kid")
        for key in self._keys:
            if name is not None and key.get("kid") not in (None, name):
                continue
            if key.get("alg") not in (None, algorithm) or key.get("use") not in (None, "sig"):
                continue
            if _verifies(key, str(algorithm), data, signature):
                if len(self._verified) >= REMEMBERED_MAX:
                    self._verified.clear()
                self._verified[data, signature] = None
                return True
        return False

    async def refresh(self) -> None:
        """Fetch the keys, unless that was tried a moment ago."""
        async with self._lock:
            if self._clock() - self._tried < AGAIN_SECONDS:
                return
            self._tried = self._clock()
            try:
                keys = await asyncio.to_thread(self._read)
            except (OSError, ValueError, RecursionError) as error:
                log.warning("oidc: no keys of %s: %s", self.issuer.url, str(error)[:300])
                return
            if keys != self._keys:
                self._keys, self.version = keys, self.version + 1
                self._verified.clear()

    def _read(self) -> tuple[Mapping[str, Any], ...]:
        """The keys that the issuer publishes now."""
        document = _object(self._fetch(self.issuer.discovery_url))
        if document.get("issuer") != self.issuer.url:
            raise ValueError(f"the document is one of the issuer {document.get('issuer')!r}")
        where = document.get("jwks_uri")
        if not isinstance(where, str) or not where.startswith("https://"):
            raise ValueError("the document names no keys over https")
        keys = _object(self._fetch(where)).get("keys")
        if not isinstance(keys, list):
            raise ValueError("there is no list of keys")
        return tuple([key for key in keys[:KEYS_MAX] if isinstance(key, dict)])


class Issuers:
    """All issuers of one API server."""

    def __init__(self, issuers: Sequence[Issuer]) -> None:
        self.keys = {one.url: IssuerKeys(one) for one in issuers}
        self.trusted = {url: Trusted(keys.issuer, keys) for url, keys in self.keys.items()}

    @property
    def version(self) -> int:
        """How often the keys of an issuer have changed. A refusal is decided again if they have
        changed since before it."""
        return sum([one.version for one in self.keys.values()])

    async def refresh(self) -> None:
        """Fetch the keys of all issuers (OIDC-4)."""
        await asyncio.gather(*[one.refresh() for one in self.keys.values()])


def _object(text: bytes) -> dict[str, Any]:
    tree = json.loads(text)
    if not isinstance(tree, dict):
        raise ValueError("the document is no object")
    return tree


def _fetcher(authority: str) -> Callable[[str], bytes]:
    """A function that gets a document over HTTPS, verified by these certificates in PEM, else by
    those of the system. Redirections are not followed."""
    context = ssl.create_default_context(cadata=authority or None)
    opener = urllib.request.build_opener(
        urllib.request.HTTPSHandler(context=context), _NoRedirection()
    )

    def fetch(url: str) -> bytes:
        with opener.open(url, timeout=TIMEOUT_SECONDS) as response:
            found: bytes = response.read(DOCUMENT_BYTES_MAX + 1)
        if len(found) > DOCUMENT_BYTES_MAX:
            raise ValueError(f"the document has more than {DOCUMENT_BYTES_MAX} bytes")
        return found

    return fetch


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *arguments: Any) -> None:
        return None


# --- signatures


def _verifies(key: Mapping[str, Any], algorithm: str, data: bytes, signature: bytes) -> bool:
    """Whether this key in the form of RFC 7517 has signed the data. False for a key that cannot be
    used."""
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    try:
        verify = _verifier(key, algorithm)
        if verify is None:
            return False
        verify(signature, data)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError, KeyError):
        return False
    return True


def _verifier(key: Mapping[str, Any], algorithm: str) -> Verify | None:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils

    sizes = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
    family, digest = algorithm[:2], sizes.get(algorithm[2:])
    if digest is None:
        return None
    if family in ("RS", "PS") and key["kty"] == "RSA":
        public = rsa.RSAPublicNumbers(_number(key["e"]), _number(key["n"])).public_key()
        if public.key_size < RSA_BITS_MIN:
            return None
        pad: padding.AsymmetricPadding = padding.PKCS1v15()
        if family == "PS":
            pad = padding.PSS(padding.MGF1(digest), digest.digest_size)
        return lambda signature, data: public.verify(signature, data, pad, digest)
    curves = {
        "ES256": ("P-256", ec.SECP256R1()),
        "ES384": ("P-384", ec.SECP384R1()),
        "ES512": ("P-521", ec.SECP521R1()),
    }
    name, curve = curves.get(algorithm, ("", None))
    if curve is None or key["kty"] != "EC" or key["crv"] != name:
        return None
    point = ec.EllipticCurvePublicNumbers(_number(key["x"]), _number(key["y"]), curve).public_key()

    def verify(signature: bytes, data: bytes) -> None:
        half = (curve.key_size + 7) // 8
        if len(signature) != 2 * half:
            raise ValueError("the signature has another length")
        r, s = int.from_bytes(signature[:half], "big"), int.from_bytes(signature[half:], "big")
        point.verify(utils.encode_dss_signature(r, s), data, ec.ECDSA(digest))

    return verify


def _number(text: str) -> int:
    return int.from_bytes(urlsafe_b64decode(text + "=" * (-len(text) % 4)), "big")
