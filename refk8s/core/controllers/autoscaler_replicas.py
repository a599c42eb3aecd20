"""How many replicas a metric asks for. Rules HPA-4 to HPA-7, HPA-14 (spec/workloads/autoscaler.md).

Use and requests are whole numbers of thousandths. The ratios are computed in floating point and in
upstream's order of operations, because the results are compared with bounds.

Source: Kubernetes documentation, "Horizontal Pod Autoscaling" (algorithm details); KEP-4951
(tolerance). Left out: nothing.
"""

from collections.abc import Iterable, Mapping
from math import ceil
from typing import Any

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.quantity import parse
from refk8s.core.context import MINUTE, SECOND, Instant, parse_timestamp
from refk8s.core.pods.containers import sidecars
from refk8s.core.pods.status import FAILED, PENDING, RUNNING, is_ready
from refk8s.core.value import Value

INITIALIZATION_PERIOD: Instant = 5 * MINUTE
"""How long after its start the processor time of an unready pod is not trusted (HPA-5)."""
INITIAL_READINESS_DELAY: Instant = 30 * SECOND
"""A pod that became unready within this time of its start has never been ready (HPA-5)."""
TOLERANCE = 0.1
REPLICAS_MAX = 2**31 - 1


class Uncomputable(Exception):
    """Why a metric gives no number of replicas; the message is upstream's."""


class Sample(Value, frozen=True):
    """What a pod uses: thousandths of the unit, measured at an instant over a window."""

    value: int
    at: Instant = 0
    window: Instant = 0


Samples = Mapping[str, Sample]
"""By the name of the pod."""


class Tolerances(Value, frozen=True):
    """How far below and above 1 a ratio changes nothing (HPA-7)."""

    down: float = TOLERANCE
    up: float = TOLERANCE

    def covers(self, ratio: float) -> bool:
        return 1.0 - self.down <= ratio <= 1.0 + self.up


class Proposal(Value, frozen=True):
    """The number of replicas, and the metric now: the average of a pod in thousandths, and the use
    in percent of the requests."""

    replicas: int
    average: int
    percent: int | None = None


class Groups(Value, frozen=True, eq=False):
    """The pods of a target by what is known of them (HPA-5)."""

    ready: int
    unready: frozenset[str]
    missing: frozenset[str]
    ignored: frozenset[str]


# --- one value for the whole target


def by_ratio(
    value: int, target: int, pods: Iterable[Pod], current: int, tolerances: Tolerances
) -> int:
    """The replicas for a value of the whole target, in thousandths: its ratio to `target`
    multiplies the running and ready pods (HPA-14). Raises Uncomputable."""
    ratio = value / target
    if tolerances.covers(ratio):
        return current
    selected = list(pods)
    if not selected:
        words = "no pods returned by selector while calculating replica count"
        raise Uncomputable(f"unable to calculate ready pods: {words}")
    ready = sum(1 for pod in selected if pod.status.phase == RUNNING and is_ready(pod))
    return _ceil(ratio * ready)


