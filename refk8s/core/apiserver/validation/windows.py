"""Options of Windows pods, and options that they must not have. Rule VAL-60 (spec/validation.md).

Source: Kubernetes API reference, "WindowsSecurityContextOptions", "PodOS"; documentation,
"Configure RunAsUserName for Windows pods and containers", "Create a Windows HostProcess Pod".
"""

import re
from collections.abc import Iterator

from refk8s.core.api.core_v1 import (
    Container,
    EphemeralContainer,
    PodSpec,
    SecurityContext,
    WindowsSecurityContextOptions,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_subdomain

SYSTEMS = ("linux", "windows")
CREDENTIAL_BYTES_MAX = 64 * 1024
DOMAIN_MAX, USER_MAX = 256, 104
_has_control = re.compile(r"[\x00-\x1f\x7f]").search
_is_net_bios = re.compile(r'[^\\/:*?"<>|.][^\\/:*?"<>|]{0,14}').fullmatch
_is_dns = re.compile(
    r"[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?(?:\.[a-zA-Z0-9](?:[a-zA-Z0-9-]{0,61}[a-zA-Z0-9])?)*"
).fullmatch
_has_forbidden_mark = re.compile(r'["/\\:;|=,+*?<>@\[\]]').search
_OF_POD = (
    ("app_armor_profile", "appArmorProfile"), ("se_linux_options", "seLinuxOptions"), ("seccomp_profile", "seccompProfile"),
    ("fs_group", "fsGroup"), ("fs_group_change_policy", "fsGroupChangePolicy"), ("sysctls", "sysctls"), ("run_as_user", "runAsUser"),
    ("run_as_group", "runAsGroup"), ("supplemental_groups", "supplementalGroups"),
    ("supplemental_groups_policy", "supplementalGroupsPolicy"), ("se_linux_change_policy", "seLinuxChangePolicy"),
)  # fmt: skip
_OF_CONTAINER = (
    ("app_armor_profile", "appArmorProfile"), ("se_linux_options", "seLinuxOptions"), ("seccomp_profile", "seccompProfile"),
    ("capabilities", "capabilities"), ("read_only_root_filesystem", "readOnlyRootFilesystem"), ("privileged", "privileged"),
    ("allow_privilege_escalation", "allowPrivilegeEscalation"), ("proc_mount", "procMount"), ("run_as_user", "runAsUser"),
    ("run_as_group", "runAsGroup"),
)  # fmt: skip


def containers_of(spec: PodSpec, at: str) -> Iterator[tuple[Container | EphemeralContainer, str]]:
    """Every container of a pod with its path, in the order in which Kubernetes checks them."""
    for position, container in enumerate(spec.init_containers or ()):
        yield container, f"{at}.initContainers[{position}]"
    for position, container in enumerate(spec.containers):
        yield container, f"{at}.containers[{position}]"
    for position, ephemeral in enumerate(spec.ephemeral_containers or ()):
        yield ephemeral, f"{at}.ephemeralContainers[{position}]"


def validate_system(spec: PodSpec, at: str) -> Causes:
    """VAL-60: a known operating system, and no options of another one."""
    if spec.os is None:
        return []
    if not spec.os.name:
        return [required(f"{at}.os.name", "cannot be empty")]
    if spec.os.name not in SYSTEMS:
        return [not_supported(f"{at}.os", spec.os.name, SYSTEMS)]
    return _validate_linux(spec, at) if spec.os.name == "linux" else _validate_windows(spec, at)


def _validate_linux(spec: PodSpec, at: str) -> Causes:
    words = "windows options cannot be set for a linux pod"
    causes: Causes = []
    if spec.security_context is not None and spec.security_context.windows_options is not None:
        causes.append(forbidden(f"{at}.securityContext.windowsOptions", words))
    for container, here in containers_of(spec, at):
        context = container.security_context
        if context is not None and context.windows_options is not None:
            causes.append(forbidden(f"{here}.securityContext.windowsOptions", words))
    return causes


def _validate_windows(spec: PodSpec, at: str) -> Causes:
    words = "cannot be set for a windows pod"
    causes: Causes = []
    for held, name in (
        (spec.host_users is not None, "hostUsers"), (spec.host_pid, "hostPID"), (spec.host_ipc, "hostIPC"),
        (spec.share_process_namespace is not None, "shareProcessNamespace"),
    ):  # fmt: skip
        if held:
            causes.append(forbidden(f"{at}.{name}", words))
    pod_context = spec.security_context
    for attribute, name in _OF_POD:
        if pod_context is not None and getattr(pod_context, attribute) is not None:
            causes.append(forbidden(f"{at}.securityContext.{name}", words))
    for container, here in containers_of(spec, at):
        context = container.security_context
        for attribute, name in _OF_CONTAINER:
            if context is not None and getattr(context, attribute) is not None:
                causes.append(forbidden(f"{here}.securityContext.{name}", words))
    return causes


def validate_host_process(spec: PodSpec, at: str) -> Causes:
    """VAL-60: HostProcess containers are all or none of a pod's containers, and use the node's
    network."""
    of_pod = _host_process(
        spec.security_context.windows_options if spec.security_context is not None else None
    )
    causes: Causes = []
    count = hosted = 0
    for container, here in containers_of(spec, at):
        context: SecurityContext | None = container.security_context
        own = _host_process(context.windows_options if context is not None else None)
        count += 1
        if of_pod is not None and own is not None and own != of_pod:
            words = (
                "pod hostProcess value must be identical if both are specified, "
                f"was {str(of_pod).lower()}"
            )
            causes.append(invalid(f"{here}.securityContext.windowsOptions.hostProcess", own, words))
        hosted += bool(own if own is not None else of_pod)
    if not hosted:
        return causes
    if hosted != count:
        words = (
            "If pod contains any hostProcess containers then all containers must be "
            "HostProcess containers"
        )
        causes.append(invalid(at, "", words))
    if not spec.host_network:
        causes.append(
            invalid(
                f"{at}.hostNetwork",
                False,
                "hostNetwork must be true if pod contains any hostProcess containers",
            )
        )
    return causes


def _host_process(options: WindowsSecurityContextOptions | None) -> bool | None:
    return None if options is None else options.host_process


def validate_windows_options(options: WindowsSecurityContextOptions, at: str) -> Causes:
    """VAL-60: the name of a credential spec is a subdomain, its text is bounded, and the user name
    is valid on Windows."""
    causes: Causes = []
    name, credential = options.gmsa_credential_spec_name, options.gmsa_credential_spec
    if name is not None:
        causes += malformed(f"{at}.gmsaCredentialSpecName", name, dns_subdomain)
    if credential is not None:
        if not credential:
            causes.append(
                invalid(
                    f"{at}.gmsaCredentialSpec",
                    credential,
                    "gmsaCredentialSpec cannot be an empty string",
                )
            )
        elif len(credential.encode("utf-8", "surrogatepass")) > CREDENTIAL_BYTES_MAX:
            words = f"gmsaCredentialSpec size must be under {CREDENTIAL_BYTES_MAX // 1024} KiB"
            causes.append(invalid(f"{at}.gmsaCredentialSpec", credential, words))
    if options.run_as_user_name is not None:
        here = f"{at}.runAsUserName"
        causes += [
            invalid(here, options.run_as_user_name, f"runAsUserName{word}")
            for word in _user_name(options.run_as_user_name)
        ]
    return causes


def _user_name(text: str) -> list[str]:
    """The problem of a name of the form DOMAIN\\USER or USER."""
    if not text:
        return [" cannot be an empty string"]
    if _has_control(text):
        return [" cannot contain control characters"]
    if text.count("\\") > 1:
        return [" cannot contain more than one backslash"]
    domain, backslash, user = text.rpartition("\\")
    wrong = []
    if len(domain) >= DOMAIN_MAX:
        wrong.append(f"'s Domain length must be under {DOMAIN_MAX} characters")
    if backslash and not (_is_net_bios(domain) or _is_dns(domain)):
        wrong.append("'s Domain doesn't match the NetBios nor the DNS format")
    if not user:
        wrong.append("'s User cannot be empty")
    elif len(user) > USER_MAX:
        wrong.append(f"'s User length must not be longer than {USER_MAX} characters")
    if user and not user.strip(". "):
        wrong.append("'s User cannot contain only periods or spaces")
    if _has_forbidden_mark(user):
        wrong.append("'s User cannot contain the following characters: \"/\\:;|=,+*?<>@[]")
    return wrong
