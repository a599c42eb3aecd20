"""Token secrets: rules SA-3 and SA-4 (spec/workloads/service_account.md)."""

from base64 import b64decode, b64encode

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st
from runs import choices, run, settle
from workload_helpers import NOW, ask, new_cluster, view_of

from refk8s.core.api.authentication_v1 import TokenRequest, TokenRequestStatus
from refk8s.core.api.core_v1 import Secret, ServiceAccount
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Patch, Request, Response
from refk8s.core.api.resources import SECRETS, SERVICE_ACCOUNTS
from refk8s.core.api.status import not_found
from refk8s.core.api.token_secret import ACCOUNT_NAME, ACCOUNT_UID, TOKEN_SECRET
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.authenticate import check_token
from refk8s.core.apiserver.config import DEFAULT_CONFIG
from refk8s.core.cluster.step import start_all
from refk8s.core.controllers.token_secrets import TokenSecretController
from refk8s.core.loop.plan import NOTHING, Local

FAULTS = ["lose", "give up", "cut", "compact", "crash"]
CONTROLLER = TokenSecretController("CERT")
CERT, OTHER, TOKEN, HERE = (
    b64encode(text.encode()).decode() for text in ("CERT", "x", "a-token", "default")
)


def secret(
    uid: str | None,
    data: dict[str, str] | None,
    type: str = TOKEN_SECRET,
    immutable: bool | None = None,
) -> Secret:
    annotations = {ACCOUNT_NAME: "bot"} | ({ACCOUNT_UID: uid} if uid else {})
    metadata = ObjectMeta(
        name="tok", namespace="default", uid="s", resource_version="7", annotations=annotations
    )
    return Secret(metadata=metadata, data=data, type=type, immutable=immutable)


def account(uid: str) -> ServiceAccount:
    return ServiceAccount(metadata=ObjectMeta(name="bot", namespace="default", uid=uid))


def created(name: str, **data: str) -> Request:
    metadata = ObjectMeta(name=name, annotations={ACCOUNT_NAME: "bot"})
    return Request(
        "create",
        SECRETS,
        "default",
        name,
        body=Secret(metadata=metadata, type=TOKEN_SECRET, data=data or None),
        user=ADMIN,
    )


@given(
    st.sampled_from([None, "a", "b"]), st.sampled_from([None, "a", "b"]),
    st.fixed_dictionaries({}, optional={
        "token": st.sampled_from([TOKEN, ""]), "namespace": st.just(HERE), "ca.crt": st.sampled_from([CERT, OTHER]), "more": st.just(OTHER),
    }),
    st.sampled_from([TOKEN_SECRET, "Opaque"]), st.booleans(),
)  # fmt: skip
def test_sa_3_what_is_missing_is_asked_for_and_then_written(
    there, annotated, data, type, immutable
):
    mine = secret(annotated, data, type, immutable)
    view = view_of(CONTROLLER, mine, *([account(there)] if there else []))
    plan = CONTROLLER.reconcile(
        view, "default/tok", NOW, Local(memory=CONTROLLER.start_memory(NOW))
    )
    if type != TOKEN_SECRET:
        assert plan == NOTHING
        return
    if there is None or annotated not in (None, there):
        [question] = plan.queries
        assert (question.verb, question.resource, question.name) == (
            "get",
            SERVICE_ACCOUNTS,
            "bot",
        ) and not plan.waves
        return
    if immutable:
        assert plan == NOTHING
        return
    if not data.get("token"):
        [question] = plan.queries
        assert (question.subresource, question.name, question.body.spec.bound_object_ref.uid) == (
            "token",
            "bot",
            "s",
        )
        answer = Response(201, TokenRequest(status=TokenRequestStatus(token="a-token")))
        memory, keys = CONTROLLER.answered(plan.memory, "default/tok", question, answer, NOW)
        assert keys == ("default/tok",)
        plan = CONTROLLER.reconcile(view, "default/tok", NOW, Local(memory=memory))
    full = {**data, "token": TOKEN, "namespace": HERE, "ca.crt": CERT}
    if data == full:
        assert plan == NOTHING
        return
    [[request]] = plan.waves
    assert (
        request.verb == "update"
        and request.body.data == full
        and request.body.metadata.resource_version == "7"
    )
    assert request.body.metadata.annotations == {ACCOUNT_NAME: "bot", ACCOUNT_UID: there}


