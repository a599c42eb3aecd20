"""The kubelet's part of a resize from plain values, beside a plain reading of RESIZE-3 to RESIZE-5
(spec/resize.md). `test_resize.py` shows the same rules in a running cluster."""

from __future__ import annotations

from itertools import product

import pytest
from kubelet_bench import make_pod
from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    Container,
    ContainerResizePolicy,
    ContainerStatus,
    EphemeralContainer,
    PodCondition,
    PodStatus,
    ResourceRequirements,
)
from refk8s.core.context import SECOND, timestamp
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Draft, Facts
from refk8s.core.kubelet.memory import ContainerMemory, Note, PodMemory
from refk8s.core.kubelet.objects import Library
from refk8s.core.kubelet.resize import (
    allocate,
    allocated_pod,
    apply,
    begin,
    conditions,
    is_in_progress,
)
from refk8s.core.ports import ContainerStatus as Found
from refk8s.core.ports import NodeDescribed, Resources, UpdateContainerResources

NOW = 100 * SECOND
PENDING, GOING = "PodResizePending", "PodResizeInProgress"
RUNS = Found("c-0", "s", "u", "c", 0, "running")


def of_cpu(text, memory=None):
    requests = {"cpu": text} | ({"memory": memory} if memory else {})
    return ResourceRequirements(requests=requests)


def a_pod(cpu="2", memory=None, status=None, **spec):
    one = Container(name="c", resources=of_cpu(cpu, memory))
    pod = make_pod("p", (one,), **spec)
    metadata = replace(pod.metadata, uid="u", generation=4)
    return replace(pod, metadata=metadata, status=status or pod.status)


def a_memory(pod, **parts):
    return PodMemory("u", "default", "p", pod=pod, **parts)


# --- what a pod has -------------------------------------------------------------------------------


def test_resize_3_a_kubelet_that_has_restarted_takes_what_the_status_reports():
    told = {
        "container_statuses": (ContainerStatus(name="c", resources=of_cpu("1")),),
        "init_container_statuses": (ContainerStatus(name="i", resources=of_cpu("5")),),
        "ephemeral_container_statuses": (ContainerStatus(name="e", resources=of_cpu("6")),),
    }
    pod = a_pod(
        status=PodStatus(**told),
        init_containers=(Container(name="i"),),
        ephemeral_containers=(EphemeralContainer(name="e"),),
    )
    known = ContainerMemory(RUNS, applied=of_cpu("9"))
    held = {name: ContainerMemory(RUNS) for name in "cie"} | {"k": known, "n": ContainerMemory()}
    found = begin(a_memory(pod, containers=held), pod)
    assert found.allocated == {"c": of_cpu("1")}
    assert {name: one.applied for name, one in found.containers.items()} == {
        "c": of_cpu("1"),
        "i": of_cpu("5"),
        "e": of_cpu("6"),
        "k": of_cpu("9"),
        "n": None,
    }
    new = begin(a_memory(a_pod()), a_pod())
    assert new.allocated == {"c": of_cpu("2")} and new.containers == {}


def test_resize_3_until_it_is_allocated_the_pod_has_what_it_had():
    pod = a_pod("2")
    same = a_memory(pod, allocated={"c": of_cpu("2000m")})
    assert allocated_pod(same, pod) is pod
    less = allocated_pod(a_memory(pod, allocated={"c": of_cpu("1")}), pod)
    assert less.spec.containers[0].resources == of_cpu("1")
    assert replace(less, spec=pod.spec) == pod


# --- the decision ---------------------------------------------------------------------------------


