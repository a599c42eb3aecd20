"""The resize of a pod: which changes of its containers' resources are allowed. Rule RESIZE-2
(spec/resize.md).

Source: Kubernetes documentation, "Resize CPU and Memory Resources assigned to Containers";
KEP-1287.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from refk8s.core.api.core_v1 import Container, Pod
from refk8s.core.apiserver.validation.field import WHOLE, Causes, forbidden, invalid
from refk8s.core.apiserver.validation.pod import validate_pod
from refk8s.core.pods.containers import is_sidecar
from refk8s.core.pods.qos import compute_qos_class
from refk8s.core.pods.references import MIRROR_ANNOTATION
from refk8s.core.pods.resize import RESIZED

_NONE: dict[str, str] = {}


def validate_resize(new: Pod, old: Pod) -> Causes:
    """RESIZE-2: the causes of a resize that is not allowed."""
    if new.spec == old.spec:
        return []
    causes = validate_pod(new)
    if MIRROR_ANNOTATION in (old.metadata.annotations or {}):
        return [forbidden(WHOLE, "static pods cannot be resized")]
    if old.spec.os is not None and old.spec.os.name == "windows":
        return [forbidden(WHOLE, "windows pods cannot be resized")]
    if old.status.qos_class != compute_qos_class(new.spec):
        words = "Pod QOS Class may not change as a result of resizing"
        causes.append(invalid("spec", old.status.qos_class or "", words))
    if not _can_be_resized(old):
        causes.append(forbidden("spec", "Pod running on node without support for resize"))
    pairs = (
        ("initContainers", new.spec.init_containers or (), old.spec.init_containers or ()),
        ("containers", new.spec.containers, old.spec.containers),
    )
    for field, after, before in pairs:
        causes += _removals(f"spec.{field}", after, before)
    if any(
        _other_changes(after, before, of_init=field == "initContainers")
        for field, after, before in pairs
    ):
        causes.append(forbidden("spec", "only cpu and memory resources are mutable"))
    return causes


def _can_be_resized(pod: Pod) -> bool:
    """Whether the kubelet of a running pod reports resources. Of a pod that does not run yet, it is
    assumed."""
    for status in pod.status.container_statuses or ():
        if status.state.running is not None:
            return status.resources is not None
    return True


def _removals(at: str, after: Sequence[Container], before: Sequence[Container]) -> Causes:
    causes: Causes = []
    for position, (new, old) in enumerate(zip(after, before, strict=True)):
        here = f"{at}[{position}].resources"
        for part in ("requests", "limits"):
            had: Mapping[str, str] = getattr(old.resources, part) or _NONE
            has: Mapping[str, str] = getattr(new.resources, part) or _NONE
            if any(name not in has for name in had):
                causes.append(forbidden(f"{here}.{part}", f"resource {part} cannot be removed"))
    return causes


def _other_changes(
    after: Sequence[Container], before: Sequence[Container], *, of_init: bool
) -> bool:
    """Whether anything but CPU and memory of regular containers and sidecars has changed."""
    return any(
        new != old
        and ((of_init and not is_sidecar(old)) or _without_resized(new) != _without_resized(old))
        for new, old in zip(after, before, strict=True)
    )


def _without_resized(container: Container) -> Container:
    resources = container.resources
    return replace(
        container,
        resources=replace(
            resources,
            requests=_rest(resources.requests),
            limits=_rest(resources.limits),
        ),
    )


def _rest(texts: Mapping[str, str] | None) -> dict[str, str] | None:
    return (
        {name: texts[name] for name in sorted(texts) if name not in RESIZED} or None
        if texts
        else None
    )
