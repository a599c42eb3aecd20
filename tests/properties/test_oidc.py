"""Users of other issuers (spec/oidc.md)."""

from __future__ import annotations

import asyncio
import base64
import json
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.authentication import read_authentication
from refk8s.components.files import CannotRun
from refk8s.components.issuers import IssuerKeys, Issuers
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import AUTHENTICATED
from refk8s.core.apiserver.authenticate import check_token
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.configuration_part import BadConfiguration
from refk8s.core.apiserver.http import WireRequest, user_of
from refk8s.core.apiserver.oidc.configuration import (
    issuer_of_flags,
    read_configuration,
)
from refk8s.core.apiserver.oidc.issuers import Anonymous, Issuer, Trusted
from refk8s.core.apiserver.oidc.tokens import read_token
from refk8s.core.context import SECOND

URL = "https://issuer.example"
NOW = 1_800_000_000
RSA = rsa.generate_private_key(65537, 2048)
OTHER = rsa.generate_private_key(65537, 2048)
EC = ec.generate_private_key(ec.SECP256R1())


def encoded(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value: int) -> str:
    return encoded(value.to_bytes((value.bit_length() + 7) // 8, "big"))


def rsa_key(key: rsa.RSAPrivateKey, name: str) -> dict[str, str]:
    public = key.public_key().public_numbers()
    return {"kty": "RSA", "kid": name, "use": "sig", "n": number(public.n), "e": number(public.e)}


def ec_key(name: str) -> dict[str, str]:
    public = EC.public_key().public_numbers()
    x, y = [encoded(value.to_bytes(32, "big")) for value in (public.x, public.y)]
    return {"kty": "EC", "kid": name, "crv": "P-256", "x": x, "y": y}


def token(claims: dict[str, Any], key: Any = RSA, algorithm: str = "RS256", name: str = "a") -> str:
    whole = {"iss": URL, "aud": "client", "sub": "jane", "exp": NOW + 60, **claims}
    whole = {key: value for key, value in whole.items() if value is not None}
    head = {"alg": algorithm, "kid": name}
    text = f"{encoded(json.dumps(head).encode())}.{encoded(json.dumps(whole).encode())}"
    data = text.encode()
    if algorithm == "ES256":
        r, s = utils.decode_dss_signature(key.sign(data, ec.ECDSA(hashes.SHA256())))
        signature = r.to_bytes(32, "big") + s.to_bytes(32, "big")
    elif algorithm.startswith("PS"):
        pad = padding.PSS(padding.MGF1(hashes.SHA256()), 32)
        signature = key.sign(data, pad, hashes.SHA256())
    else:
        signature = key.sign(data, padding.PKCS1v15(), hashes.SHA256())
    return f"{text}.{encoded(signature)}"


def keys_of(issuer: Issuer, *keys: dict[str, str]) -> IssuerKeys:
    """The keys of an issuer that publishes these."""
    documents = {
        issuer.discovery_url: {"issuer": issuer.url, "jwks_uri": "https://keys.example/k"},
        "https://keys.example/k": {"keys": list(keys)},
    }
    found = IssuerKeys(issuer, lambda url: json.dumps(documents[url]).encode())
    assert is_changed(found) is bool(keys)
    return found


def is_changed(keys: IssuerKeys) -> bool:
    """Whether the keys are others after a refresh."""
    before = keys.version
    asyncio.run(keys.refresh())
    return keys.version != before


def trusting(issuer: Issuer, *keys: dict[str, str]) -> Config:
    published = keys or (rsa_key(RSA, "a"), ec_key("e"))
    return Config(issuers={issuer.url: Trusted(issuer, keys_of(issuer, *published))})


def user(issuer: Issuer, text: str, seconds: int = NOW) -> Any:
    return check_token(text, trusting(issuer), seconds * SECOND).user


FLAGS = issuer_of_flags(URL, "client", groups_claim="groups", groups_prefix="g:")
EVERY = Issuer(URL, ("client", "other"), FLAGS.username)


def test_oidc_3_the_user_has_the_attributes_of_the_claims():
    found = user(FLAGS, token({"groups": ["x", "y"]}))
    assert found.name == f"{URL}#jane" and found.groups == ("g:x", "g:y", AUTHENTICATED)
    assert user(FLAGS, token({"groups": "x"})).groups == ("g:x", AUTHENTICATED)
    plain = issuer_of_flags(URL, "client", "email", "", "")
    assert user(plain, token({"email": "j@x", "email_verified": True})).name == "j@x"
    assert user(plain, token({"email": "j@x"})).name == "j@x"
    assert user(plain, token({"email": "j@x", "email_verified": False})) is None
    bare = issuer_of_flags(URL, "client", username_prefix="-")
    assert user(bare, token({})).name == "jane"


@pytest.mark.parametrize(
    ("claims", "is_valid"),
    [
        ({}, True),
        ({"aud": ["x", "client"]}, True),
        ({"aud": "x"}, False),
        ({"aud": None}, False),
        ({"exp": NOW}, False),
        ({"exp": None}, False),
        ({"exp": "soon"}, False),
        ({"nbf": NOW + 299}, True),
        ({"nbf": NOW + 301}, False),
        ({"iss": "https://another.example"}, False),
        ({"sub": 1}, False),
        ({"sub": ""}, True),
    ],
)
def test_oidc_2_a_token_is_of_the_issuer_for_the_audience_and_not_expired(claims, is_valid):
    assert (user(FLAGS, token(claims)) is not None) is is_valid


def test_oidc_2_only_keys_of_the_issuer_and_allowed_algorithms_count():
    assert user(EVERY, token({}, EC, "ES256", "e")) and user(EVERY, token({}, RSA, "PS256"))
    assert user(FLAGS, token({}, EC, "ES256", "e")) is None
    assert user(EVERY, token({}, OTHER)) is None
    assert user(EVERY, token({}, RSA, name="none")) is None
    _, claims, signature = token({}).split(".")
    for forged in ({"alg": "none"}, {"alg": "HS256", "kid": "a"}, {"kid": "a"}):
        changed = encoded(json.dumps(forged).encode())
        assert user(EVERY, f"{changed}.{claims}.{signature}") is None
        assert user(EVERY, f"{changed}.{claims}.") is None
    small = rsa.generate_private_key(65537, 1024)
    config = trusting(FLAGS, rsa_key(small, "a"))
    assert check_token(token({}, small), config, NOW * SECOND).user is None


def test_oidc_2_a_refused_token_is_401_and_never_anonymous():
    config = Config(issuers=trusting(FLAGS).issuers, authorizer=lambda *_: None)  # type: ignore[arg-type,return-value]
    for text in (token({"exp": 1}), token({}, OTHER), "a.b.c"):
        wire = WireRequest("GET", "/api", headers={"authorization": f"Bearer {text}"})
        with pytest.raises(ApiError) as refused:
            user_of(wire, config, NOW * SECOND)
        assert refused.value.status.code == 401


@given(
    st.text(max_size=40) | st.binary(max_size=40).map(lambda raw: f"{encoded(raw)}.{encoded(raw)}.")
)
def test_oidc_2_no_text_is_an_internal_error(text):
    assert read_token(text) is None or read_token(text).claims is not None
    assert check_token(text, trusting(FLAGS), NOW * SECOND).user is None


def test_oidc_4_new_keys_are_fetched_after_a_refusal_at_most_every_ten_seconds():
    published = [rsa_key(RSA, "a")]
    asked: list[str] = []
    time = [0.0]

    def fetch(url: str) -> bytes:
        asked.append(url)
        if url.endswith("openid-configuration"):
            return json.dumps({"issuer": URL, "jwks_uri": "https://k.example/"}).encode()
        return json.dumps({"keys": published}).encode()

    keys = IssuerKeys(FLAGS, fetch, lambda: time[0])
    assert is_changed(keys) and not is_changed(keys) and len(asked) == 2
    config = Config(issuers={URL: Trusted(FLAGS, keys)})
    fresh = token({}, OTHER, name="b")
    assert check_token(token({}), config, NOW * SECOND).user
    published[:] = [rsa_key(OTHER, "b")]
    assert not is_changed(keys)
    time[0] = 10.0
    assert check_token(fresh, config, NOW * SECOND).user is None
    assert is_changed(keys)
    assert check_token(fresh, config, NOW * SECOND).user
    assert check_token(token({}), config, NOW * SECOND).user is None  # its key is gone


def test_oidc_4_keys_that_arrive_after_a_refusal_count_whoever_fetched_them():
    """The server's own first fetch ended between the refusal and the fetch for it, so that nothing
    seemed to have changed, and the valid token stayed refused."""
    issuers = Issuers([FLAGS])
    keys = issuers.keys[URL] = keys_of(FLAGS)
    keys._fetch, keys._tried = keys_of(FLAGS, rsa_key(RSA, "a"))._fetch, -10.0
    before = issuers.version
    asyncio.run(issuers.refresh())
    asyncio.run(issuers.refresh())  # the fetch for the refused token finds nothing new
    assert issuers.version != before


@pytest.mark.parametrize(
    "document",
    [b"", b"[]", b"{}", b'{"issuer": "https://other"}', b'{"issuer": "https://issuer.example", "jwks_uri": "http://x"}'],
)  # fmt: skip
def test_oidc_4_a_document_that_is_wrong_gives_no_keys(document):
    keys = IssuerKeys(FLAGS, lambda url: document)
    assert not is_changed(keys)
    assert not keys.is_signed({"alg": "RS256"}, b"", b"")


def configuration(**issuer: Any) -> dict[str, Any]:
    """A document with one issuer; its parts may be replaced."""
    whole = {
        "issuer": {"url": URL, "audiences": ["client"]},
        "claimMappings": {"username": {"claim": "sub", "prefix": ""}},
        **issuer,
    }
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AuthenticationConfiguration", "jwt": [whole]}  # fmt: skip


def test_oidc_3_expressions_make_the_attributes():
    mappings = {
        "username": {"expression": "claims.sub + ':' + claims.?team.orValue('none')"},
        "groups": {"expression": "claims.roles.split(',')"},
        "uid": {"claim": "sub"},
        "extra": [{"key": "example.com/tenant", "valueExpression": "claims.tenant"}],
    }
    issuer = read_configuration(configuration(claimMappings=mappings)).issuers[0]
    found = user(issuer, token({"roles": "a,b", "tenant": "t", "team": "x"}))
    assert (found.name, found.uid, found.groups) == ("jane:x", "jane", ("a", "b", AUTHENTICATED))
    assert found.extra == (("example.com/tenant", ("t",)),)
    assert user(issuer, token({"roles": 1})) is None


def test_oidc_5_rules_about_claims_and_the_user_must_hold():
    rules = [
        {"claim": "hd", "requiredValue": "example.com"},
        {"expression": "claims.exp - claims.iat <= 3600", "message": "too long"},
    ]
    tree = configuration(
        claimValidationRules=rules,
        userValidationRules=[{"expression": "!user.username.startsWith('system:')"}],
    )
    issuer = read_configuration(tree).issuers[0]
    good = {"hd": "example.com", "iat": NOW}
    assert user(issuer, token(good))
    for change in (
        {"hd": "x"},
        {"hd": None},
        {"iat": NOW - 9_999},
        {"iat": None},
        {"sub": "system:a"},
    ):
        assert user(issuer, token({**good, **change})) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"issuer": {"url": "http://x", "audiences": ["a"]}}, "URL scheme must be https"),
        ({"issuer": {"url": URL}}, "audiences: Required value"),
        ({"issuer": {"url": URL, "audiences": ["a", "b"]}}, "audienceMatchPolicy"),
        ({"issuer": {"url": URL, "audiences": ["a"], "x": 1}}, r"jwt\[0\].issuer.x: not known"),
        ({"claimMappings": {}}, "username: claim or expression is required"),
        ({"claimMappings": {"username": {"claim": "sub"}}}, "prefix: required"),
        ({"claimMappings": {"username": {"claim": "a", "expression": "b"}}}, "either claim or"),
        ({"claimMappings": {"username": {"expression": "1 +"}}}, "Syntax error"),
        (
            {"claimMappings": {"username": {"expression": "1"}}},
            "must evaluate to string but got int",
        ),
        ({"claimMappings": {"username": {"expression": "claims.email"}}}, "email_verified"),
        ({"claimValidationRules": [{"expression": "claims.x"}]}, "must evaluate to bool"),
        ({"claimValidationRules": [{}]}, "either claim or expression"),
        ({"userValidationRules": [{"expression": "user.name == ''"}]}, "undefined field 'name'"),
        ({"later": 1}, r"jwt\[0\].later: not known"),
    ],
)
def test_oidc_1_what_cannot_be_enforced_is_refused(change, words):
    with pytest.raises(BadConfiguration, match=words):
        read_configuration(configuration(**change))


