"""Laws of the API server's writes, rules API-1 ... API-26 (spec/api.md): over histories of
requests, on a store that is a value."""

from __future__ import annotations

import json
from collections import Counter
from functools import cache

import pytest
from api_world import KINDS, START, Step, World, an_object, histories, populated, run, steps
from hypothesis import example, given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.authentication_v1 import BoundObjectReference, TokenRequest, TokenRequestSpec
from refk8s.core.api.autoscaling_v1 import Scale, ScaleSpec
from refk8s.core.api.codec import encode
from refk8s.core.api.core_v1 import (
    Binding,
    ConfigMap,
    Container,
    ObjectReference,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    ServiceAccount,
)
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta, Status
from refk8s.core.api.policy_v1 import (
    Eviction,
    PodDisruptionBudget,
    PodDisruptionBudgetSpec,
    PodDisruptionBudgetStatus,
)
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.authenticate import authenticate
from refk8s.core.apiserver.config import DEFAULT_CONFIG
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.context import SECOND, SUFFIX_ALPHABET, Context, SeededChance
from refk8s.core.properties.predicates import api as must
from refk8s.core.store import Committed, commit
from refk8s.core.value import evolve

PATHS = "/api/v1/namespaces/default/configmaps"


def metadata_of(name: str = "a", **more: object) -> ObjectMeta:
    return ObjectMeta(name=name, **more)


# --- every change, whoever asked for it


@given(histories())
def test_api_4_api_5_api_8_every_change_keeps_the_rules_of_a_change(sequence):
    # Shows API-4.a API-4.b API-5.e.
    world = run(sequence)
    for taken in world.taken:
        for change in taken.changes:
            for rule in must.OF_ONE_CHANGE:
                assert not list(rule(change)), taken.request
            assert not list(
                must.api_8_a_path_changes_only_its_part(taken.request.subresource, change)
            ), taken.request


@given(histories())
def test_api_26_no_two_objects_ever_have_one_uid(sequence):
    # Shows API-26.a API-26.b.
    world = run(sequence)
    assert not list(must.api_26_a_uid_is_never_used_again(world.history.changes("/", 0)))


@given(histories(size=60))
def test_api_14_no_sequence_of_requests_raises_or_is_answered_with_a_server_error(sequence):
    # Shows API-14.a API-14.b.
    for taken in run(sequence).taken:
        said = taken.response
        # API-6
        is_odd = (
            taken.request.verb == "update" and taken.request.body.metadata.resource_version == "x"
        )
        assert said.code < 500 or (
            is_odd and said.body.message == 'strconv.ParseUint: parsing "x": invalid syntax'
        )
        if 400 <= said.code < 500:
            assert (
                isinstance(said.body, Status)
                and said.body.reason
                and said.body.message
                and said.body.code == said.code
            )
            assert taken.after is taken.before, "a refusal writes nothing"


def test_sometimes_the_histories_reach_every_kind_of_answer():
    """Without this the laws above could hold of nothing."""
    seen: Counter[tuple[str, str, int]] = Counter()

    @settings(derandomize=True, max_examples=200)
    @given(histories(size=60))
    def collect(sequence):
        for taken in run(sequence).taken:
            seen[taken.request.verb, taken.request.subresource, taken.response.code] += 1

    collect()
    wanted = [
        ("create", "", 201),
        ("create", "", 409),
        ("update", "", 200),
        ("update", "", 409),
        ("update", "", 201),
        ("patch", "", 200),
    ]
    wanted += [
        ("update", "status", 200),
        ("delete", "", 200),
        ("delete", "", 409),
        ("create", "binding", 201),
        ("patch", "", 422),
    ]
    assert not [answer for answer in wanted if not seen[answer]]


# --- create


