"""Users that an authenticating proxy names in headers: rule HTTP-29 (spec/http.md)."""

import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from hypothesis import given
from hypothesis import strategies as st

from refk8s.components.files import CannotRun
from refk8s.components.front_proxy import FrontProxy, read_front_proxy
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.request_headers import (
    INVALID,
    NO_CERTIFICATE,
    BadHeaders,
    Presented,
    RequestHeaders,
    read_flags,
    user_of_connection,
)

HEADERS = RequestHeaders(
    (b"x-remote-user", b"x-user"),
    frozenset({"front-proxy-client"}),
    (b"x-remote-uid",),
    (b"x-remote-group", b"x-team"),
    (b"x-remote-extra-",),
)
JANE = User("jane", groups=("system:authenticated",))
NAMES = st.sampled_from(
    [
        b"x-remote-user", b"x-user", b"x-remote-uid", b"x-remote-group", b"x-team",
        b"x-remote-extra-scopes", b"x-remote-extra-acme.com%2fproject", b"x-remote-extra-odd%zz",
        b"x-forwarded-user", b"x-remote", b"accept",
    ]
)  # fmt: skip
VALUES = st.sampled_from(
    ["", "bob", "dev", "system:masters", "system:authenticated", "system:unauthenticated",
     "system:anonymous", "\u00fc"]
)  # fmt: skip
LINES = st.lists(st.tuples(NAMES, VALUES.map(str.encode)), max_size=8).map(tuple)
SHOWN = st.sampled_from(
    [NO_CERTIFICATE, INVALID, Presented(JANE), Presented(is_proxy=True, is_valid=False), Presented(JANE, True)]
)  # fmt: skip
BEARER = st.sampled_from([{}, {"authorization": "Bearer t"}])


@given(SHOWN, LINES, BEARER)
def test_http_29_headers_name_a_user_on_a_connection_of_the_proxy_and_on_no_other(
    shown: Presented, lines: Any, headers: dict[str, str]
) -> None:
    # Shows HTTP-29.b, HTTP-29.c, HTTP-29.d, HTTP-29.e, HTTP-29.f, HTTP-29.g.
    values: dict[bytes, list[str]] = {}
    for name, value in lines:
        values.setdefault(name, []).append(value.decode())
    firsts = [(values.get(name) or [""])[0] for name in (b"x-remote-user", b"x-user")]
    named = next((one for one in firsts if one), "")
    if shown.is_proxy and named:
        user = user_of_connection(shown, lines, headers, HEADERS)
        assert user is not None and user.name == named
        assert user.uid == (values.get(b"x-remote-uid") or [""])[0]
        said = [
            one for name in (b"x-remote-group", b"x-team") for one in values.get(name, []) if one
        ]
        known = {"system:authenticated", "system:unauthenticated"} & set(said)
        assert list(user.groups) == said + (
            [] if known or named == "system:anonymous" else ["system:authenticated"]
        )
        assert dict(user.extra) == {
            key: tuple(values[header])
            for key, header in (
                ("scopes", b"x-remote-extra-scopes"),
                ("acme.com/project", b"x-remote-extra-acme.com%2fproject"),
                ("odd%zz", b"x-remote-extra-odd%zz"),
            )
            if header in values
        }
    elif shown.user is not None or shown.is_valid or headers:
        assert user_of_connection(shown, lines, headers, HEADERS) == shown.user
    else:
        with pytest.raises(ApiError) as refused:
            user_of_connection(shown, lines, headers, HEADERS)
        assert refused.value.status.code == 401


@given(st.sampled_from([b"x-remote-user", b"x-remote-group", b"x-remote-extra-a", b"x-remote-uid"]))
def test_http_29_a_value_that_is_no_text_names_nobody(header: bytes) -> None:
    lines = ((b"x-remote-user", b"jane"), (header, b"\xff"))
    if header == b"x-remote-user":
        lines = lines[1:]
    with pytest.raises(ApiError) as refused:
        user_of_connection(Presented(is_proxy=True), lines, {}, HEADERS)
    assert refused.value.status.code == 401


def _key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


class Authority:
    """An authority with a key of its own, or one that another has signed."""

    def __init__(self, name: str, above: "Authority | None" = None) -> None:
        self.name, self.key = name, _key()
        self.signer = above or self
        self.certificate = sign(self.key, name, self.signer, is_authority=True)

    @property
    def pem(self) -> str:
        return pem(self.certificate)


def sign(key: Any, name: str, signer: Authority, *, is_authority: bool = False) -> x509.Certificate:
    def named(text: str) -> x509.Name:
        return x509.Name(
            [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "system:masters"),
             x509.NameAttribute(NameOID.COMMON_NAME, text)]
        )  # fmt: skip

    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(named(signer.name))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=is_authority, path_length=None), critical=True)
    )
    if not is_authority:
        usage = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH])
        builder = builder.add_extension(usage, critical=False)
    return builder.sign(signer.key, hashes.SHA256())


def pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode()


CLIENTS, PROXIES = Authority("cluster"), Authority("front-proxy")
BELOW = Authority("below", above=PROXIES)
STRANGER = Authority("stranger")


