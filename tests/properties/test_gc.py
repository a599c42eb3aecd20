"""Garbage collection (spec/workloads/garbage_collector.md): ownership graphs of config maps, cut at
random, under faults."""

from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run, settle
from workload_helpers import ask, new_cluster, sent

from refk8s.core.api.core_v1 import ConfigMap, Node
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, OwnerReference
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import CONFIG_MAPS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.garbage_collector import FOREGROUND, ORPHAN, GarbageCollector
from refk8s.core.loop.plan import Local

FAULTS = ["lose", "give up", "cut", "compact", "crash"]
HOLD = "example.com/hold"
POLICIES = ["Background", "Foreground", "Orphan"]


def stored(cluster: Cluster) -> dict[str, ConfigMap]:
    return {
        r.value.metadata.name: r.value
        for r in cluster.history.list(CONFIG_MAPS.prefix).records
        if r.value.metadata.name != "kube-root-ca.crt"
    }


@st.composite
def graphs(draw):
    """(owners of each object among the earlier ones, blocking or not), deletions (which, how), and
    who is held by somebody's finalizer."""
    count = draw(st.integers(1, 6))
    owners = [
        draw(
            st.lists(
                st.tuples(st.integers(0, i - 1), st.booleans()),
                max_size=2,
                unique_by=lambda o: o[0],
            )
        )
        if i
        else []
        for i in range(count)
    ]
    deletions = draw(
        st.lists(
            st.tuples(st.integers(0, count - 1), st.sampled_from(POLICIES)), min_size=1, max_size=3
        )
    )
    return owners, deletions, draw(st.sets(st.integers(0, count - 1), max_size=2))


def build(owners, held=()) -> Cluster:
    cluster = new_cluster(GarbageCollector())
    for number, mine in enumerate(owners):
        known = stored(cluster)
        references = tuple(
            OwnerReference(
                api_version="v1",
                kind="ConfigMap",
                name=f"o{i}",
                uid=known[f"o{i}"].metadata.uid,
                block_owner_deletion=blocks or None,
            )
            for i, blocks in mine
        )
        finalizers = (HOLD,) if number in held else None
        body = ConfigMap(
            metadata=ObjectMeta(
                name=f"o{number}", owner_references=references or None, finalizers=finalizers
            )
        )
        cluster = ask(
            cluster, Request("create", CONFIG_MAPS, "default", f"o{number}", body=body, user=ADMIN)
        )
    return cluster


def uids(objects) -> set[str]:
    return {obj.metadata.uid for obj in objects.values()}


def marked(obj) -> bool:
    return obj is not None and obj.metadata.deletion_timestamp is not None


def make_laws():
    """GC-1, GC-5, GC-7, as they show in the store, step by step.

    An owner that somebody's finalizer holds may have waited for its dependents and wait no longer
    when one of their deletions arrives.
    """
    waited: set[str] = set()

    def check(before: Cluster, after: Cluster) -> list[str]:
        waited.update(
            obj.metadata.uid
            for obj in stored(before).values()
            if FOREGROUND in (obj.metadata.finalizers or ())
        )
        return laws(before, after, waited)

    return check


def laws(before: Cluster, after: Cluster, waited: set[str]) -> list[str]:
    wrong, old, new = [], stored(before), stored(after)
    if old == new:
        return wrong
    present = uids(old)
    for name, obj in old.items():
        owners = obj.metadata.owner_references or ()
        newly = name not in new or (marked(new[name]) and not marked(obj))
        if newly and not marked(obj) and owners:
            solid = [o for o in owners if o.uid in present and o.uid not in waited]
            if solid:
                wrong.append(f"GC-1: {name} is deleted although its owner {solid[0].name} is there")
        if name not in new and FOREGROUND in (obj.metadata.finalizers or ()):
            uid = obj.metadata.uid
            blocking = [
                c
                for c, o in old.items()
                if any(
                    r.uid == uid and r.block_owner_deletion
                    for r in o.metadata.owner_references or ()
                )
            ]
            if blocking:
                wrong.append(f"GC-5: {name} is gone before {blocking[0]}")
        if name not in new and ORPHAN in (obj.metadata.finalizers or ()):
            left = [
                c
                for c, o in old.items()
                if any(r.uid == obj.metadata.uid for r in o.metadata.owner_references or ())
            ]
            if left:
                wrong.append(f"GC-7: {name} is gone before {left[0]} lost the reference")
    return wrong


