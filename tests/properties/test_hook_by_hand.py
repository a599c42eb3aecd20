"""Webhooks from plain values: calls, matching, reviews and their answers, each compared in full
(spec/webhooks.md)."""

from __future__ import annotations

import json
from base64 import b64encode
from hashlib import blake2b
from itertools import product
from typing import Any

import pytest
from custom_world import CustomWorld, a_definition, a_version
from test_match import a_rule, an_operation, matched

from refk8s.core.api import resources
from refk8s.core.api.admissionregistration_v1 import (
    MatchCondition,
    ServiceReference,
    WebhookClientConfig,
)
from refk8s.core.api.codec import to_tree
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.meta_v1 import (
    LabelSelector,
    LabelSelectorRequirement,
    ObjectMeta,
    Status,
)
from refk8s.core.api.request import Options, Request
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import User
from refk8s.core.apiserver.admission.conditions import (
    Conditions,
    ConditionsFailed,
    request_tree,
    variables_of,
)
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.admission.matching import compile_criteria, equivalents, match
from refk8s.core.apiserver.admission.review import (
    OBJECT_BYTES_MAX,
    Admitted,
    Verdict,
    WebhookDenied,
    WebhookFailed,
    apply_patch,
    read_answer,
    refuse_dry_run,
    remarks_in,
    verdict_of,
    write_review,
)
from refk8s.core.apiserver.calls import (
    Answered,
    AskedWebhook,
    Call,
    Calls,
    Client,
    Needed,
    ServicePort,
    Unanswered,
    answered,
    ask,
    begin,
    begun,
    client_of,
    refused_words,
    timed,
)
from refk8s.core.apiserver.custom.definitions import find_custom
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.patch.json_patch import apply_json_patch
from refk8s.core.cel.admission import Environment
from refk8s.core.context import SECOND, Context, SeededChance, format_uid
from refk8s.core.store import EMPTY, Put, Txn, commit

WORLD = CustomWorld(a_definition(a_version(), a_version(name="v2", storage=False)))
STORE = WORLD.history
V1, V2 = [find_custom("example.com", version, "gadgets", STORE) for version in ("v1", "v2")]
PODS, CONFIG_MAPS, NAMESPACES = resources.PODS, resources.CONFIG_MAPS, resources.NAMESPACES
EVENTS, EVENTS_V1 = resources.EVENTS, resources.EVENTS_V1


# --- calls


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        (WebhookClientConfig(url="https://a/b"), Client("https://a/b", None, b"")),
        (
            WebhookClientConfig(url="https://a", ca_bundle=b64encode(b"pem").decode()),
            Client("https://a", None, b"pem"),
        ),
        (
            WebhookClientConfig(service=ServiceReference(name="s", namespace="n")),
            Client("https://s.n.svc:443/", ServicePort("n", "s", 443), b""),
        ),
        (
            WebhookClientConfig(
                service=ServiceReference(name="s", namespace="n", port=8443, path="/a/b"),
                ca_bundle=b64encode(b"pem").decode(),
            ),
            Client("https://s.n.svc:8443/a/b", ServicePort("n", "s", 8443), b"pem"),
        ),
        (
            WebhookClientConfig(service=ServiceReference(name="s", namespace="n", path="a")),
            Client("https://s.n.svc:443/a", ServicePort("n", "s", 443), b""),
        ),
    ],
)
def test_call_4_where_a_webhook_is_reached(config, expected):
    assert client_of(config) == expected


def calls_of(**fields: Any) -> Calls:
    return Calls(**{"seed": b"s" * 16, "now": 0, "until": 10 * SECOND, **fields})


def test_call_2_the_id_of_a_call_names_its_parts():
    def expected(*parts: bytes) -> str:
        text = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
        return format_uid(blake2b(text, key=b"s" * 16, digest_size=16).digest())

    for parts in ((), (b"a",), (b"ab", b"c"), (b"a", b"bc"), (b"a" * 300, b"")):
        assert calls_of().id_of(*parts) == expected(*parts)
    assert calls_of(seed=b"t" * 16).id_of(b"a") != expected(b"a")


@pytest.mark.parametrize("numbers", [(3, 4), (63, 1), (63, 2), (64, 1), (70, 5), (0, 64), (0, 65)])
def test_hook_7_the_first_64_warnings_and_annotations_are_kept(numbers):
    calls, texts = calls_of(), []
    for turn, number in enumerate(numbers):
        made = [f"{turn}-{one}" for one in range(number)]
        calls.warn(made)
        calls.annotate(dict.fromkeys(made, str(turn)))
        texts += made
    assert calls.warnings == texts[:64]
    assert calls.annotations == {text: text.partition("-")[0] for text in texts[:64]}


def test_hook_7_the_first_value_of_an_annotation_stays():
    calls = calls_of()
    calls.annotate({"a": "1"})
    calls.annotate({"a": "2", "b": "3"})
    assert calls.annotations == {"a": "1", "b": "3"}


