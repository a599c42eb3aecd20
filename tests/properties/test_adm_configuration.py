"""The AdmissionConfiguration from plain values: what each part says, and why one is refused (PSA-7,
QUOTA-9, HOOK-13)."""

from __future__ import annotations

from typing import Any

import pytest

from refk8s.core.api.core_v1 import ScopedResourceSelectorRequirement
from refk8s.core.apiserver.admission.configuration import (
    EXEMPTIONS_MAX,
    LIMITED_MAX,
    AdmissionFile,
    BadConfiguration,
    read_admission,
)
from refk8s.core.apiserver.admission.outcome import (
    LevelVersion,
    LimitedResource,
    PodSecurityConfig,
    SecurityPolicy,
)

VERSION = "apiserver.config.k8s.io/v1"


def a_file(*plugins: Any, **fields: Any) -> dict[str, Any]:
    return {
        "apiVersion": VERSION,
        "kind": "AdmissionConfiguration",
        "plugins": [*plugins],
        **fields,
    }


def of(name: str, document: Any) -> dict[str, Any]:
    return {"name": name, "configuration": document}


def security(**fields: Any) -> dict[str, Any]:
    head = {
        "apiVersion": "pod-security.admission.config.k8s.io/v1",
        "kind": "PodSecurityConfiguration",
    }
    return of("PodSecurity", {**head, **fields})


def quota(*limited: Any, **fields: Any) -> dict[str, Any]:
    head = {"apiVersion": VERSION, "kind": "ResourceQuotaConfiguration"}
    return of("ResourceQuota", {**head, "limitedResources": [*limited], **fields})


def webhooks(name: str = "MutatingAdmissionWebhook", path: str = "/a/b", **fields: Any) -> Any:
    head = {"apiVersion": VERSION, "kind": "WebhookAdmissionConfiguration"}
    return of(name, {**head, "kubeConfigFile": path, **fields})


def nothing(path: str) -> Any:
    raise AssertionError(path)


def test_psa_7_a_file_without_plugins_says_nothing():
    empty = AdmissionFile(PodSecurityConfig(), (), {})
    for tree in (a_file(), {"apiVersion": VERSION, "kind": "AdmissionConfiguration"}):
        assert read_admission(tree, nothing) == empty
    assert read_admission(a_file(security(), quota()), nothing) == empty


def test_psa_7_the_policy_and_the_exemptions():
    levels = ("baseline", "restricted", "privileged")
    defaults = {
        key: value
        for mode, level in zip(("enforce", "audit", "warn"), levels, strict=True)
        for key, value in ((mode, level), (f"{mode}-version", f"v1.{len(level)}"))
    }
    exempt = {"usernames": ["a", "B c"], "namespaces": ["n"], "runtimeClasses": ["r.s"]}
    found = read_admission(a_file(security(defaults=defaults, exemptions=exempt)), nothing)
    policy = SecurityPolicy(
        LevelVersion("baseline", "v1.8"), LevelVersion("restricted", "v1.10"), LevelVersion("privileged", "v1.10")
    )  # fmt: skip
    names = frozenset(["a", "B c"]), frozenset(["n"]), frozenset(["r.s"])
    assert found.pod_security == PodSecurityConfig(policy, *names)
    some = read_admission(a_file(security(defaults={"warn": "baseline"})), nothing).pod_security
    assert some == PodSecurityConfig(SecurityPolicy(warn=LevelVersion("baseline", "latest")))


def test_quota_9_the_resources_that_need_a_quota():
    scopes = [{"scopeName": "PriorityClass", "operator": "In", "values": ["a", "b"]}, {"scopeName": "BestEffort", "operator": "Exists"}]  # fmt: skip
    one = {"resource": "pods", "matchContains": ["a", "b"], "matchScopes": scopes}
    other = {"apiGroup": "apps", "resource": "deployments"}
    found = read_admission(a_file(quota(one, other)), nothing)
    wanted = (
        ScopedResourceSelectorRequirement(scope_name="PriorityClass", operator="In", values=("a", "b")),
        ScopedResourceSelectorRequirement(scope_name="BestEffort", operator="Exists"),
    )  # fmt: skip
    assert found.limited == (
        LimitedResource("", "pods", ("a", "b"), wanted),
        LimitedResource("apps", "deployments", (), ()),
    )
    many = [{"resource": f"r{n}"} for n in range(LIMITED_MAX)]
    assert len(read_admission(a_file(quota(*many)), nothing).limited) == LIMITED_MAX


def test_hook_13_the_credentials_of_webhooks():
    both = a_file(webhooks(), webhooks("ValidatingAdmissionWebhook", "/c"))
    assert read_admission(both, nothing).kubeconfigs == {"admit": "/a/b", "validating": "/c"}


def test_psa_7_a_plugin_may_name_a_file():
    read = []

    def load(path: str) -> Any:
        read.append(path)
        return webhooks()["configuration"]

    tree = a_file({"name": "MutatingAdmissionWebhook", "path": "x.yaml"}, quota())
    assert read_admission(tree, load).kubeconfigs == {"admit": "/a/b"} and read == ["x.yaml"]


AT = "plugins[0].configuration"
LEVELS = "privileged, baseline, restricted"
SCOPES = "BestEffort, CrossNamespacePodAffinity, NotBestEffort, NotTerminating, PriorityClass, Terminating, VolumeAttributesClass"  # fmt: skip


