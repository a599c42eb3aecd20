"""The allocation of devices to the claims of one pod on one node. Rules DRA-3 to DRA-7, DRA-17,
DRA-18, DRA-20 (spec/devices.md).

The search tries, for each request in order, the alternatives in order, and for each device the
devices of the node in order; it goes back when a later request cannot be fulfilled. So the first
solution in this order is found, and none is missed. The devices of one request can be exchanged, so
only ascending ones are tried. The steps are counted, so a claim that no devices fulfil cannot keep
the scheduler busy (DRA-9).

Source: Kubernetes documentation, "Dynamic Resource Allocation"; API reference, "ResourceClaim".
Left out: attributes that are lists (D-346).
"""

import hashlib
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, NamedTuple

from refk8s.core.api.core_v1 import NodeSelector, NodeSelectorRequirement, NodeSelectorTerm
from refk8s.core.api.resource_v1 import (
    AllocationResult,
    Device,
    DeviceAllocationConfiguration,
    DeviceAllocationResult,
    DeviceAttribute,
    DeviceClass,
    DeviceConstraint,
    DeviceRequest,
    DeviceRequestAllocationResult,
    DeviceSelector,
    DeviceSubRequest,
    DeviceTaint,
    DeviceTaintRule,
    ExactDeviceRequest,
    ResourceClaim,
)
from refk8s.core.loop.view import key_of
from refk8s.core.pods.device_selectors import SelectorProblem
from refk8s.core.pods.device_taints import selects_device
from refk8s.core.pods.node_affinity import NAME_FIELD
from refk8s.core.pods.tolerations import NO_EXECUTE, NO_SCHEDULE, is_tolerated
from refk8s.core.scheduler.capacity import (
    AmbiguousCapacity,
    Consumed,
    CounterId,
    consumption,
    counters_of,
    is_within,
    published,
)
from refk8s.core.scheduler.device_pools import DeviceId, Offered, Pool, PoolId
from refk8s.core.value import Value

RESULTS_MAX = 32  # devices of one claim
ALL, EXACT = "All", "ExactCount"
DEVICES_OF_STEP = 16  # how many devices with counters, or rules, are read for one step
FROM_CLASS, FROM_CLAIM = "FromClass", "FromClaim"


class BadClaim(Exception):
    """The claims cannot be allocated on this node, in upstream's words."""


class OutOfEffort(Exception):
    """The search takes too many steps (DRA-9)."""


class Effort:
    """What a search may still cost: steps, and units of expressions."""

    __slots__ = ("steps", "units")

    def __init__(self, steps: int, units: int) -> None:
        self.steps, self.units = steps, units

    def spend(self, steps: int, units: int = 0) -> None:
        self.steps -= steps
        self.units -= units
        if self.steps < 0 or self.units < 0:
            raise OutOfEffort


Selects = Callable[[str, DeviceId, Device], tuple[bool | SelectorProblem, int]]
"""Whether an expression selects a device, and what that costs."""


class Want(Value, frozen=True, eq=False):
    """A request, or one alternative of it: so many devices that its selectors select."""

    claim: int
    name: str  # with that of the request, separated by a slash, for an alternative
    base: str  # the name of the request
    request: ExactDeviceRequest | DeviceSubRequest
    device_class: DeviceClass
    count: int
    everything: tuple[Offered, ...] | None = None  # the devices, for the mode All
    is_admin: bool = False

    @property
    def tolerations(self) -> Any:
        return self.request.tolerations or ()


class Place(NamedTuple):
    """How far a search has come: the request, its alternative (-1: not chosen yet), how many of
    its devices are chosen, and the first device that may be next."""

    request: int
    alternative: int
    picked: int
    start: int


class Picked(NamedTuple):
    """A device chosen for a request; `share`: what it consumes of one that others may share."""

    want: Want
    offered: Offered
    share: Consumed | None


class Taken(NamedTuple):
    """What is allocated already: whether a claim holds the device alone, and what is consumed of
    one that is shared; and the rules that taint devices."""

    is_held: Callable[[DeviceId], bool]
    shares: Callable[[DeviceId], Sequence[Consumed]] = lambda device: ()
    rules: Collection[DeviceTaintRule] = ()


