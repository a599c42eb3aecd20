"""Encryption of stored objects (spec/encryption.md)."""

from __future__ import annotations

import base64
import json
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.encryption import Encryption, read_encryption
from refk8s.components.files import CannotRun
from refk8s.components.served_api import _codec
from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.store import Committed, Put, Txn
from refk8s.store.errors import StoreRefused
from refk8s.store.sqlite import SqliteEngine

SECRETS = resources.SECRETS
NO_NACL = find_spec("nacl") is None
KINDS = (
    "aesgcm",
    "aescbc",
    pytest.param("secretbox", marks=pytest.mark.skipif(NO_NACL, reason="PyNaCl is optional")),
)


def keyed(kind: str, *names: str) -> dict[str, Any]:
    keys = [{"name": name, "secret": base64.b64encode(name.encode().ljust(32)).decode()} for name in names]  # fmt: skip
    return {kind: {"keys": keys}}


def configured(path: Path, *providers: dict[str, Any], names: tuple[str, ...] = ("secrets",)) -> Encryption:  # fmt: skip
    tree = {
        "apiVersion": "apiserver.config.k8s.io/v1",
        "kind": "EncryptionConfiguration",
        "resources": [{"resources": list(names), "providers": list(providers)}],
    }
    file = path / "e.yaml"
    file.write_text(json.dumps(tree))
    found = read_encryption(str(file))
    assert found is not None
    return found


def a_secret(name: str = "a", word: bytes = b"hidden-word") -> Any:
    data = {"k": base64.b64encode(word).decode()}
    tree = {"metadata": {"name": name, "namespace": "n"}, "data": data, "type": "Opaque"}
    return from_tree(SECRETS.type, tree)


def a_map() -> Any:
    return from_tree(resources.CONFIG_MAPS.type, {"metadata": {"name": "a", "namespace": "n"}})


@pytest.mark.parametrize("kind", KINDS)
@given(word=st.binary(max_size=200))
def test_crypt_1_what_is_encrypted_is_hidden_and_comes_back(kind, tmp_path_factory, word):
    encode, decode = _codec(configured(tmp_path_factory.mktemp("c"), keyed(kind, "one")))
    secret = a_secret(word=word)
    data = encode(secret)
    assert data.startswith(f"k8s:enc:{kind}:v1:one:".encode()) and data != encode(secret)
    assert len(word) < 8 or base64.b64encode(word) not in data
    assert decode(SECRETS.key("n", "a"), data) == secret
    assert encode(a_map()).startswith(b"{")


@pytest.mark.parametrize(
    ("names", "is_secret", "is_deployment"),
    [(("secrets",), True, False), (("*.",), True, False), (("*.apps",), False, True), (("*.*",), True, True), (("configmaps", "deployments.apps"), False, True)],
)  # fmt: skip
def test_crypt_1_the_resources_of_an_entry_count(tmp_path, names, is_secret, is_deployment):
    encode, _ = _codec(configured(tmp_path, keyed("aesgcm", "one"), names=names))
    deployment = from_tree(
        resources.DEPLOYMENTS.type, {"metadata": {"name": "a", "namespace": "n"}}
    )
    assert encode(a_secret()).startswith(b"k8s:enc:") is is_secret
    assert encode(deployment).startswith(b"k8s:enc:") is is_deployment


@pytest.mark.parametrize("kind", KINDS)
def test_crypt_2_every_key_and_provider_decrypts(tmp_path, kind):
    key = SECRETS.key("n", "a")
    old = _codec(configured(tmp_path, keyed(kind, "old")))[0](a_secret())
    plain = _codec(None)[0](a_secret())
    both = configured(tmp_path, keyed(kind, "new", "old"), {"identity": {}})
    encode, decode = _codec(both)
    assert decode(key, old) == decode(key, plain) == decode(key, encode(a_secret())) == a_secret()
    assert encode(a_secret()).startswith(f"k8s:enc:{kind}:v1:new:".encode())
    strict = _codec(configured(tmp_path, keyed(kind, "new")))[1]
    for data in (old, plain, b"k8s:enc:other:v1:new:x", b"k8s:enc:"):
        with pytest.raises(ValueError):
            strict(key, data)
    with pytest.raises(ValueError, match="no provider is configured"):
        _codec(configured(tmp_path, keyed(kind, "new"), names=("configmaps",)))[1](key, old)
    other = _codec(configured(tmp_path, {"identity": {}}, keyed("aescbc", "x"), keyed(kind, "old")))
    assert other[1](key, old) == a_secret() and other[0](a_secret()) == plain


