"""The pod worker, reconcile by reconcile: what it remembers of a pod and of its node, which pods are
due, and what it reads, in full (spec/kubelet.md)."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st
from immutables import Map
from kubelet_bench import make_pod
from msgspec.structs import replace
from workload_helpers import change

from refk8s.core.api.core_v1 import (
    AppArmorProfile,
    ConfigMap,
    ConfigMapVolumeSource,
    Container,
    ContainerPort,
    ContainerState,
    ContainerStateRunning,
    Node,
    NodeStatus,
    PodSecurityContext,
    ResourceRequirements,
    Service,
    Volume,
)
from refk8s.core.api.core_v1 import ContainerStatus as Stated
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Response
from refk8s.core.api.resources import CONFIG_MAPS, NODES, PODS, SERVICES, by_kind
from refk8s.core.api.user import node_user
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.kubelet import resize
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.memory import (
    NodeMemory,
    Note,
    PodMemory,
)
from refk8s.core.kubelet.objects import Held, compute_read
from refk8s.core.kubelet.pod_worker import PodWorker, changed_pods, pod_key, pod_of
from refk8s.core.kubelet.results import after_result
from refk8s.core.loop.plan import NOTHING, Local, Plan
from refk8s.core.loop.plan import Note as Told
from refk8s.core.loop.view import Viewer, key_of
from refk8s.core.ports import (
    ContainerStatus,
    Done,
    Failed,
    ListPods,
    NodeDescribed,
    PodsListed,
    RunPodSandbox,
    SandboxStatus,
    StopPodSandbox,
)

NOW = 1_000 * SECOND
CONFIG = KubeletConfig(node_labels=(("disk", "ssd"),))
WORKER = PodWorker("n", CONFIG)
FACTS = NodeDescribed(
    "n", "10.0.0.9", 4000, 8 << 30, 1 << 40, 10, "amd64", "linux", "os", "k", "fake://1"
)
CREATED = 40  # the revision of the pod
BROKEN = Failed("Unknown", "no engine")


def a_pod(name="p", cpu=None, port=None, **parts):
    container = Container(
        name="c",
        image="app:1",
        image_pull_policy="IfNotPresent",
        resources=ResourceRequirements(requests={"cpu": cpu} if cpu else None),
        ports=(ContainerPort(container_port=80, host_port=port),) if port else None,
    )
    pod = make_pod(name, (container,))
    metadata = replace(pod.metadata, uid=f"uid-{name}", resource_version=str(CREATED))
    return change(replace(pod, metadata=metadata), **parts)


def held(pod, **parts) -> PodMemory:
    """A pod that was admitted, and of which nothing is there yet."""
    uid, name = pod.metadata.uid, pod.metadata.name
    known = {
        "pod": pod, "seen_at": NOW, "started_at": NOW, "since": CREATED, "admitted": True,
        "allocated_for": pod.spec, "uses": {"pods": 1},
    }  # fmt: skip
    return PodMemory(uid, "default", name, **{**known, **parts})


def a_node(*pods, **parts) -> NodeMemory:
    """A node that was listed and described."""
    by_uid = Map({one.uid: one for one in pods})
    known = {"pods": by_uid, "begun": True, "listed": True, "described": FACTS}
    return NodeMemory(**{**known, "used": used_by(pods), **parts})


def used_by(pods):
    total: dict[str, int] = {}
    for one in pods:
        for name, much in one.uses.items():
            total[name] = total.get(name, 0) + much
    return total


def seen(*objects, revision=50):
    viewer = Viewer([PODS, SERVICES, NODES], WORKER.indexes, ())
    view = viewer.empty()
    for resource in (PODS, SERVICES, NODES):
        mine = [
            (key_of(obj), obj) for obj in objects if by_kind(obj.api_version, obj.kind) is resource
        ]
        view, _ = viewer.apply(view, resource, mine, revision)
    return view


def planned(node, *objects, key="default/p/uid-p", now=NOW, worker=WORKER, revision=50) -> Plan:
    view = seen(*objects, revision=revision)
    return worker.reconcile(view, key, now, Local(memory=node))


def after(plan, uid="uid-p") -> PodMemory:
    return plan.memory.pods[uid]


# --- which pod, and when it is due ----------------------------------------------------------------


def test_kubelet_42_a_key_is_one_pod_and_not_the_next_of_its_name():
    pod, memory = a_pod(), held(a_pod())
    assert pod_key(pod) == pod_key(memory) == "default/p/uid-p"
    assert pod_of(seen(pod), "default/p/uid-p") == (pod, "uid-p")
    assert pod_of(seen(pod), "default/p/other") == (None, "other")
    assert pod_of(seen(), "default/p/uid-p") == (None, "uid-p")


def test_kubelet_the_worker_sees_the_pods_of_its_node_and_all_services():
    worker = PodWorker("n", CONFIG)
    pods, services = worker.interests
    assert (pods.resource, pods.field_selector) == (PODS, "spec.nodeName=n")
    assert pods.keys is changed_pods
    assert services.resource is SERVICES and not list(services.keys(None, None, Service()))
    assert (worker.user, worker.initial_keys) == (node_user("n"), ("",))
    assert (worker.node_name, worker.config) == ("n", CONFIG)
    assert [one.resource for one in worker.indexes] == [SERVICES]
    assert WORKER.start_memory(NOW) == NodeMemory()


def test_kubelet_a_pod_is_due_after_a_change_that_concerns_its_runtime():
    pod, key = a_pod(labels={"a": "1"}, annotations={"b": "1"}), "default/p/uid-p"
    assert changed_pods(None, None, pod) == changed_pods(None, pod, None) == [key]
    other = replace(pod, metadata=replace(pod.metadata, uid="new"))
    assert changed_pods(None, pod, other) == [key, "default/p/new"]
    equal = replace(pod, spec=replace(pod.spec))
    for same in (
        pod,
        equal,
        change(pod, phase="Running"),
        change(pod, start_time=timestamp(NOW)),
        change(pod, resource_version="99"),
    ):
        assert changed_pods(None, pod, same) == []
    over = change(pod, phase="Failed")
    assert changed_pods(None, over, change(over, message="x")) == []
    for new in (
        change(pod, deletion_timestamp=timestamp(NOW)),
        change(pod, deletion_grace_period_seconds=1),
        change(pod, active_deadline_seconds=5),
        change(pod, labels={"a": "2"}),
        change(pod, annotations={"b": "2"}),
        over,
        change(pod, phase="Succeeded"),
    ):
        assert changed_pods(None, pod, new) == [key]


# --- a pod ----------------------------------------------------------------------------------------


def test_kubelet_40_nothing_is_decided_before_the_first_list_and_description():
    for node in (a_node(begun=False), a_node(described=None)):
        assert planned(node, a_pod()) == NOTHING
    assert planned(a_node()) == NOTHING  # neither the runtime nor the API server has the pod


@pytest.mark.parametrize(("revision", "since"), [(50, 40), (30, 30)])
def test_kubelet_81_kubelet_95_a_new_pod_is_admitted_and_remembered(revision, since):
    """KUBELET-95: since the revision of the pod, or the one that the view shows."""
    pod = a_pod(cpu="500m")
    plan = planned(a_node(used={"cpu": 100}), pod, revision=revision)
    memory = after(plan)
    uses = {"cpu": 500, "pods": 1}
    assert (memory.uid, memory.namespace, memory.name) == ("uid-p", "default", "p")
    assert (memory.seen_at, memory.started_at, memory.since) == (NOW, NOW, since)
    assert memory.pod is pod and memory.admitted and memory.rejected is None
    assert memory.uses == uses and plan.memory.used == {"cpu": 600, "pods": 1}
    assert memory.allocated_for is pod.spec and memory.busy_since == NOW
    (run,) = [each for each in plan.runs if isinstance(each, RunPodSandbox)]
    assert run.config.pod_uid == "uid-p"
    assert plan.enqueue == (("pod-status", "default/p/uid-p"),)
    assert plan.enqueue_at == NOW + SECOND  # KUBELET-31
    assert not plan.waves and not plan.notes
    unnumbered = change(pod, resource_version=None)
    assert after(planned(a_node(), unnumbered)).since == 0


def test_kubelet_95_a_pod_that_only_the_runtime_had_gets_its_revision_and_object():
    pod = a_pod()
    memory = PodMemory("uid-p", "default", "p", seen_at=5, started_at=5)
    found = after(planned(a_node(memory), pod))
    assert found.since == CREATED and found.pod is pod and found.seen_at == 5
    known = after(planned(a_node(held(pod, since=7)), pod))
    assert known.since == 7
    zero = after(planned(a_node(held(pod, since=0)), pod))
    assert zero.since == 0


def test_kubelet_58_volumes_are_due_when_labels_or_annotations_change():
    old = a_pod(labels={"a": "1"}, annotations={"b": "1"})
    memory = held(old, volumes_due=NOW + MINUTE)
    for new, is_due in (
        (change(old, resource_version="41"), False),
        (change(old, labels={"a": "2"}), True),
        (change(old, annotations={"b": "2"}), True),
    ):
        found = after(planned(a_node(memory), new))
        assert found.pod is new
        assert found.volumes_due == (0 if is_due else NOW + MINUTE)
    assert after(planned(a_node(replace(memory, pod=None)), old)).volumes_due == 0
    assert after(planned(a_node(memory), old)).volumes_due == NOW + MINUTE


@pytest.mark.parametrize("is_dirty", [False, True])
@pytest.mark.parametrize("is_listing", [False, True])
@pytest.mark.parametrize("is_busy", [False, True])
def test_kubelet_41_kubelet_44_a_pod_is_listed_after_a_change_and_its_operations(is_dirty, is_listing, is_busy):  # fmt: skip
    """It also remembers that it was reconciled during a list."""
    operation = "run" if is_busy else ""
    memory = held(a_pod(), dirty=is_dirty, listing=is_listing, sandbox_operation=operation)
    plan = planned(a_node(memory), a_pod())
    lists = [each for each in plan.runs if isinstance(each, ListPods)]
    begins = is_dirty and not is_listing and not is_busy
    assert lists == ([ListPods(("uid-p",))] if begins else [])
    found = after(plan)
    assert found.listing is (is_listing or begins) and found.dirty is (is_dirty and not begins)
    assert found.has_waited is found.listing
    assert not any(isinstance(each, RunPodSandbox) for each in plan.runs) or not found.listing


def test_kubelet_notes_are_told_once_about_the_pod():
    pod = a_pod()
    notes = (Note("A", "one"), Note("B", "two", "Warning", "spec.containers{c}"))
    plan = planned(a_node(held(pod, notes=notes, listing=True)), pod)
    assert plan.notes == (Told(pod, "A", "one"), Told(pod, "B", "two", "Warning", "spec.containers{c}"))  # fmt: skip
    assert after(plan).notes == ()
    sandbox = SandboxStatus("s", "uid-p", "default", "p", 0, True)
    unknown = PodMemory("uid-p", "default", "p", notes=notes, sandbox=sandbox)
    plan = planned(a_node(unknown))
    assert plan.notes == () and after(plan).notes == ()
    gone = planned(a_node(held(pod, notes=notes, sandbox=sandbox)))
    assert [one.reason for one in gone.notes] == ["A", "B"] and gone.notes[0].regarding is pod


def test_kubelet_31_since_when_operations_run():
    pod = a_pod()
    for operation, before, expected in (
        ("run", 0, NOW),
        ("run", 7, 7),
        ("", 7, 0),
        ("", 0, 0),
    ):
        memory = held(pod, listing=True, sandbox_operation=operation, busy_since=before)
        assert after(planned(a_node(memory), pod)).busy_since == expected


def test_kubelet_31_a_status_that_is_held_back_is_due_later():
    pod = a_pod(start_time=timestamp(NOW))
    memory = held(pod, listing=True, sandbox_operation="run", busy_since=NOW - SECOND // 2)
    assert planned(a_node(memory), pod).enqueue_at == NOW + SECOND // 2
    for since in (NOW - SECOND, NOW - 2 * SECOND):
        plan = planned(a_node(replace(memory, busy_since=since)), pod)
        assert plan.enqueue_at is None
        assert plan.enqueue == (("pod-status", "default/p/uid-p"),)
    assert planned(a_node(memory)).enqueue_at is None and planned(a_node(memory)).enqueue == ()


def test_kubelet_81_a_pod_that_has_ended_uses_nothing_and_others_decide_again():
    """RESIZE-3: the resizes that wait for room."""
    pod = a_pod(phase="Succeeded", start_time=timestamp(NOW))
    uses = {"cpu": 500, "pods": 1}
    memory = held(pod, uses=uses, ending="finished", ended=True)
    waiting = [
        held(a_pod(name), resize_pending=(reason, "no room"))
        for name, reason in (("z", "Deferred"), ("a", "Deferred"), ("i", "Infeasible"), ("q", ""))
    ]
    node = a_node(memory, *waiting)
    plan = planned(node, pod)
    assert after(plan).uses == {} and plan.memory.used == {"cpu": 0, "pods": 4}
    due = [("pod-worker", "default/a/uid-a"), ("pod-worker", "default/z/uid-z")]
    assert plan.enqueue == (("pod-status", "default/p/uid-p"), *due)
    quiet = planned(a_node(replace(memory, uses={}), *waiting), pod)
    assert len(quiet.enqueue) == 1
    own = held(pod, uses=uses, ending="finished", ended=True, resize_pending=("Deferred", ""))
    assert len(planned(a_node(own), pod).enqueue) == 1  # not itself
    busy = a_node(*waiting, used={"pods": 4, "memory": 5})
    new = planned(busy, a_pod("new"), key="default/new/uid-new")
    assert len(new.enqueue) == 1  # no room is made


def test_kubelet_42_a_pod_of_which_nothing_is_left_is_forgotten():
    pod = a_pod()
    gone = held(pod, ending="gone", ended=True, removed=True, uses={})
    assert dict(planned(a_node(gone)).memory.pods) == {}
    deleted = change(pod, deletion_timestamp=timestamp(NOW), deletion_grace_period_seconds=30)
    assert "uid-p" in planned(a_node(replace(gone, ending="deleted")), deleted).memory.pods


def test_kubelet_1_a_reconcile_without_news_leaves_the_memory_as_it_is():
    pod = a_pod()
    memory = held(pod, listing=True, has_waited=True)
    plan = planned(a_node(memory), pod)
    assert after(plan) is memory and plan.runs == () and plan.queries == ()
    assert plan.wake_at is None and plan.notes == ()


# --- objects that a pod needs ---------------------------------------------------------------------


def with_files(name="p", config="settings"):
    pod = a_pod(name)
    volume = Volume(name="v", config_map=ConfigMapVolumeSource(name=config))
    return change(pod, volumes=(volume,))


SETTINGS = "configmaps/default/settings"
VALUE = ConfigMap(metadata=ObjectMeta(name="settings", namespace="default", resource_version="9"))


def test_kubelet_70_kubelet_95_a_missing_object_is_read_once_and_the_pod_waits_for_it():
    pod = with_files()
    plan = planned(a_node(held(pod)), pod)
    assert plan.queries == (compute_read(SETTINGS, 50),)
    (query,) = plan.queries
    assert (query.verb, query.resource, query.name) == ("get", CONFIG_MAPS, "settings")
    assert query.options == Options(resource_version="50")
    first = Held(requested_at=NOW, requested_as_of=50, waiting=("default/p/uid-p",))
    assert dict(plan.memory.objects) == {SETTINGS: first}
    assert after(plan).mounted == (SETTINGS,)
    again = planned(plan.memory, pod, now=NOW + 1)
    assert again.queries == () and dict(again.memory.objects) == {SETTINGS: first}
    other = with_files("q")
    shared = planned(plan.memory, other, key="default/q/uid-q")
    assert shared.queries == ()
    waiting = ("default/p/uid-p", "default/q/uid-q")
    assert dict(shared.memory.objects) == {SETTINGS: replace(first, waiting=waiting)}


def test_kubelet_58_what_volumes_show_is_remembered_once():
    pod = with_files()
    more = (*pod.spec.volumes, Volume(name="w", config_map=ConfigMapVolumeSource(name="settings")))
    pod = change(pod, volumes=more)
    held_object = Held(value=VALUE, read=True, good_until=NOW + MINUTE, as_of=50)
    node = a_node(held(pod), objects=Map({SETTINGS: held_object}))
    found = planned(node, pod)
    assert after(found).mounted == (SETTINGS,) and found.queries == ()
    quiet = held(pod, mounted=("x",), listing=True, has_waited=True, volumes_due=NOW + MINUTE)
    assert after(planned(a_node(quiet), pod)).mounted == ("x",)


@pytest.mark.parametrize("is_token", [False, True])
def test_kubelet_58_kubelet_72_an_object_that_has_changed_makes_those_due_that_show_it(is_token):
    """A token is of one pod: it is the key's."""
    name = "tokens/default/default/p/uid-p/3600/" if is_token else SETTINGS
    request = compute_read(name, 50)
    pods = [
        held(a_pod(each), mounted=shown, volumes_due=NOW + MINUTE)
        for each, shown in (("q", (name,)), ("p", ("x", name)), ("r", ("x",)))
    ]
    before = Held(value=VALUE, read=True, as_of=5, requested_at=NOW, requested_as_of=50, waiting=("w",))  # fmt: skip
    node = a_node(*pods, objects=Map({name: before}))
    newer = replace(VALUE, metadata=replace(VALUE.metadata, resource_version="10"))

    def answered(response):
        return WORKER.answered(node, "default/p/uid-p", request, response, NOW + 1)

    memory, keys = answered(Response(200, newer))
    kept = replace(before, value=newer, requested_at=0, waiting=(), good_until=NOW + 1 + MINUTE, as_of=50)  # fmt: skip
    assert dict(memory.objects) == {name: kept}
    due = ["p"] if is_token else ["p", "q"]
    assert list(keys) == ["w", *[f"default/{each}/uid-{each}" for each in due]]
    for one in pods:
        found = memory.pods[one.uid]
        assert found == (replace(one, volumes_due=0) if one.name in due else one)
    for response in (Response(200, VALUE), None):
        memory, keys = answered(response)
        assert list(keys) == ["w"] and memory.pods == node.pods
        assert not memory.objects[name].requested_at
    elsewhere, keys = WORKER.answered(node, "default/x/gone", request, Response(200, newer), NOW)
    assert next(iter(keys)) == "w" and elsewhere.objects[name].value is newer


