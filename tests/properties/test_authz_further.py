"""Permissions besides the one for the request itself: rules RBAC-7, RBAC-8, AUTHZ-8, AUTHZ-9
(spec/authorization.md)."""

from typing import Any

import pytest
from authz_world import RBAC, USER, AuthorizedWorld, rule
from hypothesis import given
from hypothesis import strategies as st
from test_authz_rbac import ASKED, PATH_RULES, RESOURCE_RULES
from val_examples_cluster import REQUEST

from refk8s.core.api.rbac_v1 import PolicyRule
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.authorize.rules import allows, describe, missing_rules

ROLES = f"{RBAC}/namespaces/default/roles"
BINDINGS = f"{RBAC}/namespaces/default/rolebindings"
LEASES = "/apis/coordination.k8s.io/v1/namespaces/default/leases"
RULES = st.lists(RESOURCE_RULES | PATH_RULES, max_size=3)


@given(RULES, RULES, ASKED)
def test_rbac_7_rules_that_are_covered_allow_nothing_more(
    held: Any, wanted: Any, asked: Any
) -> None:
    """What covered rules allow, the rules that cover them allow too."""
    # Shows RBAC-7.a.
    missing = missing_rules(held, wanted)
    if any(allows(one, asked) for one in wanted) and not any(allows(one, asked) for one in held):
        assert any(allows(one, asked) for one in missing)
    assert not missing_rules([*held, *missing], wanted), "what is missing is what is missing"
    assert not missing_rules(wanted, wanted)
    assert bool(describe(missing)) == bool(missing)


def role(*rules: dict[str, Any], name: str = "more", **more: Any) -> dict[str, Any]:
    return {"metadata": {"name": name}, "rules": list(rules), **more}


def binding(kind: str, name: str, of: str = "to") -> dict[str, Any]:
    return {
        "metadata": {"name": of},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": kind, "name": name},
        "subjects": [{"kind": "User", "name": "other"}],
    }


def a_writer_of_roles() -> AuthorizedWorld:
    world = AuthorizedWorld()
    group = "rbac.authorization.k8s.io"
    world.grant(
        USER,
        "default",
        rule("get create update patch", "roles rolebindings", group),
        rule("get", "configmaps"),
    )
    return world


def test_rbac_7_a_role_may_give_what_its_writer_holds():
    # Shows RBAC-7.c.
    world = a_writer_of_roles()
    assert world.ask("POST", ROLES, USER, role(rule("get", "configmaps"), name="same"))[0] == 201
    more = role(
        rule("get list", "configmaps secrets"),
        rule("*", "deployments", "apps", resourceNames=["d"]),
    )
    code, said = world.ask("POST", ROLES, USER, more)
    assert code == 403 and said["message"] == (
        'roles.rbac.authorization.k8s.io "more" is forbidden: user "jane" '
        '(groups=["system:authenticated"]) is attempting to grant RBAC permissions not currently '
        "held:\n"
        '{APIGroups:[""], Resources:["configmaps"], Verbs:["list"]}\n'
        '{APIGroups:[""], Resources:["secrets"], Verbs:["get" "list"]}\n'
        '{APIGroups:["apps"], Resources:["deployments"], ResourceNames:["d"], Verbs:["*"]}'
    )
    assert said["details"]["name"] == "more"
    assert (
        world.ask("PUT", f"{ROLES}/same", USER, role(rule("get", "secrets"), name="same"))[0] == 403
    )
    patch = {"rules": [rule("get", "secrets")]}
    merge = {"content-type": "application/merge-patch+json"}
    assert world.ask("PATCH", f"{ROLES}/same", USER, patch, **merge)[0] == 403
    assert world.ask("POST", ROLES, ADMIN, more)[0] == 201
    world.grant(USER, "default", rule("escalate", "roles", "rbac.authorization.k8s.io"), name="esc")
    assert world.ask("POST", ROLES, USER, role(rule("get", "secrets"), name="third"))[0] == 201


def test_rbac_7_a_write_of_owners_is_not_checked():
    # Shows RBAC-7.d.
    world = a_writer_of_roles()
    assert world.ask("POST", ROLES, ADMIN, role(rule("get", "secrets")))[0] == 201
    merge = {"content-type": "application/merge-patch+json"}
    path = f"{ROLES}/more"
    assert world.ask("PATCH", path, USER, {"metadata": {"finalizers": ["a/b"]}}, **merge)[0] == 200
    assert world.ask("PATCH", path, USER, {"metadata": {"labels": {"a": "b"}}}, **merge)[0] == 403


