"""The type check of validating policies (spec/admission_policies.md, POL-15)."""

from itertools import product
from typing import Any

import pytest
from custom_world import a_version
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_pol_evaluation import RULE, Cluster, holds
from test_pol_patches import stored
from test_quota_controller import established

from refk8s.core.api import codec, resources
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Patch, Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.policies.type_checking import (
    TYPES_MAX,
    _kinds,
    check_types,
    declared_type,
    warnings_of,
)
from refk8s.core.apiserver.apply import managers
from refk8s.core.apiserver.apply.compare import applied_paths
from refk8s.core.apiserver.apply.types import type_of
from refk8s.core.apiserver.custom.definitions import find_custom
from refk8s.core.cel.records import record_type
from refk8s.core.context import Context, SeededChance
from refk8s.core.store import EMPTY

POLICIES = resources.VALIDATING_ADMISSION_POLICIES
CONTEXT = Context(0, SeededChance(b"seed"))


def a_policy(*rules: dict[str, Any], **spec: Any) -> Any:
    whole = {"matchConstraints": {"resourceRules": list(rules)}, **spec}
    return codec.from_tree(POLICIES.type, {"metadata": {"name": "p"}, "spec": whole})


GROUPS, VERSIONS = ("", "apps", "example.com", "*"), ("v1", "v2", "*")
PLURALS = ("pods", "deployments", "deployments/scale", "gadgets", "nodes", "*", "pods/*")
CRDS = resources.CUSTOM_RESOURCE_DEFINITIONS
STORE = stored((CRDS, established()))


def some(values: tuple[str, ...]) -> Any:
    return st.lists(st.sampled_from(values), min_size=1, max_size=3, unique=True)


rules = st.fixed_dictionaries(
    {"apiGroups": some(GROUPS), "apiVersions": some(VERSIONS), "resources": some(PLURALS)}
)
KNOWN = {
    ("", "v1", "pods"): "Pod", ("", "v1", "nodes"): "Node",
    ("apps", "v1", "deployments"): "Deployment", ("example.com", "v1", "gadgets"): "Gadget",
}  # fmt: skip


@given(st.lists(rules, max_size=3))
def test_pol_15_the_kinds_that_rules_name_without_wildcards(drawn):
    expected = set()
    for rule in drawn:
        if "*" not in (*rule["apiGroups"], *rule["apiVersions"]):
            for place in product(rule["apiGroups"], rule["apiVersions"], rule["resources"]):
                if place in KNOWN:
                    expected.add((place[0], place[1], KNOWN[place]))
    policy = a_policy(*({**RULE, **rule} for rule in drawn))
    found = [(one.group, one.version, one.kind) for one in _kinds(policy, STORE)]
    assert found == sorted(expected)
    assert _kinds(replace(policy, spec=replace(policy.spec, match_constraints=None)), STORE) == []


def test_pol_15_at_most_ten_kinds_are_checked():
    plurals = [one.plural for one in resources.ALL if not one.group][: TYPES_MAX + 2]
    assert len(plurals) == TYPES_MAX + 2
    assert len(_kinds(a_policy({**RULE, "resources": plurals}), EMPTY)) == TYPES_MAX
    assert len(_kinds(a_policy({**RULE, "resources": plurals[:TYPES_MAX]}), EMPTY)) == TYPES_MAX


PARAMS = {"apiVersion": "v1", "kind": "ConfigMap"}


