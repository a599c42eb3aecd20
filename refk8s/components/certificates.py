"""Creates and checks the certificates of the cluster. Rule HOST-6 (spec/host.md).

A check is a TLS handshake in memory between the server's certificate and the administrator's, with
the TLS library that the server uses anyway. It fails exactly when a certificate does not match its
key, was not signed by the authority, has expired, or is for other names. Creating certificates
needs the cryptography package. Importing it takes 50 ms, so it is imported only when a certificate
is missing or invalid.
"""

import ipaddress
import ssl
import warnings
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refk8s.core.value import Value

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey

VALID = timedelta(days=3650)
RENEW_BEFORE = timedelta(days=30)
"""At start, a certificate that expires within this time is renewed."""
AUTHORITY_NAME = "refk8s-ca"
HANDSHAKE_STEPS_MAX = 20
NAME_LENGTH_MAX = 64
"""The longest name that the cryptography package accepts (RFC 5280)."""


class Pair(Value, frozen=True):
    """A certificate and its private key, as files."""

    certificate: Path
    key: Path


def problem_of_self_signed(pair: Pair) -> str:
    """Why clients that trust this certificate would reject its signatures; empty if they accept.

    The handshake signs with the key, so it fails for a key with one altered byte, even if that key
    still parses.
    """
    try:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(pair.certificate, pair.key)
        _handshake(ours, _trusting(pair.certificate))
    except (ssl.SSLError, ValueError, OSError) as error:
        return _words(error)
    return ""


def problem_of_server(server: Pair, authority: Path, hosts: Iterable[str], now: datetime) -> str:
    """Why clients that trust the authority would reject the server under one of these names.

    Empty if they would accept it under all of them.
    """
    try:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(server.certificate, server.key)
        found = _handshake(ours, _trusting(authority))[0]
    except (ssl.SSLError, ValueError, OSError) as error:
        return _words(error)
    missing = sorted(set(hosts) - _names(found))
    return f"it is not for {', '.join(missing)}" if missing else _expiry(found, now)


def problem_of_client(
    client: Pair, server: Pair, authority: Path, name: str, group: str, now: datetime
) -> str:
    """Why the server would reject the client as this user of this group (empty: of none); empty if
    it accepts."""
    try:
        ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        ours.load_cert_chain(server.certificate, server.key)
        ours.load_verify_locations(cafile=str(authority))
        ours.verify_mode = ssl.CERT_REQUIRED
        theirs = _trusting(authority)
        theirs.load_cert_chain(client.certificate, client.key)
        found = _handshake(ours, theirs)[1]
    except (ssl.SSLError, ValueError, OSError) as error:
        return _words(error)
    subject = {part for parts in found.get("subject", ()) for part in parts}
    wanted = {("commonName", name), *((("organizationName", group),) if group else ())}
    if not wanted <= subject:
        return f"it is not for the user {name}" + (f" of the group {group}" if group else "")
    return _expiry(found, now)


def _trusting(authority: Path) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(authority))
    context.check_hostname = False  # `problem_of_server` compares all names itself
    return context


def _handshake(ours: ssl.SSLContext, theirs: ssl.SSLContext) -> tuple[Any, Any]:
    """Connect the two contexts in memory; returns the certificates that each side received.

    The client's first. Raises SSLError.
    """
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    server = ours.wrap_bio(to_server, to_client, server_side=True)
    client = theirs.wrap_bio(to_client, to_server)
    for _ in range(HANDSHAKE_STEPS_MAX):
        done = True
        for side in (client, server):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                done = False
        if done:
            return client.getpeercert() or {}, server.getpeercert() or {}
    raise ssl.SSLError("the handshake does not end")


def _names(found: Any) -> set[str]:
    return {_canonical(value) for _, value in found.get("subjectAltName", ())}


def _canonical(name: str) -> str:
    try:
        return str(ipaddress.ip_address(name))
    except ValueError:
        return name


_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def _expiry(found: Any, now: datetime) -> str:
    # "Jan  5 09:34:43 2018 GMT"; strptime would cost 10 ms to import
    month, day, clock, year, _ = found["notAfter"].split()
    hour, minute, second = map(int, clock.split(":"))
    ends = datetime(int(year), _MONTHS.index(month) + 1, int(day), hour, minute, second, tzinfo=UTC)
    return f"it expires at {ends:%Y-%m-%d}" if ends < now + RENEW_BEFORE else ""


