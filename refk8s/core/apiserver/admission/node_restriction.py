"""NodeRestriction: what a kubelet may write. Rules NAUTH-4 to NAUTH-7
(spec/authorization.md).

It limits requests of users `system:node:NAME` to the objects of that node. The words of the
refusals are upstream's. Source: Kubernetes documentation, "Admission Control in Kubernetes"
(NodeRestriction), "Using Node Authorization". Left out: the limits on the audiences of tokens.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NoReturn

from msgspec.structs import replace

from refk8s.core.api import dns_slice, resources, status
from refk8s.core.api.core_v1 import Node, Pod, PodStatus
from refk8s.core.api.pkcs10 import NotPkcs10, read_request
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import NODE_PREFIX, NODES, node_name_of
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context
from refk8s.core.pods.references import MIRROR_ANNOTATION, references

LEASE_NAMESPACE: Final = "kube-node-lease"
_NODE_SIGNERS: Final = (
    "kubernetes.io/kube-apiserver-client-kubelet",
    "kubernetes.io/kubelet-serving",
)
_KUBELET_LABELS: Final = frozenset(
    (
        "kubernetes.io/hostname",
        "kubernetes.io/arch",
        "kubernetes.io/os",
        "beta.kubernetes.io/arch",
        "beta.kubernetes.io/os",
        "beta.kubernetes.io/instance-type",
        "node.kubernetes.io/instance-type",
        "failure-domain.beta.kubernetes.io/region",
        "failure-domain.beta.kubernetes.io/zone",
        "topology.kubernetes.io/region",
        "topology.kubernetes.io/zone",
    )
)
_KUBELET_DOMAINS: Final = ("kubelet.kubernetes.io", "node.kubernetes.io")


def restrict(request: Request, new: Any, old: Any, store: Reader, context: Context) -> Any:
    """The object, of a resource of LIMITED. Raises ApiError 403 if a kubelet may not create or
    change it."""
    if NODES in request.user.groups:
        LIMITED[request.resource](request, _node(request), new, old, store)
    return new


def restrict_delete(request: Request, obj: Any) -> None:
    """Raise ApiError 403 if a kubelet may not delete this object."""
    if NODES not in request.user.groups:
        return
    node, resource, name = _node(request), request.resource, obj.metadata.name or ""
    if resource == resources.PODS and _node_of(obj) != node:
        _refuse(
            request, name, f'node "{node}" can only delete pods with spec.nodeName set to itself'
        )
    elif resource == resources.LEASES:
        _check_lease(request, node, request.namespace, name)
    elif resource == resources.CSI_NODES and name != node:
        _refuse(request, name, _SAME_CSI_NODE)
    elif resource == resources.ENDPOINT_SLICES and not _is_dns_slice(request, node, name):
        _refuse(request, name, _OWN_DNS_SLICE)
    elif resource == resources.NODES and name != node:
        _refuse(request, name, f'node "{node}" is not allowed to modify node "{name}"')


def restrict_eviction(request: Request, pod: Pod) -> None:
    """Raise ApiError 403 if a kubelet may not evict this pod."""
    if NODES not in request.user.groups:
        return
    node = _node(request)
    if _node_of(pod) != node:
        words = f"node {node} can only evict pods with spec.nodeName set to itself"
        _refuse(request, request.name, words)


def restrict_token(request: Request, bound: Any, store: Reader) -> None:
    """Raise ApiError 403 unless a kubelet requests a token for a pod of its node (NAUTH-6)."""
    if NODES not in request.user.groups:
        return
    node = _node(request)
    if bound is None or bound.api_version != "v1" or bound.kind != "Pod" or not bound.name:
        _refuse(request, request.name, "node requested token not bound to a pod")
    if not bound.uid:
        _refuse(request, request.name, "node requested token with a pod binding without a uid")
    record = store.get(resources.PODS.key(request.namespace, bound.name))
    if record is None:
        raise ApiError(status.not_found(resources.PODS, bound.name))
    pod: Pod = record.value
    if pod.metadata.uid != bound.uid:
        words = (
            f"the UID in the bound object reference ({bound.uid}) does not match the "
            "UID in record. "
            "The object might have been deleted and then recreated"
        )
        _refuse(request, request.name, words)
    if _node_of(pod) != node:
        words = "node requested token bound to a pod scheduled on a different node"
        _refuse(request, request.name, words)


def _node(request: Request) -> str:
    node = node_name_of(request.user)
    if not node:
        words = f'could not determine node from user "{request.user.name}"'
        _refuse(request, request.name, words)
    return node


def _refuse(request: Request, name: str, words: str) -> NoReturn:
    raise ApiError(status.forbidden(request.resource, name, words))


def _node_of(pod: Pod) -> str:
    return (pod.spec.node_name if pod.spec is not None else None) or ""


# --- pods


def _limit_pod(request: Request, node: str, new: Pod, old: Pod | None, store: Reader) -> None:
    name = new.metadata.name or ""
    if request.subresource == "status" and old is not None:
        if _node_of(old) != node:
            words = "can only update pod status for pods with spec.nodeName set to itself"
            _refuse(request, name, f'node "{node}" {words}')
        if (new.metadata.labels or {}) != (old.metadata.labels or {}):
            _refuse(request, name, f'node "{node}" cannot update labels through pod status')
        if _claims(new) != _claims(old):
            _refuse(request, name, f'node "{node}" cannot update resource claim statuses')
        return
    if request.subresource:
        words = "only 'status' and 'eviction' are allowed"
        _refuse(request, name, f'unexpected pod subresource "{request.subresource}", {words}')
    if old is not None:
        _refuse(request, name, 'unexpected operation "UPDATE"')
    for problem in _problems_of_mirror_pod(node, new, store):
        _refuse(request, name, problem)


def _claims(pod: Pod) -> Any:
    return (pod.status or PodStatus()).resource_claim_statuses or ()


def _problems_of_mirror_pod(node: str, pod: Pod, store: Reader) -> Iterable[str]:
    """NAUTH-5: what is wrong with a new pod of a kubelet."""
    if MIRROR_ANNOTATION not in (pod.metadata.annotations or {}):
        yield (
            f'pod does not have "{MIRROR_ANNOTATION}" annotation, '
            f'node "{node}" can only create mirror pods'
        )
    only = f'node "{node}" can only create pods with'
    if _node_of(pod) != node:
        yield f"{only} spec.nodeName set to itself"
    if (pod.spec and pod.spec.service_account_name) or (pod.spec and pod.spec.service_account):
        yield f'node "{node}" can not create pods that reference a service account'
    refers = {plural for plural, _ in references(pod)}
    for plural in ("secrets", "configmaps", "persistentvolumeclaims", "resourceclaims"):
        if plural in refers:
            yield f'node "{node}" can not create pods that reference {plural}'
    owners = pod.metadata.owner_references or ()
    if len(owners) > 1:
        yield f"{only} a single owner reference set to itself"
    if not owners:
        yield f"{only} an owner reference set to itself"
        return
    [owner] = owners
    if (owner.api_version, owner.kind, owner.name) != ("v1", "Node", node):
        yield f"{only} an owner reference set to itself"
    if not owner.controller:
        yield f"{only} a controller owner reference set to itself"
    if owner.block_owner_deletion:
        yield f'node "{node}" must not set blockOwnerDeletion on an owner reference'
    record = store.get(resources.NODES.key("", node))
    uid = record.value.metadata.uid if record is not None else ""
    if owner.uid != uid:
        yield f"node {node} UID mismatch: expected {uid} got {owner.uid}"


# --- nodes, leases and others


def _limit_node(request: Request, node: str, new: Node, old: Node | None, store: Reader) -> None:
    name = new.metadata.name or ""
    labels, before = new.metadata.labels or {}, (old.metadata.labels or {}) if old else {}
    changed = {key for key in labels.keys() | before.keys() if labels.get(key) != before.get(key)}
    forbidden = sorted(filter(_is_forbidden, changed))
    if forbidden:
        what = "set the following labels" if old is None else "modify labels"
        words = f'node "{node}" is not allowed to {what}: {", ".join(forbidden)}'
        _refuse(request, name, words)
    if old is not None:
        if (new.spec.taints or ()) != (old.spec.taints or ()):
            _refuse(request, name, f'node "{node}" is not allowed to modify taints')
        if (new.metadata.owner_references or ()) != (old.metadata.owner_references or ()):
            _refuse(request, name, f'node "{node}" is not allowed to modify ownerReferences')
    if name != node:
        _refuse(request, name, f'node "{node}" is not allowed to modify node "{name}"')


def _is_forbidden(label: str) -> bool:
    """Whether the label is not for kubelets: of node-restriction.kubernetes.io, or of Kubernetes
    without being one of the kubelet's."""
    domain = label.rpartition("/")[0]
    if not (_is_in(domain, "kubernetes.io") or _is_in(domain, "k8s.io")):
        return False
    return label not in _KUBELET_LABELS and not any(_is_in(domain, one) for one in _KUBELET_DOMAINS)


