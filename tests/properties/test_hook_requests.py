"""Requests for admission, and configurations of webhooks, from plain values: what a webhook is asked
about, its defaults, its causes and its compiled form (spec/webhooks.md)."""

from __future__ import annotations

import json
from types import SimpleNamespace
from typing import Any

import pytest
from custom_world import CustomWorld, a_definition, a_version
from msgspec.structs import replace
from test_crd_conversion import ConversionWorld
from test_hook import ANY_RULE, MUTATING, VALIDATING, a_configuration, a_webhook
from test_match import USER, an_operation

from refk8s.core.api import resources
from refk8s.core.api.codec import DecodeError, from_tree, to_tree
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.events_v1 import Event
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.apiserver.admission.conditions import Conditions
from refk8s.core.apiserver.admission.matching import compile_criteria
from refk8s.core.apiserver.admission.review import write_review
from refk8s.core.apiserver.admission.versioned import (
    admission_request,
    as_sent,
    connect_options,
    in_version,
    record_of,
)
from refk8s.core.apiserver.admission.webhooks import Webhook, _call, compile_webhooks
from refk8s.core.apiserver.calls import AskedWebhook, Call, Calls, Client, Needed, ServicePort
from refk8s.core.apiserver.custom.definitions import find_custom
from refk8s.core.apiserver.defaults.webhooks import default_webhook_configuration
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.http import Connection
from refk8s.core.apiserver.validation.match_conditions import validate_match_conditions
from refk8s.core.apiserver.validation.webhook_client import check_webhook_url
from refk8s.core.apiserver.validation.webhook_rules import validate_rule
from refk8s.core.apiserver.validation.webhooks import (
    validate_webhook_configuration,
    validate_webhook_configuration_update,
)
from refk8s.core.apiserver.versions import from_stored
from refk8s.core.context import Context, SeededChance

WORLD = CustomWorld(a_definition(a_version(), a_version(name="v2", storage=False)))
STORE = WORLD.history
V1, V2 = [find_custom("example.com", version, "gadgets", STORE) for version in ("v1", "v2")]
PODS, CONFIG_MAPS, NODES = resources.PODS, resources.CONFIG_MAPS, resources.NODES
EVENTS, EVENTS_V1 = resources.EVENTS, resources.EVENTS_V1
SCALERS, SCALERS_V1 = resources.HORIZONTAL_POD_AUTOSCALERS, resources.HORIZONTAL_POD_AUTOSCALERS_V1


def exchange_of(request: Request) -> Exchange:
    return Exchange(request, STORE, Context(0, SeededChance(b"seed")))


def a_request(
    operation: str, new: Any = None, old: Any = None, name: Any = None, **fields: Any
) -> Any:
    given = {"verb": "create", "resource": CONFIG_MAPS, "namespace": "n", "user": USER, **fields}
    return admission_request(exchange_of(Request(**given)), operation, new, old, name)


# --- the request of an operation


def test_hook_6_the_parts_of_a_request_for_admission():
    new, old = ConfigMap(metadata=ObjectMeta(name="a")), ConfigMap(metadata=ObjectMeta(name="b"))
    found = a_request("CREATE", new)
    create = {"kind": "CreateOptions", "apiVersion": "meta.k8s.io/v1"}
    assert to_tree_of(found) == (
        "CREATE", CONFIG_MAPS, "", "n", "a", ("", "v1", "ConfigMap"), new, None, create, USER, False,
    )  # fmt: skip
    options = Options(dry_run=True, field_manager="m", field_validation="Strict")
    found = a_request("UPDATE", new, old, name="c", verb="update", options=options)
    update = {
        "kind": "UpdateOptions", "apiVersion": "meta.k8s.io/v1", "dryRun": ["All"],
        "fieldManager": "m", "fieldValidation": "Strict",
    }  # fmt: skip
    assert to_tree_of(found) == (
        "UPDATE", CONFIG_MAPS, "", "n", "c", ("", "v1", "ConfigMap"), new, old, update, USER, True,
    )  # fmt: skip


def to_tree_of(found: Any) -> tuple[Any, ...]:
    names = (
        "operation", "resource", "subresource", "namespace", "name", "kind", "object", "old_object",
        "options", "user", "dry_run",
    )  # fmt: skip
    return tuple([getattr(found, name) for name in names])


@pytest.mark.parametrize(
    ("of_path", "body", "given", "expected"),
    [
        ("p", ConfigMap(metadata=ObjectMeta(name="a")), None, "p"),
        ("p", ConfigMap(metadata=ObjectMeta(name="a")), "", ""),
        ("p", ConfigMap(metadata=ObjectMeta(name="a")), "g", "g"),
        ("", ConfigMap(metadata=ObjectMeta(name="a")), None, "a"),
        ("", ConfigMap(metadata=ObjectMeta()), None, ""),
        ("", ConfigMap(metadata=None), None, ""),
        ("", {"metadata": {"name": "a"}}, None, ""),
        ("", None, None, ""),
    ],
)
def test_hook_6_the_name_of_a_request(of_path, body, given, expected):
    request = Request("create", PODS, "n", of_path, user=USER)
    assert admission_request(exchange_of(request), "CREATE", body, None, given).name == expected