@pytest.mark.parametrize("has", [0, 1, 2, 3])
def test_resize_3_what_fits_is_allocated_and_anything_else_waits(has):
    """The requests of the pod beside those of others and the capacity, at every boundary."""
    for want, others, there in product((1, 2, 3), (0, 1, 2), (1, 2, 3)):
        pod = a_pod(f"{want}m", "7")
        memory = a_memory(
            pod, uses={"cpu": has, "memory": 7, "pods": 1}, allocated={"c": of_cpu(f"{has}m")}
        )
        used = {"cpu": others + has, "memory": 7}
        found = allocate(memory, pod, used, {"cpu": there, "memory": 7})
        numbers = f"requested: {want}, used: {others}, capacity: {there}"
        if want > there:
            words = f"Node didn't have enough capacity: cpu, requested: {want}, capacity: {there}"
            pending = ("Infeasible", words)
        elif want > has and others + want > there:
            pending = ("Deferred", f"Node didn't have enough resource: cpu, {numbers}")
        else:
            assert found == replace(
                memory,
                allocated={"c": of_cpu(f"{want}m", "7")},
                uses={"cpu": want, "memory": 7, "pods": 1},
                notes=(Note("ResizeStarted", "Pod resize started"),),
            )
            continue
        note = Note(f"Resize{pending[0]}", f"Pod resize {pending[0]}: {pending[1]}", "Warning")
        assert found == replace(memory, resize_pending=pending, notes=(note,))
        again = replace(memory, resize_pending=pending)
        assert allocate(again, pod, used, {"cpu": there, "memory": 7}) == again, "it is told once"


def test_resize_3_the_first_resource_that_waits_is_named_and_an_infeasible_one_comes_first():
    pod = a_pod("3m", "5")
    memory = a_memory(pod, uses={"cpu": 1, "memory": 1}, resize_pending=("Deferred", "old"))
    capacity = {"cpu": 3, "memory": 5}
    both = allocate(memory, pod, {"cpu": 2, "memory": 2}, capacity)
    words = "Node didn't have enough resource: cpu, requested: 3, used: 1, capacity: 3"
    assert both.resize_pending == ("Deferred", words)
    never = allocate(memory, pod, {"cpu": 2, "memory": 2}, {"cpu": 3, "memory": 4})
    words = "Node didn't have enough capacity: memory, requested: 5, capacity: 4"
    assert never.resize_pending == ("Infeasible", words)
    words = "Node didn't have enough capacity: cpu, requested: 3, capacity: 2"
    first = allocate(memory, pod, {}, {"cpu": 2, "memory": 4})
    assert first.resize_pending == ("Infeasible", words)
    fits = allocate(memory, pod, {"cpu": 1, "memory": 1}, capacity)
    assert fits.resize_pending == ("", "") and fits.allocated == {"c": of_cpu("3m", "5")}
    bare = allocate(a_memory(a_pod("1m")), a_pod("1m"), {}, {})
    words = "Node didn't have enough capacity: cpu, requested: 1, capacity: 0"
    assert bare.resize_pending == ("Infeasible", words)
    none = make_pod("p", (Container(name="c"),))
    assert allocate(a_memory(none), none, {}, {}).resize_pending == ("", "")


# --- containers -----------------------------------------------------------------------------------


def applied(memory, one, now=NOW):
    pod = make_pod("p", (one,))
    node = NodeDescribed("n", "10.0.0.1", 1, 1, 1, 1, "amd64", "linux", "", "", "")
    held = a_memory(pod, containers={"c": memory})
    draft = Draft(Facts(KubeletConfig(), node), pod, held, Library({}, now), now)
    found = apply(draft, pod, one, memory)
    assert found == draft.memory.container("c")
    return draft, found


