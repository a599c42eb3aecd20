"""ResourceQuotas under races, late watches and faults (spec/quota.md, QUOTA-1, QUOTA-2,
QUOTA-8)."""

from collections import Counter
from functools import cache
from random import Random
from typing import Any

import runs
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_quota import CONFIG_MAPS, PODS, QUOTAS, a_container, a_pod, made
from workload_helpers import NOW, settle

from refk8s.core.actions import CatchUp, Notify, Stale, Submit
from refk8s.core.api import resources
from refk8s.core.api.core_v1 import ConfigMap, Namespace, ResourceQuota, ResourceQuotaSpec
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled, is_enabled
from refk8s.core.cluster.state import begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.controllers.resource_quota import ResourceQuotaController
from refk8s.core.loop.loop import Loop
from refk8s.core.properties.laws import judge, judge_rest
from refk8s.core.value import evolve

HARDS = ({"configmaps": "2"}, {"configmaps": "3", "pods": "2"}, {"pods": "2", "requests.cpu": "1"})


def racing(cluster: Any, which: int) -> Any:
    """A user creates, deletes or changes something, at one of the API servers. It may be
    refused."""
    server, which = which % 2, which // 2
    name = "abcd"[which % 4]
    what = which // 4 % 16
    metadata = ObjectMeta(name=name, namespace="default")
    options = DeleteOptions(grace_period_seconds=0)
    if what < 6:
        request = Request("create", CONFIG_MAPS, "default", name, body=ConfigMap(metadata=metadata))
    elif what < 9:
        request = Request("delete", CONFIG_MAPS, "default", name, body=options)
    elif what < 12:
        tree = a_pod(name, a_container(requests={"cpu": "600m"}))
        request = Request("create", PODS, "default", name, body=made(PODS, tree))
    elif what < 14:
        request = Request("delete", PODS, "default", name, body=options)
    elif what < 15 or name != "a":
        there = cluster.history.get(QUOTAS.key("default", "q"))
        spec = ResourceQuotaSpec(hard=HARDS["abcd".index(name) % 3])
        body = ResourceQuota(metadata=ObjectMeta(name="q", namespace="default"), spec=spec)
        verb = "create" if there is None else "update"
        if there is not None:
            body = replace(there.value, spec=spec)
        request = Request(verb, QUOTAS, "default", "q", body=body)
    else:
        request = Request("delete", QUOTAS, "default", "q", body=options)
    return step(cluster, Submit(evolve(request, user=ADMIN), server))


FAULTS = ("crash", "lose", "twice", "give up", "cut", "compact", "suspend")


@cache
def ready() -> Any:
    """Two API servers, and the controller, which has listed everything."""
    manager = Loop("controllers", (ResourceQuotaController(),))
    cluster = begin({"controllers": manager}, {}, b"seed", NOW, apiservers=2)
    namespace = Namespace(metadata=ObjectMeta(name="default"))
    cluster = step(
        cluster, Submit(Request("create", resources.NAMESPACES, body=namespace, user=ADMIN))
    )
    return settle(start_all(step(cluster, CatchUp(1))), seconds_max=1)


def raced(tape: list[tuple[int, int]]) -> tuple[Any, Counter[str]]:
    """A run with two API servers, and how often each law applied."""
    tested: Counter[str] = Counter()
    cluster = ready()

    def judged(before: Any, after: Any, action: Any) -> None:
        wrong = [one for one in judge(before, action, after, tested) if "QUOTA" in one.rule]
        assert not wrong, wrong

    for kind, which in tape:
        if kind % 3 == 0:
            after = racing(cluster, which)
            judged(cluster, after, Submit(LIST_NOTHING))
        else:
            normal = list(enabled(cluster))
            late = Stale(1, cluster.now + 60 * SECOND)
            lags = [late] if is_enabled(cluster, late) else []
            faults = [*lags, *lags, *runs.faults(cluster, FAULTS)]
            actions = faults if kind == 11 else normal
            if not actions:
                continue
            action = actions[which % len(actions)]
            if isinstance(action, Notify) and kind % 2:
                action = Notify(action.watch, limit=1)
            after = step(cluster, action)
            judged(cluster, after, action)
        cluster = after
    cluster = settle(cluster, seconds_max=120)
    wrong = [one for one in judge_rest(cluster) if "QUOTA" in one.rule]
    assert not wrong, wrong
    return cluster, tested


LIST_NOTHING = Request("list", CONFIG_MAPS, "default", user=ADMIN)
tapes = st.binary(min_size=100, max_size=600).map(
    lambda tape: [(kind % 12, which) for kind, which in zip(tape[::2], tape[1::2], strict=False)]
)


@given(tapes)
def test_quota_1_quota_2_quota_8_no_quota_is_exceeded_whatever_races(tape):
    raced(tape)


def test_quota_1_the_races_reach_what_they_are_about():
    tested: Counter[str] = Counter()
    chance = Random(1)
    for _ in range(15):
        tape = [(chance.randrange(12), chance.randrange(256)) for _ in range(300)]
        tested += raced(tape)[1]
    assert tested["QUOTA-1"] >= 20 and tested["QUOTA-8"] >= 40, tested