@pytest.mark.parametrize(("seconds", "granted"), [(None, 34), (5, 5), (34, 34), (35, 34), (0, 0)])
def test_call_3_the_calls_end_after_the_time_of_the_client_or_34_seconds(seconds, granted):
    calls = begin(Context(7, SeededChance(b"one")), seconds)
    drawn = SeededChance(b"one").draw(16)
    assert calls == Calls(drawn, 7, 7 + granted * SECOND) or (
        (calls.seed, calls.now, calls.until) == (drawn, 7, 7 + granted * SECOND)
    )
    assert (calls.results, calls.is_late, calls.warnings, calls.annotations) == ({}, False, [], {})


def test_call_1_the_random_values_of_a_decision_are_those_of_its_seed():
    context = calls_of(now=9).context()
    assert context.now == 9 and context.uid() == Context(9, SeededChance(b"s" * 16)).uid()


def test_call_1_the_seed_of_a_request_names_it():
    def of(body: Any = None, **fields: Any) -> Calls:
        request = Request("create", CONFIG_MAPS, **{"namespace": "n", "body": body, **fields})
        found = begun(Exchange(request, STORE, Context(5, SeededChance(b"one"))))
        assert found.request is request and found.context.now == 5
        assert found.context.uid() == found.calls.context().uid()
        return found.calls

    body = ConfigMap(metadata=ObjectMeta(name="a"))
    text = "\0".join(["create", CONFIG_MAPS.prefix, "n/", "a"]).encode()
    key = SeededChance(b"one").draw(16)
    assert of(body).seed == blake2b(text, key=key, digest_size=16).digest()
    assert of(body).until == 5 + 34 * SECOND
    assert of(body, options=Options(timeout_seconds=3)).until == 5 + 3 * SECOND
    bare = "\0".join(["create", CONFIG_MAPS.prefix, "n/x", ""]).encode()
    for nameless in (None, {}, ConfigMap(), ConfigMap(metadata=ObjectMeta())):
        assert of(nameless, name="x").seed == blake2b(bare, key=key, digest_size=16).digest()


def a_call(identity: str) -> Call:
    return Call(identity, "https://a", None, b"", b"{}", 5.0)


def test_call_2_only_what_is_not_known_is_needed():
    one, two, three = [a_call(name) for name in "abc"]
    first, last = Answered(200, b"1"), Unanswered("x")
    known = answered(calls_of(), [one], [first], 9 * SECOND)
    assert (known.results, known.is_late) == ({"a": first}, False)
    known.warn(["w"])
    later = answered(known, [two], [last], 10 * SECOND)
    assert (later.results, later.is_late, later.warnings) == ({"a": first, "b": last}, True, [])
    assert later.seed == known.seed and later.until == known.until
    assert ask(later, lambda _: two, lambda _: one) == (last, first)
    with pytest.raises(Needed) as needed:
        ask(known, lambda _: one, lambda _: two, lambda calls: three if calls is known else one)
    assert needed.value.calls == (two, three)
    with pytest.raises(Needed) as needed:
        ask(None, lambda _: one)
    assert needed.value.calls == ()
    assert str(needed.value) == "calls are needed"
    with pytest.raises(ValueError):
        answered(known, [one, two], [first], 0)


@pytest.mark.parametrize(("seconds", "text"), [(10.0, "10"), (1.0, "1"), (0.5, "0"), (1.5, "2")])
def test_call_4_the_url_has_the_timeout(seconds, text):
    assert timed("https://a/b", seconds) == f"https://a/b?timeout={text}s"


def status_of(**fields: Any) -> bytes:
    return json.dumps({"kind": "Status", "apiVersion": "v1", **fields}).encode()


MORE = "but did not return more information"


@pytest.mark.parametrize(
    ("code", "body", "words"),
    [
        (400, b"x", "the server rejected our request for an unknown reason"),
        (401, b"x", "the server has asked for the client to provide credentials"),
        (403, b" not you ", "not you"),
        (403, b"", "unknown"),
        (404, b"x", "the server could not find the requested resource"),
        (405, b"x", "the server does not allow this method on the requested resource"),
        (409, b"x", "the server reported a conflict"),
        (415, b"x", "the body of the request was in an unknown format - accepted media types include: "),
        (418, b"x", f"the server responded with the status code 418 {MORE}"),
        (422, b"x", "the server rejected our request due to an error in our request"),
        (429, b"x", "the server has received too many requests and has asked us to try again later"),
        (499, b"x", f"the server responded with the status code 499 {MORE}"),
        (500, b'"a"', 'an error on the server ("\\"a\\"") has prevented the request from succeeding'),
        (500, b"\xff", 'an error on the server ("\ufffd") has prevented the request from succeeding'),
        (500, b" ", 'an error on the server ("unknown") has prevented the request from succeeding'),
        (500, b"x" * 2049, f'an error on the server ("{"x" * 2048}") has prevented the request from succeeding'),
        (503, b"x", "the server is currently unable to handle the request"),
        (504, b"x", "the server was unable to return a response in the time allotted, but may still be processing the request"),
        (404, status_of(message="gone"), "gone"),
        (404, status_of(message="m" * 2049), "m" * 2048),
        (404, status_of(message=""), "the server could not find the requested resource"),
        (404, status_of(message=7), "the server could not find the requested resource"),
        (404, b'{"kind": "Pod", "message": "gone"}', "the server could not find the requested resource"),
        (404, b'{"message": "gone"}', "the server could not find the requested resource"),
        (404, b'["Status"]', "the server could not find the requested resource"),
        (404, b"[" * 100_000, "the server could not find the requested resource"),
    ],
)  # fmt: skip
def test_hook_8_the_words_for_an_answer_that_is_no_success(code, body, words):
    assert refused_words(code, body) == words