def release(cluster: Cluster) -> Cluster:
    """Somebody takes his finalizer off whatever bears it."""
    for name, obj in stored(cluster).items():
        if HOLD in (obj.metadata.finalizers or ()):
            rest = [finalizer for finalizer in obj.metadata.finalizers if finalizer != HOLD]
            body = Patch("application/merge-patch+json", {"metadata": {"finalizers": rest or None}})
            cluster = ask(
                cluster, Request("patch", CONFIG_MAPS, "default", name, body=body, user=ADMIN)
            )
    return cluster


@given(graphs())
def test_gc_5_a_foreground_owner_outlives_blocking_dependents_however_long_they_take(graph):
    """Every dependent takes for ever, until it is released."""
    owners, _, _ = graph
    laws = make_laws()
    cluster = settle(start_all(build(owners, range(1, len(owners)))), laws)
    cluster = ask(
        cluster,
        Request(
            "delete",
            CONFIG_MAPS,
            "default",
            "o0",
            body=DeleteOptions(propagation_policy="Foreground"),
            user=ADMIN,
        ),
    )
    cluster = settle(cluster, laws)
    waiting = stored(cluster)
    present = uids(waiting)
    for name, obj in waiting.items():
        for reference in obj.metadata.owner_references or ():
            assert reference.uid in present or not reference.block_owner_deletion, (
                f"{reference.name} did not wait for {name}"
            )
    left = stored(settle(release(cluster), laws))
    assert "o0" not in left
    assert all(
        r.uid in uids(left) for obj in left.values() for r in obj.metadata.owner_references or ()
    )


@given(graphs(), choices)
def test_gc_4_exactly_the_ownerless_go_however_watches_and_answers_come(graph, drawn):
    owners, deletions, held = graph
    laws = make_laws()
    cluster = start_all(build(owners, held))
    for which, policy in deletions:
        if f"o{which}" in stored(cluster):
            # The user deletes something of his own: whatever owns it has nothing to say.
            body = DeleteOptions(propagation_policy=policy)
            cluster = ask(
                cluster,
                Request("delete", CONFIG_MAPS, "default", f"o{which}", body=body, user=ADMIN),
            )
        cluster = run(cluster, drawn, laws, FAULTS)
    cluster = settle(release(settle(cluster, laws)), laws)
    left = stored(cluster)
    present = uids(left)
    for name, obj in left.items():
        assert not marked(obj), f"{name} still waits: {obj.metadata.finalizers}"
        references = obj.metadata.owner_references or ()
        assert not references or all(r.uid in present for r in references), (
            f"GC-3/GC-4: {name} names an owner that is gone"
        )


@given(graphs())
def test_gc_7_orphaned_dependents_survive(graph):
    owners, _, _ = graph
    laws = make_laws()
    cluster = settle(start_all(build(owners)), laws)
    children = [n for n, mine in enumerate(owners) if any(i == 0 for i, _ in mine)]
    cluster = ask(
        cluster,
        Request(
            "delete",
            CONFIG_MAPS,
            "default",
            "o0",
            body=DeleteOptions(propagation_policy="Orphan"),
            user=ADMIN,
        ),
    )
    cluster = settle(cluster, laws)
    left = stored(cluster)
    assert "o0" not in left
    assert all(f"o{n}" in left for n in children)


def owned(uid: str, kind: str = "ConfigMap", finalizers=None, **more) -> ConfigMap:
    reference = OwnerReference(api_version="v1", kind=kind, name="owner", uid=uid, **more)
    return ConfigMap(
        metadata=ObjectMeta(
            name="child",
            namespace="default",
            uid="uid-child",
            resource_version="7",
            owner_references=(reference,),
            finalizers=finalizers,
        )
    )


