"""PodSecurity: which pods a namespace allows (spec/pod_security.md, PSA-1 to PSA-8)."""

import json
from typing import Any

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api import codec, resources
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.admission.configuration import BadConfiguration, read_admission
from refk8s.core.apiserver.admission.outcome import (
    AdmissionConfig,
    LevelVersion,
    PodSecurityConfig,
    SecurityPolicy,
)
from refk8s.core.apiserver.admission.pod_security import enforce
from refk8s.core.apiserver.admission.pod_security.evaluate import details, reasons, violations
from refk8s.core.apiserver.admission.pod_security.policy import (
    LEVELS,
    PREFIX,
    labels_of,
    policy_of,
    problems_of,
)
from refk8s.core.apiserver.config import Config

MERGE = {"content-type": "application/merge-patch+json"}
SECURE = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "runAsNonRoot": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def a_container(name: str = "c", context: Any = None, **fields: Any) -> dict[str, Any]:
    made = {"name": name, "image": "i:1", **fields}
    return made if context is None else {**made, "securityContext": context}


def a_pod(name: str = "p", *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"containers": list(containers or (a_container(),)), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


class Secured(World):
    def send(
        self, method: str, path: str, body: Any, user: User | None = None, **headers: str
    ) -> Any:
        """(code, answer, warnings)"""
        sent = {"content-type": "application/json", **headers}
        given = {"user": user} if user is not None else {}
        reply: Any = self.http(method, path, body, sent, **given)
        return reply.code, json.loads(reply.content), reply.warnings

    def label(self, namespace: str = "default", **labels: str | None) -> Any:
        found = {PREFIX + mode.replace("_", "-"): value for mode, value in labels.items()}
        body = {"metadata": {"labels": found}}
        return self.send("PATCH", f"/api/v1/namespaces/{namespace}", body, **MERGE)

    def post(self, pod: dict[str, Any], **options: Any) -> Any:
        return self.send("POST", "/api/v1/namespaces/default/pods", pod, **options)


def violated(pod: dict[str, Any], level: str = "restricted", version: str = "latest") -> str:
    made = codec.decode_tolerant(resources.PODS.type, pod)[0]
    return details(violations(LevelVersion(level, version), made.metadata, made.spec))


# --- policies


def test_psa_1_labels_choose_levels_and_versions():
    labels = {
        PREFIX + "enforce": "baseline",
        PREFIX + "enforce-version": "v1.20",
        PREFIX + "warn": "restricted",
        "other": "x",
    }
    policy = policy_of(labels_of(labels), SecurityPolicy())
    assert policy == SecurityPolicy(
        LevelVersion("baseline", "v1.20"), LevelVersion(), LevelVersion("restricted", "latest")
    )
    defaults = SecurityPolicy(audit=LevelVersion("baseline", "v1.30"))
    assert policy_of((), defaults) == defaults
    assert policy_of(labels_of(labels), defaults).audit == defaults.audit


def test_psa_1_invalid_labels_are_strict_for_enforce_and_lenient_otherwise():
    labels = tuple(sorted((PREFIX + mode, "x") for mode in ("enforce", "audit", "warn")))
    policy = policy_of(labels, SecurityPolicy())
    levels = (policy.enforce.level, policy.audit.level, policy.warn.level)
    assert levels == ("restricted", "privileged", "privileged")
    versions = ((PREFIX + "enforce-version", "1.20"),)
    assert policy_of(versions, SecurityPolicy()).enforce.version == "latest"


@pytest.mark.parametrize("version", ["v1.0", "v1.9", "v1.37", "latest"])
def test_psa_2_versions(version):
    assert problems_of(((PREFIX + "warn-version", version),)) == []


@pytest.mark.parametrize("version", ["", "1.9", "v1", "v1.09", "v2.1", "v1.x", "v1.٣"])
def test_psa_2_what_is_no_version(version):
    [problem] = problems_of(((PREFIX + "warn-version", version),))
    assert problem.message.endswith(': must be "latest" or "v1.x"')


def test_psa_2_a_namespace_cannot_get_invalid_labels():
    world = Secured()
    code, answer, _ = world.label(enforce="strict", audit_version="9")
    assert code == 422
    assert [(cause["field"], cause["message"]) for cause in answer["details"]["causes"]] == [
        (
            f"metadata.labels[{PREFIX}enforce]",
            'Invalid value: "strict": must be one of privileged, baseline, restricted',
        ),
        (
            f"metadata.labels[{PREFIX}audit-version]",
            'Invalid value: "9": must be "latest" or "v1.x"',
        ),
    ]
    labels = {PREFIX + "warn": "x"}
    namespace = {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "n", "labels": labels},
    }
    assert world.send("POST", "/api/v1/namespaces", namespace)[0] == 422
    assert world.label(enforce="baseline")[0] == 200


