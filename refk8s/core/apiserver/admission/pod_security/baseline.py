"""The checks of the level baseline. Rule PSA-3 (spec/pod_security.md).

Source: Kubernetes documentation, "Pod Security Standards" (baseline).
"""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from refk8s.core.api.core_v1 import PodSpec, SELinuxOptions
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.apiserver.admission.pod_security.words import (
    Check,
    Violation,
    containers,
    each_container,
    has_user_namespace,
    plural,
    quoted,
    setters,
)

APP_ARMOR = "container.apparmor.security.beta.kubernetes.io/"
SECCOMP_POD = "seccomp.security.alpha.kubernetes.io/pod"
SECCOMP_CONTAINER = "container.seccomp.security.alpha.kubernetes.io/"
PROFILES = ("RuntimeDefault", "Localhost")

_CAPABILITIES = frozenset(
    [
        "AUDIT_WRITE",
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "MKNOD",
        "NET_BIND_SERVICE",
        "SETFCAP",
        "SETGID",
        "SETPCAP",
        "SETUID",
        "SYS_CHROOT",
    ]
)
_SYSCTLS = frozenset(
    [
        "kernel.shm_rmid_forced",
        "net.ipv4.ip_local_port_range",
        "net.ipv4.tcp_syncookies",
        "net.ipv4.ping_group_range",
        "net.ipv4.ip_unprivileged_port_start",
    ]
)
_SYSCTLS_27 = _SYSCTLS | {"net.ipv4.ip_local_reserved_ports"}
_SYSCTLS_29 = _SYSCTLS_27 | {
    "net.ipv4.tcp_keepalive_time",
    "net.ipv4.tcp_fin_timeout",
    "net.ipv4.tcp_keepalive_intvl",
    "net.ipv4.tcp_keepalive_probes",
}
_SYSCTLS_32 = _SYSCTLS_29 | {"net.ipv4.tcp_rmem", "net.ipv4.tcp_wmem"}
_SE_LINUX_TYPES = frozenset(("", "container_t", "container_init_t", "container_kvm_t"))
_SE_LINUX_TYPES_31 = _SE_LINUX_TYPES | {"container_engine_t"}


