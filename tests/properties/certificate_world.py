"""Keys, requests for certificates and an authority, for tests."""

import ipaddress
import warnings
from base64 import b64encode
from functools import cache
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from refk8s.components.certificate_authority import FileAuthority
from refk8s.components.certificates import Pair, make_key, make_self_signed
from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
    CertificateSigningRequestSpec,
    CertificateSigningRequestStatus,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.context import timestamp
from refk8s.core.controllers.certificate_requests import CLIENT, KUBELET_CLIENT, KUBELET_SERVING
from refk8s.core.controllers.certificate_signing import CertificateSigner
from refk8s.core.ports.certificates import CertificateAuthority

ORGANIZATION, CN = x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME
CLIENT_USAGES = ("digital signature", "client auth")
SERVER_USAGES = ("digital signature", "server auth")


@cache
def a_key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


def pem_request(
    common_names: tuple[str, ...] = ("system:node:a",),
    organizations: tuple[str, ...] = ("system:nodes",),
    names: tuple[x509.GeneralName, ...] = (),
    key: Any = None,
    more: tuple[x509.ExtensionType, ...] = (),
) -> bytes:
    """A PKCS #10 request in PEM."""
    warnings.simplefilter("ignore", UserWarning)  # names of nodes may be long
    attributes = [x509.NameAttribute(ORGANIZATION, each, _validate=False) for each in organizations]
    attributes += [x509.NameAttribute(CN, each, _validate=False) for each in common_names]
    builder = x509.CertificateSigningRequestBuilder().subject_name(x509.Name(attributes))
    if names:
        builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
    for extension in more:
        builder = builder.add_extension(extension, critical=True)
    made = builder.sign(key or a_key(), hashes.SHA256())
    return made.public_bytes(serialization.Encoding.PEM)


def alternative(dns: tuple[str, ...] = (), ips: tuple[str, ...] = ()) -> tuple[Any, ...]:
    return (
        *[x509.DNSName(each) for each in dns],
        *[x509.IPAddress(ipaddress.ip_address(each)) for each in ips],
    )


def csr(
    pem: bytes,
    signer: str,
    usages: tuple[str, ...],
    user: str = "",
    groups: tuple[str, ...] = (),
    conditions: tuple[str, ...] = (),
    now: int = 0,
    expiration_seconds: int | None = None,
    certificate: str | None = None,
) -> CertificateSigningRequest:
    return CertificateSigningRequest(
        metadata=ObjectMeta(
            name="c", uid="u1", resource_version="5", creation_timestamp=timestamp(now)
        ),
        spec=CertificateSigningRequestSpec(
            request=b64encode(pem).decode(),
            signer_name=f"kubernetes.io/{signer}",
            usages=usages,
            username=user,
            groups=groups,
            expiration_seconds=expiration_seconds,
        ),
        status=CertificateSigningRequestStatus(
            conditions=tuple(
                CertificateSigningRequestCondition(
                    type=each, status="True", last_update_time=timestamp(now)
                )
                for each in conditions
            )
            or None,
            certificate=certificate,
        ),
    )


def file_authority(directory: Path, now: Any) -> FileAuthority:
    key = make_key()
    (directory / "ca.key").write_bytes(key)
    (directory / "ca.crt").write_bytes(make_self_signed(key, "ca", now))
    pair = Pair(directory / "ca.crt", directory / "ca.key")
    return FileAuthority(lambda: pair)


def signer_of(authority: CertificateAuthority, *duration: int) -> CertificateSigner:
    """The signing controller with one authority for all signers."""
    authorities = dict.fromkeys((CLIENT, KUBELET_CLIENT, KUBELET_SERVING), authority)
    return CertificateSigner(authorities, *duration)