# --- what is kept of configurations


def test_hook_5_configurations_are_compiled_when_one_of_them_has_changed():
    compiled: list[Any] = []

    def compile_all(objects: Any) -> Any:
        compiled.append(objects)
        return [[one.metadata.name for one in each] for each in objects]

    kinds = (CONFIG_MAPS, resources.SECRETS)
    kept = Kept(kinds, compile_all)
    assert compiled == [((), ())]

    def put(store: Any, resource: Any, name: str, **fields: Any) -> Any:
        key = resource.key("n", name)
        obj = resource.type(metadata=ObjectMeta(name=name, namespace="n"), **fields)
        return commit(store, Txn((), (Put(key, obj),)), lambda obj, revision: obj)[0]

    assert kept.of(EMPTY) == [[], []] and len(compiled) == 1
    other = put(EMPTY, PODS, "p")
    assert kept.of(other) == [[], []] and len(compiled) == 1, "there has never been one"
    first = put(other, CONFIG_MAPS, "b")
    assert kept.of(first) == [["b"], []]
    both = put(put(first, CONFIG_MAPS, "a"), resources.SECRETS, "s")
    assert kept.of(both) == [["a", "b"], ["s"]] and len(compiled) == 3
    assert kept.of(put(both, PODS, "p")) == [["a", "b"], ["s"]] and len(compiled) == 3
    assert kept.of(first) == [["b"], []], "an earlier state, read anew"
    assert kept.of(EMPTY) == [[], []] and kept.of(first) == [["b"], []]
    changed = put(first, CONFIG_MAPS, "b", data={"k": "v"})
    assert kept.of(changed) == [["b"], []]
    assert compiled[-1][0][0].data == {"k": "v"}
    count = len(compiled)
    twin = put(put(EMPTY, PODS, "q"), CONFIG_MAPS, "c")
    assert kept.of(twin) == [["c"], []] and len(compiled) == count + 1
    assert kept.of(twin) == [["c"], []] and len(compiled) == count + 1


# --- matching


@pytest.mark.parametrize(
    ("values", "is_matched"),
    [((), False), (("v1",), True), (("v2",), False), (("v2", "v1"), True), (("*",), True), (None, False)],
)  # fmt: skip
def test_match_1_a_rule_names_versions(values, is_matched):
    assert bool(matched(an_operation(), a_rule(api_versions=values))) is is_matched


@pytest.mark.parametrize("name", ["a", "b", ""])
@pytest.mark.parametrize("names", [None, (), ("a",), ("b", "a"), ("b",)])
def test_match_1_a_rule_of_a_policy_may_name_objects(names, name):
    from refk8s.core.api.admissionregistration_v1 import NamedRuleWithOperations

    rule = NamedRuleWithOperations(
        operations=("*",),
        api_groups=("*",),
        api_versions=("*",),
        resources=("*/*",),
        resource_names=names,
    )
    found = matched(an_operation(name=name), rule)
    assert bool(found) is (not names or name in names)


@pytest.mark.parametrize("scope", ["*", "Namespaced", "Cluster"])
@pytest.mark.parametrize("namespace", ["", "default"])
@pytest.mark.parametrize("resource", [CONFIG_MAPS, NAMESPACES, resources.NODES])
def test_match_1_the_scope_of_an_object(scope, namespace, resource):
    request = an_operation(resource, namespace=namespace)
    is_cluster_scoped = resource == NAMESPACES or not namespace
    wanted = {"*": True, "Namespaced": not is_cluster_scoped, "Cluster": is_cluster_scoped}
    assert bool(matched(request, a_rule(scope=scope))) is wanted[scope]