@pytest.mark.parametrize(
    ("expression", "spec", "words"),
    [
        ("params.data.k == 'x'", {"paramKind": PARAMS}, ""),
        ("params.odd == 'x'", {"paramKind": PARAMS}, "undefined field 'odd'"),
        ("params.odd == 'x'", {"paramKind": {"apiVersion": "a.b/v1", "kind": "None"}}, "undeclared reference to 'params'"),
        ("variables.b", {"variables": [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a == 1"}]}, ""),
        ("variables.b", {"variables": [{"name": "b", "expression": "variables.a == 1"}, {"name": "a", "expression": "1"}]}, ""),
        ("variables.c == 1", {"variables": [{"name": "a", "expression": "1"}]}, "undefined field 'c'"),
        ("variables.a == 1", {}, "undeclared reference to 'variables'"),
        ("oldObject.odd == 1", {}, "undefined field 'odd'"),
        ("object.spec.odd(", {}, "Syntax error"),
    ],
)  # fmt: skip
def test_pol_15_what_is_wrong_with_an_expression_for_a_kind(expression, spec, words):
    rule = {**RULE, "resources": ["pods", "configmaps"]}
    whole = {"validations": [{"expression": "true"}, {"expression": expression}], **spec}
    found = [*warnings_of(a_policy(rule, **whole), EMPTY)]
    assert bool(found) == bool(words), found
    if found:
        [warning] = found
        assert warning.field_ref == "spec.validations[1].expression"
        assert warning.warning.startswith("/v1, Kind=ConfigMap: ")
        assert "/v1, Kind=Pod: " in warning.warning and words in warning.warning


def test_pol_15_the_types_of_a_custom_resource():
    properties = {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    version = a_version({"type": "object", "properties": properties})
    store = stored((CRDS, established(version)))
    rule = {**RULE, "apiGroups": ["example.com"], "resources": ["gadgets"]}

    def wrong(text: str) -> str:
        found = [*warnings_of(a_policy(rule, validations=[{"expression": text}]), store)]
        return found[0].warning if found else ""

    assert wrong("object.spec.n == 1 && object.metadata.labels.a == 'b'") == ""
    assert "example.com/v1, Kind=Gadget: " in wrong("object.spec.n == 'x'")
    assert "undefined field 'odd'" in wrong("object.metadata.odd == 'x'")


def test_pol_15_when_the_types_are_checked():
    request = Request("create", POLICIES, name="p")
    policy = a_policy(RULE, validations=[{"expression": "object.odd == 1"}])

    def checked(new: Any, old: Any = None, **options: Any) -> Any:
        asked = Request("create", POLICIES, name="p", options=Options(**options))
        return check_types(asked, new, old, EMPTY, CONTEXT)

    assert checked(policy, dry_run=True) is policy and checked(policy, policy) is policy
    made = checked(policy)
    assert made.status.observed_generation == 1
    [warning] = made.status.type_checking.expression_warnings
    assert warning.field_ref == "spec.validations[0].expression"
    [who] = managers.decode_or_nobody(made.metadata.managed_fields)
    expected = managers.owner("validatingadmissionpolicy-status", "Apply", POLICIES.api_version, "status")  # fmt: skip
    assert who == expected and request.name == "p"
    fine = a_policy(RULE, validations=[{"expression": "true"}])
    old = replace(made, metadata=replace(made.metadata, generation=3))
    again = checked(replace(fine, metadata=old.metadata, status=old.status), old)
    assert again.status.observed_generation == 4
    assert again.status.type_checking.expression_warnings is None
    seventh = replace(fine, metadata=replace(fine.metadata, generation=7))
    assert checked(seventh).status.observed_generation == 7


@pytest.mark.parametrize(
    ("validation", "expected"),
    [
        ({"expression": "object.spec.replicas > 1"}, {}),
        (
            {"expression": "object.spec.replicas > '1'", "messageExpression": "'got ' + object.spec.replicas"},
            {
                "spec.validations[0].expression": "apps/v1, Kind=Deployment: ERROR: <input>:1:22: found no matching overload for '_>_' applied to '(int, string)'",
                "spec.validations[0].messageExpression": "found no matching overload for '_+_' applied to '(string, int)'",
            },
        ),
        ({"expression": "object.spec.template.spec.containers.all(c, c.imag != '')"}, {"spec.validations[0].expression": "undefined field 'imag'"}),
        ({"expression": "object.metadata.creationTimestamp > timestamp('2020-01-01T00:00:00Z') && oldObject.metadata.labels.x == ''"}, {}),
        ({"expression": "variables.r == 'x'"}, {"spec.validations[0].expression": "'_==_' applied to '(int, string)'"}),
    ],
)  # fmt: skip
def test_pol_15_expressions_are_checked_with_the_types_of_the_kinds(validation, expected):
    world = Cluster()
    rule = {**RULE, "apiGroups": ["apps"], "resources": ["deployments", "deployments/scale"]}
    variables = [{"name": "r", "expression": "object.spec.replicas"}]
    world.validating(validation, match={"resourceRules": [rule]}, variables=variables)
    status = world.get(resources.VALIDATING_ADMISSION_POLICIES, "p", "").status
    assert status.observed_generation == 1
    assert status_owners(world) == [("validatingadmissionpolicy-status", "Apply")]
    found = {one.field_ref: one.warning for one in status.type_checking.expression_warnings or ()}
    assert found.keys() == expected.keys()
    assert all(words in found[field] for field, words in expected.items())


def test_pol_15_a_changed_policy_is_checked_again():
    world = Cluster()
    world.validating(holds("object.metadata.name == 1"))
    change = Patch("application/json-patch+json", b'[{"op":"replace","path":"/spec/validations/0/expression","value":"true"}]')  # fmt: skip
    kind = resources.VALIDATING_ADMISSION_POLICIES
    before = world.get(kind, "p", "").status
    assert before.type_checking.expression_warnings
    world.do(Request("patch", kind, name="p", body=change, user=ADMIN))
    after = world.get(kind, "p", "")
    assert after.metadata.generation == after.status.observed_generation == 2
    assert not after.status.type_checking.expression_warnings
    assert status_owners(world) == [("validatingadmissionpolicy-status", "Apply")]


def status_owners(world):
    """The managers of the status of the policy."""
    policy = world.get(resources.VALIDATING_ADMISSION_POLICIES, "p", "")
    entries = policy.metadata.managed_fields
    return [
        (one.manager, one.operation)
        for one in entries
        if b'"f:observedGeneration"' in bytes(one.fields_v1)
    ]


# --- in full


def named(groups: str, versions: str, plurals: str) -> dict[str, Any]:
    split = [groups.split(","), versions.split(","), plurals.split(",")]
    return {**RULE, "apiGroups": split[0], "apiVersions": split[1], "resources": split[2]}


@pytest.mark.parametrize(
    ("given_", "expected"),
    [
        ([named("", "v1", "pods")], ["Pod"]),
        ([named(",*", "v1", "pods"), named("", "v1", "nodes")], ["Node"]),
        ([named("", "v1,*", "pods"), named("", "v1", "nodes")], ["Node"]),
        ([named("", "v1", "pods/exec,*,*/*,nodes")], ["Node"]),
        ([named("apps,", "v1", "pods,deployments"), named("", "v1", "pods")], ["Pod", "Deployment"]),
        ([named("example.com", "v2,v1", "gadgets")], ["Gadget"]),
        ([named("none", "v1", "pods")], []),
    ],
)  # fmt: skip
def test_pol_15_the_kinds_of_rules(given_, expected):
    assert [one.kind for one in _kinds(a_policy(*given_), STORE)] == expected


def test_pol_15_rules_that_name_nothing():
    policy = a_policy(RULE)
    without = replace(policy, spec=replace(policy.spec, match_constraints=None))
    assert _kinds(without, STORE) == []
    [rule] = policy.spec.match_constraints.resource_rules
    for field in ("api_groups", "api_versions", "resources"):
        constraints = replace(
            policy.spec.match_constraints, resource_rules=(replace(rule, **{field: None}),)
        )
        bare = replace(policy, spec=replace(policy.spec, match_constraints=constraints))
        assert _kinds(bare, STORE) == []


def test_pol_15_the_manager_of_the_status():
    when = Context(1_700_000_000_000_000, SeededChance(b"seed"))
    policy = a_policy(RULE, validations=[{"expression": "object.odd == 1"}])
    other = managers.owner("kubectl", "Update", POLICIES.api_version, "")
    theirs = managers.Owned(
        applied_paths(type_of(POLICIES), {"spec": {"failurePolicy": "Fail"}}),
        POLICIES.api_version,
        NOW,
    )
    metadata = replace(policy.metadata, managed_fields=managers.encode({other: theirs}))
    request = Request("create", POLICIES, name="p")
    made = check_types(request, replace(policy, metadata=metadata), None, EMPTY, when)
    found = managers.decode_or_nobody(made.metadata.managed_fields)
    who = managers.owner(
        "validatingadmissionpolicy-status", "Apply", POLICIES.api_version, "status"
    )
    fields = applied_paths(type_of(POLICIES), {"status": codec.to_tree(made.status)})
    assert {key: (one.fields, one.api_version, one.time) for key, one in found.items()} == {
        other: (theirs.fields, POLICIES.api_version, NOW),
        who: (fields, POLICIES.api_version, NOW),
    }
    [warning] = made.status.type_checking.expression_warnings
    words = "ERROR: <input>:1:7: undefined field 'odd'"
    assert warning.warning.startswith(f"/v1, Kind=ConfigMap: {words}")


NOW = "2023-11-14T22:13:20Z"


def test_pol_15_which_generation_was_checked():
    request = Request("update", POLICIES, name="p")
    for before, expected in ((None, 1), (0, 1), (1, 2), (7, 8)):
        old = a_policy(RULE, validations=[{"expression": "true"}])
        old = replace(old, metadata=replace(old.metadata, generation=before))
        new = a_policy(RULE, validations=[{"expression": "false"}])
        assert check_types(request, new, old, EMPTY, CONTEXT).status.observed_generation == expected


def test_pol_15_kinds_and_parameters_are_looked_up_in_the_store():
    rule = named("example.com", "v1", "gadgets")
    kind = {"apiVersion": "example.com/v1", "kind": "Gadget"}
    texts = ("object.metadata.odd == 1", "params.metadata.odd == 1")
    policy = a_policy(rule, paramKind=kind, validations=[{"expression": text} for text in texts])
    made = check_types(Request("create", POLICIES), policy, None, STORE, CONTEXT)
    found = made.status.type_checking.expression_warnings
    assert [one.field_ref for one in found] == [f"spec.validations[{n}].expression" for n in (0, 1)]


def warned(text: str, *kinds: str, **spec: Any) -> str:
    rule = named("", "v1", ",".join(kinds or ("configmaps",)))
    found = [*warnings_of(a_policy(rule, validations=[{"expression": text}], **spec), STORE)]
    return found[0].warning if found else ""


def test_pol_15_the_words_of_a_warning():
    text = "object.odd == 1"
    words = "ERROR: <input>:1:7: undefined field 'odd'\n | object.odd == 1\n | ......^"
    assert warned(text, "pods", "configmaps") == (
        f"/v1, Kind=ConfigMap: {words}\n\n/v1, Kind=Pod: {words}\n"
    )
    variables = [{"name": "a", "expression": "1"}, {"name": "b", "expression": "variables.a"}]
    assert "applied to '(kubernetes.variables, int)'" in warned(
        "variables == 1", variables=variables
    )
    assert "applied to '(int, string)'" in warned("variables.b == 'x'", variables=variables)
    assert warned("variables.b == 1", variables=variables) == ""
    first = [{"name": "a", "expression": "variables.b"}, {"name": "b", "expression": "1"}]
    assert warned("variables.a == 'x' && variables.b == 1", variables=first) == ""
    assert "undeclared reference to 'variables'" in warned("variables.a == 1")


def test_pol_15_the_type_of_a_custom_object():
    properties = {"spec": {"type": "object", "properties": {"n": {"type": "integer"}}}}
    version = a_version({"type": "object", "properties": properties})
    gadget = find_custom("example.com", "v1", "gadgets", stored((CRDS, established(version))))
    found = declared_type(gadget)
    assert (found.name, found.size) == ("Gadget", len(found.fields))
    assert set(found.fields) == {"apiVersion", "kind", "metadata", "spec"}
    assert found.fields["metadata"] == record_type(ObjectMeta)
    assert declared_type(resources.PODS) == record_type(resources.PODS.type)
