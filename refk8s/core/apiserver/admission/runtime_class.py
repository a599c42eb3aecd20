"""A pod gets the overhead, node selector and tolerations of its RuntimeClass. Rule ADM-31
(spec/admission.md).

Source: Kubernetes documentation, "Runtime Class" (scheduling), "Pod Overhead", "Admission Control
in Kubernetes" (RuntimeClass).
"""

from typing import TYPE_CHECKING, Any

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Pod, Toleration
from refk8s.core.api.node_v1 import RuntimeClass
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.validation.resources import amount

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange


def of_new(pod: Pod, store: Reader) -> dict[str, Any]:
    """ADM-31: the pod with the values of its class. Raises ApiError 403 if they contradict the
    pod's."""
    found = _class_of(pod, store)
    if found is None:
        return {}
    changed: dict[str, Any] = {}
    if found.overhead is not None:
        if pod.spec.overhead is not None and not _is_same(
            pod.spec.overhead, found.overhead.pod_fixed
        ):
            raise _forbidden(
                pod, "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
            )
        changed["overhead"] = found.overhead.pod_fixed
    if found.scheduling is not None:
        mine, theirs = pod.spec.node_selector or {}, found.scheduling.node_selector or {}
        for key, value in sorted(theirs.items()):
            if mine.get(key, value) != value:
                why = (
                    f"runtimeClass.scheduling.nodeSelector[{key}] = {value}; "
                    f"pod.spec.nodeSelector[{key}] = {mine[key]}"
                )
                raise _forbidden(pod, f"conflict: {why}")
        if theirs:
            changed["node_selector"] = {**mine, **theirs}
        if found.scheduling.tolerations:
            changed["tolerations"] = merge_tolerations(
                pod.spec.tolerations or (), found.scheduling.tolerations
            )
    return changed


def merge_tolerations(
    first: tuple[Toleration, ...], second: tuple[Toleration, ...]
) -> tuple[Toleration, ...]:
    """Both lists, without the tolerations that another one covers."""
    every = (*first, *second)
    merged: list[Toleration] = []
    for position, one in enumerate(every):
        later = [other for other in every[position + 1 :] if other != one and _covers(other, one)]
        if not later and not any(_covers(other, one) for other in merged):
            merged.append(one)
    return tuple(merged)


def _covers(wide: Toleration, narrow: Toleration) -> bool:
    """Whether `wide` matches every taint that `narrow` matches, for at least as long."""
    if wide == narrow:
        return True
    if (wide.key and wide.key != narrow.key) or (wide.effect and wide.effect != narrow.effect):
        return False
    if wide.toleration_seconds is not None and (
        narrow.toleration_seconds is None or narrow.toleration_seconds > wide.toleration_seconds
    ):
        return False
    match wide.operator or "Equal":
        case "Equal":
            return (narrow.operator or "Equal") == "Equal" and (narrow.value or "") == (
                wide.value or ""
            )
        case "Exists":
            return True
    return False


def check_overhead(exchange: "Exchange", new: Pod, old: Any) -> None:
    """ADM-31: a pod has the overhead of its class and no other. Raises ApiError 403. As upstream,
    this runs after validation."""
    if old is not None or new.spec.overhead is None:
        return
    found = _class_of(new, exchange.store)
    if found is None or found.overhead is None:
        raise _forbidden(
            new,
            "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead",
        )


def _class_of(pod: Pod, store: Reader) -> RuntimeClass | None:
    name = pod.spec.runtime_class_name
    if name is None:
        return None
    record = store.get(resources.RUNTIME_CLASSES.key("", name))
    if record is None:
        raise _forbidden(pod, f'pod rejected: RuntimeClass "{name}" not found')
    found: RuntimeClass = record.value
    return found


def _is_same(mine: dict[str, str], theirs: dict[str, str] | None) -> bool:
    return {name: amount(text) for name, text in mine.items()} == {
        name: amount(text) for name, text in (theirs or {}).items()
    }


def _forbidden(pod: Pod, why: str) -> ApiError:
    return ApiError(status.forbidden(resources.PODS, pod.metadata.name or "", why))