@pytest.mark.parametrize(
    ("resource", "expected"), [(PODS, "n"), (NODES, ""), (resources.NAMESPACES, "x")]
)
def test_hook_6_the_namespace_of_a_request(resource, expected):
    assert a_request("UPDATE", resource=resource, name="x").namespace == expected


@pytest.mark.parametrize(
    ("resource", "part", "kind"),
    [
        (PODS, "", ("", "v1", "Pod")),
        (PODS, "status", ("", "v1", "Pod")),
        (PODS, "exec", ("", "v1", "PodExecOptions")),
        (PODS, "eviction", ("policy", "v1", "Eviction")),
        (PODS, "none", ("", "v1", "Pod")),
        (resources.DEPLOYMENTS, "scale", ("autoscaling", "v1", "Scale")),
        (resources.DEPLOYMENTS, "", ("apps", "v1", "Deployment")),
    ],
)
def test_hook_6_the_kind_of_a_request(resource, part, kind):
    found = a_request("UPDATE", resource=resource, subresource=part)
    assert (found.kind, found.subresource, found.resource) == (kind, part, resource)


@pytest.mark.parametrize(
    ("body", "options", "dry_run"),
    [
        (None, {}, False),
        (DeleteOptions(), {}, False),
        (DeleteOptions(dry_run=("All",)), {"dryRun": ["All"]}, True),
        (
            DeleteOptions(grace_period_seconds=0, propagation_policy="Orphan"),
            {"gracePeriodSeconds": 0, "propagationPolicy": "Orphan"},
            False,
        ),
        (ConfigMap(), {}, False),
    ],
)
def test_hook_6_the_options_of_a_delete(body, options, dry_run):
    found = a_request("DELETE", None, ConfigMap(), verb="delete", body=body)
    head = {"kind": "DeleteOptions", "apiVersion": "meta.k8s.io/v1"}
    assert (found.options, found.dry_run) == ({**options, **head}, dry_run)


def test_hook_12_a_stream_has_no_options():
    found = a_request("CONNECT", {}, resource=PODS, subresource="exec")
    assert (found.options, found.dry_run) == (None, False)


def test_hook_6_a_request_shows_its_objects_in_the_version_of_its_client():
    stored = from_tree(EVENTS.type, {"metadata": {"name": "e"}, "message": "m"})
    found = a_request("UPDATE", stored, None, resource=EVENTS, requested_resource=EVENTS_V1)
    assert found.resource == EVENTS_V1 and found.kind == ("events.k8s.io", "v1", "Event")
    assert found.object == from_stored(EVENTS_V1, stored) and found.old_object is None
    both = a_request("UPDATE", stored, stored, resource=EVENTS, requested_resource=EVENTS_V1)
    assert both.object == both.old_object == found.object and type(found.object) is Event
    same = a_request("UPDATE", stored, stored, resource=EVENTS, requested_resource=EVENTS)
    assert same.object is same.old_object is stored and same.resource == EVENTS
    other = DeleteOptions()
    kept = a_request("CREATE", other, resource=EVENTS, requested_resource=EVENTS_V1)
    assert kept.object is other, "the body of a subresource"


def test_hook_6_a_new_object_is_shown_as_its_client_has_sent_it():
    metadata = ObjectMeta(
        name="a", namespace="n", uid="u", creation_timestamp="2026-01-01T00:00:00Z", generation=1,
        generate_name="a-", labels={"k": "v"},
    )  # fmt: skip
    obj = ConfigMap(metadata=metadata, data={"k": "v"})
    bare = ObjectMeta(name="a", namespace="n", generate_name="a-", labels={"k": "v"})
    assert as_sent(obj, True) == replace(obj, metadata=bare)
    assert as_sent(obj, False) == replace(obj, metadata=replace(bare, name=None))


# --- versions


def test_hook_6_the_objects_in_the_version_that_matched():
    stored = from_tree(EVENTS.type, {"metadata": {"name": "e"}, "message": "m"})
    shown = from_stored(EVENTS_V1, stored)
    exchange = exchange_of(Request("update", EVENTS))
    request = an_operation(EVENTS, "UPDATE", object=stored, old_object=None)
    assert in_version(exchange, request, EVENTS) is request
    found = in_version(exchange, request, EVENTS_V1)
    assert (found.object, found.old_object, found.resource) == (shown, None, EVENTS)
    request = an_operation(EVENTS_V1, "DELETE", object=None, old_object=shown)
    found = in_version(exchange, request, EVENTS)
    assert found.object is None and found.old_object.message == "m"
    assert type(found.old_object) is EVENTS.type
    scale = an_operation(EVENTS, "UPDATE", kind=("autoscaling", "v1", "Scale"), object=stored)
    assert in_version(exchange, scale, EVENTS_V1) is scale
    gadget = WORLD_OBJECT
    request = an_operation(V1, "UPDATE", object=gadget, old_object=gadget)
    found = in_version(exchange, request, V2)
    assert found.object.api_version == found.old_object.api_version == "example.com/v2"
    assert found.object.content == gadget.content


