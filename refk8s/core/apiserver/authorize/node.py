"""The Node authorizer: what the kubelet of a node may do. Rules NAUTH-1 to NAUTH-3
(spec/authorization.md).

A kubelet may read the secrets, config maps, claims and volumes to which pods of its node refer, and
request tokens for their service accounts; it reads its own Node, Lease and CSINode. Everything else
is a list of rules, as of a role. The reasons of refusals are upstream's.
Source: Kubernetes documentation, "Using Node Authorization". Left out: secrets to which only a
PersistentVolume refers.
"""

from collections.abc import Callable
from functools import cache
from typing import Any, Final

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.rbac_v1 import PolicyRule
from refk8s.core.api.user import ANONYMOUS, NODES, node_name_of
from refk8s.core.apiserver.authorize import selected
from refk8s.core.apiserver.authorize.pods_of_nodes import PodsOfNodes
from refk8s.core.apiserver.authorize.rules import allows
from refk8s.core.apiserver.config import ALLOWED, NO_OPINION, Attributes, Decision
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.memo import remember

LEASE_NAMESPACE: Final = "kube-node-lease"
_STORAGE: Final = "storage.k8s.io"
_RESOURCE: Final = "resource.k8s.io"


@cache
def _node_rules() -> tuple[PolicyRule, ...]:
    # imported here, because the default roles are large and a server without this mode needs none
    from refk8s.core.apiserver.authorize.default_policy import rules_of_grants
    from refk8s.core.apiserver.authorize.default_roles import CLUSTER_ROLES

    return rules_of_grants(CLUSTER_ROLES["system:node"])


@remember(1024)
def _is_granted(verb: str, group: str, resource: str, subresource: str, path: str) -> bool:
    """Whether a rule for every node allows this. None of these rules names objects."""
    asked = Attributes(ANONYMOUS, verb, group, resource, subresource, path=path)
    return any(allows(rule, asked) for rule in _node_rules())


