"""Which requests webhooks and policies are for: MATCH-1 to MATCH-5 (spec/webhooks.md)."""

from __future__ import annotations

import pytest
from custom_world import CustomWorld, a_definition, a_version
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.admissionregistration_v1 import MatchCondition, RuleWithOperations
from refk8s.core.api.core_v1 import ConfigMap, Namespace
from refk8s.core.api.meta_v1 import LabelSelector, LabelSelectorRequirement, ObjectMeta
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.conditions import (
    Conditions,
    ConditionsFailed,
    request_tree,
    variables_of,
)
from refk8s.core.apiserver.admission.matching import (
    EXEMPT,
    AdmissionRequest,
    compile_criteria,
    match,
)
from refk8s.core.apiserver.custom.definitions import find_custom

USER = User("ada", groups=("writers",))
OPERATIONS = ("CREATE", "UPDATE", "DELETE", "CONNECT")
WORLD = CustomWorld(a_definition(a_version(), a_version(name="v2", storage=False)))


def an_operation(resource=resources.CONFIG_MAPS, operation="CREATE", part="", **changes):
    """A request for admission about an object named a in the namespace default."""
    namespace = "default" if resource.namespaced else ""
    obj = ConfigMap(metadata=ObjectMeta(name="a", namespace=namespace, labels={"app": "x"}))
    fields = {
        "operation": operation, "resource": resource, "subresource": part, "namespace": namespace,
        "name": "a", "kind": (resource.group, resource.version, resource.kind),
        "object": None if operation == "DELETE" else obj,
        "old_object": obj if operation in ("UPDATE", "DELETE") else None,
        "options": None, "user": USER,
    }  # fmt: skip
    return AdmissionRequest(**{**fields, **changes})


def a_rule(**changes):
    fields = {
        "operations": ("*",), "api_groups": ("*",), "api_versions": ("*",), "resources": ("*/*",),
        "scope": "*",
    }  # fmt: skip
    return RuleWithOperations(**{**fields, **changes})


def matched(request, *rules, policy="Equivalent", namespaces=None, objects=None, excluded=()):
    criteria = compile_criteria(rules, policy, namespaces, objects, excluded)
    return match(criteria, request, WORLD.history)


@given(
    st.sets(st.sampled_from(("*", *OPERATIONS))),
    st.sampled_from(OPERATIONS),
    st.sets(st.sampled_from(("*", "", "apps", "rbac"))),
    st.sampled_from((resources.CONFIG_MAPS, resources.DEPLOYMENTS, resources.CLUSTER_ROLES)),
    st.sampled_from(("*", "Namespaced", "Cluster", None)),
)
def test_match_1_every_part_of_a_rule_must_match(operations, operation, groups, resource, scope):
    rule = a_rule(operations=tuple(operations), api_groups=tuple(groups), scope=scope)
    wanted = (
        bool(operations & {"*", operation})
        and bool(groups & {"*", resource.group})
        and scope in ("*", None, "Namespaced" if resource.namespaced else "Cluster")
    )
    found = matched(an_operation(resource, operation), rule)
    assert found == (resource if wanted else None)


@pytest.mark.parametrize(
    ("named", "plain", "with_part"),
    [
        ("pods", True, False),
        ("pods/exec", False, True),
        ("pods/*", True, True),
        ("*", True, False),
        ("*/exec", False, True),
        ("*/*", True, True),
        ("services/exec", False, False),
    ],
)
def test_match_1_a_rule_names_resources_and_their_parts(named, plain, with_part):
    rule = a_rule(resources=(named,))
    options = {"kind": "PodExecOptions", "apiVersion": "v1"}
    exec_request = an_operation(resources.PODS, "CONNECT", "exec", object=options)
    assert bool(matched(an_operation(resources.PODS), rule)) is plain
    assert bool(matched(exec_request, rule)) is with_part


def test_match_1_a_namespace_is_not_in_a_namespace():
    request = an_operation(resources.NAMESPACES, "UPDATE", namespace="a")
    assert matched(request, a_rule(scope="Namespaced")) is None
    assert matched(request, a_rule(scope="Cluster")) == resources.NAMESPACES


def test_match_1_an_excluded_rule_wins():
    request = an_operation()
    assert matched(request, a_rule(), excluded=(a_rule(operations=("DELETE",)),))
    assert matched(request, a_rule(), excluded=(a_rule(operations=("CREATE",)),)) is None