def test_kubelet_54_the_services_of_the_namespace_and_the_api_servers():
    def service(namespace, name):
        return Service(metadata=ObjectMeta(name=name, namespace=namespace))

    master, web, other = service("default", "kubernetes"), service("n", "web"), service("x", "web")
    here = service("default", "db")
    for objects, namespace, linked, expected in (
        ((master, web, other), "n", True, [master, web]),
        ((master, web, other), "n", False, [master]),
        ((web, other), "n", True, [web]),
        ((web,), "n", False, []),
        ((master, here), "default", True, [here, master]),
        ((master, here), "default", False, [master]),
    ):
        facts = WORKER._facts(seen(*objects), a_node())
        assert list(facts.services(namespace, linked)) == expected
        assert facts.config is CONFIG and facts.node is FACTS


# --- admission ------------------------------------------------------------------------------------


def admitted(node, pod, *objects):
    """Whether a new pod is admitted, or why not."""
    plan = planned(node, pod, *objects, key=pod_key(pod))
    memory = plan.memory.pods[pod.metadata.uid]
    if memory.rejected is None:
        assert memory.admitted and plan.memory.used == {
            **node.used,
            **{name: node.used.get(name, 0) + much for name, much in memory.uses.items()},
        }
        return ""
    assert not memory.admitted and not memory.uses
    used = {name: much for name, much in plan.memory.used.items() if much}
    assert used == {name: much for name, much in node.used.items() if much}
    (note,) = plan.notes
    assert (note.reason, note.message, note.type) == (*memory.rejected, "Warning")
    return memory.rejected[0]


