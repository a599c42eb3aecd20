"""Encryption of stored objects by an EncryptionConfiguration. Rules CRYPT-1 to CRYPT-5
(spec/encryption.md).

    k8s:enc:aesgcm:v1:KEY NAME:nonce, ciphertext        upstream's form, with another authenticated key
    k8s:enc:aescbc:v1:KEY NAME:initialization vector, ciphertext
    k8s:enc:secretbox:v1:KEY NAME:nonce, ciphertext

The first provider of a resource encrypts; every one of them decrypts. Nothing of it is loaded
without a configuration. Source: Kubernetes documentation, "Encrypting Confidential Data at Rest".
"""

from __future__ import annotations

import base64
import binascii
import os
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final, Protocol

from refk8s.components.files import CannotRun, read_file
from refk8s.core.api import resources
from refk8s.core.api.resources import by_kind
from refk8s.core.value import Value

FLAG: Final = "--encryption-provider-config"
FILE_BYTES_MAX: Final = 1 << 20
KIND: Final = ("apiserver.config.k8s.io/v1", "EncryptionConfiguration")
_MARK: Final = b"k8s:enc:"
_IDENTITY: Final = "identity"
KEYS_MAX: Final = 64


class BadEncryption(ValueError):
    """The configuration cannot be used. The message names the field and the reason."""


class Provider(Protocol):
    """A way to encrypt, with its keys; the first key encrypts."""

    mark: bytes
    """What the bytes begin with that it has encrypted."""

    def encrypt(self, data: bytes, about: bytes) -> bytes:
        """The data encrypted by the first key. `about`: which object it is."""

    def decrypt(self, data: bytes, about: bytes) -> bytes:
        """The data that one of the keys has encrypted. Raises ValueError."""

    def is_fresh(self, data: bytes) -> bool:
        """Whether the first key has encrypted these bytes."""


class Identity:
    """Data as it is."""

    mark = b""

    def encrypt(self, data: bytes, about: bytes) -> bytes:
        return data

    def decrypt(self, data: bytes, about: bytes) -> bytes:
        return data

    def is_fresh(self, data: bytes) -> bool:
        return not data.startswith(_MARK)


class Key(Value, frozen=True):
    """A key and its name, which is stored with what it has encrypted."""

    name: str
    secret: bytes


Cipher = Callable[[bytes, bytes, bytes], bytes]
"""(secret, data, about) -> the other form of the data. Raises ValueError."""


class Keyed:
    """A provider with keys."""

    def __init__(self, kind: str, keys: Sequence[Key], encrypt: Cipher, decrypt: Cipher) -> None:
        self.mark = _MARK + f"{kind}:v1:".encode()
        self._keys = {key.name.encode(): key.secret for key in keys}
        self._first = keys[0]
        self._encrypt, self._decrypt = encrypt, decrypt

    def _head(self) -> bytes:
        return self.mark + self._first.name.encode() + b":"

    def encrypt(self, data: bytes, about: bytes) -> bytes:
        return self._head() + self._encrypt(self._first.secret, data, about)

    def decrypt(self, data: bytes, about: bytes) -> bytes:
        name, _, rest = data[len(self.mark) :].partition(b":")
        secret = self._keys.get(name)
        if secret is None:
            raise ValueError("no matching key was found for the provider")
        return self._decrypt(secret, rest, about)

    def is_fresh(self, data: bytes) -> bool:
        return data.startswith(self._head())


# --- ciphers


