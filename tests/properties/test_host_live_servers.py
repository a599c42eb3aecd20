"""Several API servers keep the service default/kubernetes: in a cluster of virtual time, with
faults. Rule HOST-20 (spec/host.md).

Each server has its own lag and its own clock. Every step is judged by the laws.
"""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from refk8s.checking.simulator.scenario import SERVERS, default_manifests, read_manifests
from refk8s.checking.simulator.script import Order
from refk8s.checking.simulator.simulate import Setup, begin_run, replay, simulate
from refk8s.core.actions import (
    Crash,
    CutOff,
    CutWatch,
    Elapse,
    LoseAnswer,
    LoseRequest,
    Refuse,
    Skew,
    Stale,
    StopServer,
    Submit,
    Suspend,
)
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import ENDPOINTS, LEASES
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.live_servers import LIVE_SECONDS, RENEW_SECONDS, server_of
from refk8s.core.context import SECOND
from refk8s.core.machine import server_machine_name
from refk8s.core.properties.laws.kubernetes_service import (
    endpoints_are_the_servers_that_live,
    listed,
)

HOUR = 3600 * SECOND
REST_SECONDS = 2 * LIVE_SECONDS + 2 * RENEW_SECONDS


def new_run(count, seed=0):
    """Without nodes: the control plane and the servers' own machines."""
    return begin_run(Setup(seed=seed, nodes=0, apiservers=count, lists_servers=True, faults={}))


def go(run, seconds, ends={}):  # noqa: B006
    """Everything happens that can, in a fair order, until so much time has passed since the last
    call. Nothing need happen at its end: `ends` has it, for each run."""
    now = run.cluster.now
    end = ends[id(run.digest)] = max(ends.get(id(run.digest), now), now) + int(seconds * SECOND)
    order = Order()
    while not run.broken and (action := order.next_action(run.cluster, run.ready)) is not None:
        if isinstance(action, Elapse) and action.to > end:
            return
        run.take(action)


def leases(run):
    records = run.cluster.history.list(f"{LEASES.prefix}kube-system/apiserver-").records
    return {server_of(record.value) for record in records}


def strike(run, what, number, count):
    """A fault, if it is possible now."""
    cluster = run.cluster
    server, until = number % count, cluster.now + (1 + 7 * number) * SECOND
    name = server_machine_name(server)
    own = [channel for channel in sorted(cluster.flying) if channel[0] == name]
    sent = [channel for channel in own if cluster.flying[channel].answer is None]
    watches = [channel for channel in sorted(cluster.watches) if channel[0] == name]
    match what:
        case "stop":
            actions = [StopServer(server, until)]
        case "crash":
            actions = [Crash(name)]
        case "suspend":
            actions = [Suspend(name, until)]
        case "stale":
            actions = [Stale(server, until)]
        case "cut off":
            actions = [CutOff(server, until)]
        case "skew":
            actions = [Skew(name, (number - 8) * 40 * SECOND)]
        case "lose":
            actions = [LoseRequest(channel) for channel in sent[:1]]
        case "lose answer":
            actions = [LoseAnswer(channel) for channel in own if channel not in sent][:1]
        case "refuse":
            actions = [Refuse(channel, 500 + 3 * (number % 2)) for channel in sent]
        case "cut watch":
            actions = [CutWatch(channel) for channel in watches[:1]]
        case "delete":  # somebody deletes its Lease
            key = f"apiserver-{number}"
            found = cluster.history.list(f"{LEASES.prefix}kube-system/apiserver-").records
            key = found[number % len(found)].value.metadata.name if found else key
            request = Request(
                "delete", LEASES, "kube-system", key, body=DeleteOptions(), user=ADMIN
            )
            actions = [Submit(request, server)]
    run.strike(what, actions)


FAULTS = ["stop", "crash", "suspend", "stale", "cut off", "skew", "lose", "lose answer", "refuse",
          "cut watch", "delete"]  # fmt: skip
