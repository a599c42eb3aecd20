"""Several API servers on one store, in the cluster as a value (CLUSTER-10, CLUSTER-15 ...
CLUSTER-17, LIST-14, SIM-12)."""

from collections import Counter
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.checking.simulator.faults import Rate
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.core.actions import (
    Answer,
    Arrive,
    CatchUp,
    CutOff,
    Elapse,
    Stale,
    StartServer,
    StopServer,
    Submit,
    Switch,
)
from refk8s.core.api.core_v1 import ConfigMap, Namespace
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import CONFIG_MAPS, NAMESPACES
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.enabled import enabled, is_enabled
from refk8s.core.cluster.servers import carry_out
from refk8s.core.cluster.state import Cluster, Flying, begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.machine import Answered, WatchEnded
from refk8s.core.properties.laws import judge
from refk8s.core.value import evolve

START = 1_790_000_000 * SECOND
WATCH = Request("watch", CONFIG_MAPS, options=Options(resource_version="1"), user=ADMIN)


class Listener:
    """Watches config maps, and remembers what it receives."""

    name = "listener"

    def start(self, now: int, seed: bytes) -> tuple[Any, tuple[Any, ...]]:
        return (), ()

    def step(self, state: Any, events: Any, now: int) -> tuple[Any, tuple[Any, ...]]:
        return (*state, *events), ()


def create(name: str) -> Request:
    body = ConfigMap(metadata=ObjectMeta(name=name))
    return Request("create", CONFIG_MAPS, "default", name, body=body, user=ADMIN)


def get(name: str, version: str = "") -> Request:
    options = Options(resource_version=version)
    return Request("get", CONFIG_MAPS, "default", name, options=options, user=ADMIN)


def delete(name: str) -> Request:
    return Request("delete", CONFIG_MAPS, "default", name, body=DeleteOptions(), user=ADMIN)


LIST = Request("list", CONFIG_MAPS, "default", user=ADMIN)
DELETE_ALL = Request("deletecollection", CONFIG_MAPS, "default", body=DeleteOptions(), user=ADMIN)
LIST_ANY = evolve(LIST, options=Options(resource_version="0"))


def seen(cluster: Cluster, server: int) -> list[str]:
    """The config maps that an API server has in memory."""
    return [item.metadata.name for item in carry_out(cluster, LIST_ANY, server).outcome.body.items]


def two_servers() -> Cluster:
    """One listener at each of two API servers, and a namespace that both have seen."""
    cluster = begin({"a": Listener(), "b": Listener()}, {}, b"seed", START, apiservers=2)
    namespace = Namespace(metadata=ObjectMeta(name="default"))
    cluster = step(cluster, Submit(Request("create", NAMESPACES, body=namespace, user=ADMIN)))
    cluster = start_all(step(cluster, CatchUp(1)))
    assert [cluster.components[name].server for name in "ab"] == [0, 1]
    return cluster


def sent(cluster: Cluster, name: str, id: int, request: Request) -> Cluster:
    """A request of a component in transit."""
    flying = Flying(request, watch=request.verb == "watch")
    return evolve(cluster, flying=cluster.flying.set((name, 1, id), flying))


def answer(cluster: Cluster, name: str, id: int) -> Any:
    return cluster.flying[name, 1, id].answer


# --- CLUSTER-10, LIST-14 --------------------------------------------------------------------------


def test_cluster_10_a_write_leaves_the_other_servers_behind_until_they_catch_up():
    cluster = step(two_servers(), Submit(create("x"), 0))
    assert set(cluster.caches) == {1} and CatchUp(1) in list(enabled(cluster))
    assert seen(cluster, 0) == ["x"] and seen(cluster, 1) == []
    assert carry_out(cluster, LIST, 1).outcome.body.items
    cluster = step(cluster, CatchUp(1))
    assert seen(cluster, 1) == ["x"] and not cluster.caches


def test_list_14_a_read_of_the_newest_state_waits_for_a_server_that_is_stale():
    cluster = step(two_servers(), Stale(1, START + 5 * SECOND))
    cluster = step(cluster, Submit(create("x"), 0))
    cluster = step(sent(cluster, "b", 1, LIST), Arrive(("b", 1, 1)))
    assert answer(cluster, "b", 1) is None and not is_enabled(cluster, Arrive(("b", 1, 1)))
    [elapse] = enabled(cluster)
    cluster = step(step(cluster, elapse), Arrive(("b", 1, 1)))
    assert cluster.now == START + 5 * SECOND
    assert [item.metadata.name for item in answer(cluster, "b", 1).body.items] == ["x"]