def allocate(
    claims: Sequence[ResourceClaim],
    pools: Sequence[tuple[Pool, Sequence[Offered]]],
    classes: Callable[[str], DeviceClass | None],
    taken: Taken,
    selects: Selects,
    effort: Effort,
    node: str,
) -> tuple[AllocationResult, ...] | None:
    """DRA-3 to DRA-7: an allocation for each claim, on this node, which reaches these devices; None
    if there is none. Raises BadClaim, and OutOfEffort."""
    search = _Search(claims, pools, classes, taken, selects, effort)
    if search.run():
        return tuple([search.result(number, node) for number in range(len(claims))])
    if any(not pool.is_valid for pool, _ in pools):
        raise BadClaim("invalid resource pools were encountered")
    return None


class _Search:
    def __init__(
        self,
        claims: Sequence[ResourceClaim],
        pools: Sequence[tuple[Pool, Sequence[Offered]]],
        classes: Callable[[str], DeviceClass | None],
        taken: Taken,
        selects: Selects,
        effort: Effort,
    ) -> None:
        self.claims, self.pools, self.classes = claims, pools, classes
        self.taken, self.selects, self.effort = taken, selects, effort
        self.verdicts: dict[tuple[str, DeviceId], bool] = {}
        self.consumptions: dict[tuple[str, int, DeviceId], Consumed | None] = {}
        self.tainted: dict[DeviceId, tuple[DeviceTaint, ...]] = {}  # by rules
        # devices of pools that are being changed are not allocated
        self.usable = [
            each for pool, offers in pools if pool.is_complete and pool.is_valid for each in offers
        ]
        self.free = [each for each in self.usable if not taken.is_held(each.id)]
        self.of_pool = {pool.id: pool for pool, _ in pools}
        self.left: dict[PoolId, dict[CounterId, int]] = {}  # of counters, without `chosen`
        self.shares: dict[DeviceId, list[Consumed]] = {}  # of `chosen`
        self.requests = [
            self._wants(number, request)
            for number, claim in enumerate(claims)
            for request in claim.spec.devices.requests or ()
        ]
        self._check_sizes()
        self.constraints = [_constraints(claim) for claim in claims]
        self.values: list[list[list[Any]]] = [[[] for _ in one] for one in self.constraints]
        self.chosen: list[Picked] = []
        self.alternatives = [0] * len(self.requests)
        self.own: dict[DeviceId, list[Want]] = {}
        self.sizes = [0] * len(claims)

    # --- the requests -----------------------------------------------------------------------------

    def _wants(self, number: int, request: DeviceRequest) -> list[Want]:
        """The alternatives of a request; one, if it is exact."""
        if request.exactly is not None:
            name = request.name
            return [self._want(number, name, name, request.exactly)]
        return [
            self._want(number, f"{request.name}/{sub.name}", request.name, sub)
            for sub in request.first_available or ()
        ]

    def _want(
        self, number: int, name: str, base: str, request: ExactDeviceRequest | DeviceSubRequest
    ) -> Want:
        key, own = key_of(self.claims[number]), name.rpartition("/")[2]
        device_class = self.classes(request.device_class_name)
        if device_class is None:
            words = f"could not retrieve device class {request.device_class_name}"
            raise BadClaim(f"claim {key}, request {own}: {words}")
        want = Want(
            number,
            name,
            base,
            request,
            device_class,
            request.count or 0,
            None,
            isinstance(request, ExactDeviceRequest) and bool(request.admin_access),
        )
        if request.allocation_mode == EXACT:
            return want
        if request.allocation_mode != ALL:
            words = f"unsupported count mode {request.allocation_mode}"
            raise BadClaim(f"claim {key}, request {own}: {words}")
        for pool, _ in self.pools:
            words = "being updated" if not pool.is_complete else "" if pool.is_valid else "invalid"
            if words:
                which = f"resource pool {'/'.join(pool.id)} is currently {words}"
                raise BadClaim(f"claim {key}, request {own}: asks for all devices, but {which}")
        found = [
            each
            for each in self.usable
            if self._is_selected(want, each) and self._has_capacity(want, each)
        ]
        return Want(
            number, name, base, request, device_class, len(found), tuple(found), want.is_admin
        )

    def _check_sizes(self) -> None:
        least = [0] * len(self.claims)
        for wants in self.requests:
            if wants:
                least[wants[0].claim] += min(one.count for one in wants)
        for claim, count in zip(self.claims, least, strict=True):
            if count > RESULTS_MAX:
                words = f"number of requested devices {count} exceeds the claim limit of"
                raise BadClaim(f"claim {key_of(claim)}: {words} {RESULTS_MAX}")

    # --- the search -------------------------------------------------------------------------------

    def run(self) -> bool:
        """Whether there is a solution; it is in `chosen`."""
        levels = [self._level(Place(0, -1, 0, 0))]
        while levels:
            place = next(levels[-1], None)
            if place is None:
                levels.pop()
            elif place.request == len(self.requests):
                return True
            else:
                levels.append(self._level(place))
        return False

    def _level(self, place: Place) -> Iterator[Place]:
        """One option after another: each is in effect until the next one is asked for."""
        request = place.request
        if request == len(self.requests):
            yield place
        elif place.alternative < 0:
            for number, want in enumerate(self.requests[request]):
                self.effort.spend(1)
                is_empty = want.everything is not None and not want.count
                if not is_empty and self.sizes[want.claim] + want.count <= RESULTS_MAX:
                    self.alternatives[request] = number
                    yield Place(request, number, 0, 0)
        else:
            yield from self._devices(place, self.requests[request][place.alternative])

    def _devices(self, place: Place, want: Want) -> Iterator[Place]:
        request, alternative, picked, start = place
        if picked == want.count:
            yield Place(request + 1, -1, 0, 0)
            return
        if want.everything is not None:
            options: Sequence[Offered] = want.everything
            last = start + 1  # each of them is needed
        else:
            options = self.usable if want.is_admin else self.free
            last = len(options) - (want.count - picked) + 1
        for position in range(start, last):
            self.effort.spend(1)
            offered = options[position]
            if self._is_usable(want, offered) and self._add(want, offered):
                yield Place(request, alternative, picked + 1, position + 1)
                self._remove(want, offered)

    def _is_usable(self, want: Want, offered: Offered) -> bool:
        others = self.own.get(offered.id, ())
        if want.is_admin:
            if any(one.claim == want.claim for one in others):
                return False
        elif self.taken.is_held(offered.id) or (
            not _is_shared(offered.device) and (others or self.taken.shares(offered.id))
        ):
            return False
        return (
            self._is_selected(want, offered)
            and not self._is_tainted(want, offered)
            and self._has_capacity(want, offered)
            and self._has_counters(want, offered)
        )

    def _is_tainted(self, want: Want, offered: Offered) -> bool:
        """DRA-5: whether a taint of the device is not tolerated."""
        taints = (*(offered.device.taints or ()), *self._taints_of_rules(offered.id))
        return any(
            taint.effect in (NO_SCHEDULE, NO_EXECUTE) and not is_tolerated(taint, want.tolerations)
            for taint in taints
        )

    def _taints_of_rules(self, device: DeviceId) -> tuple[DeviceTaint, ...]:
        """DRA-20: the taints that rules give to the device."""
        rules = self.taken.rules
        if not rules:
            return ()
        found = self.tainted.get(device)
        if found is None:
            self.effort.spend(len(rules) // DEVICES_OF_STEP)
            found = tuple([one.spec.taint for one in rules if selects_device(one, *device)])
            self.tainted[device] = found
        return found

    def _has_capacity(self, want: Want, offered: Offered) -> bool:
        """DRA-17: whether the device has what the request asks of its capacity."""
        if want.is_admin:
            return True
        consumed = self._consumption(want, offered)
        if consumed is None or not _is_shared(offered.device):
            return consumed is not None
        shares = (*self.taken.shares(offered.id), *self.shares.get(offered.id, ()), consumed)
        return is_within(offered.device, offered.id[0], shares)

    def _consumption(self, want: Want, offered: Offered) -> Consumed | None:
        """What the request consumes of the device; None if it cannot get that."""
        key = (want.name, want.claim, offered.id)
        if key not in self.consumptions:
            self.effort.spend(1)
            try:
                found = consumption(offered.device, offered.id[0], want.request.capacity)
            except AmbiguousCapacity as problem:
                key_of_claim = key_of(self.claims[want.claim])
                words = f"capacity {problem} is requested with and without its domain"
                raise BadClaim(f"claim {key_of_claim}, request {want.name}: {words}") from None
            self.consumptions[key] = found
        return self.consumptions[key]

    def _has_counters(self, want: Want, offered: Offered) -> bool:
        """DRA-18: whether the counters are left that the device consumes. A device that is in use
        has consumed them already."""
        if not offered.device.consumes_counters or want.is_admin or self._is_in_use(offered.id):
            return True
        left = self._left(offered.id[:2])
        return all(amount <= left[key] for key, amount in counters_of(offered.device).items())

    def _left(self, pool: PoolId) -> dict[CounterId, int]:
        if pool not in self.left:
            consumers = self.of_pool[pool].consumers
            self.effort.spend(len(consumers) // DEVICES_OF_STEP)
            taken = self.taken
            self.left[pool] = self.of_pool[pool].left(
                lambda device: taken.is_held(device) or bool(taken.shares(device))
            )
        return self.left[pool]

    def _is_in_use(self, device: DeviceId) -> bool:
        """Whether the device is shared already, by another claim or in this search."""
        return bool(self.taken.shares(device)) or bool(self.shares.get(device))

    def _count(self, want: Want, offered: Offered, sign: int) -> None:
        """Take the counters that the device consumes, or give them back."""
        if not offered.device.consumes_counters or want.is_admin or self._is_in_use(offered.id):
            return
        left = self._left(offered.id[:2])
        for key, amount in counters_of(offered.device).items():
            left[key] -= sign * amount

    def _is_selected(self, want: Want, offered: Offered) -> bool:
        """DRA-3: whether the expressions of the class and of the request select the device."""
        name = want.device_class.metadata.name or ""
        key = key_of(self.claims[want.claim])
        return self._select(
            f"class {name}", want.device_class.spec.selectors, offered
        ) and self._select(f"claim {key}", want.request.selectors, offered)

    def _select(
        self, whose: str, selectors: Sequence[DeviceSelector] | None, offered: Offered
    ) -> bool:
        for number, selector in enumerate(selectors or ()):
            if selector.cel is None:
                words = "CEL expression empty (unsupported selector type?)"
                raise BadClaim(f"{whose}, selector #{number}: {words}")
            text = selector.cel.expression
            found = self.verdicts.get((text, offered.id))
            if found is None:
                verdict, units = self.selects(text, offered.id, offered.device)
                self.effort.spend(1, units)
                if isinstance(verdict, SelectorProblem):
                    where = f"selector #{number} on device {'/'.join(offered.id)}"
                    raise BadClaim(f"{whose}: {where}: CEL runtime error: {verdict}")
                found = self.verdicts[text, offered.id] = verdict
            if not found:
                return False
        return True

    def _add(self, want: Want, offered: Offered) -> bool:
        """Choose the device, if the constraints of the claim allow it (DRA-6)."""
        stacks = self.values[want.claim]
        added: list[list[Any]] = []
        for constraint, stack in zip(self.constraints[want.claim], stacks, strict=True):
            if not _concerns(constraint, want):
                continue
            value = _attribute(
                constraint.match_attribute or constraint.distinct_attribute or "", offered
            )
            if not _is_satisfied(constraint, value, stack):
                for one in added:
                    one.pop()
                if want.everything is not None:
                    key, own = key_of(self.claims[want.claim]), want.name.rpartition("/")[2]
                    device = "/".join(offered.id)
                    words = (
                        f"cannot add device {device} because a claim constraint would "
                        "not be satisfied"
                    )
                    raise BadClaim(f"claim {key}, request {own}: {words}")
                return False
            stack.append(value)
            added.append(stack)
        is_share = _is_shared(offered.device) and not want.is_admin
        share = self._consumption(want, offered) if is_share else None
        self._count(want, offered, 1)
        self.chosen.append(Picked(want, offered, share))
        self.own.setdefault(offered.id, []).append(want)
        if share is not None:
            self.shares.setdefault(offered.id, []).append(share)
        self.sizes[want.claim] += 1
        return True

    def _remove(self, want: Want, offered: Offered) -> None:
        for constraint, stack in zip(
            self.constraints[want.claim], self.values[want.claim], strict=True
        ):
            if _concerns(constraint, want):
                stack.pop()
        if self.chosen.pop().share is not None:
            self.shares[offered.id].pop()
        self.own[offered.id].pop()
        self._count(want, offered, -1)
        self.sizes[want.claim] -= 1

    # --- the result -------------------------------------------------------------------------------

    def result(self, number: int, node: str) -> AllocationResult:
        """The allocation of one claim."""
        picked = [one for one in self.chosen if one.want.claim == number]
        devices = DeviceAllocationResult(
            results=tuple([self._result_of(one) for one in picked]) or None,
            config=tuple(self._configurations(number)) or None,
        )
        selector = node_selector([one.offered for one in picked], node)
        return AllocationResult(devices=devices, node_selector=selector)

    def _result_of(self, picked: Picked) -> DeviceRequestAllocationResult:
        want, (id, device, _, _), share = picked
        claim = self.claims[want.claim]
        return DeviceRequestAllocationResult(
            request=want.name,
            driver=id[0],
            pool=id[1],
            device=id[2],
            admin_access=True if want.is_admin else None,
            tolerations=want.request.tolerations or None,
            binding_conditions=device.binding_conditions or None,
            binding_failure_conditions=device.binding_failure_conditions or None,
            share_id=share_id(claim, want.name, id) if share is not None else None,
            consumed_capacity=published(device, id[0], share) or None if share else None,
        )

    def _configurations(self, number: int) -> list[DeviceAllocationConfiguration]:
        """Those of the classes first, each once, then those of the claim."""
        wants = [
            wants[chosen]
            for wants, chosen in zip(self.requests, self.alternatives, strict=True)
            if wants and wants[0].claim == number
        ]
        by_class: dict[str, list[Want]] = {}
        for want in wants:
            by_class.setdefault(want.device_class.metadata.name or "", []).append(want)
        found = [
            DeviceAllocationConfiguration(
                source=FROM_CLASS,
                requests=tuple([one.name for one in among]),
                opaque=config.opaque,
            )
            for among in by_class.values()
            for config in among[0].device_class.spec.config or ()
        ]
        names = {name for want in wants for name in (want.name, want.base)}
        found += [
            DeviceAllocationConfiguration(
                source=FROM_CLAIM, requests=config.requests, opaque=config.opaque
            )
            for config in self.claims[number].spec.devices.config or ()
            if not config.requests or names & set(config.requests)
        ]
        # no names means all requests
        return [
            DeviceAllocationConfiguration(source=one.source, opaque=one.opaque)
            if len(one.requests or ()) == len(wants)
            else one
            for one in found
        ]


def _constraints(claim: ResourceClaim) -> tuple[DeviceConstraint, ...]:
    found = claim.spec.devices.constraints or ()
    for number, one in enumerate(found):
        if one.match_attribute is None and one.distinct_attribute is None:
            words = "empty constraint (unsupported constraint type?)"
            raise BadClaim(f"claim {key_of(claim)}, constraint #{number}: {words}")
    return found


def _concerns(constraint: DeviceConstraint, want: Want) -> bool:
    return not constraint.requests or bool({want.base, want.name} & set(constraint.requests))


def _is_satisfied(constraint: DeviceConstraint, value: Any, others: Sequence[Any]) -> bool:
    """DRA-6: the device has the attribute, with the value of the others, or with one of its own."""
    if value is None:
        return False
    if constraint.match_attribute is not None:
        return not others or others[-1] == value
    return value not in others


def _is_shared(device: Device) -> bool:
    """DRA-17: whether several claims may have shares of the device."""
    return bool(device.allow_multiple_allocations)


def share_id(claim: ResourceClaim, request: str, device: DeviceId) -> str:
    """A UID of one share of a device. The core has no random numbers, so it follows from the claim,
    the request and the device (D-420)."""
    text = "/".join((claim.metadata.uid or "", request, *device))
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
    return f"{digest[:8]}-{digest[8:12]}-4{digest[13:16]}-8{digest[17:20]}-{digest[20:32]}"


def _attribute(name: str, offered: Offered) -> tuple[str, Any] | None:
    """The type and value of an attribute with this full name; None without one."""
    attributes = offered.device.attributes or {}
    found = attributes.get(name)
    if found is None:
        domain, _, own = name.partition("/")
        found = attributes.get(own) if domain == offered.id[0] else None
    return _typed(found) if found is not None else None


def _typed(attribute: DeviceAttribute) -> tuple[str, Any] | None:
    for name in ("string", "int_", "bool_", "version"):
        value = getattr(attribute, name)
        if value is not None:
            return name, value
    return None


def node_selector(chosen: Sequence[Offered], node: str) -> NodeSelector | None:
    """DRA-4: the nodes that reach all these devices; None if all do. `node`: the one for which they
    are chosen, to which some bind."""
    fields: list[NodeSelectorRequirement] = []
    expressions: list[NodeSelectorRequirement] = []
    for one in chosen:
        if one.node_name or one.device.binds_to_node:
            name = one.node_name or node
            named = NodeSelectorRequirement(key=NAME_FIELD, operator="In", values=(name,))
            return NodeSelector(node_selector_terms=(NodeSelectorTerm(match_fields=(named,)),))
        terms = one.selector.node_selector_terms if one.selector is not None else ()
        for term in terms:  # validation allows one
            fields += [each for each in term.match_fields or () if each not in fields]
            expressions += [
                each for each in term.match_expressions or () if each not in expressions
            ]
    if not fields and not expressions:
        return None
    term = NodeSelectorTerm(
        match_expressions=tuple(expressions) or None, match_fields=tuple(fields) or None
    )
    return NodeSelector(node_selector_terms=(term,))
