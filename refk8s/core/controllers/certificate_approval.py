"""The approving controller: kubelets' requests for certificates. Rules TRUST-8, TRUST-9
(spec/trust.md).

Whether the user may have the certificate is asked of the API server, with a SubjectAccessReview.
Source: Kubernetes documentation, "TLS bootstrapping" (approval), "Certificates and Certificate
Signing Requests"; KEP-267. Upstream approves no serving certificates.
"""

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.authorization_v1 import (
    ResourceAttributes,
    SubjectAccessReview,
    SubjectAccessReviewSpec,
)
from refk8s.core.api.certificates_v1 import (
    CertificateSigningRequest,
    CertificateSigningRequestCondition,
)
from refk8s.core.api.core_v1 import Node
from refk8s.core.api.pkcs10 import CertificateRequest, NotPkcs10, read_request
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    CERTIFICATE_SIGNING_REQUESTS,
    NODES,
    SUBJECT_ACCESS_REVIEWS,
)
from refk8s.core.api.user import NODES as NODES_GROUP
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.certificate_requests import (
    KUBELET_CLIENT,
    KUBELET_SERVING,
    NODE_PREFIX,
    USER,
    why_not_signed,
)
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View
from refk8s.core.value import Value, evolve

SELF_CLIENT, ANY_CLIENT, SELF_SERVING = "selfnodeclient", "nodeclient", "selfnodeserver"
"""The subresources of certificatesigningrequests for which the user needs the verb create."""
_WORDS: Final = {
    SELF_CLIENT: "Auto approving self kubelet client certificate after SubjectAccessReview.",
    ANY_CLIENT: "Auto approving kubelet client certificate after SubjectAccessReview.",
    SELF_SERVING: "Auto approving self kubelet serving certificate after SubjectAccessReview.",
}
RETRY: Final = 10 * SECOND
RETRY_MAX: Final = 300 * SECOND


class Asked(Value, frozen=True):
    """What the API server has said that the user of one request may do.

    `reviews`: what it was asked. An answer may be to the question about an earlier request of the
    same name, whose user was another one.
    """

    uid: str
    reviews: tuple[SubjectAccessReviewSpec, ...] = ()
    allowed: tuple[str, ...] = ()
    attempts: int = 0


Memory = Map[Key, Asked]


def permissions_of(request: CertificateSigningRequest, names: CertificateRequest) -> list[str]:
    """The permissions of which one is enough for the approval, in the order in which they are asked
    for (TRUST-8); none for a request that is not approved here."""
    spec = request.spec
    if why_not_signed(spec.signer_name, names, tuple(spec.usages or ())):
        return []
    is_self = names.common_names[:1] == (spec.username,)
    is_node = NODES_GROUP in (spec.groups or ())
    if spec.signer_name == KUBELET_CLIENT:
        # a node gets no certificate of another one, whatever it is allowed
        return [*([SELF_CLIENT] if is_self else []), *([] if is_node else [ANY_CLIENT])]
    if spec.signer_name == KUBELET_SERVING and is_self and is_node:
        return [SELF_SERVING]
    return []


def is_own(view: View, node: Node | None, names: CertificateRequest) -> bool:
    """Whether all names of a serving certificate are the node's alone (TRUST-9)."""
    if node is None:
        return False
    return all(name == node.metadata.name for name in names.dns_names) and all(
        _is_alone_of(view, node, address) for address in names.ip_addresses
    )


def addresses_of(node: Node) -> tuple[str, ...]:
    """The IP addresses in a Node's status."""
    kinds = ("InternalIP", "ExternalIP")
    return tuple([each.address for each in node.status.addresses or () if each.type in kinds])


def _is_alone_of(view: View, node: Node, address: str) -> bool:
    """Whether the Node has the address, no other Node has it, and a node can have it."""
    parsed = ip_address(address)
    if parsed.is_loopback or parsed.is_unspecified or parsed.is_multicast:
        return False
    return view.indexed_keys(NODES, "address", address) == [node.metadata.name]