@given(st.sampled_from(KINDS), st.integers(0, 3), st.uuids().map(str))
def test_api_1_the_server_says_what_is_the_servers_to_say(kind, number, uid):
    # Shows API-1.a API-1.b API-1.c API-1.f API-2.a.
    world = World()
    theirs = metadata_of(
        uid=uid,
        creation_timestamp="2001-01-01T00:00:00Z",
        generation=9,
        resource_version=None,
        self_link="/x",
        deletion_timestamp="2001-01-01T00:00:00Z",
        deletion_grace_period_seconds=5,
    )
    made = world.do(
        Request("create", kind, "default", body=an_object(kind, theirs, number), user=ADMIN)
    ).response.body.metadata
    assert (
        made.uid != uid
        and made.creation_timestamp == "2023-11-14T22:13:23Z"
        and made.resource_version == str(world.history.revision)
    )
    assert (
        made.deletion_timestamp is None
        and made.deletion_grace_period_seconds is None
        and made.self_link is None
    )
    assert made.generation == (1 if strategy_of(kind).has_generation else 9)
    theirs = replace(
        theirs,
        uid=None,
        resource_version=made.resource_version,
        deletion_timestamp=None,
        deletion_grace_period_seconds=None,
    )
    again = replace(world.get(kind, "a"), metadata=theirs)
    after = world.do(Request("update", kind, "default", "a", body=again, user=ADMIN))
    kept = after.response.body.metadata
    assert (kept.uid, kept.creation_timestamp, kept.deletion_timestamp) == (
        made.uid,
        made.creation_timestamp,
        None,
    )


@given(st.text("abc-", min_size=1, max_size=80).map(lambda text: "a" + text))
@example("a" * 58)
@example("a" * 59)
def test_api_2_a_generated_name_begins_as_asked_and_is_short_enough(base):
    # Shows API-2.b.
    world = World()
    for _ in range(3):
        made = world.do(
            Request(
                "create",
                resources.CONFIG_MAPS,
                "default",
                body=ConfigMap(metadata=ObjectMeta(generate_name=base)),
                user=ADMIN,
            )
        ).response
        assert made.code == 201
        name = made.body.metadata.name
        assert (
            name[:-5] == base[:58]
            and set(name[-5:]) <= set(SUFFIX_ALPHABET)
            and made.body.metadata.generate_name == base
        )
    assert len(world.history.list("/core/configmaps/").records) == 3


def test_api_2_where_every_generated_name_is_taken_the_client_may_come_again():
    class Stuck:
        def draw(self, count: int) -> bytes:
            return bytes(count)

    world = World()
    world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "default",
            body=ConfigMap(metadata=metadata_of("web-bbbbb")),
            user=ADMIN,
        )
    )
    asked = Request(
        "create",
        resources.CONFIG_MAPS,
        "default",
        body=ConfigMap(metadata=ObjectMeta(generate_name="web-")),
        user=ADMIN,
    )
    said = handle(Exchange(asked, world.history, Context(START, Stuck())))
    assert (
        said.code == 409
        and said.body.reason == "AlreadyExists"
        and said.body.details.retry_after_seconds == 1
    )


@given(st.sampled_from(KINDS), st.integers(0, 3), st.integers(0, 3))
def test_api_2_a_name_that_is_taken_is_refused_and_nothing_changes(kind, one, other):
    # Shows API-2.c.
    world = World()
    assert (
        world.do(
            Request("create", kind, "default", body=an_object(kind, metadata_of(), one), user=ADMIN)
        ).response.code
        == 201
    )
    taken = world.do(
        Request("create", kind, "default", body=an_object(kind, metadata_of(), other), user=ADMIN)
    )
    assert (
        taken.response.code == 409
        and taken.response.body.reason == "AlreadyExists"
        and not taken.changes
    )


def test_api_2_a_body_without_a_name_is_invalid():
    # Shows API-2.e.
    said = (
        World()
        .do(Request("create", resources.CONFIG_MAPS, "default", body=ConfigMap(), user=ADMIN))
        .response
    )
    assert said.code == 422 and said.body.details.causes[0].field == "metadata.name"