def test_kubelet_81_a_pod_that_does_not_fit_is_rejected():
    assert admitted(a_node(used={"cpu": 3500}), a_pod(cpu="500m")) == ""
    assert admitted(a_node(used={"cpu": 3501}), a_pod(cpu="500m")) == "OutOfcpu"
    there = a_pod("q")
    full = held(there, uses={"cpu": 3600, "pods": 1})
    assert admitted(a_node(full), a_pod(cpu="500m"), there) == "OutOfcpu"
    # its containers may still be ending, but a scheduler counts it no more
    plan = planned(a_node(full), a_pod(cpu="500m"))
    assert after(plan).admitted and plan.memory.used == {"cpu": 4100, "pods": 2}
    mixed = a_node(full, held(a_pod("r"), uses={"cpu": 300}))
    assert admitted(mixed, a_pod(cpu="500m"), a_pod("r")) == ""
    small = a_node(held(there, uses={"cpu": 100}), held(a_pod("r"), uses={"cpu": 3600}))
    assert admitted(small, a_pod(cpu="500m"), a_pod("r")) == "OutOfcpu"


def test_kubelet_81_a_pod_that_was_admitted_before_is_not_checked_again():
    """It has a start time, or a sandbox; one that has ended or is deleted uses nothing."""
    full = a_node(used={"cpu": 4000})
    big = a_pod(cpu="500m")
    started = change(big, start_time=timestamp(NOW - MINUTE))
    assert admitted(full, started) == ""
    sandbox = SandboxStatus("s", "uid-p", "default", "p", 0, True)
    there = PodMemory("uid-p", "default", "p", sandbox=sandbox)
    plan = planned(replace(full, pods=Map({"uid-p": there})), big)
    assert after(plan).admitted and plan.memory.used == {"cpu": 4500, "pods": 1}
    for over in (
        change(big, deletion_timestamp=timestamp(NOW)),
        change(big, phase="Failed"),
        change(big, phase="Succeeded"),
    ):
        plan = planned(full, over)
        assert after(plan).admitted and after(plan).uses == {}
        assert plan.memory.used == {"cpu": 4000} and not plan.notes
    assert after(planned(full, started)).started_at == NOW - MINUTE
    rejected = held(big, admitted=False, rejected=("OutOfcpu", "no"), uses={})
    plan = planned(a_node(rejected), big)
    assert not after(plan).admitted and plan.memory.used == {}


