"""A running webhook server for the tests, with certificates of its own authority."""

import base64
import ipaddress
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fake_cluster import FakeCluster, until

SERVICE_NAME = "hook.default.svc"


class Authority:
    """An authority that signs certificates of servers."""

    def __init__(self) -> None:
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "webhook authority")])
        self.certificate = self._sign(self.name, self.key.public_key(), None)
        pem = self.certificate.public_bytes(serialization.Encoding.PEM)
        self.bundle = base64.b64encode(pem).decode()

    def _sign(self, name: x509.Name, key: ec.EllipticCurvePublicKey, hosts: list[str] | None, days: int = 1) -> x509.Certificate:  # fmt: skip
        now = datetime.now(UTC)
        start = now - timedelta(days=2 if days < 0 else 1)
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(self.name)
            .public_key(key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(start)
            .not_valid_after(now + timedelta(days=days))
            .add_extension(x509.BasicConstraints(hosts is None, None), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if hosts is not None:
            names: list[x509.GeneralName] = [
                x509.IPAddress(ipaddress.ip_address(host))
                if host.replace(".", "").isdigit()
                else x509.DNSName(host)
                for host in hosts
            ]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        else:
            usage = x509.KeyUsage(False, False, False, False, False, True, True, False, False)
            builder = builder.add_extension(usage, critical=True)
        return builder.sign(self.key, hashes.SHA256())

    def issue(self, directory: Path, *hosts: str, days: int = 1) -> tuple[Path, Path]:
        """Files with a certificate for these hosts, and its key."""
        key = ec.generate_private_key(ec.SECP256R1())
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, hosts[0])])
        made = self._sign(name, key.public_key(), list(hosts), days)
        files = directory / f"{hosts[0]}.crt", directory / f"{hosts[0]}.key"
        files[0].write_bytes(made.public_bytes(serialization.Encoding.PEM))
        files[1].write_bytes(
            key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
        )
        return files


class WebhookServer:
    """A process; `url` of a path is for the address 127.0.0.1."""

    def __init__(self, directory: Path, cluster: FakeCluster | None = None, days: int = 1, hosts: tuple[str, ...] = ("127.0.0.1", SERVICE_NAME)) -> None:  # fmt: skip
        self.authority = Authority()
        files = self.authority.issue(directory, *hosts, days=days)
        port_file = directory / "port"
        environment = dict(os.environ)
        if cluster is not None:
            environment["API_SERVER"] = f"https://127.0.0.1:{cluster.port}"
            environment["API_TOKEN"] = cluster.token
        script = Path(__file__).with_name("webhook_server.py")
        command = [sys.executable, str(script), *map(str, files), str(port_file)]
        self.process = subprocess.Popen(command, env=environment, stdin=subprocess.DEVNULL)
        until(lambda: port_file.exists() and port_file.read_text(), "the webhook server runs")
        self.port = int(port_file.read_text())

    def url(self, path: str) -> str:
        return f"https://127.0.0.1:{self.port}/{path}"

    def stop(self) -> None:
        self.process.kill()
        self.process.wait()