def test_oidc_1_flags_and_files_name_what_is_wrong(tmp_path):
    assert read_authentication("", {}, "") == ((), Anonymous())
    path = tmp_path / "a.yaml"
    path.write_text(json.dumps(configuration()))
    (issuer,), _ = read_authentication(str(path), {}, "")
    assert issuer.url == URL
    for flags, words in (
        ({"client_id": "x"}, "--oidc-issuer-url: required"),
        ({"url": URL}, "--oidc-client-id: required"),
        ({"url": "http://x", "client_id": "x"}, "--oidc-issuer-url: URL scheme"),
        ({"url": URL, "client_id": "x", "required": ("a",)}, "--oidc-required-claim"),
        ({"url": URL, "client_id": "x", "algorithms": ("HS256",)}, "--oidc-signing-algs"),
        ({"url": URL, "client_id": "x", "authority": str(tmp_path / "none")}, "--oidc-ca-file"),
    ):
        with pytest.raises(CannotRun, match=words):
            read_authentication("", flags, "")
    with pytest.raises(CannotRun, match="own issuer"):
        read_authentication(str(path), {}, URL)
    path.write_text("kind: [")
    with pytest.raises(CannotRun, match="--authentication-config"):
        read_authentication(str(path), {}, "")


def test_oidc_6_anonymous_requests_may_be_forbidden():
    def anonymous(path: str, config: Config) -> bool:
        try:
            return user_of(WireRequest("GET", path), config, NOW * SECOND) is None
        except ApiError as error:
            assert error.status.code == 401
            return False

    tree = {**configuration(), "anonymous": {"enabled": True, "conditions": [{"path": "/livez"}]}}
    some = Config(anonymous=read_configuration(tree).anonymous)
    assert anonymous("/livez", some) and not anonymous("/readyz", some)
    assert anonymous("/readyz", Config()) and not anonymous("/readyz", Config(anonymous=Anonymous(False)))  # fmt: skip
    with pytest.raises(BadConfiguration, match="enabled"):
        read_configuration({**tree, "anonymous": {"enabled": False, "conditions": [{"path": "/"}]}})
