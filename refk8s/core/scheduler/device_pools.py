"""The devices of the cluster: the pools of the ResourceSlices, and which devices are allocated.
Rules DRA-2, DRA-5, DRA-17, DRA-18, DRA-20 (spec/devices.md).

A pool is all slices of one driver with one pool name and the newest generation. The inventory is a
fold over slices and claims, so a decision reads only the pools of the nodes that it looks at.
Source: Kubernetes documentation, "Dynamic Resource Allocation" (ResourceSlice); API reference,
"ResourceSlice", "DeviceTaintRule".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from immutables import Map

from refk8s.core.api.core_v1 import NodeSelector
from refk8s.core.api.quantity import parse
from refk8s.core.api.resources import (
    DEVICE_TAINT_RULES,
    RESOURCE_CLAIMS,
    RESOURCE_SLICES,
    Resource,
)
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import key_of
from refk8s.core.pods.node_affinity import term_matches
from refk8s.core.scheduler.capacity import (
    Consumed,
    CounterId,
    consumed_of,
    counters_of,
    is_within,
)
from refk8s.core.scheduler.snapshot import NodeFacts
from refk8s.core.value import Value, evolve

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import (
        AllocatedDeviceStatus,
        Device,
        DeviceRequestAllocationResult,
        DeviceTaintRule,
        ResourceSlice,
    )

PoolId = tuple[str, str]
"""Driver and name of a pool."""

DeviceId = tuple[str, str, str]
"""Driver, pool and name of a device."""

EVERYWHERE = ""
"""Instead of a node's name: slices whose devices more than one node may reach."""

_NO_SLICES: Map[str, ResourceSlice] = Map()
_NO_POOLS: Map[str, PoolId] = Map()
_NO_CLAIMS: Map[Key, None] = Map()
_NO_SHARES: Map[Key, tuple[Consumed, ...]] = Map()
_NO_COUNTERS: Mapping[CounterId, int] = {}


class Offered(NamedTuple):
    """A device that a node reaches. `node_name`, `selector`: which other nodes reach it."""

    id: DeviceId
    device: Device
    node_name: str
    selector: NodeSelector | None


class Pool(Value, frozen=True, eq=False):
    """The newest slices of a pool, by name. `is_complete`: all are there; `is_valid`: no two of
    their devices or counter sets have one name, and all counters that devices consume exist.
    `counters`: what there is of each counter; `consumers`: the devices that consume some."""

    id: PoolId
    slices: tuple[ResourceSlice, ...]
    is_complete: bool
    is_valid: bool
    counters: Mapping[CounterId, int] = _NO_COUNTERS
    consumers: tuple[Device, ...] = ()

    def left(self, is_used: Callable[[DeviceId], bool]) -> dict[CounterId, int]:
        """DRA-18: what is left of each counter, without the devices that are used. O(devices that
        consume counters)."""
        found = dict(self.counters)
        for device in self.consumers:
            if is_used((*self.id, device.name)):
                for key, amount in counters_of(device).items():
                    found[key] = found.get(key, 0) - amount
        return found

    def device(self, name: str) -> Device | None:
        """The device with this name. O(devices)."""
        return next(
            (each for one in self.slices for each in one.spec.devices or () if each.name == name),
            None,
        )


class Inventory(Value, frozen=True, eq=False):
    """All slices by pool, the pools by node, the claims that hold each device alone, or a share of
    it, and the rules that taint devices, by name. A value."""

    slices: Map[PoolId, Map[str, ResourceSlice]] = Map()
    pools: Map[str, Map[str, PoolId]] = Map()  # node, or EVERYWHERE -> slice -> pool
    holders: Map[DeviceId, Map[Key, None]] = Map()
    shares: Map[DeviceId, Map[Key, tuple[Consumed, ...]]] = Map()
    rules: Map[str, DeviceTaintRule] = Map()

    def shares_of(self, device: DeviceId) -> tuple[Consumed, ...]:
        """What the claims consume that share this device."""
        found = self.shares.get(device)
        return tuple([one for each in found.values() for one in each]) if found else ()

    def pool_ids(self, node: str) -> list[PoolId]:
        """The pools that may have devices for this node, in order."""
        own = self.pools.get(node, _NO_POOLS)
        shared = self.pools.get(EVERYWHERE, _NO_POOLS)
        return sorted({*own.values(), *shared.values()})


EMPTY_INVENTORY = Inventory()