# --- checks

HOST_PATH = {"name": "v", "hostPath": {"path": "/x"}}
BASELINE = [
    ({"securityContext": {"appArmorProfile": {"type": "Unconfined"}}}, {}, 0,
     'forbidden AppArmor profile (pod must not set AppArmor profile type to "Unconfined")'),
    ({}, {"capabilities": {"add": ["CHOWN", "SYS_ADMIN", "NET_RAW"]}}, 0,
     'non-default capabilities (container "c" must not include "NET_RAW", "SYS_ADMIN" in securityContext.capabilities.add)'),
    ({"hostNetwork": True, "hostPID": True, "hostIPC": True}, {}, 0,
     "host namespaces (hostNetwork=true, hostPID=true, hostIPC=true)"),
    ({"volumes": [HOST_PATH, {"name": "w", "emptyDir": {}}]}, {}, 0,
     'hostPath volumes (volume "v")'),
    ({}, {"privileged": True}, 0,
     'privileged (container "c" must not set securityContext.privileged=true)'),
    ({}, {"procMount": "Unmasked"}, 0,
     'procMount (container "c" must not set securityContext.procMount to "Unmasked")'),
    ({"securityContext": {"seLinuxOptions": {"type": "a", "user": "u"}}}, {"seLinuxOptions": {"type": "b", "role": "r"}}, 0,
     'seLinuxOptions (pod and container "c" set forbidden securityContext.seLinuxOptions: types "a", "b"; user may not be set; role may not be set)'),
    ({"securityContext": {"seLinuxOptions": {"user": "u"}}}, {}, 0,
     "seLinuxOptions (pod set forbidden securityContext.seLinuxOptions: user may not be set)"),
    ({}, {"seccompProfile": {"type": "Unconfined"}}, 19,
     'seccompProfile (container "c" must not set securityContext.seccompProfile.type to "Unconfined")'),
    ({"securityContext": {"sysctls": [{"name": "a", "value": "1"}, {"name": "kernel.shm_rmid_forced", "value": "1"}]}}, {}, 0,
     "forbidden sysctls (a)"),
    ({"securityContext": {"windowsOptions": {"hostProcess": True}}}, {"windowsOptions": {"hostProcess": True}}, 0,
     'hostProcess (pod and container "c" must not set securityContext.windowsOptions.hostProcess=true)'),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "context", "since", "words"), BASELINE)
def test_psa_3_what_baseline_forbids(spec, context, since, words):
    pod = a_pod("p", a_container(context=context), **spec)
    assert violated(pod, "baseline") == words
    assert violated(pod, "baseline", f"v1.{since}") == words
    assert violated(pod, "privileged") == ""
    if since:
        assert violated(pod, "baseline", f"v1.{since - 1}") == ""


