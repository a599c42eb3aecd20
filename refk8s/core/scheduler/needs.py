"""The requirements of a pod: requests, host ports, selectors, affinity, tolerations. Rules SCHED-2,
SCHED-17 (spec/scheduler.md).

Pods of one template have equal requirements, so they share one `Needs`, found by the bytes of these
fields. A result for one of them holds for all (SCHED-17). `core/pods/` interprets the fields.
Source: Kubernetes documentation, "Resource Management for Pods and Containers" (how pods with
resource requests are scheduled). Left out: claims (claimed.py).
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import msgspec

from refk8s.core.api.core_v1 import (
    Affinity,
    Container,
    ContainerPort,
    NodeSelectorTerm,
    Pod,
    PodAffinity,
    PodAntiAffinity,
    ResourceRequirements,
    Toleration,
    TopologySpreadConstraint,
)
from refk8s.core.memo import remember_identical, remember_within
from refk8s.core.pods.containers import is_sidecar
from refk8s.core.pods.host_ports import HostPort, host_ports
from refk8s.core.pods.node_affinity import NAME_FIELD, preferred_terms, required_terms
from refk8s.core.pods.resize import NOTHING, requests_in_use
from refk8s.core.pods.resources import (
    CPU,
    EPHEMERAL_STORAGE,
    MEMORY,
    Amounts,
    compute_requests,
)
from refk8s.core.value import Value

# the request of a container without one in scores (SCHED-12): milli-CPUs and bytes
SCORED_DEFAULT: Amounts = {CPU: 100, MEMORY: 200 * 1024 * 1024}
DEFAULT_SCHEDULER = "default-scheduler"

CACHED_BYTES_MAX = 8 << 20
"""The bytes of the keys in a cache. What is cached for a key takes some times as much."""

Requested = dict[str, str] | None


class Part(NamedTuple):
    """The fields of one container that the scheduler needs."""

    requests: Requested
    ports: tuple[ContainerPort, ...] | None
    image: str | None
    restart_policy: str | None


class Needs(Value, frozen=True, eq=False):
    """The requirements of a pod. Pods with equal `key` share one object while it is cached."""

    key: bytes
    node_selector: tuple[tuple[str, str], ...]
    # one of them must match; None: no requirement
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
    # the only nodes that the required terms name; None: they name none
    node_names: tuple[str, ...] | None
    pod_affinity: PodAffinity | None
    pod_anti_affinity: PodAntiAffinity | None
    constraints: tuple[TopologySpreadConstraint, ...]
    # the extended resources that classes of devices provide (DRA-23)
    backed: tuple[str, ...] = ()

    @staticmethod
    def of(key: bytes) -> "Needs":
        """The needs with this key."""
        return _parse(key)

    def with_backed(self, backed: tuple[str, ...]) -> "Needs":
        """These needs, with other extended resources that classes provide."""
        return _parse(_PARTS.encode((*_DECODER.decode(self.key)[:-1], backed)))

    @property
    def has_inter_pod_terms(self) -> bool:
        """Whether it has inter-pod affinity or spread constraints (see `inter_pod.py`)."""
        return bool(self.pod_affinity or self.pod_anti_affinity or self.constraints)

    @property
    def is_best_effort(self) -> bool:
        """Whether it requests neither CPU nor memory."""
        return not self.cpu and not self.memory


_PARTS = msgspec.msgpack.Encoder()
_Parts = tuple[
    dict[str, str] | None,
    Affinity | None,
    tuple[Toleration, ...] | None,
    tuple[TopologySpreadConstraint, ...] | None,
    Requested,
    Requested,
    tuple[Part, ...],
    tuple[Part, ...],
    tuple[str, ...],
]
_DECODER: msgspec.msgpack.Decoder[_Parts] = msgspec.msgpack.Decoder(_Parts)


def needs_of(pod: Pod) -> Needs:
    """The needs of this pod. O(size of the spec) if they are cached, and O(1) for pods of one
    template, bound or not."""
    spec = pod.spec
    used = requests_in_use(pod)  # RESIZE-6
    parts = (
        spec.node_selector,
        spec.affinity,
        spec.tolerations,
        spec.topology_spread_constraints,
        spec.overhead,
        spec.resources,
        spec.containers,
        spec.init_containers,
    )
    return _needs(used, *parts) if used else _needs_of_parts(*parts)


@remember_identical(32)
def _needs_of_parts(*parts: Any) -> Needs:
    return _needs(NOTHING, *parts)


def _needs(
    used: Mapping[str, Mapping[str, str]],
    node_selector: dict[str, str] | None,
    affinity: Affinity | None,
    tolerations: tuple[Toleration, ...] | None,
    constraints: tuple[TopologySpreadConstraint, ...] | None,
    overhead: Requested,
    resources: ResourceRequirements | None,
    containers: tuple[Container, ...],
    init_containers: tuple[Container, ...] | None,
) -> Needs:
    return _parse(
        _PARTS.encode(
            (
                node_selector,
                affinity,
                tolerations,
                constraints,
                overhead,
                _requests(resources),
                [
                    (used.get(c.name) or _requests(c.resources), c.ports, c.image, c.restart_policy)
                    for c in containers
                ],
                [
                    (used.get(c.name) or _requests(c.resources), c.ports, c.image, c.restart_policy)
                    for c in init_containers or ()
                ],
                (),
            )
        )
    )


def _requests(resources: ResourceRequirements | None) -> Requested:
    return resources.requests if resources is not None else None


@remember_within(CACHED_BYTES_MAX, len)
def _parse(key: bytes) -> Needs:
    parts = _DECODER.decode(key)
    (
        selector,
        affinity,
        tolerations,
        constraints,
        overhead,
        pod_level,
        containers,
        init_containers,
        backed,
    ) = parts
    required = required_terms(affinity)
    regular = [part.requests for part in containers]
    initial = [(part.requests, is_sidecar(part)) for part in init_containers]
    requests = compute_requests(regular, initial, pod_level, overhead)
    scored = compute_requests(regular, initial, pod_level, overhead, SCORED_DEFAULT)
    lasting = (*containers, *[part for part in init_containers if is_sidecar(part)])
    return Needs(
        key=key,
        node_selector=tuple(sorted((selector or {}).items())),
        required_terms=required,
        preferred_terms=tuple((term.weight, term.preference) for term in preferred_terms(affinity)),
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
        ports=host_ports([part.ports for part in lasting]),
        images=tuple(part.image for part in (*init_containers, *containers) if part.image),
        node_names=_named(required) if required is not None else None,
        pod_affinity=affinity.pod_affinity if affinity else None,
        pod_anti_affinity=affinity.pod_anti_affinity if affinity else None,
        constraints=constraints or (),
        backed=backed,
    )


def _named(terms: tuple[NodeSelectorTerm, ...]) -> tuple[str, ...] | None:
    """The nodes that the terms name, if every term names some (as for pods of DaemonSets)."""
    names: set[str] = set()
    for term in terms:
        fields = [
            each
            for each in term.match_fields or ()
            if each.key == NAME_FIELD and each.operator == "In"
        ]
        if not fields:
            return None
        names.update(
            set(fields[0].values or ()).intersection(*(each.values or () for each in fields[1:]))
        )
    return tuple(sorted(names)) if terms else None