def a_gadget() -> Any:
    world = CustomWorld(a_definition(a_version(), a_version(name="v2", storage=False)))
    code, made = world.put_gadget(spec={"n": 1})
    assert code == 201, made
    resource = find_custom("example.com", "v1", "gadgets", world.history)
    return world.history.get(resource.key("default", "a")).value


WORLD_OBJECT = a_gadget()


def test_hook_9_the_record_of_a_changed_tree():
    def record(handled: Any, request: Any, resource: Any, tree: Any) -> Any:
        return record_of(exchange_of(Request("update", handled)), request, resource, tree)

    obj = ConfigMap(metadata=ObjectMeta(name="a"), data={"k": "v"})
    assert record(CONFIG_MAPS, an_operation(), CONFIG_MAPS, to_tree(obj)) == obj
    with pytest.raises(DecodeError):
        record(CONFIG_MAPS, an_operation(), CONFIG_MAPS, {**to_tree(obj), "data": "text"})
    # the client's version is events.k8s.io/v1, the handler decides on v1
    stored = from_tree(EVENTS.type, {"metadata": {"name": "e"}, "message": "m"})
    shown = from_stored(EVENTS_V1, stored)
    found = record(EVENTS, an_operation(EVENTS_V1), EVENTS_V1, to_tree(shown))
    assert type(found) is EVENTS.type and found.message == "m"
    assert record(EVENTS, an_operation(EVENTS_V1), EVENTS, to_tree(stored)) == stored
    made = record(V1, an_operation(V1), V1, to_tree(WORLD_OBJECT))
    assert made.content == WORLD_OBJECT.content and made.api_version == "example.com/v1"
    other = {**to_tree(WORLD_OBJECT), "apiVersion": "example.com/v2"}
    made = record(V1, an_operation(V1), V2, other)
    assert made.content == WORLD_OBJECT.content and made.api_version == "example.com/v1"
    scale = {"kind": "Scale", "apiVersion": "autoscaling/v1", "spec": {"replicas": 3}}
    request = an_operation(resources.DEPLOYMENTS, kind=("autoscaling", "v1", "Scale"))
    assert record(resources.DEPLOYMENTS, request, resources.DEPLOYMENTS, scale).spec.replicas == 3
    request = an_operation(PODS, kind=("", "v1", "Binding"))
    binding = {"kind": "Binding", "apiVersion": "v1", "target": {"name": "n"}}
    assert record(PODS, request, PODS, binding).target.name == "n"
    request = an_operation(PODS, kind=("", "v1", "PodExecOptions"))
    options = {"kind": "PodExecOptions", "apiVersion": "v1"}
    assert record(PODS, request, PODS, options) is options


# --- streams


def options_of(part: str, resource: Any = PODS, path: str = "", **parameters: Any) -> Any:
    pairs = [
        (key, one)
        for key, values in parameters.items()
        for one in (values if isinstance(values, list) else [values])
    ]
    body = Connection("GET", path, tuple(pairs), {}, b"")
    return connect_options(Request("connect", resource, "n", "p", part, body=body))


@pytest.mark.parametrize(
    ("part", "parameters", "expected"),
    [
        ("exec", {}, {"kind": "PodExecOptions", "command": []}),
        (
            "exec",
            {"command": ["a", "b"], "container": "c", "stdin": "1", "stdout": "t", "stderr": "TRUE", "tty": "true"},
            {"kind": "PodExecOptions", "command": ["a", "b"], "container": "c", "stdin": True, "stdout": True, "stderr": True, "tty": True},
        ),
        ("exec", {"stdin": "0", "tty": "yes", "container": ""}, {"kind": "PodExecOptions", "command": []}),
        ("attach", {"tty": "1", "command": "x"}, {"kind": "PodAttachOptions", "tty": True}),
        ("portforward", {}, {"kind": "PodPortForwardOptions"}),
        ("portforward", {"ports": ["80", "x", "99999", "100000", "-1"]}, {"kind": "PodPortForwardOptions", "ports": [80, 99999]}),
    ],
)  # fmt: skip
def test_hook_12_the_options_of_a_stream(part, parameters, expected):
    assert options_of(part, **parameters) == {"apiVersion": "v1", **expected}