def test_psa_3_host_ports_and_hosts_of_probes():
    ports = [{"containerPort": 80, "hostPort": 80}, {"containerPort": 81, "hostPort": 8080}]
    pod = a_pod("p", a_container("a", ports=ports), a_container("b", ports=ports[:1]))
    words = 'hostPort (containers "a", "b" use hostPorts 80, 8080)'
    assert violated(pod, "baseline") == words
    probe = {"httpGet": {"port": 80, "host": "1.2.3.4"}}
    hook = {"postStart": {"tcpSocket": {"port": 80, "host": "x"}}}
    pod = a_pod("p", a_container("c", readinessProbe=probe, lifecycle=hook))
    words = 'probe or lifecycle host (container "c" uses probe or lifecycle hosts "1.2.3.4", "x")'
    assert violated(pod, "baseline") == words and violated(pod, "baseline", "v1.33") == ""


def test_psa_3_annotations_of_profiles():
    pod = a_pod()
    pod["metadata"]["annotations"] = {
        "container.apparmor.security.beta.kubernetes.io/c": "unconfined",
        "container.apparmor.security.beta.kubernetes.io/d": "localhost/x",
        "seccomp.security.alpha.kubernetes.io/pod": "unconfined",
        "container.seccomp.security.alpha.kubernetes.io/c": "docker/default",
    }
    assert violated(pod, "baseline", "v1.18") == (
        "forbidden AppArmor profile (annotation must not set AppArmor profile type to "
        '"container.apparmor.security.beta.kubernetes.io/c="unconfined""), '
        "seccompProfile (forbidden annotation "
        'seccomp.security.alpha.kubernetes.io/pod="unconfined")'
    )


@pytest.mark.parametrize(
    ("name", "since"),
    [
        ("net.ipv4.ping_group_range", 0),
        ("net.ipv4.ip_local_reserved_ports", 27),
        ("net.ipv4.tcp_keepalive_time", 29),
        ("net.ipv4.tcp_rmem", 32),
    ],
)
def test_psa_3_sysctls_are_allowed_from_a_version_on(name, since):
    pod = a_pod(securityContext={"sysctls": [{"name": name, "value": "1"}]})
    assert violated(pod, "baseline", f"v1.{since}") == "" == violated(pod, "baseline")
    if since:
        assert violated(pod, "baseline", f"v1.{since - 1}") == f"forbidden sysctls ({name})"


def test_psa_3_what_restricted_forbids_of_a_bare_pod():
    pod = a_pod("p", a_container("a"), initContainers=[a_container("i")])
    both = 'containers "i", "a"'
    parts = {
        8: f"allowPrivilegeEscalation != false ({both} must set securityContext.allowPrivilegeEscalation=false)",
        22: f'unrestricted capabilities ({both} must set securityContext.capabilities.drop=["ALL"])',
        0: f"runAsNonRoot != true (pod or {both} must set securityContext.runAsNonRoot=true)",
        19: f'seccompProfile (pod or {both} must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost")',
    }
    assert violated(pod) == ", ".join(parts.values())
    for version in (0, 7, 8, 18, 19, 21, 22):
        expected = [words for since, words in parts.items() if since <= version]
        assert violated(pod, "restricted", f"v1.{version}") == ", ".join(expected)


RESTRICTED = [
    ({}, {"allowPrivilegeEscalation": True},
     'allowPrivilegeEscalation != false (container "c" must set securityContext.allowPrivilegeEscalation=false)'),
    ({}, {"capabilities": {"drop": ["KILL"], "add": ["NET_BIND_SERVICE", "CHOWN"]}},
     'unrestricted capabilities (container "c" must set securityContext.capabilities.drop=["ALL"]; '
     'container "c" must not include "CHOWN" in securityContext.capabilities.add)'),
    ({"volumes": [HOST_PATH, {"name": "w", "nfs": {"server": "s", "path": "/"}}, {"name": "x", "emptyDir": {}}]}, {},
     'restricted volume types (volumes "v", "w" use restricted volume types "hostPath", "nfs")'),
    ({"volumes": [{"name": "v", "image": {"reference": "a"}}]}, {},
     'restricted volume types (volume "v" uses restricted volume type "unknown")'),
    ({"securityContext": {"runAsNonRoot": False}}, {"runAsNonRoot": False},
     'runAsNonRoot != true (pod and container "c" must not set securityContext.runAsNonRoot=false)'),
    ({"securityContext": {"runAsUser": 0}}, {"runAsUser": 0},
     'runAsUser=0 (pod and container "c" must not set runAsUser=0)'),
    ({"securityContext": {"seccompProfile": {"type": "Unconfined"}}}, {},
     'seccompProfile (pod must not set securityContext.seccompProfile.type to "Unconfined")'),
    ({}, {"procMount": "Unmasked"},
     'procMount (container "c" must not set securityContext.procMount to "Unmasked")'),
]  # fmt: skip


