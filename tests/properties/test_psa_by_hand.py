"""The sentences of each check for pods with several containers, and the requests that are checked,
beside a plain reading of PSA-2 to PSA-6 (spec/pod_security.md)."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from test_psa import MERGE, SECURE, Secured, a_container, a_pod, violated

from refk8s.core.api import codec, resources
from refk8s.core.api.user import ADMIN, User
from refk8s.core.apiserver.admission.outcome import (
    AdmissionConfig,
    LevelVersion,
    PodSecurityConfig,
    SecurityPolicy,
)
from refk8s.core.apiserver.admission.pod_security import baseline, enforce, restricted
from refk8s.core.apiserver.admission.pod_security.policy import (
    LATEST,
    LEVELS,
    MODES,
    PREFIX,
    is_version,
    labels_of,
    minor_of,
    policy_of,
    problems_of,
)
from refk8s.core.apiserver.config import Config

STRATEGIC = {"content-type": "application/strategic-merge-patch+json"}

# (check, a bad context, good contexts, whether the context of a pod counts, reason, words)
OF_CONTEXT = [
    (
        baseline.privileged, {"privileged": True}, ({}, {"privileged": False}), False,
        "privileged", "must not set securityContext.privileged=true",
    ),
    (
        baseline.capabilities, {"capabilities": {"add": ["SYS_ADMIN", "KILL"]}},
        ({"capabilities": {"add": ["KILL", "CHOWN"]}}, {"capabilities": {"drop": ["ALL"]}}), False,
        "non-default capabilities", 'must not include "SYS_ADMIN" in securityContext.capabilities.add',
    ),
    (
        baseline.proc_mount, {"procMount": "Unmasked"}, ({"procMount": "Default"}, {}), False,
        "procMount", 'must not set securityContext.procMount to "Unmasked"',
    ),
    (
        baseline.seccomp, {"seccompProfile": {"type": "Unconfined"}},
        ({"seccompProfile": {"type": "Localhost"}}, {"seccompProfile": {"type": "RuntimeDefault"}}), True,
        "seccompProfile", 'must not set securityContext.seccompProfile.type to "Unconfined"',
    ),
    (
        baseline.app_armor, {"appArmorProfile": {"type": "Unconfined"}},
        ({"appArmorProfile": {"type": "Localhost"}}, {"appArmorProfile": {"type": "RuntimeDefault"}}), True,
        "forbidden AppArmor profile", 'must not set AppArmor profile type to "Unconfined"',
    ),
    (
        baseline.host_process, {"windowsOptions": {"hostProcess": True}},
        ({"windowsOptions": {"hostProcess": False}}, {"windowsOptions": {}}), True,
        "hostProcess", "must not set securityContext.windowsOptions.hostProcess=true",
    ),
    (
        baseline.se_linux, {"seLinuxOptions": {"type": "x"}},
        ({"seLinuxOptions": {"type": "container_t"}}, {"seLinuxOptions": {}}), True,
        "seLinuxOptions", 'set forbidden securityContext.seLinuxOptions: type "x"',
    ),
    (
        baseline.se_linux, {"seLinuxOptions": {"type": "container_engine_t", "role": "r"}},
        ({"seLinuxOptions": {"type": "container_init_t"}}, {"seLinuxOptions": {"type": "container_kvm_t"}}), True,
        "seLinuxOptions",
        'set forbidden securityContext.seLinuxOptions: type "container_engine_t"; '
        'role may not be set',
    ),
    (
        baseline.se_linux_31, {"seLinuxOptions": {"user": "u"}}, ({"seLinuxOptions": {"type": "container_engine_t"}},), True,
        "seLinuxOptions", "set forbidden securityContext.seLinuxOptions: user may not be set",
    ),
    (
        restricted.privilege_escalation, {"allowPrivilegeEscalation": True}, ({"allowPrivilegeEscalation": False},), False,
        "allowPrivilegeEscalation != false", "must set securityContext.allowPrivilegeEscalation=false",
    ),
    (
        restricted.privilege_escalation, {}, ({"allowPrivilegeEscalation": False},), False,
        "allowPrivilegeEscalation != false", "must set securityContext.allowPrivilegeEscalation=false",
    ),
    (
        restricted.capabilities, {"capabilities": {"drop": ["KILL"]}},
        ({"capabilities": {"drop": ["KILL", "ALL"], "add": ["NET_BIND_SERVICE"]}},), False,
        "unrestricted capabilities", 'must set securityContext.capabilities.drop=["ALL"]',
    ),
    (
        restricted.capabilities, {}, ({"capabilities": {"drop": ["ALL"]}},), False,
        "unrestricted capabilities", 'must set securityContext.capabilities.drop=["ALL"]',
    ),
    (
        restricted.run_as_user, {"runAsUser": 0}, ({"runAsUser": 1}, {}), True,
        "runAsUser=0", "must not set runAsUser=0",
    ),
    (
        restricted.run_as_non_root, {"runAsNonRoot": False}, ({"runAsNonRoot": True},), True,
        "runAsNonRoot != true", "must not set securityContext.runAsNonRoot=false",
    ),
    (
        restricted.seccomp, {"seccompProfile": {"type": "Unconfined"}}, ({"seccompProfile": {"type": "RuntimeDefault"}},), True,
        "seccompProfile", 'must not set securityContext.seccompProfile.type to "Unconfined"',
    ),
]  # fmt: skip

PLACES = ("initContainers", "containers", "ephemeralContainers")
drawn_containers = st.lists(
    st.tuples(st.sampled_from(PLACES), st.booleans(), st.integers(0, 1)), min_size=1, max_size=4
)


def checked(check: Any, pod: dict[str, Any]) -> Any:
    made = codec.decode_tolerant(resources.PODS.type, pod)[0]
    return check(made.metadata, made.spec)


def named(names: list[str]) -> str:
    word = "container" if len(names) == 1 else "containers"
    return f"{word} {', '.join(chr(34) + name + chr(34) for name in names)}"


@pytest.mark.parametrize(("check", "bad", "good", "of_pod", "reason", "words"), OF_CONTEXT)
@settings(max_examples=settings.default.max_examples // 4)
@given(drawn_containers, st.sampled_from([None, "good", "bad"]))
def test_psa_3_each_container_and_the_pod_are_named(
    check, bad, good, of_pod, reason, words, drawn, pod_is
):
    spec: dict[str, Any] = {place: [] for place in PLACES}
    wrong: dict[str, list[str]] = {place: [] for place in PLACES}
    for number, (place, is_bad, which) in enumerate(drawn):
        name = f"c{number}"
        context = bad if is_bad else good[which % len(good)]
        # a container without a security context is as one with an empty one
        spec[place].append(a_container(name, context or (None if which else {})))
        wrong[place] += [name] if is_bad else []
    pod = a_pod()
    pod["spec"] = {place: found for place, found in spec.items() if found or place == "containers"}
    if of_pod and pod_is is not None:
        pod["spec"]["securityContext"] = bad if pod_is == "bad" else good[0]
    names = [name for place in PLACES for name in wrong[place]]
    setters = ["pod"] * (of_pod and pod_is == "bad") + ([named(names)] if names else [])
    expected = (reason, f"{' and '.join(setters)} {words}") if setters else None
    assert checked(check, pod) == expected


@pytest.mark.parametrize(
    ("check", "good", "reason", "words"),
    [
        (
            restricted.run_as_non_root, {"runAsNonRoot": True}, "runAsNonRoot != true",
            "must set securityContext.runAsNonRoot=true",
        ),
        (
            restricted.seccomp, {"seccompProfile": {"type": "Localhost"}}, "seccompProfile",
            'must set securityContext.seccompProfile.type to "RuntimeDefault" or "Localhost"',
        ),
    ],
)  # fmt: skip
@given(
    st.lists(st.sampled_from(["good", "empty", "none"]), min_size=1, max_size=4),
    st.sampled_from(["good", "empty", "none"]),
)
def test_psa_3_what_the_pod_sets_holds_for_its_containers(
    check, good, reason, words, drawn, pod_is
):
    given_ = {"good": good, "empty": {}, "none": None}
    found = [a_container(f"c{n}", given_[kind]) for n, kind in enumerate(drawn)]
    pod = a_pod("p", *found)
    if pod_is != "none":
        pod["spec"]["securityContext"] = given_[pod_is]
    missing = [f"c{n}" for n, kind in enumerate(drawn) if kind != "good"]
    expected = None
    if missing and pod_is != "good":
        expected = (reason, f"pod or {named(missing)} {words}")
    assert checked(check, pod) == expected


def test_psa_3_values_of_several_containers_are_shown_once_and_sorted():
    def with_contexts(*found: Any, **spec: Any) -> dict[str, Any]:
        return a_pod("p", *[a_container(f"c{n}", one) for n, one in enumerate(found)], **spec)

    both = 'containers "c0", "c1"'
    caps = with_contexts({"capabilities": {"add": ["B", "A"]}}, {"capabilities": {"add": ["A"]}})
    assert checked(baseline.capabilities, caps) == (
        "non-default capabilities",
        f'{both} must not include "A", "B" in securityContext.capabilities.add',
    )
    pod = with_contexts(
        {"appArmorProfile": {"type": "Y"}, "seccompProfile": {"type": "Y"}},
        {"appArmorProfile": {"type": "X"}, "seccompProfile": {"type": "X"}},
        securityContext={"appArmorProfile": {"type": "Z"}, "seccompProfile": {"type": "Z"}},
    )
    assert checked(baseline.app_armor, pod) == (
        "forbidden AppArmor profiles",
        f'pod and {both} must not set AppArmor profile type to "X", "Y", "Z"',
    )
    assert checked(baseline.seccomp, pod) == (
        "seccompProfile",
        f'pod and {both} must not set securityContext.seccompProfile.type to "X", "Y", "Z"',
    )
    dropped = with_contexts(
        {"capabilities": {"add": ["A"]}}, {"capabilities": {"drop": ["ALL"], "add": ["B"]}}
    )
    assert checked(restricted.capabilities, dropped) == (
        "unrestricted capabilities",
        'container "c0" must set securityContext.capabilities.drop=["ALL"]; '
        f'{both} must not include "A", "B" in securityContext.capabilities.add',
    )
    mounts = with_contexts({"procMount": "b"}, {"procMount": "a"}, {"procMount": "b"})
    assert checked(baseline.proc_mount, mounts) == (
        "procMount",
        'containers "c0", "c1", "c2" must not set securityContext.procMount to "a", "b"',
    )
    types = with_contexts(
        {"seLinuxOptions": {"type": "b"}}, {"seLinuxOptions": {"type": "a", "user": "u"}}
    )
    assert checked(baseline.se_linux, types) == (
        "seLinuxOptions",
        f'{both} set forbidden securityContext.seLinuxOptions: types "a", "b"; user may not be set',
    )


def test_psa_3_host_paths_ports_namespaces_and_volumes():
    paths = [{"name": name, "hostPath": {"path": "/"}} for name in ("b", "a")]
    assert checked(baseline.host_path, a_pod(volumes=[*paths, {"name": "c", "emptyDir": {}}])) == (
        "hostPath volumes",
        'volumes "b", "a"',
    )
    assert checked(baseline.host_path, a_pod()) is None
    for field in ("hostNetwork", "hostPID", "hostIPC"):
        assert checked(baseline.host_namespaces, a_pod(**{field: True})) == (
            "host namespaces",
            f"{field}=true",
        )
        assert checked(baseline.host_namespaces, a_pod(**{field: False})) is None
    one = a_container("a", ports=[{"containerPort": 1, "hostPort": 9}, {"containerPort": 2}])
    assert checked(baseline.host_ports, a_pod("p", one, a_container("b"))) == (
        "hostPort",
        'container "a" uses hostPort 9',
    )
    plain = a_container("a", ports=[{"containerPort": 1, "hostPort": 0}])
    assert checked(baseline.host_ports, a_pod("p", plain)) is None
    volumes = [{"name": "a", "nfs": {}}, {"name": "b", "nfs": {}}, {"name": "c", "secret": {}}]
    assert checked(restricted.volume_types, a_pod(volumes=volumes)) == (
        "restricted volume types",
        'volumes "a", "b" use restricted volume type "nfs"',
    )
    allowed = ("configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "projected", "secret")
    fine = [{"name": kind.lower(), kind: {}} for kind in allowed]
    fine.append({"name": "claim", "persistentVolumeClaim": {"claimName": "c"}})
    assert checked(restricted.volume_types, a_pod(volumes=fine)) is None


@pytest.mark.parametrize(
    ("place", "handler"),
    [
        ("livenessProbe", None), ("readinessProbe", None), ("startupProbe", None), ("lifecycle", "postStart"), ("lifecycle", "preStop"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("action", ["httpGet", "tcpSocket"])
def test_psa_3_a_host_of_any_probe_or_handler(place, handler, action):
    def with_host(name: str, host: str | None) -> dict[str, Any]:
        found = {action: {"port": 80, **({"host": host} if host is not None else {})}}
        return a_container(name, **{place: {handler: found} if handler else found})

    pod = a_pod(
        "p", with_host("b", "y"), with_host("a", "x"), with_host("c", None), a_container("d")
    )
    assert checked(baseline.probe_hosts, pod) == (
        "probe or lifecycle host",
        'containers "a", "b" use probe or lifecycle hosts "x", "y"',
    )
    assert checked(baseline.probe_hosts, a_pod("p", with_host("a", "x"))) == (
        "probe or lifecycle host",
        'container "a" uses probe or lifecycle host "x"',
    )
    assert checked(baseline.probe_hosts, a_pod("p", with_host("a", ""), a_container("b"))) is None


ARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_OF = "container.seccomp.security.alpha.kubernetes.io/"


def annotated(**found: str) -> dict[str, Any]:
    pod = a_pod("p", a_container("c"), a_container("d"))
    pod["metadata"]["annotations"] = found
    return pod


def test_psa_3_annotations_in_full():
    for fine in ("", "runtime/default", "localhost/x"):
        assert checked(baseline.app_armor, annotated(**{ARMOR + "c": fine})) is None
    found = checked(
        baseline.app_armor, annotated(**{ARMOR + "d": "y", ARMOR + "c": "x", "other": "z"})
    )
    assert found == (
        "forbidden AppArmor profiles",
        f'annotations must not set AppArmor profile type to "{ARMOR}c="x"", "{ARMOR}d="y""',
    )
    pod = annotated(**{ARMOR + "c": "x"})
    pod["spec"]["securityContext"] = {"appArmorProfile": {"type": "Unconfined"}}
    assert checked(baseline.app_armor, pod) == (
        "forbidden AppArmor profiles",
        f'pod and annotation must not set AppArmor profile type to "Unconfined", "{ARMOR}c="x""',
    )
    for fine in ("runtime/default", "docker/default", "localhost/x"):
        assert (
            checked(
                baseline.seccomp_annotations, annotated(**{SECCOMP: fine, SECCOMP_OF + "c": fine})
            )
            is None
        )
    both = {SECCOMP: "unconfined", SECCOMP_OF + "d": "y", SECCOMP_OF + "other": "z"}
    assert checked(baseline.seccomp_annotations, annotated(**both)) == (
        "seccompProfile",
        f'forbidden annotations {SECCOMP_OF}d="y", {SECCOMP}="unconfined"',
    )
    assert checked(baseline.seccomp_annotations, annotated(**{SECCOMP: "x"})) == (
        "seccompProfile",
        f'forbidden annotation {SECCOMP}="x"',
    )


def test_psa_3_sysctls_of_the_pod():
    for check in (baseline.sysctls, baseline.sysctls_32):
        assert checked(check, a_pod()) is None
        assert checked(check, a_pod(securityContext={})) is None
        found = a_pod(securityContext={"sysctls": [{"name": n, "value": "1"} for n in ("b", "a")]})
        assert checked(check, found) == ("forbidden sysctls", "b, a")


# --- policies -------------------------------------------------------------------------------------


def test_psa_2_what_is_a_version():
    assert [minor_of(text) for text in ("v1.0", "v1.37", LATEST, "v1.01", "x")] == [
        0,
        37,
        None,
        None,
        None,
    ]
    assert is_version(LATEST) and is_version("v1.10") and not is_version("Latest")


def test_psa_2_the_problems_are_those_of_the_modes_in_order():
    for mode in MODES:
        key = PREFIX + mode
        labels = ((key, "x"), (f"{key}-version", "y"))
        first, second = problems_of(labels)
        assert (first.field, first.value) == (f"metadata.labels[{key}]", "x")
        assert (
            first.message == 'Invalid value: "x": must be one of privileged, baseline, restricted'
        )
        assert (second.field, second.value) == (f"metadata.labels[{key}-version]", "y")
        assert second.message == 'Invalid value: "y": must be "latest" or "v1.x"'
        for level in ("privileged", "baseline", "restricted"):
            assert problems_of(((key, level),)) == []
    several = tuple((PREFIX + mode, "x") for mode in reversed(MODES))
    assert [one.field for one in problems_of(several)] == [
        f"metadata.labels[{PREFIX}{mode}]" for mode in MODES
    ]
    assert labels_of(None) == labels_of({}) == labels_of({"other": "x"}) == ()
    assert labels_of({PREFIX + "warn": "b", "x": "y", PREFIX + "audit": "a"}) == (
        (PREFIX + "audit", "a"),
        (PREFIX + "warn", "b"),
    )


def test_psa_1_each_mode_has_its_label_its_version_and_its_default():
    defaults = SecurityPolicy(*[LevelVersion("baseline", f"v1.{n}") for n in (1, 2, 3)])
    for mode in MODES:
        key = PREFIX + mode
        policy = policy_of(((key, "restricted"),), defaults)
        assert getattr(policy, mode) == LevelVersion("restricted", getattr(defaults, mode).version)
        policy = policy_of(((f"{key}-version", "v1.9"),), defaults)
        assert getattr(policy, mode) == LevelVersion("baseline", "v1.9")
        for other in set(MODES) - {mode}:
            if (mode, other) != ("enforce", "warn"):
                assert getattr(policy, other) == getattr(defaults, other)


level_versions = st.builds(LevelVersion, st.sampled_from(LEVELS), st.sampled_from([LATEST, "v1.3"]))
drawn_levels = st.none() | st.sampled_from([*LEVELS, "odd"])
drawn_versions = st.none() | st.sampled_from(["v1.5", LATEST, "odd"])


@given(
    st.tuples(level_versions, level_versions, level_versions),
    st.tuples(*[st.tuples(drawn_levels, drawn_versions)] * 3),
)
def test_psa_1_what_a_namespace_enforces_is_also_warned_of(defaults, drawn):
    labels: dict[str, str] = {}
    expected = []
    for mode, default, (level, version) in zip(MODES, defaults, drawn, strict=True):
        labels |= {PREFIX + mode: level} if level is not None else {}
        labels |= {f"{PREFIX}{mode}-version": version} if version is not None else {}
        otherwise = "restricted" if mode == "enforce" else "privileged"
        valid = {None: default.level, "odd": otherwise}.get(level, level)
        number = {None: default.version, "odd": LATEST}.get(version, version)
        expected.append(LevelVersion(valid, number))
    enforced, _, warned = expected
    (is_enforced, _), _, (own_level, own_version) = drawn
    rank = LEVELS.index
    if is_enforced and own_level is None and rank(enforced.level) > rank(warned.level):
        version = enforced.version if own_version is None else warned.version
        expected[2] = LevelVersion(enforced.level, version)
    assert policy_of(labels_of(labels), SecurityPolicy(*defaults)) == SecurityPolicy(*expected)


# --- requests -------------------------------------------------------------------------------------


def updated(world: Secured, patch: Any, subresource: str = "", **headers: str) -> Any:
    path = "/api/v1/namespaces/default/pods/p"
    return world.send("PATCH", path + subresource, patch, **(headers or STRATEGIC))


@pytest.mark.parametrize(
    ("patch", "subresource", "is_checked"),
    [
        ({"metadata": {"labels": {"a": "b"}}}, "", False),
        ({"metadata": {"annotations": {"a": "b"}}}, "", False),
        ({"metadata": {"annotations": {SECCOMP: "unconfined"}}}, "", True),
        ({"metadata": {"annotations": {SECCOMP_OF + "c": "unconfined"}}}, "", True),
        ({"metadata": {"annotations": {SECCOMP_OF + "i": "unconfined"}}}, "", True),
        ({"metadata": {"annotations": {SECCOMP_OF + "z": "unconfined"}}}, "", False),
        ({"spec": {"containers": [{"name": "c", "image": "i:2"}]}}, "", True),
        ({"spec": {"containers": [{"name": "d", "image": "i:2"}]}}, "", True),
        ({"spec": {"initContainers": [{"name": "i", "image": "i:2"}]}}, "", True),
        ({"spec": {"activeDeadlineSeconds": 9}}, "", False),
        ({"spec": {"ephemeralContainers": [{"name": "e", "image": "i:1"}]}}, "/ephemeralcontainers", True),
        ({"status": {"message": "m"}}, "/status", False),
    ],
)  # fmt: skip
def test_psa_4_which_updates_are_checked(patch, subresource, is_checked):
    world = Secured()
    pod = a_pod("p", a_container("c"), a_container("d"), initContainers=[a_container("i")])
    assert world.post(pod)[0] == 201
    world.label(enforce="restricted")
    code, answer, _ = updated(world, patch, subresource)
    assert code == (403 if is_checked else 200), answer
    if is_checked:
        assert answer["message"].startswith(
            'pods "p" is forbidden: violates PodSecurity "restricted:latest": '
        )


def test_psa_4_an_ephemeral_container_that_is_there_is_not_checked_again():
    world = Secured()
    assert world.post(a_pod())[0] == 201
    debugger = {"spec": {"ephemeralContainers": [{"name": "e", "image": "i:1"}]}}
    assert updated(world, debugger, "/ephemeralcontainers")[0] == 200
    world.label(enforce="restricted")
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert updated(world, labels)[0] == 200
    noted = {"metadata": {"annotations": {SECCOMP_OF + "e": "unconfined"}}}
    assert updated(world, noted)[0] == 403


def test_psa_4_subresources_and_other_objects_are_not_checked():
    world = Secured()
    assert world.post(a_pod("p", hostPID=True))[0] == 201
    world.label(enforce="baseline", warn="baseline")
    eviction = {"apiVersion": "policy/v1", "kind": "Eviction", "metadata": {"name": "p"}}
    path = "/api/v1/namespaces/default/pods/p/eviction"
    code, _, warnings = world.send("POST", path, eviction)
    assert code == 201 and not warnings
    config = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "c"}}
    code, _, warnings = world.send("POST", "/api/v1/namespaces/default/configmaps", config)
    assert code == 201 and not warnings
    status = {"status": {"phase": "Active"}}
    assert world.send("PATCH", "/api/v1/namespaces/default/status", status, **MERGE)[0] == 200


def with_config(**parts: Any) -> Secured:
    security = PodSecurityConfig(**parts)
    return Secured(config=Config(admission=AdmissionConfig(pod_security=security)))


def test_psa_5_only_what_is_exempt_is_exempt():
    defaults = SecurityPolicy(enforce=LevelVersion("baseline"), warn=LevelVersion("baseline"))
    bad = a_pod("p", hostPID=True)
    world = with_config(defaults=defaults, runtime_classes=frozenset(["kata"]))
    body = {"apiVersion": "node.k8s.io/v1", "kind": "RuntimeClass", "handler": "h"}
    for name in ("kata", "runc"):
        named_ = {**body, "metadata": {"name": name}}
        assert world.send("POST", "/apis/node.k8s.io/v1/runtimeclasses", named_)[0] == 201
    assert world.post(a_pod("q", hostPID=True, runtimeClassName="runc"))[0] == 403
    code, _, warnings = world.post(a_pod("r", hostPID=True, runtimeClassName="kata"))
    assert code == 201 and not warnings
    assert world.post(bad, user=User("somebody"))[0] == 403
    world = with_config(defaults=defaults, users=frozenset(["x"]), namespaces=frozenset(["y"]))
    assert world.post(bad)[0] == 403
    world = with_config(defaults=SecurityPolicy(warn=LevelVersion("baseline")))
    code, _, warnings = world.post(bad)
    assert code == 201 and list(warnings) == [
        'would violate PodSecurity "baseline:latest": host namespaces (hostPID=true)'
    ]
    assert ADMIN.name != "x"


def test_psa_6_what_is_a_stricter_level():
    def level(name: str, version: str = LATEST) -> LevelVersion:
        return LevelVersion(name, version)

    rows = [
        ("baseline", "privileged", True), ("restricted", "baseline", True), ("restricted", "privileged", True),
        ("baseline", "restricted", False), ("privileged", "restricted", False), ("baseline", "baseline", False),
    ]  # fmt: skip
    for wanted, was, is_stricter in rows:
        assert enforce._is_stricter(level(wanted), level(was)) == is_stricter
        other = enforce._is_stricter(level(wanted, "v1.9"), level(was))
        assert other == (wanted != "privileged")


def test_psa_6_a_namespace_that_is_created_is_not_warned_about():
    world = Secured()
    assert world.post(a_pod("p", hostPID=True))[0] == 201
    assert not world.label(enforce=None)[2]
    labels = {PREFIX + "enforce": "restricted"}
    body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "n", "labels": labels}}
    assert not world.send("POST", "/api/v1/namespaces", body)[2]
    # labels that were invalid before do not reject an update of others
    assert world.label(enforce="baseline")[0] == 200


def test_psa_6_a_label_that_is_removed_may_make_the_level_stricter():
    world = with_config(defaults=SecurityPolicy(enforce=LevelVersion("baseline")))
    assert not world.label(enforce="privileged")[2]
    assert world.post(a_pod("p", hostPID=True))[0] == 201
    code, _, warnings = world.label(enforce=None)
    assert code == 200 and list(warnings) == [
        'existing pods in namespace "default" violate the new PodSecurity enforce level '
        '"baseline:latest"',
        "p: host namespaces",
    ]


def ignored(namespace: str, policy: str) -> list[str]:
    words = f"is exempt from Pod Security, and the policy ({policy}) will be ignored"
    return [f'namespace "{namespace}" {words}']


def test_psa_5_the_labels_of_an_exempt_namespace_have_no_effect():
    defaults = SecurityPolicy(audit=LevelVersion("baseline"))
    world = with_config(defaults=defaults, namespaces=frozenset(["default", "n", "m"]))
    assert world.post(a_pod("p", hostPID=True))[0] == 201
    assert list(world.label(enforce="baseline")[2]) == ignored("default", "enforce=baseline:latest")
    assert not world.label(warn="restricted")[2], "what is enforced is as before"
    assert list(world.label(enforce_version="v1.30", audit_version="v1.20")[2]) == ignored(
        "default", "enforce=baseline:v1.30, audit=baseline:v1.20, warn=restricted:latest"
    )
    assert not world.label(enforce="privileged")[2]

    def created(name: str, **modes: str) -> list[str]:
        labels = {PREFIX + mode: level for mode, level in modes.items()}
        body = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}}
        body["metadata"]["labels"] = labels
        code, _, warnings = world.send("POST", "/api/v1/namespaces", body)
        assert code == 201
        return list(warnings)

    assert created("m", audit="baseline", enforce="privileged") == [], "as the defaults"
    assert created("n", warn="restricted") == ignored("n", "warn=restricted:latest")
    assert created("o", warn="restricted") == []
    world = with_config(defaults=defaults, namespaces=frozenset(["n"]))
    assert created("n", enforce="privileged", audit="privileged") == []


def test_psa_3_a_hardened_pod_is_allowed_by_every_version():
    for minor in range(40):
        assert violated(a_pod("p", a_container(context=SECURE)), "restricted", f"v1.{minor}") == ""
