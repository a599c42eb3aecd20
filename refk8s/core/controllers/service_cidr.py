"""ServiceCIDRs: the condition Ready, and no removal while an address is in use. Rules PROT-4,
PROT-5 (spec/workloads/protection.md).

Source: Kubernetes documentation, "Extend Service IP Ranges"; KEP-1880, "Multiple Service CIDRs".

Allocations hold only while their ServiceCIDR is not being deleted (ALLOC-11), and before the
finalizer is removed the addresses are read from the API server, because the view of them may be
older than the deletion. Upstream waits ten seconds instead.
"""

from collections.abc import Iterable
from ipaddress import ip_address, ip_network
from typing import Any, TypeAlias

from immutables import Map
from msgspec.structs import replace

from refk8s.core.api.conditions import get_condition, remove_condition, transition_time
from refk8s.core.api.finalizers import SERVICE_CIDR_PROTECTION
from refk8s.core.api.meta_v1 import Condition
from refk8s.core.api.networking_v1 import IPAddress, ServiceCIDR
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import IP_ADDRESSES, SERVICE_CIDRS
from refk8s.core.api.user import service_account_user
from refk8s.core.context import SECOND, Instant, timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View
from refk8s.core.value import Value, evolve

READY, TERMINATING = "Ready", "Terminating"
READY_WORDS = "Kubernetes Service CIDR is ready"
HELD_WORDS = (
    "There are still IPAddresses referencing the ServiceCIDR, "
    "please remove them or create a new ServiceCIDR"
)
RETRY: Instant = 10 * SECOND


class Asked(Value, frozen=True):
    """A ServiceCIDR whose addresses are read from the API server: its uid and ranges, the ranges of
    the others, and whether no address was only in its own."""

    uid: str
    ranges: tuple[str, ...]
    others: tuple[str, ...]
    is_unused: bool = False


Memory: TypeAlias = Map[Key, Asked]


def contains(ranges: Iterable[str], address: str) -> bool:
    """Whether the address is in one of the ranges; False for an invalid address or range."""
    try:
        parsed = ip_address(address)
        networks = [ip_network(text, strict=False) for text in ranges]
    except ValueError:
        return False
    return any(parsed.version == network.version and parsed in network for network in networks)


def is_only_in(ranges: tuple[str, ...], others: tuple[str, ...], held: IPAddress) -> bool:
    """Whether the address keeps a ServiceCIDR with these ranges (PROT-4)."""
    name = held.metadata.name or ""
    return contains(ranges, name) and not contains(others, name)


def _terminating(view: View, old: IPAddress | None, new: IPAddress | None) -> list[Key]:
    """The terminating ServiceCIDRs, if an address was removed."""
    if new is not None or old is None:
        return []
    return [
        cidr.metadata.name
        for cidr in view.list(SERVICE_CIDRS)
        if cidr.metadata.deletion_timestamp is not None
    ]


def _and_terminating(view: View, old: ServiceCIDR | None, new: ServiceCIDR | None) -> list[Key]:
    """The ServiceCIDR, and the terminating ones, which another may have replaced."""
    found = dict.fromkeys(own_key(view, old, new))
    for cidr in view.list(SERVICE_CIDRS):
        if cidr.metadata.deletion_timestamp is not None:
            found[cidr.metadata.name] = None
    return list(found)


class ServiceCIDRController(Reconciler):
    """Reconciles one ServiceCIDR."""

    name = "service-cidr-controller"
    user = service_account_user("kube-system", "service-cidrs-controller")
    interests = (Interest(SERVICE_CIDRS, _and_terminating), Interest(IP_ADDRESSES, _terminating))

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        memory: Memory = local.memory
        service_cidr: ServiceCIDR | None = view.get(SERVICE_CIDRS, key)
        if service_cidr is None:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        finalizers = service_cidr.metadata.finalizers or ()
        if service_cidr.metadata.deletion_timestamp is None:
            if SERVICE_CIDR_PROTECTION not in finalizers:
                held = (*finalizers, SERVICE_CIDR_PROTECTION)
                because = "it must not be removed while its addresses are in use"
                return _write(service_cidr, held, because)
            return _report(service_cidr, "True", "", READY_WORDS, now)

        # Decide
        if SERVICE_CIDR_PROTECTION not in finalizers:
            return NOTHING
        ranges = service_cidr.spec.cidrs or ()
        others = tuple([
            text
            for other in view.list(SERVICE_CIDRS)
            if other is not service_cidr and other.metadata.deletion_timestamp is None
            for text in other.spec.cidrs or ()
        ])  # fmt: skip
        if any(is_only_in(ranges, others, held) for held in view.list(IP_ADDRESSES)):
            plan = _report(service_cidr, "False", TERMINATING, HELD_WORDS, now)
            return evolve(plan, memory=memory.delete(key)) if key in memory else plan
        asked = Asked(service_cidr.metadata.uid or "", ranges, others)
        if memory.get(key) != evolve(asked, is_unused=True):
            because = f"ServiceCIDR {key} is being deleted"
            question = Request("list", IP_ADDRESSES, because=because)
            return Plan(queries=(question,), memory=memory.set(key, asked), wake_at=now + RETRY)

        # Act
        left = tuple([one for one in finalizers if one != SERVICE_CIDR_PROTECTION])
        return _write(service_cidr, left, "none of its addresses is in use")

    def answered(
        self, memory: Memory, key: Key, request: Request, response: Response | None, now: Instant
    ) -> tuple[Memory, Iterable[Key]]:
        """Keep whether the ServiceCIDR is unused."""
        if response is None or not response.ok or key not in memory:
            return memory, ()
        asked = memory[key]
        if any(is_only_in(asked.ranges, asked.others, held) for held in response.body.items):
            return memory, ()
        return memory.set(key, evolve(asked, is_unused=True)), (key,)


def _write(service_cidr: ServiceCIDR, finalizers: tuple[str, ...], because: str) -> Plan:
    body = replace(
        service_cidr, metadata=replace(service_cidr.metadata, finalizers=finalizers or None)
    )
    return Plan(
        (
            (
                Request(
                    "update",
                    SERVICE_CIDRS,
                    "",
                    body.metadata.name or "",
                    body=body,
                    because=because,
                ),
            ),
        )
    )


def _report(service_cidr: ServiceCIDR, status: str, reason: str, words: str, now: Instant) -> Plan:
    """PROT-5: write the condition Ready if it differs."""
    conditions: tuple[Any, ...] = service_cidr.status.conditions or ()
    known = get_condition(conditions, READY)
    if known is not None and (known.status, known.reason, known.message) == (status, reason, words):
        return NOTHING
    since = transition_time(known, status, timestamp(now))
    condition = Condition(
        type=READY, status=status, reason=reason, message=words, last_transition_time=since
    )
    conditions = (*remove_condition(conditions, READY), condition)
    body = replace(service_cidr, status=replace(service_cidr.status, conditions=conditions))
    because = words[0].lower() + words[1:]
    request = Request(
        "update", SERVICE_CIDRS, "", body.metadata.name or "", "status", body=body, because=because
    )
    return Plan(((request,),))