@given(st.sampled_from([None, "a"]), st.sampled_from(["absent", "a", "b", "refused", "lost"]))
def test_sa_4_a_secret_is_deleted_only_where_a_read_shows_that_its_account_is_not_there(
    annotated, found
):
    view = view_of(CONTROLLER, secret(annotated, None))
    plan = CONTROLLER.reconcile(
        view, "default/tok", NOW, Local(memory=CONTROLLER.start_memory(NOW))
    )
    [question] = plan.queries
    answers = {
        "absent": Response(404, not_found(SERVICE_ACCOUNTS, "bot")),
        "refused": Response(503, None),
        "lost": None,
    }
    answer = answers[found] if found in answers else Response(200, account(found))
    memory, keys = CONTROLLER.answered(plan.memory, "default/tok", question, answer, NOW)
    is_lost = found == "absent" or (found == "b" and annotated == "a")
    assert tuple(keys) == (("default/tok",) if is_lost else ())
    plan = CONTROLLER.reconcile(view, "default/tok", NOW, Local(memory=memory))
    assert len(plan.waves) == is_lost and len(plan.queries) == (not is_lost)
    for [request] in plan.waves:
        preconditions = request.body.preconditions
        assert (request.verb, request.name, preconditions.uid, preconditions.resource_version) == (
            "delete",
            "tok",
            "s",
            "7",
        )


@given(choices)
def test_sa_3_sa_4_tokens_are_good_and_end_with_the_account_whatever_fails(drawn):
    cluster = start_all(new_cluster(TokenSecretController("CERT")))
    nothing = lambda before, after: []  # noqa: E731
    cluster = ask(
        cluster,
        Request(
            "create",
            SERVICE_ACCOUNTS,
            "default",
            "bot",
            body=ServiceAccount(metadata=ObjectMeta(name="bot")),
            user=ADMIN,
        ),
    )
    cluster = settle(run(ask(cluster, created("tok")), drawn, nothing, FAULTS), nothing)
    first = cluster.history.get("/core/secrets/default/tok").value
    user = check_token(
        b64decode(first.data["token"]).decode(), DEFAULT_CONFIG, cluster.now, cluster.history
    ).user
    assert user is not None and user.name == "system:serviceaccount:default:bot"
    emptied = Patch(
        "application/merge-patch+json",
        {"data": {"token": None, "namespace": None, "ca.crt": OTHER}},
    )
    cluster = settle(
        run(
            ask(cluster, Request("patch", SECRETS, "default", "tok", body=emptied, user=ADMIN)),
            drawn,
            nothing,
            FAULTS,
        ),
        nothing,
    )
    again = cluster.history.get("/core/secrets/default/tok").value
    assert set(again.data) == {"token", "namespace", "ca.crt"} and again.data["ca.crt"] == CERT
    cluster = ask(cluster, Request("delete", SERVICE_ACCOUNTS, "default", "bot", user=ADMIN))
    cluster = ask(
        cluster,
        Request(
            "create",
            SERVICE_ACCOUNTS,
            "default",
            "bot",
            body=ServiceAccount(metadata=ObjectMeta(name="bot")),
            user=ADMIN,
        ),
    )
    cluster = settle(run(cluster, drawn, nothing, FAULTS), nothing)
    assert cluster.history.get("/core/secrets/default/tok") is None
    assert (
        check_token(
            b64decode(again.data["token"]).decode(), DEFAULT_CONFIG, cluster.now, cluster.history
        ).user
        is None
    )


@pytest.mark.parametrize("name, code", [(None, 201), ("bot", 201), ("other", 422)])
def test_api_20_a_token_request_that_has_a_name_has_the_accounts(name, code):
    world = World()
    world.do(Request("create", SERVICE_ACCOUNTS, "default", "bot", body=account(""), user=ADMIN))
    asked = TokenRequest(metadata=ObjectMeta(name=name))
    assert (
        world.do(
            Request("create", SERVICE_ACCOUNTS, "default", "bot", "token", body=asked, user=ADMIN)
        ).response.code
        == code
    )