@pytest.mark.parametrize(
    ("resource", "kind"),
    [(PODS, "PodProxyOptions"), (resources.SERVICES, "ServiceProxyOptions"), (NODES, "NodeProxyOptions")],
)  # fmt: skip
@pytest.mark.parametrize(
    ("path", "shown"),
    [("/x/proxy", {}), ("/x/proxy/", {}), ("/x/proxy/a/proxy/b", {"path": "/a/proxy/b"})],
)
def test_hook_12_the_options_of_a_proxy(resource, kind, path, shown):
    expected = {"kind": kind, "apiVersion": "v1", **shown}
    assert options_of("proxy", resource, path) == expected


# --- configurations


def configuration(path: str, *webhooks: Any, name: str = "c") -> Any:
    kind = resources.MUTATING_WEBHOOK_CONFIGURATIONS if path == MUTATING else resources.VALIDATING_WEBHOOK_CONFIGURATIONS  # fmt: skip
    return from_tree(kind.type, a_configuration(path, *webhooks, name=name))


def test_hook_5_what_a_webhook_is_compiled_to():
    rule = {**ANY_RULE, "resources": ["pods"]}
    full = a_webhook(
        name="full.b.c", failurePolicy="Ignore", sideEffects="NoneOnDryRun", timeoutSeconds=7,
        admissionReviewVersions=["v0", "v1beta1", "v1"], matchPolicy="Exact", rules=[rule],
        reinvocationPolicy="IfNeeded", objectSelector={"matchLabels": {"a": "b"}},
        namespaceSelector={"matchLabels": {"n": "s"}}, matchConditions=[{"name": "c", "expression": "true"}],
        clientConfig={"service": {"name": "s", "namespace": "n"}},
    )  # fmt: skip
    url = {"url": "https://a/b"}
    odd = a_webhook(name="odd.b.c", sideEffects="Some", admissionReviewVersions=["v0"], clientConfig=url)  # fmt: skip
    last = a_webhook(name="last.b.c", admissionReviewVersions=["v0", "v1", "v1beta1"])
    validating = {key: value for key, value in full.items() if key != "reinvocationPolicy"}
    both = (
        [configuration(MUTATING, full, odd, last)],
        [configuration(VALIDATING, validating, odd, last)],
    )
    for index, is_mutating in zip(compile_webhooks(both), (True, False), strict=True):
        [one] = [one for one in index.of("pods") if one.name == "full.b.c"]
        given = both[0 if is_mutating else 1][0].webhooks[0]
        assert parts_of(one) == (
            "c", "full.b.c", is_mutating, False, False, is_mutating, "v1beta1",
            Client("https://s.n.svc:443/", ServicePort("n", "s", 443), b""), 7.0,
        )  # fmt: skip
        wanted = compile_criteria(
            given.rules, "Exact", given.namespace_selector, given.object_selector
        )
        assert to_tree_of_criteria(one.criteria) == to_tree_of_criteria(wanted)
        of_namespace, of_object = one.criteria.namespaces, one.criteria.objects
        assert of_namespace.matches({"n": "s"}) and not of_namespace.matches({"a": "b"})
        assert of_object.matches({"a": "b"}) and not of_object.matches({"n": "s"})
        assert one.conditions.texts == ("true",) == Conditions(given.match_conditions).texts
        [other, last] = index.of("nodes")
        assert (last.name, last.version) == ("last.b.c", "v1")
        assert parts_of(other) == (
            "c", "odd.b.c", is_mutating, True, True, False, "", Client("https://a/b", None, b""), 10.0,
        )  # fmt: skip
        assert index.others == (other, last)
        assert [one.name for one in index.of("pods")] == ["full.b.c", "odd.b.c", "last.b.c"]


def parts_of(one: Any) -> tuple[Any, ...]:
    return (
        one.configuration, one.name, one.is_mutating, one.fails_closed, one.has_side_effects,
        one.is_reinvoked, one.version, one.client, one.seconds,
    )  # fmt: skip


def to_tree_of_criteria(one: Any) -> tuple[Any, ...]:
    return one.rules, one.excluded, one.is_equivalent, one.problem


def test_hook_5_webhooks_by_their_resources_in_the_order_of_configurations():
    def hook(name: str, *plurals: str) -> Any:
        return a_webhook(name=f"{name}.b.c", rules=[{**ANY_RULE, "resources": [*plurals]}])

    configurations = [
        configuration(VALIDATING, hook("z", "pods"), hook("y", "*/*"), name="b"),
        configuration(VALIDATING, hook("x", "pods/exec", "nodes"), name="a"),
        configuration(VALIDATING, name="c"),
    ]
    none, index = compile_webhooks(([], configurations))
    assert none.of("pods") == none.others == ()

    def names(plural: str) -> str:
        return "".join([one.name[0] for one in index.of(plural)])

    assert (names("pods"), names("nodes"), names("services")) == ("xzy", "xy", "y")
    assert sorted(index.by_plural) == ["*", "nodes", "pods"]


