"""Generated runs of a scheduler with plugins that reserve and permit: whatever is late, lost or
refused, and after a crash (spec/scheduler_profiles.md, SCHED-62, SCHED-63)."""

from __future__ import annotations

import runpy
from dataclasses import dataclass, field
from pathlib import Path

from hypothesis import given
from runs import settle
from sched_worlds import new_cluster, steps, worlds
from test_sched import all_is_well, memory_of, new_bindings, run
from workload_helpers import stored

from refk8s.core.actions import Elapse
from refk8s.core.api.resources import PODS
from refk8s.core.cluster.step import step
from refk8s.core.context import SECOND
from refk8s.core.scheduler.cycle import scheduler
from refk8s.core.scheduler.plugin import Denied, ExternalPlugins
from refk8s.core.scheduler.profile import make_profile

EXAMPLE = Path(__file__).resolve().parents[2] / "examples/coscheduling.py"
Coscheduling = runpy.run_path(str(EXAMPLE))["Coscheduling"]


def the_scheduler(**points):
    plugins = ExternalPlugins(**{point: tuple(these) for point, these in points.items()})
    return scheduler((make_profile(plugins=plugins),))


# --- generated runs


@dataclass
class Record:
    """What plugins were asked and what they said; for the checks only."""

    answers: dict[str, object] = field(default_factory=dict)  # the last one, by uid
    reserved: list[tuple[str, str]] = field(default_factory=list)  # asked to reserve
    unreserved: list[tuple[str, str]] = field(default_factory=list)


class Gang(Coscheduling):
    """Groups by the name of the pod, of which two or three must have a node. A node takes two
    reservations at a time."""

    name = "Gang"

    def __init__(self, record: Record) -> None:
        super().__init__({"permitWaitingTimeSeconds": 4})
        self.record = record

    def group(self, pod):
        number = int(pod.name[1:]) % 7
        return (pod.namespace, f"g{number % 3}") if number < 6 else None

    def wanted(self, pod):
        return "2" if self.group(pod)[1] == "g0" else "3"

    def permit(self, pod, node, snapshot):
        self.record.answers[pod.uid] = answer = super().permit(pod, node, snapshot)
        return answer

    def reserve(self, pod, node, reserved):
        self.record.reserved.append((pod.uid, node.name))
        if sum(name == node.name for _, name in reserved.values()) >= 2:
            return Denied("too many reservations")
        return (pod.uid, node.name)

    def unreserve(self, pod, node, waiting):
        self.record.unreserved.append((pod.uid, node))
        return super().unreserve(pod, node, waiting)


def checks(record: Record):
    """What must hold after every step, besides the other rules of the scheduler."""

    def check(before, after):
        wrong = all_is_well(before, after)
        memory = memory_of(after)
        for key, node in new_bindings(before, after):
            decision = memory.decisions[key]
            if record.answers.get(decision.pod.uid, "never asked") is not None:
                wrong.append(f"SCHED-63: {key} is bound to {node} before it was approved")
        kept = {key: value for values in memory.reserved.values() for key, value in values.items()}
        expected = {key: (one.pod.uid, one.node) for key, one in memory.decisions.items()}
        if kept != expected:
            wrong.append(f"SCHED-62: {kept} is reserved, and decided is {expected}")
        if set(memory.waits) != {key for key, d in memory.decisions.items() if not d.permitted}:
            wrong.append("SCHED-63: what waits is not what is decided and not permitted")
        return wrong

    return check


def go(world, drawn, allowed=()):
    record = Record()
    gang = Gang(record)
    check = checks(record)
    cluster = new_cluster(the_scheduler(reserve=[gang], permit=[gang]))
    cluster = run(cluster, drawn, world, allowed)
    # an incomplete group tries again for ever, so the run ends by time
    return record, later(cluster, 60, check)


def later(cluster, seconds, check=all_is_well):
    """The cluster after this time, without faults."""
    end = cluster.now + seconds * SECOND
    while cluster.now < end:
        cluster = settle(cluster, check, seconds_max=0)
        following = min(end, cluster.now + SECOND)
        cluster = step(cluster, Elapse(following))
    return settle(cluster, check, seconds_max=0)


@given(worlds, steps)
def test_sched_62_sched_63_a_pod_that_waits_is_not_bound_before_it_is_approved(world, drawn):
    """Nor does a reservation outlive its decision, whatever is late or lost."""
    _, cluster = go(world, drawn, ["lose", "give up", "cut", "refuse"])
    assert not memory_of(cluster).released


@given(worlds, steps)
def test_sched_62_each_pod_that_was_not_bound_is_unreserved_once(world, drawn):
    record, cluster = go(world, drawn)
    decided = {(one.pod.uid, one.node) for one in memory_of(cluster).decisions.values()}
    bound = {(pod.metadata.uid, pod.spec.node_name) for pod in stored(cluster, PODS)}
    for one in set(record.reserved):
        asked, given_up = record.reserved.count(one), record.unreserved.count(one)
        # a pod that was bound and deleted since has one reservation that ended with its binding
        assert asked - given_up in ((1,) if one in bound or one in decided else (0, 1)), one


@given(worlds, steps)
def test_sched_63_after_a_crash_a_pod_is_approved_anew(world, drawn):
    go(world, drawn, ["crash", "lose", "cut"])
