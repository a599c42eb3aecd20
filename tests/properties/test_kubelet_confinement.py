"""The confinement of a container from its spec alone, in full, beside a plain reading of KUBELET-91 to
KUBELET-93 (spec/kubelet.md).

`test_kubelet_security.py` shows the same rules in a running kubelet."""

from __future__ import annotations

from itertools import product

import pytest
from kubelet_bench import make_pod
from msgspec.structs import replace

from refk8s.core.api.core_v1 import (
    AppArmorProfile,
    Container,
    EphemeralContainer,
    PodOS,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
    Sysctl,
    WindowsSecurityContextOptions,
)
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.kubelet.security import (
    Confinement,
    check_enforceable,
    compute_app_armor,
    compute_confinement,
    compute_groups,
    compute_se_linux,
    compute_seccomp,
    compute_user,
    is_escalation_denied,
    is_proc_unmasked,
    sysctl_name,
    why_forbidden,
)
from refk8s.core.ports import NodeDescribed

ALL = ("apparmor", "seccomp", "selinux")


def a_pod(own=None, shared=None, **spec):
    """A pod of one container, with its security context and the pod's."""
    one = Container(name="c", security_context=own)
    pod = make_pod("p", (one,), security_context=shared, **spec)
    return replace(pod, metadata=replace(pod.metadata, uid="u")), one


def node(*modules):
    return NodeDescribed(
        "n", "10.0.0.1", 1, 1, 1, 1, "amd64", "linux", "", "", "", security_modules=modules
    )


def refused(call, *args):
    with pytest.raises(BadConfig) as error:
        call(*args)
    return str(error.value)


# --- user and groups ------------------------------------------------------------------------------

USERS, STRICT = [None, 0, 7], [None, False, True]


def test_kubelet_91_the_user_is_the_containers_the_pods_the_images_or_root():
    where = '(pod: "p_default(u)", container: c)'
    for own, shared, group, of_pod, strict, generally, image in product(
        USERS,
        USERS,
        [None, 0, 5],
        [None, 6],
        STRICT,
        STRICT,
        ["", "0", "3", "3:4", "app", "-1", "³"],
    ):
        pod, one = a_pod(
            SecurityContext(run_as_user=own, run_as_group=group, run_as_non_root=strict),
            PodSecurityContext(run_as_user=shared, run_as_group=of_pod, run_as_non_root=generally),
        )
        user = shared if own is None else own
        group = of_pod if group is None else group
        name = image.partition(":")[0]
        if generally if strict is None else strict:
            words = ""
            if user == 0:
                words = f"container's runAsUser breaks non-root policy {where}"
            elif user is None and name in ("app", "-1", "³"):
                words = f"container has runAsNonRoot and image has non-numeric user ({name}), cannot verify user is non-root {where}"
            elif user is None and name in ("", "0"):
                words = f"container has runAsNonRoot and image will run as root {where}"
            if words:
                assert refused(compute_user, pod, one, image) == words
                continue
        expected = "" if user is None else str(user)
        if group is not None:
            expected = f"{expected or name or '0'}:{group}"
        assert compute_user(pod, one, image) == expected


@pytest.mark.parametrize(
    ("more", "of_files", "expected"),
    [
        (None, None, ()),
        ((), 0, (0,)),
        ((3, 4), None, (3, 4)),
        ((3, 4, 3), 4, (3, 4)),
        ((1,), 2, (1, 2)),
    ],
)
def test_kubelet_91_every_container_has_the_further_groups_once(more, of_files, expected):
    context = PodSecurityContext(supplemental_groups=more, fs_group=of_files)
    assert compute_groups(a_pod(shared=context)[0]) == expected
    assert compute_groups(a_pod()[0]) == ()


# --- profiles -------------------------------------------------------------------------------------

FIELDS = {
    "run_as_user": (1, 2),
    "run_as_group": (3, 4),
    "run_as_non_root": (False, True),
    "seccomp_profile": (SeccompProfile(type="a"), SeccompProfile(type="b")),
    "app_armor_profile": (AppArmorProfile(type="a"), AppArmorProfile(type="b")),
    "se_linux_options": (SELinuxOptions(user="a"), SELinuxOptions(user="b")),
    "windows_options": (
        WindowsSecurityContextOptions(),
        WindowsSecurityContextOptions(host_process=True),
    ),
}


@pytest.mark.parametrize("name", sorted(FIELDS))
def test_kubelet_91_each_field_of_the_container_comes_before_that_of_the_pod(name):
    own, shared = FIELDS[name]
    for mine, its in product([None, own], [None, shared]):
        contexts = (PodSecurityContext(**{name: its}), SecurityContext(**{name: mine}))
        expected = Confinement(**{name: its if mine is None else mine})
        assert compute_confinement(*contexts) == expected
    assert compute_confinement(None, SecurityContext(**{name: own})) == Confinement(**{name: own})
    assert compute_confinement(PodSecurityContext(**{name: shared}), None) == Confinement(
        **{name: shared}
    )
    assert compute_confinement(None, None) == Confinement()


@pytest.mark.parametrize(
    ("compute", "field", "make", "module"),
    [
        (compute_seccomp, "seccomp_profile", SeccompProfile, "seccomp"),
        (compute_app_armor, "app_armor_profile", AppArmorProfile, "apparmor"),
    ],
)
def test_kubelet_92_a_profile_is_passed_on_or_the_container_is_not_created(
    compute, field, make, module
):
    there, other = node(module), node(*[one for one in ALL if one != module])
    for kind, path, expected in (
        ("RuntimeDefault", None, "RuntimeDefault"),
        ("Unconfined", None, "Unconfined"),
        ("Localhost", "a/b.json", "Localhost/a/b.json"),
        ("Localhost", None, "Localhost/"),
    ):
        asked = Confinement(**{field: make(type=kind, localhost_profile=path)})
        assert compute(asked, there) == expected
        if kind == "Unconfined":
            assert compute(asked, other) == expected
        else:
            words = f"a {module} profile is asked for, and this node's runtime has no {module}"
            assert refused(compute, asked, other) == words
    assert compute(Confinement(), other) == ""


