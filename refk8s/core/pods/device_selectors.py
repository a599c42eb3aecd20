"""The selectors of devices: CEL expressions over one device. Rule DRA-3 (spec/devices.md).

    device.driver                            the name of the driver
    device.attributes["domain"].name         an attribute; the driver's own domain has those without
    device.capacity["domain"].name           a quantity
    device.allowMultipleAllocations          a boolean

Source: Kubernetes documentation, "Dynamic Resource Allocation" (CEL expressions for devices).
"""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final

from refk8s.core.api.resource_v1 import Device, DeviceAttribute
from refk8s.core.cel.check import CelTypeError, check
from refk8s.core.cel.evaluate import Budget, evaluate
from refk8s.core.cel.functions import quantity
from refk8s.core.cel.syntax import CelSyntaxError, Node, parse
from refk8s.core.cel.types import BOOL, DYN, SCALARS, STRING, Type, map_of
from refk8s.core.cel.values import BudgetExceeded, CelError, parse_semver

EXPRESSION_UNITS_MAX: Final = 100_000
"""The most that one evaluation of one expression costs (D-347)."""

EXPRESSIONS_MAX: Final = 1_024
"""How many compiled expressions are kept."""

_ITEMS_MAX: Final = 32
_DEVICE = Type(
    "kubernetes.DRADevice",
    fields={
        "driver": STRING,
        "attributes": map_of(STRING, map_of(STRING, DYN, _ITEMS_MAX), _ITEMS_MAX),
        "capacity": map_of(STRING, map_of(STRING, SCALARS["quantity"], _ITEMS_MAX), _ITEMS_MAX),
        "allowMultipleAllocations": BOOL,
    },
)


class SelectorProblem(Exception):
    """The expression has no value for a device. The message says why; `units`: what it has cost."""

    units = 0


class _Domains(dict[str, dict[str, Any]]):
    """The attributes by domain; a domain that the device does not have is empty."""

    def __missing__(self, domain: str) -> dict[str, Any]:
        return {}


@lru_cache(maxsize=EXPRESSIONS_MAX)
def compile_selector(text: str) -> Node:
    """The tree of the expression. Raises SelectorProblem."""
    try:
        node = parse(text)
        kind = check(node, {"device": _DEVICE}, text).type
    except (CelSyntaxError, CelTypeError) as error:
        raise SelectorProblem(f"compilation failed: {error}") from None
    if kind.name not in ("bool", "dyn"):
        raise SelectorProblem(f"must evaluate to bool or the unknown type, not {kind}")
    return node


def device_value(driver: str, device: Device) -> dict[str, Any]:
    """The device as expressions see it. Raises SelectorProblem for an attribute that has no
    value."""
    attributes: _Domains = _Domains()
    for name, attribute in (device.attributes or {}).items():
        domain, own = _qualified(name, driver)
        try:
            attributes.setdefault(domain, {})[own] = attribute_value(attribute)
        except (CelError, ValueError) as error:
            raise SelectorProblem(f"attribute {name}: {error}") from None
    capacity: _Domains = _Domains()
    for name, amount in (device.capacity or {}).items():
        domain, own = _qualified(name, driver)
        try:
            capacity.setdefault(domain, {})[own] = quantity(amount.value)
        except CelError as error:
            raise SelectorProblem(f"capacity {name}: {error}") from None
    return {
        "driver": driver,
        "attributes": attributes,
        "capacity": capacity,
        "allowMultipleAllocations": bool(device.allow_multiple_allocations),
    }


def attribute_value(attribute: DeviceAttribute) -> Any:
    """The one value of an attribute. Raises ValueError for none, CelError for no version."""
    if attribute.int_ is not None:
        return attribute.int_
    if attribute.bool_ is not None:
        return attribute.bool_
    if attribute.string is not None:
        return attribute.string
    if attribute.version is not None:
        return parse_semver(attribute.version)
    raise ValueError("unsupported attribute value")


def selects(text: str, value: Mapping[str, Any]) -> tuple[bool, int]:
    """Whether the expression selects the device, and what the evaluation has cost. Raises
    SelectorProblem."""
    node = compile_selector(text)
    budget = Budget(EXPRESSION_UNITS_MAX)
    try:
        found = evaluate(node, {"device": value}, budget)
    except (CelError, BudgetExceeded) as error:
        problem = SelectorProblem(str(error))
        problem.units = EXPRESSION_UNITS_MAX - max(budget.left, 0)
        raise problem from None
    if not isinstance(found, bool):
        raise SelectorProblem("the result is no boolean")
    return found, EXPRESSION_UNITS_MAX - budget.left


def _qualified(name: str, driver: str) -> tuple[str, str]:
    domain, slash, own = name.partition("/")
    return (domain, own) if slash else (driver, name)