def by_sum(value: int, target: int, present: int, tolerances: Tolerances) -> tuple[int, int]:
    """The replicas of which each has `target` thousandths of the value (HPA-14), and what each of
    the `present` ones has, rounded up."""
    is_covered = present > 0 and tolerances.covers(value / (target * present))
    replicas = present if is_covered else _ceil(value / target)
    return replicas, -(-value // max(present, 1))


# --- the use of pods


def group_pods(pods: Iterable[Pod], samples: Samples, resource: str, now: Instant) -> Groups:
    """HPA-5. O(pods)."""
    ready = 0
    unready: set[str] = set()
    missing: set[str] = set()
    ignored: set[str] = set()
    for pod in pods:
        name = pod.metadata.name or ""
        sample = samples.get(name)
        if pod.metadata.deletion_timestamp is not None or pod.status.phase == FAILED:
            ignored.add(name)
        elif pod.status.phase == PENDING:
            unready.add(name)
        elif sample is None:
            missing.add(name)
        elif resource == "cpu" and not _is_trusted(pod, sample, now):
            unready.add(name)
        else:
            ready += 1
    return Groups(ready, frozenset(unready), frozenset(missing), frozenset(ignored))


def _is_trusted(pod: Pod, sample: Sample, now: Instant) -> bool:
    """Whether the processor time of the pod says something about its load."""
    condition = next((one for one in pod.status.conditions or () if one.type == "Ready"), None)
    if condition is None or pod.status.start_time is None:
        return False
    start = parse_timestamp(pod.status.start_time)
    changed = parse_timestamp(condition.last_transition_time) if condition.last_transition_time else 0  # fmt: skip
    is_unready = condition.status == "False"
    if start + INITIALIZATION_PERIOD > now:
        return not is_unready and sample.at >= changed + sample.window
    return not (is_unready and start + INITIAL_READINESS_DELAY > changed)


def pod_request(pod: Pod, resource: str, container: str = "") -> int:
    """The request of the pod (of one container, if named) in thousandths. Raises Uncomputable."""
    spec = pod.spec
    if not container and spec.resources is not None and resource in (spec.resources.requests or {}):
        return parse((spec.resources.requests or {})[resource]).milli
    total = 0
    for one in (*spec.containers, *sidecars(spec)):
        if container in ("", one.name):
            text = (one.resources.requests or {}).get(resource)
            if text is None:
                where = f"in container {one.name} of Pod {pod.metadata.name}"
                raise Uncomputable(f"missing request for {resource} {where}")
            total += parse(text).milli
    return total


def by_utilization(
    pods: list[Pod],
    samples: Samples,
    current: int,
    target: int,
    tolerances: Tolerances,
    resource: str,
    container: str,
    now: Instant,
) -> Proposal:
    """The replicas with which the use is `target` percent of the requests (HPA-4). Raises
    Uncomputable."""
    groups, known = _known(pods, samples, resource, now)
    requests = {pod.metadata.name or "": pod_request(pod, resource, container) for pod in pods}

    def ratio_of(values: Mapping[str, int]) -> tuple[float, int, int]:
        used = requested = 0
        for name, value in values.items():
            if name in requests:
                used += value
                requested += requests[name]
        if requested == 0:
            raise Uncomputable("no metrics returned matched known pods")
        percent = used * 100 // requested
        return percent / target, percent, used // max(len(values), 1)

    ratio, percent, average = ratio_of(known)

    def filled(name: str, value_on_scale_down: bool) -> int:
        return requests[name] * max(100, target) // 100 if value_on_scale_down else 0

    replicas = _replicas(
        groups, known, ratio, current, tolerances, filled, lambda v: ratio_of(v)[0]
    )
    return Proposal(replicas, average, percent)


def by_average(
    pods: list[Pod],
    samples: Samples,
    current: int,
    target: int,
    tolerances: Tolerances,
    resource: str,
    now: Instant,
) -> Proposal:
    """The replicas with which each pod uses `target` thousandths (HPA-4). Raises Uncomputable."""
    groups, known = _known(pods, samples, resource, now)

    def ratio_of(values: Mapping[str, int]) -> float:
        return sum(values.values()) // len(values) / target

    def filled(name: str, value_on_scale_down: bool) -> int:
        return target if value_on_scale_down else 0

    replicas = _replicas(groups, known, ratio_of(known), current, tolerances, filled, ratio_of)
    return Proposal(replicas, sum(known.values()) // len(known))


def _known(
    pods: list[Pod], samples: Samples, resource: str, now: Instant
) -> tuple[Groups, dict[str, int]]:
    """The groups, and the values of the pods that count."""
    if not pods:
        raise Uncomputable("no pods returned by selector while calculating replica count")
    groups = group_pods(pods, samples, resource, now)
    left_out = groups.ignored | groups.unready
    known = {name: sample.value for name, sample in sorted(samples.items()) if name not in left_out}
    if not known:
        words = "did not receive metrics for targeted pods (pods might be unready)"
        raise Uncomputable(words)
    return groups, known


def _replicas(
    groups: Groups,
    known: Mapping[str, int],
    ratio: float,
    current: int,
    tolerances: Tolerances,
    filled: Any,
    ratio_of: Any,
) -> int:
    """HPA-6: pods without a value are assumed to use what makes the change smaller."""
    unready_counts = bool(groups.unready) and ratio > 1.0
    if not unready_counts and not groups.missing:
        return current if tolerances.covers(ratio) else _ceil(ratio * groups.ready)
    values = dict(known)
    if ratio != 1.0:
        values.update({name: filled(name, ratio < 1.0) for name in sorted(groups.missing)})
    if unready_counts:
        values.update(dict.fromkeys(sorted(groups.unready), 0))
    new = ratio_of(values)
    if tolerances.covers(new) or (ratio < 1.0 < new) or (new < 1.0 < ratio):
        return current
    replicas = _ceil(new * len(values))
    if (new < 1.0 and replicas > current) or (new > 1.0 and replicas < current):
        return current
    return replicas


def _ceil(number: float) -> int:
    return min(ceil(number), REPLICAS_MAX)