def test_kubelet_81_pods_that_are_gone_only_leave_their_resources():
    """Everything else is checked as for an empty node."""
    pod = a_pod(cpu="500m")
    gone, there = held(a_pod("g"), uses={"cpu": 4000}), held(a_pod("q", port=80))
    node, objects = a_node(gone, there), (a_pod("q", port=80),)
    assert admitted(a_node(gone, there, used={"cpu": 7501}), pod, *objects) == "OutOfcpu"
    elsewhere = change(pod, node_selector={"disk": "hdd"})
    assert after(planned(node, elsewhere, *objects)).rejected[0] == "NodeAffinity"
    fits = change(pod, node_selector={"disk": "ssd"})
    assert after(planned(node, fits, *objects)).admitted
    assert after(planned(node, a_pod(cpu="500m", port=80), *objects)).rejected[0] == "NodePorts"
    profile = AppArmorProfile(type="RuntimeDefault")
    confined = change(pod, security_context=PodSecurityContext(app_armor_profile=profile))
    for modules, is_admitted in (((), False), (("apparmor",), True)):
        machine = replace(FACTS, security_modules=modules)
        for one in (a_node(described=machine), replace(node, described=machine)):
            assert after(planned(one, confined, *objects)).admitted is is_admitted


def test_pod_14_a_container_that_only_the_status_knows_is_lost_when_its_pod_is_first_seen():
    running = ContainerState(running=ContainerStateRunning(started_at=timestamp(NOW - MINUTE)))
    known = Stated(
        name="c", image="app:1", image_id="sha", ready=True, restart_count=1, state=running,
        container_id="fake://c-1",
    )  # fmt: skip
    pod = a_pod(start_time=timestamp(NOW - MINUTE), container_statuses=(known,))
    assert after(planned(a_node(), pod)).container("c").current.finished_at == NOW