@pytest.mark.parametrize(
    ("verb", "name", "metadata", "code"),
    [
        ("create", "", metadata_of(namespace="other"), 400),
        ("create", "", metadata_of(namespace="default"), 201),
        ("create", "", metadata_of(), 201),
        ("update", "a", metadata_of("b"), 400),
        ("update", "a", metadata_of(namespace="other"), 400),
        ("update", "a", ObjectMeta(), 400),
    ],
)
def test_api_3_a_body_is_about_what_its_path_names(verb, name, metadata, code):
    # Shows API-3.b API-3.c API-3.d.
    assert (
        World()
        .do(
            Request(
                verb,
                resources.CONFIG_MAPS,
                "default",
                name,
                body=ConfigMap(metadata=metadata),
                user=ADMIN,
            )
        )
        .response.code
        == code
    )


@pytest.mark.parametrize(
    ("kind", "version", "code"),
    [
        ("ConfigMap", "v1", 201),
        ("", "", 201),
        ("Secret", "v1", 400),
        ("ConfigMap", "v2", 400),
        ("Nothing", "v1", 400),
        ("Deployment", "apps/v1", 400),
    ],
)
def test_api_3_a_body_of_another_kind_is_refused(kind, version, code):
    # Shows API-3.a API-3.d.
    reply = World().http(
        "POST", PATHS, {"kind": kind, "apiVersion": version, "metadata": {"name": "a"}}
    )
    assert reply.code == code


# --- update


@given(
    st.sampled_from(KINDS),
    st.integers(0, 3),
    st.integers(0, 3),
    st.sampled_from(["1", "none", "other uid"]),
)
def test_api_6_a_put_that_means_another_state_or_object_changes_nothing(kind, one, other, wrong):
    # Shows API-6.a API-6.b API-6.e.
    world = World()
    world.do(
        Request("create", kind, "default", body=an_object(kind, metadata_of(), one), user=ADMIN)
    )
    meta = metadata_of(
        resource_version="1" if wrong == "1" else None,
        uid="1-2-3" if wrong == "other uid" else None,
    )
    taken = world.do(
        Request("update", kind, "default", "a", body=an_object(kind, meta, other), user=ADMIN)
    )
    if wrong == "none":
        expected = 422 if not strategy_of(kind).unconditional_update else taken.response.code
        assert taken.response.code == expected != 409
    else:
        assert taken.response.code == 409 and taken.response.body.reason == "Conflict"
    if taken.response.code >= 400:
        assert taken.after is taken.before


@given(histories())
def test_api_6_of_two_writes_on_one_state_the_second_is_a_conflict(sequence):
    world = run(sequence)
    current = world.get(resources.CONFIG_MAPS, "a")
    if current is None:
        return
    asked = [replace(current, data={"writer": writer}) for writer in ("one", "two")]
    codes = [
        world.do(
            Request("update", resources.CONFIG_MAPS, "default", "a", body=body, user=ADMIN)
        ).response.code
        for body in asked
    ]
    assert codes == [200, 409] and world.get(resources.CONFIG_MAPS, "a").data == {"writer": "one"}


@pytest.mark.parametrize("kind", KINDS)
def test_api_7_a_put_creates_only_where_the_kind_allows_it(kind):
    world = World()
    said = world.do(
        Request("update", kind, "default", "a", body=an_object(kind, metadata_of()), user=ADMIN)
    ).response
    assert said.code == (201 if kind == resources.LEASES else 404)
    assert (world.get(kind, "a") is not None) == (said.code == 201)


