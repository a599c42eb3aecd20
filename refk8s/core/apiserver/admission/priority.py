"""The priority of a pod, from its PriorityClass. Rules ADM-7, ADM-8 (spec/admission.md).

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from typing import Any

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import Request
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.context import Context

PREEMPTS = "PreemptLowerPriority"


def of_new(pod: Pod, store: Reader) -> dict[str, Any]:
    """ADM-7: value and preemption policy of the named class, else of the default class, else 0.
    Raises ApiError 403 if the pod has other values."""
    spec = pod.spec
    name = spec.priority_class_name
    if name:
        record = store.get(resources.PRIORITY_CLASSES.key("", name))
        if record is None:
            raise _forbidden(pod, f"no PriorityClass with name {name} was found")
        found: PriorityClass | None = record.value
    else:
        found = default_class(store)
    value, policy = (
        (0, PREEMPTS) if found is None else (found.value or 0, found.preemption_policy or PREEMPTS)
    )
    computed = "must not be provided in pod spec; priority admission controller computed"
    if spec.priority is not None and spec.priority != value:
        raise _forbidden(
            pod,
            f"the integer value of priority ({spec.priority}) {computed} {value} from the given PriorityClass name",
        )
    if spec.preemption_policy is not None and spec.preemption_policy != policy:
        words = f"the string value of PreemptionPolicy ({spec.preemption_policy}) {computed} {policy} from the given PriorityClass name"
        raise _forbidden(pod, words)
    changed: dict[str, Any] = {"priority": value, "preemption_policy": policy}
    if found is not None and not name:
        changed["priority_class_name"] = found.metadata.name
    return changed


def of_changed(new: Pod, old: Pod) -> dict[str, Any]:
    """ADM-7: an update that omits the computed values keeps them."""
    changed: dict[str, Any] = {}
    if new.spec.priority is None and old.spec.priority is not None:
        changed["priority"] = old.spec.priority
    if new.spec.preemption_policy is None and old.spec.preemption_policy is not None:
        changed["preemption_policy"] = old.spec.preemption_policy
    return changed


def _forbidden(pod: Pod, why: str) -> ApiError:
    return ApiError(status.forbidden(resources.PODS, pod.metadata.name or "", why))


def default_class(store: Reader) -> PriorityClass | None:
    """The class of pods that name none. Of several defaults (upstream can have them after a race)
    it is the one with the lowest value. O(classes)."""
    found: PriorityClass | None = None
    for record in store.list(resources.PRIORITY_CLASSES.prefix).records:
        candidate: PriorityClass = record.value
        if candidate.global_default and (
            found is None or (candidate.value or 0) < (found.value or 0)
        ):
            found = candidate
    return found


def admit_class(
    request: Request, new: PriorityClass, old: Any, store: Reader, context: Context
) -> PriorityClass:
    """ADM-8: at most one class is the default. Raises ApiError 403 for a second one."""
    if new.global_default:
        other = default_class(store)
        if other is not None and other.metadata.name != new.metadata.name:
            why = f"PriorityClass {other.metadata.name} is already marked as default. Only one default can exist"
            raise ApiError(
                status.forbidden(resources.PRIORITY_CLASSES, new.metadata.name or "", why)
            )
    return new