def test_kubelet_81_host_ports_of_pods_that_run_are_taken():
    pod, other = a_pod(port=80), a_pod("q", port=80)
    for memory, objects, expected in (
        (held(other), (other,), "NodePorts"),
        (held(other, ended=True), (other,), ""),
        (held(other), (), ""),
        (held(other, admitted=False, listing=True), (other,), ""),
        (held(a_pod("q", port=81)), (a_pod("q", port=81),), ""),
    ):
        assert admitted(a_node(memory), pod, *objects) == expected
    assert admitted(a_node(held(other)), a_pod(), other) == ""


def test_kubelet_82_labels_are_those_of_the_node_or_those_it_registers_with():
    def on(**labels):
        return Node(metadata=ObjectMeta(name="n", labels=labels or None), status=NodeStatus())

    wanting = change(a_pod(), node_selector={"disk": "ssd"})
    assert admitted(a_node(), wanting) == ""
    assert admitted(a_node(), wanting, on(disk="ssd")) == ""
    assert admitted(a_node(), wanting, on(disk="hdd")) == "NodeAffinity"
    assert admitted(a_node(), wanting, on()) == "NodeAffinity"
    named = change(a_pod(), node_selector={"kubernetes.io/hostname": "n"})
    for hostname in ("n", ""):
        machine = replace(FACTS, hostname=hostname)
        assert admitted(a_node(described=machine), named) == ""


