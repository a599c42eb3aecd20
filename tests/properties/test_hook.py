"""Webhook configurations: HOOK-1 to HOOK-4 (spec/webhooks.md)."""

from __future__ import annotations

import copy

import pytest
from api_world import World
from custom_world import causes

GROUP = "/apis/admissionregistration.k8s.io/v1"
VALIDATING = f"{GROUP}/validatingwebhookconfigurations"
MUTATING = f"{GROUP}/mutatingwebhookconfigurations"
KINDS = {VALIDATING: "ValidatingWebhookConfiguration", MUTATING: "MutatingWebhookConfiguration"}
ANY_RULE = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}


def a_webhook(**changes):
    """A webhook with the required fields and a rule."""
    return {
        "name": "x.example.com",
        "clientConfig": {"url": "https://127.0.0.1:9/x"},
        "rules": [copy.deepcopy(ANY_RULE)],
        "sideEffects": "None",
        "admissionReviewVersions": ["v1"],
        **changes,
    }


def a_configuration(path, *webhooks, name="c"):
    return {
        "apiVersion": "admissionregistration.k8s.io/v1",
        "kind": KINDS[path],
        "metadata": {"name": name},
        "webhooks": list(webhooks),
    }


def send(world, method, path, body):
    import json

    reply = world.http(method, path, body, {"content-type": "application/json"})
    return reply.code, json.loads(reply.content)


def create(path, *webhooks):
    return send(World(), "POST", path, a_configuration(path, *webhooks))


@pytest.mark.parametrize("path", [VALIDATING, MUTATING])
def test_hook_1_a_webhook_has_defaults(path):
    given = a_webhook(clientConfig={"service": {"name": "s", "namespace": "n"}})
    code, tree = create(path, given)
    assert code == 201
    webhook = tree["webhooks"][0]
    assert webhook["clientConfig"]["service"]["port"] == 443
    assert webhook["rules"][0]["scope"] == "*"
    assert webhook["namespaceSelector"] == webhook["objectSelector"] == {}
    found = {key: webhook.get(key) for key in ("failurePolicy", "matchPolicy", "timeoutSeconds", "reinvocationPolicy")}  # fmt: skip
    assert found == {
        "failurePolicy": "Fail",
        "matchPolicy": "Equivalent",
        "timeoutSeconds": 10,
        "reinvocationPolicy": "Never" if path == MUTATING else None,
    }


INVALID, REQUIRED = "FieldValueInvalid", "FieldValueRequired"
NOT_SUPPORTED, DUPLICATE = "FieldValueNotSupported", "FieldValueDuplicate"


@pytest.mark.parametrize(
    ("changes", "field", "reason"),
    [
        ({"name": ""}, "name", REQUIRED),
        ({"name": "a.b"}, "name", INVALID),
        ({"name": "A.b.c"}, "name", INVALID),
        ({"failurePolicy": "Perhaps"}, "failurePolicy", NOT_SUPPORTED),
        ({"matchPolicy": "Near"}, "matchPolicy", NOT_SUPPORTED),
        ({"sideEffects": "Some"}, "sideEffects", NOT_SUPPORTED),
        ({"timeoutSeconds": 0}, "timeoutSeconds", INVALID),
        ({"timeoutSeconds": 31}, "timeoutSeconds", INVALID),
        ({"admissionReviewVersions": []}, "admissionReviewVersions", REQUIRED),
        ({"admissionReviewVersions": ["v7"]}, "admissionReviewVersions", INVALID),
        ({"admissionReviewVersions": ["v1", "v1"]}, "admissionReviewVersions[1]", INVALID),
        ({"rules": [{**ANY_RULE, "operations": []}]}, "rules[0].operations", REQUIRED),
        ({"rules": [{**ANY_RULE, "operations": ["SING"]}]}, "rules[0].operations[0]", NOT_SUPPORTED),
        ({"rules": [{**ANY_RULE, "apiGroups": ["*", ""]}]}, "rules[0].apiGroups", INVALID),
        ({"rules": [{**ANY_RULE, "apiVersions": [""]}]}, "rules[0].apiVersions[0]", REQUIRED),
        ({"rules": [{**ANY_RULE, "resources": ["*/*", "pods"]}]}, "rules[0].resources", INVALID),
        ({"rules": [{**ANY_RULE, "resources": ["*", "pods"]}]}, "rules[0].resources", INVALID),
        ({"rules": [{**ANY_RULE, "resources": ["a/*", "a/b"]}]}, "rules[0].resources[1]", INVALID),
        ({"rules": [{**ANY_RULE, "resources": ["*/b", "a/b"]}]}, "rules[0].resources[1]", INVALID),
        ({"rules": [{**ANY_RULE, "scope": "Most"}]}, "rules[0].scope", NOT_SUPPORTED),
        ({"objectSelector": {"matchLabels": {"a b": "c"}}}, "objectSelector.matchLabels", INVALID),
    ],
)  # fmt: skip
def test_hook_2_a_wrong_webhook_is_refused_with_its_field(changes, field, reason):
    code, answer = create(VALIDATING, a_webhook(**changes))
    assert code == 422
    assert (f"webhooks[0].{field}", reason) in causes(answer)


