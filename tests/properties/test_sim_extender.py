"""Runs of the whole cluster with a scheduler extender that is slow, unreachable or wrong at times:
CLUSTER-19, SCHED-58."""

import pytest

from refk8s.checking.simulator.extender import AVOIDED, SimulatedExtender
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, replay, simulate
from refk8s.core.api.resources import PODS
from refk8s.core.context import SeededChance
from refk8s.core.ports import Failed, Post
from refk8s.core.scheduler import consult
from refk8s.core.scheduler.extenders import Verdict

MANIFESTS = read_manifests(default_manifests())


def setup(seed, **changes):
    return Setup(seed=seed, steps=1_200, requests=MANIFESTS, extender=True, **changes)


@pytest.mark.parametrize("seed", [1, 2])
def test_cluster_19_the_cluster_comes_to_rest_with_an_extender_that_fails_at_times(seed):
    run = simulate(setup(seed))
    assert not run.broken, run.broken
    assert run.tested["SCHED-58"] > 3
    pods = [one.value for one in run.cluster.history.list(PODS.prefix).records]
    rejects = SimulatedExtender().rejects
    assert any(pod.spec.node_name for pod in pods)
    assert not [pod for pod in pods if rejects(pod.metadata.name, pod.spec.node_name or "")]


def test_cluster_19_a_run_with_an_extender_is_repeatable():
    first = simulate(setup(3, user=False))
    again = replay(first.setup, first.actions, is_whole=False)
    assert first.digest.hexdigest() == again.digest.hexdigest()


def test_sched_58_a_scheduler_that_does_not_listen_is_found(monkeypatch):
    def deaf(extender, names, result):
        return Verdict(frozenset(names), {})

    monkeypatch.setattr(consult, "read_verdict", deaf)
    assert any(
        broken.rule == "SCHED-58" for seed in range(1, 4) for broken in simulate(setup(seed)).broken
    )


def test_cluster_19_every_kind_of_fault_occurs():
    kinds = set()
    body = b'{"NodeNames": ["%s"], "Pod": {"metadata": {"name": "p"}}}' % AVOIDED.encode()
    post = Post("http://extender.example/filter", body, 5)
    for number in range(400):
        at, result = SimulatedExtender().post(post, 0, SeededChance(number.to_bytes(4, "big")))
        if isinstance(result, Failed):
            kinds.add(("none", at))
        else:
            kinds.add(
                (
                    result.code,
                    "slow" if at >= 1_000_000 else "soon",
                    b"nowhere" in result.body,
                    result.body == b"oops",
                )
            )
    assert kinds == {
        ("none", 5_000_000), (500, "soon", False, False), (200, "soon", False, False),
        (200, "slow", False, False), (200, "soon", False, True), (200, "soon", True, False),
    }  # fmt: skip