def test_list_14_a_deletecollection_deletes_what_its_server_has_not_seen():
    cluster = step(step(two_servers(), Submit(create("x"), 0)), CatchUp(1))
    cluster = step(cluster, Submit(create("y"), 0))
    cluster = step(sent(cluster, "b", 1, DELETE_ALL), Arrive(("b", 1, 1)))
    assert [item.metadata.name for item in answer(cluster, "b", 1).body.items] == ["x", "y"]
    assert seen(step(cluster, CatchUp(0)), 0) == []


def test_cluster_10_a_read_is_refused_after_15_seconds():
    cluster = step(two_servers(), Stale(1, START + 60 * SECOND))
    cluster = step(cluster, Submit(create("x"), 0))
    cluster = step(sent(cluster, "b", 1, LIST), Arrive(("b", 1, 1)))
    assert answer(cluster, "b", 1).code == 503
    assert list(enabled(cluster)) == [Elapse(START + 15 * SECOND)]


def test_cluster_10_a_watch_at_a_server_that_is_behind_waits_and_misses_nothing():
    cluster = step(two_servers(), Stale(1, START + 5 * SECOND))
    cluster = step(cluster, Submit(create("x"), 0))
    newest = evolve(WATCH, options=Options(resource_version=str(cluster.history.revision)))
    for id, watch in enumerate((WATCH, newest)):
        cluster = step(sent(cluster, "b", id, watch), Arrive(("b", 1, id)))
    while (actions := list(enabled(cluster))) and cluster.now <= START + 5 * SECOND:
        cluster = step(cluster, actions[0])
    heard = [
        [e.object.metadata.name for e in each.events] for each in cluster.components["b"].state
    ]
    assert heard == [["x"]]


choices = st.lists(
    st.tuples(st.sampled_from("abcde"), st.integers(0, 1), st.integers(0, 2)), max_size=30
)


@given(choices)
def test_list_14_cluster_15_answers_and_writes_do_not_depend_on_the_server(drawn):
    """Any requests, at servers that catch up at any time: each answer is as on the newest state."""
    cluster, id = two_servers(), 0
    kinds = {"a": create, "b": delete, "c": get}
    for kind, server, which in drawn:
        if kind in kinds:
            id += 1
            channel = ("ab"[server], 1, id)
            cluster = sent(cluster, channel[0], id, kinds[kind](f"x{which}"))
            action = Arrive(channel)
        else:
            action = CatchUp(server) if kind == "d" else Submit(create(f"x{which}"), server)
        if is_enabled(cluster, action):
            after = step(cluster, action)
            assert not judge(cluster, action, after)
            cluster = after


def test_cluster_15_nothing_is_created_in_a_namespace_whose_deletion_was_not_seen():
    namespace = Namespace(metadata=ObjectMeta(name="team"))
    made = Request("create", NAMESPACES, body=namespace, user=ADMIN)
    cluster = step(step(two_servers(), Submit(made, 0)), CatchUp(1))
    gone = Request("delete", NAMESPACES, "", "team", body=DeleteOptions(), user=ADMIN)
    cluster = step(cluster, Submit(gone, 0))
    decided = carry_out(cluster, evolve(create("x"), namespace="team"), 1)
    assert 1 in cluster.caches and decided.outcome.code == 403
    assert decided.cluster.history is cluster.history


def test_cluster_15_a_transaction_that_conflicts_is_decided_again():
    cluster = step(two_servers(), Submit(create("x"), 0))
    cluster = step(cluster, CatchUp(1))
    cluster = step(cluster, Submit(delete("x"), 0))
    assert carry_out(cluster, delete("x"), 1).outcome.code == 404
    decided = carry_out(cluster, create("x"), 1)
    assert decided.outcome.code == 201 and 1 not in decided.cluster.caches


# --- CLUSTER-16, CLUSTER-17 -----------------------------------------------------------------------


