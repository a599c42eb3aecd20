"""The metadata of an object from its creation to its end, and what a deletion is told, in full:
API-1, API-2, DEL-1 to DEL-11.

(spec/api.md)
"""

from __future__ import annotations

import pytest
from api_world import START, World, an_object
from hypothesis import given, settings
from hypothesis import strategies as st

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import (
    DeleteOptions,
    ManagedFieldsEntry,
    ObjectMeta,
    OwnerReference,
    Preconditions,
)
from refk8s.core.api.request import Options, Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import delete, lifecycle
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.context import SECOND, Context, SeededChance, timestamp

CONFIG_MAPS = resources.CONFIG_MAPS
CONTEXT = Context(START, SeededChance(b"x"))
OWNER = OwnerReference(api_version="v1", kind="ConfigMap", name="o", uid="u", controller=True)

metadatas = st.builds(
    ObjectMeta,
    name=st.just("told"),
    namespace=st.sampled_from([None, "told"]),
    uid=st.sampled_from([None, "told"]),
    resource_version=st.sampled_from([None, "7"]),
    generation=st.sampled_from([None, 9]),
    creation_timestamp=st.sampled_from([None, timestamp(0)]),
    deletion_timestamp=st.sampled_from([None, timestamp(0)]),
    deletion_grace_period_seconds=st.sampled_from([None, 5]),
    self_link=st.sampled_from([None, "/x"]),
    managed_fields=st.sampled_from([None, (ManagedFieldsEntry(manager="m"),)]),
    labels=st.sampled_from([None, {}, {"a": "b"}]),
    annotations=st.sampled_from([None, {}, {"c": "d"}]),
    finalizers=st.sampled_from([None, (), ("x/y",)]),
    owner_references=st.sampled_from([None, (), (OWNER,)]),
)
CLIENTS = ("labels", "annotations", "finalizers", "owner_references")


@given(metadatas, st.sampled_from(["", "ns"]), st.sampled_from([None, 1]))
def test_api_1_a_new_object_has_what_the_server_says_and_what_the_client_may(
    told, namespace, generation
):
    # Shows API-1.a API-1.b.
    found = lifecycle.begin(told, namespace, "name", generation, Context(START, SeededChance(b"x")))
    assert (found.name, found.namespace, found.generation) == (
        "name",
        namespace or None,
        generation,
    )
    assert found.uid == Context(
        START, SeededChance(b"x")
    ).uid() and found.creation_timestamp == timestamp(START)
    for field in (
        "resource_version",
        "deletion_timestamp",
        "deletion_grace_period_seconds",
        "self_link",
    ):
        assert getattr(found, field) is None
    for field in CLIENTS:
        assert getattr(found, field) == (getattr(told, field) or None)


@given(metadatas, metadatas)
def test_api_1_del_2_a_changed_object_keeps_what_is_the_servers(old, new):
    # Shows API-1.a API-1.c DEL-2.a.
    found = lifecycle.carry_over(old, new)
    for field in (
        "namespace",
        "creation_timestamp",
        "generation",
        "resource_version",
    ):
        assert getattr(found, field) == getattr(old, field)
    assert found.deletion_timestamp == (old.deletion_timestamp or new.deletion_timestamp)
    grace = new.deletion_grace_period_seconds
    assert found.deletion_grace_period_seconds == (
        old.deletion_grace_period_seconds if grace is None else grace
    )
    assert found.uid == (new.uid or old.uid), "another uid is told to validation, which refuses it"
    assert (found.name, found.self_link) == (new.name, None)
    for field in CLIENTS:
        assert getattr(found, field) == (getattr(new, field) or None)


