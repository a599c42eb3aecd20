"""The status writer, reconcile by reconcile: which status is written, what is remembered of it, and
when a pod is deleted, in full (KUBELET-30 to KUBELET-32 in spec/kubelet.md)."""

from __future__ import annotations

import pytest
from immutables import Map
from kubelet_bench import make_pod
from msgspec.structs import replace
from workload_helpers import NOW, change, view_of

from refk8s.core.api.meta_v1 import DeleteOptions, Preconditions
from refk8s.core.api.resources import PODS
from refk8s.core.api.user import node_user
from refk8s.core.context import SECOND, timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Facts
from refk8s.core.kubelet.memory import NodeMemory, PodMemory, Sent
from refk8s.core.kubelet.status import compute_pod_status
from refk8s.core.kubelet.status_writer import StatusWriter
from refk8s.core.loop.plan import NOTHING, Local, Plan
from refk8s.core.ports import NodeDescribed, SandboxStatus

CONFIG = KubeletConfig()
WRITER = StatusWriter("n", CONFIG)
FACTS = NodeDescribed(
    "n", "10.0.0.9", 4000, 8 << 30, 1 << 40, 10, "amd64", "linux", "os", "k", "fake://1"
)
KEY = "default/p/u"
OLD = timestamp(NOW - 60 * SECOND)


def a_pod(**parts):
    pod = make_pod()
    pod = replace(pod, metadata=replace(pod.metadata, uid="u", resource_version="7"))
    return change(pod, **{"start_time": OLD, **parts})


def a_memory(pod=None, **parts) -> PodMemory:
    sandbox = SandboxStatus("s", "u", "default", "p", 0, True, ips=("10.1.0.2",))
    known = {"pod": pod or a_pod(), "admitted": True, "sandbox": sandbox, "started_at": NOW}
    return PodMemory("u", "default", "p", **{**known, **parts})


def a_node(memory=None, sent=None, **parts) -> NodeMemory:
    pods = Map({"u": memory}) if memory is not None else Map()
    listed = Map({"u": sent, "other": sent}) if sent is not None else Map()
    return NodeMemory(**{"pods": pods, "sent": listed, "described": FACTS, **parts})


def planned(node, *pods, now=NOW, key=KEY) -> Plan:
    return WRITER.reconcile(view_of(WRITER, *pods), key, now, Local(memory=node))


def told(pod, memory, now=NOW):
    return compute_pod_status(Facts(CONFIG, FACTS), pod, memory, now)


def without(node):
    return replace(node, sent=node.sent.delete("u"))


def test_kubelet_30_the_writer_sees_the_pods_of_its_node():
    """A new pod is due after its first reconcile by the worker."""
    writer = StatusWriter("n", CONFIG)
    (interest,) = writer.interests
    assert (interest.resource, interest.field_selector) == (PODS, "spec.nodeName=n")
    pod = a_pod()
    assert interest.keys(None, pod, pod) == [KEY]
    assert interest.keys(None, None, pod) == interest.keys(None, pod, None) == []
    assert (writer.user, writer.config) == (node_user("n"), CONFIG)
    assert WRITER.start_memory(NOW) == NodeMemory()


def test_kubelet_30_a_status_that_differs_is_written_once():
    pod = a_pod()
    memory = a_memory(pod)
    plan = planned(a_node(memory), pod)
    ((request,),) = plan.waves
    status = told(pod, memory)
    assert status != pod.status
    assert (request.verb, request.resource, request.subresource) == ("update", PODS, "status")
    assert (request.namespace, request.name) == ("default", "p")
    assert request.body == replace(pod, status=status)
    assert request.because == "its containers changed"
    assert plan.memory.sent["u"].memory is memory and plan.memory.sent["u"].status == status
    assert plan.memory.pods == Map({"u": memory}) and plan.wake_at is None
    written = replace(pod, status=status)
    after = planned(plan.memory, written, now=NOW + SECOND)
    assert after == Plan(memory=without(plan.memory))
    assert planned(after.memory, written, now=NOW + SECOND) == NOTHING
    rejected = a_memory(pod, rejected=("OutOfcpu", "no"), admitted=False, sandbox=None)
    ((request,),) = planned(a_node(rejected), pod).waves
    assert request.because == "the pod is Failed"


def test_kubelet_30_a_status_that_was_written_of_the_same_memory_is_not_computed_again():
    """Any other is: of another memory, or one that another client has changed."""
    pod = a_pod(message="as it was sent")
    memory = a_memory(pod)
    assert told(pod, memory) != pod.status
    kept = a_node(memory, Sent(memory, pod.status))
    plan = planned(kept, pod)
    assert plan == Plan(memory=without(kept))
    for sent in (Sent(a_memory(pod), pod.status), Sent(memory, a_pod().status)):
        plan = planned(a_node(memory, sent), pod)
        ((request,),) = plan.waves
        assert request.body.status == told(pod, memory)
        assert plan.memory.sent["u"].memory is memory and "other" in plan.memory.sent


@pytest.mark.parametrize("is_sent", [False, True])
def test_kubelet_30_what_was_sent_is_forgotten_with_the_pod(is_sent):
    pod, memory = a_pod(), a_memory()
    sent = Sent(memory, pod.status) if is_sent else None
    for node, pods in (
        (a_node(memory, sent), ()),
        (a_node(None, sent), (pod,)),
        (a_node(memory, sent, described=None), (pod,)),
        (a_node(memory, sent), (replace(pod, metadata=replace(pod.metadata, uid="next")),)),
    ):
        assert planned(node, *pods) == (Plan(memory=without(node)) if is_sent else NOTHING)


def test_kubelet_31_a_status_that_is_held_back_is_not_written_yet():
    pod = a_pod()
    busy = a_memory(pod, busy_since=NOW)
    due = NOW + SECOND
    for sent in (None, Sent(busy, pod.status)):
        assert planned(a_node(busy, sent), pod, now=due - 1) == Plan(wake_at=due)
    assert planned(a_node(busy), pod, now=due).waves


@pytest.mark.parametrize("is_sent", [False, True])
def test_kubelet_32_a_pod_of_which_nothing_is_left_is_deleted_once(is_sent):
    deleted = a_pod(deletion_timestamp=timestamp(NOW), deletion_grace_period_seconds=30)
    gone = a_memory(deleted, ending="deleted", ended=True, removed=True, sandbox=None)
    pod = replace(deleted, status=told(deleted, gone))
    node = a_node(gone, Sent(gone, pod.status) if is_sent else None)
    plan = planned(node, pod)
    ((request,),) = plan.waves
    assert (request.verb, request.resource, request.subresource) == ("delete", PODS, "")
    assert (request.namespace, request.name) == ("default", "p")
    assert request.because == "nothing of the pod is left on the node"
    options = DeleteOptions(grace_period_seconds=0, preconditions=Preconditions(uid="u"))
    assert request.body == options
    if is_sent:
        assert plan.memory == without(node)
    quiet = Plan(memory=without(node)) if is_sent else NOTHING
    assert planned(node, change(pod, deletion_grace_period_seconds=0)) == quiet
    for other in (replace(gone, removed=False),):
        there = a_node(other, Sent(other, pod.status) if is_sent else None)
        assert not planned(there, pod, now=NOW + 60 * SECOND).waves or not is_sent
    kept = change(pod, deletion_timestamp=None, deletion_grace_period_seconds=None)
    assert planned(node, kept) == quiet
    unsaid = planned(a_node(gone), deleted)
    assert [one.verb for one in unsaid.requests] == ["update"]  # the last status comes first
