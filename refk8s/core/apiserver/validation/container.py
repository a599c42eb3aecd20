"""Containers of a pod. Rules VAL-8, VAL-9 (spec/validation.md).

Source: Kubernetes API reference, "Container"; documentation, "Init Containers", "Sidecar
Containers", "Ephemeral Containers". Left out: stop signals, which a cluster with default feature
gates drops (`disabled.py`).
"""

from typing import Any

from refk8s.core.api.core_v1 import Container, ContainerResizePolicy, EphemeralContainer
from refk8s.core.apiserver.validation.env import validate_env, validate_env_from
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_supported,
    required,
    too_many,
)
from refk8s.core.apiserver.validation.mounts import (
    AnyContainer,
    Volumes,
    validate_devices,
    validate_mounts,
)
from refk8s.core.apiserver.validation.names import dns_label
from refk8s.core.apiserver.validation.ports import validate_host_ports, validate_ports
from refk8s.core.apiserver.validation.probes import validate_probes_and_hooks
from refk8s.core.apiserver.validation.resources import validate_requirements
from refk8s.core.apiserver.validation.security import validate_security
from refk8s.core.apiserver.validation.volume import PULL_POLICIES, validate_pull_policy
from refk8s.core.pods.containers import is_sidecar
from refk8s.core.value import Value

MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
RESTART_POLICIES = ("Always", "OnFailure", "Never")
RESTART_ACTIONS = ("Restart", "RestartAllContainers")
RESTART_RULES_MAX, EXIT_CODES_MAX = 20, 255
RESIZED = ("cpu", "memory")
RESIZE_POLICIES = ("NotRequired", "RestartContainer")
EPHEMERAL_FORBIDDEN = (
    ("ports", "ports"), ("resources", "resources"), ("liveness_probe", "livenessProbe"), ("readiness_probe", "readinessProbe"),
    ("startup_probe", "startupProbe"), ("lifecycle", "lifecycle"), ("restart_policy", "restartPolicy"), ("resize_policy", "resizePolicy"),
    ("restart_policy_rules", "restartPolicyRules"),
)  # fmt: skip


class PodFacts(Value, frozen=True):
    """The facts about a pod that the checks of its containers need: its valid volumes, and the
    names of its claims."""

    volumes: Volumes
    claims: frozenset[str] = frozenset()
    grace: int | None = None
    restart_policy: str | None = None
    host_users: bool = True


def validate_containers(containers: tuple[Container, ...], pod_facts: PodFacts, at: str) -> Causes:
    """VAL-8: at least one container; names are unique; host ports do not conflict."""
    if not containers:
        return [required(at)]
    causes: Causes = []
    seen: set[str] = set()
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, pod_facts, here)
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        seen.add(container.name)
        causes += validate_probes_and_hooks(container, pod_facts.grace, here)
        if container.restart_policy is not None or container.restart_policy_rules:
            causes += _validate_restarts(container, here)
    return causes + validate_host_ports(containers, at)


def validate_init_containers(
    containers: tuple[Container, ...], main: tuple[Container, ...], pod_facts: PodFacts, at: str
) -> Causes:
    """VAL-8: names are unique among all containers; only sidecars have probes and hooks."""
    causes: Causes = []
    seen = {container.name for container in main}
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, pod_facts, here)
        causes += _validate_restarts(container, here, is_init=True)
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        elif container.name:
            seen.add(container.name)
        causes += validate_host_ports((container,), at)
        if is_sidecar(container):
            causes += validate_probes_and_hooks(container, pod_facts.grace, here)
            continue
        words = "may not be set for init containers without restartPolicy=Always"
        for attribute, name in EPHEMERAL_FORBIDDEN:
            if (name.endswith("Probe") or name == "lifecycle") and getattr(
                container, attribute
            ) is not None:
                causes.append(forbidden(f"{here}.{name}", words))
    return causes


