"""What must be true of controllers that own things, stated without looking at how ours decide.
Predicates for OWN-, RS- and DEP- rules.

Each yields a sentence for every way in which what was observed breaks its rule, so none is good.
Those of the first kind judge one decision: a view, and the plan made from it. Those of the second
kind judge a quiet cluster: all objects of a resource.

    plan    OWN-1, OWN-2, OWN-4, OWN-6, RS-2, RS-3, RS-4, DEP-7, DEP-8, DEP-11, DEP-18
    state   RS-1, DEP-19
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Protocol

from msgspec.structs import replace

from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import PODS, REPLICA_SETS, Resource
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View, controller_of
from refk8s.core.properties.oracle import is_active, is_ready


class Selects(Protocol):
    """What chooses by labels."""

    def matches(self, labels: Any) -> bool: ...


def requests_of(plan: Plan) -> list[Request]:
    """All requests of a plan in the order in which they would be sent."""
    return [request for wave in (*plan.waves, plan.last) for request in wave]


def controlled(objects: Iterable[Any], uid: str | None) -> list[Any]:
    """Those whose controller has this uid."""
    return [
        obj
        for obj in objects
        if (reference := controller_of(obj)) is not None and reference.uid == uid
    ]


def on_node(pod: Any, node: str) -> Any:
    """The pod as it will be when it is bound."""
    return replace(pod, spec=replace(pod.spec, node_name=node))


def _key(request: Request) -> str:
    return f"{request.namespace}/{request.name}" if request.namespace else request.name


# --- plans: owners --------------------------------------------------------------------------------


def own_1_acts_only_on_its_own(
    view: View, owner: Any, resource: Resource, plan: Plan
) -> Iterator[str]:
    """Every update, deletion and release meets an object that the owner controls; every creation
    makes one."""
    for request in requests_of(plan):
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
                yield f"creates {request.body.metadata.name} without holding back its own deletion"
            continue
        known = view.get(resource, _key(request))
        reference = controller_of(known) if known is not None else None
        if not (reference is not None and reference.uid == owner.metadata.uid) and not is_adoption(
            request
        ):
            yield f"{request.verb} of {_key(request)}, which it does not control"


def own_2_adopts_only_free_ones_it_selects(
    view: View, owner: Any, resource: Resource, selector: Selects, plan: Plan
) -> Iterator[str]:
    """What is adopted has no controller, is selected, is not being deleted, and lies in the owner's
    namespace."""
    for request in requests_of(plan):
        if request.resource is resource and is_adoption(request):
            known = view.get(resource, _key(request))
            if known is None or controller_of(known) is not None:
                yield f"adopts {_key(request)}, which has a controller"
            elif known.metadata.deletion_timestamp is not None:
                yield f"adopts {_key(request)}, which is being deleted"
            elif (
                not selector.matches(known.metadata.labels)
                or known.metadata.namespace != owner.metadata.namespace
            ):
                yield f"adopts {_key(request)}, which it does not select"


def own_4_claims_nothing_while_dying(owner: Any, plan: Plan) -> Iterator[str]:
    """An owner that is being deleted patches nobody's owners."""
    if owner.metadata.deletion_timestamp is not None:
        for request in requests_of(plan):
            if request.verb == "patch":
                yield f"{owner.metadata.name} is being deleted and claims {_key(request)}"


def own_6_names_the_uid(view: View, resource: Resource, plan: Plan) -> Iterator[str]:
    """Deletions and claims are refused by an object that was made anew under the name."""
    for request in requests_of(plan):
        if request.resource is resource and request.verb in ("delete", "patch"):
            known = view.get(resource, _key(request))
            if request.verb == "delete":
                uid = (
                    request.body.preconditions.uid
                    if request.body is not None and request.body.preconditions is not None
                    else None
                )
            else:
                uid = request.body.document["metadata"].get("uid")
            if known is None or not uid or uid != known.metadata.uid:
                yield f"{request.verb} of {_key(request)} may meet another object of that name"