def test_match_2_the_other_resources_with_the_same_objects():
    hpa, hpa_v1 = resources.HORIZONTAL_POD_AUTOSCALERS, resources.HORIZONTAL_POD_AUTOSCALERS_V1
    for one, other in ((EVENTS, EVENTS_V1), (hpa, hpa_v1)):
        assert equivalents(one, "", STORE) == (other,)
        assert equivalents(other, "", STORE) == (one,)
        assert equivalents(one, "none", STORE) == equivalents(other, "none", STORE) == ()
    assert equivalents(hpa, "status", STORE) == (hpa_v1,)
    assert equivalents(CONFIG_MAPS, "", STORE) == equivalents(PODS, "status", STORE) == ()
    assert equivalents(V1, "", STORE) == (V2,) and equivalents(V2, "", STORE) == (V1,)
    assert equivalents(V1, "status", STORE) == ()
    assert equivalents(V1, "", EMPTY) == (), "the definition is gone"
    parts = a_version(subresources={"status": {}})
    store = CustomWorld(a_definition(parts, a_version(name="v2", storage=False))).history
    v1, v2 = [find_custom("example.com", version, "gadgets", store) for version in ("v1", "v2")]
    assert equivalents(v2, "status", store) == (v1,) and equivalents(v1, "status", store) == ()


def test_match_2_the_excluded_rules_match_by_the_other_version_too():
    only_v2 = a_rule(api_groups=("example.com",), api_versions=("v2",))
    assert matched(an_operation(V1), a_rule(), excluded=(only_v2,)) is None
    assert matched(an_operation(V1), a_rule(), excluded=(only_v2,), policy="Exact") == V1
    assert matched(an_operation(V1), a_rule(), excluded=(only_v2,), policy=None) is None


def test_match_2_a_version_without_the_subresource_is_not_equivalent():
    parts = a_version(subresources={"status": {}})
    store = CustomWorld(a_definition(parts, a_version(name="v2", storage=False))).history
    v1 = find_custom("example.com", "v1", "gadgets", store)
    criteria = compile_criteria([a_rule(api_versions=("v2",))], None, None, None)
    assert match(criteria, an_operation(v1), store).version == "v2"
    assert match(criteria, an_operation(v1, "UPDATE", "status"), store) is None


def test_match_2_the_first_rule_decides_by_which_version():
    three = CustomWorld(
        a_definition(
            a_version(), a_version(name="v2", storage=False), a_version(name="v3", storage=False)
        )
    ).history
    v1 = find_custom("example.com", "v1", "gadgets", three)
    for first, last in (("v2", "v3"), ("v3", "v2")):
        criteria = compile_criteria(
            [
                a_rule(api_versions=("none",)),
                a_rule(api_versions=(first,)),
                a_rule(api_versions=(last,)),
            ],
            "Equivalent",
            None,
            None,
        )
        assert match(criteria, an_operation(v1), three).version == first


def test_match_1_what_the_rules_of_criteria_name():
    rules = (
        a_rule(operations=("CREATE", "*"), resources=("pods/exec", "pods", "*/scale")),
        a_rule(operations=("DELETE",), resources=("nodes",)),
        a_rule(operations=None, resources=None),
    )
    criteria = compile_criteria(rules, None, None, None)
    assert criteria.plurals() == {"pods", "*", "nodes"}
    assert (criteria.rules, criteria.excluded, criteria.problem) == (rules, (), "")
    assert criteria.is_equivalent and criteria.namespaces is None and criteria.objects is None
    none = compile_criteria(None, "Exact", LabelSelector(), LabelSelector(), None)
    assert (none.rules, none.excluded, none.is_equivalent) == ((), (), False)
    assert none.namespaces is None and none.objects is None
    some = LabelSelector(match_labels={"a": "b"})
    made = compile_criteria((), None, some, LabelSelector(), rules)
    assert made.excluded == rules and made.namespaces is not None and made.objects is None
    assert compile_criteria((), None, LabelSelector(), some).objects is not None


WRONG = LabelSelector(
    match_expressions=(LabelSelectorRequirement(key="a", operator="Odd", values=("b",)),)
)


@pytest.mark.parametrize("place", ["namespaces", "objects"])
def test_match_3_an_invalid_selector_is_an_error_if_the_rules_match(place):
    with pytest.raises(ApiError) as error:
        matched(an_operation(), a_rule(), **{place: WRONG})
    assert error.value.status.code == 500
    assert (
        str(error.value) == 'Internal error occurred: "Odd" is not a valid label selector operator'
    )
    assert matched(an_operation(), a_rule(operations=()), **{place: WRONG}) is None


def a_selector(labels: dict[str, str]) -> LabelSelector:
    return LabelSelector(match_labels=labels)


HERE = {"kubernetes.io/metadata.name": "default"}


@pytest.mark.parametrize("operation", ["CREATE", "UPDATE", "DELETE"])
@pytest.mark.parametrize("part", ["", "status", "finalize"])
def test_match_3_the_labels_of_a_namespace_are_its_new_ones_in_a_write_of_itself(operation, part):
    new = resources.NAMESPACES.type(metadata=ObjectMeta(name="default", labels={"a": "b"}))
    request = an_operation(NAMESPACES, operation, part, namespace="default", object=new)
    is_new = operation != "DELETE" and not part
    for labels, wanted in (({"a": "b"}, is_new), (HERE, not is_new)):
        assert bool(matched(request, a_rule(), namespaces=a_selector(labels))) is wanted