@pytest.mark.parametrize("path", [MUTATING, VALIDATING])
def test_hook_1_what_is_given_stays_and_what_is_absent_gets_a_default(path):
    service = {"name": "s", "namespace": "n"}
    bare = a_webhook(clientConfig={"service": service})
    defaults = {
        "failurePolicy": "Fail", "matchPolicy": "Equivalent", "namespaceSelector": {},
        "objectSelector": {}, "timeoutSeconds": 10,
        "rules": [{**ANY_RULE, "scope": "*"}], "clientConfig": {"service": {**service, "port": 443}},
        **({"reinvocationPolicy": "Never"} if path == MUTATING else {}),
    }  # fmt: skip
    selector = {"matchLabels": {"a": "b"}}
    other = {
        "failurePolicy": "Ignore", "matchPolicy": "Exact", "namespaceSelector": selector,
        "objectSelector": selector, "timeoutSeconds": 3,
        "rules": [{**ANY_RULE, "scope": "Cluster"}, ANY_RULE],
        "clientConfig": {"service": {**service, "port": 8443}},
        **({"reinvocationPolicy": "IfNeeded"} if path == MUTATING else {}),
    }  # fmt: skip
    for name in defaults:
        given = {**defaults, name: other[name]}
        found = to_tree(default_webhook_configuration(configuration(path, {**bare, **given})))
        scoped = [{"scope": "*", **rule} for rule in given["rules"]]
        assert found["webhooks"] == [{**bare, **given, "rules": scoped}]
        missing = {key: value for key, value in given.items() if key != name}
        found = to_tree(default_webhook_configuration(configuration(path, {**bare, **missing})))
        assert found["webhooks"] == [{**bare, **given, name: defaults[name]}]
    full = configuration(path, {**bare, **defaults}, {**bare, **defaults, "name": "d.e.f"})
    assert default_webhook_configuration(full) is full
    empty = replace(full, webhooks=None)
    assert default_webhook_configuration(empty) is empty
    url = configuration(path, {**bare, **defaults, "clientConfig": {"url": "https://a"}, "rules": None})  # fmt: skip
    assert default_webhook_configuration(url) is url


# --- the call of a webhook


CALLS = Calls(b"s" * 16, 0, 9)


@pytest.mark.parametrize("is_mutating", [True, False])
@pytest.mark.parametrize("is_second", [True, False])
@pytest.mark.parametrize("fails_closed", [True, False])
def test_call_4_the_call_of_a_webhook(is_mutating, is_second, fails_closed):
    client = Client("https://a/b", ServicePort("n", "s", 8443), b"pem")
    webhook = Webhook(
        "c", "w.a.b", is_mutating, compile_criteria((), None, None, None), Conditions(None),
        fails_closed, False, True, "v1beta1", client, 7.0,
    )  # fmt: skip
    asked = an_operation(EVENTS, "UPDATE")
    kind = b"mutating" if is_mutating else b"validating"
    about = write_review("v1beta1", "", asked, EVENTS_V1)
    turn = b"2" if is_second else b"1"
    uid = CALLS.id_of(b"c", b"w.a.b", b"https://a/b", kind, turn, about)
    type_ = "admit" if is_mutating else "validating"
    assert _call(CALLS, webhook, asked, EVENTS_V1, is_second) == Call(
        uid, "https://a/b?timeout=7s", ServicePort("n", "s", 8443), b"pem",
        write_review("v1beta1", uid, asked, EVENTS_V1), 7.0,
        asked=AskedWebhook("w.a.b", type_, "UPDATE", "v1beta1", fails_closed),
    )  # fmt: skip


def test_match_2_the_conversion_by_a_webhook_is_asked_for():
    world = ConversionWorld()
    v1, v2 = [find_custom("example.com", name, "gadgets", world.history) for name in ("v1", "v2")]
    request = Request("update", v1, "default")
    exchange = Exchange(request, world.history, world.context(), calls=CALLS)
    gadget = replace(WORLD_OBJECT, metadata=replace(WORLD_OBJECT.metadata, name="g"))
    with pytest.raises(Needed) as needed:
        in_version(exchange, an_operation(v1, object=gadget), v2)
    [call] = needed.value.calls
    assert json.loads(call.body)["request"]["desiredAPIVersion"] == "example.com/v2"


# --- causes


def told(causes: Any) -> list[str]:
    return [f"{cause.field}: {cause.message}" for cause in causes]


def causes_of(changes: dict[str, Any], path: str = VALIDATING) -> list[str]:
    given = default_webhook_configuration(configuration(path, a_webhook(**changes)))
    return told(validate_webhook_configuration(given))


SUBDOMAIN = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', "
    "and must start and end with an alphanumeric character (e.g. 'example.com', regex used for "
    "validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)
