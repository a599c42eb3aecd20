"""The security context of a container: user, groups, profiles. Rules KUBELET-91 ... KUBELET-93
(spec/kubelet.md).

| field | effect |
|---|---|
| runAsUser, runAsGroup, runAsNonRoot | the user to run as, together with the image's own |
| supplementalGroups, fsGroup | further groups of every container |
| allowPrivilegeEscalation, seccompProfile, appArmorProfile, seLinuxOptions, procMount | passed to the runtime |
| hostUsers: false, windowsOptions, a module that the runtime lacks | the container is not created, and its status has the reason |

A container's own field overrides the pod's. Source: Kubernetes documentation, "Configure a Security
Context for a Pod or Container", "Restrict a Container's Syscalls with seccomp", "Restrict a
Container's Access to Resources with AppArmor".
"""

from typing import Any

from refk8s.core.api.core_v1 import (
    AppArmorProfile,
    Container,
    Pod,
    PodSecurityContext,
    SeccompProfile,
    SecurityContext,
    SELinuxOptions,
    WindowsSecurityContextOptions,
)
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import every_container
from refk8s.core.ports import NodeDescribed
from refk8s.core.value import Value

ROOT = "0"
LOCALHOST = "Localhost"


class Confinement(Value, frozen=True):
    """What the security contexts of a pod and of its container request together; None: nothing."""

    run_as_user: int | None = None
    run_as_group: int | None = None
    run_as_non_root: bool | None = None
    seccomp_profile: SeccompProfile | None = None
    app_armor_profile: AppArmorProfile | None = None
    se_linux_options: SELinuxOptions | None = None
    windows_options: WindowsSecurityContextOptions | None = None


@remember_identical(16)
def compute_confinement(
    shared: PodSecurityContext | None, own: SecurityContext | None
) -> Confinement:
    """The fields of the container's security context, and the pod's where the container has none
    (KUBELET-91)."""
    found: dict[str, Any] = {}
    for name in Confinement.__struct_fields__:
        value = getattr(own, name, None)
        found[name] = getattr(shared, name, None) if value is None else value
    return Confinement(**found)


def confinement_of(pod: Pod, container: Container) -> Confinement:
    """What is requested for this container of the pod."""
    return compute_confinement(pod.spec.security_context, container.security_context)


def compute_user(pod: Pod, container: Container, image_user: str) -> str:
    """The user to run as: "user", "user:group" or empty, given the image's own (KUBELET-91).

    The image's own user is "user[:group]" or empty. BadConfig if the container must not run as root
    and would, or if that is unknown.
    """
    asked = confinement_of(pod, container)
    user, group = asked.run_as_user, asked.run_as_group
    own = image_user.partition(":")[0]
    if asked.run_as_non_root:
        metadata = pod.metadata
        where = (
            f'(pod: "{metadata.name}_{metadata.namespace}({metadata.uid})", container: '
            f"{container.name})"
        )
        if user == 0:
            raise BadConfig(f"container's runAsUser breaks non-root policy {where}")
        if user is None and not _is_number(own or ROOT):
            raise BadConfig(
                f"container has runAsNonRoot and image has non-numeric user ({own}), "
                f"cannot verify user is non-root {where}"
            )
        if user is None and int(own or ROOT) == 0:
            raise BadConfig(f"container has runAsNonRoot and image will run as root {where}")
    if group is not None:
        return f"{own or ROOT if user is None else user}:{group}"
    return "" if user is None else str(user)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def compute_groups(pod: Pod) -> tuple[int, ...]:
    """Further groups of every container of the pod, each once: supplementalGroups and fsGroup."""
    context = pod.spec.security_context
    if context is None:
        return ()
    found = [
        *(context.supplemental_groups or ()),
        *([context.fs_group] if context.fs_group is not None else []),
    ]
    return tuple(dict.fromkeys(found))


def compute_seccomp(asked: Confinement, node: NodeDescribed) -> str:
    """RuntimeDefault, Unconfined, "Localhost/NAME", or empty for the runtime's own choice."""
    return _profile(asked.seccomp_profile, "seccomp", node)


def compute_app_armor(asked: Confinement, node: NodeDescribed) -> str:
    """The same for AppArmor."""
    return _profile(asked.app_armor_profile, "apparmor", node)


