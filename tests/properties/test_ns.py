"""Namespaces that end (spec/workloads/namespace.md), and what every namespace is given
(service_account.md)."""

from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run, settle
from workload_helpers import NOW, ask, new_cluster, sent, view_of

from refk8s.core.api.core_v1 import (
    ConfigMap,
    Namespace,
    NamespaceSpec,
    Pod,
    PodList,
    Secret,
    ServiceAccount,
)
from refk8s.core.api.meta_v1 import ListMeta, ObjectMeta
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    LATER,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.namespace import CONTENT, NamespaceController, Remaining, Survey
from refk8s.core.controllers.service_account import (
    CERTIFICATE_KEY,
    ROOT_CERTIFICATE,
    RootCertificatePublisher,
    ServiceAccountController,
)
from refk8s.core.loop.plan import Local

FAULTS = ["lose", "give up", "cut", "compact", "crash"]


def content(cluster: Cluster, namespace: str = "doomed") -> list[str]:
    return [
        r.key
        for resource in CONTENT
        for r in cluster.history.list(f"{resource.prefix}{namespace}/").records
    ]


def laws(before: Cluster, after: Cluster) -> list[str]:
    """NS-2: a namespace never goes before its content. NS-1: nothing goes from a namespace that
    stays."""
    wrong = []
    was, is_ = (
        before.history.get("/core/namespaces/doomed"),
        after.history.get("/core/namespaces/doomed"),
    )
    if was is not None and is_ is None and content(after):
        wrong.append(f"NS-2: the namespace is gone and left {content(after)}")
    if (
        is_ is not None
        and is_.value.metadata.deletion_timestamp is None
        and len(content(after)) < len(content(before))
    ):
        wrong.append("NS-1: something was deleted from an active namespace")
    return wrong


def doomed(held: bool, count: int) -> Cluster:
    cluster = new_cluster(NamespaceController())
    cluster = ask(
        cluster,
        Request(
            "create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name="doomed")), user=ADMIN
        ),
    )
    for n in range(count):
        finalizers = ("example.com/hold",) if held and n == 0 else None
        body = ConfigMap(metadata=ObjectMeta(name=f"c{n}", finalizers=finalizers))
        cluster = ask(
            cluster, Request("create", CONFIG_MAPS, "doomed", f"c{n}", body=body, user=ADMIN)
        )
    return cluster


@given(choices, choices, st.booleans(), st.integers(0, 3))
def test_ns_4_a_namespace_goes_when_its_content_can_and_never_before(first, second, held, count):
    # Shows DEL-7.c.
    cluster = run(start_all(doomed(held, count)), first, laws, FAULTS)
    cluster = ask(cluster, Request("delete", NAMESPACES, name="doomed", user=ADMIN))
    cluster = settle(run(cluster, second, laws, FAULTS), laws)
    record = cluster.history.get("/core/namespaces/doomed")
    if held and count:
        conditions = {c.type: (c.status, c.message) for c in record.value.status.conditions}
        assert conditions["NamespaceContentRemaining"] == (
            "True",
            "Some resources are remaining: configmaps. has 1 resource instances",
        )  # NS-5
        assert conditions["NamespaceFinalizersRemaining"][0] == "True"
        release = Patch("application/merge-patch+json", {"metadata": {"finalizers": None}})
        cluster = settle(
            ask(cluster, Request("patch", CONFIG_MAPS, "doomed", "c0", body=release, user=ADMIN)),
            laws,
        )
        record = cluster.history.get("/core/namespaces/doomed")
    assert record is None and not content(cluster)


def survey(**counts: int) -> Survey:
    from immutables import Map

    found = {
        resource.prefix: Remaining(
            counts.get(resource.plural, 0), counts.get(resource.plural, 0), ()
        )
        for resource in CONTENT
    }
    return Survey("uid-doomed", Map(found))


def terminating() -> Namespace:
    metadata = ObjectMeta(
        name="doomed",
        uid="uid-doomed",
        deletion_timestamp="2026-01-01T00:00:00Z",
        resource_version="5",
    )
    return Namespace(metadata=metadata, spec=NamespaceSpec(finalizers=("kubernetes",)))


def decide(memory, namespace=None):
    controller = NamespaceController()
    return controller.reconcile(
        view_of(controller, namespace or terminating()), "doomed", NOW, Local(memory)
    )


def test_ns_2_the_view_is_not_asked_and_an_unanswered_list_is_no_answer():
    controller = NamespaceController()
    plan = decide(controller.start_memory(0))
    assert len(plan.queries) == len(CONTENT) and not sent(plan, "update", subresource="finalize")
    memory, _ = controller.answered(plan.memory, "doomed", plan.queries[0], None, 0)
    again = decide(memory)
    assert len(again.queries) == len(CONTENT)
    memory, _ = controller.answered(plan.memory, "doomed", plan.queries[0], Response(500, None), 0)
    assert len(decide(memory).queries) == len(CONTENT)