def test_match_3_a_namespace_that_does_not_exist_is_not_found():
    with pytest.raises(ApiError) as error:
        matched(an_operation(namespace="none"), a_rule(), namespaces=a_selector(HERE))
    assert error.value.status.code == 404
    assert str(error.value) == 'namespaces "none" not found'
    gone = an_operation(NAMESPACES, "DELETE", namespace="none")
    with pytest.raises(ApiError):
        matched(gone, a_rule(), namespaces=a_selector(HERE))


def test_match_3_both_selectors_must_select():
    here, other = a_selector(HERE), a_selector({"x": "y"})
    mine = a_selector({"app": "x"})
    for namespaces, objects in product((here, other, None), (mine, other, None)):
        found = matched(an_operation(), a_rule(), namespaces=namespaces, objects=objects)
        assert bool(found) is (namespaces is not other and objects is not other)


def test_match_3_an_object_without_labels_is_selected_by_what_needs_none():
    absent = LabelSelector(
        match_expressions=(LabelSelectorRequirement(key="a", operator="DoesNotExist"),)
    )
    bare = ConfigMap(metadata=ObjectMeta(name="a"))
    assert matched(an_operation(object=bare), a_rule(), objects=absent)
    for without in (None, {"kind": "PodExecOptions"}, ConfigMap(metadata=None)):
        assert matched(an_operation(object=without), a_rule(), objects=absent) is None


# --- conditions


def condition(text: str) -> MatchCondition:
    return MatchCondition(name="c", expression=text)


def test_match_5_the_errors_of_all_conditions_are_told():
    def failed(*texts: str) -> str:
        with pytest.raises(ConditionsFailed) as error:
            Conditions([condition(text) for text in texts]).hold({"object": {}})
        return str(error.value)

    def words(text: str, key: str) -> str:
        return f"expression '{text}' resulted in error: no such key: {key}"

    a, b = "object.a == 1", " object.b == 1 "
    assert failed("true", a) == words(a, "a")
    assert failed(a, "true", b) == f"[{words(a, 'a')}, {words(b, 'b')}]"
    many = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"
    long = f"{many}.all(a, {many}.all(b, {many}.all(c, {many}.all(d, {many}.all(e, true)))))"
    limit = "validation failed due to running out of cost budget, no further validation rules will be run"
    assert failed(long) == limit
    assert failed(a, long, b, "false") == f"[{words(a, 'a')}, {limit}]"
    assert Conditions(None).hold({}) is True and Conditions([]).texts == ()
    assert Conditions([condition(a), condition("false")]).hold({"object": {}}) is False
    assert failed("odd(").startswith("expression 'odd(' resulted in error: ")
    with_params = Environment(has_params=True)
    assert Conditions([condition("params.x == 1")], with_params).hold({"params": {"x": 1}})
    assert "undeclared reference to 'params'" in failed("params.x == 1")


def tree_of(request: Any, resource: Any) -> Any:
    return request_tree(request, resource)


def named(group: str, version: str, kind: str) -> dict[str, str]:
    return {"group": group, "version": version, "kind": kind}


def test_match_5_the_attributes_of_a_request():
    user = User("ada", uid="u", groups=("g",), extra=(("k", ("v", "w")),))
    info = {"username": "ada", "uid": "u", "groups": ["g"], "extra": {"k": ["v", "w"]}}
    config_maps = {"group": "", "version": "v1", "resource": "configmaps"}
    kind = named("", "v1", "ConfigMap")
    options = {"kind": "CreateOptions"}
    request = an_operation(user=user, options=options, dry_run=True)
    assert request_tree(request, CONFIG_MAPS) == {
        "kind": kind,
        "resource": config_maps,
        "requestKind": kind,
        "requestResource": config_maps,
        "name": "a",
        "namespace": "default",
        "operation": "CREATE",
        "userInfo": info,
        "dryRun": True,
        "options": options,
    }
    pods = {"group": "", "version": "v1", "resource": "pods"}
    stream = an_operation(
        PODS, "CONNECT", "exec", kind=("", "v1", "PodExecOptions"), name="", namespace=""
    )
    kind = named("", "v1", "PodExecOptions")
    assert request_tree(stream, PODS) == {
        "kind": kind,
        "resource": pods,
        "subResource": "exec",
        "requestKind": kind,
        "requestResource": pods,
        "requestSubResource": "exec",
        "operation": "CONNECT",
        "userInfo": {"username": "ada", "groups": ["writers"]},
        "dryRun": False,
        "options": None,
    }


