"""What controllers make is bounded by what is asked for, whatever is stored: OWN-8
(spec/workloads/owners.md)."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import disturbed
from workload_helpers import deployment, get, new_cluster, replica_set, settle, stored

from refk8s.core.api.core_v1 import ReplicationController, ReplicationControllerSpec
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.resources import (
    DEPLOYMENTS,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    by_kind,
)
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all
from refk8s.core.loop.view import key_of
from refk8s.core.properties.laws import owners
from refk8s.core.store import Put, Txn, commit
from refk8s.core.value import evolve

LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from(["", "x", "99%"]), max_size=2)


def check(before: Cluster, after: Cluster) -> list[str]:
    """The law, of every creation."""
    if after.last_commit is None or after.last_commit is before.last_commit:
        return []
    pairs = [
        (law, change)
        for law in owners.OF_CHANGES
        for change in after.last_commit.changes
        if change.key.startswith(law.prefix)
    ]
    return [words for law, change in pairs for words in law.check(change, before, after) or ()]


def begun_with(obj) -> Cluster:
    """A cluster whose store holds the object, past every check of the API server, and which has
    come to rest."""
    cluster = new_cluster()
    key = f"{by_kind(obj.api_version, obj.kind).prefix}{key_of(obj)}"
    history, result = commit(cluster.history, Txn((), (Put(key, obj),)), stamp)
    return settle(
        start_all(evolve(cluster, history=history, last_commit=result)), check, seconds_max=3
    )


def with_labels(owner, labels):
    template = owner.spec.template
    return replace(
        owner,
        spec=replace(
            owner.spec,
            template=replace(template, metadata=replace(template.metadata, labels=labels)),
        ),
    )


@given(LABELS, LABELS, st.integers(0, 3), st.booleans())
def test_own_8_an_owner_that_does_not_select_what_it_makes_makes_nothing(
    selector, labels, replicas, is_replica_set
):
    owner = with_labels(replica_set(replicas=replicas), labels)
    owner = replace(owner, spec=replace(owner.spec, selector=LabelSelector(match_labels=selector)))
    if not is_replica_set:
        spec = ReplicationControllerSpec(
            replicas=replicas, selector=selector, template=owner.spec.template
        )
        owner = ReplicationController(metadata=owner.metadata, spec=spec)
    cluster = begun_with(owner)
    selects = bool(selector) and selector.items() <= labels.items()
    is_valid = selects and "99%" not in {**labels, **selector}.values()
    found = get(cluster, REPLICA_SETS if is_replica_set else REPLICATION_CONTROLLERS, "web")
    if replicas and not selects:
        assert [(c.type, c.reason) for c in found.status.conditions] == [
            ("ReplicaFailure", "FailedCreate")
        ]
        assert (
            found.status.conditions[0].message
            == "the selector does not select the labels of the template"
        )
    assert len(stored(cluster, PODS)) == (replicas if is_valid else 0)


def test_own_8_a_deployment_whose_selector_names_the_hash_label_makes_nothing():
    """Valid for the API server: the selector does select the template. But the label is set anew in
    every ReplicaSet."""
    labels = {"app": "web", "pod-template-hash": "mine"}
    owner = with_labels(deployment(), labels)
    cluster = begun_with(
        replace(owner, spec=replace(owner.spec, selector=LabelSelector(match_labels=labels)))
    )
    assert stored(cluster, REPLICA_SETS) == []
    (progressing,) = [
        c for c in get(cluster, DEPLOYMENTS, "web").status.conditions if c.type == "Progressing"
    ]
    assert (progressing.status, progressing.reason) == ("False", "ReplicaSetCreateError")


def test_own_8_a_template_that_the_api_server_completes_makes_five_replica_sets_at_most():
    """A Deployment that was stored without a default: what is made of its template is never equal
    to it."""
    cluster = begun_with(deployment(replicas=1))
    assert len(stored(cluster, REPLICA_SETS)) == 5
    (progressing,) = [
        c for c in get(cluster, DEPLOYMENTS, "web").status.conditions if c.type == "Progressing"
    ]
    assert "5 ReplicaSets were created from this template" in progressing.message


@pytest.mark.parametrize(
    "owner", [replica_set(replicas=2), deployment(replicas=2)], ids=["replica set", "deployment"]
)
def test_own_8_creations_are_bounded_whatever_is_stored(owner):
    @given(disturbed(owner))
    def law(obj):
        if (obj.spec.replicas or 0) <= 20:
            begun_with(obj)

    law()