failures = st.lists(
    st.tuples(st.integers(0, len(CONTENT) - 1), st.sampled_from([None, 500, 503])),
    min_size=1,
    max_size=80,
)


@given(failures, st.integers(0, 40))
def test_ns_6_however_many_questions_fail_the_next_round_is_one_and_later(failures, rounds):
    controller = NamespaceController()
    memory, now = controller.start_memory(0), 0
    waits = []
    for _ in range(rounds + 1):
        plan = controller.reconcile(
            view_of(controller, terminating()), "doomed", now, Local(memory)
        )
        assert len(plan.queries) == len(CONTENT)
        memory = plan.memory
        for which, code in failures:
            memory, _ = controller.answered(
                memory, "doomed", plan.queries[which], code and Response(code, None), now
            )
            early = controller.reconcile(
                view_of(controller, terminating()), "doomed", now, Local(memory)
            )
            assert not early.queries and early.wake_at > now
        waits.append(early.wake_at - now)
        now = early.wake_at
    assert waits == [min(5_000 << n, 30_000_000) for n in range(rounds + 1)]


def test_ns_2_what_an_older_server_does_not_serve_has_no_objects():
    """LOOP-16; a 404 of another resource is a failure (NS-6)."""
    controller = NamespaceController()
    plan = decide(controller.start_memory(0))
    for wrong in (None, CONFIG_MAPS):
        memory = plan.memory
        for question in plan.queries:
            is_there = question.resource not in LATER and question.resource != wrong
            listed = Response(200, PodList(metadata=ListMeta(resource_version="5")))
            answer = listed if is_there else Response(404, None)
            memory, _ = controller.answered(memory, "doomed", question, answer, 0)
        found = decide(memory)
        assert bool(sent(found, "update", subresource="finalize")) == (wrong is None)


def test_ns_6_what_was_said_of_an_earlier_namespace_of_this_name_is_no_answer():
    controller = NamespaceController()
    plan = decide(controller.start_memory(0))
    memory = plan.memory
    for question in plan.queries:
        memory, _ = controller.answered(
            memory,
            "doomed",
            question,
            Response(200, PodList(metadata=ListMeta(resource_version="4"))),
            0,
        )
    assert not decide(memory).queries and not decide(memory).waves
    for question in plan.queries:
        memory, _ = controller.answered(
            memory,
            "doomed",
            question,
            Response(200, PodList(metadata=ListMeta(resource_version="5"))),
            0,
        )
    assert sent(decide(memory), "update", subresource="finalize")


def test_ns_3_pods_go_first():
    from immutables import Map

    plan = decide(Map({"doomed": survey(pods=1, secrets=2)}))
    assert [request.resource for request in sent(plan, "deletecollection")] == [PODS]
    plan = decide(Map({"doomed": survey(secrets=2)}))
    assert [request.resource for request in sent(plan, "deletecollection")] == [SECRETS]
    assert Pod and Secret


def test_ns_1_an_active_namespace_is_left_alone():
    active = Namespace(
        metadata=ObjectMeta(name="doomed", uid="uid-doomed"),
        spec=NamespaceSpec(finalizers=("kubernetes",)),
    )
    from immutables import Map

    plan = decide(Map(), active)
    assert not plan.queries and not plan.waves


@given(choices)
def test_sa_1_sa_2_every_namespace_has_its_account_and_certificate_whatever_is_deleted(drawn):
    """SA-1, SA-2."""
    cluster = start_all(
        new_cluster(ServiceAccountController(), RootCertificatePublisher("CERTIFICATE"))
    )
    nothing = lambda before, after: []  # noqa: E731
    cluster = run(cluster, drawn, nothing, FAULTS)
    cluster = settle(cluster, nothing)
    cluster = ask(cluster, Request("delete", SERVICE_ACCOUNTS, "default", "default", user=ADMIN))
    change = Patch("application/merge-patch+json", {"data": {CERTIFICATE_KEY: "forged"}})
    cluster = ask(
        cluster, Request("patch", CONFIG_MAPS, "default", ROOT_CERTIFICATE, body=change, user=ADMIN)
    )
    cluster = settle(run(cluster, drawn, nothing, FAULTS), nothing)
    assert cluster.history.get("/core/serviceaccounts/default/default") is not None
    assert cluster.history.get(f"/core/configmaps/default/{ROOT_CERTIFICATE}").value.data == {
        CERTIFICATE_KEY: "CERTIFICATE"
    }
    assert ServiceAccount