def test_kubelet_92_a_label_of_selinux():
    whole = SELinuxOptions(user="u", role="r", type="t", level="l")
    asked = Confinement(se_linux_options=whole)
    found = (("user", "u"), ("role", "r"), ("type", "t"), ("level", "l"))
    assert compute_se_linux(asked, node("selinux")) == found
    assert compute_se_linux(asked, node("seccomp", "apparmor")) == ()
    some = Confinement(se_linux_options=SELinuxOptions(type="t", role=""))
    assert compute_se_linux(some, node("selinux")) == (("type", "t"),)
    assert compute_se_linux(Confinement(), node("selinux")) == ()


def test_kubelet_92_what_is_never_supported_keeps_the_container_from_being_created():
    windows = WindowsSecurityContextOptions()
    words = "windowsOptions cannot be applied on a Linux node"
    assert refused(check_enforceable, *a_pod(SecurityContext(windows_options=windows))) == words
    shared = PodSecurityContext(windows_options=windows)
    assert refused(check_enforceable, *a_pod(None, shared)) == words
    words = "hostUsers is false, and this node's runtime has no user namespaces"
    assert refused(check_enforceable, *a_pod(host_users=False)) == words
    for users in (None, True):
        assert check_enforceable(*a_pod(host_users=users)) is None


@pytest.mark.parametrize(
    ("context", "denied", "unmasked"),
    [
        (None, False, False),
        (SecurityContext(), False, False),
        (SecurityContext(allow_privilege_escalation=False), True, False),
        (SecurityContext(allow_privilege_escalation=True), False, False),
        (SecurityContext(proc_mount="Unmasked"), False, True),
        (SecurityContext(proc_mount="Default"), False, False),
    ],
)
def test_kubelet_92_privileges_and_proc(context, denied, unmasked):
    one = Container(name="c", security_context=context)
    assert (is_escalation_denied(one), is_proc_unmasked(one)) == (denied, unmasked)


# --- pods that are rejected -----------------------------------------------------------------------


def forbidden(modules=(), **spec):
    return why_forbidden(a_pod(**spec)[0], modules)


def sysctls(*names):
    return PodSecurityContext(sysctls=tuple(Sysctl(name=name, value="1") for name in names))


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a.b", "a.b"),
        ("a", "a"),
        ("a/b", "a.b"),
        ("a/b.c/d", "a.b/c.d"),
        ("a.b/c", "a.b/c"),
        (".a/b", ".a/b"),
        ("a.b/c.d", "a.b/c.d"),
        ("net/ipv4/conf/eth0.1/x", "net.ipv4.conf.eth0/1.x"),
    ],
)
def test_kubelet_93_the_name_of_a_sysctl(name, shown):
    assert sysctl_name(name) == shown


def test_kubelet_93_only_safe_sysctls_of_the_pods_own_namespaces():
    net, ipc = "net.ipv4.tcp_syncookies", "kernel.shm_rmid_forced"
    assert forbidden(shared=sysctls(net, ipc, "net/ipv4/tcp_rmem")) is None
    assert forbidden(shared=PodSecurityContext()) is None
    assert forbidden(shared=sysctls(net, "kernel/msgmax")) == (
        "SysctlForbidden",
        'forbidden sysctl: "kernel.msgmax" not allowlisted',
    )
    for name, host, namespace in ((net, "host_network", "net"), (ipc, "host_ipc", "ipc")):
        words = f'forbidden sysctl: "{name}" not allowed with host {namespace} enabled'
        found = {}
        for other in ("host_network", "host_ipc"):
            found[other] = forbidden(shared=sysctls(name), **{other: True})
        assert found.pop(host) == ("SysctlForbidden", words)
        assert list(found.values()) == [None]


def test_kubelet_92_what_no_node_here_supports():
    assert forbidden(os=PodOS(name="linux")) is None
    words = "Failed to admit pod as the OS field doesn't match node OS"
    assert forbidden(os=PodOS(name="windows")) == ("PodOSNotSupported", words)
    for policy, is_refused in (("Strict", True), ("Merge", False), (None, False)):
        found = forbidden(shared=PodSecurityContext(supplemental_groups_policy=policy))
        words = "SupplementalGroupsPolicy=Strict is not supported in this node"
        assert found == (("SupplementalGroupsPolicyNotSupported", words) if is_refused else None)


@pytest.mark.parametrize("place", ["pod", "container", "init"])
@pytest.mark.parametrize("kind", ["RuntimeDefault", "Localhost", "Unconfined"])
def test_kubelet_92_a_pod_with_a_profile_of_app_armor_needs_a_node_with_it(place, kind):
    profile = AppArmorProfile(type=kind)
    own = SecurityContext(app_armor_profile=profile)
    spec = {
        "pod": {"shared": PodSecurityContext(app_armor_profile=profile)},
        "container": {"own": own},
        "init": {
            "init_containers": (
                Container(name="i"),
                Container(name="j", security_context=own),
            )
        },
    }[place]
    refusal = ("AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host")
    assert forbidden(**spec) == (None if kind == "Unconfined" else refusal)
    assert forbidden(("selinux", "seccomp"), **spec) == (None if kind == "Unconfined" else refusal)
    assert forbidden(("apparmor",), **spec) is None
    debugger = EphemeralContainer(name="e", security_context=own)
    assert forbidden(ephemeral_containers=(debugger,)) is None, "it is added to a running pod"