def _of_node(view: View, old: Node | None, new: Node | None) -> tuple[Key, ...]:
    """The pending requests of a node whose addresses have changed."""
    if new is None or (old is not None and addresses_of(old) == addresses_of(new)):
        return ()
    user = f"{NODE_PREFIX}{new.metadata.name}"
    return tuple(view.indexed_keys(CERTIFICATE_SIGNING_REQUESTS, "pending-of", user))


def _pending_of(request: CertificateSigningRequest) -> tuple[str, ...]:
    return () if request.status.conditions else (request.spec.username or "",)


class CertificateApprover(Reconciler):
    """TRUST-8, TRUST-9: approves what a kubelet may have."""

    name = "certificatesigningrequest-approving-controller"
    user = USER
    interests = (
        Interest(CERTIFICATE_SIGNING_REQUESTS, own_key),
        Interest(NODES, _of_node),
    )
    indexes = (
        Index("pending-of", CERTIFICATE_SIGNING_REQUESTS, _pending_of),
        Index("address", NODES, addresses_of),
    )

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        request: CertificateSigningRequest | None = view.get(CERTIFICATE_SIGNING_REQUESTS, key)
        if (
            request is None
            or request.metadata.deletion_timestamp is not None
            or request.status.conditions
            or request.status.certificate
            or request.spec.signer_name not in (KUBELET_CLIENT, KUBELET_SERVING)
        ):
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        try:
            names = read_request(request.spec.request)
        except NotPkcs10:
            return NOTHING
        wanted = permissions_of(request, names)
        if request.spec.signer_name == KUBELET_SERVING and wanted:
            node = view.get(NODES, (request.spec.username or "").removeprefix(NODE_PREFIX))
            if not is_own(view, node, names):
                wanted = []

        # Decide
        if not wanted:
            return NOTHING
        uid = request.metadata.uid or ""
        asked = memory.get(key)
        if asked is None or asked.uid != uid:
            asked = Asked(uid)
        allowed = next((each for each in wanted if each in asked.allowed), "")

        # Act
        if not allowed:
            # a permission that is refused may be given later
            questions = tuple([_question(request, each) for each in wanted])
            reviews = tuple([each.body.spec for each in questions])
            asked = evolve(asked, reviews=reviews, attempts=asked.attempts + 1)
            wait = min(RETRY << min(asked.attempts - 1, 8), RETRY_MAX)
            return Plan(queries=questions, memory=memory.set(key, asked), wake_at=now + wait)
        condition = CertificateSigningRequestCondition(
            type="Approved", status="True", reason="AutoApproved", message=_WORDS[allowed]
        )
        body = replace(request, status=replace(request.status, conditions=(condition,)))
        because = f"{request.spec.username} has the permission {allowed}"
        where = (CERTIFICATE_SIGNING_REQUESTS, "", key, "approval")
        return Plan(((Request("update", *where, body=body, because=because),),))

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep what the user may do."""
        asked = memory.get(key)
        if asked is None or response is None or not response.ok:
            return memory, ()
        review = request.body.spec
        if review not in asked.reviews or not response.body.status.allowed:
            return memory, ()
        permission = review.resource_attributes.subresource
        allowed = tuple(dict.fromkeys((*asked.allowed, permission)))
        return memory.set(key, evolve(asked, allowed=allowed)), (key,)


def _question(request: CertificateSigningRequest, permission: str) -> Request:
    """Whether the user of the request may create this subresource."""
    spec = request.spec
    attributes = ResourceAttributes(
        verb="create",
        group=CERTIFICATE_SIGNING_REQUESTS.group,
        version="*",
        resource=CERTIFICATE_SIGNING_REQUESTS.plural,
        subresource=permission,
    )
    review = SubjectAccessReview(
        spec=SubjectAccessReviewSpec(
            user=spec.username,
            uid=spec.uid,
            groups=spec.groups,
            extra=spec.extra,
            resource_attributes=attributes,
        )
    )
    because = f"{spec.username} wants a certificate"
    return Request("create", SUBJECT_ACCESS_REVIEWS, body=review, because=because)
