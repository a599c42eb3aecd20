"""Laws of deletion, rules DEL-1 ... DEL-12 (spec/api.md): over histories of requests, and case by
case where the rule is a table."""

from __future__ import annotations

import json

import pytest
from api_world import KINDS, World, an_object, finalizer_tuples, histories, populated, run
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Namespace, NamespaceSpec, PodStatus, ServiceAccount
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.delete import propagation
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.context import SECOND, parse_timestamp
from refk8s.core.properties.predicates import api as must
from refk8s.core.value import evolve

HELD = ("example.com/hold",)


def delete(world: World, kind=resources.CONFIG_MAPS, name="a", body=None, **options):
    return world.do(
        Request("delete", kind, "default", name, body=body or DeleteOptions(**options), user=ADMIN)
    )


def a_pod(world: World, *, node="node-1", phase="Running", grace: int | None = 30, finalizers=None):
    """A pod as it is while it runs on a node (or waits for one)."""
    pod = an_object(resources.PODS, ObjectMeta(name="p", finalizers=finalizers))
    pod = replace(
        pod, spec=replace(pod.spec, termination_grace_period_seconds=grace, node_name=node or None)
    )
    assert (
        world.do(Request("create", resources.PODS, "default", body=pod, user=ADMIN)).response.code
        == 201
    )
    made = world.get(resources.PODS, "p")
    world.do(
        Request(
            "update",
            resources.PODS,
            "default",
            "p",
            "status",
            body=replace(made, status=PodStatus(phase=phase)),
            user=ADMIN,
        )
    )
    return world.get(resources.PODS, "p")


# --- every change, whoever asked for it


@given(histories(size=40))
def test_del_2_del_4_del_12_every_change_keeps_the_rules_of_deletion(sequence):
    # Shows DEL-2.a DEL-2.b DEL-4.c DEL-12.a.
    world = run(sequence)
    for taken in world.taken:
        for change in taken.changes:
            for rule in (
                must.del_2_deletion_timestamp_never_moves_later,
                must.del_4_removed_without_finalizers,
                must.del_12_no_new_finalizers_while_being_deleted,
            ):
                assert not list(rule(change)), taken.request


@given(histories(size=40))
def test_del_1_only_a_delete_marks(sequence):
    """And the mark of a first delete is the instant of the request and the grace, with a generation
    more."""
    # Shows DEL-1.a DEL-1.b.
    world = run(sequence)
    for taken in world.taken:
        for change in taken.changes:
            if change.record is None or change.previous is None:
                continue
            before, after = change.previous.value.metadata, change.record.value.metadata
            if before.deletion_timestamp is None and after.deletion_timestamp is not None:
                assert taken.request.verb in ("delete", "deletecollection")
                assert after.deletion_grace_period_seconds is not None
                asked = (
                    parse_timestamp(after.deletion_timestamp)
                    - after.deletion_grace_period_seconds * SECOND
                )
                assert asked <= world.now and asked % SECOND == 0
                assert (after.generation or 0) == (
                    before.generation + 1 if before.generation else 0
                )


@given(histories(size=40))
def test_del_4_an_object_that_goes_was_asked_to(sequence):
    # Shows DEL-4.c.
    for taken in run(sequence).taken:
        for change in taken.changes:
            if change.record is None:
                marked = change.previous.value.metadata.deletion_timestamp is not None
                assert taken.request.verb in ("delete", "deletecollection") or marked


# --- finalizers


@given(st.sampled_from([kind for kind in KINDS if kind != resources.PODS]), finalizer_tuples)
def test_del_1_del_4_an_object_with_finalizers_is_marked_and_goes_with_the_last_of_them(
    kind, finalizers
):
    # Shows DEL-1.a DEL-1.b DEL-4.a DEL-4.b.
    world = World()
    world.do(
        Request(
            "create",
            kind,
            "default",
            body=an_object(kind, ObjectMeta(name="a", finalizers=finalizers), 1),
            user=ADMIN,
        )
    )
    before = world.get(kind, "a")
    first = delete(world, kind, propagation_policy="Background")
    assert first.response.code == 200
    if not finalizers:
        assert world.get(kind, "a") is None
        return
    marked = world.get(kind, "a")
    assert first.response.body == marked and marked.metadata.deletion_grace_period_seconds == 0
    assert parse_timestamp(marked.metadata.deletion_timestamp) == world.now
    assert (marked.metadata.generation or 0) == (
        before.metadata.generation + 1 if before.metadata.generation else 0
    )
    assert delete(world, kind, propagation_policy="Background").response.body == marked, (
        "a second delete changes nothing"
    )
    left = list(finalizers)
    while left:
        left.pop()
        said = world.do(
            Request(
                "patch",
                kind,
                "default",
                "a",
                body=Patch("application/merge-patch+json", {"metadata": {"finalizers": left}}),
                user=ADMIN,
            )
        ).response
        assert said.code == 200 and tuple(said.body.metadata.finalizers or ()) == tuple(left)
        assert (world.get(kind, "a") is None) == (not left)


