"""Owners by uid and by place (OWN-1): pods copied elsewhere together with their ownerReferences are
nobody's business."""

from hypothesis import given
from hypothesis import strategies as st
from workload_helpers import (
    ask,
    change,
    create,
    new_cluster,
    pod,
    pods_of,
    reference_to,
    replica_set,
    settle,
    stored,
)

from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NAMESPACES, PODS, REPLICA_SETS
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.step import start_all


@given(st.integers(0, 3), st.integers(0, 3), st.integers(0, 3))
def test_own_1_a_pod_with_the_owners_uid_in_another_place_is_neither_counted_nor_touched(
    replicas, elsewhere, misnamed
):
    cluster = create(new_cluster(), replica_set(replicas=replicas))
    cluster = ask(
        cluster,
        Request(
            "create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name="other")), user=ADMIN
        ),
    )
    [owner] = stored(cluster, REPLICA_SETS)
    copies = {f"copy-{number}": ("other", "web") for number in range(elsewhere)}
    copies |= {f"misnamed-{number}": ("default", "another") for number in range(misnamed)}
    for name, (namespace, said) in copies.items():
        copy = change(pod(name, owner=change(owner, name=said)), namespace=namespace)
        cluster = ask(cluster, Request("create", PODS, namespace, body=copy, user=ADMIN))
    before = {p.metadata.uid: p for p in stored(cluster, PODS)}
    cluster = settle(start_all(cluster))
    after = {p.metadata.uid: p for p in stored(cluster, PODS)}
    assert before.items() <= after.items()
    mine = [p for p in pods_of(cluster, owner) if p.metadata.uid not in before]
    assert len(mine) == replicas and all(
        p.metadata.owner_references == (reference_to(owner),) for p in mine
    )
    [owner] = stored(cluster, REPLICA_SETS)
    assert owner.status.replicas == replicas