def test_match_5_the_kind_of_an_equivalent_resource():
    request = an_operation(EVENTS)
    tree = request_tree(request, EVENTS_V1)
    assert tree["kind"] == named("events.k8s.io", "v1", "Event")
    assert tree["requestKind"] == named("", "v1", "Event")
    assert tree["resource"] == {"group": "events.k8s.io", "version": "v1", "resource": "events"}
    assert tree["requestResource"] == {"group": "", "version": "v1", "resource": "events"}
    part = a_version(
        subresources={
            "status": {},
            "scale": {"specReplicasPath": ".spec.n", "statusReplicasPath": ".status.n"},
        }
    )
    other = {**part, "name": "v2", "storage": False}
    store = CustomWorld(a_definition(part, other)).history
    v1, v2 = [find_custom("example.com", version, "gadgets", store) for version in ("v1", "v2")]
    scale = an_operation(v1, "UPDATE", "scale", kind=("autoscaling", "v1", "Scale"))
    assert request_tree(scale, v2)["kind"] == named("autoscaling", "v1", "Scale")
    status = an_operation(v1, "UPDATE", "status")
    assert request_tree(status, v2)["kind"] == named("example.com", "v2", "Gadget")
    unknown = an_operation(v1, "UPDATE", "none")
    assert request_tree(unknown, v2)["kind"] == named("example.com", "v2", "Gadget")


def test_match_5_the_variables_of_conditions():
    new = ConfigMap(metadata=ObjectMeta(name="a"), data={"k": "v"})
    old = ConfigMap(metadata=ObjectMeta(name="a"))
    request = an_operation(operation="UPDATE", object=new, old_object=old)
    assert variables_of(request, CONFIG_MAPS) == {
        "object": to_tree(new),
        "oldObject": to_tree(old),
        "request": request_tree(request, CONFIG_MAPS),
    }
    bare = an_operation(object=None, old_object=None)
    assert variables_of(bare, EVENTS) == {
        "object": None,
        "oldObject": None,
        "request": request_tree(bare, EVENTS),
    }


# --- reviews


@pytest.mark.parametrize("version", ["v1", "v1beta1"])
@pytest.mark.parametrize("operation", ["CREATE", "UPDATE", "DELETE"])
def test_hook_6_the_review_of_an_operation(version, operation):
    request = an_operation(operation=operation)
    obj = to_tree(
        ConfigMap(metadata=ObjectMeta(name="a", namespace="default", labels={"app": "x"}))
    )
    assert json.loads(write_review(version, "u", request, CONFIG_MAPS)) == {
        "kind": "AdmissionReview",
        "apiVersion": f"admission.k8s.io/{version}",
        "request": {
            "uid": "u",
            **request_tree(request, CONFIG_MAPS),
            "object": None if operation == "DELETE" else obj,
            "oldObject": None if operation == "CREATE" else obj,
        },
    }


def review(version: str = "v1", **response: Any) -> bytes:
    tree = {
        "apiVersion": f"admission.k8s.io/{version}",
        "kind": "AdmissionReview",
        "response": {"uid": "u", "allowed": True, **response},
    }
    return json.dumps(tree).encode()


def coded(document: Any) -> str:
    return b64encode(json.dumps(document).encode()).decode()


def patching(document: Any, **more: Any) -> dict[str, Any]:
    return {"patch": coded(document), "patchType": "JSONPatch", **more}


def read(result: Any, version: str = "v1", is_mutating: bool = True) -> Any:
    if isinstance(result, bytes):
        result = Answered(200, result)
    return read_answer("w.a.b", version, "u", result, is_mutating=is_mutating)


OPERATION = {"op": "add", "path": "/a", "value": 1}


@pytest.mark.parametrize(
    ("body", "version", "is_mutating", "operations"),
    [
        (review(), "v1", True, ()),
        (review(), "v1", False, ()),
        (review(**patching([OPERATION])), "v1", True, (OPERATION,)),
        (review(**patching([])), "v1", True, ()),
        (review(patch=None, patchType=None), "v1", False, ()),
        (review(patch="", patchType=None), "v1", True, ()),
        (review("v1beta1", patch=coded([OPERATION])), "v1beta1", True, (OPERATION,)),
        (review("v1beta1", patch=coded([OPERATION]), patchType="Odd"), "v1beta1", True, (OPERATION,)),
        (review("v1beta1", uid="other"), "v1beta1", True, ()),
        (review("v1", uid=""), "v1beta1", False, ()),
        (b'{"response": {"allowed": true}}', "v1beta1", True, ()),
    ],
)  # fmt: skip
def test_hook_8_what_an_answer_allows(body, version, is_mutating, operations):
    for code in (200, 201, 206):
        assert read(Answered(code, body), version, is_mutating) == Admitted(operations)


INVALID = "received invalid webhook response: "
PARSE = "failed to call webhook: couldn't get version/kind; json parse error: "
UNDECODABLE = "received undecodable patch in webhook response: "