def test_del_12_a_new_finalizer_on_what_is_going_is_refused():
    # Shows DEL-12.a DEL-12.b.
    world = World()
    body = an_object(resources.CONFIG_MAPS, ObjectMeta(name="a", finalizers=HELD))
    world.do(Request("create", resources.CONFIG_MAPS, "default", body=body, user=ADMIN))
    delete(world)
    more = Patch(
        "application/merge-patch+json", {"metadata": {"finalizers": [*HELD, "example.com/more"]}}
    )
    taken = world.do(Request("patch", resources.CONFIG_MAPS, "default", "a", body=more, user=ADMIN))
    assert taken.response.code == 422 and not taken.changes
    assert taken.response.body.details.causes[0].field == "metadata.finalizers"


# --- preconditions


@given(
    st.sampled_from(KINDS),
    st.sampled_from(["uid", "version", "both"]),
    st.sampled_from([None, HELD]),
)
def test_del_3_a_delete_that_means_another_object_or_state_changes_nothing(kind, wrong, finalizers):
    # Shows DEL-3.a.
    world = World()
    world.do(
        Request(
            "create",
            kind,
            "default",
            body=an_object(kind, ObjectMeta(name="a", finalizers=finalizers)),
            user=ADMIN,
        )
    )
    there = world.get(kind, "a").metadata
    uid = "1-2-3" if wrong in ("uid", "both") else there.uid
    version = "1" if wrong in ("version", "both") else there.resource_version
    refused = delete(
        world,
        kind,
        body=DeleteOptions(preconditions=Preconditions(uid=uid, resource_version=version)),
    )
    assert refused.response.code == 409 and refused.after is refused.before
    right = DeleteOptions(
        preconditions=Preconditions(uid=there.uid, resource_version=there.resource_version)
    )
    assert delete(world, kind, body=right).response.code == 200


# --- what it answers


@pytest.mark.parametrize("kind", [*KINDS, resources.SERVICE_ACCOUNTS])
def test_del_5_a_delete_answers_with_the_object_or_with_what_it_was(kind):
    # Shows DEL-5.b DEL-5.c.
    world = World()
    obj = (
        ServiceAccount(metadata=ObjectMeta(name="a"))
        if kind == resources.SERVICE_ACCOUNTS
        else an_object(kind, ObjectMeta(name="a"))
    )
    world.do(Request("create", kind, "default", body=obj, user=ADMIN))
    uid = world.get(kind, "a").metadata.uid
    said = delete(world, kind, propagation_policy="Background").response.body
    if strategy_of(kind).answers_deleted:
        assert said.kind == kind.kind and said.metadata.uid == uid
    else:
        assert said.kind == "Status" and said.status == "Success"
        assert (
            said.details.name,
            said.details.uid,
            said.details.kind,
            said.details.group or "",
        ) == ("a", uid, kind.plural, kind.group)
    assert delete(world, kind).response.code == 404


def test_del_5_the_legacy_way_of_asking_is_answered_with_202_while_the_object_stays():
    # Shows DEL-5.a.
    world = World()
    world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "default",
            body=an_object(resources.CONFIG_MAPS, ObjectMeta(name="a", finalizers=HELD)),
            user=ADMIN,
        )
    )
    assert delete(world, orphan_dependents=False).response.code == 202


# --- dependents