def _validate_restarts(container: Container, at: str, is_init: bool = False) -> Causes:
    """VAL-61: the restart policy of a single container, and rules about its exit code. The rules of
    an init container without a policy are not checked."""
    causes: Causes = []
    policy, rules = container.restart_policy, container.restart_policy_rules or ()
    if policy is None:
        if rules:
            causes.append(
                required(
                    f"{at}.restartPolicy", "must specify restartPolicy when restart rules are used"
                )
            )
        if is_init:
            return causes
    elif policy not in RESTART_POLICIES:
        causes.append(not_supported(f"{at}.restartPolicy", policy, RESTART_POLICIES))
    if len(rules) > RESTART_RULES_MAX:
        causes.append(too_many(f"{at}.restartPolicyRules", len(rules), RESTART_RULES_MAX))
    for position, rule in enumerate(rules):
        here = f"{at}.restartPolicyRules[{position}]"
        if rule.action not in RESTART_ACTIONS:
            causes.append(not_supported(f"{here}.action", rule.action, RESTART_ACTIONS))
        codes = rule.exit_codes
        if codes is None:
            causes.append(required(f"{here}.exitCodes", "must be specified"))
            continue
        if codes.operator not in ("In", "NotIn"):
            causes.append(
                not_supported(f"{here}.exitCodes.operator", codes.operator, ("In", "NotIn"))
            )
        if len(codes.values or ()) > EXIT_CODES_MAX:
            causes.append(
                too_many(f"{here}.exitCodes.values", len(codes.values or ()), EXIT_CODES_MAX)
            )
    return causes


def validate_ephemeral_containers(
    containers: tuple[EphemeralContainer, ...],
    others: tuple[Container, ...],
    pod_facts: PodFacts,
    at: str,
) -> Causes:
    """VAL-8: a unique name, an existing target container, and no fields that only regular
    containers have."""
    causes: Causes = []
    targets = {container.name for container in others}
    seen = set(targets)
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, pod_facts, here)
        causes += validate_image_is_trimmed(container, here)
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        seen.add(container.name)
        target = container.target_container_name
        if target and target not in targets:
            causes.append(not_found(f"{here}.targetContainerName", target))
        for attribute, name in EPHEMERAL_FORBIDDEN:
            value: Any = getattr(container, attribute)
            if value is not None and (
                attribute != "resources" or value.limits or value.requests or value.claims
            ):
                causes.append(
                    forbidden(f"{here}.{name}", "cannot be set for an Ephemeral Container")
                )
        for number, mount in enumerate(container.volume_mounts or ()):
            for part, name in ((mount.sub_path, "subPath"), (mount.sub_path_expr, "subPathExpr")):
                if part:
                    causes.append(
                        forbidden(
                            f"{here}.volumeMounts[{number}].{name}",
                            "cannot be set for an Ephemeral Container",
                        )
                    )
    return causes


def validate_common(container: AnyContainer, pod_facts: PodFacts, at: str) -> Causes:
    """VAL-9: the checks for every kind of container."""
    causes: Causes = []
    volumes = pod_facts.volumes
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
        causes += validate_env(container.env, volumes, f"{at}.env")
    if container.env_from:
        causes += validate_env_from(container.env_from, f"{at}.envFrom")
    if container.volume_mounts:
        causes += validate_mounts(container, container.volume_mounts, volumes, f"{at}.volumeMounts")
    if container.volume_devices:
        causes += validate_devices(
            container, container.volume_devices, volumes, f"{at}.volumeDevices"
        )
    if container.image_pull_policy not in PULL_POLICIES:
        causes += validate_pull_policy(container.image_pull_policy, f"{at}.imagePullPolicy")
    resources = container.resources
    if (
        resources.limits is not None
        or resources.requests is not None
        or resources.claims is not None
    ):
        causes += validate_requirements(resources, f"{at}.resources", pod_facts.claims)
    if container.resize_policy:
        causes += _validate_resizing(
            container.resize_policy, pod_facts.restart_policy, f"{at}.resizePolicy"
        )
    if container.security_context is not None:
        causes += validate_security(
            container.security_context, f"{at}.securityContext", pod_facts.host_users
        )
    return causes


def _validate_resizing(
    policies: tuple[ContainerResizePolicy, ...], restart_policy: str | None, at: str
) -> Causes:
    """VAL-61: at most one resize policy for each resource. As upstream, most paths do not name the
    entry."""
    causes: Causes = []
    seen: set[str] = set()
    for position, policy in enumerate(policies):
        if policy.resource_name in seen:
            causes.append(duplicate(f"{at}[{position}]", policy.resource_name))
        seen.add(policy.resource_name)
        for text, supported in (
            (policy.resource_name, RESIZED),
            (policy.restart_policy, RESIZE_POLICIES),
        ):
            if text not in supported:
                causes.append(not_supported(at, text, supported) if text else required(at))
        if restart_policy == "Never" and policy.restart_policy != "NotRequired":
            words = "must be 'NotRequired' when pod `restartPolicy` is 'Never'"
            causes.append(invalid(at, policy.restart_policy, words))
    return causes


def validate_image_is_trimmed(container: AnyContainer, at: str) -> Causes:
    """VAL-9: in a pod (not in a template) the image has no blanks around it."""
    if container.image and container.image != container.image.strip():
        return [
            invalid(f"{at}.image", container.image, "must not have leading or trailing whitespace")
        ]
    return []
