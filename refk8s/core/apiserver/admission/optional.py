"""Admission plugins that are off by default. Rules ADM-43, ADM-44 (spec/admission.md).

| plugin | what it does |
|---|---|
| ExtendedResourceToleration | a pod tolerates the taints of nodes that have the devices it requests |
| OwnerReferencesPermissionEnforcement | who sets an owner may delete the object, and who blocks the deletion of the owner may update its finalizers |

Source: Kubernetes documentation, "Admission Control in Kubernetes"; "Taints and Tolerations" (nodes
with special hardware).
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Pod, Toleration
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.authorize import decide
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.custom.definitions import custom_resources
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.validation.resources import is_extended
from refk8s.core.pods.tolerations import EXISTS, NO_SCHEDULE

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange


def tolerate(new: Pod) -> Pod:
    """ADM-43: the pod with a toleration for each extended resource that a container requests."""
    spec = new.spec
    containers = (*spec.containers, *(spec.init_containers or ()))
    wanted = {
        name for one in containers for name in one.resources.requests or () if is_extended(name)
    }
    known = tuple(spec.tolerations or ())
    added = [
        one
        for name in sorted(wanted)
        if (one := Toleration(key=name, operator=EXISTS, effect=NO_SCHEDULE)) not in known
    ]
    return replace(new, spec=replace(spec, tolerations=(*known, *added))) if added else new


def check_owners(exchange: "Exchange", new: Any, old: Any) -> None:
    """ADM-44: raise ApiError 403 if the user may not set these owners."""
    request = exchange.request
    if (request.resource, request.subresource) == (resources.PODS, "status"):
        return
    owners = tuple(new.metadata.owner_references or ())
    before = tuple(old.metadata.owner_references or ()) if old is not None else ()
    if owners == before:
        return
    name, resource = new.metadata.name or "", request.resource
    if not _may(exchange, "delete", resource, request.subresource, request.namespace, name):
        words = "cannot set an ownerRef on a resource you can't delete: , <nil>"
        raise ApiError(status.forbidden(resource, name, words))
    blocked = {one.uid for one in before if one.block_owner_deletion}
    for owner in owners:
        if not owner.block_owner_deletion or owner.uid in blocked:
            continue
        kinds = list(_of_kind(owner.api_version, owner.kind, exchange.store))
        if not kinds:
            words = f'cannot set blockOwnerDeletion in this case because cannot find RESTMapping for APIVersion {owner.api_version} Kind {owner.kind}: no matches for kind "{owner.kind}" in version "{owner.api_version}"'  # fmt: skip
            raise ApiError(status.forbidden(resource, name, words))
        for kind in kinds:
            namespace = request.namespace if kind.namespaced else ""
            if not _may(exchange, "update", kind, "finalizers", namespace, owner.name):
                words = "cannot set blockOwnerDeletion if an ownerReference refers to a resource you can't set finalizers on: , <nil>"  # fmt: skip
                raise ApiError(status.forbidden(resource, name, words))


def _of_kind(api_version: str, kind: str, store: Reader) -> Iterable[Resource]:
    """The resources of a kind."""
    found = resources.by_kind(api_version, kind)
    if found is not None:
        return (found,)
    return (
        one
        for one in custom_resources(store)
        if one.kind == kind and one.api_version == api_version
    )


def _may(
    exchange: "Exchange", verb: str, resource: Resource, part: str, namespace: str, name: str
) -> bool:
    user, config = exchange.request.user, exchange.config
    asked = Attributes(user, verb, resource.group, resource.plural, part, namespace, name)
    return decide(asked, exchange.store, config).allowed