def is_adoption(request: Request) -> bool:
    """Whether it makes somebody an owner."""
    if request.verb != "patch" or not isinstance(request.body, Patch):
        return False
    references = request.body.document["metadata"].get("ownerReferences", [])
    return any("$patch" not in reference for reference in references)


# --- plans: ReplicaSet ----------------------------------------------------------------------------


def rs_2_never_above_replicas(view: View, owner: Any, plan: Plan) -> Iterator[str]:
    """After the plan there would be no more active pods than asked for, unless there are
    already."""
    creations = [
        request
        for request in requests_of(plan)
        if request.verb == "create" and request.resource is PODS
    ]
    active = [pod for pod in controlled(view.list(PODS), owner.metadata.uid) if is_active(pod)]
    if creations and len(active) + len(creations) > (owner.spec.replicas or 0):
        yield f"{len(active)} active pods and {len(creations)} more, where {owner.spec.replicas} are asked for"


def rs_2_never_below_replicas(view: View, owner: Any, plan: Plan) -> Iterator[str]:
    """Deletions leave as many active pods as asked for, and never meet with creations."""
    deletions = [
        request
        for request in requests_of(plan)
        if request.verb == "delete" and request.resource is PODS
    ]
    creations = [
        request
        for request in requests_of(plan)
        if request.verb == "create" and request.resource is PODS
    ]
    active = [pod for pod in controlled(view.list(PODS), owner.metadata.uid) if is_active(pod)]
    if deletions and len(active) - len(deletions) < (owner.spec.replicas or 0):
        yield f"{len(active)} active pods and {len(deletions)} deletions, where {owner.spec.replicas} are asked for"
    if deletions and creations:
        yield "creates and deletes at once"


def rs_3_dying_makes_and_ends_nothing(owner: Any, plan: Plan) -> Iterator[str]:
    """An owner that is being deleted neither creates nor deletes pods."""
    if owner.metadata.deletion_timestamp is not None:
        for request in requests_of(plan):
            if request.resource is PODS and request.verb in ("create", "delete"):
                yield f"{owner.metadata.name} is being deleted and sends a {request.verb}"


# --- plans: Deployment ----------------------------------------------------------------------------


def bounds_of(spec: Any) -> tuple[int, int]:
    """DEP-6, said again: (the most pods that there may be, the fewest that must be available)."""
    replicas = 1 if spec.replicas is None else spec.replicas
    if spec.strategy.type == "Recreate":
        return replicas, replicas
    asked = spec.strategy.rolling_update
    surge, unavailable = (
        (asked.max_surge, asked.max_unavailable) if asked is not None else (None, None)
    )
    more = _share("25%" if surge is None else surge, replicas, 99)
    less = _share("25%" if unavailable is None else unavailable, replicas, 0)
    return replicas + more, replicas - min(replicas, less or (0 if more else 1))


def _share(much: Any, of: int, rounding: int) -> int:
    return (int(much.removesuffix("%")) * of + rounding) // 100 if isinstance(much, str) else much


def sizes_after(view: View, deployment: Any, plan: Plan) -> tuple[list[tuple[int, int, int]], int]:
    """For each ReplicaSet of the Deployment (size, size after the plan, available), and the size of
    those that the plan creates."""
    updates = {
        _key(r): r.body
        for r in requests_of(plan)
        if r.resource is REPLICA_SETS and r.verb == "update"
    }
    sizes = []
    for rs in controlled(view.list(REPLICA_SETS), deployment.metadata.uid):
        after = updates.get(f"{rs.metadata.namespace}/{rs.metadata.name}", rs)
        sizes.append(
            (rs.spec.replicas or 0, after.spec.replicas or 0, rs.status.available_replicas or 0)
        )
    created = sum(
        r.body.spec.replicas or 0
        for r in requests_of(plan)
        if r.resource is REPLICA_SETS and r.verb == "create"
    )
    return sizes, created