class NodeAuthorizer:
    """Decides for the users `system:node:NAME` in the group system:nodes, and has no opinion about
    any other."""

    def __init__(self) -> None:
        self._pods = PodsOfNodes()

    def __call__(self, attributes: Attributes, store: Reader) -> Decision:
        """Whether the node may do this. O(1), and O(changed pods) before a question about them."""
        if NODES not in attributes.user.groups:
            return NO_OPINION
        node = node_name_of(attributes.user)
        if not node:
            return NO_OPINION
        decide = None if attributes.path else _KINDS.get((attributes.group, attributes.resource))
        if decide is not None:
            return decide(self, node, attributes, store)
        asked = attributes
        if _is_granted(asked.verb, asked.group, asked.resource, asked.subresource, asked.path):
            return ALLOWED
        return NO_OPINION

    # --- objects to which pods refer

    def _read(self, node: str, asked: Attributes, store: Reader) -> Decision:
        """Secrets and config maps."""
        if asked.verb not in ("get", "list", "watch"):
            return Decision(False, "can only read resources of this type")
        if asked.subresource:
            return Decision(False, "cannot read subresource")
        if not asked.namespace:
            return Decision(False, "can only read namespaced object of this type")
        return self._related(node, asked, store)

    def _get(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.verb != "get":
            return Decision(False, "can only get individual resources of this type")
        if asked.subresource:
            return Decision(False, "cannot get subresource")
        return self._related(node, asked, store)

    def _claim(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.subresource != "status":
            return self._get(node, asked, store)
        if asked.verb not in ("get", "update", "patch"):
            return Decision(False, "can only get/update/patch this type")
        return self._related(node, asked, store)

    def _account(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.verb != "create" or asked.subresource != "token":
            words = "can only create tokens for individual service accounts"
            return Decision(False, words)
        return self._related(node, asked, store)

    def _related(self, node: str, asked: Attributes, store: Reader) -> Decision:
        """Whether a pod of the node refers to the object (NAUTH-2)."""
        if not asked.name:
            return Decision(False, "No Object name found")
        if self._is_related(node, asked, store):
            return ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _is_related(self, node: str, asked: Attributes, store: Reader) -> bool:
        pods = self._pods
        if asked.resource == "persistentvolumes":
            volume = store.get(resources.PERSISTENT_VOLUMES.key("", asked.name))
            claim = volume.value.spec.claim_ref if volume is not None else None
            return claim is not None and pods.refer(
                node, "persistentvolumeclaims", claim.namespace or "", claim.name or "", store
            )
        if asked.resource == "volumeattachments":
            attachment = store.get(resources.VOLUME_ATTACHMENTS.key("", asked.name))
            return attachment is not None and attachment.value.spec.node_name == node
        if asked.resource == "pods":
            pod = store.get(resources.PODS.key(asked.namespace, asked.name))
            return pod is not None and _node_of(pod.value) == node
        return pods.refer(node, asked.resource, asked.namespace, asked.name, store)

    # --- objects of the node

    def _lease(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            words = "can only get, create, update, patch, or delete a node lease"
            return Decision(False, words)
        if asked.namespace != LEASE_NAMESPACE:
            words = f'can only access leases in the "{LEASE_NAMESPACE}" system namespace'
            return Decision(False, words)
        if asked.verb != "create" and asked.name != node:
            words = "can only access node lease with the same name as the requesting node"
            return Decision(False, words)
        return ALLOWED

    def _csi_node(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.verb not in ("get", "create", "update", "patch", "delete"):
            return Decision(False, "can only get, create, update, patch, or delete a CSINode")
        if asked.subresource:
            return Decision(False, "cannot authorize CSINode subresources")
        if asked.verb != "create" and asked.name != node:
            words = "can only access CSINode with the same name as the requesting node"
            return Decision(False, words)
        return ALLOWED

    def _slice(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.subresource:
            return Decision(False, "cannot authorize ResourceSlice subresources")
        if asked.verb == "create":
            return ALLOWED
        if asked.verb in ("list", "watch", "deletecollection"):
            if selected(asked.fields).get("spec.nodeName") == node:
                return ALLOWED
            words = (
                "can only list/watch/deletecollection resourceslices with nodeName field selector"
            )
            return Decision(False, words)
        found = store.get(resources.RESOURCE_SLICES.key("", asked.name))
        if found is not None and found.value.spec.node_name == node:
            return ALLOWED
        return Decision(False, f"no relationship found between node '{node}' and this object")

    def _node(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.verb in ("update", "patch") and asked.subresource in ("", "status"):
            return ALLOWED
        if asked.subresource:
            return NO_OPINION
        if asked.verb == "create":
            return ALLOWED
        if asked.verb in ("get", "list", "watch"):
            if asked.name == node:
                return ALLOWED
            whose = f"'{asked.name}'" if asked.name else "all nodes"
            return Decision(False, f"node '{node}' cannot read {whose}, only its own Node object")
        return NO_OPINION

    def _pod(self, node: str, asked: Attributes, store: Reader) -> Decision:
        if asked.subresource:
            verbs = {"status": ("update", "patch"), "eviction": ("create",)}
            return ALLOWED if asked.verb in verbs.get(asked.subresource, ()) else NO_OPINION
        if asked.verb == "get":
            return self._related(node, asked, store)
        if asked.verb in ("list", "watch"):
            if selected(asked.fields).get("spec.nodeName") == node:
                return ALLOWED
            return Decision(False, "can only list/watch pods with spec.nodeName field selector")
        return ALLOWED if asked.verb in ("create", "delete") else NO_OPINION


def _node_of(pod: Pod) -> str:
    return (pod.spec.node_name if pod.spec is not None else None) or ""


_Decide = Callable[[Any, str, Attributes, Reader], Decision]

_KINDS: Final[dict[tuple[str, str], _Decide]] = {
    ("", "secrets"): NodeAuthorizer._read,
    ("", "configmaps"): NodeAuthorizer._read,
    ("", "persistentvolumeclaims"): NodeAuthorizer._claim,
    ("", "persistentvolumes"): NodeAuthorizer._get,
    ("", "serviceaccounts"): NodeAuthorizer._account,
    ("", "nodes"): NodeAuthorizer._node,
    ("", "pods"): NodeAuthorizer._pod,
    ("coordination.k8s.io", "leases"): NodeAuthorizer._lease,
    (_STORAGE, "csinodes"): NodeAuthorizer._csi_node,
    (_STORAGE, "volumeattachments"): NodeAuthorizer._get,
    (_RESOURCE, "resourceclaims"): NodeAuthorizer._get,
    (_RESOURCE, "resourceslices"): NodeAuthorizer._slice,
}
"""The resources to which a node has access by object; to all others the rules of the role
system:node apply."""
