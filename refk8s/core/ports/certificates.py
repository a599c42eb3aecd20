"""The port to the cluster's authority, which has the key that signs certificates."""

from typing import Protocol

from refk8s.core.context import Instant
from refk8s.core.value import Value


class CertificateTerms(Value, frozen=True):
    """Everything that a certificate says, besides the public key of its owner. `usages` are those
    of CertificateSigningRequests, such as "client auth"."""

    common_name: str
    organizations: tuple[str, ...]
    usages: tuple[str, ...]
    not_before: Instant
    not_after: Instant
    dns_names: tuple[str, ...] = ()
    ip_addresses: tuple[str, ...] = ()
    emails: tuple[str, ...] = ()
    uris: tuple[str, ...] = ()


class NotIssued(Exception):
    """The authority issues no certificate for this request; the message is the reason."""


class CertificateAuthority(Protocol):
    """Signs certificates."""

    @property
    def not_after(self) -> Instant:
        """When the authority's own certificate expires."""

    def issue(self, request: bytes, terms: CertificateTerms) -> bytes:
        """The certificate, in PEM, for the key of this request, which is in PEM too. Only the key
        is taken from the request. Raises NotIssued if the request is not signed with its key, or
        if the key is of a kind or size that is not accepted."""