@given(histories())
def test_api_4_writing_what_is_there_writes_nothing(sequence):
    # Shows API-4.b.
    world = run(sequence)
    for kind in KINDS:
        current = world.get(kind, "a")
        if current is None:
            continue
        for subresource in ("", "status") if kind.has_status else ("",):
            taken = world.do(
                Request("update", kind, "default", "a", subresource, body=current, user=ADMIN)
            )
            assert (
                taken.response.code == 200 and taken.response.body == current and not taken.changes
            )
        taken = world.do(
            Request(
                "patch",
                kind,
                "default",
                "a",
                body=Patch("application/merge-patch+json", {}),
                user=ADMIN,
            )
        )
        assert taken.response.body == current and not taken.changes


def test_api_5_the_annotations_of_a_deployment_are_desired_but_not_when_written_with_the_status():
    # Shows API-5.b.
    world = populated()
    for subresource, generation in (("status", 1), ("", 2)):
        current = world.get(resources.DEPLOYMENTS, "a")
        noted = replace(
            current, metadata=replace(current.metadata, annotations={"note": subresource or "main"})
        )
        said = world.do(
            Request(
                "update", resources.DEPLOYMENTS, "default", "a", subresource, body=noted, user=ADMIN
            )
        ).response
        assert said.body.metadata.generation == generation


ON_A_AND_B = [
    Step(verb, kind, "default", name, subresource, number=3, version="present")
    for kind in (resources.PODS, resources.LEASES)
    for name in ("a", "b")
    for verb, subresource in (
        ("create", ""),
        ("update", ""),
        ("update", "status"),
        ("patch", ""),
        ("delete", ""),
        ("create", "binding"),
    )
    if kind == resources.PODS or not subresource
]


@pytest.mark.parametrize(
    "one",
    ON_A_AND_B,
    ids=lambda step: f"{step.verb} {step.resource.kind} {step.name} {step.subresource}",
)
def test_api_9_of_two_decisions_on_one_state_only_one_about_an_object_holds(one):
    # Shows API-9.a.
    for other in ON_A_AND_B:
        two_decisions_on_one_state(one, other)


@given(steps(), steps())
def test_api_9_so_it_is_for_any_two_steps(one, other):
    # Shows API-9.a.
    two_decisions_on_one_state(one, other)


def two_decisions_on_one_state(one: Step, other: Step) -> None:
    world = populated()
    before = world.history
    first, second = (
        handle(Exchange(step.request(world), before, world.context())) for step in (one, other)
    )
    if not (isinstance(first, Commit) and isinstance(second, Commit)):
        return
    after, done = commit(before, first.txn, stamp)
    assert isinstance(done, Committed)
    _, also_done = commit(after, second.txn, stamp)
    changed = {change.key for change in done.changes}
    if isinstance(also_done, Committed):
        assert not changed & {change.key for change in also_done.changes}
    else:
        world.history = after
        assert world.do(other.request(world)).response.code < 500 or other.version == "odd", (
            "handled again on what there is now"
        )


@given(histories(size=10), steps())
def test_api_12_a_dry_run_is_answered_as_the_request_itself_and_writes_nothing(sequence, step):
    # Shows API-12.a.
    world = run(sequence)
    before, turn, now = world.history, world.turn, world.now
    asked = step.request(world)
    dry = world.do(evolve(asked, options=evolve(asked.options, dry_run=True)))
    assert world.history is before
    world.turn, world.now = turn, now
    real = world.do(evolve(asked, options=evolve(asked.options, dry_run=False)))
    assert dry.response.code == real.response.code
    assert timeless(dry.response.body) == timeless(real.response.body)


def timeless(body):
    """Without what only a write gives."""
    if not hasattr(body, "items") and hasattr(body.metadata, "uid"):
        return replace(body, metadata=replace(body.metadata, resource_version=None))
    return body


@pytest.mark.parametrize("stage", ["Some", "None", "all", ""])
def test_api_12_any_other_stage_is_refused(stage):
    # Shows API-12.b.
    reply = World().http("POST", f"{PATHS}?dryRun={stage}", {"metadata": {"name": "a"}})
    assert (
        reply.code == 422 and json.loads(reply.content)["details"]["causes"][0]["field"] == "dryRun"
    )