@given(
    st.sampled_from(
        [resources.CONFIG_MAPS, resources.JOBS, resources.REPLICATION_CONTROLLERS, resources.EVENTS]
    ),
    st.sampled_from([(), ("orphan",), ("foregroundDeletion",)]),
    st.sampled_from([None, "Foreground", "Background", "Orphan"]),
    st.sampled_from([None, True, False]),
)
def test_del_6_what_is_asked_counts_before_what_stands_there_and_that_before_the_usual(
    kind, present, policy, orphan
):
    # Shows DEL-6.b DEL-6.c DEL-6.d.
    if policy and orphan is not None:
        return
    found = propagation(
        strategy_of(kind),
        present,
        DeleteOptions(propagation_policy=policy, orphan_dependents=orphan),
    )
    asked = policy or {True: "Orphan", False: "Background", None: None}[orphan]
    standing = (
        {"orphan": "Orphan", "foregroundDeletion": "Foreground"}[present[0]] if present else None
    )
    usual = (
        "Orphan" if kind in (resources.JOBS, resources.REPLICATION_CONTROLLERS) else "Background"
    )
    assert found == ("Background" if kind == resources.EVENTS else asked or standing or usual)


@pytest.mark.parametrize(
    ("policy", "finalizers"),
    [
        ("Foreground", ("foregroundDeletion",)),
        ("Orphan", ("orphan",)),
        ("Background", None),
        ("", None),
    ],
)
def test_del_6_what_becomes_of_the_dependents_is_a_finalizer(policy, finalizers):
    # Shows DEL-6.a.
    world = populated()
    delete(world, propagation_policy=policy)
    left = world.get(resources.CONFIG_MAPS, "a")
    assert (left.metadata.finalizers if left is not None else None) == finalizers


# --- namespaces


@given(st.sampled_from([None, HELD]), st.sampled_from([None, HELD]), st.booleans())
def test_del_7_a_namespace_goes_with_the_last_of_its_finalizers(own, metadata, spec_first):
    # Shows DEL-7.a DEL-7.b DEL-7.c DEL-4.b.
    world = World(())
    body = Namespace(
        metadata=ObjectMeta(name="n", finalizers=metadata), spec=NamespaceSpec(finalizers=own)
    )
    world.do(Request("create", resources.NAMESPACES, body=body, user=ADMIN))
    assert "kubernetes" in world.get(resources.NAMESPACES, "n").spec.finalizers
    for _ in range(2):
        said = world.do(Request("delete", resources.NAMESPACES, "", "n", user=ADMIN)).response
        assert (
            said.code == 200
            and said.body.status.phase == "Terminating"
            and said.body.metadata.deletion_timestamp
        )
    made = world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "n",
            body=an_object(resources.CONFIG_MAPS, ObjectMeta(name="late")),
            user=ADMIN,
        )
    ).response
    assert made.code == 403 and made.body.details.causes[0].reason == "NamespaceTerminating"

    def empty_spec():
        there = world.get(resources.NAMESPACES, "n")
        world.do(
            Request(
                "update",
                resources.NAMESPACES,
                "",
                "n",
                "finalize",
                replace(there, spec=NamespaceSpec()),
                user=ADMIN,
            )
        )

    def empty_metadata():
        world.do(
            Request(
                "patch",
                resources.NAMESPACES,
                "",
                "n",
                body=Patch("application/merge-patch+json", {"metadata": {"finalizers": None}}),
                user=ADMIN,
            )
        )

    steps = [empty_spec, empty_metadata] if metadata else [empty_spec]
    for step in steps if spec_first else reversed(steps):
        assert world.get(resources.NAMESPACES, "n") is not None
        step()
    assert world.get(resources.NAMESPACES, "n") is None


def test_del_7_a_namespace_in_use_cannot_lose_its_finalizers_by_the_main_path():
    world = World()
    patch = Patch(
        "application/merge-patch+json",
        {"spec": {"finalizers": []}, "status": {"phase": "Terminating"}},
    )
    said = world.do(
        Request("patch", resources.NAMESPACES, "", "default", body=patch, user=ADMIN)
    ).response
    assert said.body.spec.finalizers == ("kubernetes",) and said.body.status.phase == "Active"


@pytest.mark.parametrize("name", ["default", "kube-system", "kube-public"])
def test_del_8_the_clusters_own_namespaces_stay(name):
    # Shows DEL-8.a.
    world = World(("default", "kube-system", "kube-public", "kube-node-lease"))
    assert (
        world.do(Request("delete", resources.NAMESPACES, "", name, user=ADMIN)).response.code == 403
    )
    assert world.get(resources.NAMESPACES, name).metadata.deletion_timestamp is None


