"""Tokens that an earlier key of the cluster has signed: rule HTTP-30 (spec/http.md)."""

import json
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.earlier_keys import read_earlier_keys
from refk8s.components.files import CannotRun
from refk8s.components.token_signer import token_signer
from refk8s.core.apiserver.authenticate import check_token, make_token
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.issuer import CONFIGURATION, KEYS, issuer_document
from refk8s.core.apiserver.token_key import parse_key
from refk8s.core.context import SECOND, Context, SeededChance
from refk8s.core.value import evolve

NOW = 1_800_000_000 * SECOND
PEM, PKCS8 = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
NO = serialization.NoEncryption()


@cache
def key(number: int) -> Any:
    """Keys 0 and 1 are on P-256, 2 and 3 are of RSA."""
    if number < 2:
        return ec.generate_private_key(ec.SECP256R1())
    return rsa.generate_private_key(65537, 2048)


def private(number: int) -> bytes:
    return bytes(key(number).private_bytes(PEM, PKCS8, NO))


def public(number: int) -> bytes:
    form = serialization.PublicFormat.SubjectPublicKeyInfo
    return bytes(key(number).public_key().public_bytes(PEM, form))


@cache
def signing(number: int) -> Config:
    parsed = parse_key(private(number))
    signer = token_signer(parsed)
    return Config(token_key=parsed, sign=signer.sign, verify=signer.verify)


@cache
def token(number: int) -> str:
    config = signing(number)
    context = Context(NOW, SeededChance(bytes([number])))
    return make_token("default", "robot", "uid", config.audiences, 3600, None, config, context)


@given(
    st.integers(0, 3),
    st.lists(st.tuples(st.integers(0, 3), st.booleans()), max_size=4),
    st.integers(0, 3),
    st.booleans(),
)
def test_http_30_a_token_is_valid_by_the_key_of_now_and_by_those_that_are_given(
    tmp_path_factory: Any, now: int, given_keys: list[tuple[int, bool]], by: int, in_one: bool
) -> None:
    # Shows HTTP-30.a HTTP-30.b HTTP-30.d.
    directory = tmp_path_factory.mktemp("keys")
    texts = [private(one) if is_private else public(one) for one, is_private in given_keys]
    if in_one and texts:
        texts = [b"words\n" + b"\n".join(texts)]
    paths = [directory / f"{number}.pem" for number, _ in enumerate(texts)]
    for path, text in zip(paths, texts, strict=True):
        path.write_bytes(text)
    config = evolve(signing(now), earlier_keys=read_earlier_keys(map(str, paths)))
    known = {now, *[one for one, _ in given_keys]}
    checked = check_token(token(by), config, NOW + SECOND)
    assert (checked.user is not None) == (by in known)
    # its signature counts, and not what its header says
    head, _, rest = token(by).partition(".")
    for other in known - {by}:
        forged = f"{token(other).partition('.')[0]}.{rest}"
        assert check_token(forged, config, NOW + SECOND).user is None
    assert check_token(f"{head}.{rest[:-6]}AAAAAA", config, NOW + SECOND).user is None
    assert check_token(token(by), config, NOW + 4000 * SECOND).user is None
    reply = issuer_document(KEYS, config)
    assert reply is not None
    shown = json.loads(reply.content)["keys"]
    assert len({one["kid"] for one in shown}) == len(known)
    assert all("d" not in one and "p" not in one for one in shown)
    reply = issuer_document(CONFIGURATION, config)
    assert reply is not None
    algorithms = json.loads(reply.content)["id_token_signing_alg_values_supported"]
    assert set(algorithms) == {"ES256" if one < 2 else "RS256" for one in known}


@pytest.mark.parametrize(
    "text",
    [
        b"", b"no key", b"-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n",
        rsa.generate_private_key(65537, 1024).private_bytes(PEM, PKCS8, NO),
        ec.generate_private_key(ec.SECP384R1()).private_bytes(PEM, PKCS8, NO),
        key(0).private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x")),
    ],
    ids=["empty", "none", "damaged", "short", "curve", "encrypted"],
)  # fmt: skip
def test_http_30_a_file_without_such_keys_is_refused(tmp_path: Path, text: bytes) -> None:
    file = tmp_path / "old.pem"
    file.write_bytes(text)
    with pytest.raises(CannotRun, match="--service-account-key-file"):
        read_earlier_keys([str(file)])
    with pytest.raises(CannotRun, match="--service-account-key-file"):
        read_earlier_keys([str(tmp_path / "absent")])