def _is_in(domain: str, parent: str) -> bool:
    return domain == parent or domain.endswith(f".{parent}")


_SAME_CSI_NODE: Final = "can only access CSINode with the same name as the requesting node"


def _check_lease(request: Request, node: str, namespace: str, name: str) -> None:
    if namespace != LEASE_NAMESPACE:
        words = f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
        _refuse(request, name, words)
    if name != node:
        words = "can only access node lease with the same name as the requesting node"
        _refuse(request, name, words)


def _limit_lease(request: Request, node: str, new: Any, old: Any, store: Reader) -> None:
    _check_lease(request, node, request.namespace, new.metadata.name or "")


def _limit_csi_node(request: Request, node: str, new: Any, old: Any, store: Reader) -> None:
    if new.metadata.name != node:
        _refuse(request, new.metadata.name or "", _SAME_CSI_NODE)


def _limit_claim(request: Request, node: str, new: Any, old: Any, store: Reader) -> None:
    """A kubelet changes the status of a claim and nothing else of it."""
    name = new.metadata.name or ""
    if request.subresource != "status":
        _refuse(request, name, "may only update PVC status")
    metadata = replace(
        new.metadata,
        managed_fields=old.metadata.managed_fields,  # every write changes them
        resource_version=old.metadata.resource_version,
    )
    if (metadata, new.spec) != (old.metadata, old.spec):
        words = f'node "{node}" is not allowed to update fields other than status'
        _refuse(request, name, words)


