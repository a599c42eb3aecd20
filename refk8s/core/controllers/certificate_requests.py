"""CertificateSigningRequests and Kubernetes' own signers: what a signer accepts. Rules TRUST-6 to
TRUST-9 (spec/trust.md).

Source: Kubernetes documentation, "Certificates and Certificate Signing Requests" (Kubernetes
signers). Left out: kubernetes.io/legacy-unknown, which the v1 API does not accept in new requests.
"""

from typing import Final

from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
)
from refk8s.core.api.pkcs10 import CertificateRequest
from refk8s.core.api.user import MASTERS, NODES, service_account_user

CLIENT: Final = "kubernetes.io/kube-apiserver-client"
KUBELET_CLIENT: Final = "kubernetes.io/kube-apiserver-client-kubelet"
KUBELET_SERVING: Final = "kubernetes.io/kubelet-serving"
APPROVED, DENIED, FAILED = "Approved", "Denied", "Failed"
NODE_PREFIX: Final = "system:node:"
USER: Final = service_account_user("kube-system", "certificate-controller")
"""The user of the three controllers."""

_SIGNATURE, _ENCIPHERMENT = "digital signature", "key encipherment"
CLIENT_AUTH, SERVER_AUTH = "client auth", "server auth"


def condition_of(
    request: CertificateSigningRequest, kind: str
) -> CertificateSigningRequestCondition | None:
    """The condition of this type, if the request has it."""
    return next((each for each in request.status.conditions or () if each.type == kind), None)


def why_not_signed(signer: str, names: CertificateRequest, usages: tuple[str, ...]) -> str:
    """Why this signer does not sign such a certificate; empty if it does (TRUST-6)."""
    if names.problem:
        return names.problem
    if len(names.common_names) > 1:
        return "its subject has more than one common name"
    if signer == CLIENT:
        return _why_not_client(names, usages)
    if signer not in (KUBELET_CLIENT, KUBELET_SERVING):
        return "it is for another signer"
    if names.organizations != (NODES,):
        return f"the organization of its subject is not exactly {NODES}"
    if not names.common_names or not names.common_names[0].removeprefix(NODE_PREFIX):
        return f"its common name does not begin with {NODE_PREFIX}"
    if not names.common_names[0].startswith(NODE_PREFIX):
        return f"its common name does not begin with {NODE_PREFIX}"
    wanted = CLIENT_AUTH if signer == KUBELET_CLIENT else SERVER_AUTH
    if set(usages) not in ({_SIGNATURE, wanted}, {_ENCIPHERMENT, _SIGNATURE, wanted}):
        return (
            f"its usages are not exactly {_SIGNATURE} and {wanted}, with or without {_ENCIPHERMENT}"
        )
    if signer == KUBELET_CLIENT:
        return "it has a subjectAltName" if names.has_alternative_names else ""
    if names.emails or names.uris:
        return "its subjectAltName has email addresses or URIs"
    if not names.dns_names and not names.ip_addresses:
        return "its subjectAltName has no DNS name or IP address"
    return ""


def _why_not_client(names: CertificateRequest, usages: tuple[str, ...]) -> str:
    if MASTERS in names.organizations:
        return f"the group {MASTERS} is not allowed"
    if not names.common_names:
        return "its subject has no common name"
    if CLIENT_AUTH not in usages or set(usages) - {_SIGNATURE, _ENCIPHERMENT, CLIENT_AUTH}:
        return f"its usages are not {CLIENT_AUTH}, with or without {_SIGNATURE} and {_ENCIPHERMENT}"
    return ""