def test_kubelet_81_extended_resources_are_those_that_the_node_announces():
    node = Node(metadata=ObjectMeta(name="n"), status=NodeStatus(allocatable={"x.io/gpu": "1"}))
    for much, expected in (("1", ""), ("2", "OutOfx.io/gpu")):
        pod = a_pod()
        container = replace(pod.spec.containers[0], resources=ResourceRequirements(requests={"x.io/gpu": much}))  # fmt: skip
        assert admitted(a_node(), change(pod, containers=(container,)), node) == expected


# --- resize ---------------------------------------------------------------------------------------


def test_resize_3_what_a_spec_desires_is_allocated_if_it_fits():
    old, new = a_pod(cpu="500m"), a_pod(cpu="1500m")
    memory = resize.begin(held(old, uses={"cpu": 500, "pods": 1}), old)
    for others, is_allocated in ((2500, True), (2501, False)):
        rest = held(a_pod("q"), uses={"cpu": others, "pods": 1})
        node = a_node(memory, rest)
        plan = planned(node, new, a_pod("q"))
        found = after(plan)
        assert found.allocated_for is new.spec
        if is_allocated:
            assert found.uses == {"cpu": 1500, "pods": 1} and found.resize_pending == ("", "")
            assert plan.memory.used == {"cpu": others + 1500, "pods": 2}
            assert [one.reason for one in plan.notes] == ["ResizeStarted"]
            continue
        assert found.resize_pending[0] == "Deferred" and found.uses == memory.uses
        assert plan.memory.used == node.used
        assert any(isinstance(each, RunPodSandbox) for each in plan.runs)
        # decided again when it is due, and not allocated any more when the old spec is back
        room = planned(replace(plan.memory, used={"cpu": 500, "pods": 2}), new)
        assert after(room).uses == {"cpu": 1500, "pods": 1}
        back = planned(plan.memory, old)
        assert after(back).resize_pending == ("", "") and after(back).allocated_for is old.spec


def test_resize_3_a_pod_that_ends_is_not_resized():
    old, new = a_pod(cpu="500m"), a_pod(cpu="1500m")
    for parts in ({"ending": "deadline"}, {"ending": "finished", "ended": True}, {"ended": True}):
        memory = resize.begin(held(old, uses={"cpu": 500}, listing=True, **parts), old)
        found = after(planned(a_node(memory), new))
        assert found.allocated == memory.allocated and found.allocated_for is old.spec


def test_resize_3_the_first_allocation_is_what_the_pod_has():
    pod = a_pod(cpu="500m")
    memory = held(pod, allocated_for=None, uses={"cpu": 500, "pods": 1})
    found = after(planned(a_node(memory), pod))
    assert found.allocated == resize.begin(memory, pod).allocated
    assert found.allocated_for is pod.spec and found.uses == memory.uses


# --- lists of the runtime -------------------------------------------------------------------------