def _limit_request(request: Request, node: str, new: Any, old: Any, store: Reader) -> None:
    """A certificate of a kubelet is for the node that requests it."""
    if old is not None or new.spec.signer_name not in _NODE_SIGNERS:
        return
    try:
        common_names = read_request(new.spec.request).common_names
    except NotPkcs10:
        return  # validation, which follows, refuses it
    if common_names[-1:] != (f"{NODE_PREFIX}{node}",):
        words = f"can only create a node CSR with CN={NODE_PREFIX}{node}"
        _refuse(request, new.metadata.name or "", words)


def _limit_slice(request: Request, node: str, new: Any, old: Any, store: Reader) -> None:
    if new.spec.node_name != node:
        words = "can only create ResourceSlice with the same NodeName as the requesting node"
        _refuse(request, new.metadata.name or "", words)


_OWN_DNS_SLICE: Final = "a node can only write the EndpointSlice of its own name server"


def _is_dns_slice(request: Request, node: str, name: str) -> bool:
    return request.namespace == dns_slice.NAMESPACE and name == dns_slice.slice_name(node)


def _limit_endpoints(request: Request, node: str, new: Any, old: Any, store: Reader) -> None:
    """NAUTH-7."""
    name = new.metadata.name or ""
    service = (new.metadata.labels or {}).get("kubernetes.io/service-name", dns_slice.NAME)
    is_own = _is_dns_slice(request, node, name) and service == dns_slice.NAME
    if not is_own or any(one.node_name != node for one in new.endpoints or ()):
        _refuse(request, name, _OWN_DNS_SLICE)


_Limit = Callable[[Request, str, Any, Any, Reader], None]
LIMITED: Final[dict[Resource, _Limit]] = {
    resources.PODS: _limit_pod,
    resources.NODES: _limit_node,
    resources.LEASES: _limit_lease,
    resources.CSI_NODES: _limit_csi_node,
    resources.PERSISTENT_VOLUME_CLAIMS: _limit_claim,
    resources.CERTIFICATE_SIGNING_REQUESTS: _limit_request,
    resources.RESOURCE_SLICES: _limit_slice,
    resources.ENDPOINT_SLICES: _limit_endpoints,
}
