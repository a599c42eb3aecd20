"""The authorities of a cluster: they issue the certificates that the signing controller decides on.
Rules TRUST-7, TRUST-16 (spec/trust.md).

The `cryptography` package is imported with the first certificate, which takes 50 ms.
"""

import ipaddress
import ssl
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from refk8s.components.certificates import Pair, name_attribute, problem_of_self_signed
from refk8s.components.credentials import load_kubelet_authority
from refk8s.components.files import CannotRun, read_file
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.certificate_requests import CLIENT, KUBELET_CLIENT, KUBELET_SERVING
from refk8s.core.ports.certificates import CertificateAuthority, CertificateTerms, NotIssued

if TYPE_CHECKING:
    from cryptography import x509

RSA_BITS_MIN = 2048
CURVES = ("secp256r1", "secp384r1", "secp521r1")


class FileAuthority:
    """The authority whose certificate and key are in files (`CertificateAuthority` in core/ports).

    `find` names them when they are first needed; what it raises, every method raises.
    """

    def __init__(self, find: Callable[[], Pair]) -> None:
        self._find = find
        self._pair: Pair | None = None
        self._loaded: tuple[Any, Any] | None = None

    @property
    def pair(self) -> Pair:
        """The files."""
        if self._pair is None:
            self._pair = self._find()
        return self._pair

    @property
    def not_after(self) -> Instant:
        """When the authority's own certificate expires."""
        return _expiry(self.pair.certificate)

    def issue(self, request: bytes, terms: CertificateTerms) -> bytes:
        """The certificate, in PEM, for the key of this request. Raises NotIssued."""
        from cryptography import x509
        from cryptography.hazmat.primitives import hashes, serialization

        try:
            parsed = x509.load_pem_x509_csr(request)
            is_signed = parsed.is_signature_valid
            public_key: Any = parsed.public_key()
        except Exception as error:  # the library raises errors of many types
            raise NotIssued(f"it cannot be read: {error or type(error).__name__}") from None
        if not is_signed:
            raise NotIssued("it is not signed with its own key")
        if problem := _problem_of_key(public_key):
            raise NotIssued(problem)
        if self._loaded is None:
            signing: Any = serialization.load_pem_private_key(self.pair.key.read_bytes(), None)
            certificate = x509.load_pem_x509_certificate(self.pair.certificate.read_bytes())
            self._loaded = (certificate, signing)
        authority, key = self._loaded
        builder = (
            x509.CertificateBuilder()
            .subject_name(_subject(terms))
            .issuer_name(authority.subject)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(_time(terms.not_before))
            .not_valid_after(_time(terms.not_after))
        )
        for extension, is_critical in _extensions(terms, public_key, authority):
            builder = builder.add_extension(extension, critical=is_critical)
        return builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


def check_authority(pair: Pair) -> Pair:
    """The same files. Raises CannotRun if they are missing or are not an authority."""
    for path in (pair.certificate, pair.key):
        if read_file(path) is None:
            raise CannotRun(f"there is no {path}, as in the --pki of an API server")
    if problem := problem_of_self_signed(pair):
        raise CannotRun(
            f"{pair.certificate} and {pair.key} are not a certificate authority ({problem})"
        )
    return pair


def signing_authorities(authority: Pair) -> dict[str, CertificateAuthority]:
    """The authority of each signer (TRUST-7, TRUST-16). `authority`: the cluster's; that of the
    serving certificates is in the same directory."""
    cluster = FileAuthority(lambda: authority)
    serving = FileAuthority(lambda: load_kubelet_authority(authority.certificate.parent))
    return {CLIENT: cluster, KUBELET_CLIENT: cluster, KUBELET_SERVING: serving}


def _expiry(certificate: Path) -> Instant:
    """When the first certificate in this file expires."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_verify_locations(cafile=str(certificate))
    return int(ssl.cert_time_to_seconds(str(context.get_ca_certs()[0]["notAfter"]))) * SECOND


def _time(at: Instant) -> datetime:
    return datetime.fromtimestamp(at // SECOND, UTC)


def _problem_of_key(key: Any) -> str:
    """Why this public key gets no certificate; empty if it does."""
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size >= RSA_BITS_MIN:
            return ""
        return f"its RSA key has {key.key_size} bits, which is less than {RSA_BITS_MIN}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        name = key.curve.name
        return "" if name in CURVES else f"its key is on the curve {name}, not {', '.join(CURVES)}"
    return "" if isinstance(key, ed25519.Ed25519PublicKey) else "its key is of another kind"


def _subject(terms: CertificateTerms) -> "x509.Name":
    from cryptography import x509

    organization, common_name = x509.NameOID.ORGANIZATION_NAME, x509.NameOID.COMMON_NAME
    try:
        return x509.Name(
            [
                *[name_attribute(organization, each) for each in terms.organizations],
                name_attribute(common_name, terms.common_name),
            ]
        )
    except (ValueError, TypeError) as error:
        raise NotIssued(f"its subject cannot be written: {error}") from None


def _extensions(
    terms: CertificateTerms, public_key: Any, authority: "x509.Certificate"
) -> list[tuple[Any, bool]]:
    """(extension, whether it is critical), as upstream's signer has them."""
    from cryptography import x509
    from cryptography.x509.oid import ExtendedKeyUsageOID

    usages = set(terms.usages)
    signs, enciphers = "digital signature" in usages, "key encipherment" in usages
    usage = x509.KeyUsage(signs, False, enciphers, False, False, False, False, False, False)
    known = {
        "client auth": ExtendedKeyUsageOID.CLIENT_AUTH,
        "server auth": ExtendedKeyUsageOID.SERVER_AUTH,
    }
    purposes = [oid for word, oid in known.items() if word in usages]
    found: list[tuple[Any, bool]] = [
        # an empty extension makes a certificate invalid
        *([(usage, True)] if signs or enciphers else []),
        (x509.ExtendedKeyUsage(purposes), False),
        (x509.BasicConstraints(ca=False, path_length=None), True),
        (x509.SubjectKeyIdentifier.from_public_key(public_key), False),
        (
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key()),  # type: ignore[arg-type]
            False,
        ),
    ]
    try:
        names: list[x509.GeneralName] = [x509.DNSName(each) for each in terms.dns_names]
        names += [x509.IPAddress(ipaddress.ip_address(each)) for each in terms.ip_addresses]
        names += [x509.RFC822Name(each) for each in terms.emails]
        names += [x509.UniformResourceIdentifier(each) for each in terms.uris]
    except ValueError as error:
        raise NotIssued(f"its subjectAltName cannot be written: {error}") from None
    if names:
        found.append((x509.SubjectAlternativeName(names), False))
    return found