STEPS = st.one_of(
    st.tuples(st.just("go"), st.integers(0, 16)),
    st.tuples(st.just("some"), st.integers(1, 16)),
    st.tuples(st.sampled_from(FAULTS), st.integers(0, 16)),
)


@given(
    st.integers(1, 4), st.lists(STEPS, max_size=14), st.sets(st.integers(0, 3)), st.integers(0, 99)
)
@example(3, [("go", 12), ("stop", 7), ("go", 16)], {1, 2}, 0)
@example(2, [("go", 12), ("cut off", 4), ("go", 16), ("go", 16)], {0, 1}, 0)
@example(2, [("go", 12), ("suspend", 5), ("go", 16), ("skew", 12), ("go", 3)], {0, 1}, 0)
@settings(max_examples=20, deadline=None)
def test_host_20_the_endpoints_become_exactly_the_servers_that_live(count, steps, alive, seed):
    # Shows HOST-20.b HOST-20.c HOST-20.d HOST-20.f.
    run = new_run(count, seed)
    for what, number in steps:
        if what == "go":
            go(run, number)
        elif what == "some":
            for _ in range(number):
                if ready := run.ready.actions(run.cluster):
                    run.take(ready[(number * 7) % len(ready)])
        else:
            strike(run, what, number, count)
        assert not run.broken, run.broken
    for number in range(count):
        if number not in alive:
            run.strike("stop", [StopServer(number, run.cluster.now + HOUR)])
    go(run, 17 * 8)  # until every shorter fault has ended
    go(run, REST_SECONDS)
    assert not run.broken, run.broken
    living = {SERVERS[number] for number in range(count) if number in alive}
    if living:
        assert list(endpoints_are_the_servers_that_live(run.cluster)) == []
        assert set(listed(run.cluster)[0]) == living == leases(run)
    else:
        assert endpoints_are_the_servers_that_live(run.cluster) is None


@pytest.mark.parametrize("count", [2, 3])
def test_host_20_a_server_that_dies_is_left_out_in_20_seconds_and_listed_when_it_is_back(count):
    # Shows HOST-20.c HOST-20.d.
    run = new_run(count)
    go(run, 2 * RENEW_SECONDS)
    assert set(listed(run.cluster)[0]) == set(SERVERS[:count])
    run.strike("stop", [StopServer(0, run.cluster.now + 60 * SECOND)])
    go(run, LIVE_SECONDS - RENEW_SECONDS - 1)
    assert set(listed(run.cluster)[0]) == set(SERVERS[:count]), "not too early"
    go(run, 2 * RENEW_SECONDS + 2)
    assert set(listed(run.cluster)[0]) == set(SERVERS[1:count])
    go(run, 60)
    assert set(listed(run.cluster)[0]) == set(SERVERS[:count])
    assert not run.broken


def test_host_20_the_last_server_stays_listed_while_it_cannot_write():
    # Shows HOST-20.d.
    run = new_run(2)
    go(run, 2 * RENEW_SECONDS)
    for number in range(2):
        run.strike("cut off", [CutOff(number, run.cluster.now + 60 * SECOND)])
    go(run, 60 + RENEW_SECONDS)
    changes = run.cluster.history.changes(f"{ENDPOINTS.prefix}default/kubernetes", 0)
    sizes = [len(change.record.value.subsets[0].addresses) for change in changes]
    assert sizes[-1] == 2 and 1 not in sizes[sizes.index(2) :], "none was left out meanwhile"


@pytest.mark.parametrize("seed", [4, 17])
def test_host_20_runs_of_the_whole_cluster(seed):
    """Seed 17: two servers disagreed, and corrected each other without an end."""
    # Shows HOST-20.e.
    requests = read_manifests(default_manifests())
    setup = Setup(seed=seed, steps=1_500, apiservers=3, requests=requests, lists_servers=True)
    run = simulate(setup)
    assert not run.broken, run.broken
    assert run.tested["HOST-20"] > 1
    again = replay(setup, run.actions, is_whole=False)
    assert again.digest.hexdigest() == run.digest.hexdigest()
