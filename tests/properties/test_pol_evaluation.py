"""What admission policies do to requests (spec/admission_policies.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.user import ADMIN, AUTHENTICATED, User
from refk8s.core.apiserver.config import Attributes, Config, Decision
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle

RULE = {
    "apiGroups": [""],
    "apiVersions": ["v1"],
    "operations": ["CREATE", "UPDATE"],
    "resources": ["configmaps"],
}
JANE = User("jane", groups=(AUTHENTICATED, "team"))


class Cluster(World):
    """A world in which policies are made in a few words."""

    def put(self, resource: Resource, name: str, spec: dict[str, Any]) -> None:
        tree = {"metadata": {"name": name}, "spec": spec}
        taken = self.do(
            Request("create", resource, body=from_tree(resource.type, tree), user=ADMIN)
        )
        assert taken.response.code == 201, taken.response.body

    def validating(
        self,
        *validations: dict[str, Any],
        name: str = "p",
        actions: tuple[str, ...] = ("Deny",),
        binding: dict[str, Any] | None = None,
        match: dict[str, Any] | None = None,
        **spec: Any,
    ) -> None:
        """A policy and its binding, both of this name."""
        constraints = {"resourceRules": [RULE], **(match or {})}
        whole = {"matchConstraints": constraints, "validations": list(validations), **spec}
        self.put(resources.VALIDATING_ADMISSION_POLICIES, name, whole)
        bound = {"policyName": name, "validationActions": list(actions), **(binding or {})}
        self.put(resources.VALIDATING_ADMISSION_POLICY_BINDINGS, name, bound)

    def mutating(self, *mutations: dict[str, Any], name: str = "p", **spec: Any) -> None:
        whole = {
            "matchConstraints": {"resourceRules": [RULE]},
            "mutations": list(mutations),
            "reinvocationPolicy": "Never",
            **spec,
        }
        self.put(resources.MUTATING_ADMISSION_POLICIES, name, whole)
        self.put(resources.MUTATING_ADMISSION_POLICY_BINDINGS, name, {"policyName": name})

    def create(
        self,
        name: str = "a",
        data: Any = None,
        user: User = ADMIN,
        dry_run: bool = False,
        **metadata: Any,
    ) -> Any:
        """The answer to a create of a ConfigMap in the namespace default."""
        kind = resources.CONFIG_MAPS
        body = from_tree(kind.type, {"metadata": {"name": name, **metadata}, **({"data": data} if data else {})})  # fmt: skip
        request = Request(
            "create", kind, "default", body=body, user=user, options=Options(dry_run=dry_run)
        )
        return self.do(request).response

    def merge(self, name: str, change: Any) -> Any:
        patch = Patch("application/merge-patch+json", json.dumps(change).encode())
        request = Request("patch", resources.CONFIG_MAPS, "default", name, body=patch, user=ADMIN)
        return self.do(request).response


def holds(expression: str, **more: Any) -> dict[str, Any]:
    return {"expression": expression, **more}


def test_pol_6_a_policy_takes_effect_with_its_binding_and_ends_with_it():
    world = Cluster()
    spec = {"matchConstraints": {"resourceRules": [RULE]}, "validations": [holds("false")]}
    world.put(resources.VALIDATING_ADMISSION_POLICIES, "p", spec)
    assert world.create("a").code == 201
    world.put(resources.VALIDATING_ADMISSION_POLICY_BINDINGS, "b", {"policyName": "p", "validationActions": ["Deny"]})  # fmt: skip
    refused = world.create("b")
    assert (refused.code, refused.body.reason) == (422, "Invalid")
    words = (
        "ValidatingAdmissionPolicy 'p' with binding 'b' denied request: failed expression: false"
    )
    assert refused.body.message == f'configmaps "b" is forbidden: {words}'
    assert [one.message for one in refused.body.details.causes] == [words]
    assert (refused.body.details.kind, refused.body.details.name) == ("configmaps", "b")
    delete = Request("delete", resources.VALIDATING_ADMISSION_POLICY_BINDINGS, name="b", user=ADMIN)
    assert world.do(delete).response.code == 200
    assert world.create("b").code == 201


@pytest.mark.parametrize(
    ("match", "binding", "is_denied"),
    [
        ({}, {}, True),
        ({"excludeResourceRules": [{**RULE, "resourceNames": ["a"]}]}, {}, False),
        ({"objectSelector": {"matchLabels": {"x": "y"}}}, {}, False),
        ({}, {"matchResources": {"namespaceSelector": {"matchLabels": {"x": "y"}}}}, False),
        ({}, {"matchResources": {"resourceRules": [{**RULE, "resources": ["pods"]}]}}, False),
        ({"resourceRules": [{**RULE, "resources": ["*"]}]}, {}, True),
        ({}, {"matchResources": {"objectSelector": {"matchLabels": {"x": "y"}}}}, False),
        ({}, {"matchResources": {"objectSelector": {}}}, True),
    ],
)
def test_pol_6_policy_and_binding_must_match(match, binding, is_denied):
    world = Cluster()
    world.validating(holds("false"), match=match, binding=binding)
    assert (world.create("a").code == 422) is is_denied


def test_pol_6_policies_can_always_be_removed():
    world = Cluster()
    rule = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*"]}
    world.validating(holds("false"), match={"resourceRules": [rule]})
    assert world.create("a").code == 422
    delete = Request("delete", resources.VALIDATING_ADMISSION_POLICIES, name="p", user=ADMIN)
    assert world.do(delete).response.code == 200 and world.create("a").code == 201


PARAMS = {"apiVersion": "v1", "kind": "ConfigMap"}


@pytest.mark.parametrize(
    ("ref", "words"),
    [
        ({"name": "one", "namespace": "other"}, "denied request: not x"),
        ({"selector": {"matchLabels": {"rule": "x"}}, "namespace": "other"}, "denied request: not x"),
        ({"selector": {}, "namespace": "other"}, "denied request: not x"),
        ({"name": "none", "parameterNotFoundAction": "Deny"}, "failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction"),
        ({"name": "none"}, ""),
        (None, "denied request: expression '!(params.data.word in object.data)' resulted in error: no such key: data"),
    ],
)  # fmt: skip
def test_pol_7_a_policy_is_evaluated_with_each_parameter_of_its_binding(ref, words):
    world = Cluster()
    for name, word in (("one", "x"), ("two", "y")):
        body = {"metadata": {"name": name, "labels": {"rule": word}}, "data": {"word": word}}
        config = from_tree(resources.CONFIG_MAPS.type, body)
        world.do(Request("create", resources.CONFIG_MAPS, "other", body=config, user=ADMIN))
    binding = {} if ref is None else {"paramRef": {"parameterNotFoundAction": "Allow", **ref}}
    rule = holds(
        "!(params.data.word in object.data)", messageExpression="'not ' + params.data.word"
    )
    world.validating(rule, binding=binding, paramKind=PARAMS)
    answer = world.create("a", {"x": "1"})
    if ref is None:
        assert answer.code == 422 and "resulted in error" in answer.body.message
        return
    assert (answer.code == 422) is bool(words)
    assert words in (getattr(answer.body, "message", "") or "")
    if "selector" in ref:
        several = world.create("b", {"y": "1"})
        assert (several.code == 422) is (ref["selector"] == {})


def test_pol_7_a_kind_of_parameters_that_is_not_served_denies_under_fail_only():
    for failure, code in (("Fail", 422), ("Ignore", 201)):
        world = Cluster()
        kind = {"apiVersion": "none.example.com/v1", "kind": "None"}
        world.validating(holds("true"), paramKind=kind, failurePolicy=failure)
        answer = world.create("a")
        assert answer.code == code
        if code == 422:
            assert (
                "denied request: failed to configure policy: failed to find" in answer.body.message
            )


def test_pol_8_expressions_see_the_request_the_namespace_and_both_objects():
    world = Cluster()
    asked = (
        "request.userInfo.username + ' ' + request.operation + ' ' + request.resource.resource + "
        "' ' + request.namespace + ' ' + request.name"
    )
    world.validating(
        holds("request.userInfo.username != 'jane' || request.dryRun", messageExpression=asked),
        holds("namespaceObject.metadata.name == 'default'"),
        holds("oldObject == null || object.data.k == oldObject.data.k", message="k stays"),
        holds("'team' in request.userInfo.groups || request.userInfo.username != 'jane'"),
    )
    refused = world.create("a", user=JANE)
    assert refused.body.message.endswith("denied request: jane CREATE configmaps default a")
    assert world.create("a", {"k": "v"}, user=JANE, dry_run=True).code == 201
    assert world.create("a", {"k": "v"}).code == 201
    assert world.merge("a", {"data": {"l": "x"}}).code == 200
    assert world.merge("a", {"data": {"k": "x"}}).body.message.endswith("k stays")


def test_pol_8_the_authorizer_is_asked_for_the_user():
    asked: list[Attributes] = []

    def may(attributes: Attributes, store: Any) -> Decision:
        asked.append(attributes)
        return Decision(attributes.verb != "delete", "so")

    world = Cluster(config=Config(authorizer=may))
    check = "authorizer.group('apps').resource('deployments').namespace('n').name('d').check('{}')"
    world.validating(
        holds(check.format("update") + ".allowed()"),
        holds(f"!{check.format('delete')}.allowed() && {check.format('delete')}.reason() == 'so'"),
        holds("authorizer.requestResource.check('create').allowed()"),
        holds("authorizer.serviceAccount('n', 's').path('/healthz').check('GET').allowed()"),
    )
    asked.clear()
    assert world.create("a", user=JANE).code == 201
    first, *_, third, last = [one for one in asked if one.verb != "delete"][1:]
    assert first == Attributes(JANE, "update", "apps", "deployments", "", "n", "d", version="*")
    assert third == Attributes(JANE, "create", "", "configmaps", "", "default", "a", version="*")
    assert (last.user.name, last.path, last.verb) == (
        "system:serviceaccount:n:s",
        "/healthz",
        "get",
    )


def test_pol_8_variables_are_evaluated_when_they_are_read_and_once():
    world = Cluster()
    variables = [
        {"name": "broken", "expression": "object.none.x"},
        {"name": "size", "expression": "object.data.size()"},
        {"name": "many", "expression": "variables.size > 1"},
    ]
    world.validating(holds("!variables.many", messageExpression="'has ' + string(variables.size)"), variables=variables)  # fmt: skip
    assert world.create("a", {"x": "1"}).code == 201
    assert world.create("b", {"x": "1", "y": "2"}).body.message.endswith("denied request: has 2")
    world.validating(holds("variables.broken == 1"), name="q", variables=variables)
    words = 'resulted in error: composited variable "broken" fails to evaluate: no such key: none'
    assert words in world.create("c", {"x": "1"}).body.message


def test_pol_9_an_expression_without_a_value_denies_if_the_policy_fails_closed():
    for failure, code in (("Fail", 422), ("Ignore", 201)):
        world = Cluster()
        world.validating(holds("object.data.none == 'x'"), failurePolicy=failure)
        answer = world.create("a", {"k": "v"})
        assert answer.code == code
        if code == 422:
            words = "expression 'object.data.none == 'x'' resulted in error: no such key: none"
            assert answer.body.message.endswith(words)


def test_pol_9_match_conditions_decide_before_validations():
    world = Cluster()
    world.validating(
        holds("false", message="matched"),
        matchConditions=[
            {"name": "a", "expression": "object.metadata.name.startsWith('m')"},
            {"name": "b", "expression": "request.operation != 'UPDATE'"},
        ],
    )
    assert world.create("other").code == 201
    assert world.create("mine").body.message.endswith("denied request: matched")
    assert world.merge("other", {"data": {"k": "v"}}).code == 200


@pytest.mark.parametrize(
    ("validation", "words"),
    [
        ({"messageExpression": "'made ' + object.metadata.name", "message": "plain"}, "made a"),
        ({"messageExpression": "object.none + ''", "message": " plain "}, "plain"),
        ({"messageExpression": "'a\\nb'", "message": "plain"}, "plain"),
        ({"messageExpression": "'  '"}, "failed expression: 1 == 2"),
        ({}, "failed expression: 1 == 2"),
    ],
)
def test_pol_10_the_message_is_made_or_written_or_the_expression(validation, words):
    world = Cluster()
    world.validating({"expression": " 1 == 2 ", **validation})
    assert world.create("a").body.message.endswith(f"denied request: {words}")


@pytest.mark.parametrize(
    ("reason", "code"),
    [("Forbidden", 403), ("Invalid", 422), ("RequestEntityTooLarge", 413)],
)
def test_pol_10_the_reason_gives_the_code(reason, code):
    world = Cluster()
    world.validating(holds("false", reason=reason))
    answer = world.create("a")
    assert (answer.code, answer.body.reason) == (code, reason)


def test_pol_10_a_warning_lets_the_request_pass():
    world = Cluster()
    world.validating(holds("object.data.k != 'bad'", message="better not"), actions=("Warn", "Audit"))  # fmt: skip
    answer = world.create("a", {"k": "bad"})
    words = "Validation failed for ValidatingAdmissionPolicy 'p' with binding 'p': better not"
    assert answer.code == 201 and words in answer.warnings
    assert world.create("b", {"k": "good"}).warnings == ()


def test_pol_11_audit_annotations_are_the_values_of_expressions():
    world = Cluster()
    annotations = [
        {"key": "k", "valueExpression": "'made ' + object.metadata.name"},
        {"key": "none", "valueExpression": "null"},
        {"key": "empty", "valueExpression": "' '"},
    ]
    for name in ("p", "q"):
        world.validating(holds("false", message="so"), name=name, actions=("Audit",), auditAnnotations=annotations)  # fmt: skip
    body = from_tree(resources.CONFIG_MAPS.type, {"metadata": {"name": "a"}})
    request = Request("create", resources.CONFIG_MAPS, "default", body=body, user=ADMIN)
    exchange = Exchange(request, world.history, world.context(), world.config)
    handle(exchange)
    found = exchange.notes.annotations
    failure = json.loads(found.pop("validation.policy.admission.k8s.io/validation_failure"))
    assert found == {"p/k": "made a", "q/k": "made a"}
    assert set(found) < {key for key, _ in world.create("b").annotations}
    assert failure == [{"message": "so", "policy": "p", "binding": "p", "expressionIndex": 0, "validationActions": ["Audit"]}]  # fmt: skip


def test_d_142_no_policy_is_evaluated_after_a_denial():
    world = Cluster()
    world.validating(holds("false"), name="a")
    world.validating(holds("false"), name="b", actions=("Warn",))
    assert (world.create().code, world.create().warnings) == (422, ())
    world.validating(holds("false"), name="0", actions=("Warn",))
    assert len(world.create().warnings) == 1


_LOOP = "[1,2,3,4,5,6,7,8,9,10]"


def test_pol_9_no_policy_keeps_the_server_busy():
    world = Cluster()
    loops = (
        f"{_LOOP}.all(a, {_LOOP}.all(b, {_LOOP}.all(c, {_LOOP}.all(d, {_LOOP}.all(e, "
        f"{_LOOP}.all(f, a + b > 0))))))"
    )
    world.validating(holds(loops), holds("true"))
    assert "cost limit exceeded" in world.create("a").body.message
    world.validating(
        *[holds(f"{loops} || {n} == 0") for n in range(5)], name="q", actions=("Warn",)
    )
    assert world.create("b").code == 422


# --- mutations


def operations(text: str) -> dict[str, Any]:
    return {"patchType": "JSONPatch", "jsonPatch": {"expression": text}}


def test_pol_12_a_mutation_changes_the_object_before_it_is_validated():
    world = Cluster()
    world.mutating(
        operations("[JSONPatch{op: 'add', path: '/metadata/labels', value: {'a': 'b'}}]")
    )
    world.validating(holds("object.metadata.labels.a == 'b'"))
    made = world.create("a", {"k": "v"})
    assert made.code == 201 and made.body.metadata.labels == {"a": "b"}


def test_pol_13_operations_apply_together_and_not_at_all_if_a_test_fails():
    world = Cluster()
    stamp = "'/metadata/annotations/' + jsonpatch.escapeKey('example.com/stamp')"
    world.mutating(
        operations(f"[JSONPatch{{op: 'add', path: {stamp}, value: 'x~y'}}]"),
        operations("[JSONPatch{op: 'test', path: '/data/k', value: 'v'}, JSONPatch{op: 'replace', path: '/data/k', value: 'w'}]"),
        matchConditions=[{"name": "a", "expression": "has(object.metadata.annotations)"}],
    )  # fmt: skip
    some = {"annotations": {"a": "b"}}
    made = world.create("a", {"k": "v"}, **some).body
    assert made.data == {"k": "w"} and made.metadata.annotations["example.com/stamp"] == "x~y"
    assert world.create("b", {"k": "other"}, **some).body.data == {"k": "other"}
    assert world.create("c", {"k": "v"}).body.data == {"k": "v"}


def configuration(text: str) -> dict[str, Any]:
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}


def test_pol_13_configurations_are_merged_by_the_types_of_fields():
    world = Cluster()
    services = {"resourceRules": [{**RULE, "resources": ["services"]}]}
    world.mutating(
        configuration(
            "Object{metadata: Object.metadata{labels: Object.metadata.labels{a: "
            "object.spec.clusterIP}}, "
            "spec: Object.spec{ports: object.spec.ports.map(p, Object.spec.ports{port: p.port, "
            "protocol: 'TCP', name: 'p' + string(p.port)})}}"
        ),
        matchConstraints=services,
    )
    spec = {"clusterIP": "None", "ports": [{"port": 1, "targetPort": 7}, {"port": 2}]}
    tree = {"metadata": {"name": "s", "labels": {"b": "c"}}, "spec": spec}
    body = from_tree(resources.SERVICES.type, tree)
    made = world.do(Request("create", resources.SERVICES, "default", body=body, user=ADMIN))
    service = made.response.body
    assert made.response.code == 201, service
    assert service.metadata.labels == {"a": "None", "b": "c"}
    assert [(one.name, one.port, one.target_port) for one in service.spec.ports] == [
        ("p1", 1, 7),
        ("p2", 2, 2),
    ]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            "Object{spec: Object.spec{nope: 1}}",
            "error applying patch: failed to convert patch object to typed object: .spec.nope: "
            "field not declared in schema",
        ),
        (
            "Object{spec: Object.spec{externalIPs: ['1.2.3.4'], ports: [Object.spec.ports{port: "
            "1, protocol: 'TCP'}]}}",
            "error applying patch: invalid ApplyConfiguration: may not mutate atomic arrays, "
            "maps or structs: .spec.externalIPs",
        ),
        (
            "Object{spec: Object.metadata{}}",
            'type mismatch: unexpected type name "Object.metadata", expected "Object.spec", '
            "which matches field name path from root Object type",
        ),
    ],
)
def test_pol_13_configurations_name_declared_fields_and_no_atomic_ones(text, words):
    world = Cluster()
    world.mutating(configuration(text), matchConstraints={"resourceRules": [{**RULE, "resources": ["services"]}]})  # fmt: skip
    tree = {"metadata": {"name": "s"}, "spec": {"ports": [{"port": 1}]}}
    body = from_tree(resources.SERVICES.type, tree)
    answer = world.do(Request("create", resources.SERVICES, "default", body=body, user=ADMIN))
    assert answer.response.code == 403
    assert answer.response.body.message == f"policy 'p' with binding 'p' denied request: {words}"


def test_pol_13_a_mutation_that_cannot_be_made_denies_if_the_policy_fails_closed():
    for failure, code in (("Fail", 403), ("Ignore", 201)):
        world = Cluster()
        world.mutating(operations("[JSONPatch{op: 'remove', path: '/data/none'}]"), failurePolicy=failure)  # fmt: skip
        answer = world.create("a", {"k": "v"})
        assert answer.code == code
        if code == 403:
            assert answer.body.reason == "Invalid"
            assert answer.body.message.startswith(
                "policy 'p' with binding 'p' denied request: JSONPath: "
            )
            assert answer.body.details.causes[0].message == answer.body.message


def test_pol_14_a_policy_that_asks_for_it_is_invoked_again_after_a_later_change():
    count = "[JSONPatch{op: 'add', path: '/data/n', value: object.data.n + '1'}]"
    seen = (
        "[JSONPatch{op: 'add', path: '/data/seen', value: has(object.data.late) ? 'late' : 'no'}]"
    )
    for policy, expected in (("Never", "no"), ("IfNeeded", "late")):
        world = Cluster()
        world.mutating(operations(seen), name="a", reinvocationPolicy=policy)
        world.mutating(operations("[JSONPatch{op: 'add', path: '/data/late', value: 'x'}]"), name="b")  # fmt: skip
        world.mutating(operations(count), name="c", reinvocationPolicy="Never")
        assert world.create("m", {"n": "0"}).body.data == {"n": "01", "late": "x", "seen": expected}


@given(st.text(max_size=20), st.sampled_from(["", "/data", "/metadata/name", "/data/k", "x"]))
def test_pol_13_no_patch_is_an_internal_error(value, path):
    world = Cluster()
    text = (
        f"[JSONPatch{{op: 'add', path: {json.dumps(path)}, value: "
        f"{json.dumps(value, ensure_ascii=False)}}}]"
    )
    world.mutating(operations(text))
    assert world.create("a", {"k": "v"}).code in (201, 403, 422)