# --- the text of an object


@given(histories())
def test_api_24_the_kept_text_of_an_object_is_what_it_encodes_to(sequence):
    # Shows API-24.c.
    world = run(sequence)
    for record in world.history.list("/").records:
        if not record.key.startswith("/core/namespaces/"):
            resource = resources.by_kind(record.value.api_version, record.value.kind)
            base = f"/apis/{resource.group}/v1" if resource.group else "/api/v1"
            path = f"{base}/namespaces/{record.value.metadata.namespace}/{resource.plural}/{record.value.metadata.name}"
            assert (
                world.http("GET", path).content
                == record.wire + b"\n"
                == encode(record.value) + b"\n"
            )


# --- parts


def test_api_17_a_pod_is_bound_once():
    world = populated()
    asked = Request(
        "create",
        resources.PODS,
        "default",
        "a",
        "binding",
        Binding(
            metadata=ObjectMeta(name="a", annotations={"why": "because"}),
            target=ObjectReference(kind="Node", name="node-1"),
        ),
        user=ADMIN,
    )
    assert world.do(asked).response.code == 201
    pod = world.get(resources.PODS, "a")
    assert (
        pod.spec.node_name == "node-1"
        and pod.metadata.annotations == {"why": "because"}
        and pod.metadata.generation == 1
    )
    assert [(c.type, c.status) for c in pod.status.conditions if c.type == "PodScheduled"] == [
        ("PodScheduled", "True")
    ]
    again = world.do(evolve(asked, body=replace(asked.body, target=ObjectReference(name="node-2"))))
    assert again.response.code == 409 and not again.changes
    assert (
        world.do(
            evolve(asked, name="none", body=replace(asked.body, metadata=ObjectMeta(name="none")))
        ).response.code
        == 404
    )


@given(histories())
def test_api_17_the_node_of_a_pod_never_changes(sequence):
    world = run(sequence)
    for change in world.history.changes(resources.PODS.prefix, 0):
        if (
            change.previous is not None
            and change.record is not None
            and change.previous.value.spec.node_name
        ):
            assert change.record.value.spec.node_name == change.previous.value.spec.node_name


@given(st.integers(0, 3), st.integers(0, 3), st.booleans(), st.booleans())
@example(1, 1, True, False)
def test_api_18_evictions_never_spend_more_than_the_budget_has(allowed, pods, counted, running):
    world = World()
    budget = PodDisruptionBudget(
        metadata=metadata_of("budget"),
        spec=PodDisruptionBudgetSpec(selector=LabelSelector(match_labels={"app": "x"})),
    )
    world.do(
        Request("create", resources.POD_DISRUPTION_BUDGETS, "default", body=budget, user=ADMIN)
    )
    made = world.get(resources.POD_DISRUPTION_BUDGETS, "budget")
    said = PodDisruptionBudgetStatus(
        disruptions_allowed=allowed,
        observed_generation=1 if counted else None,
        current_healthy=3,
        desired_healthy=3,
    )
    world.do(
        Request(
            "update",
            resources.POD_DISRUPTION_BUDGETS,
            "default",
            "budget",
            "status",
            body=replace(made, status=said),
            user=ADMIN,
        )
    )
    for number in range(pods):
        name = f"p{number}"
        world.do(
            Request(
                "create",
                resources.PODS,
                "default",
                body=an_object(resources.PODS, metadata_of(name, labels={"app": "x"})),
                user=ADMIN,
            )
        )
        pod = world.get(resources.PODS, name)
        ready = PodStatus(
            phase="Running" if running else "Pending",
            conditions=(PodCondition(type="Ready", status="True"),),
        )
        world.do(
            Request(
                "update",
                resources.PODS,
                "default",
                name,
                "status",
                body=replace(pod, status=ready),
                user=ADMIN,
            )
        )
    codes = []
    for number in range(pods):
        name = f"p{number}"
        taken = world.do(
            Request(
                "create",
                resources.PODS,
                "default",
                name,
                "eviction",
                Eviction(metadata=metadata_of(name)),
                user=ADMIN,
            )
        )
        codes.append(taken.response.code)
        assert len({change.revision for change in taken.changes}) <= 1, "pod and budget go together"
    expected = pods if not running else min(allowed, pods) if counted else 0
    assert codes.count(201) == expected and codes.count(429) == pods - expected
    left = world.get(resources.POD_DISRUPTION_BUDGETS, "budget").status
    assert left.disruptions_allowed == (allowed - expected if running else allowed)
    assert len(left.disrupted_pods or {}) == (expected if running else 0)


