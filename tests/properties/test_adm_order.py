"""The order of admission: ADM-45 (spec/admission.md)."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest
from hook_world import MUTATING, VALIDATING, HookWorld, add, allow, patch
from hypothesis import given
from hypothesis import strategies as st
from test_hook_calls import POD, rules

from refk8s.core.apiserver.admission import namespace, plugins, resource_quota, webhooks
from refk8s.core.apiserver.admission.policies import mutating, validating

_PLUGINS = """
    AlwaysAdmit NamespaceAutoProvision NamespaceLifecycle NamespaceExists
    LimitPodHardAntiAffinityTopology LimitRanger ServiceAccount NodeRestriction
    TaintNodesByCondition AlwaysPullImages ImagePolicyWebhook PodSecurity PodNodeSelector Priority
    DefaultTolerationSeconds PodTolerationRestriction EventRateLimit ExtendedResourceToleration
    DefaultStorageClass StorageObjectInUseProtection PodGroupProtection
    OwnerReferencesPermissionEnforcement PersistentVolumeClaimResize RuntimeClass
    CertificateApproval CertificateSigning ClusterTrustBundleAttest CertificateSubjectRestriction
    DefaultIngressClass DenyServiceExternalIPs PodTopologyLabels PodGroupWorkloadExists
    NodeDeclaredFeatureValidator JobValidation PodResizeValidator MutatingAdmissionPolicy
    MutatingAdmissionWebhook ValidatingAdmissionPolicy ValidatingAdmissionWebhook ResourceQuota
    AlwaysDeny
