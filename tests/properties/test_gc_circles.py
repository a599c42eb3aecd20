"""Owners that own each other, and owners in the wrong namespace: GC-10 and GC-11
(spec/workloads/garbage_collector.md)."""

from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run, settle
from test_gc import build, decide, marked, owned, release, stored
from workload_helpers import ask, nothing_wrong

from refk8s.core.api.core_v1 import ConfigMap, Node
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import CONFIG_MAPS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.garbage_collector import GarbageCollector

FAULTS = ["lose", "give up", "cut", "compact", "crash"]


@st.composite
def tangles(draw):
    """Owners of each object, later ones and itself among them; who is deleted, and who is held by
    somebody's finalizer."""
    count = draw(st.integers(1, 5))
    one = st.tuples(st.integers(0, count - 1), st.booleans())
    owners = [
        draw(st.lists(one, min_size=1, max_size=2, unique_by=lambda owner: owner[0]))
        for _ in range(count)
    ]
    doomed = draw(
        st.lists(
            st.tuples(
                st.integers(0, count - 1),
                st.sampled_from(["Foreground", "Foreground", "Background"]),
            ),
            min_size=1,
        )
    )
    return owners, doomed, draw(st.sets(st.integers(0, count - 1), max_size=1))


def tangled(owners, held=()) -> Cluster:
    """The objects exist first; then each gets its owners."""
    cluster = build([[] for _ in owners], held)
    known = stored(cluster)
    for number, mine in enumerate(owners):
        references = [
            {
                "apiVersion": "v1",
                "kind": "ConfigMap",
                "name": f"o{i}",
                "uid": known[f"o{i}"].metadata.uid,
                "blockOwnerDeletion": blocks,
            }
            for i, blocks in mine
        ]
        body = Patch("application/merge-patch+json", {"metadata": {"ownerReferences": references}})
        cluster = ask(
            cluster, Request("patch", CONFIG_MAPS, "default", f"o{number}", body=body, user=ADMIN)
        )
    return start_all(cluster)


def delete(cluster: Cluster, name: str, policy: str) -> Cluster:
    if name not in stored(cluster):
        return cluster
    return ask(
        cluster,
        Request(
            "delete",
            CONFIG_MAPS,
            "default",
            name,
            body=DeleteOptions(propagation_policy=policy),
            user=ADMIN,
        ),
    )


@given(tangles(), choices)
def test_gc_10_nothing_waits_for_ever_in_any_circle(tangle, drawn):
    owners, doomed, held = tangle
    cluster = settle(tangled(owners, held), nothing_wrong)
    for number, policy in doomed:
        cluster = delete(cluster, f"o{number}", policy)
        cluster = run(cluster, drawn, nothing_wrong, FAULTS)
    cluster = settle(release(settle(cluster, nothing_wrong)), nothing_wrong)
    assert not [name for name, obj in stored(cluster).items() if marked(obj)]


@given(st.integers(1, 5), st.data())
def test_gc_10_a_circle_goes_as_a_whole_and_waits_as_a_whole(size, data):
    """Each blocks the next; one of them has a dependent outside, which blocks it and is held."""
    ring = [[((number - 1) % size, True)] for number in range(size)]
    hung = data.draw(st.integers(0, size - 1))
    cluster = settle(tangled([*ring, [(hung, True)]], {size}), nothing_wrong)
    cluster = settle(
        delete(cluster, f"o{data.draw(st.integers(0, size - 1))}", "Foreground"), nothing_wrong
    )
    assert sorted(stored(cluster)) == [f"o{number}" for number in range(size + 1)], (
        "the circle waits for what it cannot end"
    )
    assert stored(settle(release(cluster), nothing_wrong)) == {}


def test_gc_10_an_owner_looks_again_when_a_dependent_no_longer_blocks_it():
    cluster = settle(tangled([[], [(0, True)]][:2], {1}), nothing_wrong)
    cluster = settle(delete(cluster, "o0", "Foreground"), nothing_wrong)
    assert set(stored(cluster)) == {"o0", "o1"}
    uid = stored(cluster)["o0"].metadata.uid
    reference = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "name": "o0",
        "uid": uid,
        "blockOwnerDeletion": False,
    }
    body = Patch("application/merge-patch+json", {"metadata": {"ownerReferences": [reference]}})
    cluster = ask(cluster, Request("patch", CONFIG_MAPS, "default", "o1", body=body, user=ADMIN))
    assert set(stored(settle(cluster, nothing_wrong))) == {"o1"}


def test_gc_11_an_owner_in_another_namespace_is_reported_where_the_picture_shows_it():
    collector = GarbageCollector()
    owner = ConfigMap(metadata=ObjectMeta(name="owner", namespace="other", uid="uid-owner"))
    plan = decide(collector, owned("uid-owner"), owner)
    [note] = plan.notes
    assert (note.type, note.reason) == (
        "Warning",
        "OwnerRefInvalidNamespace",
    ) and note.regarding.metadata.name == "child"
    named = "[v1/ConfigMap, namespace: default, name: owner, uid: uid-owner]"
    assert note.message == f'ownerRef {named} does not exist in namespace "default"'
    assert len(plan.queries) == 1, "and its absence is looked up as ever (GC-2)"
    assert decide(collector, owned("uid-owner")).notes == ()
    here = ConfigMap(metadata=ObjectMeta(name="owner", namespace="default", uid="uid-owner"))
    assert decide(collector, owned("uid-owner"), here).notes == ()
    node = Node(
        metadata=ObjectMeta(
            name="n", uid="uid-n", owner_references=owned("uid-owner").metadata.owner_references
        )
    )
    [note] = decide(collector, node, owner).notes
    assert note.message.endswith('does not exist in namespace ""')
    assert collector.component == "garbage-collector-controller"


def test_gc_11_an_owner_that_comes_later_is_news_to_the_dependents_that_name_it():
    from refk8s.core.loop.view import Viewer, key_of

    collector = GarbageCollector()
    viewer = Viewer(
        [interest.resource for interest in collector.interests], collector.indexes, collector.folds
    )
    view = viewer.empty()
    child, owner = (
        owned("uid-owner"),
        ConfigMap(metadata=ObjectMeta(name="owner", namespace="other", uid="uid-owner")),
    )
    for obj in (child, owner):
        view, changes = viewer.apply(view, CONFIG_MAPS, [(key_of(obj), obj)], 1)
    [(_, old, new)] = changes
    assert "uid-child" in next(i for i in collector.interests if i.resource is CONFIG_MAPS).keys(
        view, old, new
    )