@pytest.mark.parametrize("kind", [VALIDATING, MUTATING])
def test_val_4_a_finalizer_of_a_webhook_configuration_needs_no_domain(kind):
    configuration = a_configuration(kind, a_webhook())
    configuration["metadata"]["finalizers"] = ["mine"]
    assert send(World(), "POST", kind, configuration)[0] == 201


def test_hook_2_names_are_unique_and_reinvocation_is_known():
    code, answer = create(MUTATING, a_webhook(), a_webhook(reinvocationPolicy="Often"))
    assert code == 422
    assert causes(answer) == [
        ("webhooks[1].reinvocationPolicy", NOT_SUPPORTED),
        ("webhooks[1].name", DUPLICATE),
    ]


@pytest.mark.parametrize(
    ("client", "field"),
    [
        ({}, ""),
        ({"url": "https://a", "service": {"name": "s", "namespace": "n"}}, ""),
        ({"url": "http://a"}, ".url"),
        ({"url": "https://"}, ".url"),
        ({"url": "https://a/%zz"}, ".url"),
        ({"url": "https://a/10%"}, ".url"),
        ({"url": "https://ada@a"}, ".url"),
        ({"url": "https://a/?b=c"}, ".url"),
        ({"url": "https://a/#b"}, ".url"),
        ({"service": {"name": "s", "namespace": "n", "port": 70000}}, ".service.port"),
        ({"service": {"name": "s", "namespace": "n", "path": "a"}}, ".service.path"),
        ({"service": {"name": "s", "namespace": "n", "path": "/a//b"}}, ".service.path"),
        ({"service": {"name": "s", "namespace": "n", "path": "/A"}}, ".service.path"),
    ],
)
def test_hook_3_a_client_is_a_plain_https_url_or_a_service(client, field):
    code, answer = create(MUTATING, a_webhook(clientConfig=client))
    assert code == 422
    assert f"webhooks[0].clientConfig{field}" in [place for place, _ in causes(answer)]


@pytest.mark.parametrize(
    ("conditions", "field"),
    [
        ([{"name": "a", "expression": "object."}], "[0].expression"),
        ([{"name": "a", "expression": " "}], "[0].expression"),
        ([{"name": "a", "expression": "'text'"}], "[0].expression"),
        ([{"name": "a", "expression": "params.x"}], "[0].expression"),
        ([{"name": "", "expression": "true"}], "[0].name"),
        ([{"name": "a b", "expression": "true"}], "[0].name"),
        ([{"name": "a", "expression": "true"}] * 2, "[1].name"),
        ([{"name": f"a{n}", "expression": "true"} for n in range(65)], ""),
    ],
)
def test_hook_4_conditions_compile_and_have_names_of_their_own(conditions, field):
    code, answer = create(VALIDATING, a_webhook(matchConditions=conditions))
    assert code == 422
    assert f"webhooks[0].matchConditions{field}" in [place for place, _ in causes(answer)]


def test_hook_4_an_update_compiles_only_changed_conditions():
    world = World()
    conditions = [{"name": "a", "expression": "object.metadata.name == 'a'"}]
    body = a_configuration(VALIDATING, a_webhook(matchConditions=conditions))
    assert send(world, "POST", VALIDATING, body)[0] == 201
    _, tree = send(world, "GET", f"{VALIDATING}/c", b"")
    tree["webhooks"][0]["timeoutSeconds"] = 3
    assert send(world, "PUT", f"{VALIDATING}/c", tree)[0] == 200
    tree["webhooks"][0]["matchConditions"][0]["expression"] = "object."
    del tree["metadata"]["resourceVersion"]
    assert send(world, "PUT", f"{VALIDATING}/c", tree)[0] == 422