"""
UPSTREAM = _PLUGINS.split()
"""All plugins of kube-apiserver, in the order in which it runs them."""

GROUP = "admissionregistration.k8s.io/v1"
EVERYTHING = {"resourceRules": [{"operations": ["*"], "apiGroups": [""], "apiVersions": ["v1"], "resources": ["pods"]}]}  # fmt: skip


def test_adm_45_the_plugins_are_in_upstreams_order():
    names = [one.name for one in plugins.ORDER]
    assert names == [one for one in UPSTREAM if one in names] and len(names) == 24


# --- the order in which they run


Ran = list[tuple[str, str]]
"""(phase, plugin) of each stage that ran."""

OF_EVERY_KIND = (
    (namespace, "check_namespace", "NamespaceLifecycle"),
    (mutating.Mutation, "first", "MutatingAdmissionPolicy"),
    (webhooks, "mutate", "MutatingAdmissionWebhook"),
    (validating, "validate", "ValidatingAdmissionPolicy"),
    (webhooks, "validate", "ValidatingAdmissionWebhook"),
    (resource_quota, "charge", "ResourceQuota"),
)


def traced(monkeypatch) -> Ran:
    """The stages that run from now on, in their order."""
    ran: Ran = []

    def noting(phase: str, name: str, function: Any) -> Any:
        def call(*arguments: Any, **named: Any) -> Any:
            ran.append((phase, name))
            return function(*arguments, **named)

        return call

    def wrapped(one: plugins.Plugin) -> plugins.Plugin:
        return plugins.Plugin(
            one.name,
            {key: noting("mutates", one.name, stage) for key, stage in one.mutates.items()},
            {key: noting("validates", one.name, check) for key, check in one.validates.items()},
            one.checks and noting("validates", one.name, one.checks),
            one.is_optional,
        )

    monkeypatch.setattr(plugins, "ORDER", tuple(wrapped(one) for one in plugins.ORDER))
    preparing = {
        key: tuple(noting("prepares", "", stage) for stage in stages)
        for key, stages in plugins.PREPARING.items()
    }
    monkeypatch.setattr(plugins, "PREPARING", preparing)
    for owner, attribute, name in OF_EVERY_KIND:
        phase = "mutates" if name.startswith(("Namespace", "Mutating")) else "validates"
        monkeypatch.setattr(owner, attribute, noting(phase, name, getattr(owner, attribute)))
    plugins.stages_of.cache_clear()
    return ran


def with_policies(world: HookWorld) -> None:
    """A mutating and a validating policy for pods."""
    expression = 'Object{metadata: Object.metadata{labels: {"policy": "seen"}}}'
    mutation = {"patchType": "ApplyConfiguration", "applyConfiguration": {"expression": expression}}
    for kind, spec in (
        ("Mutating", {"mutations": [mutation], "reinvocationPolicy": "Never"}),
        ("Validating", {"validations": [{"expression": "true"}]}),
    ):
        plural = f"{kind.lower()}admissionpolic"
        policy = {"apiVersion": GROUP, "kind": f"{kind}AdmissionPolicy", "metadata": {"name": "p"}}
        policy["spec"] = {"matchConstraints": EVERYTHING, **spec}
        binding = {"policyName": "p", **({"validationActions": ["Deny"]} if kind == "Validating" else {})}  # fmt: skip
        body = {**policy, "kind": f"{kind}AdmissionPolicyBinding", "spec": binding}
        assert world.send("POST", f"/apis/{GROUP}/{plural}ies", policy)[0] == 201
        assert world.send("POST", f"/apis/{GROUP}/{plural}ybindings", body)[0] == 201


KINDS = {
    "pods": {"spec": POD},
    "configmaps": {},
    "persistentvolumeclaims": {"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1"}}}},
    "replicationcontrollers": {"spec": {"selector": {"a": "b"}, "template": {"metadata": {"labels": {"a": "b"}}, "spec": POD}}},
}  # fmt: skip


@pytest.mark.parametrize("plural", sorted(KINDS))
@pytest.mark.parametrize("is_asked", [False, True])
def test_adm_45_stages_run_in_the_order_of_the_list(monkeypatch, plural, is_asked):
    world = HookWorld()
    if is_asked:
        with_policies(world)
        world.hook(MUTATING, "m", allow)
        world.hook(VALIDATING, "v", allow)
    ran = traced(monkeypatch)
    try:
        code, said = world.create("one", plural, **KINDS[plural])
    finally:
        plugins.stages_of.cache_clear()
    assert code == 201, said
    decisions = _decisions(ran)
    for decision in decisions:
        phases = [phase for phase, _ in decision]
        assert phases == sorted(phases, key=("mutates", "prepares", "validates").index)
        for phase in ("mutates", "validates"):
            _check_order([name for other, name in decision if other == phase])
    last = [name for _, name in decisions[-1]]
    assert (last[0], last[-1]) == ("NamespaceLifecycle", "ResourceQuota")
    if plural == "configmaps" and not is_asked:
        assert len(last) == 2, "a kind without stages has none"
    if is_asked:
        assert {name for _, _, name in OF_EVERY_KIND} <= set(last)


def _decisions(ran: Ran) -> list[Ran]:
    """A request is decided again after each call of a webhook."""
    decisions: list[Ran] = []
    for one in ran:
        if one[1] == "NamespaceLifecycle":
            decisions.append([])
        decisions[-1].append(one)
    return decisions


def _check_order(ran: list[str]) -> None:
    """The plugins ran in the order of the list. After a policy or webhook has changed the object,
    they run once more from LimitRanger."""
    names = [one.name for one in plugins.ORDER]
    for before, after in pairwise(ran):
        is_again = before.startswith("MutatingAdmission") and after == "LimitRanger"
        assert names.index(before) <= names.index(after) or is_again, ran


# --- where the order matters


@given(st.sampled_from(["100m", "1"]), st.sampled_from(["50m", "100m", "2"]))
def test_adm_45_a_quota_is_charged_what_limit_ranges_add(cpu, most):
    world = HookWorld()
    item = {"type": "Container", "defaultRequest": {"cpu": cpu}}
    assert world.create("l", "limitranges", spec={"limits": [item]})[0] == 201
    assert world.create("q", "resourcequotas", spec={"hard": {"requests.cpu": most}})[0] == 201
    status = {"status": {"hard": {"requests.cpu": most}, "used": {"requests.cpu": "0"}}}
    path = "/api/v1/namespaces/default/resourcequotas/q/status"
    assert world.send("PATCH", path, status, "application/merge-patch+json")[0] == 200
    fits = {"50m": 50, "100m": 100, "1": 1000, "2": 2000}
    expected = 201 if fits[cpu] <= fits[most] else 403
    assert world.create("p", "pods", spec=POD)[0] == expected


def test_adm_45_webhooks_see_what_plugins_and_policies_add_and_nothing_that_the_registry_sets():
    world = HookWorld()
    with_policies(world)
    world.hook(MUTATING, "m", allow, rules=rules("CREATE", resource="pods"))
    world.hook(VALIDATING, "v", allow, rules=rules("CREATE", resource="pods"))
    assert world.create("p", "pods", spec=POD)[0] == 201
    (first,) = [one["object"] for server, one in world.asked if server == "m"]
    (last,) = [one["object"] for server, one in world.asked if server == "v"]
    assert first["metadata"]["labels"] == {"policy": "seen"}
    assert first["spec"]["priority"] == 0 and len(first["spec"]["tolerations"]) == 2
    assert [one["name"][:11] for one in first["spec"]["volumes"]] == ["kube-api-ac"]
    assert not first.get("status")
    assert (last["status"]["phase"], last["status"]["qosClass"]) == ("Pending", "BestEffort")


def test_adm_45_what_webhooks_change_gets_its_defaults_and_the_registry_has_the_last_word():
    world = HookWorld()
    container = {"name": "d", "image": "i:1"}
    world.hook(
        MUTATING,
        "m",
        patch(add("/spec/containers/-", container), add("/status", {"phase": "Failed"})),
        rules=rules("CREATE", resource="pods"),
    )
    code, made = world.create("p", "pods", spec=POD)
    assert code == 201, made
    assert made["spec"]["containers"][1]["imagePullPolicy"] == "IfNotPresent"
    assert made["spec"]["containers"][1]["volumeMounts"], "the plugins ran again"
    assert made["status"]["phase"] == "Pending"