@pytest.mark.parametrize(
    ("result", "version", "is_mutating", "words"),
    [
        (Unanswered("EOF"), "v1", True, "failed to call webhook: EOF"),
        (Answered(199, review()), "v1", True, "failed to call webhook: the server responded with the status code 199 but did not return more information"),
        (Answered(207, review()), "v1", True, "failed to call webhook: the server responded with the status code 207 but did not return more information"),
        (Answered(404, b""), "v1", True, "failed to call webhook: the server could not find the requested resource"),
        (Answered(500, b"x"), "v1", False, 'failed to call webhook: an error on the server ("x") has prevented the request from succeeding'),
        (b"[]", "v1", True, f"{PARSE}the answer is no JSON object"),
        (b"{}", "v1", True, f"{INVALID}webhook response was absent"),
        (b'{"response": []}', "v1beta1", True, f"{INVALID}webhook response was absent"),
        (review(uid="x"), "v1", True, f'{INVALID}expected response.uid="u", got "x"'),
        (review(uid=None), "v1", True, f'{INVALID}expected response.uid="u", got ""'),
        (review(uid=["é"]), "v1", True, f'{INVALID}expected response.uid="u", got ["é"]'),
        (review(uid="x" * 300), "v1", True, f'{INVALID}expected response.uid="u", got "{"x" * 255}'),
        (review("v2"), "v1", True, f"{INVALID}expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got admission.k8s.io/v2, Kind=AdmissionReview"),
        (b'{"response": {"uid": "u"}}', "v1", True, f"{INVALID}expected webhook response of admission.k8s.io/v1, Kind=AdmissionReview, got , Kind="),
        (review(**patching([])), "v1", False, f"{INVALID}validating webhook may not return response.patch"),
        (review(patchType="JSONPatch"), "v1", False, f"{INVALID}validating webhook may not return response.patchType"),
        (review("v1beta1", patchType=""), "v1beta1", False, f"{INVALID}validating webhook may not return response.patchType"),
        (review(patch=7), "v1", True, f"{INVALID}response.patch is no text"),
        (review(patch=coded([])), "v1", True, f"{INVALID}webhook returned response.patch but not response.patchType"),
        (review(patchType="JSONPatch"), "v1", True, f"{INVALID}webhook returned response.patchType but not response.patch"),
        (review(patch="", patchType="JSONPatch"), "v1", True, f"{INVALID}webhook returned response.patchType but not response.patch"),
        (review(**patching([], patchType="")), "v1", True, f'{INVALID}webhook returned invalid response.patchType of ""'),
        (review(**patching([], patchType="Odd")), "v1", True, 'unsupported patch type "Odd"'),
        (review(patch="W10=x", patchType="JSONPatch"), "v1", True, UNDECODABLE),
        (review(patch="!", patchType="JSONPatch"), "v1", True, UNDECODABLE),
        (review(**patching({})), "v1", True, f"{UNDECODABLE}it is no list of operations"),
        (review(patch=b64encode(b"[").decode(), patchType="JSONPatch"), "v1", True, UNDECODABLE),
        (review(patch=b64encode(b"[" * 218 + b"]" * 218).decode(), patchType="JSONPatch"), "v1", True, f"{UNDECODABLE}it is no list of operations"),
        (review(allowed=False, status={"code": "x"}), "v1", True, "failed to call webhook: "),
    ],
)  # fmt: skip
def test_hook_8_why_an_answer_is_none(result, version, is_mutating, words):
    with pytest.raises(WebhookFailed) as failed:
        read(result, version, is_mutating)
    assert str(failed.value) == words or (
        words in (UNDECODABLE, "failed to call webhook: ") and str(failed.value).startswith(words)
    )


def test_hook_8_an_answer_that_is_no_json_is_none():
    for body in (b"<html>", b"", b"[" * 100_000):
        with pytest.raises(WebhookFailed) as failed:
            read(body)
        assert str(failed.value).startswith(PARSE) and len(str(failed.value)) > len(PARSE)


DENIED = 'admission webhook "w.a.b" denied the request'


@pytest.mark.parametrize(
    ("given", "message", "code", "status"),
    [
        (None, " without explanation", 400, "Failure"),
        ([], " without explanation", 400, "Failure"),
        ({}, " without explanation", 400, "Failure"),
        ({"message": "", "reason": ""}, " without explanation", 400, "Failure"),
        ({"message": "no", "reason": "R"}, ": no", 400, "Failure"),
        ({"reason": "R"}, ": R", 400, "Failure"),
        ({"code": 399}, " without explanation", 400, "Failure"),
        ({"code": 401}, " without explanation", 401, "Failure"),
        ({"code": 599}, " without explanation", 599, "Failure"),
        ({"code": 600}, " without explanation", 400, "Failure"),
        ({"code": 0}, " without explanation", 400, "Failure"),
        ({"status": "Success"}, " without explanation", 400, "Failure"),
        ({"status": ""}, " without explanation", 400, "Failure"),
        ({"status": "Odd", "code": 409}, " without explanation", 409, "Odd"),
    ],
)
@pytest.mark.parametrize("allowed", [False, None, "true", 1])
def test_hook_7_the_status_of_a_denial(given, message, code, status, allowed):
    for is_mutating in (True, False):
        with pytest.raises(WebhookDenied) as denied:
            read(review(allowed=allowed, status=given), is_mutating=is_mutating)
        found = denied.value.status
        assert (found.message, found.code, found.status) == (DENIED + message, code, status)
        assert found.reason == (given.get("reason") or None if isinstance(given, dict) else None)
        assert str(denied.value) == found.message
    bare = WebhookDenied(Status())
    assert str(bare) == ""


