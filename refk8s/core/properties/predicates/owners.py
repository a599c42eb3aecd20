"""Predicates of controllers that own objects, for one decision: a view, and the plan made from it.
Rules OWN-1, OWN-2, OWN-4, OWN-6 (spec/workloads/owners.md).

Each yields a sentence for every way in which the plan breaks its rule.
"""

from collections.abc import Iterable, Iterator
from typing import Any, Protocol

from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import Resource
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View, controller_of


class Selects(Protocol):
    """A selector of labels."""

    def matches(self, labels: Any) -> bool: ...


def controlled(objects: Iterable[Any], uid: str | None) -> list[Any]:
    """The objects whose controller has this uid."""
    return [
        obj
        for obj in objects
        if (reference := controller_of(obj)) is not None and reference.uid == uid
    ]


def own_1_acts_only_on_its_own(
    view: View, owner: Any, resource: Resource, plan: Plan
) -> Iterator[str]:
    """Every update, deletion and release is of an object that the owner controls; every object that
    is created is controlled by it."""
    for request in plan.requests:
        if request.resource is not resource:
            continue
        if request.verb == "create":
            reference = controller_of(request.body)
            if reference is None or (reference.uid, reference.kind) != (
                owner.metadata.uid,
                owner.kind,
            ):
                yield f"creates {request.body.metadata.name} without being its controller"
            elif not reference.block_owner_deletion:
                yield f"creates {request.body.metadata.name} without blockOwnerDeletion"
            continue
        known = view.get(resource, request.key)
        reference = controller_of(known) if known is not None else None
        if not (reference is not None and reference.uid == owner.metadata.uid) and not is_adoption(
            request
        ):
            yield f"{request.verb} of {request.key}, which it does not control"


def own_2_adopts_selected_objects_without_controller(
    view: View, owner: Any, resource: Resource, selector: Selects, plan: Plan
) -> Iterator[str]:
    """An object that is adopted has no controller, is selected, is not being deleted, and is in the
    namespace of the owner."""
    for request in plan.requests:
        if request.resource is resource and is_adoption(request):
            known = view.get(resource, request.key)
            if known is None or controller_of(known) is not None:
                yield f"adopts {request.key}, which has a controller"
            elif known.metadata.deletion_timestamp is not None:
                yield f"adopts {request.key}, which is being deleted"
            elif (
                not selector.matches(known.metadata.labels)
                or known.metadata.namespace != owner.metadata.namespace
            ):
                yield f"adopts {request.key}, which it does not select"


def own_4_adopts_nothing_while_being_deleted(owner: Any, plan: Plan) -> Iterator[str]:
    """An owner that is being deleted adopts and releases nothing."""
    if owner.metadata.deletion_timestamp is not None:
        for request in plan.requests:
            if request.verb == "patch":
                yield f"{owner.metadata.name} is being deleted and claims {request.key}"


def own_6_names_the_uid(view: View, resource: Resource, plan: Plan) -> Iterator[str]:
    """Deletions and patches name the uid, so another object that has the name now is not
    changed."""
    for request in plan.requests:
        if request.resource is resource and request.verb in ("delete", "patch"):
            known = view.get(resource, request.key)
            if request.verb == "delete":
                uid = (
                    request.body.preconditions.uid
                    if request.body is not None and request.body.preconditions is not None
                    else None
                )
            else:
                uid = request.body.document["metadata"].get("uid")
            if known is None or not uid or uid != known.metadata.uid:
                yield f"{request.verb} of {request.key} may change another object of that name"


def is_adoption(request: Request) -> bool:
    """Whether the request adds an owner reference."""
    if request.verb != "patch" or not isinstance(request.body, Patch):
        return False
    references = request.body.document["metadata"].get("ownerReferences", [])
    return any("$patch" not in reference for reference in references)
