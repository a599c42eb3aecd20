"""Clusters with services, pods and nodes that change, and what should then stand behind each
service: said naively, from the store."""

from collections import Counter
from typing import Any

import runs
from hypothesis import strategies as st
from workload_helpers import NOW, get, new_cluster, nothing_wrong, stored

from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    EndpointAddress,
    EndpointPort,
    Endpoints,
    EndpointSubset,
    Node,
    Pod,
    PodSpec,
    Service,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import ENDPOINT_SLICES, ENDPOINTS, NODES, PODS, SERVICES
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all, submit
from refk8s.core.context import timestamp
from refk8s.core.controllers.endpoint_slice import EndpointSliceController
from refk8s.core.controllers.endpoint_slice_mirroring import EndpointSliceMirroringController
from refk8s.core.controllers.endpoints import EndpointsController

MAX = 3  # endpoints in a slice, so that a few pods need several
FAULTS = ["lose", "give up", "cut", "compact", "crash"]
NODE_NAMES = ("n0", "n1")
OF_PODS, OF_ENDPOINTS = (
    "endpointslice-controller.k8s.io",
    "endpointslicemirroring-controller.k8s.io",
)


# --- what users, kubelets and clouds do -----------------------------------------------------------


def attempt(cluster: Cluster, request: Request) -> Cluster:
    """Somebody outside asks for something that may be refused."""
    return submit(cluster, request)[0]


def merge(
    cluster: Cluster, resource: Any, name: str, document: Any, subresource: str = ""
) -> Cluster:
    namespace = "default" if resource.namespaced else ""
    return attempt(
        cluster,
        Request(
            "patch",
            resource,
            namespace,
            name,
            subresource,
            body=Patch("application/merge-patch+json", document),
            user=ADMIN,
        ),
    )


def delete(cluster: Cluster, resource: Any, name: str, **options: Any) -> Cluster:
    return attempt(
        cluster,
        Request(
            "delete",
            resource,
            "default" if resource.namespaced else "",
            name,
            body=DeleteOptions(**options),
            user=ADMIN,
        ),
    )


def make_node(cluster: Cluster, name: str, zone: str) -> Cluster:
    labels = {"topology.kubernetes.io/zone": zone} if zone else None
    return attempt(
        cluster,
        Request(
            "create",
            NODES,
            "",
            name,
            body=Node(metadata=ObjectMeta(name=name, labels=labels)),
            user=ADMIN,
        ),
    )


services = st.builds(
    dict,
    kind=st.sampled_from(["plain", "plain", "plain", "headless", "bare", "by hand", "external"]),
    app=st.sampled_from(["web", "web", "db"]),
    ports=st.sampled_from([(80,), ("http",), ("http", 9000), ("http", "metrics")]),
    publish=st.booleans(),
    labels=st.sampled_from([None, {"tier": "x"}]),
)
pods = st.builds(
    dict,
    app=st.sampled_from(["web", "web", "web", "db"]),
    http=st.sampled_from([None, 8080, 8080, 9090]),
    metrics=st.booleans(),
    sidecar=st.booleans(),
    node=st.sampled_from(["n0", "n0", "n1", ""]),
    host=st.sampled_from(["", "", "host-a"]),
)


def make_service(
    cluster: Cluster,
    name: str,
    kind: str,
    app: str,
    ports: tuple[Any, ...],
    publish: bool,
    labels: Any,
) -> Cluster:
    told = (
        ()
        if kind == "bare"
        else tuple(
            ServicePort(name=f"p{n}", port=80 + n, target_port=port, protocol="TCP")
            for n, port in enumerate(ports)
        )
    )
    spec = ServiceSpec(
        type="ExternalName" if kind == "external" else "ClusterIP",
        external_name="example.invalid" if kind == "external" else None,
        cluster_ip="None" if kind in ("headless", "bare") else None,
        selector=None if kind == "by hand" else {"app": app},
        ports=told or None,
        publish_not_ready_addresses=publish or None,
    )
    body = Service(metadata=ObjectMeta(name=name, labels=labels), spec=spec)
    return attempt(cluster, Request("create", SERVICES, "default", name, body=body, user=ADMIN))


