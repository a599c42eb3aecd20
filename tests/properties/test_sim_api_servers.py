"""Runs of the whole cluster with another API server that is slow, dead, wrong or lying at times:
CLUSTER-18, APISVC-9, APISVC-11, HPA-14."""

import pytest

from refk8s.checking.simulator.api_servers import (
    GROUP,
    ROOT,
    TARGET,
    VALUE,
    VERSION,
    SimulatedApiServer,
    registration,
)
from refk8s.checking.simulator.faults import parse_faults
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, replay, simulate
from refk8s.core.api.resources import API_SERVICES, DEPLOYMENTS
from refk8s.core.apiserver.calls import Answered, Call

MANIFESTS = read_manifests((*registration(), *default_manifests()))
# the runs go on for more than a minute after that, so several rounds of the autoscaler have an
# answer
SECONDS = 30


def setup(seed, **changes):
    return Setup(seed=seed, steps=1_500, requests=MANIFESTS, other_server_seconds=SECONDS, **changes)  # fmt: skip


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_apisvc_9_hpa_14_the_cluster_comes_to_rest_and_follows_the_metric(seed):
    run = simulate(setup(seed, user=False))
    assert not run.broken, run.broken
    history = run.cluster.history
    found = history.get(API_SERVICES.key("", f"{VERSION}.{GROUP}")).value
    conditions = [(one.type, one.status) for one in found.status.conditions or ()]
    assert conditions == [("Available", "True")]
    followed = history.get(DEPLOYMENTS.key("default", "followed")).value
    assert followed.spec.replicas == -(-VALUE // TARGET)
    assert run.tested["HPA-10"] > 0


def flapping_metric(seed, faults):
    """A run in which the metric changes in every round for ten minutes."""
    run = simulate(
        Setup(
            seed=seed, steps=2_500, nodes=1, faults=parse_faults(faults), user=False,
            requests=read_manifests(registration(window_seconds=60)), other_server_seconds=600,
        )
    )  # fmt: skip
    assert not run.broken, "; ".join(map(str, run.broken))
    return run.tested["HPA-8"]


def test_hpa_8_an_autoscaler_does_not_flap_with_its_metric():
    assert flapping_metric(0, "none") > 0


@pytest.mark.parametrize(
    "faults", ["refuse,delay,duplicate,lag,skew", "crash=0.002,cut-watch,lose-request"]
)
def test_hpa_8_an_autoscaler_does_not_flap_whatever_fails(faults):
    assert sum(flapping_metric(seed, faults) for seed in (1, 2)) > 0


def test_cluster_18_a_run_with_another_api_server_is_repeatable():
    first = simulate(setup(5, user=False))
    again = replay(first.setup, first.actions, is_whole=False)
    assert first.digest.hexdigest() == again.digest.hexdigest()


def test_cluster_18_the_other_server_fails_in_every_way_and_ends_it():
    server = SimulatedApiServer(7, works_from=1_000)
    call = Call("0", f"https://metrics.default.svc:443{ROOT}", None, b"", b"", 5, method="GET")
    results = {repr(server.answer(replaced(call, str(n)), 0)[1]) for n in range(300)}
    assert len(results) == 6
    for number in range(50):
        result = server.answer(replaced(call, str(number)), 1_000)[1]
        assert isinstance(result, Answered) and b"APIResourceList" in result.body


def replaced(call, id):
    return Call(id, call.url, None, b"", b"", 5, method="GET")