def dep_7_never_above_surge(view: View, deployment: Any, plan: Plan) -> Iterator[str]:
    """A step that makes anything larger leaves the sum within replicas + maxSurge."""
    sizes, created = sizes_after(view, deployment, plan)
    grows = created > 0 or any(after > before for before, after, _ in sizes)
    total = created + sum(after for _, after, _ in sizes)
    most, _ = bounds_of(deployment.spec)
    if grows and total > most:
        yield f"asks for {total} pods in all, where {most} may be"


def dep_8_never_below_available(view: View, deployment: Any, plan: Plan) -> Iterator[str]:
    """A step of a rollout gives up available pods only as far as replicas - maxUnavailable stay (a
    ReplicaSet gives up others first)."""
    if deployment.spec.strategy.type == "Recreate":
        return
    sizes, _ = sizes_after(view, deployment, plan)
    before = sum(min(size, available) for size, _, available in sizes)
    after = sum(min(size, available) for _, size, available in sizes)
    _, fewest = bounds_of(deployment.spec)
    if after < before and after < fewest:
        yield f"leaves {after} available pods of {before}, where {fewest} are asked for"


def dep_11_paused_starts_no_rollout(deployment: Any, plan: Plan) -> Iterator[str]:
    """A paused Deployment makes no ReplicaSet."""
    if deployment.spec.paused:
        for request in requests_of(plan):
            if request.resource is REPLICA_SETS and request.verb == "create":
                yield "a paused Deployment makes a ReplicaSet"


def dep_18_dying_reports_only(deployment: Any, plan: Plan) -> Iterator[str]:
    """A Deployment that is being deleted writes its status and nothing else."""
    if deployment.metadata.deletion_timestamp is not None:
        for request in requests_of(plan):
            if request.subresource != "status":
                yield f"a Deployment that is being deleted sends {request.verb} of {request.resource.plural}"


# --- states ---------------------------------------------------------------------------------------


def rs_1_settled(owner: Any, pods: Sequence[Any]) -> Iterator[str]:
    """In a quiet cluster the active pods of an owner, its status and what it asks for are one
    number."""
    active = [pod for pod in controlled(pods, owner.metadata.uid) if is_active(pod)]
    wanted = owner.spec.replicas or 0
    if len(active) != wanted:
        yield f"{owner.metadata.name} has {len(active)} active pods, where {wanted} are asked for"
    if owner.status.replicas != len(active):
        yield f"{owner.metadata.name} says that it has {owner.status.replicas} pods, and has {len(active)}"
    ready = sum(1 for pod in active if is_ready(pod))
    if (owner.status.ready_replicas or 0) != ready:
        yield f"{owner.metadata.name} says that {owner.status.ready_replicas} pods are ready, and {ready} are"
    if owner.status.observed_generation != owner.metadata.generation:
        yield f"{owner.metadata.name} has not seen its newest generation"


def dep_19_settled(deployment: Any, replica_sets: Sequence[Any], carries: Any) -> Iterator[str]:
    """In a quiet cluster one ReplicaSet carries the template and all replicas, the others none.
    `carries(deployment, rs)` tells which."""
    own = controlled(replica_sets, deployment.metadata.uid)
    new = [rs for rs in own if carries(deployment, rs)]
    if not new:
        yield f"no ReplicaSet carries the template of {deployment.metadata.name}"
    if sum(rs.spec.replicas or 0 for rs in new) != deployment.spec.replicas:
        yield f"{[rs.spec.replicas for rs in new]} new pods are asked for, where {deployment.spec.replicas} should be"
    for rs in own:
        if rs not in new and rs.spec.replicas:
            yield f"the old {rs.metadata.name} still asks for {rs.spec.replicas} pods"
    if (deployment.status.updated_replicas or 0) != deployment.spec.replicas:
        yield f"{deployment.metadata.name} says that {deployment.status.updated_replicas} pods are new"
