"""A second implementation of `core/pods/` for the laws: taints, nodes, requests, ports, phases.
Rules POD-20 to POD-24 (spec/pod.md).

The laws check the components, so they share no code with `core/pods/`: otherwise a mistake there
would hide itself. Each function states its rule as simply as possible; none is fast.
"""

import re
from collections.abc import Sequence
from typing import Any

from refk8s.core.api.core_v1 import Container, Pod, Taint, Toleration
from refk8s.core.api.quantity import milli_value, value

Amounts = dict[str, int]

FINAL = ("Succeeded", "Failed")
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)


def is_finished(pod: Pod) -> bool:
    return pod.status.phase in FINAL


def is_active(pod: Pod) -> bool:
    """RS-1: neither finished nor being deleted."""
    return pod.status.phase not in FINAL and pod.metadata.deletion_timestamp is None


def is_ready(pod: Pod) -> bool:
    """RS-8: the first condition Ready is True."""
    statuses = [one.status for one in pod.status.conditions or () if one.type == "Ready"]
    return statuses[:1] == ["True"]


def takes_room(pod: Pod) -> bool:
    """Whether it has a node and has not finished."""
    return bool(pod.spec.node_name) and not is_finished(pod)


def tolerates(toleration: Toleration, taint: Taint) -> bool:
    """POD-20."""
    values = {
        "Exists": True,
        "Equal": (toleration.value or "") == (taint.value or ""),
    }
    return (
        toleration.effect in (None, "", taint.effect)
        and toleration.key in (None, "", taint.key)
        and values.get(toleration.operator or "Equal", False)
    )


def term_matches(term: Any, labels: dict[str, str], name: str) -> bool:
    """POD-21, of one term."""
    found = [(each, labels.get(each.key)) for each in term.match_expressions or ()]
    found += [
        (each, name if each.key == "metadata.name" else None) for each in term.match_fields or ()
    ]
    return bool(found) and all(
        requirement_matches(each.operator, each.values or (), text) for each, text in found
    )


def requirement_matches(operator: str, values: Sequence[str], text: str | None) -> bool:
    """POD-21, of one requirement and the node's value of its key."""
    number, bound = integer(text), integer(values[0] if len(values) == 1 else None)
    truths = {
        "In": text is not None and text in values,
        "NotIn": text is None or text not in values,
        "Exists": text is not None,
        "DoesNotExist": text is None,
        "Gt": number is not None and bound is not None and number > bound,
        "Lt": number is not None and bound is not None and number < bound,
    }
    return truths.get(operator, False)


def integer(text: str | None) -> int | None:
    """The text as a 64-bit integer; None for any other text."""
    if text is None or _INTEGER.fullmatch(text) is None or len(text.lstrip("+-0")) > 19:
        return None
    number = int(text.lstrip("+-0") or "0")
    number = -number if text[0] == "-" else number
    return number if -(2**63) <= number < 2**63 else None


def requests(pod: Pod) -> Amounts:
    """SCHED-2, KUBELET-80: the largest sum of requests that run at the same time, with the
    overhead, in milli-CPUs and else in whole units."""
    init_containers = pod.spec.init_containers or ()
    moments: list[Sequence[Container]] = [[*pod.spec.containers, *_sidecars(init_containers)]]
    for at, container in enumerate(init_containers):
        moments.append([*_sidecars(init_containers[:at]), container])
    total: Amounts = {}
    for moment in moments:
        here: Amounts = {}
        for container in moment:
            for name, quantity in (container.resources.requests or {}).items():
                here[name] = here.get(name, 0) + amount(name, quantity)
        total = {name: max(total.get(name, 0), here.get(name, 0)) for name in {**total, **here}}
    of_pod = (pod.spec.resources.requests if pod.spec.resources else None) or {}
    total |= {name: amount(name, quantity) for name, quantity in of_pod.items()}
    for name, quantity in (pod.spec.overhead or {}).items():
        total[name] = total.get(name, 0) + amount(name, quantity)
    return total


def amount(name: str, quantity: str) -> int:
    return milli_value(quantity) if name == "cpu" else value(quantity)


def host_ports(pod: Pod) -> list[tuple[int, str, str]]:
    """POD-22: (port, protocol, address)."""
    return [
        (port.host_port, port.protocol or "TCP", port.host_ip or "0.0.0.0")
        for container in [*pod.spec.containers, *_sidecars(pod.spec.init_containers or ())]
        for port in container.ports or ()
        if port.host_port
    ]


def have_conflict(
    mine: Sequence[tuple[int, str, str]], theirs: Sequence[tuple[int, str, str]]
) -> bool:
    """SCHED-8: two of these ports cannot be on one node."""
    return any(
        (number, protocol) == (number_2, protocol_2)
        and ("0.0.0.0" in (address, address_2) or address == address_2)
        for number, protocol, address in mine
        for number_2, protocol_2, address_2 in theirs
    )


def _sidecars(init_containers: Sequence[Container]) -> list[Container]:
    return [container for container in init_containers if container.restart_policy == "Always"]