def test_rbac_7_an_aggregation_rule_needs_everything():
    # Shows RBAC-7.b.
    world = AuthorizedWorld()
    world.grant(USER, "", rule("*", "clusterroles", "rbac.authorization.k8s.io"), name="c")
    sums = role(aggregationRule={"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}]})
    assert world.ask("POST", f"{RBAC}/clusterroles", USER, sums)[0] == 201, "* has escalate"
    world = AuthorizedWorld()
    world.grant(USER, "", rule("create", "clusterroles", "rbac.authorization.k8s.io"), name="c")
    code, said = world.ask("POST", f"{RBAC}/clusterroles", USER, sums)
    assert code == 403 and said["message"].endswith(
        "must have cluster-admin privileges to use the aggregationRule"
    )


def test_rbac_8_a_role_is_bound_by_who_holds_it_or_may_bind_it():
    # Shows RBAC-8.a RBAC-8.b.
    world = a_writer_of_roles()
    for name, read in (("small", "configmaps"), ("big", "secrets"), ("allowed", "secrets")):
        assert world.ask("POST", ROLES, ADMIN, role(rule("get", read), name=name))[0] == 201
    names = {"resourceNames": ["allowed"]}
    world.grant(
        USER, "default", rule("bind", "roles", "rbac.authorization.k8s.io", **names), name="binder"
    )
    for name, code in (("small", 201), ("big", 403), ("allowed", 201), ("missing", 404)):
        found, said = world.ask("POST", BINDINGS, USER, binding("Role", name, f"to-{name}"))
        assert found == code, said
    assert world.ask("POST", BINDINGS, USER, binding("ClusterRole", "cluster-admin"))[0] == 403
    code, said = world.ask("POST", BINDINGS, USER, binding("User", "x"))
    assert code == 422, "an invalid one is refused for itself"


def test_authz_8_an_update_that_creates_needs_create():
    # Shows AUTHZ-8.a AUTHZ-8.b.
    world = AuthorizedWorld()
    world.grant(USER, "default", rule("get update", "leases", "coordination.k8s.io"))
    lease = {"metadata": {"name": "absent"}}
    code, said = world.ask("PUT", f"{LEASES}/absent", USER, lease)
    words = 'leases.coordination.k8s.io "absent" is forbidden: User "jane" cannot create resource "leases" in API group "coordination.k8s.io" in the namespace "default"'  # fmt: skip
    assert (code, said["message"]) == (403, words)
    world.grant(USER, "default", rule("create", "leases", "coordination.k8s.io"), name="creates")
    assert world.ask("PUT", f"{LEASES}/absent", USER, lease)[0] == 201


@pytest.mark.parametrize("names", [["kubernetes.io/kube-apiserver-client"], ["kubernetes.io/*"]])
@pytest.mark.parametrize("verb", ["approve", "sign"])
def test_authz_9_a_signer_is_approved_and_signed_by_who_may(verb, names):
    # Shows AUTHZ-9.a AUTHZ-9.b.
    world = AuthorizedWorld()
    kind, group = "certificatesigningrequests", "certificates.k8s.io"
    path = f"/apis/{group}/v1/{kind}"
    body = {
        "metadata": {"name": "c"},
        "spec": {
            "request": REQUEST,
            "signerName": "kubernetes.io/kube-apiserver-client",
            "usages": ["client auth"],
        },
    }
    code, said = world.ask("POST", path, ADMIN, body)
    assert code == 201, said
    world.grant(USER, "", rule("get update patch", f"{kind}/approval {kind}/status {kind}", group))
    merge = {"content-type": "application/merge-patch+json"}
    part = "approval" if verb == "approve" else "status"
    kind_of = "Approved" if verb == "approve" else "Failed"
    patch = {"status": {"conditions": [{"type": kind_of, "status": "True", "reason": "x"}]}}
    code, said = world.ask("PATCH", f"{path}/c/{part}", USER, patch, **merge)
    assert code == 403 and said["message"].endswith(
        f'user not permitted to {verb} requests with signerName "{body["spec"]["signerName"]}"'
    )
    world.grant(USER, "", rule(verb, "signers", group, resourceNames=names), name="signs")
    code, said = world.ask("PATCH", f"{path}/c/{part}", USER, patch, **merge)
    assert code == 200, said


def test_rbac_7_the_parts_of_a_rule_are_told_apart():
    """By hand: each field alone makes a rule that is not covered."""
    held = PolicyRule(verbs=("get",), api_groups=("",), resources=("pods", "*/scale"))
    for covered, changes in (
        (True, {}),
        (True, {"resource_names": ("a",)}),
        (True, {"resources": ("pods/scale",)}),
        (False, {"verbs": ("get", "list")}),
        (False, {"api_groups": ("", "apps")}),
        (False, {"resources": ("pods", "pods/log")}),
        (False, {"resources": ("*",)}),
        (False, {"verbs": ("*",)}),
    ):
        wanted = {"verbs": ("get",), "api_groups": ("",), "resources": ("pods",), **changes}
        assert (not missing_rules([held], [PolicyRule(**wanted)])) is covered, changes
    limited = PolicyRule(
        verbs=("get",), api_groups=("",), resources=("pods",), resource_names=("a",)
    )
    assert missing_rules(
        [limited], [PolicyRule(verbs=("get",), api_groups=("",), resources=("pods",))]
    )