@pytest.mark.parametrize(("spec", "context", "words"), RESTRICTED)
def test_psa_3_what_restricted_forbids(spec, context, words):
    pod = a_pod("p", a_container(context={**SECURE, **context}), **spec)
    assert violated(pod) == words


def test_psa_3_a_hardened_pod_and_settings_of_the_pod_are_allowed():
    assert violated(a_pod("p", a_container(context=SECURE))) == ""
    of_pod = {name: SECURE[name] for name in ("runAsNonRoot", "seccompProfile")}
    of_container = {name: SECURE[name] for name in SECURE if name not in of_pod}
    pod = a_pod("p", a_container(context=of_container), securityContext=of_pod)
    assert violated(pod) == ""


def test_psa_3_windows_and_user_namespaces():
    bare = a_pod(securityContext={"runAsNonRoot": True}, os={"name": "windows"})
    assert violated(bare) == "" and "seccompProfile" in violated(bare, "restricted", "v1.24")
    root = {**SECURE, "runAsNonRoot": False, "runAsUser": 0, "procMount": "Unmasked"}
    inside = a_pod("p", a_container(context=root), hostUsers=False)
    words = 'procMount (container "c" must not set securityContext.procMount to "Unmasked")'
    assert violated(inside) == words and violated(inside, "baseline") == ""
    assert violated(inside, "baseline", "v1.34") == words
    assert "runAsNonRoot" in violated(inside, "restricted", "v1.34")
    assert "runAsUser=0" in violated(inside, "restricted", "v1.34")


contexts = st.fixed_dictionaries(
    {},
    optional={
        "privileged": st.booleans(),
        "allowPrivilegeEscalation": st.booleans(),
        "runAsUser": st.integers(0, 1),
        "runAsNonRoot": st.booleans(),
        "procMount": st.sampled_from(["Default", "Unmasked"]),
        "capabilities": st.sampled_from([{"drop": ["ALL"]}, {"add": ["SYS_ADMIN"]}]),
        "seccompProfile": st.sampled_from([{"type": "Unconfined"}, {"type": "RuntimeDefault"}]),
    },
)
specs = st.fixed_dictionaries(
    {},
    optional={
        "hostNetwork": st.booleans(),
        "hostUsers": st.booleans(),
        "volumes": st.sampled_from([[HOST_PATH], [{"name": "w", "emptyDir": {}}]]),
        "securityContext": contexts.map(
            lambda one: {k: one[k] for k in one if k.startswith("run")}
        ),
    },
)


@given(contexts, specs, st.integers(0, 40))
def test_psa_3_a_stricter_level_allows_no_more(context, spec, minor):
    pod = a_pod("p", a_container(context=context), **spec)
    version = f"v1.{minor}"
    assert violated(pod, "privileged", version) == ""
    if violated(pod, "baseline", version):
        assert violated(pod, "restricted", version)
    assert violated(pod, "baseline", "v1.99") == violated(pod, "baseline")


# --- requests


def test_psa_4_what_violates_the_enforced_level_is_rejected():
    world = Secured()
    assert world.label(enforce="baseline")[0] == 200
    code, answer, _ = world.post(a_pod("p", a_container(context={"privileged": True})))
    assert code == 403 and answer["message"] == (
        'pods "p" is forbidden: violates PodSecurity "baseline:latest": '
        'privileged (container "c" must not set securityContext.privileged=true)'
    )
    code, _, warnings = world.post(a_pod())
    assert code == 201 and not warnings
    other = a_pod("p", a_container(context={"privileged": True}))
    assert world.send("POST", "/api/v1/namespaces/other/pods", other)[0] == 201