def test_resize_4_a_container_is_updated_or_restarted_as_its_policy_says():
    held = ContainerMemory(RUNS, applied=of_cpu("1", "5"))
    one = Container(name="c", resources=of_cpu("2", "5"))
    draft, after = applied(held, one)
    assert draft.operations == [UpdateContainerResources("u", "c-0", Resources(0, 0, 2000))]
    assert after == replace(held, operation="update", updating=one.resources)
    assert draft.memory.notes == ()
    for name, policy, restarts in (
        ("cpu", "RestartContainer", True),
        ("memory", "RestartContainer", False),
        ("cpu", "NotRequired", False),
    ):
        rule = ContainerResizePolicy(resource_name=name, restart_policy=policy)
        draft, after = applied(held, replace(one, resize_policy=(rule,)))
        assert bool(draft.operations) != restarts
        if restarts:
            assert after == replace(held, stop_reason="resized")
            words = "Container c resize requires restart"
            assert draft.memory.notes == (Note("Killing", words, "Normal", "spec.containers{c}"),)
    for retry, is_tried in ((NOW, True), (NOW + 1, False)):
        draft, after = applied(replace(held, retry_at=retry), one)
        assert (len(draft.operations), draft.wake_at) == ((1, None) if is_tried else (0, retry))
    same = Container(name="c", resources=of_cpu("1000m", "5"))
    for quiet, container in (
        (held, same),
        (replace(held, current=None), one),
        (replace(held, applied=None), one),
        (replace(held, operation="stop"), one),
        (replace(held, stop_reason="liveness"), one),
    ):
        draft, after = applied(quiet, container)
        assert (draft.operations, after, draft.wake_at) == ([], quiet, None)


@pytest.mark.parametrize(
    ("held", "expected"),
    [
        (ContainerMemory(RUNS, applied=of_cpu("1")), True),
        (ContainerMemory(RUNS, applied=of_cpu("2000m")), False),
        (ContainerMemory(RUNS), False),
        (ContainerMemory(replace(RUNS, state="exited"), applied=of_cpu("1")), False),
        (ContainerMemory(), False),
    ],
)
def test_resize_5_a_resize_is_in_progress_while_a_running_container_differs(held, expected):
    pod = a_pod()
    for others in ({}, {"b": ContainerMemory(RUNS, applied=of_cpu("7"))}):
        allocated = {"b": of_cpu("7"), "c": of_cpu("2")}
        memory = a_memory(pod, allocated=allocated, containers={**others, "c": held})
        assert is_in_progress(memory) == expected
    shared = of_cpu("2")
    memory = a_memory(
        pod, allocated={"c": shared}, containers={"c": ContainerMemory(RUNS, applied=shared)}
    )
    assert not is_in_progress(memory)


# --- conditions -----------------------------------------------------------------------------------

SINCE = "2026-01-01T00:00:00Z"
READY = PodCondition(type="Ready", status="True")


def condition(kind, reason=None, message=None, since=None):
    return PodCondition(
        type=kind,
        status="True",
        reason=reason,
        message=message,
        last_transition_time=since or timestamp(NOW),
        observed_generation=4,
    )


@pytest.mark.parametrize("before", [(), (PENDING,), (GOING,), (PENDING, GOING)])
def test_resize_5_the_conditions_are_there_while_they_hold(before):
    old = tuple(condition(kind, "old", "words", SINCE) for kind in before)
    pod = a_pod(status=PodStatus(conditions=(READY, *old)))
    differs = {"c": ContainerMemory(RUNS, applied=of_cpu("1"))}
    broken = {"b": ContainerMemory(resize_error="no"), **differs}
    for pending, containers in product([("", ""), ("Deferred", "why")], [{}, differs, broken]):
        memory = a_memory(
            pod, allocated={"c": of_cpu("2")}, containers=containers, resize_pending=pending
        )
        expected = []
        if pending[0]:
            since = SINCE if PENDING in before else None
            expected.append(condition(PENDING, "Deferred", "why", since))
        if containers:
            error = containers is broken
            since = SINCE if GOING in before else None
            expected.append(
                condition(GOING, "Error" if error else None, "no" if error else None, since)
            )
        found = conditions(pod, memory, (READY, *old), NOW)
        assert found == (*expected, READY)
    others = (READY,)
    plain = a_pod(status=PodStatus(conditions=others))
    assert conditions(plain, a_memory(plain), others, NOW) is others
    assert conditions(a_pod(), a_memory(a_pod()), others, NOW) is others
