"""What of a pod matters for where it runs: requests, host ports, selectors, tolerations. Rules
SCHED-2, SCHED-17 (spec/scheduler.md).

Pods of one template are alike in all of this, so they share one `Needs`, found by the bytes of
those fields; what has been worked out for one of them holds for all (SCHED-17). The other pods and
the nodes do not come in here. Source: Kubernetes documentation, "Resource Management for Pods and
Containers", "Sidecar Containers" (resource sharing within containers), "Pod Overhead". Left out:
what a resize in place has allocated beyond the spec's requests; dynamic resource claims; volumes.
"""

from collections.abc import Iterable, Mapping
from functools import lru_cache

import msgspec

from refk8s.core.api.core_v1 import (
    Affinity,
    ContainerPort,
    NodeSelectorTerm,
    Pod,
    PodAffinity,
    PodAntiAffinity,
    ResourceRequirements,
    Toleration,
    TopologySpreadConstraint,
)
from refk8s.core.api.quantity import milli_value, value
from refk8s.core.value import Value

CPU, MEMORY, EPHEMERAL_STORAGE, PODS_COUNT = "cpu", "memory", "ephemeral-storage", "pods"
SCORED_CPU_DEFAULT = 100  # milli-CPUs that scoring takes for a container that states no request
SCORED_MEMORY_DEFAULT = 200 * 1024 * 1024  # bytes, likewise
ANY_ADDRESS = "0.0.0.0"
DEFAULT_SCHEDULER = "default-scheduler"

Amounts = dict[str, int]  # resource -> milli-CPUs, bytes or pieces; never changed once made
Requests = dict[str, str] | None
Part = tuple[Requests, tuple[ContainerPort, ...] | None, str | None, str | None]  # of one container


class HostPort(Value, frozen=True, order=True):
    """A port of the node that a container takes."""

    port: int
    protocol: str = "TCP"
    address: str = ANY_ADDRESS


class Needs(Value, frozen=True, eq=False):
    """What a pod asks of a node. Two pods with equal `key` share the very same object, as long as
    it is remembered."""

    key: bytes
    node_selector: tuple[tuple[str, str], ...]
    # one of them must match; None: any node will do
    required_terms: tuple[NodeSelectorTerm, ...] | None
    preferred_terms: tuple[tuple[int, NodeSelectorTerm], ...]
    tolerations: tuple[Toleration, ...]
    cpu: int
    memory: int
    ephemeral_storage: int
    extended: Amounts
    scored_cpu: int
    scored_memory: int
    ports: tuple[HostPort, ...]
    images: tuple[str, ...]
    # the only nodes that the required terms name; None: they do not name any
    node_names: tuple[str, ...] | None
    pod_affinity: PodAffinity | None
    pod_anti_affinity: PodAntiAffinity | None
    constraints: tuple[TopologySpreadConstraint, ...]

    @staticmethod
    def of(key: bytes) -> "Needs":
        """The needs with this key."""
        return _parse(key)

    @property
    def has_bonds(self) -> bool:
        """Other pods matter for where it may run, or it for where others may (see `bonds.py`)."""
        return bool(self.pod_affinity or self.pod_anti_affinity or self.constraints)

    @property
    def is_best_effort(self) -> bool:
        """It asks for neither CPU nor memory."""
        return not self.cpu and not self.memory


_PARTS = msgspec.msgpack.Encoder()
_Parts = tuple[
    dict[str, str] | None,
    Affinity | None,
    tuple[Toleration, ...] | None,
    tuple[TopologySpreadConstraint, ...] | None,
    Requests,
    Requests,
    tuple[Part, ...],
    tuple[Part, ...],
]


def needs_of(pod: Pod) -> Needs:
    """The needs of this pod. O(size of the spec) to find those that are known already."""
    spec = pod.spec
    return _parse(
        _PARTS.encode(
            (
                spec.node_selector,
                spec.affinity,
                spec.tolerations,
                spec.topology_spread_constraints,
                spec.overhead,
                _requests(spec.resources),
                [
                    (_requests(c.resources), c.ports, c.image, c.restart_policy)
                    for c in spec.containers
                ],
                [
                    (_requests(c.resources), c.ports, c.image, c.restart_policy)
                    for c in spec.init_containers or ()
                ],
            )
        )
    )


def _requests(resources: ResourceRequirements | None) -> Requests:
    return resources.requests if resources is not None else None


