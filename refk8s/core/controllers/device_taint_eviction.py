"""Device taint eviction: pods whose devices have a NoExecute taint that is not tolerated are
deleted, and DeviceTaintRules say how far that is. Rules DRA-20 to DRA-22 (spec/devices.md).

    claim is allocated, device tainted -> its pods are due at timeAdded + tolerationSeconds
    due                                -> condition DisruptionTarget, then deletion
    taint or reservation is gone       -> cancelled
    DeviceTaintRule                    -> its condition EvictionInProgress

Source: KEP-5055 "DRA: device taints and tolerations"; the device taint eviction controller.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.core_v1 import Pod
from refk8s.core.api.request import update_of
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    PODS,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
)
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.state import Item
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.pods.device_taints import end_of_use, selects_device
from refk8s.core.pods.devices import all_claims, belongs_to, consumers, is_reserved_for
from refk8s.core.pods.requests import delete_pod, patch_status
from refk8s.core.pods.status import disruption_target, is_finished
from refk8s.core.pods.tolerations import NO_EXECUTE
from refk8s.core.value import Value, evolve

if TYPE_CHECKING:
    from refk8s.core.api.meta_v1 import Condition
    from refk8s.core.api.resource_v1 import (
        DeviceRequestAllocationResult,
        DeviceTaint,
        DeviceTaintRule,
        ResourceClaim,
        ResourceSlice,
    )

NAME = "device-taint-eviction-controller"
OF_POD, OF_RULE = "pod ", "rule "
NO_EFFECT = "None"
IN_PROGRESS = "EvictionInProgress"
EVENT = "DeviceTaintManagerEviction"
STATUS_PERIOD: Instant = 10 * SECOND
"""The status of a rule is written at most once in this time, unless its spec has changed."""


class Trouble(NamedTuple):
    """A taint that a pod does not tolerate for ever: when the pod is to be deleted, and the uid of
    the rule that the taint is from; empty if it is from a ResourceSlice."""

    end: Instant
    rule: str


class Pending(Value, frozen=True, eq=False):
    """A pod that is to be deleted: since when that is known, for the taints of which rules, and
    whether its deletion has been requested."""

    uid: str
    since: Instant
    rules: tuple[str, ...]
    is_requested: bool = False


class Memory(Value, frozen=True, eq=False):
    """What this instance knows: the pods to delete, and by uid of a rule how many it has deleted,
    and when it has written the status."""

    pods: Map[Key, Pending] = Map()
    deleted: Map[str, int] = Map()
    written: Map[str, Instant] = Map()


# --- which keys a change concerns -----------------------------------------------------------------


def _of_pod(view: View, old: Pod | None, new: Pod | None) -> tuple[Key, ...]:
    pod = new if new is not None else old
    assert pod is not None
    return (OF_POD + key_of(pod),) if all_claims(pod) else ()


def _of_claim(view: View, old: ResourceClaim | None, new: ResourceClaim | None) -> list[Key]:
    return _pods_of([claim for claim in (old, new) if claim is not None])


def _of_slice(view: View, old: ResourceSlice | None, new: ResourceSlice | None) -> list[Key]:
    pools = dict.fromkeys(_pool(one) for one in (old, new) if one is not None)
    return _pods_of(
        [claim for pool in pools for claim in view.indexed(RESOURCE_CLAIMS, "pool", pool)]
    )


def _of_rule(view: View, old: DeviceTaintRule | None, new: DeviceTaintRule | None) -> list[Key]:
    keys = [OF_RULE + key_of(new if new is not None else old)]
    if old is not None and new is not None and old.spec == new.spec:
        return keys
    rules = [one for one in (old, new) if one is not None]
    return keys + _pods_of(
        [
            claim
            for claim in view.list(RESOURCE_CLAIMS)
            if any(_is_about(rule, one) for rule in rules for one in _results(claim))
        ]
    )


def _pods_of(claims: Iterable[ResourceClaim]) -> list[Key]:
    """The keys of the pods for which these claims are reserved."""
    keys = {
        f"{OF_POD}{claim.metadata.namespace}/{one.name}": None
        for claim in claims
        for one in consumers(claim)
        if one.resource == "pods" and not one.api_group
    }
    return list(keys)


def _pool(one: ResourceSlice) -> str:
    return f"{one.spec.driver}/{one.spec.pool.name}"


def _pools(claim: ResourceClaim) -> list[str]:
    return list({f"{one.driver}/{one.pool}": None for one in _results(claim)})


def _results(claim: ResourceClaim) -> tuple[DeviceRequestAllocationResult, ...]:
    allocation = claim.status.allocation
    return (allocation.devices.results or ()) if allocation is not None else ()


def _is_about(rule: DeviceTaintRule, one: DeviceRequestAllocationResult) -> bool:
    return selects_device(rule, one.driver, one.pool, one.device)


class DeviceTaintEviction(Reconciler):
    """Reconciles one pod, or one DeviceTaintRule."""

    name = component = NAME
    interests = (
        Interest(PODS, _of_pod),
        Interest(RESOURCE_CLAIMS, _of_claim),
        Interest(RESOURCE_SLICES, _of_slice),
        Interest(DEVICE_TAINT_RULES, _of_rule),
    )
    indexes = (
        Index("pool", RESOURCE_CLAIMS, _pools, lambda claim: claim.status.allocation),
        Index("pool", RESOURCE_SLICES, lambda one: [_pool(one)], lambda one: one.spec),
    )

    def start_memory(self, now: Instant) -> Memory:
        return Memory()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        if key.startswith(OF_RULE):
            return self._of_rule(view, key.removeprefix(OF_RULE), now, local.memory)
        return self._of_pod(view, key.removeprefix(OF_POD), now, local.memory)

    # --- a pod ------------------------------------------------------------------------------------

    def _of_pod(self, view: View, key: Key, now: Instant, memory: Memory) -> Plan:
        # Observe
        pod: Pod | None = view.get(PODS, key)
        known = memory.pods.get(key)
        is_leaving = pod is None or pod.metadata.deletion_timestamp is not None
        if known is not None and (is_leaving or pod.metadata.uid != known.uid):  # type: ignore[union-attr]
            return self._has_left(view, key, memory, known)
        if pod is None or is_leaving:
            return NOTHING

        # Decide
        since = known.since if known is not None else now
        found = list(_troubles(view, pod, _evicting_rules(view), since))
        if not found:
            return _cancelled(view, pod, key, memory, known)
        at, rules = min(one.end for one in found), _rules_of(found)
        pending = Pending(pod.metadata.uid or "", since, rules, at <= now)
        memory = evolve(memory, pods=memory.pods.set(key, pending))
        is_new = known is None or known.rules != rules
        concerned = (
            _items(view, (*rules, *(known.rules if known is not None else ()))) if is_new else ()
        )
        if at > now:
            return Plan(memory=memory, wake_at=at, enqueue=concerned)

        # Act
        condition = disruption_target(
            pod,
            "DeletionByDeviceTaintManager",
            "Device Taint manager: deleting due to NoExecute taint",
            now,
        )
        because = "it uses a device with a taint that it does not tolerate"
        marking = patch_status(pod, {"conditions": [condition]}, because)
        notes = (Note(pod, EVENT, "Marking for deletion"),)
        waves = ((marking,), (delete_pod(pod, because),))
        return Plan(waves, notes=notes, memory=memory, enqueue=concerned)

    def _has_left(self, view: View, key: Key, memory: Memory, known: Pending) -> Plan:
        """The pod is gone, or being deleted: count it, if this instance has deleted it."""
        memory = evolve(memory, pods=memory.pods.delete(key))
        if known.is_requested:
            counts = memory.deleted
            for rule in known.rules:
                counts = counts.set(rule, counts.get(rule, 0) + 1)
            memory = evolve(memory, deleted=counts)
        own = ((self.name, OF_POD + key),)  # another pod may have its name
        return Plan(memory=memory, enqueue=(*own, *_items(view, known.rules)))

    # --- a rule -----------------------------------------------------------------------------------

    def _of_rule(self, view: View, key: Key, now: Instant, memory: Memory) -> Plan:
        # Observe
        rule: DeviceTaintRule | None = view.get(DEVICE_TAINT_RULES, key)
        if rule is None:
            return _forget(view, memory)
        uid, generation = rule.metadata.uid or "", rule.metadata.generation
        conditions = rule.status.conditions or ()
        known = next((one for one in conditions if one.type == IN_PROGRESS), None)
        if known is not None and known.observed_generation == generation:
            again_at = memory.written.get(uid, now - STATUS_PERIOD) + STATUS_PERIOD
            if rule.spec.taint.effect == NO_EFFECT:
                return NOTHING  # DRA-22: once for each spec
            if again_at > now:
                return Plan(wake_at=again_at)

        # Decide
        condition = _condition(view, rule, memory.deleted.get(uid, 0), known, now)
        if condition == known:
            return NOTHING

        # Act
        others = tuple([one for one in conditions if one.type != IN_PROGRESS])
        status = replace(rule.status, conditions=(*others, condition))
        because = f"pods that it evicts: {condition.reason}"
        write = update_of(DEVICE_TAINT_RULES, replace(rule, status=status), because, "status")
        return Plan(((write,),), memory=evolve(memory, written=memory.written.set(uid, now)))


def _cancelled(view: View, pod: Pod, key: Key, memory: Memory, known: Pending | None) -> Plan:
    """The pod need not be deleted any more."""
    if known is None:
        return NOTHING
    notes = (Note(pod, EVENT, "Cancelling deletion"),)
    memory = evolve(memory, pods=memory.pods.delete(key))
    return Plan(notes=notes, memory=memory, enqueue=_items(view, known.rules))


def _forget(view: View, memory: Memory) -> Plan:
    """What is known of rules that no longer exist."""
    there = {rule.metadata.uid for rule in view.list(DEVICE_TAINT_RULES)}
    if there.issuperset(memory.deleted) and there.issuperset(memory.written):
        return NOTHING
    deleted = Map({uid: count for uid, count in memory.deleted.items() if uid in there})
    written = Map({uid: at for uid, at in memory.written.items() if uid in there})
    return Plan(memory=evolve(memory, deleted=deleted, written=written))


def _rules_of(found: Iterable[Trouble]) -> tuple[str, ...]:
    return tuple(sorted({one.rule for one in found if one.rule}))


def _items(view: View, rules: Iterable[str]) -> tuple[Item, ...]:
    """The keys of the rules with these uids."""
    uids = set(rules)
    if not uids:
        return ()
    named = [key_of(one) for one in view.list(DEVICE_TAINT_RULES) if one.metadata.uid in uids]
    return tuple([(NAME, OF_RULE + key) for key in named])


# --- which pods are to be deleted -----------------------------------------------------------------


def _evicting_rules(view: View) -> list[DeviceTaintRule]:
    return [one for one in view.list(DEVICE_TAINT_RULES) if one.spec.taint.effect == NO_EXECUTE]


def _troubles(
    view: View, pod: Pod, rules: Iterable[DeviceTaintRule], since: Instant
) -> Iterator[Trouble]:
    """DRA-21: the NoExecute taints of the devices of a pod that it does not tolerate for ever."""
    if not pod.spec.node_name or is_finished(pod):
        return
    uid = pod.metadata.uid or ""
    for used in all_claims(pod):
        claim: ResourceClaim | None = view.get(RESOURCE_CLAIMS, used.key)
        if (
            claim is None
            or (used.is_generated and not belongs_to(claim, uid))
            or not is_reserved_for(claim, uid)
        ):
            continue
        for result in _results(claim):
            for taint, rule in _taints(view, result, rules):
                end = end_of_use(taint, result.tolerations or (), since)
                if end is not None:
                    yield Trouble(end, rule)


def _taints(
    view: View, one: DeviceRequestAllocationResult, rules: Iterable[DeviceTaintRule]
) -> Iterator[tuple[DeviceTaint, str]]:
    """The NoExecute taints of an allocated device, and the uids of their rules."""
    for each in _newest(view, f"{one.driver}/{one.pool}"):
        for device in each.spec.devices or ():
            if device.name == one.device:
                for taint in device.taints or ():
                    if taint.effect == NO_EXECUTE:
                        yield taint, ""
    for rule in rules:
        if _is_about(rule, one):
            yield rule.spec.taint, rule.metadata.uid or ""


def _newest(view: View, pool: str) -> list[ResourceSlice]:
    """The slices of the newest generation of a pool."""
    slices: list[ResourceSlice] = list(view.indexed(RESOURCE_SLICES, "pool", pool))
    newest = max((one.spec.pool.generation for one in slices), default=0)
    return [one for one in slices if one.spec.pool.generation == newest]


# --- the status of a rule -------------------------------------------------------------------------


def _condition(
    view: View, rule: DeviceTaintRule, deleted: int, known: Condition | None, now: Instant
) -> Condition:
    """DRA-22: how far the evictions of the rule are. Unchanged, if it says the same."""
    from refk8s.core.api.meta_v1 import Condition

    effect = rule.spec.taint.effect
    is_true, message = False, ""
    if effect == NO_EXECUTE:
        pods, namespaces = _pending(view, rule, now)
        is_true = pods > 0
        reason = "PodsPendingEviction" if pods else "Completed" if deleted else "NotStarted"
        if pods:
            needs = "1 pod needs" if pods == 1 else f"{pods} pods need"
            where = "1 namespace" if namespaces == 1 else f"{namespaces} different namespaces"
            message = f"{needs} to be evicted in {where}."
    elif effect == NO_EFFECT:
        reason, message = "NoEffect", _preview(view, rule, now)
    else:
        reason = "OtherEffect"
        message = "Eviction only happens for the NoExecute effect."
    if deleted:
        since = f"{_counted(deleted, 'pod')} evicted since starting the controller."
        message = f"{message} {since}".strip()
    found = Condition(
        type=IN_PROGRESS,
        status="True" if is_true else "False",
        reason=reason,
        message=message,
        observed_generation=rule.metadata.generation,
        last_transition_time=known.last_transition_time if known is not None else None,
    )
    return found if found == known else replace(found, last_transition_time=timestamp(now))


def _pending(view: View, rule: DeviceTaintRule, now: Instant) -> tuple[int, int]:
    """How many pods the rule, with the effect NoExecute, has yet to evict, and in how many
    namespaces. O(claims)."""
    taint = replace(rule.spec.taint, effect=NO_EXECUTE)
    evicting = [replace(rule, spec=replace(rule.spec, taint=taint))]
    keys: dict[Key, None] = {}
    for claim in view.list(RESOURCE_CLAIMS):
        if any(_is_about(rule, one) for one in _results(claim)):
            keys |= dict.fromkeys(_pods_of([claim]))
    namespaces: list[str] = []
    for key in keys:
        pod: Pod | None = view.get(PODS, key.removeprefix(OF_POD))
        if pod is None or pod.metadata.deletion_timestamp is not None:
            continue
        if any(one.rule for one in _troubles(view, pod, evicting, now)):
            namespaces.append(pod.metadata.namespace or "")
    return len(namespaces), len(set(namespaces))


def _preview(view: View, rule: DeviceTaintRule, now: Instant) -> str:
    """What the rule would do with the effect NoExecute. O(slices and claims)."""
    pools = {_pool(one): None for one in view.list(RESOURCE_SLICES)}
    published = sum(
        selects_device(rule, one.spec.driver, one.spec.pool.name, device.name)
        for pool in pools
        for one in _newest(view, pool)
        for device in one.spec.devices or ()
    )
    claims: Any = view.list(RESOURCE_CLAIMS)
    allocated = sum(_is_about(rule, one) for claim in claims for one in _results(claim))
    pods, namespaces = _pending(view, rule, now)
    where = "1 namespace" if namespaces == 1 else f"{namespaces} different namespaces"
    return (
        f"{_counted(published, 'published device')} selected. "
        f"{_counted(allocated, 'allocated device')} selected. "
        f"{_counted(pods, 'pod')} would be evicted in {where} if the effect was NoExecute. "
        "This information will not be updated again. "
        "Recreate the DeviceTaintRule to trigger an update."
    )


def _counted(number: int, noun: str) -> str:
    return f"1 {noun}" if number == 1 else f"{number} {noun}s"
