"""Security contexts of pods and containers. Rules VAL-9, VAL-60 (spec/validation.md).

Source: Kubernetes documentation, "Configure a Security Context for a Pod or Container", "Using
sysctls in a Kubernetes Cluster", "Restrict a Container's Syscalls with seccomp", "Restrict a
Container's Access to Resources with AppArmor". Left out: the annotations that named profiles before
the fields existed. Options of Windows are in `windows.py`.
"""

import re

from refk8s.core.api.core_v1 import (
    AppArmorProfile,
    PodSecurityContext,
    PodSpec,
    SeccompProfile,
    SecurityContext,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    invalid,
    not_supported,
    required,
    too_long,
)
from refk8s.core.apiserver.validation.mounts import validate_descending_path
from refk8s.core.apiserver.validation.windows import validate_windows_options

ID_MAX = 2**31 - 1
ID_RANGE = f"must be between 0 and {ID_MAX}, inclusive"
PROFILES = ("Localhost", "RuntimeDefault", "Unconfined")
PROC_MOUNTS = ("Default", "Unmasked")
APP_ARMOR_NAME_MAX = 4095
SYSCTL_NAME_MAX = 253
_SYSCTL = r"([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?"
_SYSCTL_WORDS = f"must have at most {SYSCTL_NAME_MAX} characters and match regex ^{_SYSCTL}$"
# An equivalent pattern, which does not backtrack for long on hostile input.
_is_sysctl = re.compile(
    r"(?![-_])[-_a-z0-9]++(?<![-_])(?:[./](?![-_])[-_a-z0-9]++(?<![-_]))*+", re.ASCII
).fullmatch
_IPC_SYSCTLS = ("kernel.sem", "kernel.shm", "kernel.msg", "fs.mqueue.")
_SEPARATOR = re.compile("[./]")


def validate_security(context: SecurityContext, at: str, host_users: bool = True) -> Causes:
    """VAL-9, VAL-60: the security context of one container. `host_users`: the pod uses the user
    namespace of its node."""
    causes = validate_ids(context.run_as_user, context.run_as_group, at)
    if context.proc_mount is not None:
        if context.proc_mount not in PROC_MOUNTS:
            causes.append(not_supported(f"{at}.procMount", context.proc_mount, PROC_MOUNTS))
        elif context.proc_mount == "Unmasked" and host_users:
            causes.append(
                invalid(
                    f"{at}.procMount",
                    context.proc_mount,
                    "`hostUsers` must be false to use `Unmasked`",
                )
            )
    causes += _validate_seccomp(context.seccomp_profile, f"{at}.seccompProfile")
    if context.privileged and context.allow_privilege_escalation is False:
        causes.append(
            invalid(
                at,
                context,
                "cannot set `allowPrivilegeEscalation` to false and `privileged` to true",
            )
        )
    added = (context.capabilities.add or ()) if context.capabilities is not None else ()
    if context.allow_privilege_escalation is False and "CAP_SYS_ADMIN" in added:
        causes.append(
            invalid(
                at,
                context,
                "cannot set `allowPrivilegeEscalation` to false and "
                "`capabilities.Add` CAP_SYS_ADMIN",
            )
        )
    if context.windows_options is not None:
        causes += validate_windows_options(context.windows_options, f"{at}.windowsOptions")
    return causes + _validate_app_armor(context.app_armor_profile, f"{at}.appArmorProfile")


def validate_ids(user: int | None, group: int | None, at: str) -> Causes:
    return _validate_id(user, f"{at}.runAsUser") + _validate_id(group, f"{at}.runAsGroup")


def _validate_id(number: int | None, at: str) -> Causes:
    return [] if number is None or 0 <= number <= ID_MAX else [invalid(at, number, ID_RANGE)]


def validate_pod_security(spec: PodSpec, at: str) -> Causes:
    """VAL-9, VAL-60: the security context of all containers of a pod. `at`: the path of the
    spec."""
    context = spec.security_context
    if context is None:
        return []
    here = f"{at}.securityContext"
    causes = _validate_id(context.fs_group, f"{here}.fsGroup") + validate_ids(
        context.run_as_user, context.run_as_group, here
    )
    for position, group in enumerate(context.supplemental_groups or ()):
        causes += _validate_id(group, f"{here}.supplementalGroups[{position}]")
    if context.sysctls:
        causes += _validate_sysctls(spec, context, f"{here}.sysctls")
    choices = (
        (context.fs_group_change_policy, "fsGroupChangePolicy", ("Always", "OnRootMismatch")),
        (context.supplemental_groups_policy, "supplementalGroupsPolicy", ("Merge", "Strict")),
        (context.se_linux_change_policy, "seLinuxChangePolicy", ("MountOption", "Recursive")),
    )
    for policy, name, supported in choices:
        if policy is not None and policy not in supported:
            causes.append(not_supported(f"{here}.{name}", policy, supported))
    causes += _validate_seccomp(context.seccomp_profile, f"{here}.seccompProfile")
    if context.windows_options is not None:
        causes += validate_windows_options(context.windows_options, f"{here}.windowsOptions")
    return causes + _validate_app_armor(context.app_armor_profile, f"{here}.appArmorProfile")


