"""The signing controller: certificates for approved requests. Rules TRUST-6, TRUST-7
(spec/trust.md).

It decides what a certificate says; the authority, which has the key, signs it.
"""

from base64 import b64decode, b64encode
from collections.abc import Mapping
from typing import Final

from msgspec.structs import replace

from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
)
from refk8s.core.api.pkcs10 import NotPkcs10, read_request
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CERTIFICATE_SIGNING_REQUESTS
from refk8s.core.context import MINUTE, SECOND, Instant
from refk8s.core.controllers.certificate_requests import (
    APPROVED,
    DENIED,
    FAILED,
    USER,
    condition_of,
    why_not_signed,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View
from refk8s.core.ports.certificates import CertificateAuthority, CertificateTerms, NotIssued

DURATION: Final = 365 * 24 * 60 * MINUTE
DURATION_MIN: Final = 10 * MINUTE
BACKDATE: Final = 5 * MINUTE
"""A certificate is valid this much earlier, for clients whose clocks are behind."""
SHORT: Final = 8 * 60 * MINUTE
"""The time of a shorter certificate is not reduced by BACKDATE."""


def terms_of(
    request: CertificateSigningRequest, now: Instant, duration: Instant, end: Instant
) -> CertificateTerms:
    """What the certificate of this request says. `duration`: the longest; `end`: when the authority
    expires. Raises NotIssued if its signer does not sign it."""
    spec = request.spec
    try:
        names = read_request(spec.request)
    except NotPkcs10 as error:
        raise NotIssued(f"it cannot be read: {error}") from None
    usages = tuple(spec.usages or ())
    if problem := why_not_signed(spec.signer_name, names, usages):
        raise NotIssued(problem)
    if spec.expiration_seconds is not None:
        duration = min(duration, max(DURATION_MIN, spec.expiration_seconds * SECOND))
    until = now + duration - (BACKDATE if duration >= SHORT else 0)
    return CertificateTerms(
        common_name=names.common_names[0],
        organizations=names.organizations,
        usages=usages,
        not_before=now - BACKDATE,
        not_after=min(until, end),
        dns_names=names.dns_names,
        ip_addresses=names.ip_addresses,
        emails=names.emails,
        uris=names.uris,
    )


class CertificateSigner(Reconciler):
    """TRUST-7: issues the certificate of an approved request of one of Kubernetes' own signers."""

    name = "certificatesigningrequest-signing-controller"
    user = USER
    interests = (Interest(CERTIFICATE_SIGNING_REQUESTS, own_key),)

    def __init__(
        self, authorities: Mapping[str, CertificateAuthority], duration: Instant = DURATION
    ) -> None:
        """`authorities`: by the names of the signers; other signers are left alone."""
        self._authorities = authorities
        self._duration = duration

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        request: CertificateSigningRequest | None = view.get(CERTIFICATE_SIGNING_REQUESTS, key)
        if (
            request is None
            or request.metadata.deletion_timestamp is not None
            or request.spec.signer_name not in self._authorities
            or request.status.certificate
            or condition_of(request, APPROVED) is None
            or condition_of(request, DENIED) is not None
            or condition_of(request, FAILED) is not None
        ):
            return NOTHING

        # Decide
        authority = self._authorities[request.spec.signer_name]
        try:
            terms = terms_of(request, now, self._duration, authority.not_after)
            certificate = authority.issue(b64decode(request.spec.request), terms)
        except NotIssued as problem:
            condition = CertificateSigningRequestCondition(
                type=FAILED, status="True", reason="SignerValidationFailure", message=str(problem)
            )
            conditions = (*(request.status.conditions or ()), condition)
            status = replace(request.status, conditions=conditions)
            because = f"its signer does not sign it: {problem}"
        else:
            status = replace(request.status, certificate=b64encode(certificate).decode())
            because = "it is approved"

        # Act
        body = replace(request, status=status)
        where = (CERTIFICATE_SIGNING_REQUESTS, "", key, "status")
        return Plan(((Request("update", *where, body=body, because=because),),))
