"""A CertificateSigningRequest has the identity of the requesting user. Rule ADM-20
(spec/admission.md).

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests"; "Admission
Control in Kubernetes" (CertificateSubjectRestriction).
"""

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from refk8s.core.api import status
from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
)
from refk8s.core.api.pkcs10 import NotPkcs10, read_request
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import MASTERS
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context, timestamp

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

CLIENT_SIGNER = "kubernetes.io/kube-apiserver-client"


def admit_signing_request(
    request: Request, new: CertificateSigningRequest, old: Any, store: Reader, context: Context
) -> CertificateSigningRequest:
    """ADM-20: set the identity of the requesting user."""
    if old is not None:
        return new
    user = request.user
    extra = dict(user.extra) or None
    spec = replace(
        new.spec,
        username=user.name or None,
        uid=user.uid or None,
        groups=user.groups or None,
        extra=extra,
    )
    return replace(new, spec=spec)


def check_subject(
    exchange: "Exchange", new: CertificateSigningRequest, old: CertificateSigningRequest | None
) -> None:
    """ADM-20: raise ApiError 403 for a client certificate in the administrators' group."""
    if old is not None or new.spec.signer_name != CLIENT_SIGNER:
        return
    try:
        organizations = read_request(new.spec.request).organizations
    except NotPkcs10 as error:
        organizations, why = (), f"failed to parse CSR: {error}"
    else:
        why = (
            f"use of {CLIENT_SIGNER} signer with {MASTERS} group is not allowed"
            if MASTERS in organizations
            else ""
        )
    if why:
        raise ApiError(status.forbidden(exchange.request.resource, new.metadata.name or "", why))


def admit_conditions(
    request: Request,
    new: CertificateSigningRequest,
    old: CertificateSigningRequest,
    store: Reader,
    context: Context,
) -> CertificateSigningRequest:
    """ADM-20: set the times of a condition: when it was written, and when its status last
    changed."""
    before = {condition.type: condition for condition in old.status.conditions or ()}
    conditions = tuple(
        [_dated(one, before.get(one.type), context) for one in new.status.conditions or ()]
    )
    if conditions == (new.status.conditions or ()):
        return new
    return replace(new, status=replace(new.status, conditions=conditions))


def _dated(
    condition: CertificateSigningRequestCondition,
    before: CertificateSigningRequestCondition | None,
    context: Context,
) -> CertificateSigningRequestCondition:
    if condition.last_update_time is None:
        condition = replace(condition, last_update_time=timestamp(context.now))
    if condition.last_transition_time is None:
        same = before is not None and before.status == condition.status
        since = before.last_transition_time if same and before is not None else None
        condition = replace(condition, last_transition_time=since or timestamp(context.now))
    return condition
