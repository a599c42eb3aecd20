"""Defaults of pods and of pod templates. Rules DEF-3 ... DEF-9, DEF-33 (spec/defaults.md).

A template gets the defaults of every pod spec (`default_pod_spec`). Defaults that depend on the
whole pod are set when a pod is created from it (DEF-6). Source: Kubernetes API reference, "Pod" and
"PodTemplateSpec"; documentation, "Images" (image pull policy).
"""

from collections.abc import Callable
from typing import Any, TypeVar

from msgspec.structs import replace

from refk8s.core.api import reference
from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    EphemeralContainer,
    Pod,
    PodIP,
    PodSecurityContext,
    PodSpec,
    PodTemplate,
    PodTemplateSpec,
    ResourceRequirements,
)
from refk8s.core.apiserver.defaults.container import default_env, default_lifecycle, default_probe
from refk8s.core.apiserver.defaults.pod_resources import default_pod_resources
from refk8s.core.apiserver.defaults.resources import default_requirements, default_resource_list
from refk8s.core.apiserver.defaults.volume import default_volume
from refk8s.core.memo import remember, remember_identical

C = TypeVar("C", Container, EphemeralContainer)

GRACE_PERIOD_SECONDS = 30
NO_SECURITY_CONTEXT = PodSecurityContext()


def default_pod(pod: Pod) -> Pod:
    """A pod: the defaults of its spec (DEF-3 to DEF-5), and those of pods only (DEF-6)."""
    spec = _default_spec(pod.spec)
    return pod if spec is pod.spec else replace(pod, spec=spec)


def default_pod_status(pod: Pod) -> Pod:
    """DEF-6: `podIP` is the first of `podIPs`; if they differ, `podIP` counts."""
    one, several = pod.status.pod_ip, pod.status.pod_ips or ()
    if not one and not several:
        return pod
    if several and (not one or one == several[0].ip):
        first = several[0].ip or None
        if one == first:
            return pod
        return replace(pod, status=replace(pod.status, pod_ip=first))
    return replace(pod, status=replace(pod.status, pod_ips=(PodIP(ip=one or ""),)))


@remember_identical(16)
def _default_spec(spec: PodSpec) -> PodSpec:
    """The spec of a pod. Pods of one template get the same object."""
    spec = default_pod_spec(spec)
    changed: dict[str, Any] = {}
    defaulter = _on_host if spec.host_network else _requests_from_limits
    _change_each(changed, spec, "containers", defaulter)
    _change_each(changed, spec, "init_containers", defaulter)
    if spec.enable_service_links is None:
        changed["enable_service_links"] = True
    spec = replace(spec, **changed) if changed else spec
    return spec if spec.resources is None else default_pod_resources(spec)


def default_pod_template(template: PodTemplate) -> PodTemplate:
    inner = default_template(template.template)
    return template if inner is template.template else replace(template, template=inner)


def default_template(template: PodTemplateSpec) -> PodTemplateSpec:
    """The pod template of a workload."""
    spec = default_pod_spec(template.spec)
    return template if spec is template.spec else replace(template, spec=spec)


def default_pod_spec(spec: PodSpec) -> PodSpec:
    """DEF-3: restart and DNS policy, grace period, scheduler, security context; then containers and
    volumes. `serviceAccount` is the old name of `serviceAccountName`; both are written."""
    changed: dict[str, Any] = {}
    if not spec.dns_policy:
        changed["dns_policy"] = "ClusterFirst"
    if not spec.restart_policy:
        changed["restart_policy"] = "Always"
    if spec.security_context is None:
        changed["security_context"] = NO_SECURITY_CONTEXT
    if spec.termination_grace_period_seconds is None:
        changed["termination_grace_period_seconds"] = GRACE_PERIOD_SECONDS
    if not spec.scheduler_name:
        changed["scheduler_name"] = "default-scheduler"
    if spec.service_account != spec.service_account_name:
        changed["service_account"] = changed["service_account_name"] = (
            spec.service_account_name or spec.service_account
        )
    _change_each(changed, spec, "containers", _default_container)
    _change_each(changed, spec, "init_containers", _default_container)
    _change_each(changed, spec, "ephemeral_containers", _default_container)
    _change_each(changed, spec, "volumes", default_volume)
    if spec.overhead:
        overhead = default_resource_list(spec.overhead)
        if overhead is not spec.overhead:
            changed["overhead"] = overhead
    if spec.resources is not None:
        resources = default_requirements(spec.resources)
        if resources is not spec.resources:
            changed["resources"] = resources
    return replace(spec, **changed) if changed else spec


def _default_container(container: C) -> C:
    """DEF-4: termination message, image pull policy, ports, environment, probes and hooks."""
    changed: dict[str, Any] = {}
    if not container.image_pull_policy:
        changed["image_pull_policy"] = pull_policy(container.image or "")
    if not container.termination_message_path:
        changed["termination_message_path"] = "/dev/termination-log"
    if not container.termination_message_policy:
        changed["termination_message_policy"] = "File"
    _change_each(changed, container, "ports", _default_port)
    _change_each(changed, container, "env", default_env)
    resources = default_requirements(container.resources)
    if resources is not container.resources:
        changed["resources"] = resources
    if container.liveness_probe is not None:
        changed["liveness_probe"] = default_probe(container.liveness_probe)
    if container.readiness_probe is not None:
        changed["readiness_probe"] = default_probe(container.readiness_probe)
    if container.startup_probe is not None:
        changed["startup_probe"] = default_probe(container.startup_probe)
    if container.lifecycle is not None:
        changed["lifecycle"] = default_lifecycle(container.lifecycle)
    return replace(container, **changed) if changed else container


@remember(1024)
def pull_policy(image: str) -> str:
    """DEF-5: Always if the tag is `latest` or absent, else IfNotPresent. A digest without a tag
    counts as a tag."""
    found = reference.parse(image)
    if found is None:
        # no image, or not a valid image reference: nothing could be pulled
        return "IfNotPresent"
    if found.tag:
        return "Always" if found.tag == "latest" else "IfNotPresent"
    return "IfNotPresent" if found.digest else "Always"


def _default_port(port: ContainerPort) -> ContainerPort:
    return port if port.protocol else replace(port, protocol="TCP")


def _requests_from_limits(container: Container) -> Container:
    """DEF-6: a resource with a limit and no request is requested up to its limit."""
    limits = container.resources.limits
    if not limits:
        return container
    requests = container.resources.requests or {}
    missing = {name: limit for name, limit in limits.items() if name not in requests}
    if not missing:
        return container
    resources: ResourceRequirements = replace(container.resources, requests={**requests, **missing})
    return replace(container, resources=resources)


def _on_host(container: Container) -> Container:
    """DEF-6: on the host's network, the host port of a container port is the same number."""
    container = _requests_from_limits(container)
    if not container.ports or all(port.host_port for port in container.ports):
        return container
    ports = tuple(
        [
            port if port.host_port else replace(port, host_port=port.container_port or None)
            for port in container.ports
        ]
    )
    return container if ports == container.ports else replace(container, ports=ports)


def _change_each(
    changed: dict[str, Any], owner: Any, field: str, defaulter: Callable[[Any], Any]
) -> None:
    """Default every item of a list; `changed` gets the list if an item has changed."""
    items: tuple[Any, ...] | None = getattr(owner, field)
    if items:
        defaulted = tuple([defaulter(item) for item in items])
        if any(one is not other for one, other in zip(items, defaulted, strict=True)):
            changed[field] = defaulted