def shown_by(
    directory: Path, chain: list[x509.Certificate], key: Any, proxies: str = PROXIES.pem,
    version: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
) -> Presented:  # fmt: skip
    """What a server that trusts both authorities reads of a handshake with this certificate."""
    server_key = _key()
    files = {
        "server": (pem(sign(server_key, "server", CLIENTS)), server_key),
        "client": ("".join(map(pem, chain)), key),
    }
    for name, (text, secret) in files.items():
        (directory / f"{name}.crt").write_text(text)
        (directory / f"{name}.key").write_bytes(
            secret.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
    ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    ours.load_cert_chain(directory / "server.crt", directory / "server.key")
    ours.load_verify_locations(cadata=CLIENTS.pem)
    ours.verify_mode = ssl.CERT_OPTIONAL
    ours.maximum_version = version
    proxy = FrontProxy(HEADERS, proxies)
    proxy.trust(ours)
    theirs = ssl._create_unverified_context()
    theirs.load_cert_chain(directory / "client.crt", directory / "client.key")
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(to_server, to_client, server_side=True)
    client = theirs.wrap_bio(to_client, to_server)
    for _ in range(10):
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
    return proxy.read(server)


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@pytest.mark.parametrize(
    ("signer", "name", "expected"),
    [
        (CLIENTS, "front-proxy-client", (True, False)),
        (CLIENTS, "kubernetes-admin", (True, False)),
        (PROXIES, "front-proxy-client", (False, True)),
        (PROXIES, "kubernetes-admin", (False, False)),
        (BELOW, "front-proxy-client", (False, True)),
        (BELOW, "kubernetes-admin", (False, False)),
    ],
)
def test_http_29_the_authority_of_a_certificate_is_the_one_that_the_handshake_has_verified(
    tmp_path: Path, signer: Authority, name: str, expected: tuple[bool, bool], version: Any
) -> None:
    # Shows HTTP-29.a, HTTP-29.i, HTTP-29.j.
    key = _key()
    chain = [sign(key, name, signer), *([BELOW.certificate] if signer is BELOW else [])]
    found = shown_by(tmp_path, chain, key, version=version)
    assert (found.user is not None, found.is_proxy) == expected
    assert found.user is None or found.user.name == name
    assert found.is_valid == (signer is CLIENTS)


def test_http_29_an_authority_with_the_name_of_the_other_gives_nothing_of_it(
    tmp_path: Path,
) -> None:
    same = Authority(CLIENTS.name)
    key = _key()
    try:
        found = shown_by(tmp_path, [sign(key, "kubernetes-admin", same)], key, same.pem)
    except ssl.SSLError:
        return
    assert found.user is None and not found.is_proxy


def test_http_29_one_authority_may_be_both(tmp_path: Path) -> None:
    key = _key()
    found = shown_by(tmp_path, [sign(key, "front-proxy-client", CLIENTS)], key, CLIENTS.pem)
    assert found.is_proxy and found.user is not None
    assert user_of_connection(found, (), {}, HEADERS) == found.user


def test_http_29_a_certificate_of_neither_authority_ends_the_handshake(tmp_path: Path) -> None:
    key = _key()
    with pytest.raises(ssl.SSLError):
        shown_by(tmp_path, [sign(key, "front-proxy-client", STRANGER)], key)


@given(LINES)
def test_http_29_the_headers_are_removed_and_no_others(lines: Any) -> None:
    # Shows HTTP-29.h.
    rest, named = FrontProxy(HEADERS, PROXIES.pem).split(list(lines))
    assert [one for one in lines if one[0] in (b"x-forwarded-user", b"x-remote", b"accept")] == rest
    assert len(rest) + len(named) == len(lines)
    assert all(not HEADERS.is_named(name) for name, _ in rest)


FLAGS = {
    "client_ca_file": "", "allowed_names": "front-proxy-client", "username_headers": "X-Remote-User,X-User",
    "uid_headers": "X-Remote-Uid", "group_headers": "X-Remote-Group,X-Team",
    "extra_headers_prefix": "X-Remote-Extra-",
}  # fmt: skip


def test_http_29_the_flags_name_headers(tmp_path: Path) -> None:
    # Shows HTTP-29.k.
    assert read_flags(FLAGS) == HEADERS
    file = tmp_path / "ca.crt"
    file.write_text(PROXIES.pem)
    assert read_front_proxy({**FLAGS, "client_ca_file": str(file)}) is not None
    assert read_front_proxy(dict.fromkeys(FLAGS, "")) is None


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"username_headers": ""}, "required"),
        ({"username_headers": "X Remote"}, "not the name of a header"),
        ({"group_headers": "Authorization"}, "another meaning"),
        ({"extra_headers_prefix": "impersonate-extra-"}, "another meaning"),
        ({"uid_headers": ",".join(f"x-{n}" for n in range(65))}, "more than 64"),
    ],
)
def test_http_29_flags_that_cannot_be_followed_are_refused(
    change: dict[str, str], words: str
) -> None:
    with pytest.raises(BadHeaders, match=words):
        read_flags({**FLAGS, **change})


@pytest.mark.parametrize("text", ["", "no certificate", "LEAF", "\u00fc"])
def test_http_29_a_file_without_an_authority_is_refused(tmp_path: Path, text: str) -> None:
    file = tmp_path / "ca.crt"
    file.write_text(pem(sign(_key(), "leaf", PROXIES)) if text == "LEAF" else text)
    with pytest.raises(CannotRun, match="--requestheader-client-ca-file"):
        read_front_proxy({**FLAGS, "client_ca_file": str(file)})
    with pytest.raises(CannotRun, match="needs --requestheader-client-ca-file"):
        read_front_proxy(FLAGS)
