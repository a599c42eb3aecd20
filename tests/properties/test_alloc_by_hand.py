"""The parts of the allocation of addresses and ports, from plain values: what each completes, takes
and frees, compared in full (ALLOC-1 to ALLOC-12, spec/admission.md)."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace
from test_adm_by_hand import CONTEXT, NOW
from test_adm_stages import refusal

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.core_v1 import Service, ServicePort, ServiceSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import IPAddress, IPAddressSpec, ParentReference, ServiceCIDR
from refk8s.core.apiserver.admission.allocate import _band as port_band
from refk8s.core.apiserver.admission.allocate import allocate, held_keys, release
from refk8s.core.apiserver.admission.allocate_missing import allocate_missing
from refk8s.core.apiserver.admission.cluster_ips import _band, allocate_cluster_ips
from refk8s.core.apiserver.admission.ledger import Ledger, choose, holds, ip_key, port_key
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.admission.service import (
    may_have_node_ports,
    needs_cluster_ip,
    needs_health_check_port,
    needs_node_ports,
    with_cluster_ips,
    with_kept_values,
    without_type_dependents,
)
from refk8s.core.apiserver.admission.service_families import with_families
from refk8s.core.apiserver.admission.service_ranges import Range, is_ready, ranges_of
from refk8s.core.context import SECOND, Context
from refk8s.core.store import ABSENT, EMPTY, Compare, Delete, Put, Txn, commit

FOUR, SIX = IPv4Network("10.0.0.0/28"), IPv6Network("fd00::/124")
CONFIG = AdmissionConfig((FOUR,), 30000, 30003)
DUAL = AdmissionConfig((FOUR, SIX), 30000, 30003)
IPS = resources.IP_ADDRESSES.prefix


def service(name: str = "s", **spec: Any) -> Service:
    return Service(metadata=ObjectMeta(name=name, namespace="n"), spec=ServiceSpec(**spec))


def held(name: str, owner: str = "s", namespace: str = "n", resource: str = "services") -> Any:
    parent = ParentReference(group="", resource=resource, namespace=namespace, name=owner)
    return IPAddress(metadata=ObjectMeta(name=name), spec=IPAddressSpec(parent_ref=parent))


def store_of(*pairs: tuple[str, Any]) -> Any:
    history: Any = EMPTY
    for key, value in pairs:
        history, _ = commit(history, Txn((), (Put(key, value),)))
    return history


def holding(*names: Any, owner: str = "s") -> Any:
    """A store in which a service holds these addresses and ports."""
    return store_of(*[
        (ip_key(one) if isinstance(one, str) else port_key(one), held(str(one), owner))
        for one in names
    ])  # fmt: skip


class Fixed:
    """Random values that are given."""

    def __init__(self, *numbers: int) -> None:
        self.numbers = list(numbers)

    def draw(self, size: int) -> bytes:
        return (self.numbers.pop(0) if self.numbers else 0).to_bytes(size, "big")


# --- types


@pytest.mark.parametrize("kind", ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"])
@pytest.mark.parametrize("allocates", [None, True, False])
@pytest.mark.parametrize("policy", [None, "Local", "Cluster"])
def test_alloc_4_what_the_types_need(kind, allocates, policy):
    spec = ServiceSpec(type=kind, allocate_load_balancer_node_ports=allocates, external_traffic_policy=policy)  # fmt: skip
    is_balanced = kind == "LoadBalancer"
    assert needs_cluster_ip(spec) is (kind != "ExternalName")
    assert may_have_node_ports(spec) is (kind in ("NodePort", "LoadBalancer"))
    assert needs_node_ports(spec) is (
        kind == "NodePort" or (is_balanced and allocates is not False)
    )
    assert needs_health_check_port(spec) is (is_balanced and policy == "Local")


# --- omitted values


def kept(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    """The fields that an update keeps."""
    old, new = service(**before), service(**after)
    made = with_kept_values(new, old)
    assert made.metadata == new.metadata
    changed = {
        name: getattr(made.spec, name)
        for name in ServiceSpec.__struct_fields__
        if getattr(made.spec, name) != getattr(new.spec, name)
    }
    return changed


ONE = {"type": "ClusterIP", "cluster_ip": "10.0.0.1", "cluster_ips": ("10.0.0.1",), "ip_families": ("IPv4",), "ip_family_policy": "SingleStack"}  # fmt: skip
ADDRESS = {"cluster_ip": "10.0.0.1", "cluster_ips": ("10.0.0.1",)}
STACK = {"ip_families": ("IPv4",), "ip_family_policy": "SingleStack"}


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        (ONE, {"type": "ClusterIP"}, {**ADDRESS, **STACK}),
        (ONE, {"type": "NodePort", "cluster_ip": ""}, {**ADDRESS, **STACK}),
        (ONE, {"type": "ExternalName"}, {}),
        ({**ONE, "type": "ExternalName"}, {"type": "ClusterIP"}, {}),
        (ONE, {"type": "ClusterIP", "cluster_ip": "10.0.0.1"}, {"cluster_ips": ("10.0.0.1",), **STACK}),
        (ONE, {"type": "ClusterIP", "cluster_ip": "10.0.0.2"}, STACK),
        (ONE, {"type": "ClusterIP", "cluster_ips": ("10.0.0.1",)}, {"cluster_ip": "10.0.0.1", **STACK}),
        (ONE, {**ONE, "ip_families": None}, {}),
        (ONE, {**ONE, "ip_family_policy": None}, {}),
        (ONE, {**ONE, "ip_families": None, "ip_family_policy": None}, STACK),
    ],
)  # fmt: skip
def test_alloc_7_an_update_keeps_its_addresses_and_families(before, after, expected):
    assert kept(before, after) == expected


def ports(*given: Any) -> Any:
    return tuple([ServicePort(name=name, port=80, node_port=number) for name, number in given])


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((("a", 1),), (("a", None),), (("a", 1),)),
        ((("a", 1),), (("a", 0),), (("a", 1),)),
        ((("a", 1),), (("a", 2),), None),
        ((("a", 1),), (("b", None),), None),
        ((("a", None),), (("a", None),), None),
        ((("a", 1), ("b", 2)), (("b", None), ("a", None)), (("b", 2), ("a", 1))),
        ((("a", 1), ("b", 2)), (("a", None), ("b", 1)), None),
        ((("a", 1), ("b", 2)), (("a", None), ("b", 3)), (("a", 1), ("b", 3))),
        ((), (("a", None),), None),
    ],
)
@pytest.mark.parametrize(("was", "now"), [*product(["NodePort", "LoadBalancer", "ClusterIP"], repeat=2)])  # fmt: skip
def test_alloc_7_an_update_keeps_its_node_ports(before, after, expected, was, now):
    found = kept(
        {"type": was, "ports": ports(*before) or None}, {"type": now, "ports": ports(*after)}
    )
    is_kept = expected is not None and "ClusterIP" not in (was, now)
    assert found == ({"ports": ports(*expected)} if is_kept else {})
    assert kept({"type": was, "ports": ports(*before)}, {"type": now, "ports": None}) == {}


LOCAL = {"type": "LoadBalancer", "external_traffic_policy": "Local"}


@pytest.mark.parametrize("given", [None, 0, 30001])
@pytest.mark.parametrize("was_local", [True, False])
@pytest.mark.parametrize("is_local", [True, False])
def test_alloc_7_an_update_keeps_its_health_check_port(given, was_local, is_local):
    plain = {"type": "LoadBalancer"}
    before = {**(LOCAL if was_local else plain), "health_check_node_port": 30002}
    after = {**(LOCAL if is_local else plain), "health_check_node_port": given}
    is_kept = was_local and is_local and not given
    assert kept(before, after) == ({"health_check_node_port": 30002} if is_kept else {})


# --- values of the old type


def dropped(before: dict[str, Any], after: dict[str, Any]) -> dict[str, Any]:
    old, new = service(**before), service(**after)
    made = without_type_dependents(new, old)
    changed = {
        name: getattr(made.spec, name)
        for name in ServiceSpec.__struct_fields__
        if getattr(made.spec, name) != getattr(new.spec, name)
    }
    assert made.metadata == new.metadata
    return changed


FULL = {
    **ONE, "internal_traffic_policy": "Cluster", "external_traffic_policy": "Local",
    "health_check_node_port": 30002, "load_balancer_class": "a/b",
    "allocate_load_balancer_node_ports": True, "ports": ports(("a", 1), ("b", 2)),
}  # fmt: skip
OF_ADDRESS = ("cluster_ip", "cluster_ips", "ip_families", "ip_family_policy", "internal_traffic_policy")  # fmt: skip
OF_BALANCER = ("allocate_load_balancer_node_ports", "load_balancer_class")


@pytest.mark.parametrize(("was", "now"), [*product(["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"], repeat=2)])  # fmt: skip
def test_alloc_8_what_is_sent_back_unchanged_is_dropped_with_the_type(was, now):
    before, after = {**FULL, "type": was}, {**FULL, "type": now}
    external = ("NodePort", "LoadBalancer")
    expected: dict[str, Any] = {}
    if was != "ExternalName" == now:
        expected |= dict.fromkeys(OF_ADDRESS)
    if was in external and now not in external:
        expected |= {"ports": ports(("a", None), ("b", None)), "external_traffic_policy": None}
    if was == "LoadBalancer" != now:
        expected |= {**dict.fromkeys(OF_BALANCER), "health_check_node_port": None}
    assert dropped(before, after) == expected
    if was == now:
        new = service(**after)
        assert without_type_dependents(new, service(**before)) is new


@pytest.mark.parametrize(
    ("was", "change", "expected"),
    [
        ("ClusterIP", {"cluster_ip": "10.0.0.2"}, {"ip_families": None, "ip_family_policy": None, "internal_traffic_policy": None}),
        ("ClusterIP", {"cluster_ips": ("10.0.0.2",)}, {"ip_families": None, "ip_family_policy": None, "internal_traffic_policy": None}),
        ("ClusterIP", {"cluster_ip": None}, {name: None for name in OF_ADDRESS if name != "cluster_ip"}),
        ("ClusterIP", {"cluster_ips": None}, {name: None for name in OF_ADDRESS if name != "cluster_ips"}),
        ("ClusterIP", {"ip_families": ("IPv6",)}, {name: None for name in OF_ADDRESS if name != "ip_families"}),
        ("ClusterIP", {"ip_family_policy": "PreferDualStack"}, {name: None for name in OF_ADDRESS if name != "ip_family_policy"}),
        ("ClusterIP", {"internal_traffic_policy": "Local"}, {name: None for name in OF_ADDRESS if name != "internal_traffic_policy"}),
    ],
)  # fmt: skip
def test_alloc_8_what_is_changed_with_the_type_stays(was, change, expected):
    assert dropped({**FULL, "type": was}, {**FULL, "type": "ExternalName", **change}) == expected


@pytest.mark.parametrize(
    ("change", "stays"),
    [
        ({}, ()),
        ({"ports": ports(("a", 1), ("b", 3))}, ("ports",)),
        ({"ports": ports(("c", 2), ("b", None))}, ()),
        ({"ports": None}, ("ports",)),
        ({"health_check_node_port": 30003}, ("health_check_node_port",)),
        ({"load_balancer_class": "c/d"}, ("load_balancer_class",)),
        ({"allocate_load_balancer_node_ports": False}, ("allocate_load_balancer_node_ports",)),
        ({"external_traffic_policy": "Cluster"}, ("external_traffic_policy",)),
        ({"external_ips": ("192.0.2.1",)}, ("external_traffic_policy",)),
    ],
)
def test_alloc_8_what_a_load_balancer_leaves(change, stays):
    after = {**FULL, "type": "ClusterIP", **change}
    given = after["ports"] or ()
    bare = tuple([replace(port, node_port=None) for port in given]) or None
    expected = {
        **dict.fromkeys(OF_BALANCER), "health_check_node_port": None, "ports": bare,
        "external_traffic_policy": None,
    }  # fmt: skip
    for name in stays:
        del expected[name]
    assert dropped({**FULL, "type": "LoadBalancer"}, after) == expected


def test_alloc_8_the_health_check_port_ends_with_the_policy():
    before = {**FULL, "type": "LoadBalancer"}
    after = {**before, "external_traffic_policy": "Cluster"}
    assert dropped(before, after) == {"health_check_node_port": None}
    assert dropped(before, {**after, "health_check_node_port": 30003}) == {}
    assert dropped({**before, "type": "NodePort"}, {**after, "type": "NodePort"}) == {}
    without = {"type": "NodePort", "ports": None}
    assert dropped(without, {"type": "ClusterIP", "ports": ports(("a", 5))}) == {}


@pytest.mark.parametrize(
    ("before", "address", "addresses", "expected"),
    [
        (None, None, None, None),
        (None, "a", None, ("a",)),
        (None, "a", (), ("a",)),
        (None, "a", ("a",), ("a",)),
        (None, "a", ("b",), ("b",)),
        (None, None, ("b",), ("b",)),
        (("a", ("a", "b")), None, ("a", "b"), None),
        (("a", ("a", "b")), "", ("a", "b"), None),
        (("a", ("a", "b")), None, ("b",), ("b",)),
        (("a", ("a", "b")), "c", ("a", "b"), ("c",)),
        (("a", ("a", "b")), "c", ("c", "b"), ("c", "b")),
        (("a", ("a", "b")), "c", ("d", "b"), ("d", "b")),
        ((None, ("a",)), None, ("a",), ("a",)),
    ],
)
def test_alloc_3_the_first_address_under_both_names(before, address, addresses, expected):
    new = service(cluster_ip=address, cluster_ips=addresses)
    old = None if before is None else service(cluster_ip=before[0], cluster_ips=before[1])
    made = with_cluster_ips(new, old)
    assert made == replace(new, spec=replace(new.spec, cluster_ips=expected))
    assert (made is new) is (addresses == expected)


# --- families

BOTH = ("IPv4", "IPv6")
AT = 'Service "s" is invalid: '


def families(new: Service, old: Any = None, configured: Any = BOTH) -> Any:
    return with_families(new, old, configured)


@pytest.mark.parametrize(
    ("configured", "spec", "policy", "expected"),
    [
        (("IPv4",), {}, "SingleStack", ("IPv4",)),
        (("IPv6", "IPv4"), {}, "SingleStack", ("IPv6",)),
        (BOTH, {"ip_families": ("IPv6",)}, "SingleStack", ("IPv6",)),
        (BOTH, {"ip_family_policy": "PreferDualStack"}, "PreferDualStack", BOTH),
        (("IPv4",), {"ip_family_policy": "PreferDualStack"}, "PreferDualStack", ("IPv4",)),
        (BOTH, {"ip_family_policy": "RequireDualStack", "ip_families": ("IPv6",)}, "RequireDualStack", ("IPv6", "IPv4")),
        (BOTH, {"ip_family_policy": "RequireDualStack", "ip_families": BOTH}, "RequireDualStack", BOTH),
        (BOTH, {"cluster_ips": ("fd00::1",)}, "SingleStack", ("IPv6",)),
        (BOTH, {"ip_family_policy": "PreferDualStack", "cluster_ips": ("fd00::1", "10.0.0.1")}, "PreferDualStack", ("IPv6", "IPv4")),
        (("IPv4",), {"cluster_ips": ("None",)}, "RequireDualStack", BOTH),
        (("IPv6",), {"cluster_ips": ("None",)}, "RequireDualStack", ("IPv6", "IPv4")),
        (("IPv4",), {"cluster_ips": ("None",), "ip_families": ("IPv6",)}, "SingleStack", ("IPv6",)),
        (("IPv4",), {"cluster_ips": ("None",), "ip_families": BOTH}, "RequireDualStack", BOTH),
        (("IPv4",), {"cluster_ips": ("None",), "ip_family_policy": "SingleStack"}, "SingleStack", ("IPv4",)),
        (BOTH, {"cluster_ips": ("None",), "ip_family_policy": "SingleStack"}, "SingleStack", ("IPv4",)),
        (BOTH, {"cluster_ips": ("None",), "selector": {"a": "b"}}, "SingleStack", ("IPv4",)),
        (BOTH, {"cluster_ips": ("None",), "selector": {"a": "b"}, "ip_family_policy": "PreferDualStack"}, "PreferDualStack", BOTH),
    ],
)  # fmt: skip
def test_alloc_2_the_policy_and_families_of_a_new_service(configured, spec, policy, expected):
    addresses = spec.get("cluster_ips")
    given = {"type": "ClusterIP", **spec, **({"cluster_ip": addresses[0]} if addresses else {})}
    new = service(**given)
    made = families(new, None, configured)
    assert made == replace(new.spec, ip_family_policy=policy, ip_families=expected)


POLICY = "spec.ipFamilyPolicy: Invalid value: "
SEVERAL = "must be 'RequireDualStack' or 'PreferDualStack' when multiple {} are specified"
SINGLE_POLICY = f'{POLICY}"SingleStack": '


@pytest.mark.parametrize(
    ("configured", "spec", "words"),
    [
        (("IPv4",), {"ip_family_policy": "RequireDualStack"}, f'{POLICY}"RequireDualStack": this cluster is not configured for dual-stack services'),
        (("IPv4",), {"ip_families": ("IPv6",)}, 'spec.ipFamilies[0]: Invalid value: "IPv6": not configured on this cluster'),
        (("IPv4",), {"ip_family_policy": "RequireDualStack", "ip_families": BOTH}, f'[{POLICY}"RequireDualStack": this cluster is not configured for dual-stack services, spec.ipFamilies[1]: Invalid value: "IPv6": not configured on this cluster]'),
        (BOTH, {"ip_families": BOTH}, SINGLE_POLICY + SEVERAL.format("IP families")),
        (BOTH, {"cluster_ips": ("10.0.0.1", "fd00::1")}, SINGLE_POLICY + SEVERAL.format("cluster IPs")),
        (BOTH, {"cluster_ips": ("10.0.0.1", "fd00::1"), "ip_families": BOTH}, f"[{SINGLE_POLICY}{SEVERAL.format('cluster IPs')}, {SINGLE_POLICY}{SEVERAL.format('IP families')}]"),
        (("IPv4",), {"cluster_ips": ("fd00::1",)}, 'spec.clusterIPs[0]: Invalid value: ["fd00::1"]: IPv6 is not configured on this cluster'),
        (("IPv4",), {"ip_family_policy": "PreferDualStack", "cluster_ips": ("10.0.0.1", "fd00::1")}, 'spec.clusterIPs[1]: Invalid value: ["10.0.0.1","fd00::1"]: IPv6 is not configured on this cluster'),
    ],
)  # fmt: skip
def test_alloc_2_families_that_do_not_fit(configured, spec, words):
    addresses = spec.get("cluster_ips")
    given = {"type": "ClusterIP", **spec, **({"cluster_ip": addresses[0]} if addresses else {})}
    assert refusal(families, service(**given), None, configured) == (422, AT + words)


def test_alloc_2_addresses_that_do_not_match_are_refused_before():
    new = service(type="ClusterIP", cluster_ip="10.0.0.1", cluster_ips=("10.0.0.2",))
    words = 'spec.clusterIPs: Invalid value: ["10.0.0.2"]: first value must match `clusterIP`'
    assert refusal(families, new) == (422, AT + words)


def test_alloc_12_a_headless_service_keeps_its_first_family():
    headless = {"type": "ClusterIP", "cluster_ip": "None", "cluster_ips": ("None",), "ip_families": ("IPv6", "IPv4")}  # fmt: skip
    new = service(**headless, ip_family_policy="SingleStack")
    old = service(**headless, ip_family_policy="RequireDualStack")
    assert families(new, old).ip_families == ("IPv6",)


def test_alloc_2_an_external_name_has_no_families():
    new = service(type="ExternalName", ip_family_policy="RequireDualStack")
    assert families(new, None, ("IPv4",)) is new.spec


TWO = {"type": "ClusterIP", "cluster_ip": "10.0.0.1", "cluster_ips": ("10.0.0.1", "fd00::1"), "ip_families": BOTH, "ip_family_policy": "PreferDualStack"}  # fmt: skip


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (
            {"ip_family_policy": "SingleStack"},
            {"cluster_ips": ("10.0.0.1",), "ip_families": ("IPv4",)},
        ),
        (
            {"ip_family_policy": "SingleStack", "ip_families": ("IPv4",)},
            {"cluster_ips": ("10.0.0.1",)},
        ),
        (
            {"ip_family_policy": "SingleStack", "cluster_ips": ("10.0.0.1",)},
            {"ip_families": ("IPv4",)},
        ),
        ({"ip_family_policy": None}, {"ip_family_policy": "PreferDualStack"}),
        ({"ip_family_policy": "RequireDualStack"}, {}),
        ({"external_ips": ("192.0.2.1",)}, {}),
    ],
)
def test_alloc_12_how_a_service_with_two_families_changes(change, expected):
    new = service(**{**TWO, **change})
    assert families(new, service(**TWO)) == replace(new.spec, **expected)


RELEASE = "must be 'SingleStack' to release the secondary {}"


@pytest.mark.parametrize("policy", ["PreferDualStack", "RequireDualStack"])
@pytest.mark.parametrize(
    ("change", "what"),
    [({"cluster_ips": ("10.0.0.1",)}, "cluster IP"), ({"ip_families": ("IPv4",)}, "IP family")],
)
def test_alloc_12_what_only_single_stack_releases(policy, change, what):
    new = service(**{**TWO, "ip_family_policy": policy, **change})
    words = f'{POLICY}"{policy}": {RELEASE.format(what)}'
    assert refusal(families, new, service(**{**TWO, "ip_family_policy": policy})) == (
        422,
        AT + words,
    )
    without = {**dict.fromkeys(change), **({"cluster_ip": None} if "cluster_ips" in change else {})}
    gone = service(**{**TWO, "ip_family_policy": policy, **without})
    assert families(gone, service(**TWO)).ip_families == BOTH


ALONE = {"type": "ClusterIP", "cluster_ip": "10.0.0.1", "cluster_ips": ("10.0.0.1",), "ip_families": ("IPv4",), "ip_family_policy": "PreferDualStack"}  # fmt: skip


@pytest.mark.parametrize(
    ("before", "change", "stays"),
    [
        ({}, {}, True),
        ({"ip_family_policy": None}, {}, True),
        ({"ip_family_policy": "SingleStack"}, {}, False),
        ({}, {"ip_family_policy": "RequireDualStack"}, False),
        ({}, {"type": "NodePort"}, False),
        ({"cluster_ips": None}, {}, False),
        ({"ip_families": None}, {}, False),
    ],
)
def test_alloc_12_a_service_that_prefers_two_keeps_one(before, change, stays):
    new = service(**{**ALONE, **change})
    made = families(new, service(**{**ALONE, **before}))
    assert made.ip_families == (("IPv4",) if stays else BOTH)
    assert (made is new.spec) is stays


# --- the ledger


def ledger_of(store: Any = EMPTY, spec: Any = None, config: Any = CONFIG, context: Any = CONTEXT, **more: Any) -> Ledger:  # fmt: skip
    return Ledger(spec or service(), store, context, config, **more)


def test_alloc_1_what_is_allocated_and_freed():
    store = holding("10.0.0.1", 30000)
    ledger = ledger_of(store)
    assert not ledger.is_free(ip_key("10.0.0.1")) and ledger.is_free(ip_key("10.0.0.2"))
    ledger.allocate(ip_key("10.0.0.2"), "10.0.0.2", {"a": "b"})
    assert not ledger.is_free(ip_key("10.0.0.2"))
    [put] = ledger.writes
    uid = put.value.metadata.uid
    parent = ParentReference(group="", resource="services", namespace="n", name="s")
    metadata = ObjectMeta(name="10.0.0.2", uid=uid, creation_timestamp=NOW, labels={"a": "b"})
    expected = IPAddress(metadata=metadata, spec=IPAddressSpec(parent_ref=parent))
    assert put == Put(f"{IPS}10.0.0.2", expected) and uid
    assert ledger.compares == [Compare(f"{IPS}10.0.0.2", ABSENT)]
    ledger = ledger_of(store)
    for key in (ip_key("10.0.0.1"), port_key(30000), port_key(30001)):
        ledger.free(key)
    keys = [ip_key("10.0.0.1"), port_key(30000)]
    assert ledger.writes == [Delete(key) for key in keys]
    assert ledger.compares == [Compare(key, store.get(key).mod_revision) for key in keys]
    other = ledger_of(holding("10.0.0.1", owner="t"))
    other.free(ip_key("10.0.0.1"))
    assert (other.writes, other.compares) == ([], [])


def test_alloc_4_a_ledger_is_none_of_a_dry_run():
    assert ledger_of().is_dry_run is False and ledger_of(is_dry_run=True).is_dry_run is True


def test_alloc_1_what_is_requested():
    for owner, is_taken in (("s", True), ("t", False)):
        store = holding("10.0.0.1", owner=owner)
        ledger = ledger_of(store)
        key = ip_key("10.0.0.1")
        assert ledger.allocate_requested(key, "10.0.0.1", None) is is_taken
        kept_ = [Compare(key, store.get(key).mod_revision)] if is_taken else []
        assert (ledger.writes, ledger.compares) == ([], kept_)
    ledger = ledger_of()
    assert ledger.allocate_requested(port_key(30000), "30000", {"a": "b"}) is True
    assert ledger.writes[0].value.metadata.labels == {"a": "b"}
    assert ledger.writes[0].value.metadata.name == "30000"
    assert ledger.allocate_requested(port_key(30000), "30000", None) is False


def test_alloc_1_whose_a_record_is():
    mine = service()
    assert holds(mine, held("x"))
    for other in (held("x", "t"), held("x", namespace="m"), held("x", resource="pods")):
        assert not holds(mine, other)


def test_alloc_1_the_keys_of_records():
    assert ip_key("FD00:0::000A") == f"{IPS}fd00::a" and ip_key("odd") == f"{IPS}odd"
    assert port_key(30000) == "/internal/nodeports/30000"
    spec = ServiceSpec(
        type="NodePort", cluster_ips=("10.0.0.1", "None", "fd00::1"), health_check_node_port=30005,
        ports=ports(("a", 30002), ("b", None), ("c", 30001), ("d", 30002)),
    )  # fmt: skip
    addresses = (ip_key("10.0.0.1"), ip_key("fd00::1"))
    numbers = tuple(map(port_key, (30001, 30002, 30005)))
    assert held_keys(spec) == (*addresses, *numbers)
    assert held_keys(replace(spec, type="ClusterIP")) == (*addresses, port_key(30005))
    assert held_keys(ServiceSpec()) == ()


@pytest.mark.parametrize(("first", "last", "band"), [(0, 9, 4), (10, 13, 0), (5, 5, 1), (0, 3, 4), (0, 40, 16), (0, 1, 0)])  # fmt: skip
@pytest.mark.parametrize(
    "taken",
    [
        (),
        (0, 1, 2, 3),
        (4, 5, 6, 7, 8),
        (5,),
        tuple(range(4, 41)),
        (13,),
        (10, 11, 12),
        (11, 12, 13),
        (9,),
    ],
)
def test_alloc_5_a_number_above_the_band_before_one_within(first, last, band, taken):
    store = holding(*taken)
    free = [one for one in range(first, last + 1) if one not in taken]
    above = [one for one in free if one >= first + band] or free
    found = {
        choose(first, last, band, port_key, "/internal/nodeports/", ledger_of(store, context=Context(0, Fixed(*[seed] * 40))))
        for seed in range(60)
    }  # fmt: skip
    assert found == (set(above) if above else {None})


def test_alloc_5_what_this_decision_has_taken_is_not_chosen():
    ledger = ledger_of(holding(0, 1), context=Context(0, Fixed()))
    for expected in (2, 3, None):
        number = choose(0, 3, 0, port_key, "/internal/nodeports/", ledger)
        assert number == expected
        if number is not None:
            ledger.allocate(port_key(number), str(number), None)


@pytest.mark.parametrize(
    ("size", "band"),
    [(1, 0), (2, 0), (3, 1), (16, 14), (18, 16), (256, 16), (272, 17), (280, 17), (4096, 256), (8192, 256), (1 << 64, 256)],
)  # fmt: skip
def test_alloc_5_the_band_of_a_range(size, band):
    assert _band(size) == band


@pytest.mark.parametrize(
    ("size", "band"),
    [
        (1, 1),
        (15, 15),
        (16, 16),
        (17, 16),
        (543, 16),
        (544, 17),
        (560, 17),
        (4096, 128),
        (8192, 128),
    ],
)
def test_alloc_5_the_band_of_node_ports(size, band):
    assert port_band(size) == band
    config = AdmissionConfig((FOUR,), 30000, 30000 + size - 1)
    ledger = Context(0, Fixed())
    made = allocate(node_port_service((80, None)), None, EMPTY, ledger, config)
    assert numbers(made) == [30000 + band % size]


# --- ranges


def cidr(name: str, *cidrs: str, ready: Any = None, ends: bool = False) -> ServiceCIDR:
    conditions = [] if ready is None else [{"type": "Ready", "status": ready}]
    metadata = {"name": name, **({"deletionTimestamp": NOW} if ends else {})}
    tree = {"metadata": metadata, "spec": {"cidrs": [*cidrs]}, "status": {"conditions": conditions}}
    return from_tree(ServiceCIDR, tree)


@pytest.mark.parametrize("ready", [None, "True", "False", "Unknown"])
@pytest.mark.parametrize("ends", [True, False])
def test_alloc_11_which_ranges_are_ready(ready, ends):
    found = cidr("a", "10.0.0.0/24", ready=ready, ends=ends)
    assert is_ready(found) is (not ends and ready in (None, "True"))
    key = resources.SERVICE_CIDRS.prefix
    default = Range(FOUR, f"{key}kubernetes")
    expected = (Range(ip_network("10.0.0.0/24"), f"{key}a"),) if is_ready(found) else ()
    store = store_of((f"{key}a", found))
    assert ranges_of(store, CONFIG) == (default, *expected)


def test_alloc_11_the_ranges_in_their_order():
    key = resources.SERVICE_CIDRS.prefix
    store = store_of(
        (f"{key}a", cidr("a", "10.1.0.0/24", "fd01::/64", "fd02::/63")),
        (f"{key}kubernetes", cidr("kubernetes", "10.0.0.0/28", "10.2.0.0/24")),
    )
    found = [(str(one.network), one.key) for one in ranges_of(store, CONFIG)]
    mine, other = f"{key}kubernetes", f"{key}a"
    assert found == [("10.0.0.0/28", mine), ("10.1.0.0/24", other), ("fd01::/64", other), ("10.2.0.0/24", mine)]  # fmt: skip
    unready = store_of((mine, cidr("kubernetes", "10.0.0.0/28", ready="False")))
    assert ranges_of(unready, CONFIG) == ()
    assert ranges_of(EMPTY, DUAL) == (Range(FOUR, mine), Range(SIX, mine))


@pytest.mark.parametrize(
    ("network", "first", "last"),
    [("10.0.0.0/28", "10.0.0.1", "10.0.0.14"), ("fd00::/124", "fd00::1", "fd00::f")],
)
def test_alloc_11_the_addresses_of_a_range(network, first, last):
    found = Range(ip_network(network), "k")
    assert (found.first, found.last) == (int(ip_address(first)), int(ip_address(last)))
    for number in range(int(found.network[0]) - 1, int(found.network[-1]) + 2):
        address = ip_address(number) if found.network.version == 4 else IPv6Address(number)
        assert found.contains(address) is (found.first <= number <= found.last)
    other = ip_address("fd00::1" if found.network.version == 4 else "10.0.0.1")
    assert not found.contains(other)
    assert not found.contains(IPv6Address(found.first) if found.network.version == 4 else other)


# --- cluster IPs

CIDR_KEY = resources.SERVICE_CIDRS.prefix + "kubernetes"
LABELS = {
    family: {
        "ipaddress.kubernetes.io/ip-family": family,
        "ipaddress.kubernetes.io/managed-by": "ipallocator.k8s.io",
    }
    for family in BOTH
}


def took(new: Service, old: Any = None, store: Any = EMPTY, config: Any = DUAL) -> tuple[Any, Ledger]:  # fmt: skip
    ledger = ledger_of(store, new if old is None else old, config)
    return allocate_cluster_ips(new.spec, old, ledger), ledger


def test_alloc_5_a_new_service_gets_an_address_of_each_family():
    new = service(type="ClusterIP", ip_families=("IPv6", "IPv4"))
    spec, ledger = took(new)
    first, second = spec.cluster_ips
    assert ip_address(first) in SIX and ip_address(second) in FOUR and spec.cluster_ip == first
    assert spec == replace(new.spec, cluster_ip=first, cluster_ips=(first, second))
    assert [(one.key, one.value.metadata.name, one.value.metadata.labels) for one in ledger.writes] == [
        (ip_key(first), first, LABELS["IPv6"]), (ip_key(second), second, LABELS["IPv4"]),
    ]  # fmt: skip
    range_ = Compare(CIDR_KEY, ABSENT)
    assert ledger.compares == [
        Compare(ip_key(first), ABSENT),
        range_,
        Compare(ip_key(second), ABSENT),
    ]


def test_alloc_11_the_range_of_an_address_must_stay():
    store = store_of((CIDR_KEY, cidr("kubernetes", str(FOUR))))
    compare = Compare(CIDR_KEY, store.get(CIDR_KEY).mod_revision)
    for spec in (
        {"ip_families": ("IPv4",)},
        {"ip_families": ("IPv4",), "cluster_ips": ("10.0.0.3",)},
    ):
        _, ledger = took(service(type="ClusterIP", **spec), None, store)
        assert ledger.compares[1:] == [compare] and len(ledger.writes) == 1


def test_alloc_6_what_a_changed_service_keeps_and_frees():
    store = holding("10.0.0.1", "fd00::1")
    old = service(**TWO)
    single = service(**{**TWO, "cluster_ips": ("10.0.0.1",), "ip_families": ("IPv4",)})
    spec, ledger = took(single, old, store)
    assert spec is single.spec and ledger.writes == [Delete(ip_key("fd00::1"))]
    same = service(**{**TWO, "external_ips": ("192.0.2.1",)})
    spec, ledger = took(same, old, store)
    assert spec is same.spec and (ledger.writes, ledger.compares) == ([], [])
    gone = service(type="ExternalName")
    spec, ledger = took(gone, old, store)
    assert spec is gone.spec
    assert ledger.writes == [Delete(ip_key("10.0.0.1")), Delete(ip_key("fd00::1"))]
    more = service(**{**ALONE, "ip_families": BOTH})
    spec, ledger = took(more, service(**ALONE), holding("10.0.0.1"))
    assert spec.cluster_ips[0] == "10.0.0.1" and ip_address(spec.cluster_ips[1]) in SIX
    assert [one.key for one in ledger.writes] == [ip_key(spec.cluster_ips[1])]
    back = service(type="ClusterIP", ip_families=("IPv4",))
    spec, ledger = took(back, service(type="ExternalName"))
    assert len(spec.cluster_ips) == 1 and len(ledger.writes) == 1


def test_alloc_3_a_headless_service_has_no_address():
    headless = {
        "type": "ClusterIP",
        "cluster_ip": "None",
        "cluster_ips": ("None",),
        "ip_families": BOTH,
    }
    new = service(**headless)
    for old in (None, service(**headless), service(**TWO)):
        spec, ledger = took(new, old, holding("10.0.0.1", "fd00::1"))
        assert spec is new.spec and (ledger.writes, ledger.compares) == ([], [])
    other = service(type="ClusterIP", cluster_ip="10.0.0.5", cluster_ips=("10.0.0.5",), ip_families=("IPv4",))  # fmt: skip
    spec, ledger = took(other, service(**headless))
    assert spec is other.spec and ledger.writes == [], "validation rejects it"
    gone = service(type="ExternalName")
    assert took(gone, service(**headless))[1].writes == []


@pytest.mark.parametrize(
    ("given", "why"),
    [
        (("10.0.0.1",), "provided IP is already allocated"),
        (("10.9.0.1",), "the provided network does not match the current range"),
        (("10.0.0.0",), "the provided network does not match the current range"),
        (("10.0.0.2", "fd00::1"), "provided IP is already allocated"),
    ],
)
def test_alloc_5_a_requested_address_that_is_not_free(given, why):
    store = holding("10.0.0.1", "fd00::1", owner="t")
    new = service(type="ClusterIP", cluster_ip=given[0], cluster_ips=given, ip_families=BOTH[: len(given)])  # fmt: skip
    shown = "[" + ",".join([f'"{one}"' for one in given]) + "]"
    words = f"spec.clusterIPs: Invalid value: {shown}: failed to allocate IP {given[-1]}: {why}"
    assert refusal(took, new, None, store) == (422, AT + words)


def test_alloc_5_other_requested_addresses():
    new = service(type="ClusterIP", cluster_ip="10.0.0.3", cluster_ips=("10.0.0.3",), ip_families=("IPv4",))  # fmt: skip
    spec, ledger = took(new)
    assert spec is new.spec
    [put] = ledger.writes
    assert (put.key, put.value.metadata.name, put.value.metadata.labels) == (ip_key("10.0.0.3"), "10.0.0.3", LABELS["IPv4"])  # fmt: skip
    odd = service(type="ClusterIP", cluster_ip="odd", cluster_ips=("odd",), ip_families=("IPv4",))
    spec, ledger = took(odd)
    assert spec is odd.spec and ledger.writes == [], "validation rejects it"
    full = holding(*[str(one) for one in FOUR.hosts()])
    any_ = service(type="ClusterIP", ip_families=("IPv4",))
    words = "Internal error occurred: failed to allocate a serviceIP: range is full"
    assert refusal(took, any_, None, full) == (500, words)
    assert took(any_, None, EMPTY)[0].cluster_ip
    no_six = refusal(took, service(type="ClusterIP", ip_families=("IPv6",)), None, EMPTY, CONFIG)
    assert no_six[0] == 500


# --- node ports


def admitted(new: Service, old: Any = None, store: Any = EMPTY, config: Any = CONFIG, **more: Any) -> Any:  # fmt: skip
    return allocate(new, old, store, Context(1_700_000_000 * SECOND, Fixed()), config, **more)


def node_port_service(*given: Any, kind: str = "NodePort", **more: Any) -> Service:
    """Ports as (port, node port)."""
    made = tuple([
        ServicePort(name=f"p{n}", port=port, node_port=number) for n, (port, number) in enumerate(given)
    ])  # fmt: skip
    return service(**{**ONE, "type": kind, "ports": made, **more})


def numbers(found: Any) -> list[Any]:
    return [port.node_port for port in found.object.spec.ports or ()]


@pytest.mark.parametrize(
    ("given", "kind", "taken", "expected"),
    [
        ([(80, None)], "NodePort", (), [30000]),
        ([(80, None), (81, None)], "NodePort", (), [30000, 30001]),
        ([(80, None), (80, None)], "NodePort", (), [30000, 30000]),
        ([(80, 30002), (80, None)], "NodePort", (), [30002, 30002]),
        ([(80, None), (80, 30002)], "NodePort", (), [30002, 30002]),
        ([(80, 30001), (80, 30002)], "NodePort", (), [30001, 30002]),
        ([(80, 30001), (81, None)], "NodePort", (30000,), [30001, 30002]),
        ([(80, None)], "LoadBalancer", (30000, 30001), [30002]),
        ([(80, None)], "ClusterIP", (), [None]),
        ([(80, 0), (81, 30003)], "NodePort", (), [30000, 30003]),
    ],
)
def test_alloc_4_the_node_ports_of_a_new_service(given, kind, taken, expected):
    found = admitted(node_port_service(*given, kind=kind), None, holding(*taken, owner="t"))
    assert numbers(found) == expected
    wanted = {port_key(number) for number in expected if number}
    assert {one.key for one in found.writes if "nodeports" in one.key} == wanted
    assert all(Compare(key, ABSENT) in found.compares for key in wanted)
    assert {one.value.metadata.name for one in found.writes if "nodeports" in one.key} == {
        str(number) for number in expected if number
    }
    assert all(one.value.metadata.labels is None for one in found.writes if "nodeports" in one.key)


def test_alloc_4_only_services_with_node_ports_take_some():
    inner = node_port_service((80, 30001), kind="ClusterIP")
    found = admitted(inner)
    assert numbers(found) == [30001], "validation rejects it"
    assert not [one for one in found.writes if "nodeports" in one.key]
    without = service(**{**ONE, "type": "NodePort"})
    assert admitted(without).object.spec.ports is None


def test_alloc_12_an_update_is_compared_with_the_stored_service():
    moved = service(**{**ONE, "cluster_ip": "10.0.0.2"})
    made = admitted(moved, service(**ONE), holding("10.0.0.1")).object.spec
    assert made.cluster_ips == ("10.0.0.2",), "validation rejects it"
    single = service(**{**TWO, "ip_family_policy": "SingleStack"})
    found = admitted(single, service(**TWO), holding("10.0.0.1", "fd00::1"), DUAL)
    assert found.object.spec.cluster_ips == ("10.0.0.1",)
    assert found.writes == (Delete(ip_key("fd00::1")),)


def test_alloc_4_a_load_balancer_without_node_ports():
    bare = {"kind": "LoadBalancer", "allocate_load_balancer_node_ports": False}
    found = admitted(node_port_service((80, None), (81, 30001), **bare))
    assert numbers(found) == [None, 30001]
    more = node_port_service((80, None), (81, 30001), (82, 30002), **bare)
    found = admitted(more, node_port_service((80, None), (81, 30001), **bare), holding(30001))
    assert numbers(found) == [None, 30001, 30002]
    assert [one.key for one in found.writes] == [port_key(30002)]


PORT_RANGE = "provided port is not in the valid range. The range of valid ports is 30000-30003"
TAKEN = "provided port is already allocated"


@pytest.mark.parametrize(
    ("given", "taken", "place", "number", "why"),
    [
        ([(80, 29999)], (), 0, 29999, PORT_RANGE),
        ([(80, 30004)], (), 0, 30004, PORT_RANGE),
        ([(80, 30000)], (30000,), 0, 30000, TAKEN),
        ([(80, None), (81, 30003)], (30003,), 1, 30003, TAKEN),
        ([(80, 30001), (80, 30002)], (30002,), 1, 30002, TAKEN),
        ([(80, 30001), (81, 30001)], (), 1, 30001, TAKEN),
    ],
)
def test_alloc_4_a_requested_node_port_that_is_not_free(given, taken, place, number, why):
    words = f"spec.ports[{place}].nodePort: Invalid value: {number}: {why}"
    store = holding(*taken, owner="t")
    new = node_port_service(*given)
    assert refusal(admitted, new, None, store) == (422, AT + words)
    if why == PORT_RANGE:
        assert numbers(admitted(new, None, store, is_dry_run=True)) == [number]
    old = node_port_service(kind="ClusterIP")
    if [one for _, one in given].count(number) == 1:
        assert refusal(admitted, new, old, store) == (422, AT + words)


def test_alloc_4_all_node_ports_are_taken():
    words = "Internal error occurred: failed to allocate a nodePort: range is full"
    store = holding(*range(30000, 30004), owner="t")
    assert refusal(admitted, node_port_service((80, None)), None, store) == (500, words)
    assert numbers(admitted(node_port_service((80, None)), None, holding(*range(30000, 30003), owner="t"))) == [30003]  # fmt: skip


def test_alloc_4_a_changed_service():
    old = node_port_service((80, 30001), (81, 30002))
    store = holding("10.0.0.1", 30001, 30002)

    def changed(new: Service) -> tuple[list[Any], list[Any]]:
        found = admitted(new, old, store)
        return numbers(found), [(type(one).__name__, one.key) for one in found.writes]

    swapped = node_port_service((80, 30002), (81, 30001))
    assert changed(swapped) == ([30002, 30001], [])
    more = node_port_service((80, 30001), (81, 30002), (82, None), (82, None))
    assert changed(more) == ([30001, 30002, 30000, 30003], [("Put", port_key(30000)), ("Put", port_key(30003))])  # fmt: skip
    fewer = node_port_service((80, 30001))
    assert changed(fewer) == ([30001], [("Delete", port_key(30002))])
    other = node_port_service((80, 30003), (81, 30002))
    assert changed(other) == (
        [30003, 30002],
        [("Put", port_key(30003)), ("Delete", port_key(30001))],
    )
    inner = node_port_service((80, None), (81, None), kind="ClusterIP")
    assert changed(inner)[1] == [("Delete", port_key(30001)), ("Delete", port_key(30002))]
    assert admitted(old, old, store).writes == () and admitted(old, old, store).object == old


def balanced(port: Any = None, policy: str = "Local") -> Service:
    return node_port_service(
        (80, 30000),
        kind="LoadBalancer",
        external_traffic_policy=policy,
        health_check_node_port=port,
    )


def test_alloc_4_the_port_of_health_checks():
    def check_port(new: Service, old: Any = None, taken: Any = (), **more: Any) -> Any:
        found = admitted(new, old, holding("10.0.0.1", *taken), **more)
        writes = [
            (type(one).__name__, one.key) for one in found.writes
            if "nodeports" in one.key and one.key != port_key(30000)
        ]  # fmt: skip
        return found.object.spec.health_check_node_port, writes

    assert check_port(balanced()) == (30001, [("Put", port_key(30001))])
    assert check_port(balanced(30003)) == (30003, [("Put", port_key(30003))])
    assert check_port(balanced(policy="Cluster")) == (None, [])
    words = "spec.healthCheckNodePort: Invalid value: 29999: "
    assert refusal(admitted, balanced(29999)) == (422, AT + words + PORT_RANGE)
    assert admitted(balanced(29999), is_dry_run=True).object.spec.health_check_node_port == 29999
    old = balanced(30001)
    labelled = replace(old, spec=replace(old.spec, external_ips=("192.0.2.1",)))
    assert check_port(labelled, old, (30000, 30001)) == (30001, [])
    other = balanced(30002)
    assert check_port(other, old, (30000, 30001)) == (30002, [("Put", port_key(30002)), ("Delete", port_key(30001))])  # fmt: skip
    off = balanced(policy="Cluster")
    assert check_port(off, old, (30000, 30001)) == (None, [("Delete", port_key(30001))])
    on = balanced()
    assert check_port(on, balanced(policy="Cluster"), (30000,)) == (
        30001,
        [("Put", port_key(30001))],
    )


# --- removal, and records that are missing


def test_alloc_6_a_removed_service_frees_what_it_holds():
    gone = node_port_service((80, 30000), (81, 30001))
    store = holding("10.0.0.1", 30001)
    compares, writes = release(gone, store)
    keys = (ip_key("10.0.0.1"), port_key(30001))
    assert writes == tuple([Delete(key) for key in keys])
    assert compares == tuple([Compare(key, store.get(key).mod_revision) for key in keys])
    assert release(gone, holding("10.0.0.1", 30001, owner="t")) == ((), ())


def test_alloc_10_the_records_that_are_missing():
    found = service(**{**TWO, "type": "NodePort", "ports": ports(("a", 30001), ("b", 30002))})
    key = resources.SERVICES.key("n", "s")
    store = store_of((ip_key("10.0.0.1"), held("10.0.0.1")), (port_key(30001), held("30001")), (key, found))  # fmt: skip
    record = store.get(key)
    txn = allocate_missing(record, store, CONTEXT, DUAL)
    wanted = [ip_key("fd00::1"), port_key(30002)]
    assert txn.compares == (Compare(key, record.mod_revision), *[Compare(one, ABSENT) for one in wanted])  # fmt: skip
    assert [(one.key, one.value.metadata.name, one.value.metadata.labels) for one in txn.writes] == [
        (wanted[0], "fd00::1", LABELS["IPv6"]), (wanted[1], "30002", None),
    ]  # fmt: skip
    for put in txn.writes:
        store, _ = commit(store, Txn((), (put,)))
    assert allocate_missing(record, store, CONTEXT, DUAL) is None
    four = allocate_missing(record, store_of((key, found)), CONTEXT, DUAL)
    assert four.writes[0].value.metadata.labels == LABELS["IPv4"]
