"""Parts of devices that are shared: counters, capacities and their policies, conditions of binding.
Rule VAL-52 (spec/validation.md).

Source: API reference, "ResourceSlice"; KEP "DRA: Partitionable Devices"; KEP "DRA: Consumable
Capacity"; KEP "DRA: Device Binding Conditions".
"""

from collections.abc import Mapping, Sequence

from refk8s.core.api.quantity import Amount, QuantityError, parse
from refk8s.core.api.resource_v1 import (
    CapacityRequestPolicy,
    CapacityRequestPolicyRange,
    Counter,
    CounterSet,
    Device,
    DeviceCapacity,
    DeviceCounterConsumption,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    duplicate,
    forbidden,
    invalid,
    malformed,
    required,
    too_many,
)
from refk8s.core.apiserver.validation.names import dns_label, qualified_name

COUNTER_SETS_MAX, COUNTERS_MAX, CONSUMPTIONS_MAX = 8, 32, 2
CONDITIONS_MAX, VALUES_MAX = 4, 10


def validate_counter_sets(sets: Sequence[CounterSet], at: str) -> Causes:
    """VAL-52: at most eight sets with unique names, of at most 32 counters."""
    causes = [too_many(at, len(sets), COUNTER_SETS_MAX)] if len(sets) > COUNTER_SETS_MAX else []
    for position, each in enumerate(sets):
        here = f"{at}[{position}]"
        causes += _named(each.name, [one.name for one in sets[:position]], f"{here}.name")
        causes += _counters(each.counters, f"{here}.counters")
    return causes


def validate_consumptions(consumptions: Sequence[DeviceCounterConsumption], at: str) -> Causes:
    """VAL-52: counters of at most two sets."""
    count = len(consumptions)
    causes = [too_many(at, count, CONSUMPTIONS_MAX)] if count > CONSUMPTIONS_MAX else []
    for position, each in enumerate(consumptions):
        here, before = f"{at}[{position}]", consumptions[:position]
        causes += _named(
            each.counter_set, [one.counter_set for one in before], f"{here}.counterSet"
        )
        causes += _counters(each.counters, f"{here}.counters")
    return causes


def _named(name: str, others: Sequence[str], at: str) -> Causes:
    if not name:
        return [required(at)]
    causes = malformed(at, name, dns_label)
    return [*causes, duplicate(at, name)] if name in others else causes


def _counters(counters: Mapping[str, Counter], at: str) -> Causes:
    if not counters:
        return [required(at)]
    causes = [too_many(at, len(counters), COUNTERS_MAX)] if len(counters) > COUNTERS_MAX else []
    for name in counters:
        causes += malformed(f"{at}[{name}]", name, dns_label)
    return causes


def validate_binding_conditions(device: Device, at: str) -> Causes:
    """VAL-52: at most four conditions of each kind, and both kinds or none."""
    ready, failed = device.binding_conditions or (), device.binding_failure_conditions or ()
    causes: Causes = []
    for names, field in ((ready, "bindingConditions"), (failed, "bindingFailureConditions")):
        if len(names) > CONDITIONS_MAX:
            causes.append(too_many(f"{at}.{field}", len(names), CONDITIONS_MAX))
        for position, name in enumerate(names):
            here = f"{at}.{field}[{position}]"
            causes += malformed(here, name, qualified_name)
            if name in names[:position]:
                causes.append(duplicate(here, name))
            if field == "bindingFailureConditions" and name in ready:
                words = "bindingFailureConditions must not overlap with bindingConditions"
                causes.append(invalid(here, name, words))
    for names, others, field, other in (
        (ready, failed, "bindingConditions", "bindingFailureConditions"),
        (failed, ready, "bindingFailureConditions", "bindingConditions"),
    ):
        if others and not names:
            causes.append(invalid(f"{at}.{field}", "", f"{field} are required to use {other}"))
    return causes


def validate_capacity(capacity: DeviceCapacity, is_shared: bool, at: str) -> Causes:
    """VAL-52: only a device that allows multiple allocations has policies; the default is allowed
    by the policy."""
    policy = capacity.request_policy
    if policy is None:
        return []
    at = f"{at}.requestPolicy"
    if not is_shared:
        return [forbidden(at, "allowMultipleAllocations must be true")]
    values, valid_range = policy.valid_values or (), policy.valid_range
    if values and valid_range is not None:
        words = (
            'exactly one policy can be specified, cannot specify "validValues" and "validRange" '
            "at the same time"
        )
        return [forbidden(at, words)]
    field = "validValues" if values else "validRange"
    if not values and valid_range is None:
        return []
    if policy.default is None:
        return [required(f"{at}.default", f"required when {field} is defined")]
    try:
        if valid_range is not None:
            return _validate_range(policy, valid_range, capacity.value, f"{at}.validRange")
        return _validate_values(policy, capacity.value, f"{at}.validValues")
    except QuantityError:
        return []  # a text that is no quantity is refused with the field itself


def _validate_values(policy: CapacityRequestPolicy, most: str, at: str) -> Causes:
    default, texts = policy.default or "0", policy.valid_values or ()
    amounts = [parse(text).nano for text in texts]
    causes = [too_many(at, len(texts), VALUES_MAX)] if len(texts) > VALUES_MAX else []
    for position, text in enumerate(texts):
        here = f"{at}[{position}]"
        if position and amounts[position] < amounts[position - 1]:
            causes.append(invalid(here, text, "values must be sorted in ascending order"))
        if amounts[position] > parse(most).nano:
            causes.append(invalid(here, text, f"option is larger than capacity value: {most}"))
        if amounts[position] in amounts[:position]:
            causes.append(duplicate(here, text))
    if parse(default).nano not in amounts:
        words = "default value is not valid according to the requestPolicy"
        causes.append(invalid(at, default, words))
    return causes


def _validate_range(
    policy: CapacityRequestPolicy, bounds: CapacityRequestPolicyRange, value: str, at: str
) -> Causes:
    default, least, most = policy.default or "0", bounds.min, bounds.max
    causes: Causes = []
    if parse(least).nano > parse(value).nano:
        causes.append(invalid(f"{at}.min", least, f"min is larger than capacity value: {value}"))
    if parse(default).nano < parse(least).nano:
        causes.append(invalid(f"{at}.default", default, f"default is less than min: {least}"))
    if most is not None:
        if parse(least).nano > parse(most).nano:
            causes.append(invalid(f"{at}.max", least, f"min is larger than max: {most}"))
        if parse(most).nano > parse(value).nano:
            words = f"max is larger than capacity value: {value}"
            causes.append(invalid(f"{at}.max", most, words))
        if parse(default).nano > parse(most).nano:
            causes.append(invalid(f"{at}.default", default, f"default is more than max: {most}"))
    if bounds.step is None:
        return causes
    step, first = parse(bounds.step), parse(least)
    if step.nano <= 0:
        return [*causes, invalid(f"{at}.step", bounds.step, "must be greater than zero")]
    one = Amount(first.nano + step.nano, first.format)
    if one.nano > parse(value).nano:
        words = f"one step {one} is larger than capacity value: {value}"
        causes.append(invalid(f"{at}.step", bounds.step, words))
    for text in (default, *(() if most is None else (most,))):
        if (parse(text).nano - first.nano) % step.nano:
            words = f"value is not a multiple of a given step ({bounds.step}) from ({least})"
            causes.append(invalid(f"{at}.step", text, words))
    return causes