@lru_cache(maxsize=8192)
def _parse(key: bytes) -> Needs:
    parts = msgspec.msgpack.decode(key, type=_Parts)
    (
        selector,
        affinity,
        tolerations,
        constraints,
        overhead,
        pod_level,
        containers,
        init_containers,
    ) = parts
    node_affinity = affinity.node_affinity if affinity else None
    required = (
        node_affinity.required_during_scheduling_ignored_during_execution if node_affinity else None
    )
    preferred = (
        node_affinity.preferred_during_scheduling_ignored_during_execution
        if node_affinity
        else None
    )
    whole = _amounts(pod_level)
    extra = _amounts(overhead)
    requests = _total(containers, init_containers, whole, extra, {})
    scored = _total(
        containers,
        init_containers,
        whole,
        extra,
        {CPU: SCORED_CPU_DEFAULT, MEMORY: SCORED_MEMORY_DEFAULT},
    )
    sidecars = [part for part in init_containers if _is_sidecar(part)]
    return Needs(
        key=key,
        node_selector=tuple(sorted((selector or {}).items())),
        required_terms=required.node_selector_terms if required else None,
        preferred_terms=tuple((term.weight, term.preference) for term in preferred or ()),
        tolerations=tolerations or (),
        cpu=requests.get(CPU, 0),
        memory=requests.get(MEMORY, 0),
        ephemeral_storage=requests.get(EPHEMERAL_STORAGE, 0),
        extended={
            name: requests[name]
            for name in sorted(requests)
            if name not in (CPU, MEMORY, EPHEMERAL_STORAGE) and requests[name]
        },
        scored_cpu=scored.get(CPU, 0),
        scored_memory=scored.get(MEMORY, 0),
        ports=tuple(sorted(_host_ports([*containers, *sidecars]))),
        images=tuple(image for _, _, image, _ in [*init_containers, *containers] if image),
        node_names=_named(required.node_selector_terms) if required else None,
        pod_affinity=affinity.pod_affinity if affinity else None,
        pod_anti_affinity=affinity.pod_anti_affinity if affinity else None,
        constraints=constraints or (),
    )


def _named(terms: tuple[NodeSelectorTerm, ...]) -> tuple[str, ...] | None:
    """The nodes that the terms name, where each names some: a DaemonSet's pod names its one
    node."""
    names: set[str] = set()
    for term in terms:
        fields = [
            each
            for each in term.match_fields or ()
            if each.key == "metadata.name" and each.operator == "In"
        ]
        if not fields:
            return None
        names.update(
            set(fields[0].values or ()).intersection(*(each.values or () for each in fields[1:]))
        )
    return tuple(sorted(names)) if terms else None


def amount(resource: str, quantity: str) -> int:
    """A quantity in the units in which the scheduler counts: milli-CPUs, else whole ones, rounded
    up."""
    return milli_value(quantity) if resource == CPU else value(quantity)


def _amounts(requests: Mapping[str, str] | None) -> Amounts:
    return {name: amount(name, quantity) for name, quantity in (requests or {}).items()}


def _is_sidecar(part: Part) -> bool:
    return part[3] == "Always"


def _total(
    containers: Iterable[Part],
    init_containers: Iterable[Part],
    whole: Amounts,
    overhead: Amounts,
    default: Amounts,
) -> Amounts:
    """SCHED-2: the greater of what runs together in the end and what runs together at any moment of
    the start.

    Init containers run one after another, each beside the sidecars started before it. What the pod
    as a whole states takes the place of that sum, and the overhead comes on top. `default` stands
    in for what a container does not state.
    """
    running: Amounts = {}
    for part in containers:
        running = _plus(running, default | _amounts(part[0]))
    sidecars: Amounts = {}
    peak: Amounts = {}
    for part in init_containers:
        own = default | _amounts(part[0])
        moment = _plus(sidecars, own)
        if _is_sidecar(part):
            sidecars = moment
        peak = {name: max(peak.get(name, 0), moment.get(name, 0)) for name in peak | moment}
    running = _plus(running, sidecars)
    total = {name: max(running.get(name, 0), peak.get(name, 0)) for name in running | peak}
    return _plus(total | whole, overhead)


def _plus(left: Amounts, right: Amounts) -> Amounts:
    return {name: left.get(name, 0) + right.get(name, 0) for name in left | right}


def _host_ports(parts: Iterable[Part]) -> set[HostPort]:
    return {
        HostPort(port.host_port, port.protocol or "TCP", port.host_ip or ANY_ADDRESS)
        for _, ports, _, _ in parts
        for port in ports or ()
        if port.host_port
    }