def _profile(profile: Any, module: str, node: NodeDescribed) -> str:
    if profile is None:
        return ""
    if profile.type != "Unconfined" and module not in node.security_modules:
        raise BadConfig(f"a {module} profile is asked for, and this node's runtime has no {module}")
    return (
        f"{LOCALHOST}/{profile.localhost_profile or ''}"
        if profile.type == LOCALHOST
        else str(profile.type)
    )


def compute_se_linux(asked: Confinement, node: NodeDescribed) -> tuple[tuple[str, str], ...]:
    """(part, value) of the requested SELinux label; none on a node without SELinux, which has no
    policy in which a label would have a meaning (KUBELET-92)."""
    options = asked.se_linux_options
    if options is None or "selinux" not in node.security_modules:
        return ()
    parts = [(name, getattr(options, name) or "") for name in ("user", "role", "type", "level")]
    return tuple([(name, value) for name, value in parts if value])


# --- pods that the kubelet rejects or does not run ------------------------------------------------

SAFE_SYSCTLS = {
    "kernel.shm_rmid_forced": "ipc",
    "net.ipv4.ip_local_port_range": "net",
    "net.ipv4.ip_local_reserved_ports": "net",
    "net.ipv4.ip_unprivileged_port_start": "net",
    "net.ipv4.ping_group_range": "net",
    "net.ipv4.tcp_fin_timeout": "net",
    "net.ipv4.tcp_keepalive_intvl": "net",
    "net.ipv4.tcp_keepalive_probes": "net",
    "net.ipv4.tcp_keepalive_time": "net",
    "net.ipv4.tcp_rmem": "net",
    "net.ipv4.tcp_syncookies": "net",
    "net.ipv4.tcp_wmem": "net",
}
"""Sysctls that a pod may set, and the namespace that keeps them from other pods.

Source: Kubernetes documentation, "Using sysctls in a Kubernetes Cluster" (safe and unsafe sysctls).
"""


def sysctl_name(name: str) -> str:
    """The name with dots between its parts: a/b.c is a.b/c."""
    if "/" not in name or 0 <= name.find(".") < name.find("/"):
        return name
    return name.translate(str.maketrans("./", "/."))


def why_forbidden(pod: Pod, modules: tuple[str, ...]) -> tuple[str, str] | None:
    """(reason, message) why this node must not run the pod, or None (KUBELET-92, KUBELET-93)."""
    spec, context = pod.spec, pod.spec.security_context
    for sysctl in (context.sysctls if context is not None else None) or ():
        name = sysctl_name(sysctl.name)
        namespace = SAFE_SYSCTLS.get(name)
        if namespace is None:
            return "SysctlForbidden", f'forbidden sysctl: "{name}" not allowlisted'
        if (namespace == "net" and spec.host_network) or (namespace == "ipc" and spec.host_ipc):
            return (
                "SysctlForbidden",
                f'forbidden sysctl: "{name}" not allowed with host {namespace} enabled',
            )
    if spec.os is not None and spec.os.name != "linux":
        return "PodOSNotSupported", "Failed to admit pod as the OS field doesn't match node OS"
    if context is not None and context.supplemental_groups_policy == "Strict":
        return (
            "SupplementalGroupsPolicyNotSupported",
            "SupplementalGroupsPolicy=Strict is not supported in this node",
        )
    contexts = [
        context,
        *[c.security_context for c in every_container(spec)],
    ]
    profiles = [found.app_armor_profile for found in contexts if found is not None]
    if "apparmor" not in modules and any(
        profile is not None and profile.type != "Unconfined" for profile in profiles
    ):
        return "AppArmor", "Cannot enforce AppArmor: AppArmor is not enabled on the host"
    return None


# --- one container --------------------------------------------------------------------------------


def is_escalation_denied(container: Container) -> bool:
    """A program must not gain more rights than its parent: allowPrivilegeEscalation is false."""
    return (
        container.security_context is not None
        and container.security_context.allow_privilege_escalation is False
    )


def is_proc_unmasked(container: Container) -> bool:
    """procMount is Unmasked: all of /proc is shown."""
    return (
        container.security_context is not None
        and container.security_context.proc_mount == "Unmasked"
    )


def check_enforceable(pod: Pod, container: Container) -> None:
    """Raise BadConfig if the pod requests a confinement that this runtime lacks (KUBELET-92)."""
    if pod.spec.host_users is False:
        raise BadConfig("hostUsers is false, and this node's runtime has no user namespaces")
    if confinement_of(pod, container).windows_options is not None:
        raise BadConfig("windowsOptions cannot be applied on a Linux node")