def fold_devices(inventory: Inventory, resource: Resource, old: Any, new: Any) -> Inventory:
    """The inventory after one more change of a slice, claim or rule. O(the change)."""
    if resource == RESOURCE_SLICES:
        return _with_slice(_with_slice(inventory, old, False), new, True)
    if resource == RESOURCE_CLAIMS:
        before, after = _results(old), _results(new)
        if before == after:
            return inventory
        key = key_of(new if new is not None else old)
        holders, shares = inventory.holders, inventory.shares
        for device in {**dict.fromkeys(held(before)), **shared(before)}:
            holders, shares = _less(holders, device, key), _less(shares, device, key)
        for device in held(after):
            holders = holders.set(device, holders.get(device, _NO_CLAIMS).set(key, None))
        for device, consumed in shared(after).items():
            claims = shares.get(device, _NO_SHARES)
            shares = shares.set(device, claims.set(key, consumed))
        return evolve(inventory, holders=holders, shares=shares)
    if resource == DEVICE_TAINT_RULES:
        if old is not None and new is not None and old.spec == new.spec:
            return inventory
        name = key_of(new if new is not None else old)
        rules = inventory.rules
        return evolve(
            inventory, rules=_without(rules, name) if new is None else rules.set(name, new)
        )
    return inventory


def _less(found: Map[DeviceId, Map[Key, Any]], device: DeviceId, key: Key) -> Any:
    claims = found.get(device)
    if claims is None or key not in claims:
        return found
    rest = claims.delete(key)
    return found.set(device, rest) if len(rest) else found.delete(device)


def _results(claim: Any) -> tuple[DeviceRequestAllocationResult, ...]:
    if claim is None or claim.status is None or claim.status.allocation is None:
        return ()
    return results_of(claim.status.allocation)


def held(results: Iterable[DeviceRequestAllocationResult]) -> list[DeviceId]:
    """The devices that an allocation holds alone: without administrative access (DRA-7), and not
    a share (DRA-17)."""
    return [id_of(one) for one in results if not one.admin_access and one.share_id is None]


def shared(
    results: Iterable[DeviceRequestAllocationResult],
) -> dict[DeviceId, tuple[Consumed, ...]]:
    """The shares of devices that an allocation holds, by device (DRA-17)."""
    found: dict[DeviceId, tuple[Consumed, ...]] = {}
    for one in results:
        if not one.admin_access and one.share_id is not None:
            share = consumed_of(one.consumed_capacity, one.driver)
            found[id_of(one)] = (*found.get(id_of(one), ()), share)
    return found


def is_lost(inventory: Inventory, results: Sequence[DeviceRequestAllocationResult]) -> bool:
    """Whether other claims have got what this allocation needs: a device, its capacity, or counters
    that it consumes. O(devices of its pools)."""
    mine, shares = held(results), shared(results)
    if any(device in inventory.holders for device in (*mine, *shares)):
        return True
    if any(device in inventory.shares for device in mine):
        return True
    used = {**dict.fromkeys(mine), **shares}
    for pool_id in dict.fromkeys((driver, name) for driver, name, _ in used):
        if pool_id not in inventory.slices:
            continue
        pool = pool_of(pool_id, inventory.slices[pool_id])
        for device_id, more in shares.items():
            device = pool.device(device_id[2]) if device_id[:2] == pool_id else None
            total = (*inventory.shares_of(device_id), *more)
            if device is not None and not is_within(device, pool_id[0], total):
                return True
        if pool.counters:
            left = pool.left(
                lambda each: each in used or each in inventory.holders or each in inventory.shares
            )
            names = {key for _, _, name in used for key in _counters_in(pool, name)}
            if any(left[key] < 0 for key in names):
                return True
    return False


def _counters_in(pool: Pool, name: str) -> Iterable[CounterId]:
    return [key for each in pool.consumers if each.name == name for key in counters_of(each)]


def results_of(allocation: Any) -> tuple[DeviceRequestAllocationResult, ...]:
    return allocation.devices.results or ()


def id_of(result: DeviceRequestAllocationResult | AllocatedDeviceStatus) -> DeviceId:
    return result.driver, result.pool, result.device