def _words(error: Exception) -> str:
    """The library's error message as part of a sentence."""
    text = (
        getattr(error, "verify_message", "")
        or getattr(error, "reason", "")
        or getattr(error, "strerror", "")
        or str(error)
    )
    return str(text).lower().replace("_", " ")


# --- Making ---------------------------------------------------------------------------------------


def make_key() -> bytes:
    """A private key in PEM (EC P-256, PKCS 8)."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    pem, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    return ec.generate_private_key(ec.SECP256R1()).private_bytes(
        pem, form, serialization.NoEncryption()
    )


def make_self_signed(key: bytes, name: str, now: datetime) -> bytes:
    """The self-signed certificate, in PEM, of an authority with this key and name.

    Raises ValueError if `key` is not a key.
    """
    from cryptography import x509

    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    extensions = [(x509.BasicConstraints(ca=True, path_length=0), True), (usage, True)]
    return _sign(key, _name(name), key, extensions, now, issuer=name)


def make_server(
    key: bytes,
    authority_key: bytes,
    hosts: Iterable[str],
    now: datetime,
    issuer: str = AUTHORITY_NAME,
) -> bytes:
    """A server certificate, in PEM, for these names and addresses. `issuer`: the authority's
    name."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    extensions = [
        (x509.SubjectAlternativeName(_alternatives(hosts)), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), False),
    ]
    return _sign(key, _name("refk8s"), authority_key, extensions, now, issuer)


def make_client(
    key: bytes,
    authority_key: bytes,
    name: str,
    group: str,
    now: datetime,
    issuer: str = AUTHORITY_NAME,
) -> bytes:
    """A client certificate, in PEM, for this user (CN) and group (O; empty: none), as in
    Kubernetes. `issuer`: the authority's name."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usage = x509.KeyUsage(True, False, True, False, False, False, False, False, False)
    extensions = [
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (usage, True),
        (x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH]), False),
    ]
    return _sign(key, _name(name, group), authority_key, extensions, now, issuer)


def make_request(key: bytes, name: str, group: str, hosts: Iterable[str]) -> bytes:
    """A request for a certificate (PKCS #10), in PEM, for this common name and organization, and
    for these names and addresses."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    builder = x509.CertificateSigningRequestBuilder().subject_name(_name(name, group))
    if alternatives := _alternatives(hosts):
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    made = builder.sign(_load(key), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def _alternatives(hosts: Iterable[str]) -> "list[x509.GeneralName]":
    from cryptography import x509

    found: list[x509.GeneralName] = []
    for host in hosts:
        try:
            found.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            found.append(x509.DNSName(host))
    return found


def name_attribute(kind: "x509.ObjectIdentifier", text: str) -> "x509.NameAttribute[str]":
    """An attribute of a subject. Raises ValueError."""
    from cryptography import x509

    if len(text) <= NAME_LENGTH_MAX:
        return x509.NameAttribute(kind, text)
    with warnings.catch_warnings(action="ignore"):  # names of nodes may be longer
        return x509.NameAttribute(kind, text, _validate=False)


def _name(common: str, organization: str = "") -> "x509.Name":
    from cryptography import x509

    oids = x509.NameOID
    parts = [name_attribute(oids.ORGANIZATION_NAME, organization)] if organization else []
    return x509.Name([*parts, name_attribute(oids.COMMON_NAME, common)])


def _sign(
    key: bytes, subject: "x509.Name", authority_key: bytes, extensions: list[tuple[Any, bool]], now: datetime,
    issuer: str = AUTHORITY_NAME,
) -> bytes:  # fmt: skip
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization

    own, signing = _load(key), _load(authority_key)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(_name(issuer))
        .public_key(own.public_key())
    )
    begin = now - timedelta(minutes=5)
    builder = (
        builder.serial_number(x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(begin + VALID)
    )
    builder = builder.add_extension(
        x509.SubjectKeyIdentifier.from_public_key(own.public_key()), critical=False
    )
    builder = builder.add_extension(
        x509.AuthorityKeyIdentifier.from_issuer_public_key(signing.public_key()), critical=False
    )
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical)
    return builder.sign(signing, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def _load(key: bytes) -> "EllipticCurvePrivateKey":
    """Raises ValueError if `key` is not a private key of the type that `make_key` creates."""
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    loaded = serialization.load_pem_private_key(key, None)
    if not isinstance(loaded, ec.EllipticCurvePrivateKey):
        raise ValueError("it is not a key of an elliptic curve")
    return loaded
