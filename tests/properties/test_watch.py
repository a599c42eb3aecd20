"""Watches and views (spec/watch.md): WATCH-3 to WATCH-7, on one loop that only looks. WATCH-1 and
WATCH-2 are in test_loop.py. LOOP-16."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from workload_helpers import NOW

from refk8s.core.api.core_v1 import ConfigMap, ConfigMapList
from refk8s.core.api.custom import CustomList
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta, OwnerReference
from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.api.resource_v1 import DeviceTaintRule, DeviceTaintRuleList
from refk8s.core.api.resources import ALL, CONFIG_MAPS, DEVICE_TAINT_RULES, LATER, NODES, PODS
from refk8s.core.components import controller_manager
from refk8s.core.context import MILLISECOND, SECOND
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.kubelet import kubelet
from refk8s.core.loop.loop import Loop
from refk8s.core.loop.plan import NOTHING, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.state import is_synced
from refk8s.core.loop.view import (
    Fold,
    Viewer,
    controller_of,
    key_of,
    namespace_index,
    owner_index,
    split_key,
)
from refk8s.core.machine import Answered, Call, WakeAt, Watch, Watched, WatchEnded
from refk8s.core.network.proxy import proxy
from refk8s.core.scheduler.cycle import scheduler


class Looker(Reconciler):
    name = "looker"
    interests = (Interest(CONFIG_MAPS, own_key),)

    def reconcile(self, view, key, now, local):
        return NOTHING


def config_map(name: str, revision: int, owners: tuple[str, ...] = ()) -> ConfigMap:
    references = tuple(
        OwnerReference(api_version="v1", kind="ConfigMap", name=o, uid=o) for o in owners
    )
    metadata = ObjectMeta(
        name=name,
        namespace="default",
        uid=name,
        resource_version=str(revision),
        owner_references=references or None,
    )
    return ConfigMap(metadata=metadata)


def listed(revision: int, *names: str) -> Response:
    items = tuple(config_map(name, revision) for name in names)
    return Response(
        200, ConfigMapList(metadata=ListMeta(resource_version=str(revision)), items=items)
    )


def watching(revision: int, *names: str):
    """A loop that has listed these and watches; with the id of its watch."""
    loop = Loop("looker", [Looker()])
    state, effects = loop.start(NOW, b"x")
    [call] = [effect for effect in effects if isinstance(effect, Call)]
    state, effects = loop.step(state, [Answered(call.id, listed(revision, *names))], NOW)
    [watch] = [effect for effect in effects if isinstance(effect, Watch)]
    return loop, state, call.request, watch


def names_of(state) -> list[str]:
    return [obj.metadata.name for obj in state.view.list(CONFIG_MAPS)]


def test_watch_4_the_first_list_asks_for_the_newest_state_and_the_watch_goes_on_from_there():
    _, _, first, watch = watching(10, "a")
    assert first.verb == "list" and first.options.resource_version == ""
    assert (
        watch.request.options.resource_version == "10"
        and watch.request.options.allow_watch_bookmarks
    )


def test_watch_3_after_410_the_list_decides_what_is_gone():
    loop, state, _, watch = watching(10, "a", "b")
    state, effects = loop.step(state, [WatchEnded(watch.id, 410)], NOW)
    [call] = [effect for effect in effects if isinstance(effect, Call)]
    assert call.request.options.resource_version == ""
    state, effects = loop.step(state, [Answered(call.id, listed(20, "b", "c"))], NOW)
    assert names_of(state) == ["b", "c"]
    assert [
        effect.request.options.resource_version for effect in effects if isinstance(effect, Watch)
    ] == ["20"]


class Noting(Looker):
    """Remembers which keys it was asked to decide."""

    def start_memory(self, now):
        return ()

    def reconcile(self, view, key, now, local):
        return Plan(memory=(*local.memory, key))


some = st.dictionaries(st.sampled_from("abcd"), st.integers(1, 3))


@given(some, some)
def test_watch_3_after_a_relist_the_view_is_the_list_and_what_differs_is_due(before, after):
    """Objects by name, with the revision of their last change; LOOP-2 for what is due."""
    loop = Loop("looker", [Noting()])

    def told(revision, objects):
        items = tuple(config_map(name, at) for name, at in objects.items())
        return Response(
            200, ConfigMapList(metadata=ListMeta(resource_version=str(revision)), items=items)
        )

    def call_in(effects):
        [call] = [effect for effect in effects if isinstance(effect, Call)]
        return call.id

    state, effects = loop.start(NOW, b"x")
    state, effects = loop.step(state, [Answered(call_in(effects), told(10, before))], NOW)
    assert state.memories["looker"] == tuple(f"default/{name}" for name in before)
    [watch] = [effect for effect in effects if isinstance(effect, Watch)]
    state, effects = loop.step(state, [WatchEnded(watch.id, 410)], NOW)
    state, effects = loop.step(state, [Answered(call_in(effects), told(20, after))], NOW)
    assert {
        obj.metadata.name: int(obj.metadata.resource_version)
        for obj in state.view.list(CONFIG_MAPS)
    } == after
    assert state.view.table(CONFIG_MAPS).revision == 20
    differ = {
        f"default/{name}" for name in {*before, *after} if before.get(name) != after.get(name)
    }
    decided = state.memories["looker"][len(before) :]
    assert set(decided) == differ and len(decided) == len(differ)


def test_watch_2_a_cut_watch_goes_on_from_where_it_was():
    loop, state, _, watch = watching(10, "a")
    state, _ = loop.step(
        state, [Watched(watch.id, (WatchEvent("ADDED", config_map("b", 14), 14),))], NOW
    )
    state, effects = loop.step(state, [WatchEnded(watch.id)], NOW)
    [wake] = [effect for effect in effects if isinstance(effect, WakeAt)]
    state, effects = loop.step(state, [], wake.at)
    assert [
        effect.request.options.resource_version for effect in effects if isinstance(effect, Watch)
    ] == ["14"]


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=12))
def test_watch_5_in_one_delivery_too(told):
    loop, state, _, watch = watching(10, "a")
    events = [
        WatchEvent("DELETED" if gone else "MODIFIED", config_map("a", revision), revision)
        for revision, gone in told
    ]
    state, _ = loop.step(state, [Watched(watch.id, tuple(events))], NOW)
    reached, there = 10, True
    for revision, gone in told:
        if revision >= reached:
            reached, there = revision, not gone
    assert state.view.table(CONFIG_MAPS).revision == reached
    assert (names_of(state) == ["a"]) == there


@given(st.lists(st.tuples(st.integers(1, 30), st.booleans()), max_size=12))
def test_watch_5_what_has_been_heard_is_not_heard_again(told):
    """Events in any order: only those that go forward count."""
    loop, state, _, watch = watching(10, "a")
    reached, there = 10, True
    for revision, gone in told:
        event = WatchEvent("DELETED" if gone else "MODIFIED", config_map("a", revision), revision)
        state, _ = loop.step(state, [Watched(watch.id, (event,))], NOW)
        if revision >= reached:
            reached, there = revision, not gone
        assert state.view.table(CONFIG_MAPS).revision == reached
        assert (names_of(state) == ["a"]) == there


def test_watch_6_a_list_that_fails_rests_ever_longer_up_to_half_a_minute():
    loop = Loop("looker", [Looker()])
    state, effects = loop.start(NOW, b"x")
    now, waits = NOW, []
    for _ in range(16):
        [call] = [effect for effect in effects if isinstance(effect, Call)]
        state, effects = loop.step(state, [Answered(call.id, None)], now)
        [wake] = [effect for effect in effects if isinstance(effect, WakeAt)]
        waits.append(wake.at - now)
        now = wake.at
        state, effects = loop.step(state, [], now)
    assert (
        waits[:4] == [10 * MILLISECOND, 20 * MILLISECOND, 40 * MILLISECOND, 80 * MILLISECOND]
        and waits[-1] == 30 * SECOND
    )


changes = st.lists(
    st.tuples(
        st.sampled_from("abcd"),
        st.one_of(st.none(), st.lists(st.sampled_from("xyz"), max_size=2, unique=True)),
    ),
    max_size=20,
)


@given(changes)
def test_watch_7_indexes_and_folds_equal_their_recomputation(drawn):
    def count(total, resource, old, new):
        assert resource is CONFIG_MAPS
        return total + (new is not None) - (old is not None)

    viewer = Viewer(
        [CONFIG_MAPS],
        [owner_index(CONFIG_MAPS), namespace_index(CONFIG_MAPS)],
        [Fold("count", (CONFIG_MAPS,), 0, count)],
    )
    view = viewer.empty()
    for revision, (name, owners) in enumerate(drawn, 2):
        new = None if owners is None else config_map(name, revision, tuple(owners))
        view, _ = viewer.apply(view, CONFIG_MAPS, [(f"default/{name}", new)], revision)
        everything = view.list(CONFIG_MAPS)
        assert view.fold("count") == len(everything) == view.count(CONFIG_MAPS)
        assert view.indexed(CONFIG_MAPS, "namespace", "default") == everything
        assert (
            view.indexed(CONFIG_MAPS, "namespace", "other")
            == []
            == view.indexed(CONFIG_MAPS, "unheard of", "default")
        )
        assert (
            [view.get(CONFIG_MAPS, key) for key in view.keys(CONFIG_MAPS)]
            == everything
            == view.list(CONFIG_MAPS)
        )
        assert view.list(PODS) == [] == view.keys(PODS)
        for owner in "xyz":
            scanned = [
                o
                for o in everything
                if any(r.uid == owner for r in o.metadata.owner_references or ())
            ]
            assert view.indexed(CONFIG_MAPS, "owner", owner) == scanned


@given(st.sampled_from(["", "default"]), st.sampled_from(["a", "web-0"]))
def test_watch_7_a_key_is_namespace_and_name(namespace, name):
    obj = ConfigMap(metadata=ObjectMeta(name=name, namespace=namespace or None))
    assert key_of(obj) == (f"{namespace}/{name}" if namespace else name)
    assert split_key(key_of(obj)) == (namespace, name)
    assert NODES.namespaced or namespace_index(NODES).values(obj) == (namespace,)


@given(st.lists(st.booleans() | st.none(), max_size=3))
def test_watch_7_the_controller_is_the_one_owner_that_says_so(says):
    references = tuple(
        OwnerReference(api_version="v1", kind="X", name=str(n), uid=str(n), controller=c)
        for n, c in enumerate(says)
    )
    found = controller_of(
        ConfigMap(metadata=ObjectMeta(name="a", owner_references=references or None))
    )
    assert found == next(
        (reference for reference in references if reference.controller is True), None
    )


@given(st.lists(changes, min_size=1, max_size=3))
def test_watch_7_what_comes_at_once_is_what_comes_one_by_one(bursts):
    """A burst that names the gone and the unknown among others takes effect as a whole."""
    viewer = Viewer([CONFIG_MAPS], [owner_index(CONFIG_MAPS)], [])
    view = one_by_one = viewer.empty()
    for revision, burst in enumerate(bursts, 2):
        told = [
            (
                f"default/{name}",
                None if owners is None else config_map(name, revision, tuple(owners)),
            )
            for name, owners in burst
        ]
        view, _ = viewer.apply(view, CONFIG_MAPS, told, revision)
        for change in told:
            one_by_one, _ = viewer.apply(one_by_one, CONFIG_MAPS, [change], revision)
        assert view.list(CONFIG_MAPS) == one_by_one.list(CONFIG_MAPS)
        assert [view.indexed(CONFIG_MAPS, "owner", o) for o in "xyz"] == [
            one_by_one.indexed(CONFIG_MAPS, "owner", o) for o in "xyz"
        ]


def test_watch_1_a_resource_that_is_not_watched_has_no_objects_in_the_view():
    view = Viewer([CONFIG_MAPS], [owner_index(CONFIG_MAPS)], []).empty()
    assert view.get(NODES, "a") is None and view.get(CONFIG_MAPS, "ns/a") is None
    assert view.list(NODES) == view.keys(NODES) == view.indexed(NODES, "owner", "u") == []
    assert view.count(NODES) == 0


# --- resources that an older API server does not serve --------------------------------------------


def _asked(effects, resource):
    [call] = [e for e in effects if isinstance(e, Call) and e.request.resource == resource]
    return call


def _rules(revision, *names):
    items = tuple(
        DeviceTaintRule(metadata=ObjectMeta(name=name, resource_version=str(revision)))
        for name in names
    )
    metadata = ListMeta(resource_version=str(revision))
    return Response(200, DeviceTaintRuleList(metadata=metadata, items=items))


class Both(Noting):
    interests = (Interest(CONFIG_MAPS, own_key), Interest(DEVICE_TAINT_RULES, own_key))


def test_loop_16_a_resource_that_is_not_served_is_empty_until_it_is_served():
    loop = Loop("looker", [Both()])
    state, effects = loop.start(NOW, b"x")
    rules = _asked(effects, DEVICE_TAINT_RULES)
    answer = Answered(_asked(effects, CONFIG_MAPS).id, listed(10, "a"))
    state, _ = loop.step(state, [answer], NOW)
    assert state.memories["looker"] == ()  # LOOP-1
    state, effects = loop.step(state, [Answered(rules.id, Response(404, None))], NOW)
    assert state.memories["looker"] == ("default/a",)
    [wake] = [each for each in effects if isinstance(each, WakeAt)]
    assert wake.at == NOW + 300 * SECOND
    state, effects = loop.step(state, [], wake.at - 1)
    assert not [each for each in effects if isinstance(each, Call)]

    state, effects = loop.step(state, [], wake.at)  # the server has been upgraded
    again = _asked(effects, DEVICE_TAINT_RULES)
    state, effects = loop.step(state, [Answered(again.id, _rules(20, "r"))], wake.at)
    assert state.memories["looker"][-1] == "r" and state.view.count(DEVICE_TAINT_RULES) == 1
    [watch] = [each for each in effects if isinstance(each, Watch)]

    state, effects = loop.step(state, [WatchEnded(watch.id, 404)], wake.at)  # and the other way
    again = _asked(effects, DEVICE_TAINT_RULES)
    state, effects = loop.step(state, [Answered(again.id, Response(404, None))], wake.at)
    assert state.memories["looker"][1:] == ("r", "r") and not state.view.count(DEVICE_TAINT_RULES)


@given(st.sampled_from([one for one in ALL if "watch" in one.verbs]), st.sampled_from([404, 403, 500]))  # fmt: skip
def test_loop_16_only_of_later_resources_and_only_404_means_that(resource, code):
    class One(Noting):
        interests = (Interest(resource, own_key),)
        initial_keys = ("first",)

    loop = Loop("looker", [One()])
    state, effects = loop.start(NOW, b"x")
    call = _asked(effects, resource)
    state, effects = loop.step(state, [Answered(call.id, Response(code, None))], NOW)
    [wake] = [each for each in effects if isinstance(each, WakeAt)]
    is_missing = code == 404 and resource in LATER
    assert bool(state.memories["looker"]) == is_missing
    assert (wake.at - NOW == 300 * SECOND) == is_missing


def empty_list(resource, revision=10):
    """The answer to a list of a resource without objects."""
    metadata = ListMeta(resource_version=str(revision))
    kind, version = f"{resource.kind}List", resource.api_version
    return Response(200, CustomList(kind=kind, api_version=version, metadata=metadata, items=()))


@pytest.mark.parametrize("name", ["controllers", "scheduler", "kubelet", "proxy"])
def test_loop_16_every_component_works_with_an_older_api_server(name):
    """It serves no resource that became generally available later."""
    loop = {
        "controllers": controller_manager,
        "scheduler": scheduler,
        "kubelet": lambda: kubelet("n", KubeletConfig()),
        "proxy": lambda: proxy("n"),
    }[name]()
    state, effects = loop.start(NOW, b"x")
    asked = [each for each in effects if isinstance(each, Call) and each.request.verb == "list"]
    assert len(asked) > 2
    for call in asked:
        is_later = call.request.resource in LATER
        answer = Response(404, None) if is_later else empty_list(call.request.resource)
        assert not is_synced(state.informers, state.view)
        state, _ = loop.step(state, [Answered(call.id, answer)], NOW)
    assert is_synced(state.informers, state.view)