def test_kubelet_41_the_runtime_is_listed_at_its_time():
    """Pods with operations are listed again, alone; those that are being listed alone are left."""
    pods = [
        held(a_pod("a")),
        held(a_pod("b"), sandbox_operation="run"),
        held(a_pod("c"), listing=True),
    ]
    old = Held(value=VALUE, read=True, good_until=1)
    fresh = Held(value=VALUE, read=True, good_until=NOW)
    node = a_node(*pods, relist_at=NOW, objects=Map({"configmaps/x/old": old, "configmaps/x/new": fresh}))  # fmt: skip
    later = NOW + 3600 * SECOND
    for now, is_due in ((NOW - 1, False), (NOW, True)):
        plan = planned(node, key="", now=now)
        assert plan.runs == ((ListPods(),) if is_due else ()) and not plan.enqueue
        if not is_due:
            assert plan.wake_at == NOW and plan.memory == node
            continue
        assert plan.memory.listing and plan.wake_at is None
        assert after(plan, "uid-a") == replace(pods[0], listing=True, in_whole_list=True)
        assert after(plan, "uid-b") == replace(pods[1], dirty=True)
        assert after(plan, "uid-c") == pods[2]
    listing = planned(replace(node, listing=True), key="", now=later)
    assert listing == Plan(memory=replace(node, listing=True))
    assert not planned(node, key="", now=later).memory.objects


def test_kubelet_40_pods_are_due_after_the_first_list_and_description():
    pod, other = a_pod("b"), a_pod("a")
    node = a_node(held(pod), held(a_pod("c")), begun=False, relist_at=NOW + 1)
    keys = tuple(("pod-worker", f"default/{name}/uid-{name}") for name in "abc")
    plan = planned(node, pod, other, key="")
    assert plan.memory == replace(node, begun=True) and plan.enqueue == keys
    assert plan.wake_at == NOW + 1 and not plan.runs
    for early in (replace(node, listed=False), replace(node, described=None)):
        plan = planned(early, pod, key="")
        assert plan.memory == early and plan.enqueue == ()
    assert planned(replace(node, begun=True), pod, key="").enqueue == ()


def test_kubelet_58_what_volumes_show_is_read_again_with_every_list():
    token = "tokens/default/default/a/uid-a/3600/"
    shown = ("configmaps/n/b", "configmaps/n/a", "configmaps/n/gone", "configmaps/n/asked", token)
    pods = [held(a_pod("a"), mounted=shown), held(a_pod("b"), mounted=("configmaps/n/a", "secrets/n/s"))]  # fmt: skip
    known = Held(value=VALUE, read=True, good_until=NOW + MINUTE, as_of=3)
    objects = Map({
        **dict.fromkeys(("configmaps/n/a", "configmaps/n/b", "configmaps/n/other", token), known),
        "configmaps/n/gone": replace(known, value=None),
        "configmaps/n/asked": replace(known, requested_at=NOW - 1),
    })  # fmt: skip
    plan = planned(a_node(*pods, objects=objects), key="")
    names = ["configmaps/n/a", "configmaps/n/b"]
    assert plan.queries == tuple(compute_read(name, 50) for name in names)
    for name in objects:
        expected = objects[name]
        if name in names:
            expected = replace(expected, requested_at=NOW, requested_as_of=50)
        assert plan.memory.objects[name] == expected
    assert "secrets/n/s" not in plan.memory.objects


def listing(*pods, whole=True, result=None, node=None, now=NOW):
    operation = ListPods(() if whole is True else tuple(whole))
    return WORKER.ran(node or a_node(*pods, listing=True, list_failures=2), "", operation, result, now)  # fmt: skip


def sandbox_of(name, **parts):
    return SandboxStatus(f"s-{name}", f"uid-{name}", "default", name, 0, True, **parts)


def container_of(name):
    return ContainerStatus(f"c-{name}", f"s-{name}", f"uid-{name}", "c", 0, "running")


def test_kubelet_40_kubelet_44_a_list_is_taken_in_for_the_pods_that_it_is_about():
    whole, alone = {"listing": True, "in_whole_list": True}, {"listing": True}
    pods = [held(a_pod("a"), **whole), held(a_pod("b"), **alone), held(a_pod("c"))]
    listed = PodsListed(
        tuple(sandbox_of(name) for name in ("d", "a", "b", "c")),
        (container_of("a"), container_of("d"), container_of("e")),
    )
    memory, keys = listing(*pods, result=listed)
    found = memory.pods
    assert found["uid-a"].sandbox == sandbox_of("a") and not found["uid-a"].listing
    assert found["uid-a"].container("c").current == container_of("a")
    assert found["uid-b"] == pods[1] and found["uid-c"] == pods[2]
    adopted = found["uid-d"]
    assert (adopted.uid, adopted.namespace, adopted.name) == ("uid-d", "default", "d")
    assert (adopted.seen_at, adopted.started_at, adopted.since) == (NOW, NOW, -1)
    assert adopted.sandbox == sandbox_of("d") and adopted.container("c").current == container_of("d")  # fmt: skip
    assert "uid-e" not in found  # without a sandbox nothing says whose it is
    assert list(keys) == ["default/a/uid-a", "default/d/uid-d", ""]
    assert (memory.listing, memory.listed, memory.list_failures) == (False, True, 0)
    assert memory.relist_at == NOW + MINUTE
    memory, keys = listing(*pods, whole=["uid-b"], result=PodsListed((), ()))
    assert list(keys) == [] and memory.listing and memory.pods["uid-a"] == pods[0]
    assert memory.pods["uid-b"] == replace(pods[1], listing=False) and memory.list_failures == 0
    assert memory.relist_at == 0
    memory, keys = listing(*pods, whole=["uid-b"], result=listed)
    assert list(keys) == ["default/b/uid-b", "default/d/uid-d"]


