"""The cleaners of CertificateSigningRequests and PodCertificateRequests. Rules TRUST-10, TRUST-17
(spec/trust.md).

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests" (lifecycle). Left
out: the deletion of a request whose certificate has expired within an hour of its issue.
"""

from typing import Final

from refk8s.core.api.certificates_v1 import CertificateSigningRequest, PodCertificateRequest
from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CERTIFICATE_SIGNING_REQUESTS, POD_CERTIFICATE_REQUESTS
from refk8s.core.context import MINUTE, Instant, parse_timestamp, timestamp
from refk8s.core.controllers.certificate_requests import (
    APPROVED,
    DENIED,
    FAILED,
    USER,
    condition_of,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View

DECIDED_KEPT: Final = 60 * MINUTE
PENDING_KEPT: Final = 24 * 60 * MINUTE
POD_REQUEST_KEPT: Final = 15 * MINUTE


def kept_until(request: CertificateSigningRequest) -> Instant | None:
    """When a request is deleted; None if it is kept (TRUST-10)."""
    decided = [condition_of(request, kind) for kind in (DENIED, FAILED)]
    if request.status.certificate:
        decided.append(condition_of(request, APPROVED))
    ends = [
        parse_timestamp(each.last_update_time) + DECIDED_KEPT
        for each in decided
        if each is not None and each.last_update_time is not None
    ]
    if not request.status.conditions and request.metadata.creation_timestamp is not None:
        ends.append(parse_timestamp(request.metadata.creation_timestamp) + PENDING_KEPT)
    return min(ends, default=None)


class CertificateCleaner(Reconciler):
    """TRUST-10: deletes requests that are no longer needed."""

    name = "certificatesigningrequest-cleaner-controller"
    user = USER
    interests = (Interest(CERTIFICATE_SIGNING_REQUESTS, own_key),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        request: CertificateSigningRequest | None = view.get(CERTIFICATE_SIGNING_REQUESTS, key)
        if request is None or request.metadata.deletion_timestamp is not None:
            return NOTHING

        # Decide
        ends = kept_until(request)
        if ends is None:
            return NOTHING
        if now < ends:
            return Plan(wake_at=ends)

        # Act
        preconditions = Preconditions(
            uid=request.metadata.uid, resource_version=request.metadata.resource_version
        )
        deletion = Request(
            "delete",
            CERTIFICATE_SIGNING_REQUESTS,
            "",
            key,
            body=DeleteOptions(preconditions=preconditions),
            because="it was decided an hour ago, or not within a day",
        )
        return Plan(((deletion,),))


class PodCertificateRequestCleaner(Reconciler):
    """TRUST-17: deletes a PodCertificateRequest a quarter of an hour after its creation."""

    name = "podcertificaterequestcleaner"
    interests = (Interest(POD_CERTIFICATE_REQUESTS, own_key),)

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        request: PodCertificateRequest | None = view.get(POD_CERTIFICATE_REQUESTS, key)
        if request is None or request.metadata.deletion_timestamp is not None:
            return NOTHING

        # Decide
        metadata = request.metadata
        ends = parse_timestamp(metadata.creation_timestamp or timestamp(now)) + POD_REQUEST_KEPT
        if now < ends:
            return Plan(wake_at=ends)

        # Act
        deletion = Request(
            "delete",
            POD_CERTIFICATE_REQUESTS,
            metadata.namespace or "",
            metadata.name or "",
            body=DeleteOptions(preconditions=Preconditions(uid=metadata.uid)),
            because="it was created a quarter of an hour ago",
        )
        return Plan(((deletion,),))
