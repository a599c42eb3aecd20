"""ServiceCIDRs: the condition Ready, and no removal while an address is in use. Rules PROT-4,
PROT-5 (spec/workloads/protection.md).

Source: Kubernetes documentation, "Extend Service IP Ranges"; KEP-1880, "Multiple Service CIDRs".
Left out: upstream waits ten seconds, so that every API server has received the deletion.
"""

from ipaddress import ip_address, ip_network
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.conditions import get_condition, remove_condition, transition_time
from refk8s.core.api.finalizers import SERVICE_CIDR_PROTECTION
from refk8s.core.api.meta_v1 import Condition
from refk8s.core.api.networking_v1 import IPAddress, ServiceCIDR
from refk8s.core.api.request import Request
from refk8s.core.api.resources import IP_ADDRESSES, SERVICE_CIDRS
from refk8s.core.api.user import service_account_user
from refk8s.core.context import Instant, timestamp
from refk8s.core.loop.plan import NOTHING, Key, Local, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import View

READY, TERMINATING = "Ready", "Terminating"
READY_WORDS = "Kubernetes Service CIDR is ready"
HELD_WORDS = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new ServiceCIDR"


def contains(service_cidr: ServiceCIDR, address: str) -> bool:
    """Whether the address is in one of the ranges; False for an invalid address or range."""
    try:
        parsed = ip_address(address)
        networks = [ip_network(text, strict=False) for text in service_cidr.spec.cidrs or ()]
    except ValueError:
        return False
    return any(parsed.version == network.version and parsed in network for network in networks)


def _terminating(view: View, old: IPAddress | None, new: IPAddress | None) -> list[Key]:
    """The terminating ServiceCIDRs, if an address was removed."""
    if new is not None or old is None:
        return []
    return [
        cidr.metadata.name
        for cidr in view.list(SERVICE_CIDRS)
        if cidr.metadata.deletion_timestamp is not None
    ]


class ServiceCIDRController(Reconciler):
    """Reconciles one ServiceCIDR."""

    name = "service-cidr-controller"
    user = service_account_user("kube-system", "service-cidrs-controller")
    interests = (Interest(SERVICE_CIDRS, own_key), Interest(IP_ADDRESSES, _terminating))

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        service_cidr: ServiceCIDR | None = view.get(SERVICE_CIDRS, key)
        if service_cidr is None:
            return NOTHING
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
        others = [
            cidr
            for cidr in view.list(SERVICE_CIDRS)
            if cidr is not service_cidr and cidr.metadata.deletion_timestamp is None
        ]
        for held_address in view.list(IP_ADDRESSES):
            name = held_address.metadata.name or ""
            if contains(service_cidr, name) and not any(contains(other, name) for other in others):
                return _report(service_cidr, "False", TERMINATING, HELD_WORDS, now)

        # Act
        left = tuple([one for one in finalizers if one != SERVICE_CIDR_PROTECTION])
        return _write(service_cidr, left, "none of its addresses is in use")


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
