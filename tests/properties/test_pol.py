"""Admission policies (spec/admission_policies.md)."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.defaults import default
from refk8s.core.apiserver.validation import validate_create, validate_status_update
from refk8s.core.apiserver.validation.webhook_rules import validate_rule
from refk8s.core.cel.admission import Environment, compile_variable
from refk8s.core.cel.environment import InvalidExpression

VALIDATING, VALIDATING_BINDING = (
    resources.VALIDATING_ADMISSION_POLICIES,
    resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
)
MUTATING, MUTATING_BINDING = (
    resources.MUTATING_ADMISSION_POLICIES,
    resources.MUTATING_ADMISSION_POLICY_BINDINGS,
)
RULE = {"apiGroups": [""], "apiVersions": ["v1"], "operations": ["CREATE"], "resources": ["pods"]}
MATCH = {"resourceRules": [RULE]}


def made(resource: Resource, spec: dict[str, Any], **more: Any) -> Any:
    """A defaulted object with this spec."""

    tree = {"metadata": {"name": "p"}, "spec": spec, **more}
    return default(resource, from_tree(resource.type, tree))


def wrong(resource: Resource, spec: dict[str, Any]) -> dict[str, str]:
    """The messages of the causes by field."""
    return {one.field: one.message for one in validate_create(resource, made(resource, spec))}


def validating(**spec: Any) -> dict[str, str]:
    return wrong(VALIDATING, {"matchConstraints": MATCH, **spec})


def mutating(**spec: Any) -> dict[str, str]:
    given_spec = {"matchConstraints": MATCH, "reinvocationPolicy": "Never", **spec}
    return wrong(MUTATING, given_spec)


def test_pol_1_a_policy_fails_closed_and_matches_everything():
    policy = made(VALIDATING, {"matchConstraints": MATCH})
    assert policy.spec.failure_policy == "Fail"
    match = policy.spec.match_constraints
    assert match.match_policy == "Equivalent" and match.resource_rules[0].scope == "*"
    assert match.namespace_selector is not None and match.object_selector is not None
    assert default(VALIDATING, policy) is policy
    binding = made(MUTATING_BINDING, {"policyName": "p", "matchResources": {}})
    assert binding.spec.match_resources.match_policy == "Equivalent"
    assert made(MUTATING_BINDING, {"policyName": "p"}).spec.match_resources is None


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"operations": []}, "operations", "Required value"),
        ({"operations": ["SING"]}, "operations[0]", "Unsupported value"),
        ({"operations": ["*", "CREATE"]}, "operations", "if '*' is present"),
        ({"apiGroups": ["*", "apps"]}, "apiGroups", "other API groups"),
        ({"apiVersions": [""]}, "apiVersions[0]", "Required value"),
        ({"resources": ["pods/*", "pods/status"]}, "resources[1]", "must not specify pods/status"),
        ({"resources": ["*/scale", "x/scale"]}, "resources[1]", "if '*/scale' is present"),
        ({"resources": ["*/*", "x"]}, "resources", "if '*/*' is present"),
        ({"resources": ["*", "x"]}, "resources", "other resources without subresources"),
        ({"resourceNames": ["a", "a"]}, "resourceNames[1]", "Duplicate value"),
        ({"scope": "x"}, "scope", "Unsupported value"),
    ],
)
def test_pol_2_a_rule_has_nothing_beside_a_wildcard(change, field, words):
    spec = {"matchConstraints": {"resourceRules": [{**RULE, **change}]}, "validations": [{"expression": "true"}]}  # fmt: skip
    found = wrong(VALIDATING, spec)
    assert words in found[f"spec.matchConstraints.resourceRules[0].{field}"]


_WORDS = st.sampled_from(["*", "", "pods", "pods/*", "*/scale", "*/*", "a/b", "CREATE", "v1"])


@given(st.lists(_WORDS, max_size=4), st.lists(_WORDS, max_size=4))
def test_pol_2_no_rule_is_an_internal_error(some, others):
    from refk8s.core.api.admissionregistration_v1 import NamedRuleWithOperations

    names, rest = tuple(some), tuple(others)
    rule = NamedRuleWithOperations(
        resource_names=names, operations=rest, api_groups=names, api_versions=rest, resources=names
    )
    causes = validate_rule(rule, "r")
    if not names:
        assert "r.resources" in {one.field for one in causes}


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({"validations": [{"expression": "1 + 1"}]}, "validations[0].expression", "must evaluate to bool but got int"),
        ({"validations": [{"expression": "object.x"}]}, "validations[0].expression", "must evaluate to bool but got dyn"),
        ({"validations": [{"expression": "params.x == 1"}]}, "validations[0].expression", "undeclared reference to 'params' (in container '')"),
        ({"validations": [{"expression": " "}]}, "validations[0].expression", "expression is not specified"),
        ({"validations": [{"expression": "true", "messageExpression": "1"}]}, "validations[0].messageExpression", "must evaluate to string but got int"),
        ({"validations": [{"expression": "true", "messageExpression": "string(authorizer.path('/').check('get').allowed())"}]}, "validations[0].messageExpression", "undeclared reference to 'authorizer'"),
        ({"validations": [{"expression": "true", "message": "a\nb"}]}, "validations[0].message", "line breaks"),
        ({"validations": [{"expression": "true", "reason": "Unauthorized"}]}, "validations[0].reason", "Unsupported value"),
        ({"variables": [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]}, "variables[0].expression", "undefined field 'b'"),
        ({"variables": [{"name": "if", "expression": "1"}]}, "variables[0].name", "not a valid CEL identifier"),
        ({"validations": [{"expression": "true"}], "matchConditions": [{"name": "a", "expression": "request.operations == ''"}]}, "matchConditions[0].expression", "undefined field 'operations'"),
        ({"auditAnnotations": [{"key": "k", "valueExpression": "1"}]}, "auditAnnotations[0].valueExpression", "must evaluate to one of [string null_type] but got int"),
        ({"auditAnnotations": [{"key": "k!", "valueExpression": "'x'"}]}, "auditAnnotations[0].key", "name part must consist"),
        ({}, "validations", "must contain at least one item"),
        ({"paramKind": {"apiVersion": "a/b/c", "kind": "K"}}, "paramKind.apiVersion", "unexpected GroupVersion"),
    ],
)  # fmt: skip
def test_pol_3_every_expression_has_the_type_of_its_place(spec, field, words):
    assert words in validating(**spec)[f"spec.{field}"]


@pytest.mark.parametrize(
    ("mutation", "field", "words"),
    [
        ({"patchType": "Magic"}, "patchType", "Unsupported value"),
        ({"patchType": "JSONPatch"}, "jsonPatch", "must be specified when patchType is JSONPatch"),
        ({"patchType": "JSONPatch", "jsonPatch": {"expression": "'x'"}}, "jsonPatch.expression", "must evaluate to list(JSONPatch) but got string"),
        ({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "true"}}, "applyConfiguration.expression", "must evaluate to Object but got bool"),
        ({"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{}"}, "jsonPatch": {}}, "jsonPatch", "must not be specified"),
        ({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{opp: 'x'}]"}}, "jsonPatch.expression", "undefined field 'opp'"),
        ({"patchType": "JSONPatch", "jsonPatch": {"expression": "[JSONPatch{op: 1}]"}}, "jsonPatch.expression", "expected type of field 'op' is 'string' but provided type is 'int'"),
    ],
)  # fmt: skip
def test_pol_3_a_mutation_makes_what_its_type_says(mutation, field, words):
    assert words in mutating(mutations=[mutation])[f"spec.mutations[0].{field}"]


def test_pol_3_valid_policies_have_no_causes():
    assert not validating(
        paramKind={"apiVersion": "v1", "kind": "ConfigMap"},
        variables=[{"name": "a", "expression": "object.spec.containers.size()"}, {"name": "b", "expression": "variables.a + 1"}],
        matchConditions=[{"name": "x/y", "expression": "authorizer.group('').resource('pods').check('get').allowed()"}],
        validations=[{"expression": "variables.b > 1 && params.data.k == 'v'", "messageExpression": "'not ' + params.data.k"}],
        auditAnnotations=[{"key": "k", "valueExpression": "null"}],
    )  # fmt: skip
    patches = (
        "has(object.x) ? [JSONPatch{op: 'add', path: '/a/' + jsonpatch.escapeKey('b/c'), value: "
        "{'d': 1}}] : []"
    )
    assert not mutating(
        mutations=[
            {"patchType": "JSONPatch", "jsonPatch": {"expression": patches}},
            {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": "Object{spec: Object.spec{replicas: 1}}"}},
        ]
    )  # fmt: skip
    assert not validating(validations=[{"expression": "true"}])


def test_pol_3_what_is_being_deleted_is_not_mutated():
    spec = {"matchConstraints": {"resourceRules": [{**RULE, "operations": ["DELETE"]}]}}
    found = mutating(**spec)
    assert "Unsupported value" in found["spec.matchConstraints.resourceRules.operations"]


@pytest.mark.parametrize(
    ("spec", "field", "words"),
    [
        ({}, "policyName", "Required value"),
        ({"paramRef": {"name": "a", "selector": {}}}, "paramRef.name", "mutually exclusive"),
        ({"paramRef": {}}, "paramRef", "one of name or selector"),
        ({"paramRef": {"name": "a"}}, "paramRef.parameterNotFoundAction", "Required value"),
        ({"validationActions": []}, "validationActions", "at least one"),
        ({"validationActions": ["Deny", "Warn"]}, "validationActions", "must not contain both"),
        ({"validationActions": ["Deny", "Deny"]}, "validationActions[1]", "Duplicate value"),
        ({"validationActions": ["Loud"]}, "validationActions[0]", "Unsupported value"),
    ],
)
def test_pol_4_a_binding_names_a_policy_and_parameters_in_one_way(spec, field, words):
    found = wrong(VALIDATING_BINDING, {"validationActions": ["Deny"], **spec})
    assert words in found[f"spec.{field}"]
    whole = {"policyName": "p", "validationActions": ["Deny"], "paramRef": {"name": "a", "parameterNotFoundAction": "Deny"}}  # fmt: skip
    assert not wrong(VALIDATING_BINDING, whole)


def test_pol_5_conditions_have_a_reason_and_occur_once():
    old = made(VALIDATING, {"matchConstraints": MATCH})
    condition = {"type": "a", "status": "True", "reason": "", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z"}  # fmt: skip
    status = {"conditions": [condition, {**condition, "reason": "A,B"}]}
    new = made(VALIDATING, {"matchConstraints": MATCH}, status=status)
    found = {one.field: one.message for one in validate_status_update(VALIDATING, new, old)}
    assert found == {
        "status.conditions[0].reason": "Required value: must be set",
        "status.conditions[1].type": 'Duplicate value: "a"',
    }


@pytest.mark.parametrize(
    "text",
    ["Object{a: 1}.a", "[?object.?x]", "{?'a': object.?x}.size()", "Object{?a: optional.of(1)}", "request.userInfo.groups.exists(g, g == 'x')", "namespaceObject.metadata.labels.x"],
)  # fmt: skip
def test_cel_7_an_expression_sees_the_variables_of_admission(text):
    compile_variable(text, Environment(is_mutation=True))
    with pytest.raises(InvalidExpression, match=r"undeclared|undefined"):
        compile_variable(f"[{text}, self, request.uid]", Environment())
