"""Runs of the whole cluster with webhooks that are slow, unreachable or wrong at times: CLUSTER-18,
HOOK-8, HOOK-11."""

import pytest

from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, replay, simulate
from refk8s.checking.simulator.webhooks import LABEL, SimulatedWebhooks, configurations
from refk8s.core.api.resources import DEPLOYMENTS, PODS
from refk8s.core.apiserver.admission import webhooks
from refk8s.core.apiserver.calls import Answered, Call, Unanswered

MANIFESTS = read_manifests((*configurations(), *default_manifests()))


def setup(seed, **changes):
    return Setup(seed=seed, steps=1_200, requests=MANIFESTS, webhooks=True, **changes)


@pytest.mark.parametrize("seed", [1, 2])
def test_cluster_18_the_cluster_comes_to_rest_with_webhooks_that_fail_at_times(seed):
    run = simulate(setup(seed))
    assert not run.broken, run.broken
    assert run.tested["HOOK-11"] > 3
    pods = [one.value for one in run.cluster.history.list(PODS.prefix).records]
    assert pods
    assert all(LABEL in pod.metadata.labels for pod in pods)
    assert run.cluster.history.list(DEPLOYMENTS.prefix).records


def test_cluster_18_a_run_with_webhooks_is_repeatable():
    first = simulate(setup(3, user=False))
    again = replay(first.setup, first.actions, is_whole=False)
    assert first.digest.hexdigest() == again.digest.hexdigest()


def test_hook_11_a_server_that_forgets_to_ask_is_found(monkeypatch):
    monkeypatch.setattr(webhooks, "mutate", lambda exchange, new, *others: new)
    monkeypatch.setattr(webhooks, "validate", lambda *others: None)
    run = simulate(setup(1))
    assert run.broken[0].rule == "HOOK-11"


def test_cluster_18_every_kind_of_fault_occurs():
    simulated = SimulatedWebhooks(7)
    kinds = set()
    for number in range(400):
        body = b'{"request": {"uid": "u"}}'
        call = Call(str(number), "https://webhooks.example/mutate?timeout=5s", None, b"", body, 5)
        at, result = simulated.answer(call, 0)
        if isinstance(result, Unanswered):
            kinds.add(("none", "late" if at >= 5_000_000 else "soon"))
        else:
            assert isinstance(result, Answered)
            wrong = b"another" in result.body
            kinds.add((result.code, "slow" if at >= 1_000_000 else "soon", wrong))
    assert kinds == {
        ("none", "late"), ("none", "soon"), (500, "soon", False), (200, "soon", False),
        (200, "slow", False), (200, "soon", True),
    }  # fmt: skip
