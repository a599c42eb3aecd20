"""The capacity of devices that several claims share, and the counters of devices that share parts.
Rules DRA-17, DRA-18 (spec/devices.md).

    request       policy of the capacity     consumed
    no amount     default                    the default
    no amount     no default                 all of it
    an amount     none                       the amount
    an amount     validValues                the first that is not less
    an amount     validRange                 at least the minimum, rounded up to a step

Amounts are exact, in nano units. Source: KEP "DRA: Consumable Capacity"; KEP "DRA: Partitionable
Devices"; API reference, "ResourceSlice".
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, TypeAlias

from refk8s.core.api.quantity import Amount, parse

if TYPE_CHECKING:
    from refk8s.core.api.resource_v1 import (
        CapacityRequestPolicy,
        CapacityRequirements,
        Device,
        DeviceCapacity,
    )

Consumed: TypeAlias = Mapping[str, Amount]
"""How much of each capacity is consumed, by the name with its domain."""

CounterId: TypeAlias = tuple[str, str]
"""The name of a counter set, and of a counter in it."""


class AmbiguousCapacity(Exception):
    """A request names one capacity twice, with and without the domain."""


def full_name(name: str, driver: str) -> str:
    """The name with a domain; that of the driver, unless it has one."""
    return name if "/" in name else f"{driver}/{name}"


def capacities_of(device: Device, driver: str) -> dict[str, tuple[str, DeviceCapacity]]:
    """The capacities of a device by full name, with the name in the slice. A name with the driver
    as domain counts before the same one without."""
    found: dict[str, tuple[str, DeviceCapacity]] = {}
    for name, capacity in (device.capacity or {}).items():
        full = full_name(name, driver)
        if full not in found or "/" in name:
            found[full] = (name, capacity)
    return found


def consumption(
    device: Device, driver: str, required: CapacityRequirements | None
) -> dict[str, Amount] | None:
    """What a request consumes of each capacity of the device; None if the device has no such
    capacity, or no amount that the policy allows and that is large enough. Raises
    AmbiguousCapacity."""
    capacities = capacities_of(device, driver)
    asked: dict[str, Amount] = {}
    requests = (required.requests if required is not None else None) or {}
    for name, text in requests.items():
        full = full_name(name, driver)
        if full in asked:
            raise AmbiguousCapacity(full)
        if full not in capacities:
            return None
        asked[full] = parse(text)
    found: dict[str, Amount] = {}
    for full, (_, capacity) in capacities.items():
        value, policy = parse(capacity.value), capacity.request_policy
        amount = _rounded(asked.get(full), value, policy)
        if not _is_allowed(amount, policy) or not 0 <= amount.nano <= value.nano:
            return None
        found[full] = amount
    return found


def _rounded(asked: Amount | None, value: Amount, policy: CapacityRequestPolicy | None) -> Amount:
    if asked is None:
        return parse(policy.default) if policy is not None and policy.default else value
    if policy is not None and policy.valid_range is not None:
        least, step = parse(policy.valid_range.min), parse(policy.valid_range.step or "0")
        if asked.nano <= least.nano:
            return least
        if step.nano <= 0:
            return asked
        steps = -(-(asked.nano - least.nano) // step.nano)
        return Amount(least.nano + steps * step.nano, step.format)
    values = [parse(each) for each in (policy.valid_values if policy is not None else None) or ()]
    return next((each for each in values if each.nano >= asked.nano), asked)


def _is_allowed(amount: Amount, policy: CapacityRequestPolicy | None) -> bool:
    if policy is None or (policy.default and parse(policy.default).nano == amount.nano):
        return True
    if policy.valid_range is not None:
        least, step = parse(policy.valid_range.min), parse(policy.valid_range.step or "0")
        most = policy.valid_range.max
        is_low = most is None or amount.nano <= parse(most).nano
        return is_low and (step.nano <= 0 or (amount.nano - least.nano) % step.nano == 0)
    values = policy.valid_values or ()
    return not values or any(parse(each).nano == amount.nano for each in values)


def is_within(device: Device, driver: str, shares: Iterable[Consumed]) -> bool:
    """DRA-17: whether the device has so much of each capacity."""
    total: dict[str, int] = {}
    for share in shares:
        for name, amount in share.items():
            total[name] = total.get(name, 0) + amount.nano
    capacities = capacities_of(device, driver)
    return all(
        name not in capacities or amount <= parse(capacities[name][1].value).nano
        for name, amount in total.items()
    )


def published(device: Device, driver: str, share: Consumed) -> dict[str, str]:
    """The share as it is written: with the names of the slice."""
    names = capacities_of(device, driver)
    return {names[full][0]: str(amount) for full, amount in share.items()}


def counters_of(device: Device) -> dict[CounterId, int]:
    """DRA-18: what the device consumes of each counter while it is allocated."""
    found: dict[CounterId, int] = {}
    for each in device.consumes_counters or ():
        for name, counter in each.counters.items():
            key = (each.counter_set, name)
            found[key] = found.get(key, 0) + parse(counter.value).nano
    return found


def consumed_of(recorded: Mapping[str, str] | None, driver: str) -> Consumed:
    """The share that an allocation records, by full name."""
    return {full_name(name, driver): parse(amount) for name, amount in (recorded or {}).items()}