def test_psa_4_what_violates_the_level_of_warn_is_warned_of():
    world = Secured()
    world.label(enforce="baseline", warn="restricted", warn_version="v1.10")
    code, _, warnings = world.post(a_pod())
    assert code == 201
    [text] = [one for one in warnings if "PodSecurity" in one]
    assert text.startswith('would violate PodSecurity "restricted:v1.10": allowPrivilegeEscalation')
    code, _, warnings = world.post(a_pod("q", a_container(context={"privileged": True})))
    assert code == 403 and not warnings, "rejected, and so not warned of"


def test_psa_4_only_significant_updates_are_checked():
    world = Secured()
    assert world.post(a_pod())[0] == 201
    world.label(enforce="restricted")
    path = "/api/v1/namespaces/default/pods/p"
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert world.send("PATCH", path, labels, **MERGE)[0] == 200
    image = {"spec": {"containers": [{"name": "c", "image": "i:2"}]}}
    strategic = {"content-type": "application/strategic-merge-patch+json"}
    assert world.send("PATCH", path, image, **strategic)[0] == 403
    debugger = {"spec": {"ephemeralContainers": [{"name": "d", "image": "i:1"}]}}
    assert world.send("PATCH", f"{path}/ephemeralcontainers", debugger, **strategic)[0] == 403
    noted = {
        "metadata": {"annotations": {"seccomp.security.alpha.kubernetes.io/pod": "unconfined"}}
    }
    assert world.send("PATCH", path, noted, **MERGE)[0] == 403


def a_workload(kind: str, template: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    labelled = {"metadata": {"labels": {"app": "x"}}, "spec": template}
    match = {"matchLabels": {"app": "x"}}
    workload = {"selector": match, "template": labelled}
    never = {"metadata": {}, "spec": {**template, "restartPolicy": "Never"}}
    found = {
        "Deployment": ("apps/v1", workload),
        "ReplicaSet": ("apps/v1", workload),
        "DaemonSet": ("apps/v1", workload),
        "StatefulSet": ("apps/v1", {**workload, "serviceName": "s"}),
        "Job": ("batch/v1", {"template": never}),
        "CronJob": ("batch/v1", {"schedule": "* * * * *", "jobTemplate": {"spec": {"template": never}}}),
        "ReplicationController": ("v1", {"selector": {"app": "x"}, "template": labelled}),
    }  # fmt: skip
    version, spec = found[kind]
    body = {"apiVersion": version, "kind": kind, "metadata": {"name": "w"}, "spec": spec}
    base = "/api/v1" if version == "v1" else f"/apis/{version}"
    return f"{base}/namespaces/default/{kind.lower()}s", body


@pytest.mark.parametrize(
    "kind",
    [
        "Deployment",
        "ReplicaSet",
        "DaemonSet",
        "StatefulSet",
        "Job",
        "CronJob",
        "ReplicationController",
    ],
)
def test_psa_5_templates_are_warned_of_and_never_rejected(kind):
    world = Secured()
    world.label(enforce="restricted", warn="baseline")
    template = {"hostNetwork": True, "containers": [a_container()]}
    path, body = a_workload(kind, template)
    code, answer, warnings = world.send("POST", path, body)
    assert code == 201, answer
    words = 'would violate PodSecurity "baseline:latest": host namespaces (hostNetwork=true)'
    assert words in warnings
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert words in world.send("PATCH", f"{path}/w", labels, **MERGE)[2]


def test_psa_5_a_template_is_not_looked_at_where_nothing_is_warned_of():
    world = Secured()
    world.label(enforce="restricted", warn="privileged")
    template = {"hostNetwork": True, "containers": [a_container()]}
    path, body = a_workload("Deployment", template)
    assert not [one for one in world.send("POST", path, body)[2] if "PodSecurity" in one]
    body = {"apiVersion": "v1", "kind": "PodTemplate", "metadata": {"name": "t"}}
    world.label(warn="baseline")
    path = "/api/v1/namespaces/default/podtemplates"
    warnings = world.send("POST", path, {**body, "template": {"spec": template}})[2]
    assert any("PodSecurity" in one for one in warnings)


def test_psa_5_exemptions_and_defaults_of_the_configuration():
    defaults = SecurityPolicy(enforce=LevelVersion("baseline"))
    somebody = User("somebody")
    security = PodSecurityConfig(
        defaults, frozenset(["somebody"]), frozenset(["other"]), frozenset(["kata"])
    )
    world = Secured(config=Config(admission=AdmissionConfig(pod_security=security)))
    runtime = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "h"}
    body = {**runtime, "metadata": {"name": "kata"}}
    assert world.send("POST", "/apis/node.k8s.io/v1/runtimeclasses", body)[0] == 201
    bad = a_pod("p", hostPID=True)
    assert world.post(bad)[0] == 403
    assert world.post(bad, user=somebody)[0] == 201
    assert world.post(a_pod("q", hostPID=True, runtimeClassName="kata"))[0] == 201
    assert world.send("POST", "/api/v1/namespaces/other/pods", bad)[0] == 201