def make_pod(
    cluster: Cluster,
    number: int,
    app: str,
    http: int | None,
    metrics: bool,
    sidecar: bool,
    node: str,
    host: str,
    ready: bool | None = None,
) -> Cluster:
    told = [ContainerPort(name="http", container_port=http, protocol="TCP")] if http else []
    told += [ContainerPort(name="metrics", container_port=9100, protocol="TCP")] if metrics else []
    main = Container(name="c", image="app:1", ports=None if sidecar else tuple(told) or None)
    beside = Container(name="s", image="app:1", restart_policy="Always", ports=tuple(told) or None)
    spec = PodSpec(
        containers=(main,), init_containers=(beside,) if sidecar else None, node_name=node or None, hostname=host or None,
        subdomain="s0" if host else None,
    )  # fmt: skip
    name = f"p{number}"
    body = Pod(metadata=ObjectMeta(name=name, labels={"app": app}), spec=spec)
    cluster = attempt(cluster, Request("create", PODS, "default", name, body=body, user=ADMIN))
    return report(cluster, number, ready) if ready is not None else cluster


def report(cluster: Cluster, number: int, ready: bool, phase: str = "Running") -> Cluster:
    """What a kubelet would say."""
    condition = {
        "type": "Ready",
        "status": "True" if ready else "False",
        "lastTransitionTime": timestamp(cluster.now),
    }
    address = f"10.9.0.{number + 1}"
    status = {
        "phase": phase,
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [condition],
    }
    return merge(cluster, PODS, f"p{number}", {"status": status}, "status")


def write_by_hand(cluster: Cluster, name: str, variant: int) -> Cluster:
    """Somebody creates, changes or deletes Endpoints."""
    old = get(cluster, ENDPOINTS, name)
    if old is not None and variant % 4 == 0:
        return delete(cluster, ENDPOINTS, name)
    addresses = tuple(EndpointAddress(ip=f"10.8.0.{n + 1}") for n in range(variant % 5 + 1))
    subsets = (
        EndpointSubset(addresses=addresses, ports=(EndpointPort(port=5432, protocol="TCP"),)),
        EndpointSubset(
            not_ready_addresses=(EndpointAddress(ip="10.8.1.1", hostname="h"),),
            ports=(EndpointPort(port=54, protocol="TCP"),),
        ),
    )[: variant % 2 + 1]
    odd = {7: {"endpointslice.kubernetes.io/skip-mirror": "true"}, 8: {"shade": "blue"}}.get(
        variant
    )
    annotations = (
        {"control-plane.alpha.kubernetes.io/leader": "{}"}
        if variant == 9
        else {"note": "x"}
        if variant == 10
        else None
    )
    metadata = ObjectMeta(name=name, labels=odd, annotations=annotations)
    if old is None:
        return attempt(
            cluster,
            Request(
                "create",
                ENDPOINTS,
                "default",
                name,
                body=Endpoints(metadata=metadata, subsets=subsets),
                user=ADMIN,
            ),
        )
    body = Endpoints(metadata=metadata, subsets=subsets)
    return attempt(cluster, Request("update", ENDPOINTS, "default", name, body=body, user=ADMIN))


