"""The ranges of nodes. Rules IPAM-1 to IPAM-6 (spec/node_network.md)."""

from ipaddress import IPv4Network

from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from runs import checked, choices, run
from workload_helpers import (
    NOW,
    ask,
    create,
    get,
    new_cluster,
    patch,
    settle,
    stored,
    view_of,
)

from refk8s.core.actions import Arrive, Crash
from refk8s.core.api.core_v1 import Node, NodeSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NODES
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled
from refk8s.core.cluster.step import start_all, step
from refk8s.core.controllers.node_ipam import (
    ALLOCATE,
    FENCE,
    NOT_AVAILABLE,
    NodeIPAM,
    PodRanges,
)
from refk8s.core.loop.plan import Local
from refk8s.core.pods.node import pod_cidrs
from refk8s.core.properties.predicates.node_network import (
    ipam_1_no_two_nodes_share_a_range,
    ipam_2_every_node_has_a_range,
)

FAULTS = ["lose", "give up", "cut", "compact", "crash", "twice"]
RANGES = PodRanges(IPv4Network("10.244.0.0/24"), 26)  # four
NAMES = ("a", "b", "c", "d")


def a_node(name, cidr="", version="1"):
    spec = NodeSpec(pod_cidr=cidr, pod_cidrs=(cidr,)) if cidr else NodeSpec()
    metadata = ObjectMeta(name=name, uid=f"uid-{name}", resource_version=version)
    return Node(metadata=metadata, spec=spec)


def new_node(name, cidr=""):
    return replace(a_node(name, cidr), metadata=ObjectMeta(name=name))


def law(before, after):
    found = []
    if before.history.revision != after.history.revision:
        nodes = stored(after, NODES)
        for node in nodes:
            found += ipam_1_no_two_nodes_share_a_range(node, nodes)
    return found


def delete(cluster, name):
    return ask(cluster, Request("delete", NODES, "", name, user=ADMIN))


moves = st.lists(
    st.tuples(st.sampled_from(["toggle", "touch", "preset"]), st.sampled_from(NAMES), choices),
    max_size=8,
)


@given(moves)
def test_ipam_1_ipam_2_every_node_has_a_range_of_its_own_whatever_fails(moves):
    """With IPAM-3: a restarted controller does not know the requests of its predecessor."""
    cluster = start_all(create(new_cluster(NodeIPAM(RANGES)), new_node("a"), new_node("b")))
    for move, name, drawn in moves:
        node = get(cluster, NODES, name)
        if move == "touch" and node is not None:
            labels = {"at": str(cluster.history.revision)}
            cluster = patch(cluster, NODES, name, {"metadata": {"labels": labels}})
        elif move != "touch" and node is not None:
            cluster = delete(cluster, name)
        elif move == "toggle":
            cluster = create(cluster, new_node(name))
        elif move == "preset":
            # far from the range of the cluster, so that the user breaks no rule
            cluster = create(cluster, new_node(name, f"192.168.{ord(name)}.0/24"))
        cluster = run(cluster, drawn, law, FAULTS)
    cluster = settle(cluster, law, seconds_max=60)
    assert list(ipam_2_every_node_has_a_range(stored(cluster, NODES))) == []


networks = st.builds(
    lambda address, length: IPv4Network((address, length), strict=False),
    st.integers(int(IPv4Network("10.243.0.0/16")[0]), int(IPv4Network("10.246.0.0/16")[0])),
    st.integers(8, 32),
)


@given(st.integers(14, 24), st.integers(0, 4), networks, st.data())
def test_ipam_1_a_range_is_free_if_no_network_overlaps_it(length, bits, other, data):
    ranges = PodRanges(IPv4Network(("10.244.0.0", length), strict=False), length + bits, (other,))
    number = data.draw(st.integers(0, ranges.count - 1))
    overlaps = ranges.at(number).overlaps(other)
    assert (number in ranges.overlapped(other)) == overlaps
    assert ranges.is_excluded(number) == overlaps
    assert ranges.at(number).subnet_of(ranges.cluster)


def plan_for(controller, *nodes, memory=None):
    memory = controller.start_memory(NOW) if memory is None else memory
    return controller.reconcile(view_of(controller, *nodes), ALLOCATE, NOW, Local(memory))


