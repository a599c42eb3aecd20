"""Load balancers that nodes serve. Rules LB-1 to LB-4 (spec/network.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from runs import choices, run
from workload_helpers import NOW, ask, create, get, new_cluster, patch, settle, stored, view_of

from refk8s.core.api.core_v1 import (
    Node,
    NodeAddress,
    NodeCondition,
    NodeSpec,
    NodeStatus,
    Service,
    ServicePort,
    ServiceSpec,
)
from refk8s.core.api.discovery_v1 import Endpoint, EndpointConditions, EndpointPort, EndpointSlice
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NODES, SERVICES
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.node_load_balancer import (
    EXCLUDED,
    KEPT_PORTS,
    REFUSED,
    NodeLoadBalancer,
)
from refk8s.core.loop.plan import Local

FAULTS = ["lose", "give up", "cut", "compact", "crash", "twice"]
ADDRESSES = {"a": "192.0.2.11", "b": "192.0.2.12"}


def a_node(name, ready="True", labels=None, **metadata):
    status = NodeStatus(
        conditions=(NodeCondition(type="Ready", status=ready),),
        addresses=(NodeAddress(type="InternalIP", address=ADDRESSES[name]),),
    )
    return Node(
        metadata=ObjectMeta(name=name, labels=labels, **metadata), spec=NodeSpec(), status=status
    )


def a_service(port=80, annotations=None, **spec):
    given = {"type": "LoadBalancer", "ports": (ServicePort(port=port, protocol="TCP"),), **spec}
    metadata = ObjectMeta(name="web", namespace="default", annotations=annotations)
    return Service(metadata=metadata, spec=ServiceSpec(**given))


def a_slice(node, ready):
    conditions = EndpointConditions(ready=ready)
    return EndpointSlice(
        metadata=ObjectMeta(
            name=f"web-{node}", namespace="default", labels={"kubernetes.io/service-name": "web"}
        ),
        address_type="IPv4",
        endpoints=(Endpoint(addresses=("10.244.0.2",), node_name=node, conditions=conditions),),
        ports=(EndpointPort(name="", port=80, protocol="TCP"),),
    )


def ingress(service):
    balancer = service.status.load_balancer if service.status is not None else None
    return [entry.ip for entry in (balancer.ingress or ())] if balancer is not None else []


def expected(cluster):
    """The addresses that the Service must have, from what is stored."""
    return sorted(
        ADDRESSES[node.metadata.name]
        for node in stored(cluster, NODES)
        if EXCLUDED not in (node.metadata.labels or {})
        and any(c.type == "Ready" and c.status == "True" for c in node.status.conditions or ())
    )


moves = st.lists(
    st.tuples(st.sampled_from(["toggle", "unready", "ready", "exclude"]), st.sampled_from("ab"), choices),
    max_size=6,
)  # fmt: skip


@given(moves)
def test_lb_2_lb_4_a_service_at_rest_has_the_addresses_of_the_usable_nodes(moves):
    cluster = start_all(create(new_cluster(NodeLoadBalancer()), a_node("a"), a_service()))
    for move, name, drawn in moves:
        node = get(cluster, NODES, name)
        if move == "toggle" and node is None:
            cluster = create(cluster, a_node(name))
        elif move == "toggle":
            cluster = ask(cluster, Request("delete", NODES, "", name, user=ADMIN))
        elif node is not None and move == "exclude":
            cluster = patch(cluster, NODES, name, {"metadata": {"labels": {EXCLUDED: ""}}})
        elif node is not None:
            condition = {"type": "Ready", "status": "True" if move == "ready" else "False"}
            cluster = patch(cluster, NODES, name, {"status": {"conditions": [condition]}}, "status")
        cluster = run(cluster, drawn, lambda before, after: (), FAULTS)
    cluster = settle(cluster, seconds_max=60)
    assert ingress(get(cluster, SERVICES, "web")) == expected(cluster)


def plan_for(*objects, memory=None):
    controller = NodeLoadBalancer()
    memory = controller.start_memory(NOW) if memory is None else memory
    return controller.reconcile(view_of(controller, *objects), "default/web", NOW, Local(memory))


def given_addresses(plan):
    return [ingress(request.body) for request in plan.requests]


@given(st.lists(st.tuples(st.sampled_from("ab"), st.booleans()), unique_by=lambda x: x[0]))
def test_lb_2_with_local_policy_only_nodes_with_ready_endpoints_serve(endpoints):
    service = a_service(external_traffic_policy="Local")
    slices = [a_slice(node, ready) for node, ready in endpoints]
    plan = plan_for(a_node("a"), a_node("b"), service, *slices)
    addresses = sorted(ADDRESSES[node] for node, ready in endpoints if ready)
    assert given_addresses(plan) == ([addresses] if addresses else [])


@pytest.mark.parametrize(
    "service",
    [
        a_service(load_balancer_class="example.com/other"),
        a_service(type="NodePort"),
        a_service(type="ClusterIP"),
    ],
)
def test_lb_1_services_of_others_are_left_alone(service):
    plan = plan_for(a_node("a"), service)
    assert not plan.requests and not plan.notes


@pytest.mark.parametrize(
    "service",
    [
        *[a_service(port=port) for port in sorted(KEPT_PORTS)],
    ],
)
def test_lb_3_what_nodes_cannot_serve_is_refused_once(service):
    plan = plan_for(a_node("a"), service)
    assert not plan.requests
    assert [(note.reason, note.type) for note in plan.notes] == [(REFUSED, "Warning")]
    again = plan_for(a_node("a"), service, memory=plan.memory)
    assert not again.notes and not again.requests
    served = plan_for(a_node("a"), a_service())
    status = served.requests[0].body.status
    assert given_addresses(plan_for(a_node("a"), replace(service, status=status))) == [[]]
