"""The devices of the cluster: the pools of the ResourceSlices, and which devices are allocated. Rules
DRA-2, DRA-5 (spec/devices.md).

A pool is all slices of one driver with one pool name and the newest generation. The inventory is a
fold over slices and claims, so a decision reads only the pools of the nodes that it looks at.
Source: Kubernetes documentation, "Dynamic Resource Allocation" (ResourceSlice); API reference,
"ResourceSlice". Left out: DeviceTaintRules (D-348).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from immutables import Map

from refk8s.core.api.core_v1 import NodeSelector
from refk8s.core.api.resources import RESOURCE_CLAIMS, RESOURCE_SLICES, Resource
from refk8s.core.loop.plan import Key
from refk8s.core.loop.view import key_of
from refk8s.core.pods.node_affinity import term_matches
from refk8s.core.scheduler.snapshot import NodeFacts
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import Device, DeviceRequestAllocationResult, ResourceSlice

PoolId = tuple[str, str]
"""Driver and name of a pool."""

DeviceId = tuple[str, str, str]
"""Driver, pool and name of a device."""

EVERYWHERE = ""
"""Instead of a node's name: slices whose devices more than one node may reach."""

_NO_SLICES: Map[str, ResourceSlice] = Map()
_NO_POOLS: Map[str, PoolId] = Map()
_NO_CLAIMS: Map[Key, None] = Map()


class Offered(NamedTuple):
    """A device that a node reaches. `node_name`, `selector`: which other nodes reach it."""

    id: DeviceId
    device: Device
    node_name: str
    selector: NodeSelector | None


class Pool(Value, frozen=True, eq=False):
    """The newest slices of a pool, by name. `is_complete`: all are there; `is_valid`: no two of
    their devices have one name."""

    id: PoolId
    slices: tuple[ResourceSlice, ...]
    is_complete: bool
    is_valid: bool


class Inventory(Value, frozen=True, eq=False):
    """All slices by pool, the pools by node, and the claims that hold each device. A value."""

    slices: Map[PoolId, Map[str, ResourceSlice]] = Map()
    pools: Map[str, Map[str, PoolId]] = Map()  # node, or EVERYWHERE -> slice -> pool
    holders: Map[DeviceId, Map[Key, None]] = Map()

    def pool_ids(self, node: str) -> list[PoolId]:
        """The pools that may have devices for this node, in order."""
        own = self.pools.get(node, _NO_POOLS)
        shared = self.pools.get(EVERYWHERE, _NO_POOLS)
        return sorted({*own.values(), *shared.values()})


EMPTY_INVENTORY = Inventory()


def fold_devices(inventory: Inventory, resource: Resource, old: Any, new: Any) -> Inventory:
    """The inventory after one more change of a slice or claim. O(the change)."""
    if resource == RESOURCE_SLICES:
        return _with_slice(_with_slice(inventory, old, False), new, True)
    if resource == RESOURCE_CLAIMS:
        before, after = held(old), held(new)
        if before == after:
            return inventory
        key = key_of(new if new is not None else old)
        holders = inventory.holders
        for device in before:
            rest = holders.get(device, _NO_CLAIMS)
            rest = rest.delete(key) if key in rest else rest
            if len(rest):
                holders = holders.set(device, rest)
            elif device in holders:
                holders = holders.delete(device)
        for device in after:
            holders = holders.set(device, holders.get(device, _NO_CLAIMS).set(key, None))
        return Inventory(inventory.slices, inventory.pools, holders)
    return inventory


def held(claim: Any) -> list[DeviceId]:
    """The devices that the claim holds alone: those without administrative access (DRA-7)."""
    if claim is None or claim.status is None or claim.status.allocation is None:
        return []
    return [id_of(one) for one in results_of(claim.status.allocation) if not one.admin_access]


def results_of(allocation: Any) -> tuple[DeviceRequestAllocationResult, ...]:
    devices = allocation.devices
    return devices.results or () if devices is not None else ()


def id_of(result: DeviceRequestAllocationResult) -> DeviceId:
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
    return Inventory(slices, pools, inventory.holders)


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
    devices = [device.name for one in current for device in one.spec.devices or ()]
    return Pool(
        name,
        tuple(current),
        len(current) == current[0].spec.pool.resource_slice_count,
        len(devices) == len(set(devices)),
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