@given(st.integers(0, 5))
def test_api_19_scale_changes_replicas_and_nothing_else(replicas):
    # Shows API-19.b.
    world = populated()
    before = world.get(resources.DEPLOYMENTS, "a")
    shown = world.do(
        Request("get", resources.DEPLOYMENTS, "default", "a", "scale", user=ADMIN)
    ).response.body
    assert (shown.spec.replicas or 0) == before.spec.replicas and shown.status.selector == "app=x"
    scale = Scale(metadata=ObjectMeta(name="a"), spec=ScaleSpec(replicas=replicas or None))
    answer = world.do(
        Request("update", resources.DEPLOYMENTS, "default", "a", "scale", scale, user=ADMIN)
    ).response
    after = world.get(resources.DEPLOYMENTS, "a")
    assert (
        answer.code == 200 and (answer.body.spec.replicas or 0) == replicas == after.spec.replicas
    )
    assert after.metadata.generation == 1 + (replicas != before.spec.replicas)
    assert replace(after.spec, replicas=before.spec.replicas) == before.spec
    stale = replace(scale, metadata=ObjectMeta(name="a", resource_version="1"))
    assert (
        world.do(
            Request("update", resources.DEPLOYMENTS, "default", "a", "scale", stale, user=ADMIN)
        ).response.code
        == 409
    )


@given(
    st.sampled_from([None, 0, 60, 599, 600, 3600, 2**32, 2**32 + 1]),
    st.sampled_from([None, ("one",)]),
)
def test_api_20_a_token_lasts_ten_minutes_or_longer(seconds, audiences):
    # Shows API-16.b API-20.a API-20.e.
    world = World()
    world.do(
        Request(
            "create",
            resources.SERVICE_ACCOUNTS,
            "default",
            body=ServiceAccount(metadata=metadata_of("robot")),
            user=ADMIN,
        )
    )
    asked = TokenRequest(spec=TokenRequestSpec(audiences=audiences, expiration_seconds=seconds))
    taken = world.do(
        Request(
            "create", resources.SERVICE_ACCOUNTS, "default", "robot", "token", asked, user=ADMIN
        )
    )
    if seconds is not None and not 600 <= seconds <= 2**32:
        assert taken.response.code == 422
        return
    assert taken.response.code == 201 and not taken.changes
    token, lasts = taken.response.body.status.token, (seconds or 3600) * SECOND
    made = world.now
    users = [
        authenticate(f"Bearer {token}", DEFAULT_CONFIG, at)
        for at in (made, made + lasts - SECOND, made + lasts)
    ]
    if audiences is not None:
        assert users == [None, None, None], "API-16: it is for somebody else"
    else:
        assert (
            users[0] == users[1] is not None
            and users[2] is None
            and users[0].name == "system:serviceaccount:default:robot"
        )


@cache
def a_token() -> tuple[str, int]:
    world = World()
    world.do(
        Request(
            "create",
            resources.SERVICE_ACCOUNTS,
            "default",
            body=ServiceAccount(metadata=metadata_of("robot")),
            user=ADMIN,
        )
    )
    return world.do(
        Request(
            "create",
            resources.SERVICE_ACCOUNTS,
            "default",
            "robot",
            "token",
            TokenRequest(),
            user=ADMIN,
        )
    ).response.body.status.token, world.now