def test_psa_6_a_stricter_level_warns_of_the_pods_that_violate_it():
    world = Secured()
    for name in ("b", "a", "c"):
        assert world.post(a_pod(name, hostPID=True))[0] == 201
    assert world.post(a_pod("d", a_container(context={"privileged": True})))[0] == 201
    assert world.post(a_pod("e"))[0] == 201
    code, _, warnings = world.label(enforce="baseline")
    assert code == 200 and list(warnings) == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level '
        '"baseline:latest"',
        "a (and 2 other pods): host namespaces",
        "d: privileged",
    ]
    assert not world.label(enforce="privileged")[2], "less strict"
    assert not world.label(warn="restricted")[2], "another mode"
    assert len(world.label(enforce="restricted")[2]) == 4
    assert not world.label(enforce="baseline")[2]
    assert world.label(enforce_version="v1.30")[2], "another version"


def test_psa_6_many_pods_are_not_all_checked(monkeypatch):
    monkeypatch.setattr(enforce, "PODS_CHECKED_MAX", 2)
    world = Secured()
    for name in "abc":
        assert world.post(a_pod(name, hostPID=True))[0] == 201
    warnings = world.label(enforce="baseline")[2]
    assert list(warnings) == [
        "new PodSecurity enforce level only checked against the first 2 of 3 existing pods",
        'existing pods in namespace "default" violate the new PodSecurity enforce level '
        '"baseline:latest"',
        "a (and 1 other pod): host namespaces",
    ]


def test_psa_3_the_reasons_alone():
    pod = a_pod("p", a_container(context={"privileged": True}), hostPID=True)
    made = codec.decode_tolerant(resources.PODS.type, pod)[0]
    found = violations(LevelVersion("baseline"), made.metadata, made.spec)
    assert reasons(found) == "host namespaces, privileged" and LEVELS[1] == "baseline"


# --- the configuration, and the audit log


def configuration(**parts: Any) -> dict[str, Any]:
    inner = {"apiVersion": "pod-security.admission.config.k8s.io/v1", "kind": "PodSecurityConfiguration", **parts}  # fmt: skip
    plugins = [{"name": "PodSecurity", "configuration": inner}]
    return {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins}  # fmt: skip


def nothing(name: str) -> Any:
    raise AssertionError(name)