@given(st.integers(0, 400), st.integers(1, 255))
def test_crypt_3_changed_bytes_and_those_of_another_object_are_refused(at, change):
    encryption = configured(Path("/tmp"), keyed("aesgcm", "one"))
    encode, decode = _codec(encryption)
    data = bytearray(encode(a_secret()))
    with pytest.raises(ValueError):
        decode(SECRETS.key("n", "b"), bytes(data))
    data[at % len(data)] ^= change
    with pytest.raises(ValueError):
        decode(SECRETS.key("n", "a"), bytes(data))


def test_crypt_1_the_file_of_the_store_has_no_secret(tmp_path):
    encryption = configured(tmp_path, keyed("aescbc", "one"))
    path = tmp_path / "store.db"
    engine = SqliteEngine(str(path), *_codec(encryption), stamp)
    key = SECRETS.key("n", "a")
    (done,) = engine.commit_batch([Txn((), (Put(key, a_secret()),))])
    assert isinstance(done, Committed)
    engine.close()
    written = b"".join(one.read_bytes() for one in tmp_path.glob("store.db*"))
    assert b"k8s:enc:aescbc:v1:one:" in written and base64.b64encode(b"hidden-word") not in written
    again = SqliteEngine(str(path), *_codec(encryption), stamp)
    record = again.get(key)
    assert record is not None and record.value.data == a_secret().data
    again.close()
    with pytest.raises(StoreRefused):
        SqliteEngine(str(path), *_codec(configured(tmp_path, keyed("aescbc", "two"))), stamp)


def test_crypt_4_a_replace_stores_stale_objects_anew(tmp_path):
    old = _codec(configured(tmp_path, keyed("aesgcm", "old")))[0](a_secret())
    encryption = configured(tmp_path, keyed("aesgcm", "new", "old"))
    encode, decode = _codec(encryption)
    key = SECRETS.key("default", "a")
    world = World(config=Config(stale=encryption.stale))
    body = from_tree(SECRETS.type, {"metadata": {"name": "a"}})
    world.do(Request("create", SECRETS, "default", body=body, user=ADMIN))
    patch = Request("patch", SECRETS, "default", "a", body=Patch("application/merge-patch+json", b"{}"), user=ADMIN)  # fmt: skip
    assert world.do(patch).committed is None
    with pytest.raises(ValueError):
        decode(key, old)  # that of another namespace, but it is stale
    assert key in encryption.stale
    committed = world.do(patch).committed
    assert committed is not None
    encode(committed.changes[0].record.value)
    assert key not in encryption.stale and world.do(patch).committed is None


@pytest.mark.parametrize(
    ("providers", "names", "words"),
    [
        ([], ("secrets",), "providers: must have at least one"),
        ([{"kms": {}}], ("secrets",), r"providers\[0\].kms: not one of"),
        ([{"aesgcm": {"keys": []}}], ("secrets",), "keys: must have 1 to"),
        ([{"aesgcm": {"keys": [{"name": "a", "secret": "eA=="}]}}], ("secrets",), "must have 16, 24, 32 bytes and has 1"),
        ([{"aesgcm": {"keys": [{"name": "a", "secret": "!"}]}}], ("secrets",), "must be of base64"),
        ([keyed("aesgcm", "a", "a")], ("secrets",), "Duplicate value"),
        ([keyed("aesgcm", "a:b")], ("secrets",), "without colons"),
        ([{"identity": {"x": 1}}], ("secrets",), "x: not known"),
        ([{"identity": {}}], ("gadgets.example.com",), "no built-in resource"),
        ([{"identity": {}}], ("*",), "use '\\*.'"),
        ([{"identity": {}, "aesgcm": {}}], ("secrets",), "exactly one provider"),
    ],
)  # fmt: skip
def test_crypt_5_a_configuration_that_cannot_be_followed_is_refused(
    tmp_path, providers, names, words
):
    with pytest.raises(CannotRun, match=words):
        configured(tmp_path, *providers, names=names)


def test_crypt_5_a_file_that_is_missing_or_of_another_kind_is_refused(tmp_path):
    assert read_encryption("") is None
    with pytest.raises(CannotRun, match="there is no such file"):
        read_encryption(str(tmp_path / "none"))
    (tmp_path / "x").write_text("kind: Other")
    with pytest.raises(CannotRun, match="must be of kind"):
        read_encryption(str(tmp_path / "x"))