def validate_process_namespace(spec: PodSpec, at: str) -> Causes:
    """Processes are shared among the pod's containers or with the node, not both. The path is
    upstream's."""
    if spec.share_process_namespace and spec.host_pid:
        words = "ShareProcessNamespace and HostPID cannot both be enabled"
        return [invalid(f"{at}.securityContext.shareProcessNamespace", True, words)]
    return []


def _validate_sysctls(spec: PodSpec, context: PodSecurityContext, at: str) -> Causes:
    """VAL-60: each name once, and none of a namespace that the pod shares with its node."""
    causes: Causes = []
    seen: set[str] = set()
    for position, sysctl in enumerate(context.sysctls or ()):
        here = f"{at}[{position}].name"
        if not sysctl.name:
            causes.append(required(here))
        elif len(sysctl.name) > SYSCTL_NAME_MAX or not _is_sysctl(sysctl.name):
            causes.append(invalid(here, sysctl.name, _SYSCTL_WORDS))
        elif sysctl.name in seen:
            causes.append(duplicate(here, sysctl.name))
        namespace = namespace_of_sysctl(sysctl.name)
        if namespace == "net" and spec.host_network:
            causes.append(
                invalid(here, sysctl.name, "may not be specified when 'hostNetwork' is true")
            )
        if namespace == "ipc" and spec.host_ipc:
            causes.append(invalid(here, sysctl.name, "may not be specified when 'hostIPC' is true"))
        seen.add(sysctl.name)
    return causes


def namespace_of_sysctl(name: str) -> str:
    """The kernel namespace of a sysctl: net, ipc, or empty for the whole node. The first dot or
    slash in the name decides which of them separates its parts; if it is a slash, dots and slashes
    are exchanged."""
    first = _SEPARATOR.search(name)
    if first is not None and first.group() == "/":
        name = name.translate(_SWAPPED)
    if name.startswith("net."):
        return "net"
    return "ipc" if name.startswith(_IPC_SYSCTLS) else ""


_SWAPPED = str.maketrans("./", "/.")


def _validate_seccomp(profile: SeccompProfile | None, at: str) -> Causes:
    if profile is None:
        return []
    causes: Causes = []
    if not profile.type:
        causes.append(required(f"{at}.type", "type is required when seccompProfile is set"))
    elif profile.type not in PROFILES:
        causes.append(not_supported(f"{at}.type", profile.type, PROFILES))
    local = profile.localhost_profile
    if profile.type != "Localhost":
        if local is not None:
            causes.append(
                invalid(
                    f"{at}.localhostProfile",
                    profile,
                    "can only be set when seccomp type is Localhost",
                )
            )
    elif local is None:
        causes.append(
            required(f"{at}.localhostProfile", "must be set when seccomp type is Localhost")
        )
    else:
        causes += validate_descending_path(local, f"{at}.localhostProfile")
    return causes


def _validate_app_armor(profile: AppArmorProfile | None, at: str) -> Causes:
    if profile is None:
        return []
    local, here = profile.localhost_profile, f"{at}.localhostProfile"
    if not profile.type:
        return [required(f"{at}.type", "type is required when appArmorProfile is set")]
    if profile.type not in PROFILES:
        return [not_supported(f"{at}.type", profile.type, PROFILES)]
    if profile.type != "Localhost":
        return (
            []
            if local is None
            else [invalid(here, local, "can only be set when AppArmor type is Localhost")]
        )
    if not local:
        return [required(here, "must be set when AppArmor type is Localhost")]
    causes = (
        [invalid(here, local, "must not be padded with whitespace")]
        if local != local.strip()
        else []
    )
    if len(local.encode("utf-8", "surrogatepass")) > APP_ARMOR_NAME_MAX:
        causes.append(too_long(here, APP_ARMOR_NAME_MAX))
    return causes
