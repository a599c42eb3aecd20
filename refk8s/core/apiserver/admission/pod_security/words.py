"""The violation of a check, and the parts of its sentence. Rule PSA-3 (spec/pod_security.md)."""

from collections.abc import Callable, Iterable, Sequence

from refk8s.core.api.core_v1 import Container, PodSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.pods.containers import ephemeral_containers

Violation = tuple[str, str]
"""(reason, detail) of a violated check, in Kubernetes' words."""

Check = Callable[[ObjectMeta, PodSpec], Violation | None]

WINDOWS = "windows"


def each_container(spec: PodSpec) -> tuple[Container, ...]:
    """Init containers, containers, ephemeral containers, in this order."""
    return (*(spec.init_containers or ()), *spec.containers, *ephemeral_containers(spec))


def quoted(names: Iterable[str]) -> str:
    return ", ".join(f'"{name}"' for name in names)


def plural(one: str, more: str, count: int) -> str:
    return one if count == 1 else more


def containers(names: Sequence[str]) -> str:
    return f"{plural('container', 'containers', len(names))} {quoted(names)}"


def setters(pod: bool, names: Sequence[str]) -> str:
    """The pod, the containers, or both, which set something."""
    return " and ".join((["pod"] if pod else []) + ([containers(names)] if names else []))


def is_windows(spec: PodSpec) -> bool:
    return spec.os is not None and spec.os.name == WINDOWS


def has_user_namespace(spec: PodSpec) -> bool:
    """Whether the pod runs in a user namespace, in which root is an ordinary user of the host."""
    return spec.host_users is False
