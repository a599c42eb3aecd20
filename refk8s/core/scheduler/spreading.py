"""Which pods are spread together by default: those of the same Services and owner. Rule SCHED-27
(spec/scheduler.md).

The *group* of a pod is a selector: the selectors of all Services that select the pod, and that of
the ReplicaSet, ReplicationController or StatefulSet that controls it. A pod that none of them
selects has no group. Source: Kubernetes documentation, "Pod Topology Spread Constraints" (built-in
default constraints); the selector is computed as kube-scheduler computes it.
"""

from typing import Any

from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.api.resources import REPLICATION_CONTROLLERS, SERVICES
from refk8s.core.api.selector import Requirement, Selector, SelectorError, from_label_selector
from refk8s.core.loop.view import View
from refk8s.core.pods.services import services_selecting
from refk8s.core.scheduler.snapshot import Group, PodInfo
from refk8s.core.value import evolve

GROUPS_MAX = 4_096  # cached groups


def group_of(view: View, pod: PodInfo) -> Group | None:
    """The group of the pod; None if nothing selects it. O(labels and Services that select it)."""
    labels: dict[str, str] = {}
    for service in services_selecting(view, pod.namespace, pod.labels):
        labels.update(service.spec.selector or {})
    stated = _stated(view, pod)
    requirements: list[Requirement] = []
    if isinstance(stated, dict):
        labels.update(stated)
    elif stated is not None:
        requirements += _selector(stated).requirements
    requirements += [Requirement(key, "=", (text,)) for key, text in labels.items()]
    if not requirements:
        return None
    ordered = sorted(dict.fromkeys(requirements), key=lambda one: (one.key, one.operator))
    return Group(pod.namespace, Selector(tuple(ordered)))


def _stated(view: View, pod: PodInfo) -> Any:
    """The selector of the pod's owner; None without one."""
    if pod.owner is None:
        return None
    resource, key = pod.owner
    owner = view.get(resource, key)
    if owner is None or owner.spec is None or not owner.spec.selector:
        return None
    return dict(owner.spec.selector) if resource == REPLICATION_CONTROLLERS else owner.spec.selector


def _selector(stated: LabelSelector) -> Selector:
    """The selector of an owner; an invalid one counts as absent."""
    try:
        return from_label_selector(stated)
    except SelectorError:
        return Selector()


class Groups:
    """The groups of pods, cached while the Services and the selector of the owner stay the same."""

    def __init__(self) -> None:
        self._services: Any = None
        self._kept: dict[Any, tuple[Any, Group | None]] = {}  # with the selector of the owner

    def of(self, view: View, pod: PodInfo) -> PodInfo:
        """The pod with its group. A pod with constraints of its own needs none (SCHED-33)."""
        if pod.needs.constraints:
            return pod
        services = view.table(SERVICES).objects
        if services is not self._services:
            self._services = services
            self._kept.clear()
        if pod.owner is None and not len(services):
            return pod if pod.group is None else evolve(pod, group=None)
        key = (pod.namespace, pod.owner, *pod.labels.items())
        stated = _stated(view, pod)
        kept = self._kept.get(key)
        if kept is None or kept[0] != stated:
            if len(self._kept) >= GROUPS_MAX:
                del self._kept[next(iter(self._kept))]
            kept = self._kept[key] = (stated, group_of(view, pod))
        group = kept[1]
        return pod if group is pod.group or group == pod.group else evolve(pod, group=group)