def test_match_2_equivalent_finds_the_other_version():
    v1 = find_custom("example.com", "v1", "gadgets", WORLD.history)
    v2 = find_custom("example.com", "v2", "gadgets", WORLD.history)
    rule = a_rule(api_groups=("example.com",), api_versions=("v2",), resources=("gadgets",))
    request = an_operation(v1)
    assert matched(request, rule).version == "v2"
    assert matched(request, rule, policy="Exact") is None
    assert matched(request, rule, a_rule()).version == "v1", "its own version comes first"
    tree = request_tree(request, v2)
    assert tree["resource"]["version"] == tree["kind"]["version"] == "v2"
    assert tree["requestResource"]["version"] == tree["requestKind"]["version"] == "v1"


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (resources.EVENTS, resources.EVENTS_V1),
        (resources.HORIZONTAL_POD_AUTOSCALERS, resources.HORIZONTAL_POD_AUTOSCALERS_V1),
    ],
)
def test_match_2_equivalent_finds_the_other_group(one, other):
    for client, named in ((one, other), (other, one)):
        rule = a_rule(api_groups=(named.group,), api_versions=(named.version,), resources=(named.plural,))  # fmt: skip
        assert matched(an_operation(client), rule) == named


def selector(key, operator, *values):
    requirement = LabelSelectorRequirement(key=key, operator=operator, values=values or None)
    return LabelSelector(match_expressions=(requirement,))


def test_match_3_the_namespace_selector_reads_the_namespace():
    name = "kubernetes.io/metadata.name"
    here, elsewhere = selector(name, "In", "default"), selector(name, "NotIn", "default")
    assert matched(an_operation(), a_rule(), namespaces=here)
    assert matched(an_operation(), a_rule(), namespaces=elsewhere) is None
    assert matched(an_operation(resources.CLUSTER_ROLES), a_rule(), namespaces=here)
    new = Namespace(metadata=ObjectMeta(name="n", labels={name: "n"}))
    request = an_operation(resources.NAMESPACES, object=new)
    assert matched(request, a_rule(), namespaces=elsewhere)
    assert matched(request, a_rule(), namespaces=here) is None
    with pytest.raises(ApiError):
        matched(an_operation(namespace="nowhere"), a_rule(), namespaces=here)


@given(
    st.sampled_from([None, {"app": "x"}, {"app": "y"}]), st.sampled_from([{"app": "x"}, {"b": "c"}])
)
def test_match_3_one_of_both_objects_must_be_selected(labels, old_labels):
    request = an_operation(operation="UPDATE")
    request = replace(
        request,
        object=ConfigMap(metadata=ObjectMeta(name="a", labels=labels)),
        old_object=ConfigMap(metadata=ObjectMeta(name="a", labels=old_labels)),
    )
    wanted = LabelSelector(match_labels={"app": "x"})
    assert bool(matched(request, a_rule(), objects=wanted)) is (
        {"app": "x"} in (labels, old_labels)
    )
    stream = an_operation(
        resources.PODS, "CONNECT", "exec", object={"kind": "PodExecOptions", "apiVersion": "v1"}
    )
    assert matched(stream, a_rule(), objects=wanted) is None
    assert matched(stream, a_rule(), objects=LabelSelector())


def test_match_4_configurations_and_reviews_are_exempt():
    group = resources.VALIDATING_WEBHOOK_CONFIGURATIONS.group
    reviews = ("authentication.k8s.io", "authorization.k8s.io")
    served = [one.prefix for one in resources.SERVED if one.group in (group, *reviews)]
    assert sorted(EXEMPT) == sorted(set(served))


def hold(*texts, **changes):
    conditions = [MatchCondition(name=f"c{n}", expression=text) for n, text in enumerate(texts)]
    request = an_operation(**changes)
    return Conditions(conditions).hold(variables_of(request, request.resource))


def test_match_5_a_false_condition_decides():
    assert hold("object.metadata.name == 'a'", "request.userInfo.username == 'ada'")
    assert hold("oldObject == null", "request.operation == 'CREATE'", "!request.dryRun")
    assert not hold("object.data.k == 'x'", "object.metadata.name == 'b'")
    with pytest.raises(ConditionsFailed) as failed:
        hold("object.data.k == 'x'", "true")
    assert (
        str(failed.value)
        == "expression 'object.data.k == 'x'' resulted in error: no such key: data"
    )


def test_match_5_conditions_end_within_their_budget():
    many = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
    nested = f"{many}.all(a, {many}.all(b, {many}.all(c, {many}.all(d, {many}.all(e, true)))))"
    with pytest.raises(ConditionsFailed, match="out of cost budget"):
        hold(nested)
