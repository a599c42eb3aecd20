"""Predicates of namespaces. Rules ADM-2 (spec/admission.md), DEL-7 (spec/api.md), NS-1, NS-3, NS-4
(spec/workloads/namespace.md).

Each yields a sentence for every way in which a change, or what is stored, breaks its rule.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS


def adm_2_the_namespace_is_active(key: str, name: str, namespace: Any | None) -> Iterator[str]:
    """ADM-2. `key`: of the object that was created in the namespace."""
    if namespace is None:
        yield f"{key} was created, and there is no namespace {name}"
    elif namespace.metadata.deletion_timestamp is not None:
        yield f"{key} was created, and namespace {name} is being deleted"


def del_7_terminating_until_empty(
    before: Any, after: Any | None, objects: Iterable[Any]
) -> Iterator[str]:
    """DEL-7, for a change of a namespace that is being deleted: it stays Terminating, and when it
    is removed none of the `objects` is in it. `after`: None if it was removed."""
    name = before.metadata.name
    if after is not None:
        phase = after.status.phase if after.status is not None else None
        if phase != "Terminating":
            yield f"namespace {name} was Terminating and is {phase}"
        return
    left = [f"{obj.kind} {obj.metadata.name}" for obj in objects if obj.metadata.namespace == name]
    if left:
        yield f"namespace {name} was removed before {', '.join(left)}"


def ns_1_the_namespace_is_terminating(request: Request, namespace: Any | None) -> Iterator[str]:
    """NS-1, for the deletion of a collection by the namespace controller."""
    if namespace is not None and namespace.metadata.deletion_timestamp is None:
        yield (
            f"namespace {request.namespace} is active, "
            f"and its {request.resource.plural} were deleted"
        )


def ns_3_pods_are_removed_first(request: Request, pods: Sequence[str]) -> Iterator[str]:
    """NS-3. `pods`: the keys of those that are left in the namespace."""
    if request.resource is not PODS and pods:
        yield (
            f"the {request.resource.plural} of {request.namespace} were deleted, "
            f"and {', '.join(pods)} remain"
        )


def ns_4_a_finalizer_holds_it(namespaces: Iterable[Any], objects: Iterable[Any]) -> Iterator[str]:
    """NS-4, for a settled cluster: a namespace that is being deleted has a finalizer, or an object
    with one."""
    held = {obj.metadata.namespace for obj in objects if obj.metadata.finalizers}
    for namespace in namespaces:
        metadata = namespace.metadata
        if (
            metadata.deletion_timestamp is not None
            and metadata.name not in held
            and not metadata.finalizers
        ):
            yield f"namespace {metadata.name} is Terminating, and no finalizer keeps it"
