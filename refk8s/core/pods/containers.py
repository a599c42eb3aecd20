"""Kinds of containers of a pod: regular ones, init containers, sidecars, ephemeral ones. Rules
POD-22 (spec/pod.md), KUBELET-100 (spec/kubelet.md).

Source: Kubernetes documentation, "Init Containers", "Sidecar Containers", "Ephemeral Containers".
"""

from typing import Protocol

from refk8s.core.api.core_v1 import Container, EphemeralContainer, PodSpec


class HasRestartPolicy(Protocol):
    """A container, or a part of one with its restartPolicy."""

    @property
    def restart_policy(self) -> str | None: ...


def is_sidecar(init_container: HasRestartPolicy) -> bool:
    """Whether an init container is a sidecar: with restartPolicy Always it keeps running."""
    return init_container.restart_policy == "Always"


def sidecars(spec: PodSpec) -> tuple[Container, ...]:
    """The sidecars, in the order in which they start."""
    if not spec.init_containers:
        return ()
    return tuple([container for container in spec.init_containers if is_sidecar(container)])


def long_running(spec: PodSpec) -> tuple[Container, ...]:
    """The containers that run at the same time in an initialized pod: the regular ones, then the
    sidecars."""
    return (*spec.containers, *sidecars(spec)) if spec.init_containers else spec.containers


def every_container(spec: PodSpec) -> tuple[Container, ...]:
    """The regular containers, then all init containers."""
    return (*spec.containers, *spec.init_containers) if spec.init_containers else spec.containers


def is_init(spec: PodSpec, container: Container) -> bool:
    """Whether the container is one of the pod's init containers, sidecars included."""
    return container in spec.init_containers if spec.init_containers else False


def find_container(spec: PodSpec, name: str) -> Container | None:
    """The container of this name, of any kind. Names are unique in a pod."""
    every = (*every_container(spec), *ephemeral_containers(spec))
    return next((one for one in every if one.name == name), None)


def ephemeral_containers(spec: PodSpec) -> tuple[Container, ...]:
    """The ephemeral containers as ordinary ones, without their targets."""
    if not spec.ephemeral_containers:
        return ()
    return tuple([as_container(one) for one in spec.ephemeral_containers or ()])


def as_container(ephemeral: EphemeralContainer) -> Container:
    """The fields that both kinds have."""
    return Container(**{name: getattr(ephemeral, name) for name in _SHARED})


_SHARED = tuple(
    [name for name in Container.__struct_fields__ if name in EphemeralContainer.__struct_fields__]
)


def field_path(spec: PodSpec | None, name: str) -> str:
    """The field path of a container for Events: `spec.containers{web}`."""
    kind = "containers"
    if spec is not None and (spec.init_containers or spec.ephemeral_containers):
        if any(one.name == name for one in spec.init_containers or ()):
            kind = "initContainers"
        elif any(one.name == name for one in spec.ephemeral_containers or ()):
            kind = "ephemeralContainers"
    return f"spec.{kind}{{{name}}}"