@pytest.mark.parametrize(("waited", "dirty", "news"), list(product([False, True], repeat=3)))
@pytest.mark.parametrize("running", [False, True])
def test_kubelet_44_a_list_makes_a_pod_due_that_waited_or_has_changed(waited, dirty, news, running):
    """Also if what it shows is exactly what is known."""
    there = {"sandbox": sandbox_of("a"), "sandbox_attempt": 1} if running else {}
    memory = held(
        a_pod("a"), listing=True, in_whole_list=True, has_waited=waited, dirty=dirty, **there
    )
    sandboxes = (sandbox_of("a"),) if running is not news else ()
    after_it, keys = listing(memory, result=PodsListed(sandboxes, ()))
    assert list(keys) == (["default/a/uid-a", ""] if waited or dirty or news else [""])
    found = after_it.pods["uid-a"]
    assert (found.listing, found.in_whole_list, found.has_waited) == (False, False, False)
    assert found.dirty is dirty


def test_kubelet_40_containers_and_sandboxes_are_of_the_pod_with_their_uid():
    pods = [held(a_pod(name), listing=True, in_whole_list=True) for name in "ab"]
    more = [replace(sandbox_of("a"), id="s-0", ready=False)]
    listed = PodsListed((*more, sandbox_of("a"), sandbox_of("b")), (container_of("a"), container_of("b")))  # fmt: skip
    memory, _ = listing(*pods, result=listed)
    for name in "ab":
        found = memory.pods[f"uid-{name}"]
        assert found.sandbox == sandbox_of(name)
        assert found.container("c").current == container_of(name)
    assert [one.id for one in memory.pods["uid-a"].dead_sandboxes] == ["s-0"]


@given(st.integers(0, 12), st.booleans())
def test_kubelet_23_kubelet_41_a_list_that_fails_is_repeated_later_and_later(failures, whole):
    """Its pods are listed again, alone; those of another list go on."""
    together, alone = {"listing": True, "in_whole_list": True}, {"listing": True}
    pods = [held(a_pod("a"), **together), held(a_pod("b"), **alone), held(a_pod("c"))]
    node = a_node(*pods, listing=True, list_failures=failures, listed=False)
    names = True if whole else ["uid-a", "uid-b", "uid-x"]
    memory, keys = listing(node=node, whole=names, result=BROKEN)
    assert tuple(keys) == ("",)
    assert (memory.listing, memory.list_failures) == (not whole, failures + 1)
    assert memory.relist_at == NOW + min(failures + 1, 10) * 10 * SECOND and not memory.listed
    again = pods[0 if whole else 1]
    for one in pods:
        expected = replace(one, listing=False, in_whole_list=False, dirty=True) if one is again else one  # fmt: skip
        assert memory.pods[one.uid] == expected


def test_kubelet_41_what_the_runtime_reports_is_listed():
    node = a_node(held(a_pod("a")), held(a_pod("b")), relist_at=NOW + MINUTE)
    memory, keys = WORKER.runtime_changed(node, (), NOW)
    assert memory == replace(node, relist_at=NOW) and tuple(keys) == ("",)
    memory, keys = WORKER.runtime_changed(node, ("uid-b", "uid-x"), NOW)
    assert list(keys) == ["default/b/uid-b"] and memory.relist_at == NOW + MINUTE
    assert memory.pods["uid-b"] == replace(node.pods["uid-b"], dirty=True)
    assert memory.pods["uid-a"] == node.pods["uid-a"]
    memory, keys = WORKER.runtime_changed(node, ("uid-x", "uid-a", "uid-b"), NOW)
    assert list(keys) == ["default/a/uid-a", "default/b/uid-b"]


def test_kubelet_the_result_of_an_operation_makes_its_pod_due():
    pod = held(a_pod(), sandbox_operation="stop", sandbox=sandbox_of("p"))
    operation = StopPodSandbox("uid-p", "s-p")
    for result in (Done(), BROKEN):
        memory, keys = WORKER.ran(a_node(pod), "default/p/uid-p", operation, result, NOW)
        expected = after_result(pod, operation, result, NOW, 10 * SECOND)
        assert memory.pods["uid-p"] == expected and tuple(keys) == ("default/p/uid-p",)
    unknown = WORKER.ran(a_node(pod), "default/p/other", operation, Done(), NOW)
    assert unknown == (a_node(pod), ())
