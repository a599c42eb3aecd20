"""The node agent, reconcile by reconcile: the Node, its status, its Lease and the network of its
pods, in full (KUBELET-60 to KUBELET-64, KUBELET-119 in spec/kubelet.md)."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from kubelet_bench import make_pod
from msgspec.structs import replace
from workload_helpers import NOW, view_of

from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.core_v1 import (
    ContainerImage,
    DaemonEndpoint,
    Node,
    NodeAddress,
    NodeCondition,
    NodeDaemonEndpoints,
    NodeSpec,
    NodeStatus,
    NodeSystemInfo,
    Taint,
)
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference, Status
from refk8s.core.api.request import Response
from refk8s.core.api.resources import LEASES, NODES
from refk8s.core.api.user import node_user
from refk8s.core.context import MINUTE, SECOND, micro_timestamp, timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.memory import NodeMemory, PodMemory, Sent
from refk8s.core.kubelet.node_agent import NodeAgent
from refk8s.core.kubelet.node_status import (
    compute_labels,
    compute_lease,
    compute_node,
    compute_node_status,
    is_same_but_heartbeats,
    own_labels,
)
from refk8s.core.loop.plan import NOTHING, UNCHANGED, Local, Note, Plan
from refk8s.core.ports import DescribeNode, Done, Failed, NodeDescribed, UpdateRuntimeConfig

CONFIG = KubeletConfig(node_labels=(("disk", "ssd"),))
AGENT = NodeAgent("n", CONFIG)
FACTS = NodeDescribed(
    "host", "10.0.0.9", 1500, 2 << 30, 5 << 30, 10, "amd64", "linux", "os", "k", "fake://1"
)
IPS = ("10.0.0.9",)
QUARTER = SECOND // 4


def a_node(labels=None, at=NOW, **spec) -> Node:
    """The Node as this kubelet has registered it."""
    node = compute_node("n", CONFIG, FACTS, at)
    metadata = replace(node.metadata, uid="uid-n", labels=labels or node.metadata.labels)
    return replace(node, metadata=metadata, spec=NodeSpec(**spec))


def a_memory(**parts) -> NodeMemory:
    """A node that is registered, described and renewed at NOW."""
    known = {
        "described": FACTS, "described_at": NOW, "registered": True, "renewed_at": NOW,
        "status_at": NOW, "host_ips": IPS,
    }  # fmt: skip
    return NodeMemory(**{**known, **parts})


def planned(key, node, memory, now=NOW, failure=None) -> Plan:
    view = view_of(AGENT, *([node] if node is not None else []))
    return AGENT.reconcile(view, key, now, Local(memory=memory, failure=failure))


def only(plan):
    ((request,),) = plan.waves
    return request


def refused(code):
    return Response(code, Status())


# --- registration ---------------------------------------------------------------------------------


def test_kubelet_60_the_agent_begins_with_the_status_and_sees_its_own_node_only():
    agent = NodeAgent("n", CONFIG)
    assert agent.initial_keys == ("status",) and agent.user == node_user("n")
    assert (agent.node_name, agent.config) == ("n", CONFIG)
    (interest,) = agent.interests
    assert (interest.resource, interest.field_selector) == (NODES, "metadata.name=n")
    assert AGENT.start_memory(NOW) == NodeMemory()
    keys = ("network", "register", "status")
    assert interest.keys(None, None, a_node()) == (*keys, "lease")
    assert interest.keys(None, a_node(), a_node()) == interest.keys(None, a_node(), None) == keys


def test_kubelet_60_a_node_is_created_when_its_machine_is_described():
    assert planned("register", None, NodeMemory()) == NOTHING
    assert planned("register", None, a_memory()) == NOTHING  # it was deleted
    plan = planned("register", None, a_memory(registered=False, status_at=0))
    request = only(plan)
    assert (request.verb, request.resource, request.name) == ("create", NODES, "n")
    assert request.because == "its machine has no Node yet"
    assert request.body == Node(
        metadata=ObjectMeta(
            name="n",
            labels={"disk": "ssd", **own_labels("n", FACTS)},
            annotations={"volumes.kubernetes.io/controller-managed-attach-detach": "true"},
        ),
        spec=NodeSpec(),
        status=compute_node_status(CONFIG, FACTS, "", NodeStatus(), NOW),
    )
    assert plan.memory == a_memory(registered=False, status_at=NOW)
    assert plan.enqueue == (("pod-worker", ""),) and not plan.notes


@pytest.mark.parametrize("is_registered", [False, True])
@pytest.mark.parametrize("missing", [False, True])
def test_kubelet_60_only_wrong_labels_of_an_existing_node_are_corrected(is_registered, missing):
    own = own_labels("n", FACTS)
    labels = {**own, "mine": "kept"}
    wrong = {"kubernetes.io/arch": "amd64", "kubernetes.io/os": "linux"}
    if missing:
        labels |= {"kubernetes.io/arch": "arm64"}
        del labels["kubernetes.io/os"]
    node = a_node(labels)
    plan = planned("register", node, a_memory(registered=is_registered))
    assert plan.memory.registered
    assert plan.notes == (() if is_registered else (Note(node, "Starting", "Starting kubelet."),))
    woken = (("node-agent", "lease"), ("node-agent", "status"), ("pod-worker", ""))
    assert plan.enqueue == (() if is_registered else woken)
    if not missing:
        assert not plan.waves
        return
    request = only(plan)
    assert (request.verb, request.resource, request.name) == ("patch", NODES, "n")
    assert request.body.media_type == "application/merge-patch+json"
    assert request.body.document == {"metadata": {"labels": wrong}}
    assert request.because == "the labels of its machine are wrong"


def test_kubelet_60_a_node_without_labels_gets_them():
    node = a_node()
    node = replace(node, metadata=replace(node.metadata, labels=None))
    nameless = replace(FACTS, hostname="")
    for facts, name in ((FACTS, "host"), (nameless, "n")):
        patch = only(planned("register", node, a_memory(described=facts))).body
        assert patch.document == {"metadata": {"labels": own_labels("n", facts)}}
        assert own_labels("n", facts)["kubernetes.io/hostname"] == name


# --- the network ----------------------------------------------------------------------------------


def test_kubelet_64_the_runtime_gets_the_ranges_once_and_again_after_a_failure():
    ranges = {"pod_cidrs": ("10.1.0.0/24", "fd00::/64"), "pod_cidr": "10.1.0.0/24"}
    both = "10.1.0.0/24,fd00::/64"
    for node in (None, a_node()):
        assert planned("network", node, a_memory()) == NOTHING
    node = a_node(**ranges)
    plan = planned("network", node, a_memory())
    assert plan.runs == (UpdateRuntimeConfig(both),)
    assert plan.memory == a_memory(configuring=both)
    for memory in (a_memory(configuring="x"), a_memory(pod_cidr=both)):
        assert planned("network", node, memory) == NOTHING
    assert planned("network", node, a_memory(pod_cidr="x")).runs
    failed = a_memory(network_error="no", configured_at=NOW)
    due = NOW + 10 * SECOND
    assert planned("network", node, failed, due - 1) == Plan(wake_at=due)
    assert planned("network", node, failed, due).runs
    assert planned("network", node, replace(failed, network_error=""), NOW).runs


def test_kubelet_64_what_the_runtime_says_about_its_network():
    """Then the machine is described at once, because that says whether pods have a network."""
    begun = a_memory(configuring="c", pod_cidr="b", network_error="old")
    for result, cidr, error in ((Done(), "c", ""), (Failed("Unknown", "no"), "b", "no")):
        after, keys = AGENT.ran(begun, "network", UpdateRuntimeConfig("c"), result, NOW + 5)
        expected = a_memory(
            pod_cidr=cidr, network_error=error, configured_at=NOW + 5, described_at=0
        )
        assert after == expected and keys == ("network", "status")


# --- the status -----------------------------------------------------------------------------------


def described(memory, result, now=NOW):
    return AGENT.ran(memory, "status", DescribeNode(), result, now)


def test_kubelet_61_a_description_makes_the_status_due_if_it_is_new_or_a_write_is():
    memory, due = a_memory(describing=True), ("register", "status")
    known = a_memory()
    assert described(memory, FACTS) == (known, ())
    assert described(memory, FACTS, NOW + 5 * MINUTE - 1) == (known, ())
    assert described(memory, FACTS, NOW + 5 * MINUTE) == (known, due)
    other = replace(FACTS, pods=11)
    assert described(memory, other) == (replace(known, described=other), due)
    down = replace(known, describe_error="down")
    assert described(memory, Failed("Unknown", "down")) == (down, due)
    assert described(replace(down, describing=True), FACTS) == (known, due)
    assert described(replace(down, describing=True), Failed("Unknown", "down")) == (down, ())
    assert described(memory, Done()) == (known, ())  # no result of this operation
    asked_again = replace(memory, described_at=0)
    assert described(asked_again, FACTS) == (replace(known, described_at=0), due)


def test_kubelet_63_the_machine_is_described_every_ten_seconds():
    """By the status, before the first renewal and while renewals fail; else by the renewal."""
    later = NOW + 10 * SECOND
    for memory, wake in (
        (a_memory(), None),
        (a_memory(renewed_at=0), 10 * SECOND),
        (a_memory(renewal_fails=True), 10 * SECOND),
    ):
        for now in (later - 1, later):
            plan = planned("status", None, memory, now)
            assert plan.wake_at == (None if wake is None else now + wake)
            is_due = now == later
            assert plan.runs == ((DescribeNode(),) if is_due else ())
            if is_due:
                assert plan.memory == replace(memory, describing=True, described_at=now)
            else:
                assert plan.memory is UNCHANGED
        assert not planned("status", None, replace(memory, describing=True), later).runs


@given(st.integers(0, 40 * QUARTER), st.integers(-2, 2))
def test_kubelet_62_kubelet_63_heartbeats_are_at_multiples_of_a_quarter_of_a_second(start, around):
    """The last multiple that is at most ten seconds after the last one."""
    begun = NOW + start
    due = begun + 10 * SECOND - begun % QUARTER
    assert due % QUARTER == 0 and 9.75 * SECOND < due - begun <= 10 * SECOND
    memory = a_memory(renewed_at=begun, described_at=begun)
    plan = planned("lease", a_node(), memory, due + around)
    is_due = around >= 0
    assert bool(plan.waves) is bool(plan.runs) is is_due
    assert plan.wake_at == (due if not is_due else (due + around + 10 * SECOND) // QUARTER * QUARTER)  # fmt: skip


def test_kubelet_62_another_time_between_heartbeats_has_its_own_multiples():
    every = 1_000_003
    agent = NodeAgent("n", replace(CONFIG, heartbeat_every=every))
    part = every // 40
    view = view_of(agent, a_node())
    plan = agent.reconcile(view, "lease", NOW, Local(memory=a_memory(renewed_at=NOW - every)))
    assert type(plan.wake_at) is int and plan.wake_at % part == 0
    assert NOW + every - part < plan.wake_at <= NOW + every


def test_kubelet_61_the_status_is_written_when_it_differs_and_every_five_minutes():
    node = a_node()
    assert planned("status", node, a_memory()) == Plan()
    unrenewed = a_memory(renewed_at=0)
    assert planned("status", node, unrenewed) == Plan(wake_at=NOW + 10 * SECOND)
    later = NOW + 5 * MINUTE
    beaten = a_memory(described_at=later)
    assert planned("status", node, beaten, later - 1) == Plan()
    plan = planned("status", node, beaten, later)
    request = only(plan)
    assert (request.verb, request.resource, request.name) == ("update", NODES, "n")
    assert (request.subresource, request.because) == ("status", "it lives")
    status = compute_node_status(CONFIG, FACTS, "", node.status, later)
    assert request.body == replace(node, status=status)
    assert plan.memory == replace(beaten, status_at=later) and plan.wake_at is None
    for changed in (
        a_memory(described=replace(FACTS, pods=11)),
        a_memory(describe_error="no engine"),
    ):
        plan = planned("status", node, changed, NOW + SECOND)
        request = only(plan)
        assert request.because == "the machine changed"
        facts, error = changed.described, changed.describe_error
        assert request.body.status == compute_node_status(CONFIG, facts, error, node.status, NOW + SECOND)  # fmt: skip
        assert plan.memory == replace(changed, status_at=NOW + SECOND)
        waiting = replace(changed, renewed_at=0)
        assert planned("status", node, waiting, NOW + SECOND).wake_at == NOW + 11 * SECOND


def test_kubelet_61_no_status_is_written_before_the_node_is_registered_or_described():
    """Nor by a restarted kubelet which is about to give the runtime the range of its pods."""
    changed = replace(FACTS, pods=11)
    lacking = replace(changed, network_error="the Node has no podCIDR")
    for node, memory in (
        (None, a_memory(described=changed)),
        (a_node(), a_memory(described=None)),
        (a_node(), a_memory(described=changed, registered=False)),
        (a_node(), a_memory(described=lacking, configuring="c")),
    ):
        for parts, wake in (({}, None), ({"renewed_at": 0}, NOW + 10 * SECOND)):
            assert planned("status", node, replace(memory, **parts)) == Plan(wake_at=wake)
    for memory in (a_memory(described=lacking), a_memory(described=changed, configuring="c")):
        assert planned("status", a_node(), memory).waves


@pytest.mark.parametrize("before", [(), ("10.0.0.8",)])
@pytest.mark.parametrize("renewed_at", [0, NOW])
def test_kubelet_119_other_addresses_make_the_status_of_every_pod_due(before, renewed_at):
    """At the start there are no statuses with others."""
    pods = Map({uid: PodMemory(uid, "default", name) for uid, name in (("u", "q"), ("v", "p"))})
    sent = Map({"u": Sent(pods["u"], make_pod().status)})
    memory = a_memory(host_ips=before, pods=pods, sent=sent, renewed_at=renewed_at)
    plan = planned("status", a_node(), memory)
    due = [("pod-status", "default/p/v"), ("pod-status", "default/q/u")] if before else []
    assert plan.enqueue == (*due, ("node-agent", "status"))
    assert plan.memory == replace(memory, host_ips=IPS, sent=Map())
    assert plan.wake_at == (None if renewed_at else NOW + 10 * SECOND) and not plan.waves


# --- the Lease ------------------------------------------------------------------------------------


def test_kubelet_62_no_lease_is_renewed_without_a_node():
    for failure in (None, refused(500)):
        assert planned("lease", None, a_memory(renewed_at=0), failure=failure) == NOTHING


@pytest.mark.parametrize(
    ("renewed_at", "code", "verb"),
    [
        (0, None, "create"),
        (NOW, None, "patch"),
        (NOW, 404, "create"),
        (NOW, 500, "patch"),
        (NOW, 409, "patch"),
        (0, 409, "patch"),
        (0, 500, "create"),
    ],
)
def test_kubelet_62_a_lease_that_is_missing_is_created_and_else_patched(renewed_at, code, verb):
    now = NOW + 10 * SECOND
    memory = a_memory(renewed_at=renewed_at, renewal_fails=code is not None, describing=True)
    plan = planned("lease", a_node(), memory, now, None if code is None else refused(code))
    request = only(plan)
    assert (request.verb, request.resource) == (verb, LEASES)
    assert (request.namespace, request.name) == ("kube-node-lease", "n")
    assert request.because == "a heartbeat"
    if verb == "create":
        assert request.body == compute_lease(a_node(), CONFIG, now)
    else:
        spec = {"holderIdentity": "n", "renewTime": micro_timestamp(now)}
        assert request.body.media_type == "application/merge-patch+json"
        assert request.body.document == {"spec": spec}
    assert plan.memory == replace(memory, renewed_at=now) and plan.runs == plan.enqueue == ()
    assert plan.wake_at == now + 10 * SECOND


def test_kubelet_62_kubelet_63_a_renewal_describes_the_machine_too():
    now = NOW + 10 * SECOND
    plan = planned("lease", a_node(), a_memory(), now)
    assert plan.runs == (DescribeNode(),)
    assert plan.memory == a_memory(renewed_at=now, describing=True, described_at=now)
    fresh = planned("lease", a_node(), a_memory(described_at=now), now)
    assert not fresh.runs and fresh.memory == a_memory(renewed_at=now, described_at=now)


@pytest.mark.parametrize("was_failing", [False, True])
@pytest.mark.parametrize("fails", [False, True])
def test_kubelet_62_kubelet_63_a_refused_renewal_is_repeated_and_makes_the_status_due(was_failing, fails):  # fmt: skip
    """The status describes the machine while renewals are refused. A repetition waits for nothing
    but the back-off of the loop."""
    memory = a_memory(renewal_fails=was_failing)
    plan = planned("lease", a_node(), memory, NOW + 1, refused(500) if fails else None)
    assert bool(plan.waves) is fails
    is_news = fails and not was_failing
    assert plan.enqueue == ((("node-agent", "status"),) if is_news else ())
    if fails:
        assert plan.memory == a_memory(renewal_fails=True, renewed_at=NOW + 1)
        return
    assert plan.wake_at == NOW + 10 * SECOND
    if was_failing:
        assert plan.memory == a_memory()
    else:
        assert plan.memory is UNCHANGED


# --- what is written ------------------------------------------------------------------------------


def statuses(facts=FACTS, error="", old=None, now=NOW, **config):
    found = compute_node_status(replace(CONFIG, **config), facts, error, old or NodeStatus(), now)
    return found, {one.type: one for one in found.conditions}


def test_kubelet_60_the_node_has_labels_taints_and_addresses_of_its_machine():
    taint = Taint(key="k", effect="NoSchedule")
    config = KubeletConfig(
        node_labels=(("disk", "ssd"), ("kubernetes.io/os", "other")), register_with_taints=(taint,)
    )
    node = compute_node("n", config, FACTS, NOW)
    assert node.spec.taints == (taint,) and node.metadata.labels == {
        "disk": "ssd",
        "beta.kubernetes.io/arch": "amd64",
        "beta.kubernetes.io/os": "linux",
        "kubernetes.io/arch": "amd64",
        "kubernetes.io/hostname": "host",
        "kubernetes.io/os": "linux",
    }
    assert own_labels("n", replace(FACTS, hostname=""))["kubernetes.io/hostname"] == "n"
    assert compute_labels("n", config, FACTS) == node.metadata.labels
    nameless = compute_node("n", config, replace(FACTS, hostname=""), NOW)
    assert nameless.metadata.labels["kubernetes.io/hostname"] == "n"
    assert node.status == compute_node_status(config, FACTS, "", NodeStatus(), NOW)


def test_kubelet_61_the_status_says_what_the_machine_is():
    facts = replace(
        FACTS, images=((("a:1", "a@x"), 7), (("b:1",), 8)), machine_id="m", system_uuid="s",
        boot_id="b", second_ip="fd00::9",
    )  # fmt: skip
    amounts = {"cpu": "1500m", "ephemeral-storage": "5Gi", "memory": "2Gi", "pods": "10"}
    found, _ = statuses(facts, port=99, version="v9", old=NodeStatus(phase="kept"))
    assert replace(found, conditions=None) == NodeStatus(
        phase="kept",
        addresses=(
            NodeAddress(type="InternalIP", address="10.0.0.9"),
            NodeAddress(type="InternalIP", address="fd00::9"),
            NodeAddress(type="Hostname", address="host"),
        ),
        capacity=amounts,
        allocatable=amounts,
        daemon_endpoints=NodeDaemonEndpoints(kubelet_endpoint=DaemonEndpoint(port=99)),
        images=(
            ContainerImage(names=("a:1", "a@x"), size_bytes=7),
            ContainerImage(names=("b:1",), size_bytes=8),
        ),
        node_info=NodeSystemInfo(
            architecture="amd64",
            boot_id="b",
            container_runtime_version="fake://1",
            kernel_version="k",
            kube_proxy_version="",
            kubelet_version="v9",
            machine_id="m",
            operating_system="linux",
            os_image="os",
            system_uuid="s",
        ),
    )
    many = replace(FACTS, images=tuple(((f"i{n}",), n) for n in range(60)))
    images = statuses(many)[0].images
    assert [one.size_bytes for one in images] == list(range(50))
    assert statuses()[0].images is None


@pytest.mark.parametrize(
    ("milli", "text"), [(0, "0"), (1000, "1"), (1001, "1001m"), (500, "500m"), (4000, "4")]
)
def test_kubelet_61_processors_are_whole_or_milli(milli, text):
    assert statuses(replace(FACTS, cpu_milli=milli))[0].capacity["cpu"] == text


@pytest.mark.parametrize(
    ("count", "text"),
    [
        (0, "0"), (1, "1"), (1023, "1023"), (1024, "1Ki"), (1025, "1025"), (1536, "1536"),
        (1 << 20, "1Mi"), (3 << 19, "1536Ki"), (7 << 30, "7Gi"), (1 << 40, "1Ti"),
        (1 << 50, "1Pi"), (1 << 60, "1Ei"), (1 << 70, "1024Ei"),
    ],
)  # fmt: skip
def test_kubelet_61_bytes_are_in_the_largest_unit(count, text):
    assert statuses(replace(FACTS, memory_bytes=count))[0].capacity["memory"] == text


SMALL = (100 << 20) - 1
DETAILS = {
    "MemoryPressure": (
        ("KubeletHasInsufficientMemory", "kubelet has insufficient memory available"),
        ("KubeletHasSufficientMemory", "kubelet has sufficient memory available"),
    ),
    "DiskPressure": (
        ("KubeletHasDiskPressure", "kubelet has disk pressure"),
        ("KubeletHasNoDiskPressure", "kubelet has no disk pressure"),
    ),
    "PIDPressure": (
        ("KubeletHasInsufficientPID", "kubelet has insufficient PID available"),
        ("KubeletHasSufficientPID", "kubelet has sufficient PID available"),
    ),
}


@pytest.mark.parametrize(
    ("parts", "pressed"),
    [
        ({}, ()),
        ({"memory_available_bytes": 0}, ("MemoryPressure",)),
        ({"memory_available_bytes": SMALL}, ("MemoryPressure",)),
        ({"memory_available_bytes": SMALL + 1}, ()),
        ({"disk_available_fraction": 0.0}, ("DiskPressure",)),
        ({"disk_available_fraction": 0.0999}, ("DiskPressure",)),
        ({"disk_available_fraction": 0.1}, ()),
        ({"pids_available": 0}, ("PIDPressure",)),
        ({"pids_available": 999}, ("PIDPressure",)),
        ({"pids_available": 1000}, ()),
    ],
)
def test_kubelet_63_a_condition_says_what_is_short(parts, pressed):
    found, conditions = statuses(replace(FACTS, **parts))
    assert [one.type for one in found.conditions] == [*DETAILS, "Ready"]
    for type, details in DETAILS.items():
        one = conditions[type]
        assert one.status == ("True" if type in pressed else "False")
        assert (one.reason, one.message) == details[type not in pressed]
        assert one.last_heartbeat_time == one.last_transition_time == timestamp(NOW)


@pytest.mark.parametrize(
    ("error", "network", "status", "reason", "message"),
    [
        ("", "", "True", "KubeletReady", "kubelet is posting ready status"),
        ("x", "y", "False", "KubeletNotReady", "container runtime is down: x"),
        ("", "y", "False", "KubeletNotReady", "container runtime network not ready: y"),
    ],
)
def test_kubelet_63_a_node_is_ready_if_runtime_and_network_are(error, network, status, reason, message):  # fmt: skip
    _, conditions = statuses(replace(FACTS, network_error=network), error)
    ready = conditions["Ready"]
    assert (ready.status, ready.reason, ready.message) == (status, reason, message)


def test_kubelet_63_conditions_of_others_are_kept_and_times_are_of_changes():
    other = NodeCondition(type="NetworkUnavailable", status="False")
    old, _ = statuses()
    old = replace(old, conditions=(*old.conditions, other))
    found, conditions = statuses(replace(FACTS, pids_available=1), old=old, now=NOW + SECOND)
    assert found.conditions[0] is other and len(found.conditions) == 5
    for type in (*DETAILS, "Ready"):
        one = conditions[type]
        assert one.last_heartbeat_time == timestamp(NOW + SECOND)
        changed = NOW + SECOND if type == "PIDPressure" else NOW
        assert one.last_transition_time == timestamp(changed)


def test_kubelet_61_statuses_are_compared_without_heartbeats():
    old, _ = statuses()
    assert is_same_but_heartbeats(old, statuses(old=old, now=NOW + SECOND)[0])
    assert not is_same_but_heartbeats(old, statuses(now=NOW + SECOND)[0])  # other transitions
    assert not is_same_but_heartbeats(old, replace(old, phase="x"))
    assert is_same_but_heartbeats(NodeStatus(), NodeStatus(conditions=()))


def test_kubelet_105_only_extended_resources_of_others_are_kept():
    old = NodeStatus(capacity={"x.io/gpu": "2", "odd": "1"}, allocatable={"x.io/gpu": "1"})
    found, _ = statuses(old=old)
    for amounts in (found.capacity, found.allocatable):
        assert list(amounts) == ["cpu", "ephemeral-storage", "memory", "pods", "x.io/gpu"]
        assert amounts["x.io/gpu"] == "2"


def test_kubelet_62_a_lease_is_owned_by_the_node_and_held_by_it():
    owner = OwnerReference(api_version="v1", kind="Node", name="n", uid="uid-n")
    assert compute_lease(a_node(), replace(CONFIG, node_lease_duration_seconds=7), NOW) == Lease(
        metadata=ObjectMeta(name="n", namespace="kube-node-lease", owner_references=(owner,)),
        spec=LeaseSpec(
            holder_identity="n", lease_duration_seconds=7, renew_time=micro_timestamp(NOW)
        ),
    )