def test_cluster_16_a_stopped_server_breaks_the_connections_of_its_components_and_of_no_other():
    cluster = two_servers()
    for name in "ab":
        cluster = step(sent(cluster, name, 1, WATCH), Arrive((name, 1, 1)))
        cluster = sent(cluster, name, 2, create(name))
    cluster = step(cluster, StopServer(1, START + 9 * SECOND))
    assert cluster.components["b"].state == (WatchEnded(1), Answered(2, None))
    assert set(cluster.watches) == {("a", 1, 1)} and set(cluster.flying) == {("a", 1, 2)}
    assert cluster.components["a"].state == ()
    cluster = sent(cluster, "b", 3, create("b"))
    cluster = step(cluster, Arrive(("a", 1, 2)))
    assert not is_enabled(cluster, Arrive(("b", 1, 3)))
    assert not is_enabled(cluster, Switch("a", 1)) and not is_enabled(
        cluster, Stale(1, cluster.now + 1)
    )
    moved = step(cluster, Switch("b", 0))
    assert is_enabled(sent(moved, "b", 4, create("b")), Arrive(("b", 1, 4)))
    while StartServer(1) not in (actions := list(enabled(cluster))):
        cluster = step(cluster, actions[0])
    assert cluster.now == START + 9 * SECOND
    cluster = step(cluster, StartServer(1))
    assert 1 not in cluster.caches and is_enabled(cluster, Arrive(("b", 1, 3)))


def test_cluster_17_a_server_without_the_store_writes_nothing_and_serves_old_reads():
    cluster = step(two_servers(), Submit(create("x"), 0))
    cluster = step(step(cluster, CatchUp(1)), CutOff(1, START + 9 * SECOND))
    cluster = step(cluster, Submit(create("y"), 0))
    for request, code in (
        (create("z"), 503),
        (get("x"), 503),
        (LIST, 503),
        (get("x", "1"), 200),
        (get("y", "1"), 503),
        (delete("y"), 503),
    ):
        decided = carry_out(cluster, request, 1)
        assert decided.outcome.code == code, request
        assert decided.cluster.history is cluster.history
    assert not is_enabled(cluster, CatchUp(1))
    later = step(cluster, Elapse(START + 9 * SECOND))
    assert carry_out(later, create("z"), 1).outcome.code == 201


def test_cluster_10_a_write_at_a_stale_server_takes_effect_and_is_answered_later():
    cluster = step(two_servers(), Stale(1, START + 5 * SECOND))
    cluster = step(sent(cluster, "b", 1, create("x")), Arrive(("b", 1, 1)))
    assert len(cluster.history.list(CONFIG_MAPS.prefix).records) == 1
    assert answer(cluster, "b", 1).code == 201 and not is_enabled(cluster, Answer(("b", 1, 1)))


# --- SIM-12 ---------------------------------------------------------------------------------------

REQUESTS = read_manifests(default_manifests())
OFTEN = {
    "switch": Rate(0.03, 200),
    "stale": Rate(0.02, 100),
    "cut-off": Rate(0.01, 50),
    "stop-server": Rate(0.01, 50),
    "lose-answer": Rate(0.02, 100),
    "conflict": Rate(0.02, 100),
}


@given(st.integers(0, 2**32), st.integers(2, 4))
@settings(max_examples=6, deadline=None)
def test_sim_12_every_rule_holds_with_several_api_servers(seed, apiservers):
    setup = Setup(seed=seed, steps=1_000, requests=REQUESTS, apiservers=apiservers, faults=OFTEN)
    run = simulate(setup)
    words = f"refk8s sim --seed {seed} --steps 1000 --apiservers {apiservers}"
    assert not run.broken, f"{run.broken[0]} ({words}, with more faults of API servers)"


def test_sim_12_sometimes_answers_and_writes_are_decided_by_servers_that_are_behind():
    tested, taken = Counter(), Counter()
    for seed in range(4):
        run = simulate(Setup(seed=seed, steps=900, requests=REQUESTS, faults=OFTEN))
        tested += run.tested
        taken += run.taken
    assert tested["LIST-14"] > 9 and tested["CLUSTER-15"] > 9
    assert taken["StartServer"] and taken["StopServer"] and taken["CutOff"] and taken["CatchUp"]