def allocated(plan):
    return {
        request.name: request.body.document["spec"]["podCIDR"]
        for request in plan.requests
        if "spec" in request.body.document
    }


def test_ipam_3_a_restarted_controller_first_writes_each_node_without_a_range():
    controller = NodeIPAM(RANGES)
    with_range = a_node("a", "10.244.0.0/26")
    first = plan_for(controller, with_range, a_node("b"), a_node("c"))
    assert [request.name for request in first.requests] == ["b", "c"]
    for request in first.requests:
        metadata = request.body.document["metadata"]
        assert metadata["annotations"] == {FENCE: "1"}
        assert (metadata["resourceVersion"], metadata["uid"]) == ("1", f"uid-{request.name}")
    # one write was refused, and another client's write has the same effect
    second = plan_for(
        controller, with_range, a_node("b", version="7"), a_node("c"), memory=first.memory
    )
    assert [request.name for request in second.requests] == ["c"] and not allocated(second)
    third = plan_for(
        controller, with_range, a_node("b", version="7"), a_node("c", version="8"), a_node("d"),
        memory=second.memory,
    )  # fmt: skip
    assert set(allocated(third)) == {"b", "c", "d"}
    assert "10.244.0.0/26" not in allocated(third).values()


def test_ipam_4_a_released_range_is_given_last():
    controller = NodeIPAM(RANGES)
    memory = plan_for(controller).memory
    given = []
    for name in ("a", "b", "c", "d", "e"):
        # each Node is deleted before the next one is registered
        plan = plan_for(controller, a_node(name), memory=memory)
        given += allocated(plan).values()
        memory = plan.memory
    assert len(set(given[:4])) == 4 and given[4] == given[0]


def test_ipam_5_without_a_free_range_an_event_says_so_once_and_a_release_is_used():
    controller = NodeIPAM(PodRanges(IPv4Network("10.244.0.0/25"), 26))
    memory = plan_for(controller).memory
    full = plan_for(controller, a_node("a"), a_node("b"), a_node("c"), memory=memory)
    assert set(allocated(full)) == {"a", "b"}
    assert [(note.regarding.metadata.name, note.reason) for note in full.notes] == [
        ("c", NOT_AVAILABLE)
    ]
    a, b = (a_node(name, cidr) for name, cidr in allocated(full).items())
    again = plan_for(controller, a, b, a_node("c"), memory=full.memory)
    assert not again.notes and not again.requests
    released = plan_for(controller, a, a_node("c"), memory=again.memory)
    assert allocated(released) == {"c": pod_cidrs(b)[0]}


@example([])
@given(st.lists(networks, max_size=3))
def test_ipam_6_no_range_overlaps_an_excluded_network(excluded):
    ranges = PodRanges(IPv4Network("10.244.0.0/22"), 24, tuple(excluded))
    controller = NodeIPAM(ranges)
    memory = plan_for(controller).memory
    given = allocated(plan_for(controller, *[a_node(name) for name in NAMES], memory=memory))
    free = [
        n for n in ranges.cluster.subnets(new_prefix=24) if not any(n.overlaps(e) for e in excluded)
    ]
    assert sorted(given.values()) == sorted(str(network) for network in free)


def test_ipam_3_an_allocation_in_transit_does_not_take_effect_after_a_restart():
    """A controller gives b the first range and crashes; while that request is in transit, a is
    registered, and the restarted controller gives the first range to it."""

    cluster = start_all(create(new_cluster(NodeIPAM(RANGES)), new_node("b")))
    while True:
        held = [id for id, flying in cluster.flying.items() if "spec" in document(flying.request)]
        if held and cluster.flying[held[0]].answer is None:
            break
        cluster = checked(cluster, next(iter(enabled(cluster))), law)
    cluster = create(step(cluster, Crash("controllers")), new_node("a"))
    while not pod_cidrs(get(cluster, NODES, "a")):
        action = next(action for action in enabled(cluster) if action != Arrive(held[0]))
        cluster = checked(cluster, action, law)
    cluster = settle(checked(cluster, Arrive(held[0]), law), law)
    assert list(ipam_2_every_node_has_a_range(stored(cluster, NODES))) == []


def document(request):
    return request.body.document if isinstance(request.body, Patch) else {}