def _with_slice(inventory: Inventory, one: ResourceSlice | None, is_there: bool) -> Inventory:
    if one is None:
        return inventory
    name = one.metadata.name or ""
    pool = (one.spec.driver, one.spec.pool.name)
    place = one.spec.node_name or EVERYWHERE
    of_pool = inventory.slices.get(pool, _NO_SLICES)
    of_node = inventory.pools.get(place, _NO_POOLS)
    if is_there:
        of_pool, of_node = of_pool.set(name, one), of_node.set(name, pool)
    else:
        of_pool = of_pool.delete(name) if name in of_pool else of_pool
        of_node = of_node.delete(name) if name in of_node else of_node
    slices = (
        inventory.slices.set(pool, of_pool) if len(of_pool) else _without(inventory.slices, pool)
    )
    pools = (
        inventory.pools.set(place, of_node) if len(of_node) else _without(inventory.pools, place)
    )
    return evolve(inventory, slices=slices, pools=pools)


def _without(found: Map[Any, Any], key: Any) -> Map[Any, Any]:
    return found.delete(key) if key in found else found


class Pools:
    """The pools of one inventory, computed when they are read, and kept while they are equal."""

    def __init__(self) -> None:
        self._kept: dict[PoolId, tuple[Map[str, ResourceSlice], Pool]] = {}
        self._inventory = EMPTY_INVENTORY

    def of_node(self, inventory: Inventory, facts: NodeFacts) -> list[tuple[Pool, list[Offered]]]:
        """The pools with devices that this node reaches, with these devices, in a fixed order.
        O(devices of these pools)."""
        if inventory.slices is not self._inventory.slices:
            self._kept = {
                pool: kept
                for pool, kept in self._kept.items()
                if inventory.slices.get(pool) is kept[0]
            }
            self._inventory = inventory
        found: list[tuple[Pool, list[Offered]]] = []
        for name in inventory.pool_ids(facts.name):
            pool = self._pool(inventory, name)
            offers = [each for one in pool.slices for each in _offers(one, facts)]
            if offers:
                found.append((pool, offers))
        return found

    def _pool(self, inventory: Inventory, name: PoolId) -> Pool:
        slices = inventory.slices[name]
        kept = self._kept.get(name)
        if kept is None or kept[0] is not slices:
            kept = self._kept[name] = (slices, pool_of(name, slices))
        return kept[1]


def pool_of(name: PoolId, slices: Map[str, ResourceSlice]) -> Pool:
    """DRA-2: the slices of the newest generation. O(devices)."""
    newest = max(one.spec.pool.generation for one in slices.values())
    current = [
        slices[each] for each in sorted(slices) if slices[each].spec.pool.generation == newest
    ]
    devices = [device for one in current for device in one.spec.devices or ()]
    sets = [each for one in current for each in one.spec.shared_counters or ()]
    counters = {
        (each.name, name): parse(counter.value).nano
        for each in sets
        for name, counter in each.counters.items()
    }
    consumers = tuple([each for each in devices if each.consumes_counters])
    return Pool(
        name,
        tuple(current),
        len(current) == current[0].spec.pool.resource_slice_count,
        len(devices) == len({each.name for each in devices})
        and len(sets) == len({each.name for each in sets})
        and all(key in counters for each in consumers for key in counters_of(each)),
        counters,
        consumers,
    )


def _offers(one: ResourceSlice, facts: NodeFacts) -> list[Offered]:
    """The devices of the slice that the node reaches."""
    spec = one.spec
    driver, pool = spec.driver, spec.pool.name
    if not spec.per_device_node_selection:
        if not is_reached(facts, spec.node_name, spec.all_nodes, spec.node_selector):
            return []
        return [
            Offered((driver, pool, each.name), each, spec.node_name or "", spec.node_selector)
            for each in spec.devices or ()
        ]
    return [
        Offered((driver, pool, each.name), each, each.node_name or "", each.node_selector)
        for each in spec.devices or ()
        if is_reached(facts, each.node_name, each.all_nodes, each.node_selector)
    ]


def is_reached(
    facts: NodeFacts, node_name: str | None, all_nodes: bool | None, selector: NodeSelector | None
) -> bool:
    """Whether the node is the named one, or all are meant, or it matches the selector."""
    if node_name:
        return facts.name == node_name
    return bool(all_nodes) or (selector is not None and selects_node(selector, facts))


def selects_node(selector: NodeSelector, facts: NodeFacts) -> bool:
    """Whether the node matches one term of the selector."""
    return any(
        term_matches(term, facts.labels, facts.name) for term in selector.node_selector_terms or ()
    )
