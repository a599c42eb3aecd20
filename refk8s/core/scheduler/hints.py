"""Which keys of the scheduler a change concerns, except those of pods. Rules SCHED-19, SCHED-40
(spec/scheduler.md).
"""

from typing import Any

from refk8s.core.api.resources import (
    CSI_NODES,
    DEVICE_CLASSES,
    DEVICE_TAINT_RULES,
    NAMESPACES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    POD_DISRUPTION_BUDGETS,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    SERVICES,
    STORAGE_CLASSES,
    VOLUME_ATTACHMENTS,
)
from refk8s.core.loop.plan import Key
from refk8s.core.loop.reconciler import Interest, no_keys
from refk8s.core.loop.view import View, key_of
from refk8s.core.pods.devices import extended_owner
from refk8s.core.scheduler.snapshot import SPREAD_OWNERS, facts_of

SCHEDULE: Key = "schedule"


def keys_of_claim(view: View, old: Any, new: Any) -> list[Key]:
    """The pods that wait for the claim, and those that no node can run."""
    claim = new if new is not None else old
    return [SCHEDULE, *view.indexed_keys(PODS, "claim", key_of(claim))]


def keys_of_resource_claim(view: View, old: Any, new: Any) -> list[Key]:
    """The pods that use the claim, and those that no node can run."""
    claim = new if new is not None else old
    found = [SCHEDULE, *view.indexed_keys(PODS, "resource_claim", key_of(claim))]
    if extended_owner(claim):  # DRA-25: the pod's status may not name it yet
        owners = claim.metadata.owner_references or ()
        found += [f"{claim.metadata.namespace}/{one.name}" for one in owners if one.controller]
    return found


def keys_of_any(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    return (SCHEDULE,)


def keys_of_namespace(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    """Only a change of a namespace's labels matters."""
    return (
        (SCHEDULE,)
        if old is not None and new is not None and old.metadata.labels != new.metadata.labels
        else ()
    )


def keys_of_node(view: View, old: Any, new: Any) -> tuple[Key, ...]:
    """A heartbeat makes no key due."""
    return (
        ()
        if old is not None and new is not None and facts_of(old) == facts_of(new)
        else (SCHEDULE,)
    )


INTERESTS = (
    Interest(NODES, keys_of_node),
    Interest(NAMESPACES, keys_of_namespace),
    # SCHED-38: read when victims are chosen
    Interest(POD_DISRUPTION_BUDGETS, no_keys),
    Interest(PERSISTENT_VOLUME_CLAIMS, keys_of_claim),
    Interest(PERSISTENT_VOLUMES, keys_of_any, while_any=PERSISTENT_VOLUME_CLAIMS),
    Interest(STORAGE_CLASSES, keys_of_any, while_any=PERSISTENT_VOLUME_CLAIMS),
    Interest(CSI_NODES, keys_of_any, while_any=PERSISTENT_VOLUME_CLAIMS),
    Interest(VOLUME_ATTACHMENTS, keys_of_any, while_any=PERSISTENT_VOLUME_CLAIMS),
    Interest(RESOURCE_CLAIMS, keys_of_resource_claim),
    Interest(DEVICE_CLASSES, keys_of_any),
    # without a class no device is allocated
    Interest(RESOURCE_SLICES, keys_of_any, while_any=DEVICE_CLASSES),
    Interest(DEVICE_TAINT_RULES, keys_of_any, while_any=DEVICE_CLASSES),
    *[Interest(resource, no_keys) for resource in (SERVICES, *SPREAD_OWNERS.values())],
)
"""What the scheduler watches besides pods."""