@pytest.mark.parametrize("name", ["system-node-critical", "system-cluster-critical", "mine"])
def test_del_8_the_priority_classes_of_the_system_stay(name):
    # Shows DEL-8.b.
    world = World()
    made = PriorityClass(metadata=ObjectMeta(name=name), value=1)
    values = {"system-node-critical": 2_000_001_000, "system-cluster-critical": 2_000_000_000}
    made = replace(made, value=values.get(name, 1))
    create = Request("create", resources.PRIORITY_CLASSES, body=made, user=ADMIN)
    assert world.do(create).response.code == 201
    delete = Request("delete", resources.PRIORITY_CLASSES, "", name, user=ADMIN)
    assert world.do(delete).response.code == (200 if name == "mine" else 403)
    every = Request("deletecollection", resources.PRIORITY_CLASSES, user=ADMIN)
    assert world.do(every).response.code == 200
    assert world.get(resources.PRIORITY_CLASSES, name) is None


# --- collections


@given(
    histories(size=20),
    st.sampled_from(["", "app=x", "app=y", "app!=x"]),
    st.sampled_from(["", "Foreground"]),
)
def test_del_9_a_collection_is_deleted_as_each_of_its_objects_would_be(sequence, selector, policy):
    one, many = run(sequence), run(sequence)
    chosen = one.do(
        Request(
            "list",
            resources.CONFIG_MAPS,
            "default",
            options=Options(label_selector=selector),
            user=ADMIN,
        )
    ).response.body
    for item in chosen.items:
        delete(one, name=item.metadata.name, propagation_policy=policy or None)
    chosen_by, body = (
        Options(label_selector=selector),
        DeleteOptions(propagation_policy=policy or None),
    )
    asked = Request(
        "deletecollection",
        resources.CONFIG_MAPS,
        "default",
        body=body,
        options=chosen_by,
        user=ADMIN,
    )
    answer = many.do(asked).response
    assert answer.code == 200 and answer.body.items == chosen.items
    assert kept(one) == kept(many)


def kept(world: World):
    """Name, finalizers and whether it is going, of all ConfigMaps."""
    records = world.history.list(resources.CONFIG_MAPS.prefix).records
    return [
        (r.key, r.value.metadata.finalizers, r.value.metadata.deletion_timestamp is not None)
        for r in records
    ]


# --- options


@pytest.mark.parametrize(
    ("query", "body", "code"),
    [
        ("propagationPolicy=Sideways", b"", 422),
        ("", {"propagationPolicy": "Sideways"}, 422),
        ("orphanDependents=true&propagationPolicy=Orphan", b"", 422),
        ("", {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["Some"]}, 422),
        ("", {"kind": "Pod"}, 400),
        ("gracePeriodSeconds=abc", b"", 400),
        ("", b"{", 400),
        ("", {"kind": "DeleteOptions", "apiVersion": "v1", "dryRun": ["All"]}, 200),
        ("dryRun=All", b"", 200),
        ("propagationPolicy=Background", {"gracePeriodSeconds": 0}, 200),
        ("dryRun=All", {}, 200),
        (
            "dryRun=Some&gracePeriodSeconds=abc&propagationPolicy=Sideways",
            {"gracePeriodSeconds": 0},
            200,
        ),
        ("dryRun=Some", b"", 422),
        ("dryRun=", b"", 422),
        ("propagationPolicy=", b"", 422),
        ("", {"propagationPolicy": ""}, 422),
        ("gracePeriodSeconds=", b"", 400),
        ("uid=1-2-3", b"", 409),
        ("resourceVersion=1", b"", 409),
        ("uid=1-2-3", {}, 200),
    ],
)
def test_del_10_options_stand_in_the_body_or_in_the_query(query, body, code):
    # Shows DEL-10.a DEL-10.b DEL-10.c DEL-10.d.
    world = populated()
    reply = world.http("DELETE", f"/api/v1/namespaces/default/configmaps/a?{query}", body)
    assert reply.code == code
    is_dry = "dryRun" in (query if body == b"" else str(body))
    assert (world.get(resources.CONFIG_MAPS, "a") is None) == (code == 200 and not is_dry)
    if code >= 400:
        assert json.loads(reply.content)["kind"] == "Status"