def app_armor(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """Profiles only of the runtime or of the host."""
    pod, bad, values = _bad_profiles(spec, lambda context: context.app_armor_profile)
    notes = sorted(
        f'{key}="{value}"'
        for key, value in (metadata.annotations or {}).items()
        if key.startswith(APP_ARMOR)
        and value not in ("", "runtime/default")
        and not value.startswith("localhost/")
    )
    if not pod and not bad and not notes:
        return None
    who = [setters(pod, bad)] if pod or bad else []
    if notes:
        who.append(plural("annotation", "annotations", len(notes)))
    shown = [*sorted(values), *notes]
    reason = plural("forbidden AppArmor profile", "forbidden AppArmor profiles", len(shown))
    return (
        reason,
        f"{' and '.join(who)} must not set AppArmor profile type to {quoted(shown)}",
    )


def _bad_profiles(
    spec: PodSpec, profile_of: Callable[[Any], Any]
) -> tuple[bool, list[str], set[str]]:
    """Whether the profile of the pod has a type that is not allowed, the containers whose profiles
    have one, and these types."""

    def bad_type(context: Any) -> str | None:
        profile = profile_of(context) if context is not None else None
        return None if profile is None or profile.type in PROFILES else profile.type

    of_pod = bad_type(spec.security_context)
    types = [(one.name, bad_type(one.security_context)) for one in each_container(spec)]
    bad = [name for name, found in types if found is not None]
    values = {found for found in (of_pod, *(found for _, found in types)) if found is not None}
    return of_pod is not None, bad, values


def capabilities(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """Only capabilities that runtimes give by default may be added."""
    bad, added = added_capabilities(spec, _CAPABILITIES)
    if not bad:
        return None
    words = f"must not include {quoted(added)} in securityContext.capabilities.add"
    return "non-default capabilities", f"{containers(bad)} {words}"


def added_capabilities(spec: PodSpec, allowed: Iterable[str]) -> tuple[list[str], list[str]]:
    """The containers that add capabilities beyond these, and those capabilities, sorted."""
    bad: list[str] = []
    found: set[str] = set()
    for one in each_container(spec):
        context = one.security_context
        if context is not None and context.capabilities is not None:
            more = set(context.capabilities.add or ()).difference(allowed)
            if more:
                bad.append(one.name)
                found |= more
    return bad, sorted(found)


def host_namespaces(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    given = (
        ("hostNetwork=true", spec.host_network),
        ("hostPID=true", spec.host_pid),
        ("hostIPC=true", spec.host_ipc),
    )
    found = [words for words, is_set in given if is_set]
    return ("host namespaces", ", ".join(found)) if found else None


def host_path(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    found = [volume.name for volume in spec.volumes or () if volume.host_path is not None]
    if not found:
        return None
    return "hostPath volumes", f"{plural('volume', 'volumes', len(found))} {quoted(found)}"


def host_ports(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    bad: list[str] = []
    numbers: set[str] = set()
    for one in each_container(spec):
        mine = {str(port.host_port) for port in one.ports or () if port.host_port}
        if mine:
            bad.append(one.name)
            numbers |= mine
    if not bad:
        return None
    uses = plural("uses", "use", len(bad))
    ports = plural("hostPort", "hostPorts", len(numbers))
    return "hostPort", f"{containers(bad)} {uses} {ports} {', '.join(sorted(numbers))}"


def probe_hosts(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """Probes and lifecycle handlers connect to the pod only."""
    bad: set[str] = set()
    hosts: set[str] = set()
    for one in each_container(spec):
        handlers: list[Any] = [one.liveness_probe, one.readiness_probe, one.startup_probe]
        if one.lifecycle is not None:
            handlers += [one.lifecycle.post_start, one.lifecycle.pre_stop]
        mine = {
            action.host
            for handler in handlers
            if handler is not None
            for action in (handler.http_get, handler.tcp_socket)
            if action is not None and action.host
        }
        if mine:
            bad.add(one.name)
            hosts |= mine
    if not bad:
        return None
    uses = plural("uses", "use", len(bad))
    which = plural("probe or lifecycle host", "probe or lifecycle hosts", len(hosts))
    detail = f"{containers(sorted(bad))} {uses} {which} {quoted(sorted(hosts))}"
    return "probe or lifecycle host", detail


def privileged(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    bad = [
        one.name
        for one in each_container(spec)
        if one.security_context is not None and one.security_context.privileged
    ]
    if not bad:
        return None
    return "privileged", f"{containers(bad)} must not set securityContext.privileged=true"


def proc_mount(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    bad: list[str] = []
    types: set[str] = set()
    for one in each_container(spec):
        context = one.security_context
        if context is not None and context.proc_mount not in (None, "Default"):
            bad.append(one.name)
            types.add(context.proc_mount or "")
    if not bad:
        return None
    words = f"must not set securityContext.procMount to {quoted(sorted(types))}"
    return "procMount", f"{containers(bad)} {words}"


def proc_mount_35(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    return None if has_user_namespace(spec) else proc_mount(metadata, spec)


def _se_linux(allowed: frozenset[str], metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """Only these types, and neither user nor role."""
    types: set[str] = set()
    others: set[str] = set()

    def is_bad(options: SELinuxOptions | None) -> bool:
        if options is None:
            return False
        wrong = {options.type or ""} - allowed
        set_too = {name for name in ("user", "role") if getattr(options, name)}
        types.update(wrong)
        others.update(set_too)
        return bool(wrong or set_too)

    context = spec.security_context
    pod = context is not None and is_bad(context.se_linux_options)
    bad = [
        one.name
        for one in each_container(spec)
        if one.security_context is not None and is_bad(one.security_context.se_linux_options)
    ]
    if not pod and not bad:
        return None
    words = [f"{plural('type', 'types', len(types))} {quoted(sorted(types))}"] if types else []
    words += [f"{name} may not be set" for name in ("user", "role") if name in others]
    detail = f"set forbidden securityContext.seLinuxOptions: {'; '.join(words)}"
    return "seLinuxOptions", f"{setters(pod, bad)} {detail}"


se_linux: Check = partial(_se_linux, _SE_LINUX_TYPES)
se_linux_31: Check = partial(_se_linux, _SE_LINUX_TYPES_31)


def seccomp_annotations(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    """Before v1.19 a profile was an annotation."""
    annotations: Mapping[str, str] = metadata.annotations or {}
    keys = [SECCOMP_POD, *(SECCOMP_CONTAINER + one.name for one in each_container(spec))]
    found = sorted(
        f'{key}="{annotations[key]}"'
        for key in dict.fromkeys(keys)
        if key in annotations
        and annotations[key] not in ("runtime/default", "docker/default")
        and not annotations[key].startswith("localhost/")
    )
    if not found:
        return None
    which = plural("annotation", "annotations", len(found))
    return "seccompProfile", f"forbidden {which} {', '.join(found)}"


def seccomp(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    pod, bad, values = _bad_profiles(spec, lambda context: context.seccomp_profile)
    if not pod and not bad:
        return None
    words = f"must not set securityContext.seccompProfile.type to {quoted(sorted(values))}"
    return "seccompProfile", f"{setters(pod, bad)} {words}"


def _sysctls(allowed: frozenset[str], metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    context = spec.security_context
    named = context.sysctls or () if context is not None else ()
    found = [sysctl.name for sysctl in named if sysctl.name not in allowed]
    return ("forbidden sysctls", ", ".join(found)) if found else None


sysctls: Check = partial(_sysctls, _SYSCTLS)
sysctls_27: Check = partial(_sysctls, _SYSCTLS_27)
sysctls_29: Check = partial(_sysctls, _SYSCTLS_29)
sysctls_32: Check = partial(_sysctls, _SYSCTLS_32)


def host_process(metadata: ObjectMeta, spec: PodSpec) -> Violation | None:
    def is_bad(context: Any) -> bool:
        options = context.windows_options if context is not None else None
        return options is not None and bool(options.host_process)

    pod = is_bad(spec.security_context)
    bad = [one.name for one in each_container(spec) if is_bad(one.security_context)]
    if not pod and not bad:
        return None
    words = "must not set securityContext.windowsOptions.hostProcess=true"
    return "hostProcess", f"{setters(pod, bad)} {words}"