LABEL = (
    "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an "
    "alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', "
    "regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
)
VERSIONS = "webhooks[0].admissionReviewVersions"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"name": ""}, ["webhooks[0].name: Required value"]),
        ({"name": "A.b.c"}, [f'webhooks[0].name: Invalid value: "A.b.c": {SUBDOMAIN}']),
        ({"name": "a.b"}, ['webhooks[0].name: Invalid value: "a.b": should be a domain with at least three segments separated by dots']),
        ({"name": "A" * 254}, [f'webhooks[0].name: Invalid value: "{"A" * 254}": must be no more than 253 characters,{SUBDOMAIN}']),
        ({"failurePolicy": "X"}, ['webhooks[0].failurePolicy: Unsupported value: "X": supported values: "Fail", "Ignore"']),
        ({"matchPolicy": "X"}, ['webhooks[0].matchPolicy: Unsupported value: "X": supported values: "Equivalent", "Exact"']),
        ({"sideEffects": "X"}, ['webhooks[0].sideEffects: Unsupported value: "X": supported values: "None", "NoneOnDryRun"']),
        ({"sideEffects": None}, ["webhooks[0].sideEffects: Required value: must specify one of None, NoneOnDryRun"]),
        ({"timeoutSeconds": 0}, ["webhooks[0].timeoutSeconds: Invalid value: 0: the timeout value must be between 1 and 30 seconds"]),
        ({"timeoutSeconds": 1}, []),
        ({"timeoutSeconds": 30}, []),
        ({"timeoutSeconds": 31}, ["webhooks[0].timeoutSeconds: Invalid value: 31: the timeout value must be between 1 and 30 seconds"]),
        ({"namespaceSelector": {"matchExpressions": [{"key": "a", "operator": "X"}]}}, ['webhooks[0].namespaceSelector.matchExpressions[0].operator: Invalid value: "X": not a valid selector operator']),
        ({"objectSelector": {"matchExpressions": [{"key": "a", "operator": "X"}]}}, ['webhooks[0].objectSelector.matchExpressions[0].operator: Invalid value: "X": not a valid selector operator']),
        ({"clientConfig": {}}, ["webhooks[0].clientConfig: Required value: exactly one of url or service is required"]),
        ({"admissionReviewVersions": []}, [f"{VERSIONS}: Required value: must specify one of v1, v1beta1"]),
        ({"admissionReviewVersions": ["v7"]}, [f'{VERSIONS}: Invalid value: ["v7"]: must include at least one of v1, v1beta1']),
        ({"admissionReviewVersions": ["v1beta1", "v7"]}, []),
        ({"admissionReviewVersions": ["7", "v1", "8"]}, [f'{VERSIONS}[0]: Invalid value: "7": {LABEL}', f'{VERSIONS}[2]: Invalid value: "8": {LABEL}']),
        ({"admissionReviewVersions": ["v1", "7", "v1"]}, [f'{VERSIONS}[1]: Invalid value: "7": {LABEL}', f'{VERSIONS}[2]: Invalid value: "v1": duplicate version']),
        ({"matchConditions": [{"name": "a", "expression": ""}]}, ["webhooks[0].matchConditions[0].expression: Required value"]),
        ({"rules": [ANY_RULE, {**ANY_RULE, "scope": "X"}]}, ['webhooks[0].rules[1].scope: Unsupported value: "X": supported values: "*", "Cluster", "Namespaced"']),
    ],
)  # fmt: skip
def test_hook_2_the_causes_of_a_webhook(changes, expected):
    for path in (VALIDATING, MUTATING):
        assert causes_of(changes, path) == expected


def test_hook_2_the_causes_of_several_webhooks():
    wrong = a_webhook(name="a.b.c", failurePolicy="X")
    given = configuration(MUTATING, wrong, a_webhook(name="a.b.c", reinvocationPolicy="X"), a_webhook(name=""), a_webhook(name=""))  # fmt: skip
    assert told(validate_webhook_configuration(given)) == [
        'webhooks[0].failurePolicy: Unsupported value: "X": supported values: "Fail", "Ignore"',
        'webhooks[1].reinvocationPolicy: Unsupported value: "X": supported values: "IfNeeded", "Never"',
        'webhooks[1].name: Duplicate value: "a.b.c"',
        "webhooks[2].name: Required value",
        "webhooks[3].name: Required value",
    ]
    assert told(validate_webhook_configuration(replace(given, webhooks=None))) == []


def test_hook_4_conditions_that_have_not_changed_are_not_compiled_again():
    broken = [{"name": "a", "expression": "odd("}]
    old = configuration(VALIDATING, a_webhook(matchConditions=broken))
    none = replace(old, webhooks=None)
    changed = configuration(VALIDATING, a_webhook(matchConditions=broken * 2))
    assert validate_webhook_configuration_update(old, old) == []
    assert validate_webhook_configuration_update(none, old) == []
    assert told(validate_webhook_configuration_update(changed, old)) == told(validate_webhook_configuration(changed)) != []  # fmt: skip
    assert told(validate_webhook_configuration_update(old, none)) == told(validate_webhook_configuration(old)) != []  # fmt: skip
    both = configuration(VALIDATING, a_webhook(name="", matchConditions=broken))
    assert told(validate_webhook_configuration_update(both, old)) == ["webhooks[0].name: Required value"]  # fmt: skip


