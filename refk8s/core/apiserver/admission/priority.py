"""The priority of a pod, from its PriorityClass. Rules ADM-7, ADM-8 (spec/admission.md).

Source: Kubernetes documentation, "Pod Priority and Preemption".
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import Pod, PodSpec
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.configurations import Kept
from refk8s.core.apiserver.outcome import Reader

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

PREEMPTS = "PreemptLowerPriority"


def class_of_new(pod: Pod, store: Reader) -> PriorityClass | None:
    """ADM-7: the class that the pod names, else the default class, if there is one. Raises ApiError
    403 if the pod has other values than its class."""
    spec = pod.spec
    name = spec.priority_class_name
    if name:
        record = store.get(resources.PRIORITY_CLASSES.key("", name))
        if record is None:
            raise _forbidden(pod, f"no PriorityClass with name {name} was found")
        found: PriorityClass | None = record.value
    else:
        found = default_class(store)
    if spec.priority is None and spec.preemption_policy is None:
        return found
    value, policy = _value_and_policy(found)
    computed = "must not be provided in pod spec; priority admission controller computed"
    if spec.priority is not None and spec.priority != value:
        raise _forbidden(
            pod,
            f"the integer value of priority ({spec.priority}) {computed} {value} from the given "
            "PriorityClass name",
        )
    if spec.preemption_policy is not None and spec.preemption_policy != policy:
        words = (
            f"the string value of PreemptionPolicy ({spec.preemption_policy}) {computed} {policy} "
            "from the given PriorityClass name"
        )
        raise _forbidden(pod, words)
    return found


def _value_and_policy(found: PriorityClass | None) -> tuple[int, str]:
    if found is None:
        return 0, PREEMPTS
    return found.value or 0, found.preemption_policy or PREEMPTS


def of_new(spec: PodSpec, found: PriorityClass | None) -> dict[str, Any]:
    """ADM-7: value and preemption policy of this class; 0 without one."""
    value, policy = _value_and_policy(found)
    changed: dict[str, Any] = {"priority": value, "preemption_policy": policy}
    if found is not None and not spec.priority_class_name:
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
    it is the one with the lowest value. O(classes) after a change of a class."""
    return _DEFAULT.of(store)


def _find_default(kept: tuple[Sequence[PriorityClass], ...]) -> PriorityClass | None:
    found: PriorityClass | None = None
    for candidate in kept[0]:
        if candidate.global_default and (
            found is None or (candidate.value or 0) < (found.value or 0)
        ):
            found = candidate
    return found


_DEFAULT: Final[Kept[PriorityClass | None]] = Kept((resources.PRIORITY_CLASSES,), _find_default)


def check_class(exchange: "Exchange", new: PriorityClass, old: Any) -> None:
    """ADM-8: at most one class is the default. Raises ApiError 403 for a second one, and for a new
    one with the name of the default."""
    other = default_class(exchange.store) if new.global_default else None
    if other is None or (old is not None and other.metadata.name == new.metadata.name):
        return
    why = (
        f"PriorityClass {other.metadata.name} is already marked as default. "
        "Only one default can exist"
    )
    raise ApiError(status.forbidden(resources.PRIORITY_CLASSES, new.metadata.name or "", why))