def scoped(**fields: Any) -> Any:
    return quota({"resource": "pods"}, {"resource": "pods", "matchScopes": [{"scopeName": "BestEffort", "operator": "Exists", **fields}]})  # fmt: skip


SCOPE = f"{AT}.limitedResources[1].matchScopes"


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        (a_file(kind="Odd"), f"must be of kind AdmissionConfiguration, {VERSION}"),
        (a_file(apiVersion="v1"), f"must be of kind AdmissionConfiguration, {VERSION}"),
        (a_file(of("LimitRanger", {})), 'plugins[0].name: "LimitRanger" has no configuration here'),
        (a_file(security(), quota(), security()), 'plugins[2].name: Duplicate value: "PodSecurity"'),
        (a_file({"name": "PodSecurity"}), "plugins[0]: must have either a path or a configuration"),
        (a_file({**security(), "path": "x"}), "plugins[0]: must have either a path or a configuration"),
        (a_file(security(kind="Odd")), f"{AT}: must be of kind PodSecurityConfiguration, pod-security.admission.config.k8s.io/v1"),
        (a_file(security(apiVersion=VERSION)), f"{AT}: must be of kind PodSecurityConfiguration, pod-security.admission.config.k8s.io/v1"),
        (a_file(security(defaults={"audit": "x"})), f"{AT}.defaults.audit: must be one of {LEVELS}"),
        (a_file(security(defaults={"warn-version": "1.3"})), f'{AT}.defaults.warn-version: must be "latest" or "v1.x"'),
        (a_file(security(exemptions={"usernames": ["a", ""]})), f"{AT}.exemptions.usernames[1]: Invalid value: ''"),
        (a_file(security(exemptions={"namespaces": ["a.b"]})), f"{AT}.exemptions.namespaces[0]: Invalid value: 'a.b'"),
        (a_file(security(exemptions={"runtimeClasses": ["a", "A"]})), f"{AT}.exemptions.runtimeClasses[1]: Invalid value: 'A'"),
        (a_file(security(exemptions={"namespaces": ["a", "b", "a"]})), f"{AT}.exemptions.namespaces[2]: Duplicate value: 'a'"),
        (a_file(security(exemptions={"usernames": [str(n) for n in range(EXEMPTIONS_MAX + 1)]})), f"{AT}.exemptions.usernames: must have at most 1000 items"),
        (a_file(quota(kind="Odd")), f"{AT}: must be of kind ResourceQuotaConfiguration, {VERSION}"),
        (a_file(quota(*[{"resource": "r"}] * (LIMITED_MAX + 1))), f"{AT}.limitedResources: must have at most 100 items"),
        (a_file(quota({"resource": "r"}, {"resource": ""})), f"{AT}.limitedResources[1].resource: Required value"),
        (a_file(quota({"resource": "r", "matchContains": ["a", ""]})), f"{AT}.limitedResources[0].matchContains: must have no empty text"),
        (a_file(scoped(scopeName="Odd")), f"{SCOPE}.scopeName: must be one of {SCOPES}"),
        (a_file(scoped(operator="Odd")), f"{SCOPE}.operator: must be one of In, NotIn, Exists, DoesNotExist"),
        (a_file(scoped(values=["a"])), f"{SCOPE}.values: required for In and NotIn, and only for these"),
        (a_file(scoped(operator="In")), f"{SCOPE}.values: required for In and NotIn, and only for these"),
        (a_file(scoped(operator="NotIn")), f"{SCOPE}.values: required for In and NotIn, and only for these"),
        (a_file(scoped(operator="DoesNotExist", values=["a"])), f"{SCOPE}.values: required for In and NotIn, and only for these"),
        (a_file(webhooks(kind="Odd")), f"{AT}: must be of kind WebhookAdmissionConfiguration, {VERSION}"),
        (a_file(webhooks(path="a/b")), f"{AT}.kubeConfigFile: must be an absolute file path"),
        (a_file(webhooks(path="")), f"{AT}.kubeConfigFile: must be an absolute file path"),
    ],
)  # fmt: skip
def test_psa_7_why_a_configuration_is_refused(tree, words):
    with pytest.raises(BadConfiguration) as error:
        read_admission(tree, nothing)
    assert str(error.value) == words


def test_psa_7_the_limits_themselves_are_accepted():
    names = [str(n) for n in range(EXEMPTIONS_MAX)]
    found = read_admission(a_file(security(exemptions={"usernames": names})), nothing)
    assert len(found.pod_security.users) == EXEMPTIONS_MAX
    for operator, values in (("NotIn", ["a"]), ("DoesNotExist", [])):
        assert read_admission(a_file(scoped(operator=operator, values=values)), nothing).limited


@pytest.mark.parametrize(
    ("tree", "start"),
    [
        ([], "Expected `object`"),
        (a_file(odd=1), "Object contains unknown field `odd`"),
        (a_file(security(odd=1)), f"{AT}: Object contains unknown field `odd`"),
        (a_file(quota(odd=1)), f"{AT}: Object contains unknown field `odd`"),
        (a_file(webhooks(odd=1)), f"{AT}: Object contains unknown field `odd`"),
        (a_file(of("PodSecurity", [])), f"{AT}: Expected `object`"),
    ],
)
def test_psa_7_what_has_another_form_is_refused(tree, start):
    with pytest.raises(BadConfiguration) as error:
        read_admission(tree, nothing)
    assert str(error.value).startswith(start)
