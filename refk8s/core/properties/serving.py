"""Laws of services: what stands behind them, and where packets go. Rules EP-5, SLICE-1, SLICE-2,
SLICE-3, NET-1, NET-3 (spec/workloads/endpoints.md, spec/network.md).
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from refk8s.core.actions import Action
from refk8s.core.api.core_v1 import Service
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, PODS, SERVICES
from refk8s.core.cluster.state import Cluster
from refk8s.core.loop.state import LoopState
from refk8s.core.ports import RuleSet
from refk8s.core.properties.law import Law, objects
from refk8s.core.properties.network import endpoints, key_of, usable, ways_in
from refk8s.core.properties.oracle import is_finished, is_ready
from refk8s.core.store import Change

MANAGED_BY, OF_PODS = "endpointslice.kubernetes.io/managed-by", "endpointslice-controller.k8s.io"
MAX_ENDPOINTS = 100


def _is_ours(slice: EndpointSlice) -> bool:
    return (slice.metadata.labels or {}).get(MANAGED_BY) == OF_PODS


def a_slice_is_small(change: Change[Any], before: Cluster, after: Cluster) -> Iterable[str] | None:
    """SLICE-2."""
    if change.record is None or not _is_ours(change.record.value):
        return None
    count = len(change.record.value.endpoints or ())
    return [f"{change.key} has {count} endpoints"] if count > MAX_ENDPOINTS else []


def ready_is_serving_and_not_terminating(
    change: Change[Any], before: Cluster, after: Cluster
) -> Iterable[str] | None:
    """SLICE-3."""
    slice = change.record.value if change.record is not None else None
    if slice is None or not _is_ours(slice) or not slice.endpoints:
        return None
    name = (slice.metadata.labels or {}).get("kubernetes.io/service-name")
    service = after.history.get(f"{SERVICES.prefix}{slice.metadata.namespace}/{name}")
    if service is None or service.value.spec.publish_not_ready_addresses:
        return None
    return [
        f"{change.key}: {endpoint.addresses[0]} is ready {state.ready}, serving {state.serving}, terminating {state.terminating}"
        for endpoint in slice.endpoints
        if (state := endpoint.conditions) is not None
        and bool(state.ready) != (bool(state.serving) and not state.terminating)
    ]


# --- the proxy ------------------------------------------------------------------------------------


def packets_go_to_whom_they_may(
    before: Cluster, action: Action, after: Cluster
) -> Iterable[str] | None:
    """NET-1, NET-3, of rules that were just handed over: what they are follows from the services
    and slices that the proxy sees."""
    if before.rules is after.rules:
        return None
    found: list[str] = []
    for name in sorted(after.rules):
        state = after.components[name].state
        if before.rules.get(name) is not after.rules[name] and isinstance(state, LoopState):
            found += rules_are_right(
                after.rules[name], state.view.list(SERVICES), state.view.list(ENDPOINT_SLICES), name
            )
    return found


def rules_are_right(
    rules: RuleSet, services: Sequence[Service], slices: Sequence[EndpointSlice], name: str
) -> Iterator[str]:
    """NET-1, NET-3. `name`: the proxy's, "proxy/NODE"."""
    ways = ways_in(services)
    by_key = {key_of(service): service for service in services}
    held = {
        (rule.address, rule.protocol, rule.port): (service, rule)
        for service, each in rules.services.items()
        for rule in each
    }
    node = name.partition("/")[2]
    for front in sorted({*ways, *held}):
        if front not in held or front not in ways:
            yield f"{name}: {front} " + (
                "has a rule, and is no service's"
                if front in held
                else f"of {ways[front].service} has no rule"
            )
            continue
        way, (service, rule) = ways[front], held[front]
        spec = by_key[way.service].spec
        assert spec is not None
        entries = list(endpoints(way.service, way.port, slices))
        policy = (
            spec.internal_traffic_policy if way.kind == "inside" else spec.external_traffic_policy
        )
        allowed = usable(
            entry for entry in entries if policy != "Local" or entry[0].node_name == node
        )
        if {*rule.targets} != allowed or len(rule.targets) != len(allowed):
            yield f"{name}: what comes to {front} of {service} goes to {list(rule.targets)}, should to {sorted(allowed)}"


# --- at rest --------------------------------------------------------------------------------------


def rules_follow_from_what_is_stored(cluster: Cluster) -> Iterable[str] | None:
    """NET-1, on every node."""
    services, slices = objects(cluster, SERVICES.prefix), objects(cluster, ENDPOINT_SLICES.prefix)
    return [
        words
        for name in sorted(cluster.rules)
        for words in rules_are_right(cluster.rules[name], services, slices, name)
    ]


