"""What lets a user in: the cluster's certificate authority, the server's certificate, the admin's token, and the kubeconfig.

All are files below the data directory, made once and kept, so that a restarted cluster is the same cluster to its clients.
"""

import base64
import ipaddress
import os
import secrets
from datetime import UTC, datetime, timedelta
from pathlib import Path

from attrs import frozen

VALID = timedelta(days=3650)


@frozen
class Credentials:
    """Paths of the server's key and certificate, the authority's certificate, and the admin's token."""

    authority: Path
    certificate: Path
    key: Path
    admin_token: str
    token_key: bytes  # signs service account tokens


def load_credentials(directory: Path, hosts: tuple[str, ...]) -> Credentials:
    """The credentials in this directory; made where there are none, and the server's certificate again where its hosts changed."""
    directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    authority, certificate, key = directory / "ca.crt", directory / "server.crt", directory / "server.key"
    token, names, token_key = directory / "admin.token", directory / "server.names", directory / "token.key"
    wanted = "\n".join(hosts)
    if not (authority.exists() and certificate.exists() and key.exists() and names.exists() and names.read_text() == wanted):
        _make_certificates(authority, certificate, key, hosts)
        _write(names, wanted.encode())
    if not token.exists():
        _write(token, secrets.token_hex(16).encode())
    if not token_key.exists():
        _write(token_key, secrets.token_bytes(32))
    return Credentials(authority, certificate, key, token.read_text().strip(), token_key.read_bytes())


def _write(path: Path, content: bytes) -> None:
    """Whole or not at all, and for the owner's eyes only."""
    beside = path.with_name(path.name + ".new")
    descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    beside.replace(path)


def _make_certificates(authority: Path, certificate: Path, key: Path, hosts: tuple[str, ...]) -> None:
    # Imported here: a restarted cluster has its certificates and need not pay 70 ms for the library.
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    now = datetime.now(UTC) - timedelta(minutes=5)

    def name(text: str) -> x509.Name:
        return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])

    def begin(subject: str, issuer: str, public_key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
        builder = x509.CertificateBuilder().subject_name(name(subject)).issuer_name(name(issuer)).public_key(public_key)
        builder = builder.serial_number(x509.random_serial_number()).not_valid_before(now).not_valid_after(now + VALID)
        return builder.add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)

    authority_key = ec.generate_private_key(ec.SECP256R1())
    usage = x509.KeyUsage(True, False, False, False, False, True, True, False, False)
    issuer = "refk8s-ca"
    authority_certificate = (
        begin(issuer, issuer, authority_key.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(usage, critical=True)
        .sign(authority_key, hashes.SHA256())
    )
    server_key = ec.generate_private_key(ec.SECP256R1())
    alternatives: list[x509.GeneralName] = []
    for host in hosts:
        try:
            alternatives.append(x509.IPAddress(ipaddress.ip_address(host)))
        except ValueError:
            alternatives.append(x509.DNSName(host))
    server_certificate = (
        begin("refk8s", issuer, server_key.public_key())
        .add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.ExtendedKeyUsage([x509.ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    _write(authority, authority_certificate.public_bytes(pem))
    _write(certificate, server_certificate.public_bytes(pem))
    _write(key, server_key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()))


def write_kubeconfig(path: Path, server: str, credentials: Credentials) -> None:
    """A kubeconfig with one cluster, one user and one context, all called refk8s."""
    authority = base64.b64encode(credentials.authority.read_bytes()).decode()
    path.parent.mkdir(parents=True, exist_ok=True)
    text = f"""apiVersion: v1
kind: Config
current-context: refk8s
clusters:
- name: refk8s
  cluster:
    server: {server}
    certificate-authority-data: {authority}
users:
- name: refk8s-admin
  user:
    token: {credentials.admin_token}
contexts:
- name: refk8s
  context:
    cluster: refk8s
    user: refk8s-admin
"""
    _write(path, text.encode())
