"""Which pods are spread by default: those of one Service or owner (spec/scheduler.md, SCHED-27)."""

from __future__ import annotations

import pytest
from msgspec.structs import replace
from sched_worlds import (
    a_node,
    a_pod,
    a_service,
    an_owner,
    labelled,
    new_cluster,
    placed,
    with_node,
)
from test_sched import pod_named, quiet
from test_sched_inter_pod import submitted
from workload_helpers import view_of

from refk8s.core.actions import Submit
from refk8s.core.api.core_v1 import ReplicationController, ReplicationControllerSpec
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import SERVICES
from refk8s.core.api.selector import from_map
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.step import step
from refk8s.core.scheduler.cycle import Scheduler
from refk8s.core.scheduler.snapshot import Group, info_of
from refk8s.core.scheduler.spreading import Groups, group_of


def created(cluster, resource, body):
    namespace = body.metadata.namespace
    return step(cluster, Submit(Request("create", resource, namespace, body=body, user=ADMIN)))


@pytest.mark.parametrize("seen", [True, False])
def test_sched_27_pods_behind_one_service_go_to_different_nodes(seen):
    """Node a has the most room for both. The Service selects them, or none. Shows SCHED-27.a."""
    cluster = with_node(new_cluster(), a_node("a", cpu="64", memory="256Gi"))
    cluster = with_node(cluster, a_node("b", cpu="8", memory="16Gi"))
    cluster = quiet(created(cluster, SERVICES, a_service("web", app="web" if seen else "no")))
    cluster = quiet(submitted(cluster, labelled(a_pod("one"), "web")))
    cluster = quiet(submitted(cluster, labelled(a_pod("two"), "web")))
    where = [pod_named(cluster, name).spec.node_name for name in ("one", "two")]
    assert where == (["a", "b"] if seen else ["a", "a"])


def test_sched_27_a_service_that_is_created_while_the_pod_waits_counts():
    """The pod is parked at 0 s, and decided again at 1 s, after its back-off. Shows SCHED-27.e."""
    cluster = quiet(submitted(new_cluster(), labelled(a_pod("two"), "web")), seconds=0)
    one = replace(labelled(a_pod("one"), "web"), spec=a_pod("one", node_name="a").spec)
    cluster = created(cluster, SERVICES, a_service("web", app="web"))
    cluster = with_node(submitted(cluster, one), a_node("a", cpu="64", memory="256Gi"))
    cluster = quiet(with_node(cluster, a_node("b", cpu="8", memory="16Gi")))
    assert pod_named(cluster, "two").spec.node_name == "b"


def test_sched_27_the_group_of_a_pod_is_what_services_and_its_owner_select():
    made = placed(labelled(a_pod("p"), "web"), "", "u", owner="rs")
    pod = info_of(made)
    services = [
        a_service("web", app="web"),
        a_service("b", "b", app="web"),
        a_service("no", app="x"),
    ]
    owner = an_owner("rs", LabelSelector(match_labels={"hash": "1"}))
    controller = ReplicationController(
        metadata=ObjectMeta(name="rs", namespace="default"),
        spec=ReplicationControllerSpec(selector={"hash": "2"}),
    )
    expected = (
        ([], None),
        (services, {"app": "web"}),
        ([owner], {"hash": "1"}),
        ([*services, owner], {"app": "web", "hash": "1"}),
        ([*services, controller], {"app": "web"}),
    )
    groups = Groups()
    for objects, labels in expected:
        view = view_of(Scheduler(), *objects)
        group = group_of(view, pod)
        assert group == (Group("default", from_map(labels)) if labels else None)
        assert groups.of(view, pod).group == group
    (reference,) = made.metadata.owner_references
    reference = replace(reference, api_version="v1", kind="ReplicationController")
    of_controller = replace(made, metadata=replace(made.metadata, owner_references=(reference,)))
    group = group_of(view_of(Scheduler(), *services, controller), info_of(of_controller))
    assert group == Group("default", from_map({"app": "web", "hash": "2"}))
    stray = info_of(labelled(a_pod("q"), "other"))
    assert group_of(view_of(Scheduler(), *services, owner), stray) is None