@pytest.mark.parametrize("kind", ["admit", "validating"])
@pytest.mark.parametrize("fails_closed", [True, False])
def test_http_25_how_the_answer_of_a_webhook_counts(kind, fails_closed):
    asked = AskedWebhook("w.a.b", kind, "CREATE", "v1", fails_closed)

    def verdict(result: Any, obj: Any = None) -> Verdict:
        sent = json.dumps({"request": {"object": obj}}).encode()
        got = Answered(200, result) if isinstance(result, bytes) else result
        return verdict_of(asked, "u", sent, got)

    assert verdict(review()) == Verdict(False, 200)
    assert verdict(review(allowed=False)) == Verdict(True, 400, "no_error")
    assert verdict(review(allowed=False, status={"code": 418})) == Verdict(True, 418, "no_error")
    lost = Verdict(True, 500, "calling_webhook_error")
    ignored = Verdict(False, 500, is_ignored=True)
    for result in (Unanswered("x"), review(uid="y"), Answered(500, b"")):
        assert verdict(result) == (lost if fails_closed else ignored)
    with_patch = verdict(review(**patching([])))
    accepted = Verdict(False, 200)
    assert with_patch == (accepted if kind == "admit" else lost if fails_closed else ignored)
    older = AskedWebhook("w.a.b", kind, "CREATE", "v1beta1", fails_closed)
    good = Answered(200, b'{"response": {"allowed": true}}')
    assert verdict_of(older, "u", b"{}", good) == accepted
    if kind == "admit":
        adding = review(**patching([OPERATION]))
        assert verdict(adding, {"b": 1}) == accepted
        broken = Verdict(True, 0, "apiserver_internal_error")
        assert verdict(review(**patching([{"op": "remove", "path": "/b"}])), {"a": 1}) == broken
        assert verdict(adding) == broken, "nothing is written"


def test_hook_9_what_a_patch_makes_of_an_object():
    def patched(tree: Any, *operations: Any) -> Any:
        return apply_patch("w.a.b", tree, Admitted(operations))

    def failed(tree: Any, *operations: Any) -> str:
        with pytest.raises(ApiError) as error:
            patched(tree, *operations)
        assert error.value.status.code == 500
        return str(error.value).removeprefix("Internal error occurred: ")

    tree = {"kind": "K", "apiVersion": "v1", "b": ""}
    assert patched(tree, OPERATION) == {**tree, "a": 1}
    words = "attempted to modify the object, which is not supported for this operation"
    assert failed(None, OPERATION) == f'admission webhook "w.a.b" {words}'
    remove = {"op": "remove", "path": "/none"}
    with pytest.raises(ApiError) as error:
        apply_json_patch(tree, [remove])
    assert failed(tree, remove) == str(error.value) != ""
    for key in ("kind", "apiVersion"):
        told = f"unable to decode the patched object: {key} was changed"
        assert failed(tree, {"op": "replace", "path": f"/{key}", "value": "x"}) == told
        assert failed(tree, {"op": "remove", "path": f"/{key}"}) == told
    room = OBJECT_BYTES_MAX - len(json.dumps(tree, separators=(",", ":")))
    full = {"op": "replace", "path": "/b", "value": "x" * room}
    assert patched(tree, full)["b"] == full["value"]
    told = f"the patched object has more than {OBJECT_BYTES_MAX} bytes"
    assert failed(tree, {**full, "value": "x" * (room + 1)}) == told


@pytest.mark.parametrize(
    ("response", "warnings", "annotations"),
    [
        ({}, (), {}),
        ({"warnings": ["a", 7, "b", None]}, ("a", "b"), {}),
        ({"warnings": "abc", "auditAnnotations": ["a"]}, (), {}),
        ({"warnings": {"a": "b"}, "auditAnnotations": {"k": "v", "n": 7}}, (), {"w.a.b/k": "v"}),
        ({"auditAnnotations": {"k" * 240: "v" * 10_000}}, (), {f"w.a.b/{'k' * 240}": "v" * 10_000}),
        ({"auditAnnotations": {"k" * 241: "v" * 10_000}}, (), {}),
    ],
)
def test_hook_7_the_remarks_of_an_answer(response, warnings, annotations):
    for code, allowed in ((200, True), (500, False)):
        body = json.dumps({"response": {"allowed": allowed, **response}}).encode()
        assert remarks_in("w.a.b", Answered(code, body)) == (warnings, annotations)


def test_hook_7_no_remarks_are_in_what_is_no_answer():
    for body in (b"<html>", b"[]", b"{}", b'{"response": ["warnings"]}', b"[" * 100_000):
        assert remarks_in("w.a.b", Answered(200, body)) == ((), {})
    assert remarks_in("w.a.b", Unanswered("x")) == ((), {})


def test_hook_12_the_refusal_of_a_dry_run():
    status = refuse_dry_run("w.a.b").status
    words = 'admission webhook "w.a.b" does not support dry run'
    assert (status.code, status.reason, status.message) == (400, "BadRequest", words)