def decide(collector: GarbageCollector, obj, *others, memory=None):
    from immutables import Map
    from workload_helpers import NOW, view_of

    return collector.reconcile(
        view_of(collector, obj, *others),
        obj.metadata.uid,
        NOW,
        Local(Map() if memory is None else memory),
    )


def test_gc_2_an_owner_that_is_not_shown_is_asked_for_and_only_a_clear_no_counts():
    collector = GarbageCollector()
    child = owned("uid-owner")
    plan = decide(collector, child)
    assert [ask.verb for ask in plan.queries] == ["get"] and not sent(plan, "delete")
    for response, deletes in ((None, 0), (Response(500, None), 0), (Response(404, None), 1)):
        memory, _ = collector.answered(
            collector.start_memory(0), "uid-child", plan.queries[0], response, 0
        )
        assert len(sent(decide(collector, child, memory=memory), "delete")) == deletes
    there = Response(200, ConfigMap(metadata=ObjectMeta(name="owner", uid="uid-owner")))
    memory, _ = collector.answered(
        collector.start_memory(0), "uid-child", plan.queries[0], there, 0
    )
    assert not sent(decide(collector, child, memory=memory), "delete")
    another = Response(200, ConfigMap(metadata=ObjectMeta(name="owner", uid="uid-another")))
    memory, _ = collector.answered(
        collector.start_memory(0), "uid-child", plan.queries[0], another, 0
    )
    [deletion] = sent(decide(collector, child, memory=memory), "delete")
    # GC-1
    assert (deletion.body.preconditions.uid, deletion.body.preconditions.resource_version) == (
        "uid-child",
        "7",
    )


def test_gc_6_gc_8_the_policy_follows_the_waiting_owner_and_the_own_finalizers():
    """GC-6, GC-8."""
    collector = GarbageCollector()
    owner = ConfigMap(
        metadata=ObjectMeta(
            name="owner",
            namespace="default",
            uid="uid-owner",
            deletion_timestamp="2026-01-01T00:00:00Z",
            finalizers=(FOREGROUND,),
        )
    )
    grandchild = ConfigMap(
        metadata=ObjectMeta(
            name="g",
            namespace="default",
            uid="uid-g",
            owner_references=(
                OwnerReference(api_version="v1", kind="ConfigMap", name="child", uid="uid-child"),
            ),
        )
    )
    [deletion] = sent(decide(collector, owned("uid-owner"), owner, grandchild), "delete")
    assert deletion.body.propagation_policy == "Foreground"
    [deletion] = sent(decide(collector, owned("uid-owner"), owner), "delete")
    assert deletion.body.propagation_policy == "Background"
    [deletion] = sent(decide(collector, owned("uid-owner", finalizers=(ORPHAN,)), owner), "delete")
    assert deletion.body.propagation_policy == "Orphan"


def test_gc_9_nothing_is_deleted_for_an_owner_that_cannot_be():
    collector = GarbageCollector()
    assert not decide(collector, owned("uid-x", kind="Deploymnet")).waves
    reference = OwnerReference(api_version="v1", kind="ConfigMap", name="owner", uid="uid-x")
    node = Node(metadata=ObjectMeta(name="n", uid="uid-n", owner_references=(reference,)))
    plan = decide(collector, node)
    assert not plan.waves and not plan.queries


def test_gc_3_a_reference_to_a_gone_owner_is_taken_off_while_another_is_there():
    collector = GarbageCollector()
    solid = ConfigMap(metadata=ObjectMeta(name="solid", namespace="default", uid="uid-solid"))
    both = tuple(
        OwnerReference(api_version="v1", kind="ConfigMap", name=n, uid=f"uid-{n}")
        for n in ("solid", "gone")
    )
    child = ConfigMap(
        metadata=ObjectMeta(
            name="child",
            namespace="default",
            uid="uid-child",
            resource_version="7",
            owner_references=both,
        )
    )
    [question] = decide(collector, child, solid).queries
    memory, _ = collector.answered(
        collector.start_memory(0), "uid-child", question, Response(404, None), 0
    )
    [patch] = sent(decide(collector, child, solid, memory=memory), "patch")
    assert [r["name"] for r in patch.body.document["metadata"]["ownerReferences"]] == ["solid"]