def _gcm_encrypt(secret: bytes, data: bytes, about: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    nonce = os.urandom(12)
    return nonce + AESGCM(secret).encrypt(nonce, data, about)


def _gcm_decrypt(secret: bytes, data: bytes, about: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(secret).decrypt(data[:12], data[12:], about)
    except (InvalidTag, ValueError):
        raise ValueError("the stored data was changed, or belongs to another object") from None


def _cbc_encrypt(secret: bytes, data: bytes, about: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher as Block
    from cryptography.hazmat.primitives.ciphers import algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    vector = os.urandom(16)
    padder = PKCS7(128).padder()
    padded = padder.update(data) + padder.finalize()
    encryptor = Block(algorithms.AES(secret), modes.CBC(vector)).encryptor()
    return vector + encryptor.update(padded) + encryptor.finalize()


def _cbc_decrypt(secret: bytes, data: bytes, about: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers import Cipher as Block
    from cryptography.hazmat.primitives.ciphers import algorithms, modes
    from cryptography.hazmat.primitives.padding import PKCS7

    if len(data) < 32 or len(data) % 16:
        raise ValueError("the stored data is invalid")
    decryptor = Block(algorithms.AES(secret), modes.CBC(data[:16])).decryptor()
    unpadder = PKCS7(128).unpadder()
    padded = decryptor.update(data[16:]) + decryptor.finalize()
    return unpadder.update(padded) + unpadder.finalize()


def _secretbox() -> Any:
    """The module of PyNaCl, which need not be installed. Raises ImportError."""
    return import_module("nacl.secret")


def _box_encrypt(secret: bytes, data: bytes, about: bytes) -> bytes:
    return bytes(_secretbox().SecretBox(secret).encrypt(data))


def _box_decrypt(secret: bytes, data: bytes, about: bytes) -> bytes:
    failed = import_module("nacl.exceptions").CryptoError
    try:
        return bytes(_secretbox().SecretBox(secret).decrypt(data))
    except (failed, ValueError):
        raise ValueError("the stored data was changed") from None


_CIPHERS: Final[dict[str, tuple[tuple[int, ...], Cipher, Cipher]]] = {
    "aesgcm": ((16, 24, 32), _gcm_encrypt, _gcm_decrypt),
    "aescbc": ((16, 24, 32), _cbc_encrypt, _cbc_decrypt),
    "secretbox": ((32,), _box_encrypt, _box_decrypt),
}
"""By kind: the lengths of keys in bytes, and both directions."""


# --- the configuration


class Entry(Value, frozen=True, eq=False):
    """The providers of some resources: `secrets`, `deployments.apps`, `*.apps`, `*.`, `*.*`."""

    resources: tuple[str, ...]
    providers: tuple[Provider, ...]


class Encryption:
    """Encrypts and decrypts what a store keeps.

    `stale`: the keys of objects that are stored otherwise than the first provider would store them.
    """

    def __init__(self, entries: Sequence[Entry]) -> None:
        self._entries = entries
        self._found: dict[tuple[str, str], tuple[Provider, ...]] = {}
        self.stale: set[str] = set()

    def _providers(self, group: str, plural: str) -> tuple[Provider, ...]:
        """The providers of a resource; none if it is not in the configuration."""
        known = self._found.get((group, plural))
        if known is None:
            shown = "" if group == "core" else group
            names = {f"{plural}.{shown}".rstrip("."), f"*.{shown}", "*.*"}
            known = next((one.providers for one in self._entries if names & set(one.resources)), ())
            self._found[group, plural] = known
        return known

    def encode(self, value: Any, data: bytes) -> bytes:
        """The bytes of an object as they are stored."""
        resource = by_kind(value.api_version, value.kind)
        group = value.api_version.rpartition("/")[0] or "core"
        providers = self._providers(group, "" if resource is None else resource.plural)
        if not providers:
            return data
        metadata = value.metadata
        if self.stale and resource is not None:
            self.stale.discard(resource.key(metadata.namespace or "", metadata.name or ""))
        return providers[0].encrypt(data, _about(group, metadata.namespace, metadata.name))

    def decode(self, key: str, data: bytes) -> bytes:
        """The bytes of the object with this store key (CRYPT-2). Raises ValueError for what no
        provider has encrypted."""
        group, plural, *rest = key.removeprefix("/").split("/")
        providers = self._providers(group, plural)
        if not providers:
            if data.startswith(_MARK):
                raise ValueError("is encrypted, and no provider is configured for it")
            return data
        # of several revisions of an object the last one counts
        if providers[0].is_fresh(data):
            self.stale.discard(key)
        else:
            self.stale.add(key)
        about = "/".join((group, *rest)).encode()
        for provider in providers:
            is_plain = not provider.mark and not data.startswith(_MARK)
            if is_plain or (provider.mark and data.startswith(provider.mark)):
                try:
                    return provider.decrypt(data, about)
                except ValueError:
                    if provider is providers[-1]:
                        raise
        raise ValueError("no provider of the configuration has encrypted it")


def _about(group: str, namespace: str | None, name: str | None) -> bytes:
    """Which object it is, as far as its store key and the object itself both say (CRYPT-3)."""
    return "/".join([part for part in (group, namespace, name) if part]).encode()


def read_encryption(path: str) -> Encryption | None:
    """The encryption of the file that the flag names; None without one (CRYPT-5). Raises
    CannotRun."""
    if not path:
        return None
    from refk8s.components.yaml_reader import BadYaml, read_yaml

    data = read_file(Path(path).expanduser(), FILE_BYTES_MAX)
    if data is None:
        raise CannotRun(f"{FLAG} {path}: there is no such file")
    try:
        return Encryption(_read_entries(read_yaml(data).tree))
    except (BadYaml, BadEncryption, UnicodeError) as error:
        raise CannotRun(f"{FLAG} {path}: {error}") from None


def _read_entries(tree: Any) -> list[Entry]:
    if not isinstance(tree, dict) or (tree.get("apiVersion"), tree.get("kind")) != KIND:
        raise BadEncryption(f"must be of kind {KIND[1]}, {KIND[0]}")
    _only(tree, ("apiVersion", "kind", "resources"), "")
    listed = tree.get("resources")
    if not isinstance(listed, list) or not listed:
        raise BadEncryption("resources: must have at least one")
    return [_read_entry(one, f"resources[{place}]") for place, one in enumerate(listed)]


def _read_entry(tree: Any, at: str) -> Entry:
    _only(tree, ("resources", "providers"), f"{at}.")
    names, providers = tree.get("resources"), tree.get("providers")
    if not isinstance(names, list) or not names:
        raise BadEncryption(f"{at}.resources: must have at least one")
    if not isinstance(providers, list) or not providers:
        raise BadEncryption(f"{at}.providers: must have at least one")
    found = tuple([_resource(one, f"{at}.resources") for one in names])
    read = [_read_provider(one, f"{at}.providers[{at_}]") for at_, one in enumerate(providers)]
    return Entry(found, tuple(read))


def _resource(name: Any, at: str) -> str:
    """The resource that is named. One of a definition cannot be, since objects are encrypted
    without it; `*.GROUP` can."""
    if not isinstance(name, str) or not name or "/" in name or name != name.lower():
        raise BadEncryption(f"{at}: not a resource: {name!r}")
    if name == "*":
        raise BadEncryption(f"{at}: use '*.' for all resources of the core group")
    plural, _, group = name.partition(".")
    is_known = any(one.plural == plural and one.group == group for one in resources.ALL)
    if plural != "*" and not is_known:
        raise BadEncryption(f"{at}: {name} is no built-in resource; use *.{group}")
    return name


def _read_provider(tree: Any, at: str) -> Provider:
    if not isinstance(tree, dict) or len(tree) != 1:
        raise BadEncryption(f"{at}: must have exactly one provider")
    ((kind, parts),) = tree.items()
    if kind == _IDENTITY:
        _only(parts, (), f"{at}.{kind}.")
        return Identity()
    if kind not in _CIPHERS:
        known = ", ".join([*_CIPHERS, _IDENTITY])
        raise BadEncryption(f"{at}.{kind}: not one of {known}")
    if kind == "secretbox":
        _need_secretbox(at)
    lengths, encrypt, decrypt = _CIPHERS[kind]
    return Keyed(kind, _read_keys(parts, lengths, f"{at}.{kind}"), encrypt, decrypt)


def _need_secretbox(at: str) -> None:
    try:
        _secretbox()
    except ImportError:
        words = "needs the package PyNaCl: install refk8s[secretbox], or use aesgcm"
        raise BadEncryption(f"{at}.secretbox: {words}") from None


def _read_keys(parts: Any, lengths: tuple[int, ...], at: str) -> list[Key]:
    _only(parts, ("keys",), f"{at}.")
    listed = parts.get("keys")
    if not isinstance(listed, list) or not 0 < len(listed) <= KEYS_MAX:
        raise BadEncryption(f"{at}.keys: must have 1 to {KEYS_MAX}")
    keys: list[Key] = []
    for place, one in enumerate(listed):
        here = f"{at}.keys[{place}]"
        _only(one, ("name", "secret"), f"{here}.")
        name, text = one.get("name"), one.get("secret")
        if not isinstance(name, str) or not name or ":" in name:
            raise BadEncryption(f"{here}.name: must be a text without colons")
        if name in [key.name for key in keys]:
            raise BadEncryption(f'{here}.name: Duplicate value: "{name}"')
        try:
            secret = base64.b64decode(text, validate=True)
        except (binascii.Error, TypeError, ValueError):
            raise BadEncryption(f"{here}.secret: must be of base64") from None
        if len(secret) not in lengths:
            shown = ", ".join(map(str, lengths))
            words = f"must have {shown} bytes and has {len(secret)}"
            raise BadEncryption(f"{here}.secret: {words}")
        keys.append(Key(name, secret))
    return keys


def _only(tree: Any, known: tuple[str, ...], at: str) -> None:
    if not isinstance(tree, dict):
        raise BadEncryption(f"{at.rstrip('.') or 'the document'}: must be a mapping")
    unknown = sorted(str(one) for one in tree if one not in known)
    if unknown:
        raise BadEncryption(f"{at}{unknown[0]}: not known")