@settings(max_examples=5 * settings.default.max_examples)
@given(
    st.none() | st.integers(1, 3),
    st.lists(
        st.tuples(st.integers(0, 40), st.sampled_from([0, 0, 1, 5, 30, 40])), min_size=1, max_size=4
    ),
    st.booleans(),
)
def test_del_1_del_2_a_mark_is_made_once_and_only_ever_shortened(generation, asked, held):
    """Each deletion comes so many seconds after the one before, and asks for that grace period."""
    # Shows DEL-1.a DEL-1.b DEL-2.a DEL-2.b.
    finalizers = ("x/y",) if held else None
    metadata, now, end, period = ObjectMeta(name="a", generation=generation), START, None, None
    first = START + asked[0][0] * SECOND
    for pause, seconds in asked:
        now += pause * SECOND
        metadata = lifecycle.mark_deleted(metadata, now, seconds, finalizers)
        end = now + seconds * SECOND if end is None else min(end, first + seconds * SECOND)
        period = seconds if period is None else min(period, seconds)
        assert (metadata.deletion_timestamp, metadata.deletion_grace_period_seconds) == (
            timestamp(end),
            period,
        )
        assert metadata.generation == (generation + 1 if generation else generation)
        assert metadata.finalizers == finalizers
        assert lifecycle.is_due(metadata, metadata.finalizers) == (not held and period == 0)
    assert not lifecycle.is_due(ObjectMeta(), None)


# --- what a deletion asks for ---------------------------------------------------------------------

policies = st.sampled_from([None, "Foreground", "Background", "Orphan"])


@given(st.none() | st.integers(0, 3), policies, st.none() | st.booleans())
def test_del_10_a_policy_and_its_old_form_exclude_each_other(grace, policy, orphan):
    # Shows DEL-10.c.
    told = DeleteOptions(
        grace_period_seconds=grace, propagation_policy=policy, orphan_dependents=orphan
    )
    request = Request("delete", CONFIG_MAPS, "default", "a", body=told, user=ADMIN)
    if policy and orphan is not None:
        with pytest.raises(ApiError) as error:
            delete.delete_options(request)
        status = error.value.status
        assert (status.code, status.reason, status.details.kind) == (
            422,
            "Invalid",
            "DeleteOptions",
        )
        [cause] = status.details.causes
        words = (
            f'Invalid value: "{policy}": orphanDependents and deletionPropagation '
            "cannot be both set"
        )
        assert (cause.reason, cause.field, cause.message) == (
            "FieldValueInvalid",
            "propagationPolicy",
            words,
        )
        return
    assert delete.delete_options(request) == told


@pytest.mark.parametrize(
    ("options", "field", "words"),
    [
        (
            DeleteOptions(propagation_policy="Odd"),
            "propagationPolicy",
            'Unsupported value: "Odd": supported values: "Foreground", "Background", '
            '"Orphan", "nil"',
        ),
        (
            DeleteOptions(dry_run=("All", "Some")),
            "dryRun",
            'Unsupported value: ["All","Some"]: supported values: "All"',
        ),
    ],
)
def test_del_10_what_means_nothing_is_told(options, field, words):
    with pytest.raises(ApiError) as error:
        delete.delete_options(
            Request("delete", CONFIG_MAPS, "default", "a", body=options, user=ADMIN)
        )
    [cause] = error.value.status.details.causes
    assert (cause.reason, cause.field, cause.message) == ("FieldValueNotSupported", field, words)


@given(
    st.sampled_from([None, "u", "v"]),
    st.sampled_from([None, "7", "8"]),
    st.sampled_from([CONFIG_MAPS, resources.DEPLOYMENTS]),
)
def test_del_3_a_deletion_of_another_object_or_state_is_refused_and_says_so(uid, version, kind):
    obj = kind.type(
        metadata=ObjectMeta(name="a", namespace="default", uid="u", resource_version="7")
    )
    options = DeleteOptions(preconditions=Preconditions(uid=uid, resource_version=version))
    if uid in (None, "u") and version in (None, "7"):
        assert delete.check_preconditions(strategy_of(kind), obj, options) is None
        return
    if uid == "v":
        why = (
            "the UID in the precondition (v) does not match the UID in record (u). "
            "The object might have been deleted and then recreated"
        )
    else:
        why = (
            "the ResourceVersion in the precondition (8) does not match the ResourceVersion "
            "in record (7). "
        )
        why += "The object might have been modified"
    what = "ConfigMap" if kind is CONFIG_MAPS else "Deployment.apps"
    with pytest.raises(ApiError) as error:
        delete.check_preconditions(strategy_of(kind), obj, options)
    status = error.value.status
    assert (status.code, status.reason, status.message) == (
        409,
        "Conflict",
        f'Operation cannot be fulfilled on {what} "a": {why}',
    )
    assert (status.details.name, status.details.group, status.details.kind) == (
        "a",
        kind.group or None,
        kind.kind,
    )


