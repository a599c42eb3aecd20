"""The stages of admission together: their order around policies and webhooks, and what is asked
about a deletion, a scale and a body (ADM-1, ADM-45, POL-12, POL-14, HOOK-9 to HOOK-12)."""

from __future__ import annotations

from typing import Any

import pytest
from hook_world import add, allow, deny, patched
from msgspec.structs import replace
from test_adm_by_hand import CONTEXT
from test_hook import ANY_RULE, MUTATING, VALIDATING
from test_hook_answers import AGAIN, Asked
from test_match import USER

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree, to_tree
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import (
    admit,
    admit_body,
    admit_delete,
    admit_scale,
    check,
)
from refk8s.core.apiserver.admission.outcome import AdmissionConfig, LimitedResource
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.store import Compare
from refk8s.core.value import evolve

PODS = resources.PODS
RULES = [{**ANY_RULE, "resources": ["*/*"]}]
TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")


def a_pod(name: str = "p", **metadata: Any) -> Pod:
    given = {"name": name, "namespace": "n", "uid": "u", "creationTimestamp": "2026-01-01T00:00:00Z", "generation": 1, **metadata}  # fmt: skip
    return from_tree(
        Pod, {"metadata": given, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    )


def policy(asked: Asked, kind: str, rule: Any, **spec: Any) -> None:
    """A policy and its binding, of either kind."""
    of = {"Mutating": (resources.MUTATING_ADMISSION_POLICIES, resources.MUTATING_ADMISSION_POLICY_BINDINGS), "Validating": (resources.VALIDATING_ADMISSION_POLICIES, resources.VALIDATING_ADMISSION_POLICY_BINDINGS)}  # fmt: skip
    policies, bindings = of[kind]
    constraints = {"resourceRules": [{"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["*/*"]}]}  # fmt: skip
    field = "mutations" if kind == "Mutating" else "validations"
    tree = {"metadata": {"name": "p"}, "spec": {"matchConstraints": constraints, field: [rule], "reinvocationPolicy": "IfNeeded", **spec}}  # fmt: skip
    if kind == "Validating":
        del tree["spec"]["reinvocationPolicy"]
    asked.put(policies.key("", "p"), from_tree(policies.type, tree))
    actions = {} if kind == "Mutating" else {"validationActions": ["Deny"]}
    bound = {"metadata": {"name": "b"}, "spec": {"policyName": "p", **actions}}
    asked.put(bindings.key("", "b"), from_tree(bindings.type, bound))


def labelling(key: str, value: str = "'x'") -> dict[str, Any]:
    """A mutation that sets a label."""
    text = f"Object{{metadata: Object.metadata{{labels: {{'{key}': {value}}}}}}}"
    return {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": text}}


def server(key: str) -> Any:
    """A webhook that sets a label once."""

    def answer(request: dict[str, Any]) -> Any:
        labels = request["object"]["metadata"].get("labels") or {}
        return (
            allow(request)
            if key in labels
            else patched(add("/metadata/labels", {**labels, key: "x"}))
        )

    return answer


def on_pods(asked: Asked, **fields: Any) -> None:
    asked.options = {"resource": PODS, **fields}


def admitted(asked: Asked, new: Any, old: Any = None, **more: Any) -> Any:
    return asked.run(lambda exchange: admit(evolve(exchange, **more), new, old))


def test_adm_1_the_stages_run_in_their_order():
    asked = Asked((MUTATING, "m", server("hook"), {"rules": RULES}))
    policy(asked, "Mutating", labelling("policy"))
    on_pods(asked, body=a_pod())
    found = admitted(asked, a_pod())
    assert found.object.metadata.labels == {"policy": "x", "hook": "x"}
    tree = asked.reviews[0]["object"]
    assert tree["metadata"]["labels"] == {"policy": "x"}
    assert [one["key"] for one in tree["spec"]["tolerations"]] == [*TAINTS], "after the plugins"
    assert tree["status"] == {}, "and before the registry"
    assert found.object.status.phase == "Pending"
    key = resources.NAMESPACES.key("", "n")
    assert found.compares == (Compare(key, asked.store.get(key).mod_revision),)


@pytest.mark.parametrize("has_hook", [True, False])
@pytest.mark.parametrize("has_policy", [True, False])
def test_adm_45_the_plugins_run_once_more_after_a_change(has_hook, has_policy):
    """A policy or webhook that removes what a plugin adds: the plugin adds it again."""
    removal = [{"op": "remove", "path": "/spec/tolerations"}]

    def without(request: dict[str, Any]) -> Any:
        return patched(*removal) if len(asked.turns) == 1 else allow(request)

    hooks = [(MUTATING, "m", without, {"rules": RULES})] if has_hook else []
    asked = Asked(*hooks)
    if has_policy:
        text = "[JSONPatch{op: 'remove', path: '/spec/tolerations'}]"
        rule = {"patchType": "JSONPatch", "jsonPatch": {"expression": text}}
        policy(asked, "Mutating", rule, reinvocationPolicy="Never")
        if has_hook:
            asked.servers["m"] = allow
    on_pods(asked, body=a_pod())
    made = admitted(asked, a_pod()).object
    assert [one.key for one in made.spec.tolerations] == [*TAINTS]


def test_pol_14_a_policy_is_invoked_again_after_a_webhook():
    seen = labelling("seen", "has(object.metadata.labels) && 'hook' in object.metadata.labels ? 'late' : 'no'")  # fmt: skip
    asked = Asked((MUTATING, "m", server("hook"), {"rules": RULES}))
    policy(asked, "Mutating", seen)
    on_pods(asked, body=a_pod())
    assert admitted(asked, a_pod()).object.metadata.labels == {"seen": "late", "hook": "x"}
    never = Asked((MUTATING, "m", server("hook"), {"rules": RULES}))
    policy(never, "Mutating", seen, reinvocationPolicy="Never")
    on_pods(never, body=a_pod())
    assert admitted(never, a_pod()).object.metadata.labels == {"seen": "no", "hook": "x"}


def test_hook_10_a_webhook_is_asked_again_after_a_stage():
    def without(request: dict[str, Any]) -> Any:
        found = "tolerations" in request["object"]["spec"]
        return patched({"op": "remove", "path": "/spec/tolerations"}) if found else allow(request)

    asked = Asked((MUTATING, "m", without, {"rules": RULES, **AGAIN}), (MUTATING, "o", allow, {"rules": RULES}))  # fmt: skip
    on_pods(asked, body=a_pod())
    assert admitted(asked, a_pod()).object.spec.tolerations is None
    assert asked.turns == ["m", "o", "m"]


@pytest.mark.parametrize("of_path", ["", "p"])
@pytest.mark.parametrize("in_body", [None, "p"])
def test_hook_6_a_new_object_is_shown_without_what_the_server_sets(of_path, in_body):
    asked = Asked((MUTATING, "m", allow, {"rules": RULES}))
    body = a_pod() if in_body else replace(a_pod(), metadata=replace(a_pod().metadata, name=None))
    on_pods(asked, body=body, name=of_path)
    admitted(asked, a_pod())
    metadata = asked.reviews[0]["object"]["metadata"]
    assert not {"uid", "creationTimestamp", "generation"} & set(metadata)
    assert metadata.get("name") == ("p" if of_path or in_body else None)
    on_pods(asked, body=None, name="")
    admitted(asked, a_pod())
    assert "name" not in asked.reviews[1]["object"]["metadata"]
    on_pods(asked, body=a_pod(), verb="update", name="p")
    admitted(asked, a_pod(labels={"a": "b"}), a_pod())
    update = asked.reviews[2]
    assert (update["operation"], update["object"]["metadata"]["uid"]) == ("UPDATE", "u")
    assert update["oldObject"]["metadata"]["uid"] == "u"


def test_hook_12_a_part_of_an_admitted_write_is_not_asked_about():
    asked = Asked((MUTATING, "m", server("x"), {"rules": RULES}), (VALIDATING, "v", deny(), {"rules": RULES}))  # fmt: skip
    on_pods(asked, body=a_pod())
    admitted(asked, a_pod(), is_admitted=True)
    asked.run(lambda exchange: check(evolve(exchange, is_admitted=True), a_pod(), None))
    assert asked.turns == []


@pytest.mark.parametrize("old", [None, a_pod()])
def test_hook_11_what_is_asked_about_a_valid_object(old):
    asked = Asked((VALIDATING, "v", allow, {"rules": RULES}))
    policy(asked, "Validating", {"expression": "object.metadata.name != 'bad'", "message": "no"})
    on_pods(asked, verb="create" if old is None else "update")
    asked.run(lambda exchange: check(exchange, a_pod(), old))
    [review] = asked.reviews
    assert review["operation"] == ("CREATE" if old is None else "UPDATE")
    assert review["object"] == to_tree(a_pod())
    assert review["oldObject"] == (None if old is None else to_tree(old))
    with pytest.raises(ApiError) as error:
        asked.run(lambda exchange: check(exchange, a_pod("bad"), old))
    assert str(error.value).endswith("denied request: no") and len(asked.turns) == 1


def test_quota_2_a_quota_is_charged_last():
    asked = Asked()
    asked.config = Config(
        admission=AdmissionConfig(limited=(LimitedResource("", "pods", ("pods",)),))
    )
    on_pods(asked)
    code, _, words = asked.refused(
        lambda: asked.run(lambda exchange: check(exchange, a_pod(), None))
    )
    assert code == 403 and "insufficient quota" in words
    quota = resources.RESOURCE_QUOTAS
    hard = {"count/pods": "5", "pods": "5"}
    tree = {"metadata": {"name": "q", "namespace": "n"}, "spec": {"hard": hard}, "status": {"hard": hard, "used": {"count/pods": "1", "pods": "1"}}}  # fmt: skip
    asked.put(quota.key("n", "q"), from_tree(quota.type, tree))
    found = asked.run(lambda exchange: check(exchange, a_pod(), None))
    assert [one.key for one in found.writes] == [one.key for one in found.compares] == [quota.key("n", "q")]  # fmt: skip
    assert (
        found.writes[0].value.status.used == {"count/pods": "2", "pods": "2"}
        and found.object == a_pod()
    )


def test_psa_4_the_warnings_of_checks():
    asked = Asked()
    labels = {"pod-security.kubernetes.io/warn": "restricted"}
    kind = resources.NAMESPACES
    asked.put(
        kind.key("", "n"), from_tree(kind.type, {"metadata": {"name": "n", "labels": labels}})
    )
    on_pods(asked)
    [warning] = asked.run(lambda exchange: check(exchange, a_pod(), None)).warnings
    assert warning.startswith('would violate PodSecurity "restricted:latest"')


# --- what stores no object of its own


def both(asked: Asked) -> None:
    policy(asked, "Validating", {"expression": "request.operation != 'CONNECT' || object.kind != 'Bad'", "message": "no"})  # fmt: skip


def test_hook_12_a_scale_and_a_body_are_changed_and_asked_about():
    scale = from_tree(
        resources.type_of_kind("autoscaling/v1", "Scale"), {"metadata": {"name": "d"}, "spec": {"replicas": 3}}
    )  # fmt: skip
    more = lambda _: patched({"op": "replace", "path": "/spec/replicas", "value": 4})  # noqa: E731
    asked = Asked(
        (MUTATING, "m", more, {"rules": RULES}), (VALIDATING, "v", allow, {"rules": RULES})
    )
    asked.options = {"resource": resources.DEPLOYMENTS, "subresource": "scale", "name": "d", "verb": "update"}  # fmt: skip
    made = asked.run(lambda exchange: admit_scale(exchange, scale, scale))
    assert made.spec.replicas == 4 and asked.turns == ["m", "v"]
    assert [one["operation"] for one in asked.reviews] == ["UPDATE", "UPDATE"]
    assert [one["object"]["spec"]["replicas"] for one in asked.reviews] == [3, 4]
    assert asked.reviews[1]["oldObject"]["spec"]["replicas"] == 3
    options = {"kind": "PodExecOptions", "apiVersion": "v1", "command": ["x"]}
    other = lambda _: patched(add("/command", ["y"]))  # noqa: E731
    asked = Asked(
        (MUTATING, "m", other, {"rules": RULES}), (VALIDATING, "v", allow, {"rules": RULES})
    )
    both(asked)
    asked.options = {"resource": PODS, "subresource": "exec", "name": "p", "verb": "connect"}
    made = asked.run(lambda exchange: admit_body(exchange, "CONNECT", options))
    assert made == {**options, "command": ["y"]}
    assert asked.reviews[1]["object"] == made and asked.reviews[1]["oldObject"] is None
    code, _, words = asked.refused(
        lambda: asked.run(
            lambda exchange: admit_body(exchange, "CONNECT", {**options, "kind": "Bad"})
        )
    )
    assert code in (422, 500) and words
    quiet = Asked()
    quiet.options = asked.options
    assert quiet.run(lambda exchange: admit_body(exchange, "CONNECT", options)) is options


@pytest.mark.parametrize("of_many", [True, False])
def test_hook_12_a_deletion_is_asked_about(of_many):
    asked = Asked((MUTATING, "m", allow, {"rules": RULES}), (VALIDATING, "v", deny(message="no"), {"rules": RULES}))  # fmt: skip
    asked.options = {"resource": PODS, "name": "p", "verb": "delete"}
    code, _, words = asked.refused(
        lambda: asked.run(lambda exchange: admit_delete(exchange, a_pod(), is_one_of_many=of_many))
    )
    assert (code, words) == (403, 'admission webhook "v.b.c" denied the request: no')
    for review in asked.reviews:
        assert (review["operation"], review["object"]) == ("DELETE", None)
        assert review["oldObject"] == to_tree(a_pod())
        assert review.get("name") == (None if of_many else "p")
    assert asked.turns == ["m", "v"]


def test_pol_6_only_bindings_are_a_policy():
    """Policies without a binding, and a store without any, ask nothing."""
    asked = Asked()
    kind = resources.VALIDATING_ADMISSION_POLICIES
    tree = {"metadata": {"name": "p"}, "spec": {"validations": [{"expression": "false"}]}}
    asked.put(kind.key("", "p"), from_tree(kind.type, tree))
    on_pods(asked, body=a_pod())
    assert admitted(asked, a_pod()).object.metadata.name == "p"
    asked.run(lambda exchange: check(exchange, a_pod(), None))


# --- services and custom objects


@pytest.mark.parametrize(
    ("resource", "part"), [(resources.SERVICES, ""), (resources.SERVICES, "status"), (PODS, "")]
)
@pytest.mark.parametrize("is_dry_run", [True, False])
def test_alloc_1_a_service_gets_its_addresses(resource, part, is_dry_run):
    from refk8s.core.api.request import Options

    asked = Asked()
    fields = {
        "type": "NodePort",
        "ports": [{"port": 80, "nodePort": 29_000 if is_dry_run else 30_000}],
    }
    new = a_pod() if resource == PODS else from_tree(resource.type, {"metadata": {"name": "s", "namespace": "n"}, "spec": fields})  # fmt: skip
    asked.options = {
        "resource": resource,
        "subresource": part,
        "options": Options(dry_run=is_dry_run),
    }
    found = admitted(asked, new)
    namespace = resources.NAMESPACES.key("", "n")
    assert found.compares[0] == Compare(namespace, asked.store.get(namespace).mod_revision)
    if resource == resources.SERVICES and not part:
        assert found.object.spec.cluster_ip.startswith("10.") and len(found.writes) == 2
        assert len(found.compares) == 4
    else:
        assert found.writes == () and len(found.compares) == 1


def test_crd_18_an_object_is_stored_only_while_its_definition_stays():
    from custom_world import CustomWorld, a_definition

    from refk8s.core.apiserver.custom.definitions import definition_key, find_custom

    world = CustomWorld(a_definition())
    code, _ = world.put_gadget()
    assert code == 201
    kind = find_custom("example.com", "v1", "gadgets", world.history)
    obj = world.history.get(kind.key("default", "a")).value
    request = Request("create", kind, "default", user=USER, body=obj)
    exchange = Exchange(request, world.history, CONTEXT)
    keys = [one.key for one in admit(exchange, obj, None).compares]
    assert keys[0] == resources.NAMESPACES.key("", "default")
    assert definition_key("example.com", "gadgets") in keys
    update = [one.key for one in admit(exchange, obj, obj).compares]
    assert resources.NAMESPACES.key("", "default") not in update