@given(st.integers(0, 10_000), st.characters(codec="ascii"))
def test_api_16_one_changed_character_makes_a_token_nobodys(position, character):
    # Shows API-16.c.
    token, now = a_token()
    position %= len(token)
    changed = token[:position] + character + token[position + 1 :]
    if changed == token or changed.strip() != changed:
        return
    if position == len(token) - 1:
        return  # the last character of the signature holds bits that mean nothing
    assert authenticate(f"Bearer {changed}", DEFAULT_CONFIG, now) is None


def test_api_20_a_token_may_be_bound_to_what_exists():
    # Shows API-20.d.
    world = populated()
    world.do(
        Request(
            "create",
            resources.SERVICE_ACCOUNTS,
            "default",
            body=ServiceAccount(metadata=metadata_of("robot")),
            user=ADMIN,
        )
    )
    its_pod = Pod(
        metadata=metadata_of("its"),
        spec=PodSpec(containers=(Container(name="c", image="i"),), service_account_name="robot"),
    )
    assert (
        world.do(
            Request("create", resources.PODS, "default", body=its_pod, user=ADMIN)
        ).response.code
        == 201
    )
    for kind, name, code in (
        ("Pod", "its", 201),
        ("Pod", "a", 400),
        ("Pod", "none", 404),
        ("ConfigMap", "a", 400),
    ):
        asked = TokenRequest(
            spec=TokenRequestSpec(bound_object_ref=BoundObjectReference(kind=kind, name=name))
        )
        assert (
            world.do(
                Request(
                    "create",
                    resources.SERVICE_ACCOUNTS,
                    "default",
                    "robot",
                    "token",
                    asked,
                    user=ADMIN,
                )
            ).response.code
            == code
        )


def test_api_8_a_step_that_writes_the_status_exists():
    """The premise of API-8 is reached: a status write that changes something."""
    world = populated()
    step = Step(
        "update", resources.DEPLOYMENTS, "default", "a", "status", number=2, version="present"
    )
    taken = world.do(step.request(world))
    assert (
        taken.response.code == 200
        and taken.changes
        and taken.response.body.status.observed_generation == 3
    )
    assert (
        not list(must.api_8_a_path_changes_only_its_part("status", taken.changes[0]))
        and taken.request.body.spec.replicas == 2
    )
    assert (
        world.do(
            Request("list", resources.DEPLOYMENTS, "default", options=Options(), user=ADMIN)
        ).response.code
        == 200
    )


def test_api_2_chance_of_the_context_alone_names_things():
    """Two servers with the same chance make the same world: nothing else is drawn from."""
    worlds = [populated(), populated()]
    assert worlds[0].history == worlds[1].history
    assert SeededChance(b"x").draw(4) == SeededChance(b"x").draw(4)


@given(
    st.text(st.sampled_from("0129xé-"), min_size=1, max_size=22) | st.integers(0, 2**70).map(str)
)
@example("18446744073709551615")
@example("18446744073709551616")
@example("0" * 5000)
def test_api_6_a_resource_version_in_a_change_is_a_number_of_64_bits_or_answered_500(text):
    # Shows API-6.c API-14.e.
    world = populated()
    step = Step("update", resources.CONFIG_MAPS, "default", "a", number=5).request(world)
    body = replace(step.body, metadata=replace(step.body.metadata, resource_version=text))
    said = world.do(evolve(step, body=body)).response
    current = world.get(resources.CONFIG_MAPS, "a").metadata.resource_version
    if (
        not (text.isascii() and text.isdigit())
        or len(text.lstrip("0")) > 20
        or int(text.lstrip("0") or "0") >= 2**64
    ):
        assert (
            said.code == 500
            and said.body.reason is None
            and said.body.message.startswith("strconv.ParseUint: parsing ")
        )
    else:
        assert said.code == (200 if not text.strip("0") or text == current else 409)