FORM = "; desired format: https://host[/path]"


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://a", []),
        ("https://a:8443/b/c", []),
        ("https://a/%41", []),
        ("https://a/b#", []),
        ("https://a/b?", []),
        ("http://a", [f'u: Invalid value: "http": \'https\' is the only allowed URL scheme{FORM}']),
        ("https://", [f'u: Invalid value: "": host must be specified{FORM}']),
        ("https://:80", [f'u: Invalid value: ":80": host must be specified{FORM}']),
        ("a", [f'u: Invalid value: "": \'https\' is the only allowed URL scheme{FORM}', f'u: Invalid value: "": host must be specified{FORM}']),
        ("https://a/%zz", [f'u: Required value: url must be a valid URL: parse "https://a/%zz": invalid URL escape "%zz"{FORM}']),
        ("https://a/%", [f'u: Required value: url must be a valid URL: parse "https://a/%": invalid URL escape "%"{FORM}']),
        ("https://[a", [f"u: Required value: url must be a valid URL: Invalid IPv6 URL{FORM}"]),
        ("https://ada@a", ['u: Invalid value: "ada": user information is not permitted in the URL']),
        ("https://@a", ['u: Invalid value: "": user information is not permitted in the URL']),
        ("https://a/#b", ['u: Invalid value: "b": fragments are not permitted in the URL']),
        ("https://a/?b=c", ['u: Invalid value: "b=c": query parameters are not permitted in the URL']),
    ],
)  # fmt: skip
def test_hook_3_the_causes_of_a_url(url, expected):
    assert told(check_webhook_url(url, "u")) == expected


SERVICE = "webhooks[0].clientConfig.service"


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"name": ""}, [f"{SERVICE}.namespace: Required value: service namespace is required"]),
        ({"namespace": ""}, [f"{SERVICE}.name: Required value: service name is required"]),
        ({"port": 0}, [f"{SERVICE}.port: Invalid value: 0: port is not valid: must be between 1 and 65535, inclusive"]),
        ({"port": 1}, []),
        ({"port": 65535}, []),
        ({"port": 65536}, [f"{SERVICE}.port: Invalid value: 65536: port is not valid: must be between 1 and 65535, inclusive"]),
        ({"path": ""}, []),
        ({"path": "/"}, []),
        ({"path": "/a/b.c/"}, []),
        ({"path": "//"}, [f'{SERVICE}.path: Invalid value: "//": segment[0] may not be empty']),
        ({"path": "a/b"}, [f"{SERVICE}.path: Invalid value: \"a/b\": must start with a '/'", f'{SERVICE}.path: Invalid value: "a/b": segment[0] may not be empty']),
        ({"path": "/a//b"}, [f'{SERVICE}.path: Invalid value: "/a//b": segment[1] may not be empty']),
        ({"path": "/a//"}, [f'{SERVICE}.path: Invalid value: "/a//": segment[1] may not be empty']),
        ({"path": "/a/B"}, [f'{SERVICE}.path: Invalid value: "/a/B": segment[1]: {SUBDOMAIN}']),
    ],
)  # fmt: skip
def test_hook_3_the_causes_of_a_service(changes, expected):
    service = {"name": "s", "namespace": "n", **changes}
    assert causes_of({"clientConfig": {"service": service}}) == expected


