"""Containers of a pod. Rules VAL-8, VAL-9 (spec/validation.md).

Source: Kubernetes API reference, "Container"; documentation, "Init Containers", "Sidecar Containers", "Ephemeral Containers".
Left out: restart rules by exit code, stop signals by operating system, resize policies.
"""

from typing import Any

from refk8s.core.api.core_v1 import Container, EphemeralContainer
from refk8s.core.apiserver.validation.env import validate_env, validate_env_from
from refk8s.core.apiserver.validation.field import Causes, duplicate, forbidden, invalid, not_found, not_supported, required
from refk8s.core.apiserver.validation.mounts import AnyContainer, Volumes, validate_devices, validate_mounts
from refk8s.core.apiserver.validation.names import dns_label
from refk8s.core.apiserver.validation.ports import validate_host_ports, validate_ports
from refk8s.core.apiserver.validation.probes import validate_life
from refk8s.core.apiserver.validation.resources import validate_requirements
from refk8s.core.apiserver.validation.security import validate_security

PULL_POLICIES = ("Always", "IfNotPresent", "Never")
MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
RESTART_POLICIES = ("Always", "OnFailure", "Never")
EPHEMERAL_FORBIDDEN = (
    ("ports", "ports"), ("resources", "resources"), ("liveness_probe", "livenessProbe"), ("readiness_probe", "readinessProbe"),
    ("startup_probe", "startupProbe"), ("lifecycle", "lifecycle"), ("restart_policy", "restartPolicy"), ("resize_policy", "resizePolicy"),
)  # fmt: skip



def validate_containers(containers: tuple[Container, ...], volumes: Volumes, grace: int | None, at: str) -> Causes:
    """VAL-8: at least one container; names differ; host ports do not collide."""
    if not containers:
        return [required(at)]
    causes: Causes = []
    seen: set[str] = set()
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, volumes, here)
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        seen.add(container.name)
        causes += validate_life(container, grace, here)
        if container.restart_policy is not None and container.restart_policy not in RESTART_POLICIES:
            causes.append(not_supported(f"{here}.restartPolicy", container.restart_policy, RESTART_POLICIES))
    return causes + validate_host_ports(containers, at)


def validate_init_containers(
    containers: tuple[Container, ...], main: tuple[Container, ...], volumes: Volumes, grace: int | None, at: str
) -> Causes:
    """VAL-8: names differ from those of all other containers; only one that restarts always (a sidecar) has probes and hooks."""
    causes: Causes = []
    seen = {container.name for container in main}
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, volumes, here)
        policy = container.restart_policy
        if policy is not None and policy not in RESTART_POLICIES:
            causes.append(not_supported(f"{here}.restartPolicy", policy, RESTART_POLICIES))
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        elif container.name:
            seen.add(container.name)
        causes += validate_host_ports((container,), at)
        if policy == "Always":
            causes += validate_life(container, grace, here)
            continue
        words = "may not be set for init containers without restartPolicy=Always"
        for attribute, name in EPHEMERAL_FORBIDDEN:
            if (name.endswith("Probe") or name == "lifecycle") and getattr(container, attribute) is not None:
                causes.append(forbidden(f"{here}.{name}", words))
    return causes


def validate_ephemeral_containers(
    containers: tuple[EphemeralContainer, ...], others: tuple[Container, ...], volumes: Volumes, at: str
) -> Causes:
    """VAL-8: a debugging container has a name of its own, a target that exists, and nothing that belongs to the workload."""
    causes: Causes = []
    targets = {container.name for container in others}
    seen = set(targets)
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, volumes, here)
        causes += validate_image_is_trimmed(container, here)
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        seen.add(container.name)
        target = container.target_container_name
        if target and target not in targets:
            causes.append(not_found(f"{here}.targetContainerName", target))
        for attribute, name in EPHEMERAL_FORBIDDEN:
            value: Any = getattr(container, attribute)
            if value is not None and (attribute != "resources" or value.limits or value.requests or value.claims):
                causes.append(forbidden(f"{here}.{name}", "cannot be set for an Ephemeral Container"))
        for number, mount in enumerate(container.volume_mounts or ()):
            for part, name in ((mount.sub_path, "subPath"), (mount.sub_path_expr, "subPathExpr")):
                if part:
                    causes.append(forbidden(f"{here}.volumeMounts[{number}].{name}", "cannot be set for an Ephemeral Container"))
    return causes


def validate_common(container: AnyContainer, volumes: Volumes, at: str) -> Causes:
    """VAL-9: what every container must be, whatever its part in the pod."""
    causes: Causes = []
    if not container.name:
        causes.append(required(f"{at}.name"))
    else:
        words = dns_label(container.name)
        if words:
            causes += [invalid(f"{at}.name", container.name, word) for word in words]
    if not container.image:
        causes.append(required(f"{at}.image"))
    policy = container.termination_message_policy
    if policy != "File" and policy not in MESSAGE_POLICIES:
        where = f"{at}.terminationMessagePolicy"
        causes.append(not_supported(where, policy, MESSAGE_POLICIES) if policy else required(where))
    if container.ports:
        causes += validate_ports(container.ports, f"{at}.ports")
    if container.env:
        causes += validate_env(container.env, f"{at}.env")
    if container.env_from:
        causes += validate_env_from(container.env_from, f"{at}.envFrom")
    if container.volume_mounts:
        causes += validate_mounts(container, container.volume_mounts, volumes, f"{at}.volumeMounts")
    if container.volume_devices:
        causes += validate_devices(container, container.volume_devices, volumes, f"{at}.volumeDevices")
    if container.image_pull_policy not in PULL_POLICIES:
        where = f"{at}.imagePullPolicy"
        causes.append(not_supported(where, container.image_pull_policy, PULL_POLICIES) if container.image_pull_policy else required(where))
    resources = container.resources
    if resources.limits is not None or resources.requests is not None or resources.claims is not None:
        causes += validate_requirements(resources, f"{at}.resources")
    if container.security_context is not None:
        causes += validate_security(container.security_context, f"{at}.securityContext")
    return causes


def validate_image_is_trimmed(container: AnyContainer, at: str) -> Causes:
    """VAL-9: in a pod (not yet in a template) the image has no blanks around it."""
    if container.image and container.image != container.image.strip():
        return [invalid(f"{at}.image", container.image, "must not have leading or trailing whitespace")]
    return []