def act(cluster: Cluster, choice: tuple[Any, ...]) -> Cluster:
    kind, which, drawn = choice
    pod, service, node = f"p{which % 8}", f"s{which % 3}", NODE_NAMES[which % 2]
    match kind:
        case "pod":
            return make_pod(cluster, which % 8, **drawn)
        case "ready" | "unready":
            return report(cluster, which % 8, kind == "ready")
        case "finish":
            return report(cluster, which % 8, False, "Succeeded")
        case "die":
            return delete(cluster, PODS, pod)
        case "vanish":
            return delete(cluster, PODS, pod, grace_period_seconds=0)
        case "relabel":
            return merge(
                cluster, PODS, pod, {"metadata": {"labels": {"app": ("web", "db")[which // 8 % 2]}}}
            )
        case "service":
            return make_service(cluster, service, **drawn)
        case "service goes":
            return delete(cluster, SERVICES, service)
        case "service changes":
            changes = [
                {"metadata": {"labels": {"tier": "y"}}},
                {"spec": {"selector": {"app": "db"}}},
                {"spec": {"publishNotReadyAddresses": True}},
                {"spec": {"trafficDistribution": "PreferSameZone"}},
                {"spec": {"trafficDistribution": "PreferSameNode"}},
                {"spec": {"trafficDistribution": None}},
                {"metadata": {"labels": None}},
            ]
            return merge(cluster, SERVICES, service, changes[which // 3 % len(changes)])
        case "by hand":
            return write_by_hand(cluster, service, which // 3 % 12)
        case "zone":
            return merge(
                cluster,
                NODES,
                node,
                {
                    "metadata": {
                        "labels": {"topology.kubernetes.io/zone": ("a", "b")[which // 2 % 2]}
                    }
                },
            )
        case "node goes":
            return delete(cluster, NODES, node)
        case "node comes":
            return make_node(cluster, node, "a")
    raise AssertionError(kind)


simple = st.sampled_from(
    ["ready", "ready", "ready", "unready", "finish", "die", "vanish", "relabel", "service goes", "service changes", "by hand", "by hand",
     "zone", "node goes", "node comes"]
)  # fmt: skip
deeds = st.lists(
    st.one_of(
        st.tuples(st.just("pod"), st.integers(0, 99), pods),
        st.tuples(st.just("service"), st.integers(0, 99), services),
        st.tuples(simple, st.integers(0, 999), st.none()),
        st.tuples(
            st.just("components"),
            st.lists(st.tuples(st.integers(0, 11), st.integers(0, 2**16)), max_size=12),
            st.none(),
        ),
    ),
    max_size=40,
)


# --- runs -----------------------------------------------------------------------------------------


def world(*reconcilers: Any) -> Cluster:
    chosen = reconcilers or (
        EndpointsController(),
        EndpointSliceController(MAX),
        EndpointSliceMirroringController(MAX),
    )
    cluster = new_cluster(*chosen)
    for name, zone in zip(NODE_NAMES, ("a", "b"), strict=True):
        cluster = make_node(cluster, name, zone)
    return start_all(cluster)


def crowded(pods: int = 8) -> Cluster:
    """A start with a service and pods that are all ready, not settled."""
    cluster = make_service(world(), "s0", "plain", "web", ("http", 9000), False, None)
    for number in range(pods):
        cluster = make_pod(cluster, number, "web", 8080, False, False, "n0", "", ready=True)
    return cluster


def never_too_many(before: Cluster, after: Cluster) -> list[str]:
    """SLICE-2."""
    if before.history is after.history:
        return []
    crowded = [s for s in stored(after, ENDPOINT_SLICES) if len(s.endpoints or ()) > MAX]
    return [f"SLICE-2: {s.metadata.name} has {len(s.endpoints)} endpoints" for s in crowded]


def live(cluster: Cluster, drawn: Any) -> Cluster:
    for choice in drawn:
        cluster = (
            runs.run(cluster, choice[1], never_too_many, FAULTS)
            if choice[0] == "components"
            else act(cluster, choice)
        )
    return cluster


def settle(cluster: Cluster, check: runs.Check = never_too_many) -> Cluster:
    """Until all is quiet; then five minutes more must bring no write."""
    cluster = runs.settle(cluster, check, seconds_max=60)
    later = runs.settle(cluster, nothing_wrong, seconds_max=300)
    assert later.history.revision == cluster.history.revision, (
        "somebody still writes where nothing changes"
    )
    return later


# --- what should be told, said naively ------------------------------------------------------------


def kept(cluster: Cluster) -> list[Any]:
    """The services whose pods the cluster looks for."""
    return [
        s for s in stored(cluster, SERVICES) if s.spec.selector and s.spec.type != "ExternalName"
    ]


def chosen(cluster: Cluster, service: Any) -> list[Any]:
    """The pods behind a service that have an address and have not ended."""
    return [
        p
        for p in stored(cluster, PODS)
        if all((p.metadata.labels or {}).get(k) == v for k, v in service.spec.selector.items())
        and p.status.pod_ip
        and p.status.phase not in ("Failed", "Succeeded")
    ]


def is_ready(pod: Any) -> bool:
    return any(c.type == "Ready" and c.status == "True" for c in pod.status.conditions or ())


def numbers(service: Any, pod: Any) -> list[tuple[str, int]]:
    """(name of the service's port, number in the pod)"""
    names = {}
    for container in [*reversed(pod.spec.init_containers or ()), *reversed(pod.spec.containers)]:
        if container in pod.spec.containers or container.restart_policy == "Always":
            names |= {port.name: port.container_port for port in container.ports or ()}
    told = [
        (p.name, p.target_port if isinstance(p.target_port, int) else names.get(p.target_port))
        for p in service.spec.ports or ()
    ]
    return [(name, number) for name, number in told if number is not None]


def hostname(service: Any, pod: Any) -> str | None:
    return (
        pod.spec.hostname
        if pod.spec.hostname and pod.spec.subdomain == service.metadata.name
        else None
    )


def expected_endpoints(cluster: Cluster, service: Any) -> Counter[Any]:
    """What slices are to tell of the service's pods."""
    nodes = {
        node.metadata.name: (node.metadata.labels or {}).get("topology.kubernetes.io/zone")
        for node in stored(cluster, NODES)
    }
    publish, found = bool(service.spec.publish_not_ready_addresses), Counter()
    for pod in chosen(cluster, service):
        if publish or pod.spec.node_name in nodes:
            dying = pod.metadata.deletion_timestamp is not None
            conditions = (publish or (is_ready(pod) and not dying), is_ready(pod), dying)
            zone = nodes.get(pod.spec.node_name)
            at = (pod.spec.node_name or None, zone, hints(service, conditions[0], zone, pod))
            found[
                (
                    pod.status.pod_ip,
                    pod.metadata.uid,
                    frozenset(numbers(service, pod)),
                    conditions,
                    at,
                    hostname(service, pod),
                )
            ] += 1
    return found


def hints(service: Any, ready: bool, zone: str | None, pod: Any) -> Any:
    """The zone and the node for which an endpoint is to be (SLICE-8)."""
    distribution = service.spec.traffic_distribution
    is_zonal = ready and distribution is not None
    on_node = is_zonal and distribution == "PreferSameNode"
    return zone if is_zonal else None, (pod.spec.node_name or None) if on_node else None


def hinted(endpoint: Any) -> Any:
    """The zone and the node of the endpoint's hints."""
    if endpoint.hints is None:
        return None, None
    zones, nodes = endpoint.hints.for_zones or (), endpoint.hints.for_nodes or ()
    assert len(zones) <= 1 and len(nodes) <= 1 and (zones or nodes)
    return (zones[0].name if zones else None), (nodes[0].name if nodes else None)


def told_endpoints(slices: list[Any]) -> Counter[Any]:
    found: Counter[Any] = Counter()
    for slice in slices:
        ports = frozenset((port.name, port.port) for port in slice.ports or ())
        for e in slice.endpoints or ():
            conditions = (e.conditions.ready, e.conditions.serving, e.conditions.terminating)
            uid = e.target_ref.uid if e.target_ref is not None else None
            at = (e.node_name, e.zone, hinted(e))
            found[(e.addresses[0], uid, ports, conditions, at, e.hostname)] += 1
    return found


def slices_of(cluster: Cluster, name: str, manager: str) -> list[Any]:
    """The slices of the service that this controller keeps."""
    labels = {"kubernetes.io/service-name": name, "endpointslice.kubernetes.io/managed-by": manager}
    return [
        s
        for s in stored(cluster, ENDPOINT_SLICES)
        if labels.items() <= (s.metadata.labels or {}).items()
    ]


__all__ = ["NOW"]
