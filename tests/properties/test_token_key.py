"""The key that signs tokens, and tokens that try to pass for signed. Rules HTTP-19, API-16, HOST-6
(spec/http.md, spec/api.md, spec/host.md)."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import subprocess
import sys
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa, utils
from hypothesis import given
from hypothesis import strategies as st
from test_http import NOW, TOKEN, USER, a_bound_token, a_server

from refk8s.components.http import Front
from refk8s.components.token_signer import token_signer
from refk8s.core.apiserver import p256
from refk8s.core.apiserver.authenticate import authenticate, check_token
from refk8s.core.apiserver.config import DEFAULT_CONFIG, Config
from refk8s.core.apiserver.issuer import issuer_document
from refk8s.core.apiserver.token_key import (
    BadKey,
    EcKey,
    RsaKey,
    TokenKey,
    is_signed,
    key_id,
    key_set,
    parse_key,
    sign_plainly,
)

PEM = serialization.Encoding.PEM
PKCS8 = serialization.PrivateFormat.PKCS8
TRADITIONAL = serialization.PrivateFormat.TraditionalOpenSSL
OPEN = serialization.NoEncryption()


@cache
def made(kind: str) -> Any:
    if kind == "RSA":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1())


@cache
def config_of(kind: str) -> Config:
    key = parse_key(made(kind).private_bytes(PEM, PKCS8, OPEN))
    signer = token_signer(key)
    return Config(token_key=key, sign=signer.sign, verify=signer.verify)


def base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def from_base64url(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


def name_of(token: str, config: Config) -> str | None:
    user = check_token(token, config, NOW).user
    return user.name if user else None


ROBOT = "system:serviceaccount:default:robot"


# --- the key and its documents


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_http_19_others_find_the_key_and_check_a_token_by_it(kind: str) -> None:
    # Shows API-16.a.
    config = config_of(kind)
    token = a_bound_token(config)
    assert name_of(token, config) == ROBOT
    assert name_of(token, DEFAULT_CONFIG) is None, "another key signs for nobody here"
    configuration, keys = (
        json.loads(document.content)  # type: ignore[union-attr]
        for document in (
            issuer_document("/.well-known/openid-configuration", config),
            issuer_document("/openid/v1/jwks", config),
        )
    )
    assert issuer_document("/openid", config) is None
    [told] = keys["keys"]
    signed, _, signature = token.rpartition(".")
    head, raw = json.loads(from_base64url(signed.partition(".")[0])), from_base64url(signature)
    assert head == {"alg": told["alg"], "kid": told["kid"]}
    assert configuration["id_token_signing_alg_values_supported"] == [told["alg"]]
    assert told["use"] == "sig" and told["kty"] == kind
    numbers = {
        name: int.from_bytes(from_base64url(told[name]), "big")
        for name in ("n", "e", "x", "y")
        if name in told
    }
    if kind == "RSA":
        assert told["alg"] == "RS256" and told["e"] == "AQAB" and set(numbers) == {"n", "e"}
        key: Any = rsa.RSAPublicNumbers(numbers["e"], numbers["n"]).public_key()
        key.verify(raw, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    else:
        assert told["alg"] == "ES256" and told["crv"] == "P-256" and set(numbers) == {"x", "y"}
        assert len(from_base64url(told["x"])) == len(from_base64url(told["y"])) == 32
        key = ec.EllipticCurvePublicNumbers(numbers["x"], numbers["y"], ec.SECP256R1()).public_key()
        pair = (int.from_bytes(raw[:32], "big"), int.from_bytes(raw[32:], "big"))
        key.verify(utils.encode_dss_signature(*pair), signed.encode(), ec.ECDSA(hashes.SHA256()))
    # the key's name is the hash of its SubjectPublicKeyInfo
    info = key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    assert told["kid"] == base64url(hashlib.sha256(info).digest())


@given(st.binary(max_size=300), st.binary(max_size=300))
def test_http_19_what_signs_in_a_cluster_agrees_with_the_plain_arithmetic(
    data: bytes, other: bytes
) -> None:
    key = parse_key(made("RSA").private_bytes(PEM, PKCS8, OPEN))
    assert isinstance(key, RsaKey)
    signer, mark = token_signer(key), sign_plainly(key, data)
    assert signer.sign(data) == mark and is_signed(key, data, mark)
    for text in (data, other, mark):
        assert signer.verify(text, mark) == is_signed(key, text, mark) == (text == data)
        assert signer.verify(data, text) == is_signed(key, data, text) == (text == mark)


@given(st.integers(1, p256.ORDER - 1) | st.integers(1, 40) | st.integers(1, 40).map(lambda n: -n))
def test_host_6_the_point_of_a_private_number_is_the_librarys(number: int) -> None:
    number %= p256.ORDER
    public = ec.derive_private_key(number, ec.SECP256R1()).public_key().public_numbers()
    assert p256.public_point(number) == (public.x, public.y)


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_host_6_a_key_of_either_kind_is_read_in_either_form(kind: str) -> None:
    # Shows HOST-6.h.
    key = made(kind)
    found = parse_key(key.private_bytes(PEM, PKCS8, OPEN))
    assert parse_key(key.private_bytes(PEM, TRADITIONAL, OPEN)) == found
    numbers = key.private_numbers()
    if kind == "RSA":
        expected: TokenKey = RsaKey(numbers.p, numbers.q, numbers.public_numbers.e, numbers.d)
    else:
        public = numbers.public_numbers
        expected = EcKey(numbers.private_value, public.x, public.y)
    assert found == expected


@pytest.mark.parametrize("kind", ["EC", "RSA"])
@pytest.mark.parametrize("form", [PKCS8, TRADITIONAL])
def test_host_6_a_key_with_an_altered_or_missing_byte_is_refused(kind: str, form: Any) -> None:
    # Shows HOST-6.h.
    key = made(kind)
    expected = parse_key(key.private_bytes(PEM, form, OPEN))
    first, *_, last = key.private_bytes(PEM, form, OPEN).splitlines()
    body = key.private_bytes(serialization.Encoding.DER, form, OPEN)
    # A checksum-free form: a byte on which no number depends (a version) may pass, and only that.
    passed = 0
    for place in range(0, len(body), 1 if kind == "EC" else 37):
        for damaged in (
            body[:place] + bytes([body[place] ^ 1]) + body[place + 1 :],
            body[:place],
            body[:place] + body[place + 1 :],
        ):
            with contextlib.suppress(BadKey):
                assert parse_key(b"\n".join([first, base64.b64encode(damaged), last])) == expected
                passed += 1
    assert passed <= 12


def test_host_6_what_is_no_key_for_tokens_is_refused() -> None:
    # Shows HOST-6.h.
    own = made("EC")
    for other in (ec.SECP384R1(), ec.SECP521R1(), ec.SECP256K1()):
        pem = ec.generate_private_key(other).private_bytes
        for form in (PKCS8, TRADITIONAL):
            with pytest.raises(BadKey, match="another"):
                parse_key(pem(PEM, form, OPEN))
    small = rsa.generate_private_key(65537, 1024)
    public = own.public_key().public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    locked = own.private_bytes(PEM, PKCS8, serialization.BestAvailableEncryption(b"x"))
    begin, end = b"-----BEGIN PRIVATE KEY-----\n", b"\n-----END PRIVATE KEY-----"
    for text in (b"", b"x", begin + end, begin + b"!" + end, begin + b"MAA=" + end, public, locked):
        with pytest.raises(BadKey):
            parse_key(text)
    assert isinstance(parse_key(small.private_bytes(PEM, PKCS8, OPEN)), RsaKey)
    # the same numbers without the public point: damage of the private number would not be noticed
    whole = own.private_bytes(serialization.Encoding.DER, TRADITIONAL, OPEN)
    bare = b"\x30\x31" + whole[2 : 2 + 3 + 34 + 12]
    text = b"-----BEGIN EC PRIVATE KEY-----\n" + base64.b64encode(bare)
    with pytest.raises(BadKey):
        parse_key(text + b"\n-----END EC PRIVATE KEY-----")


# --- attacks


def forged(claims_of: str, head: Any, sign: Any) -> str:
    """The claims of a good token under another head and signature."""
    payload = claims_of.split(".")[1]
    signed = f"{base64url(json.dumps(head, separators=(',', ':')).encode())}.{payload}"
    return f"{signed}.{base64url(sign(signed.encode()))}"


def attacks(kind: str) -> dict[str, str]:
    """Tokens with the claims of a good one, by what is wrong with them."""
    config, other = config_of(kind), "RSA" if kind == "EC" else "EC"
    kid, good = key_id(config.token_key), a_bound_token(config)
    theirs = token_signer(parse_key(made(other).private_bytes(PEM, PKCS8, OPEN))).sign
    ours = config.sign
    alg, wrong = ("ES256", "RS256") if kind == "EC" else ("RS256", "ES256")
    public = made(kind).public_key()
    secrets = {
        "pem": public.public_bytes(PEM, serialization.PublicFormat.SubjectPublicKeyInfo),
        "der": public.public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        ),
        "jwks": json.dumps(key_set(config.token_key)).encode(),
        "kid": kid.encode(),
    }
    found = {
        f"HS256 with the public key as {name}": forged(
            good,
            {"alg": "HS256", "kid": kid},
            lambda data, secret=secret: hmac.digest(secret, data, "sha256"),
        )
        for name, secret in secrets.items()
    }
    for none in ("none", "None", "NONE", "", None):
        for name, sign in (("empty", lambda _: b""), ("right", ours)):
            head = {"alg": none, "kid": kid}
            found[f"alg {none!r}, signature {name}"] = forged(good, head, sign)
    for name, head in {
        "the other algorithm": {"alg": wrong, "kid": kid},
        "no algorithm": {"kid": kid},
        "no key": {"alg": alg},
        "another key": {"alg": alg, "kid": "x"},
        "lower case": {"alg": alg.lower(), "kid": kid},
        "list of algorithms": {"alg": [alg], "kid": kid},
        "own key in the head": {"alg": alg, "kid": kid, "jwk": {"kty": "oct", "k": ""}},
        "address of a key": {"alg": alg, "kid": kid, "jku": "https://192.0.2.1/"},
        "critical": {"alg": alg, "kid": kid, "crit": ["exp"]},
        "no object": [alg, kid],
    }.items():
        found[f"{name}, signed by us"] = forged(good, head, ours)
        found[f"{name}, signed by them"] = forged(good, head, theirs)
    found["right head, signed by them"] = forged(good, {"alg": alg, "kid": kid}, theirs)
    signed, _, mark = good.rpartition(".")
    raw = from_base64url(mark)
    found |= {
        f"signature {name}": f"{signed}.{base64url(changed)}"
        for name, changed in bad_signatures(kind, raw).items()
    }
    claims = json.loads(from_base64url(good.split(".")[1])) | {"sub": "system:admin"}
    found["other claims"] = f"{good.split('.')[0]}.{base64url(json.dumps(claims).encode())}.{mark}"
    return found


def bad_signatures(kind: str, raw: bytes) -> dict[str, bytes]:
    found = {
        "empty": b"",
        "zero": bytes(len(raw)),
        "ones": b"\xff" * len(raw),
        "short": raw[:-1],
        "without its first byte": raw[1:],
        "long": raw + b"\0",
        "with a zero before": b"\0" + raw,
        "twice": raw + raw,
    }
    if kind == "RSA":
        return found
    r, s, zero = raw[:32], raw[32:], bytes(32)
    order, more = p256.ORDER.to_bytes(32, "big"), (p256.ORDER + 1).to_bytes(32, "big")
    numbers = (int.from_bytes(r, "big"), int.from_bytes(s, "big"))
    return found | {
        "r zero": zero + s, "s zero": r + zero, "r the order": order + s, "s the order": r + order,
        "both the order": order + order, "r too large": more + s, "s too large": r + more,
        "r one": (1).to_bytes(32, "big") + s, "swapped": s + r, "s of 33 bytes": r + b"\0" + s,
        "DER": utils.encode_dss_signature(*numbers),
    }  # fmt: skip


@pytest.mark.parametrize("kind", ["EC", "RSA"])
def test_api_16_no_token_passes_under_another_algorithm_or_a_malformed_signature(kind: str) -> None:
    # Shows API-16.b, API-16.c.
    config, calls = config_of(kind), 0
    verify = config.verify
    assert verify is not None

    def counting(data: bytes, mark: bytes) -> bool:
        nonlocal calls
        calls += 1
        return verify(data, mark)

    watched = Config(config.token_key, config.sign, counting)
    assert name_of(a_bound_token(config), watched) == ROBOT and calls == 1
    passed = []
    for name, token in attacks(kind).items():
        calls = 0
        if name_of(token, watched) is not None:
            passed.append(name)
        assert calls <= 1, "a forged token costs one verification at most"
        heads = json.loads(from_base64url(token.split(".")[0]))
        if heads != {"alg": "ES256" if kind == "EC" else "RS256", "kid": key_id(config.token_key)}:
            assert calls == 0, "a token of another key or algorithm costs none"
    assert not passed


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_api_16_one_changed_character_of_an_es256_token_makes_it_nobodys(
    place: int, character: str
) -> None:
    # Shows API-16.c.
    config = config_of("EC")
    token = a_bound_token(config)
    place %= len(token)
    changed = token[:place] + character + token[place + 1 :]
    assert (name_of(changed, config) is not None) == (changed == token)


@given(st.binary(max_size=80))
def test_http_19_any_signature_is_checked_without_an_exception(mark: bytes) -> None:
    for kind in ("EC", "RSA"):
        config = config_of(kind)
        signed = a_bound_token(config).rpartition(".")[0]
        assert name_of(f"{signed}.{base64url(mark)}", config) is None


def test_http_19_forged_tokens_do_not_push_good_ones_out_of_what_is_remembered() -> None:
    config, seen = config_of("EC"), []
    verify = config.verify
    assert verify is not None
    watched = Config(
        config.token_key,
        config.sign,
        lambda data, mark: not seen.append(data) and verify(data, mark),
    )
    good = a_bound_token(watched)
    assert name_of(good, watched) == ROBOT and len(seen) == 1
    signed, _, _ = good.rpartition(".")
    for number in range(3_000):
        mark = number.to_bytes(64, "big")
        assert name_of(f"{signed}.{base64url(mark)}", watched) is None
    assert len(seen) == 3_001
    assert name_of(good, watched) == ROBOT and len(seen) == 3_001


@pytest.mark.parametrize("secret", [None, {"name": "a", "uid": "u"}, ["a"], "a", {"name": [1]}])
def test_http_19_a_request_with_a_forged_token_costs_one_verification(secret: Any) -> None:
    async def test() -> None:
        config, seen = config_of("EC"), []
        front = Front(
            await a_server(
                config=Config(
                    config.token_key,
                    config.sign,
                    lambda data, mark: bool(seen.append(data)),
                    users={TOKEN: USER},
                )
            )
        )
        head, payload, mark = a_bound_token(config).split(".")
        claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
        claims["kubernetes.io"]["secret"] = secret
        forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
        token = f"{head}.{forged}.{mark}"
        codes = []

        async def send(message: Any) -> None:
            if message["type"] == "http.response.start":
                codes.append(message["status"])

        async def receive() -> Any:
            return {"type": "http.request", "body": b"", "more_body": False}

        path = "/api/v1/namespaces/default/configmaps"
        scope = {
            "type": "http", "method": "GET", "path": path, "raw_path": path.encode(),
            "query_string": b"", "headers": [(b"authorization", f"Bearer {token}".encode())],
        }  # fmt: skip
        await front(scope, receive, send)
        assert codes == [401] and len(seen) == 1

    asyncio.run(test())


def test_http_19_signatures_in_simulations_are_the_same_in_every_run() -> None:
    tokens = {a_bound_token(DEFAULT_CONFIG) for _ in range(3)}
    assert len(tokens) == 1
    assert authenticate(f"Bearer {tokens.pop()}", DEFAULT_CONFIG, NOW) is not None


def test_http_19_the_library_is_not_loaded_before_the_first_token(tmp_path: Path) -> None:
    """Loading it takes longer than all else that a restart does with keys."""
    (tmp_path / "key").write_bytes(made("EC").private_bytes(PEM, PKCS8, OPEN))
    program = """
import sys
from pathlib import Path
import refk8s.components.running_cluster
from refk8s.components.token_signer import token_signer
from refk8s.core.apiserver.token_key import parse_key
signer = token_signer(parse_key(Path(sys.argv[1]).read_bytes()))
assert "cryptography" not in sys.modules
assert signer.verify(b"data", signer.sign(b"data")) and "cryptography" in sys.modules
"""
    subprocess.run([sys.executable, "-c", program, str(tmp_path / "key")], check=True)