def test_del_8_the_namespaces_that_the_cluster_lives_in_stay():
    with pytest.raises(ApiError) as error:
        delete.check_deletable(
            Request("delete", resources.NAMESPACES, name="default", user=ADMIN),
            Namespace(metadata=ObjectMeta(name="default")),
        )
    assert (error.value.status.code, error.value.status.message) == (
        403, 'namespaces "default" is forbidden: this namespace may not be deleted',
    )  # fmt: skip


def test_del_6_a_namespace_that_is_marked_keeps_what_the_policy_asks_for():
    obj = Namespace(metadata=ObjectMeta(name="a"))
    for policy, finalizers in (
        (None, None),
        ("Orphan", ("orphan",)),
        ("Foreground", ("foregroundDeletion",)),
    ):
        left = delete.after_delete(
            strategy_of(resources.NAMESPACES),
            obj,
            DeleteOptions(propagation_policy=policy),
            CONTEXT,
        )
        assert (left.metadata.finalizers, left.status.phase, left.metadata.deletion_timestamp) == (
            finalizers,
            "Terminating",
            timestamp(START),
        )


# --- collections ----------------------------------------------------------------------------------

objects = st.lists(st.tuples(st.booleans(), st.booleans(), st.booleans()), max_size=5)


@given(objects, st.sampled_from(["", "app=x"]), st.booleans())
def test_del_9_a_collection_is_deleted_as_each_of_its_objects_would_be(drawn, labels, dry):
    """Each is (chosen by its label, held by a finalizer, going already)."""
    # Shows DEL-9.a DEL-9.b DEL-9.c DEL-9.f.
    world = World()
    for number, (chosen, held, going) in enumerate(drawn):
        metadata = ObjectMeta(
            name=f"o{number}",
            labels={"app": "x" if chosen else "y"},
            finalizers=("x/y",) if held else None,
        )
        world.do(
            Request(
                "create", CONFIG_MAPS, "default", body=an_object(CONFIG_MAPS, metadata), user=ADMIN
            )
        )
        if going and held:
            world.do(Request("delete", CONFIG_MAPS, "default", f"o{number}", user=ADMIN))
    before = {
        record.value.metadata.name: record.value
        for record in world.history.list(CONFIG_MAPS.prefix).records
    }
    revision = world.history.revision
    options = Options(label_selector=labels, dry_run=dry)
    response = world.do(
        Request("deletecollection", CONFIG_MAPS, "default", options=options, user=ADMIN)
    ).response
    matching = [f"o{n}" for n, (chosen, _, _) in enumerate(drawn) if chosen or not labels]
    assert [item.metadata.name for item in response.body.items] == matching
    assert response.body.metadata.resource_version == str(revision)
    after = {
        record.value.metadata.name: record.value
        for record in world.history.list(CONFIG_MAPS.prefix).records
    }
    changed = []
    for number, (_, held, going) in enumerate(drawn):
        name = f"o{number}"
        if name not in matching or dry or (held and going):
            assert after[name] == before[name]
        elif held:
            assert after[name].metadata.deletion_timestamp is not None and after[
                name
            ].metadata.finalizers == ("x/y",)
            changed.append(name)
        else:
            assert name not in after
            changed.append(name)
    changes = world.history.changes(CONFIG_MAPS.prefix, revision)
    assert [(change.key.rpartition("/")[2], change.revision) for change in changes] == [
        (name, revision + 1 + at) for at, name in enumerate(changed)
    ], "one after the other, each in its own transaction"
    assert world.history.revision == revision + len(changed)
    for seen, last in enumerate(changes, start=1):  # a watch that was cut after this event
        assert world.history.changes(CONFIG_MAPS.prefix, last.revision) == changes[seen:]


def test_del_9_one_refusal_refuses_all():
    world = World()
    for name in "ab":
        world.do(
            Request(
                "create",
                CONFIG_MAPS,
                "default",
                body=an_object(CONFIG_MAPS, ObjectMeta(name=name)),
                user=ADMIN,
            )
        )
    options = DeleteOptions(
        preconditions=Preconditions(
            uid=world.history.get(CONFIG_MAPS.key("default", "a")).value.metadata.uid
        )
    )
    response = world.do(
        Request("deletecollection", CONFIG_MAPS, "default", body=options, user=ADMIN)
    ).response
    assert response.code == 409 and len(world.history.list(CONFIG_MAPS.prefix).records) == 2