def test_psa_7_a_file_gives_defaults_and_exemptions():
    defaults = {"enforce": "baseline", "enforce-version": "v1.30", "warn": "restricted"}
    exemptions = {"usernames": ["root"], "namespaces": ["free"], "runtimeClasses": ["kata"]}
    tree = configuration(defaults=defaults, exemptions=exemptions)
    found = read_admission(tree, nothing).pod_security
    assert found.defaults.enforce == LevelVersion("baseline", "v1.30")
    assert found.defaults.audit == LevelVersion()
    assert found.defaults.warn == LevelVersion("restricted")
    names = found.users, found.namespaces, found.runtime_classes
    assert names == ({"root"}, {"free"}, {"kata"})
    [plugin] = tree["plugins"]
    by_path = {**tree, "plugins": [{"name": "PodSecurity", "path": "other.yaml"}]}
    read = read_admission(by_path, {"other.yaml": plugin["configuration"]}.__getitem__)
    assert read.pod_security == found
    assert read_admission({**tree, "plugins": []}, nothing).pod_security == PodSecurityConfig()


@pytest.mark.parametrize(
    ("tree", "words"),
    [
        ({}, "apiVersion"),
        ([], "Expected `object`"),
        (configuration(defaults={"enforce": "strict"}), "defaults.enforce: must be one of privileged"),
        (configuration(defaults={"warn-version": "v2"}), "defaults.warn-version"),
        (configuration(defaults={"forbid": "baseline"}), "forbid"),
        (configuration(exemptions={"namespaces": ["A"]}), "exemptions.namespaces[0]"),
        (configuration(exemptions={"usernames": ["a", "a"]}), "exemptions.usernames[1]: Duplicate"),
        (configuration(exemptions={"usernames": [""]}), "exemptions.usernames[0]"),
        (configuration(exemptions={"usernames": ["a"] * 2000}), "at most 1000"),
        ({**configuration(), "kind": "Odd"}, "must be of kind AdmissionConfiguration"),
        ({**configuration(), "plugins": [{"name": "PodSecurity"}]}, "either a path or a configuration"),
        ({**configuration(), "plugins": configuration()["plugins"] * 2}, "Duplicate"),
        ({**configuration(), "plugins": [{"name": "PodSecurity", "configuration": {"apiVersion": "v1", "kind": "X"}}]}, "PodSecurityConfiguration"),
    ],
)  # fmt: skip
def test_psa_7_what_cannot_be_enforced_is_refused(tree, words):
    with pytest.raises(BadConfiguration) as refused:
        read_admission(tree, nothing)
    assert words in str(refused.value)


def annotations(world: Secured, pod: dict[str, Any], user: User = ADMIN) -> dict[str, str]:
    made = codec.decode_tolerant(resources.PODS.type, pod)[0]
    taken = world.do(Request("create", resources.PODS, "default", body=made, user=user))
    found = dict(taken.response.annotations)
    return {key.removeprefix(PREFIX): text for key, text in found.items()}


def test_psa_8_the_audit_event_has_the_policy_the_violations_and_the_exemption():
    """Shows PSA-8, D-204."""
    world = Secured()
    privileged = a_pod("a", a_container(context={"privileged": True}))
    assert annotations(world, privileged) == {}
    world.label(audit="restricted")
    found = annotations(world, {**privileged, "metadata": {"name": "b"}})
    said = f'would violate PodSecurity "restricted:latest": {violated(privileged)}'
    assert found == {"enforce-policy": "privileged:latest", "audit-violations": said}
    world.label(enforce="baseline")
    refused = annotations(world, {**privileged, "metadata": {"name": "c"}})
    assert refused == {"enforce-policy": "baseline:latest", "audit-violations": said}
    assert world.get(resources.PODS, "c") is None
    good = a_pod("d", a_container(context=SECURE))
    assert annotations(world, good) == {"enforce-policy": "baseline:latest"}
    for exempt, config in (
        ("namespace", PodSecurityConfig(namespaces=frozenset(["default"]))),
        ("user", PodSecurityConfig(users=frozenset([ADMIN.name]))),
    ):
        world.config = Config(admission=AdmissionConfig(pod_security=config))
        assert annotations(world, {**privileged, "metadata": {"name": exempt}}) == {
            "exempt": exempt
        }