def _kept(cluster: Cluster) -> list[Service]:
    """Services whose endpoints the cluster keeps (EP-1)."""
    found = [
        service
        for service in objects(cluster, SERVICES.prefix)
        if service.metadata.deletion_timestamp is None
    ]
    return [
        service
        for service in found
        if service.spec is not None
        and service.spec.selector
        and service.spec.type != "ExternalName"
    ]


def _behind(service: Service, pods: Iterable[Any]) -> dict[tuple[str, str], tuple[bool, bool]]:
    """(uid, address) of the pods that the selector chooses, with (whether it is ready, whether it
    is going)."""
    assert service.spec is not None and service.spec.selector
    wanted = service.spec.selector.items()
    found = {}
    for pod in pods:
        if (
            pod.metadata.namespace != service.metadata.namespace
            or not wanted <= (pod.metadata.labels or {}).items()
        ):
            continue
        if not pod.status.pod_ip or is_finished(pod):
            continue
        ready = is_ready(pod)
        found[pod.metadata.uid, pod.status.pod_ip] = (
            ready,
            pod.metadata.deletion_timestamp is not None,
        )
    return found


def slices_equal_the_selected_pods(cluster: Cluster) -> Iterable[str] | None:
    """SLICE-1, SLICE-3: each selected pod stands once, with what is so."""
    services, pods = _kept(cluster), objects(cluster, PODS.prefix)
    slices = [slice for slice in objects(cluster, ENDPOINT_SLICES.prefix) if _is_ours(slice)]
    return (
        [words for service in services for words in _slices_of(service, pods, slices)]
        if services
        else None
    )


def _slices_of(
    service: Service, pods: Sequence[Any], slices: Iterable[EndpointSlice]
) -> Iterator[str]:
    name, publish = key_of(service), bool(service.spec and service.spec.publish_not_ready_addresses)
    expected = {
        who: (publish or (ready and not going), ready, going)
        for who, (ready, going) in _behind(service, pods).items()
    }
    told: dict[tuple[str, str], tuple[bool, bool, bool]] = {}
    for slice in slices:
        if (
            f"{slice.metadata.namespace}/{(slice.metadata.labels or {}).get('kubernetes.io/service-name')}"
            != name
        ):
            continue
        for endpoint in slice.endpoints or ():
            who = (
                (endpoint.target_ref.uid or "") if endpoint.target_ref is not None else "",
                endpoint.addresses[0],
            )
            if who in told:
                yield f"{name}: {who[1]} stands twice in its slices"
            state = endpoint.conditions
            told[who] = (
                (bool(state.ready), bool(state.serving), bool(state.terminating))
                if state is not None
                else (True, True, False)
            )
    if told != expected:
        yield f"{name}: its slices tell of {sorted(told.items())}, there are {sorted(expected.items())}"


def endpoints_equal_the_ready_pods(cluster: Cluster) -> Iterable[str] | None:
    """EP-5."""
    services, pods = _kept(cluster), objects(cluster, PODS.prefix)
    there = {
        f"{one.metadata.namespace}/{one.metadata.name}": one
        for one in objects(cluster, ENDPOINTS.prefix)
    }
    return (
        [
            words
            for service in services
            for words in _endpoints_of(service, pods, there.get(key_of(service)))
        ]
        if services
        else None
    )


def _endpoints_of(service: Service, pods: Sequence[Any], told: Any | None) -> Iterator[str]:
    if told is None:
        yield f"{key_of(service)} has no Endpoints"
        return
    publish = bool(service.spec and service.spec.publish_not_ready_addresses)
    behind = {
        who: publish or ready
        for who, (ready, going) in _behind(service, pods).items()
        if publish or not going
    }
    found: dict[tuple[str, str], bool] = {}
    for subset in told.subsets or ():
        for ready, addresses in ((True, subset.addresses), (False, subset.not_ready_addresses)):
            for address in addresses or ():
                found[
                    address.target_ref.uid if address.target_ref is not None else "", address.ip
                ] = ready
    if found != behind:
        yield f"{key_of(service)}: its Endpoints tell of {sorted(found.items())}, there are {sorted(behind.items())}"


OF_CHANGES = (
    Law("SLICE-2", a_slice_is_small, ENDPOINT_SLICES.prefix),
    Law("SLICE-3", ready_is_serving_and_not_terminating, ENDPOINT_SLICES.prefix),
)
OF_STEPS = (Law("NET-3", packets_go_to_whom_they_may),)
OF_REST = (
    Law("SLICE-1", slices_equal_the_selected_pods),
    Law("EP-5", endpoints_equal_the_ready_pods),
    Law("NET-1", rules_follow_from_what_is_stored),
)
