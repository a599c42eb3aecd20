"""Predicates of StatefulSets. Rules STS-1, STS-2, STS-4, STS-6 (spec/workloads/stateful_set.md).

plan    STS-2, STS-4, STS-6    one decision: a view, and the plan made from it
state   STS-1                  all pods of a settled cluster
"""

from collections.abc import Iterator, Sequence
from typing import Any

from refk8s.core.api.intstr import scaled
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PODS
from refk8s.core.context import SECOND, Instant, parse_timestamp
from refk8s.core.loop.plan import Plan
from refk8s.core.loop.view import View
from refk8s.core.properties.oracle import is_finished
from refk8s.core.properties.predicates.owners import controlled


def wanted_names(owner: Any) -> list[str]:
    """The names of the pods that the set wants, lowest first. Only for small sets."""
    start = owner.spec.ordinals.start if owner.spec.ordinals is not None else 0
    count = 1 if owner.spec.replicas is None else owner.spec.replicas
    return [f"{owner.metadata.name}-{start + n}" for n in range(count)]


def is_healthy(pod: Any, owner: Any, now: Instant) -> bool:
    """Running, ready for minReadySeconds, and not being deleted."""
    ready = [one for one in pod.status.conditions or () if one.type == "Ready"][:1]
    if not ready or ready[0].status != "True" or pod.status.phase != "Running":
        return False
    seconds = owner.spec.min_ready_seconds or 0
    since = ready[0].last_transition_time
    waited = not seconds or (since and parse_timestamp(since) + seconds * SECOND <= now)
    return bool(waited) and pod.metadata.deletion_timestamp is None


def revision(pod: Any) -> str | None:
    found: str | None = (pod.metadata.labels or {}).get("controller-revision-hash")
    return found


def own_pods(view: View, owner: Any) -> dict[str, Any]:
    """The pods of the set in view, by name."""
    return {pod.metadata.name: pod for pod in controlled(view.list(PODS), owner.metadata.uid)}


def of_pods(plan: Plan, verb: str) -> list[Request]:
    return [one for one in plan.requests if one.verb == verb and one.resource is PODS]


def sts_1_settled(owner: Any, pods: Sequence[Any], now: Instant) -> Iterator[str]:
    """In a settled cluster the set has the wanted pods and no other, the status counts them, and
    with RollingUpdate those above the partition have the set's revision. While a pod is not
    healthy, or a pod of another owner has one of the names, only the status is judged."""
    name, status = owner.metadata.name, owner.status
    mine = {pod.metadata.name: pod for pod in controlled(pods, owner.metadata.uid)}
    wanted = wanted_names(owner)
    if status.replicas != len(mine):
        yield f"status.replicas of {name} is {status.replicas}, and it has {len(mine)} pods"
    if status.observed_generation != owner.metadata.generation:
        yield f"status.observedGeneration of {name} is not its generation"
    if any(is_finished(pod) for pod in mine.values()):
        yield f"{name} keeps a finished pod"
    taken = {
        pod.metadata.name
        for pod in pods
        if pod.metadata.namespace == owner.metadata.namespace and pod.metadata.name not in mine
    }
    if (
        owner.metadata.deletion_timestamp
        or taken & set(wanted)
        or not all(is_healthy(pod, owner, now) for pod in mine.values())
    ):
        return
    if sorted(mine) != sorted(wanted):
        yield f"{name} has {sorted(mine)}, and wants {wanted}"
    strategy = owner.spec.update_strategy
    if strategy.type == "RollingUpdate":
        partition = (strategy.rolling_update and strategy.rolling_update.partition) or 0
        for each in wanted[partition:]:
            if each in mine and revision(mine[each]) != status.update_revision:
                yield f"{each} has revision {revision(mine[each])}, not {status.update_revision}"


def sts_2_one_pod_for_each_ordinal(view: View, owner: Any, plan: Plan) -> Iterator[str]:
    """A plan creates only wanted pods that are not in view, each once."""
    names = [request.body.metadata.name for request in of_pods(plan, "create")]
    wanted = set(wanted_names(owner))
    for name in names:
        if name not in wanted:
            yield f"creates {name}, which {owner.metadata.name} does not want"
        if (
            view.get(PODS, f"{owner.metadata.namespace}/{name}") is not None
            or names.count(name) > 1
        ):
            yield f"creates {name}, which exists"


def sts_4_one_at_a_time(view: View, owner: Any, plan: Plan, now: Instant) -> Iterator[str]:
    """With OrderedReady a plan changes one pod: a creation needs healthy lower pods, and a deletion
    of a condemned pod all wanted pods healthy and no higher one."""
    if owner.spec.pod_management_policy == "Parallel":
        return
    made, deleted = of_pods(plan, "create"), of_pods(plan, "delete")
    if len(made) + len(deleted) > 1:
        yield f"{len(made)} creations and {len(deleted)} deletions at once"
    pods, wanted = own_pods(view, owner), wanted_names(owner)
    healthy = [name for name in wanted if name in pods and is_healthy(pods[name], owner, now)]
    for request in made:
        name = request.body.metadata.name
        lower = wanted[: wanted.index(name)] if name in wanted else wanted
        missing = [each for each in lower if each not in healthy]
        if missing:
            yield f"creates {name}, and {missing[0]} is not healthy"
    for request in deleted:
        if request.name in wanted:
            continue
        if len(healthy) < len(wanted):
            yield f"deletes {request.name}, and not all wanted pods are healthy"
        number = int(request.name.rpartition("-")[2])
        higher = [
            each for each in pods if each not in wanted and int(each.rpartition("-")[2]) > number
        ]
        if higher:
            yield f"deletes {request.name} before {higher[0]}"


def sts_6_updates_within_bounds(view: View, owner: Any, plan: Plan, now: Instant) -> Iterator[str]:
    """A wanted pod that has not finished is deleted only by a rolling update: at or above the
    partition, and so that at most maxUnavailable (1) become unhealthy."""
    pods, wanted = own_pods(view, owner), wanted_names(owner)
    strategy = owner.spec.update_strategy
    rolling = strategy.rolling_update
    names = [
        request.name
        for request in of_pods(plan, "delete")
        if request.name in wanted and request.name in pods and not is_finished(pods[request.name])
    ]
    if not names:
        return
    if strategy.type != "RollingUpdate":
        yield f"deletes {names[0]}, and the strategy is {strategy.type}"
    partition = (rolling and rolling.partition) or 0
    many = rolling.max_unavailable if rolling is not None else None
    for name in names:
        if wanted.index(name) < partition:
            yield f"deletes {name}, which is below the partition {partition}"
        higher = wanted[wanted.index(name) + 1 :]
        if many is None and not all(
            each in pods and is_healthy(pods[each], owner, now) for each in higher
        ):
            yield f"deletes {name}, and a higher pod is not healthy"
    if many is None:
        if len(names) > 1:
            yield f"deletes {len(names)} pods at once"
        return
    most = max(1, scaled(many, len(wanted), round_up=False))
    lost = [
        each
        for each in wanted
        if each in names or each not in pods or not is_healthy(pods[each], owner, now)
    ]
    if len(lost) > most:
        yield f"{len(lost)} pods are not healthy after {names}, and maxUnavailable is {most}"