# --- pods


@given(
    st.sampled_from(["", "node-1"]),
    st.sampled_from(["Pending", "Running", "Succeeded", "Failed"]),
    st.sampled_from([None, 0, 30]),
    st.sampled_from([None, 0, 5, 100, -1]),
    st.sampled_from([None, HELD]),
)
def test_del_11_how_long_a_pod_may_take(node, phase, own, asked, finalizers):
    # Shows DEL-11.a DEL-11.b DEL-11.c.
    world = World()
    a_pod(world, node=node, phase=phase, grace=own, finalizers=finalizers)
    said = delete(world, resources.PODS, "p", grace_period_seconds=asked).response
    wanted = asked if asked is not None else own if own is not None else 30
    seconds = 0 if not node or phase in ("Succeeded", "Failed") else 1 if wanted < 0 else wanted
    assert said.code == 200 and said.body.metadata.deletion_grace_period_seconds == seconds
    assert parse_timestamp(said.body.metadata.deletion_timestamp) == world.now + seconds * SECOND
    assert (world.get(resources.PODS, "p") is None) == (seconds == 0 and not finalizers)


@given(st.lists(st.sampled_from([None, 0, 5, 10, 100]), min_size=1, max_size=5))
def test_del_2_later_deletes_of_a_pod_only_hurry_it(graces):
    # Shows DEL-2.a DEL-2.b.
    world = World()
    a_pod(world)
    delete(world, resources.PODS, "p")
    least = 30
    for grace in graces:
        said = delete(world, resources.PODS, "p", grace_period_seconds=grace).response
        least = least if grace is None else min(least, grace)
        if least == 0:
            assert world.get(resources.PODS, "p") is None
            return
        there = world.get(resources.PODS, "p").metadata
        assert said.body.metadata == there and there.deletion_grace_period_seconds == least


def test_del_2_while_a_pod_has_time_left_a_delete_changes_nothing_about_its_dependents():
    world = World()
    a_pod(world)
    delete(world, resources.PODS, "p")
    before = world.get(resources.PODS, "p")
    for grace in (None, 30, 100):
        assert (
            delete(
                world, resources.PODS, "p", propagation_policy="Orphan", grace_period_seconds=grace
            ).response.body
            == before
        )
    assert world.get(resources.PODS, "p") == before


def test_del_4_a_pod_that_loses_its_last_finalizer_keeps_the_time_it_has():
    world = World()
    a_pod(world, finalizers=HELD)
    delete(world, resources.PODS, "p")
    none = Patch("application/merge-patch+json", {"metadata": {"finalizers": None}})
    world.do(Request("patch", resources.PODS, "default", "p", body=none, user=ADMIN))
    assert world.get(resources.PODS, "p").metadata.deletion_grace_period_seconds == 30
    delete(world, resources.PODS, "p", grace_period_seconds=0)
    assert world.get(resources.PODS, "p") is None


def test_del_4_a_finalizer_that_a_delete_takes_away_may_be_the_last():
    """Found by test_api_4: a pod that only its dependents held stayed for ever when a second delete
    let go of them."""
    world = World()
    a_pod(world)
    delete(world, resources.PODS, "p", propagation_policy="Foreground", grace_period_seconds=0)
    assert world.get(resources.PODS, "p").metadata.finalizers == ("foregroundDeletion",)
    delete(world, resources.PODS, "p", propagation_policy="Background", grace_period_seconds=5)
    assert world.get(resources.PODS, "p") is None


def test_del_11_an_eviction_gives_the_pod_its_time():
    from refk8s.core.api.policy_v1 import Eviction

    world = World()
    a_pod(world)
    asked = Request(
        "create",
        resources.PODS,
        "default",
        "p",
        "eviction",
        Eviction(metadata=ObjectMeta(name="p")),
        user=ADMIN,
    )
    assert world.do(asked).response.code == 201
    assert world.get(resources.PODS, "p").metadata.deletion_grace_period_seconds == 30
    now = Eviction(
        metadata=ObjectMeta(name="p"), delete_options=DeleteOptions(grace_period_seconds=0)
    )
    assert world.do(evolve(asked, body=now)).response.code == 201
    assert world.get(resources.PODS, "p") is None