def test_hook_3_a_client_has_a_url_or_a_service():
    words = ["webhooks[0].clientConfig: Required value: exactly one of url or service is required"]
    service = {"name": "s", "namespace": "n"}
    assert causes_of({"clientConfig": {"url": "https://a", "service": service}}) == words
    [cause] = causes_of({"clientConfig": {"url": "http://a"}})
    assert cause.startswith("webhooks[0].clientConfig.url: ")


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"operations": None}, ["r.operations: Required value"]),
        ({"operations": ["*", "CREATE"]}, ["r.operations: Invalid value: [\"*\",\"CREATE\"]: if '*' is present, must not specify other operations"]),
        ({"operations": ["CREATE", "SING", "UPDATE"]}, ['r.operations[1]: Unsupported value: "SING": supported values: "*", "CONNECT", "CREATE", "DELETE", "UPDATE"']),
        ({"operations": ["CREATE", "UPDATE", "DELETE", "CONNECT"]}, []),
        ({"api_groups": ()}, ["r.apiGroups: Required value"]),
        ({"api_groups": ["", "*"]}, ["r.apiGroups: Invalid value: [\"\",\"*\"]: if '*' is present, must not specify other API groups"]),
        ({"api_groups": ["", "apps"]}, []),
        ({"api_versions": ()}, ["r.apiVersions: Required value"]),
        ({"api_versions": ["v1", ""]}, ["r.apiVersions[1]: Required value"]),
        ({"api_versions": ["v1", "*"]}, ["r.apiVersions: Invalid value: [\"v1\",\"*\"]: if '*' is present, must not specify other API versions"]),
        ({"resources": ()}, ["r.resources: Required value"]),
        ({"resources": ["", "pods"]}, ["r.resources[0]: Required value"]),
        ({"resources": ["pods", "pods/exec", "*/scale", "nodes/*"]}, []),
        ({"resources": ["a/*", "", "a/b"]}, ["r.resources[1]: Required value", "r.resources[2]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b"]),
        ({"resources": ["*/b", "a", "a/b"]}, ["r.resources[2]: Invalid value: \"a/b\": if '*/b' is present, must not specify a/b"]),
        ({"resources": ["a/*", "*/b", "a/b"]}, ["r.resources[2]: Invalid value: \"a/b\": if 'a/*' is present, must not specify a/b", "r.resources[2]: Invalid value: \"a/b\": if '*/b' is present, must not specify a/b"]),
        ({"resources": ["a/b", "a/*", "*/b"]}, []),
        ({"resources": ["a/*", "a/b/c"]}, ["r.resources[1]: Invalid value: \"a/b/c\": if 'a/*' is present, must not specify a/b/c"]),
        ({"resources": ["*/*"]}, []),
        ({"resources": ["pods", "*/*"]}, ["r.resources: Invalid value: [\"pods\",\"*/*\"]: if '*/*' is present, must not specify other resources"]),
        ({"resources": ["*"]}, []),
        ({"resources": ["*", "pods/exec"]}, []),
        ({"resources": ["*", "pods"]}, ["r.resources: Invalid value: [\"*\",\"pods\"]: if '*' is present, must not specify other resources without subresources"]),
        ({"scope": "Cluster"}, []),
        ({"scope": "X"}, ['r.scope: Unsupported value: "X": supported values: "*", "Cluster", "Namespaced"']),
        ({"resource_names": ["a", "..", "b/c", "a"]}, ["r.resourceNames[1]: Invalid value: \"..\": may not be '..'", "r.resourceNames[2]: Invalid value: \"b/c\": may not contain '/'", 'r.resourceNames[3]: Duplicate value: "a"']),
        ({"resource_names": ["a"], "operations": []}, ["r.operations: Required value"]),
    ],
)  # fmt: skip
def test_hook_2_the_causes_of_a_rule(changes, expected):
    fields = {
        "operations": ["*"], "api_groups": ["*"], "api_versions": ["*"], "resources": ["*/*"],
        "scope": None, "resource_names": None, **changes,
    }  # fmt: skip
    assert told(validate_rule(SimpleNamespace(**fields), "r")) == expected


QUALIFIED = (
    "name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with "
    "an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for "
    "validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)


def conditions(*pairs: tuple[str, str]) -> list[Any]:
    return [SimpleNamespace(name=name, expression=expression) for name, expression in pairs]


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ([], []),
        ([("a", "true"), ("b", " object != null ")], []),
        ([("a", ""), ("b", "  ")], ["m[0].expression: Required value", "m[1].expression: Required value"]),
        ([("", "true"), ("", "true")], ["m[0].name: Required value", "m[1].name: Required value"]),
        ([("a b", "true")], [f'm[0].name: Invalid value: "a b": {QUALIFIED}']),
        ([("a", "true"), ("b", "true"), ("a", "true")], ['m[2].name: Duplicate value: "a"']),
        ([("a", " 'x' ")], ["m[0].expression: Invalid value: \"'x'\": must evaluate to bool but got string"]),
        ([("", ""), ("a", "'x'")], ["m[0].expression: Required value", "m[0].name: Required value", "m[1].expression: Invalid value: \"'x'\": must evaluate to bool but got string"]),
        ([(f"a{n}", "true") for n in range(64)], []),
        ([*[(f"a{n}", "true") for n in range(64)], ("", "")], ["m: Too many: 65: must have at most 64 items"]),
    ],
)  # fmt: skip
def test_hook_4_the_causes_of_conditions(given, expected):
    assert told(validate_match_conditions(conditions(*given), "m")) == expected
    assert validate_match_conditions(None, "m") == []


def test_hook_4_only_the_conditions_of_a_policy_with_parameters_read_them():
    given = conditions(("a", "params.x == 1"))
    assert validate_match_conditions(given, "m", has_params=True) == []
    [cause] = told(validate_match_conditions(given, "m"))
    assert cause.startswith('m[0].expression: Invalid value: "params.x == 1": ')
    assert "undeclared reference to 'params'" in cause
