"""The ResourceClaims of a pod in the scheduler: which nodes have devices for them, and how they are
written. Rules DRA-1, DRA-4, DRA-8 to DRA-11, DRA-19 (spec/devices.md).

    claim                       the pod
    not created, being deleted  is not tried
    unallocated                 runs on a node with devices for it; they are held from the decision on
    allocated                   runs on a node that reaches its devices
    reserved for 256 pods       waits
    devices are not ready       the pod is not bound yet

Source: Kubernetes documentation, "Dynamic Resource Allocation"; the plugin DynamicResources.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.request import Request, update_of
from refk8s.core.api.resources import DEVICE_CLASSES, PODS, RESOURCE_CLAIMS
from refk8s.core.context import Instant, parse_timestamp, timestamp
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import View
from refk8s.core.pods.devices import (
    CONSUMERS_MAX,
    FINALIZER,
    belongs_to,
    consumer,
    consumers,
    is_reserved_for,
)
from refk8s.core.scheduler.device_pools import (
    DeviceId,
    Inventory,
    Pools,
    held,
    id_of,
    is_lost,
    results_of,
    selects_node,
    shared,
)
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import NodeFacts, PodInfo
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import AllocationResult, Device, DeviceClass, ResourceClaim
    from refk8s.core.pods.device_selectors import SelectorProblem
    from refk8s.core.scheduler.capacity import Consumed
    from refk8s.core.scheduler.extended_devices import ExtendedClaims, Mapped

PLUGIN = "DynamicResources"
DEVICES = "devices"  # the name of the fold (cycle.py)

CANNOT_ALLOCATE = Refusal(PLUGIN, ("cannot allocate all claims",), False)
NOT_AVAILABLE = Refusal(PLUGIN, ("resourceclaim not available on the node",), False)
TIMED_OUT = Refusal(PLUGIN, ("timed out trying to allocate devices",), False)
IN_USE = "resourceclaim in use"

# what the search on one node costs at most, and on all nodes: so much, and so much for each (DRA-9)
STEPS_OF_NODE, UNITS_OF_NODE = 10_000, 500_000
STEPS, STEPS_PER_NODE = 100_000, 20
UNITS, UNITS_PER_NODE = 2_000_000, 1_000

VERDICTS_MAX = 100_000
"""How many results of expressions are kept."""
PODS_MAX = 64
"""For how many pods the results of nodes are kept."""

ALTERNATIVES_MAX = 8


class InFlight(Value, frozen=True, eq=False):
    """An allocation that is decided, until it is in the view: of this claim, for this pod.
    `claimed`: the claim, if it is to be created for extended resources, and `mapped`: which
    containers use it (DRA-24)."""

    claim: Key
    uid: str
    pod_uid: str
    allocation: AllocationResult
    claimed: ResourceClaim | None = None
    mapped: tuple[Mapped, ...] = ()

    @property
    def devices(self) -> list[DeviceId]:
        """The devices that it holds alone."""
        return held(results_of(self.allocation))

    @property
    def shares(self) -> dict[DeviceId, tuple[Consumed, ...]]:
        """The shares of devices that it holds."""
        return shared(results_of(self.allocation))


class _Result(Value, frozen=True, eq=False):
    """The result of one node, and what it has cost."""

    facts: NodeFacts
    found: Refusal | tuple[AllocationResult, ...]
    steps: int
    units: int


class Kept:
    """Results that are kept from one decision to the next (SCHED-17): dropping them changes only
    the duration."""

    def __init__(self) -> None:
        self.pools = Pools()
        self._verdicts: dict[tuple[str, str, int], tuple[Device, bool | SelectorProblem, int]] = {}
        self._nodes: dict[str, tuple[tuple[Any, ...], dict[str, _Result]]] = {}

    def selects(
        self, text: str, name: DeviceId, device: Device
    ) -> tuple[bool | SelectorProblem, int]:
        """Whether the expression selects the device, and what that costs, each time it is asked."""
        from refk8s.core.pods.device_selectors import (
            SelectorProblem,
            device_value,
            selects,
        )

        key = (text, name[0], id(device))
        kept = self._verdicts.get(key)
        if kept is not None:
            return kept[1], kept[2]
        found: tuple[bool | SelectorProblem, int]
        try:
            found = selects(text, device_value(name[0], device))
        except SelectorProblem as problem:
            found = problem, problem.units
        if len(self._verdicts) >= VERDICTS_MAX:
            self._verdicts.clear()
        self._verdicts[key] = (device, *found)  # with the device, so its id stays its own
        return found

    def results_of(self, uid: str, inputs: tuple[Any, ...]) -> dict[str, _Result]:
        """The results of the nodes for this pod, as long as these objects are the same."""
        kept = self._nodes.pop(uid, None)
        if kept is None or not all(a is b for a, b in zip(kept[0], inputs, strict=False)):
            kept = (inputs, {})
            while len(self._nodes) >= PODS_MAX:
                del self._nodes[next(iter(self._nodes))]
        self._nodes[uid] = kept
        return kept[1]


def why_not_created(view: View, pod: PodInfo) -> str:
    """DRA-1: why the pod is not tried yet, because of its claims; empty if it is."""
    for used in pod.devices:
        if not used.key:
            return f'pod "{pod.namespace}/{pod.name}": ResourceClaim not created yet'
        claim: ResourceClaim | None = view.get(RESOURCE_CLAIMS, used.key)
        if claim is None:
            return f'could not find ResourceClaim "{used.key}"'
        if claim.metadata.deletion_timestamp is not None:
            return f'resourceclaim "{claim.metadata.name}" is being deleted'
        if used.is_generated and not belongs_to(claim, pod.uid):
            return (
                f"ResourceClaim {used.key} was not created for pod {pod.namespace}/{pod.name} "
                "(pod is not owner)"
            )
    return ""


class Devices:
    """The claims of one pod, and what they mean for each node. `blocked`: why it runs on none."""

    def __init__(
        self,
        view: View,
        pod: PodInfo,
        in_flight: Map[Key, InFlight],
        kept: Kept,
        nodes: int,
    ) -> None:
        self.inventory: Inventory = view.fold(DEVICES)
        classes: Mapping[str, DeviceClass] = view.table(DEVICE_CLASSES).objects
        self.pod, self.kept, self.classes, self.in_flight = pod, kept, classes, in_flight
        self.claims: list[ResourceClaim] = []
        self.unallocated: list[ResourceClaim] = []
        self.unavailable: dict[Key, None] = {}  # allocated claims that a node does not reach
        self.extended: ExtendedClaims | None = None
        self.blocked = why_not_created(view, pod) or self._read(view) or self._read_extended(view)
        self._steps = STEPS + STEPS_PER_NODE * nodes
        self._units = UNITS + UNITS_PER_NODE * nodes
        self._seen: dict[str, Refusal | tuple[AllocationResult, ...]] = {}
        inputs = (self.inventory, classes, in_flight, *self.claims)
        self._results = {} if self.blocked else kept.results_of(pod.uid, inputs)
        self._taken = {device for one in in_flight.values() for device in one.devices}
        self._shares: dict[DeviceId, list[Consumed]] = {}
        for one in in_flight.values():
            for device, shares in one.shares.items():
                self._shares.setdefault(device, []).extend(shares)

    def _read(self, view: View) -> str:
        for used in self.pod.devices:
            claim: ResourceClaim | None = view.get(RESOURCE_CLAIMS, used.key)
            assert claim is not None  # why_not_created
            if any(claim is one for one in self.claims):
                continue
            self.claims.append(claim)
            if claim.status.allocation is not None:
                if len(consumers(claim)) >= CONSUMERS_MAX and not is_reserved_for(
                    claim, self.pod.uid
                ):
                    return IN_USE
                continue
            decided = self.in_flight.get(used.key)
            if decided is not None and decided.uid == claim.metadata.uid:
                return f"resource claim {used.key} is in the process of being allocated"
            if why := self._missing_class(claim):
                return why
            self.unallocated.append(claim)
        return ""

    def _read_extended(self, view: View) -> str:
        """DRA-23: the resources of the pod that classes provide."""
        if not self.pod.needs.backed:
            return ""
        from refk8s.core.scheduler.extended_devices import STALE, ExtendedClaims, claims_for

        pod = view.get(PODS, f"{self.pod.namespace}/{self.pod.name}")
        if pod is None or pod.metadata.uid != self.pod.uid:
            return "the pod is gone"
        if claims_for(view, self.pod.uid):
            return STALE
        self.extended = ExtendedClaims(pod, self.pod.needs.backed, self.classes)
        return ""

    def _missing_class(self, claim: ResourceClaim) -> str:
        for request in claim.spec.devices.requests or ():
            exactly = request.exactly
            names = [(request.name, exactly.device_class_name)] if exactly is not None else []
            names += [
                (f"{request.name}/{sub.name}", sub.device_class_name)
                for sub in request.first_available or ()
            ]
            for name, wanted_class in names:
                if wanted_class not in self.classes:
                    return f"request {name}: device class {wanted_class} does not exist"
        return ""

    # --- the nodes --------------------------------------------------------------------------------

    def refusal(self, facts: NodeFacts) -> Refusal | None:
        """Why the node cannot run the pod because of its claims (DRA-4)."""
        found = self._of_node(facts)
        if isinstance(found, Refusal):
            return found
        is_reached = True
        for claim in self.claims:
            allocation = claim.status.allocation
            selector = allocation.node_selector if allocation is not None else None
            if selector is not None and not selects_node(selector, facts):
                self.unavailable[f"{claim.metadata.namespace}/{claim.metadata.name}"] = None
                is_reached = False
        return None if is_reached else NOT_AVAILABLE

    def allocations(self, facts: NodeFacts) -> tuple[InFlight, ...]:
        """The allocations of the claims without one, on a node that can run the pod."""
        found = self._of_node(facts)
        if isinstance(found, Refusal):
            return ()
        decided = [
            InFlight(
                f"{claim.metadata.namespace}/{claim.metadata.name}",
                claim.metadata.uid or "",
                self.pod.uid,
                allocation,
            )
            for claim, allocation in zip(self.unallocated, found, strict=False)
        ]
        extended = self.extended.of_node(facts) if self.extended is not None else None
        if extended is not None:
            claim, mapped = extended
            key = f"{claim.metadata.namespace}/{claim.metadata.name} {self.pod.uid}"
            decided.append(InFlight(key, "", self.pod.uid, found[-1], claim, mapped))
        return tuple(decided)

    def _claims_on(self, facts: NodeFacts) -> list[ResourceClaim]:
        """The claims that need an allocation on this node."""
        extended = self.extended.of_node(facts) if self.extended is not None else None
        return [*self.unallocated, extended[0]] if extended is not None else self.unallocated

    def _of_node(self, facts: NodeFacts) -> Refusal | tuple[AllocationResult, ...]:
        if not self.unallocated and self.extended is None:
            return ()
        found = self._seen.get(facts.name)
        if found is None and (self._steps < 0 or self._units < 0):
            return TIMED_OUT
        if found is None:
            result = self._results.get(facts.name)
            if result is None or result.facts is not facts:
                result = self._results[facts.name] = self._allocate(facts)
            self._steps -= result.steps
            self._units -= result.units
            is_affordable = self._steps >= 0 and self._units >= 0
            found = self._seen[facts.name] = result.found if is_affordable else TIMED_OUT
        return found

    def _allocate(self, facts: NodeFacts) -> _Result:
        from refk8s.core.scheduler.devices import BadClaim, Effort, OutOfEffort, Taken, allocate

        effort = Effort(STEPS_OF_NODE, UNITS_OF_NODE)
        found: Refusal | tuple[AllocationResult, ...]
        claims = self._claims_on(facts)
        if not claims:
            return _Result(facts, (), 0, 0)
        try:
            found = (
                allocate(
                    claims,
                    self.kept.pools.of_node(self.inventory, facts),
                    self.classes.get,
                    Taken(self._is_taken, self._shares_of, tuple(self.inventory.rules.values())),
                    self.kept.selects,
                    effort,
                    facts.name,
                )
                or CANNOT_ALLOCATE
            )
        except BadClaim as problem:
            found = Refusal(PLUGIN, (str(problem),), False)
        except OutOfEffort:
            found = TIMED_OUT
        return _Result(facts, found, STEPS_OF_NODE - effort.steps, UNITS_OF_NODE - effort.units)

    def _is_taken(self, device: DeviceId) -> bool:
        return device in self.inventory.holders or device in self._taken

    def _shares_of(self, device: DeviceId) -> Sequence[Consumed]:
        stored, decided = self.inventory.shares_of(device), self._shares.get(device)
        return (*stored, *decided) if decided else stored

    def points(self, names: Iterable[NodeFacts]) -> dict[str, int]:
        """DRA-10: the points of each node: the earlier the alternatives of its requests, the more.
        Empty if no request has alternatives."""
        if not any(
            request.first_available
            for claim in self.unallocated
            for request in claim.spec.devices.requests or ()
        ):
            return {}
        scores = {facts.name: self._score(facts) for facts in names}
        most = max(scores.values(), default=0)
        return {name: 100 * score // most if most else 0 for name, score in scores.items()}

    def _score(self, facts: NodeFacts) -> int:
        score = 0
        found = self._of_node(facts)
        allocations = found if isinstance(found, tuple) else ()
        for claim, allocation in zip(self.unallocated, allocations, strict=False):
            names = {one.request for one in results_of(allocation)}
            for request in claim.spec.devices.requests or ():
                for number, sub in enumerate(request.first_available or ()):
                    if f"{request.name}/{sub.name}" in names:
                        score += ALTERNATIVES_MAX - number
        return score

    def releasable(self) -> tuple[Key, ...]:
        """DRA-11: the allocated claims that keep the pod from a node and that no other pod uses."""
        found = []
        for claim in self.claims:
            key = f"{claim.metadata.namespace}/{claim.metadata.name}"
            if key in self.unavailable and _is_unused(claim, self.pod.uid):
                found.append(key)
        return tuple(found[:1])


def _is_unused(claim: ResourceClaim, pod_uid: str) -> bool:
    return all(one.uid == pod_uid for one in consumers(claim))


def deallocations(view: View, keys: Sequence[Key], pod: PodInfo) -> tuple[Request, ...]:
    """DRA-11: the writes that free these claims, where the view still shows that only this pod uses
    them."""
    found: list[Request] = []
    for key in keys:
        claim: ResourceClaim | None = view.get(RESOURCE_CLAIMS, key)
        if claim is None or claim.status.allocation is None or not _is_unused(claim, pod.uid):
            continue
        freed = replace(claim.status, allocation=None, reserved_for=None)
        because = f"pod {pod.namespace}/{pod.name} can run on no node that its devices are on"
        found.append(update_of(RESOURCE_CLAIMS, replace(claim, status=freed), because, "status"))
    return tuple(found)


def reservations(
    view: View, pod: PodInfo, facts: NodeFacts, decided: Sequence[InFlight], now: Instant
) -> tuple[Request, ...] | None:
    """DRA-8: the next writes for the claims of a pod that was decided for this node: the finalizer,
    then the allocation and the reservation. Empty if all are done; None if the claims have changed
    so that the pod must be decided again."""
    inventory: Inventory = view.fold(DEVICES)
    by_key = {one.claim: one for one in decided}
    if why_not_created(view, pod):
        return None
    found: dict[Key, Request] = {}
    for used in pod.devices:
        claim: ResourceClaim | None = view.get(RESOURCE_CLAIMS, used.key)
        assert claim is not None  # why_not_created
        mine = by_key.get(used.key)
        allocation = claim.status.allocation
        if allocation is None:
            if (
                mine is None
                or mine.uid != claim.metadata.uid
                or is_lost(inventory, results_of(mine.allocation))
            ):
                return None
            allocation = replace(mine.allocation, allocation_timestamp=timestamp(now))
            if FINALIZER not in (claim.metadata.finalizers or ()):
                marks = (*(claim.metadata.finalizers or ()), FINALIZER)
                marked = replace(claim.metadata, finalizers=marks)
                because = f"devices are allocated to it for pod {pod.namespace}/{pod.name}"
                found[used.key] = update_of(
                    RESOURCE_CLAIMS, replace(claim, metadata=marked), because
                )
                continue
        elif mine is not None and replace(allocation, allocation_timestamp=None) != mine.allocation:
            return None
        selector = allocation.node_selector
        if selector is not None and not selects_node(selector, facts):
            return None
        if is_reserved_for(claim, pod.uid):
            continue
        if len(consumers(claim)) >= CONSUMERS_MAX:
            return None
        reserved = (*consumers(claim), consumer(pod.name, pod.uid))
        status = replace(claim.status, allocation=allocation, reserved_for=reserved)
        because = f"pod {pod.namespace}/{pod.name} runs on {facts.name}"
        found[used.key] = update_of(
            RESOURCE_CLAIMS, replace(claim, status=status), because, "status"
        )
    return tuple(found.values())


# --- devices that are not ready yet
# ----------------------------------------------------------------


def _claims_of(view: View, pod: PodInfo) -> list[ResourceClaim]:
    """The claims of the pod that exist, with the one for its extended resources."""
    named = [view.get(RESOURCE_CLAIMS, used.key) for used in pod.devices]
    extended = view.indexed(RESOURCE_CLAIMS, "extended", pod.uid) if pod.needs.backed else ()
    return [claim for claim in (*named, *extended) if claim is not None]


class Readiness(Value, frozen=True, eq=False):
    """Whether the devices of a pod are ready (DRA-19): all are, at the latest until when they must
    be, or why they will not be."""

    is_ready: bool = True
    until: Instant | None = None
    failure: str = ""


def readiness(view: View, pod: PodInfo, now: Instant, timeout: Instant) -> Readiness:
    """DRA-19: the binding conditions of the devices that are allocated to the pod."""
    until: Instant | None = None
    for claim in _claims_of(view, pod):
        allocation = claim.status.allocation
        if allocation is None:
            continue
        is_ready, failure = _is_ready(claim)
        if failure:
            return Readiness(False, None, failure)
        if is_ready:
            continue
        since = allocation.allocation_timestamp
        latest = (parse_timestamp(since) if since else now) + timeout
        if now >= latest:
            return Readiness(False, None, f"claim {claim.metadata.name} binding timeout")
        until = latest if until is None else min(until, latest)
    return Readiness(until is None, until)


def _is_ready(claim: ResourceClaim) -> tuple[bool, str]:
    """Whether all binding conditions are true, or which failure condition is."""
    statuses = {
        (id_of(one), one.share_id): one.conditions or () for one in claim.status.devices or ()
    }
    is_ready = True
    for result in results_of(claim.status.allocation):
        if not result.binding_conditions:
            continue
        told = statuses.get((id_of(result), result.share_id), ())
        true = {one.type: one for one in told if one.status == "True"}
        for name in result.binding_failure_conditions or ():
            if name in true:
                why = f"reason={true[name].reason}, message={json.dumps(true[name].message)}"
                return False, f"claim {claim.metadata.name} binding failed: {why}"
        is_ready = is_ready and all(name in true for name in result.binding_conditions)
    return is_ready, ""


def given_back(view: View, pod: PodInfo) -> tuple[Request, ...]:
    """DRA-19: the writes that end the reservations of a pod whose devices do not become ready; of a
    claim that no other pod uses, the allocation ends too."""
    found: dict[str, Request] = {}
    for claim in _claims_of(view, pod):
        if not is_reserved_for(claim, pod.uid):
            continue
        rest = tuple([one for one in consumers(claim) if one.uid != pod.uid])
        allocation = claim.status.allocation if rest else None
        status = replace(claim.status, reserved_for=rest or None, allocation=allocation)
        because = f"devices for pod {pod.namespace}/{pod.name} do not become ready"
        found[claim.metadata.uid or ""] = update_of(
            RESOURCE_CLAIMS, replace(claim, status=status), because, "status"
        )
    return tuple(found.values())
