"""The initial objects of a cluster, and the corrections of the service `kubernetes`, compared in full
(ADM-12, HOST-2, HOST-18, HOST-20)."""

from __future__ import annotations

from ipaddress import ip_network
from typing import Any

import pytest
from msgspec.structs import replace

from refk8s.core.api.codec import to_tree
from refk8s.core.apiserver.admission.bootstrap import (
    bootstrap_objects,
    is_of_servers,
    kubernetes_corrections,
    service_cidr_correction,
)
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.live_servers import Server

CONFIG = AdmissionConfig((ip_network("10.0.0.0/24"), ip_network("fd00::/112")))
NAMESPACES = ("default", "kube-system", "kube-public", "kube-node-lease")
UNMIRRORED = {"endpointslice.kubernetes.io/skip-mirror": "true"}
OWNED = {"endpointslice.kubernetes.io/managed-by": "apiserver.refk8s.io"}


def bare(obj: Any) -> dict[str, Any]:
    """The tree without what is empty."""

    def strip(tree: Any) -> Any:
        if isinstance(tree, dict):
            found = {key: strip(value) for key, value in tree.items()}
            return {key: value for key, value in found.items() if value not in ({}, [], None)}
        return [strip(one) for one in tree] if isinstance(tree, list) else tree

    return strip(to_tree(obj))


def endpoints(*subsets: tuple[int, list[str]]) -> dict[str, Any]:
    return {
        "kind": "Endpoints", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": UNMIRRORED},
        "subsets": [
            {
                "addresses": [{"ip": address} for address in addresses],
                "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
            }
            for port, addresses in subsets
        ],
    }  # fmt: skip


def a_slice(name: str, family: str, port: int, *addresses: str) -> dict[str, Any]:
    labels = {"kubernetes.io/service-name": "kubernetes", **(OWNED if name != "kubernetes" else {})}
    return {
        "kind": "EndpointSlice", "apiVersion": "discovery.k8s.io/v1",
        "metadata": {"name": name, "namespace": "default", "labels": labels},
        "addressType": family,
        "endpoints": [{"addresses": [one], "conditions": {"ready": True}} for one in addresses],
        "ports": [{"name": "https", "port": port, "protocol": "TCP"}],
    }  # fmt: skip


def kubernetes(port: int, address: str = "10.0.0.1") -> dict[str, Any]:
    labels = {"component": "apiserver", "provider": "kubernetes"}
    return {
        "kind": "Service", "apiVersion": "v1",
        "metadata": {"name": "kubernetes", "namespace": "default", "labels": labels},
        "spec": {"clusterIP": address, "ports": [{"name": "https", "port": 443, "targetPort": port}]},
    }  # fmt: skip


def cidr(*cidrs: str) -> dict[str, Any]:
    return {
        "kind": "ServiceCIDR", "apiVersion": "networking.k8s.io/v1",
        "metadata": {"name": "kubernetes"}, "spec": {"cidrs": [*cidrs]},
    }  # fmt: skip


DNS = {
    "kind": "Service", "apiVersion": "v1",
    "metadata": {
        "name": "kube-dns", "namespace": "kube-system",
        "labels": {"k8s-app": "kube-dns", "kubernetes.io/cluster-service": "true", "kubernetes.io/name": "CoreDNS"},
    },
    "spec": {
        "clusterIP": "10.0.0.10", "internalTrafficPolicy": "Local",
        "ports": [
            {"name": "dns", "protocol": "UDP", "port": 53}, {"name": "dns-tcp", "protocol": "TCP", "port": 53},
            {"name": "metrics", "protocol": "TCP", "port": 9153},
        ],
    },
}  # fmt: skip
TO = "rbac.authorization.k8s.io/aggregate-to-"
METRICS = {
    "kind": "ClusterRole", "apiVersion": "rbac.authorization.k8s.io/v1",
    "metadata": {
        "name": "system:aggregated-metrics-reader",
        "labels": {f"{TO}admin": "true", f"{TO}edit": "true", f"{TO}view": "true"},
    },
    "rules": [{"apiGroups": ["metrics.k8s.io"], "resources": ["nodes", "pods"], "verbs": ["get", "list", "watch"]}],
}  # fmt: skip


def priority(name: str, value: int, words: str) -> dict[str, Any]:
    return {
        "kind": "PriorityClass", "apiVersion": "scheduling.k8s.io/v1", "metadata": {"name": name},
        "value": value, "description": words,
    }  # fmt: skip


FIRST = [
    *[{"kind": "Namespace", "apiVersion": "v1", "metadata": {"name": name}} for name in NAMESPACES],
    *[{"kind": "ServiceAccount", "apiVersion": "v1", "metadata": {"name": "default", "namespace": name}} for name in NAMESPACES],
    priority("system-node-critical", 2_000_001_000, "Pods that must not be moved away from their node."),
    priority("system-cluster-critical", 2_000_000_000, "Pods that the cluster needs, on whichever node they run."),
    cidr("10.0.0.0/24", "fd00::/112"), kubernetes(6443), DNS, METRICS,
]  # fmt: skip


@pytest.mark.parametrize("address", ["192.0.2.7", "fd01::7", "", "127.0.0.1"])
def test_adm_12_the_initial_objects(address):
    found = [bare(one) for one in bootstrap_objects(address, 6443, CONFIG)]
    family = "IPv6" if ":" in address else "IPv4"
    reached = [endpoints((6443, [address])), a_slice("kubernetes", family, 6443, address)]
    assert found == FIRST + (reached if address in ("192.0.2.7", "fd01::7") else [])


def test_adm_12_the_ranges_of_a_cluster_without_flags():
    found = [bare(one) for one in bootstrap_objects("", 6443)]
    assert cidr("10.96.0.0/12") in found and kubernetes(6443, "10.96.0.1") in found
    small = [bare(one) for one in bootstrap_objects("", 6443, AdmissionConfig((ip_network("10.0.0.0/29"),)))]  # fmt: skip
    assert [one["metadata"]["name"] for one in small if one["kind"] == "Service"] == ["kubernetes"]


ONE, TWO, SIX = Server("192.0.2.7", 6443), Server("192.0.2.8", 6443), Server("fd01::7", 6443)
OTHER = Server("192.0.2.9", 8443)


def objects(*servers: Server) -> tuple[Any, Any, list[Any]]:
    """The Service, the Endpoints and the slices that lead to these servers."""
    made = [obj for _, obj in kubernetes_corrections(None, None, [], servers, CONFIG)]
    return made[0], made[1], made[2:]


def corrections(service: Any, of: Any, slices: Any, *servers: Server) -> list[tuple[str, Any]]:
    return [(verb, bare(obj)) for verb, obj in kubernetes_corrections(service, of, slices, servers, CONFIG)]  # fmt: skip


def test_host_20_where_the_service_leads():
    found = corrections(None, None, [], SIX, OTHER, TWO, ONE, TWO)
    assert found == [
        ("create", kubernetes(6443)),
        ("create", endpoints((6443, ["192.0.2.7", "192.0.2.8", "fd01::7"]), (8443, ["192.0.2.9"]))),
        ("create", a_slice("kubernetes", "IPv4", 6443, "192.0.2.7", "192.0.2.8")),
        ("create", a_slice("kubernetes-ipv4-8443", "IPv4", 8443, "192.0.2.9")),
        ("create", a_slice("kubernetes-ipv6-6443", "IPv6", 6443, "fd01::7")),
    ]
    service, of, slices = objects(SIX, OTHER, TWO, ONE)
    assert corrections(service, of, slices, OTHER, SIX, ONE, TWO) == []
    assert corrections(service, of, slices[::-1], OTHER, SIX, ONE, TWO) == []


def test_host_2_the_ports_of_the_service():
    service, of, slices = objects(ONE)
    assert corrections(service, of, slices, ONE) == []
    [port] = service.spec.ports
    for wrong in ({"name": "x"}, {"protocol": "UDP"}, {"port": 444}, {"target_port": 1}):
        given = replace(
            service, spec=replace(service.spec, ports=(replace(port, **wrong),), type="X")
        )
        wanted = {**kubernetes(6443), "spec": {**kubernetes(6443)["spec"], "type": "X"}}
        assert corrections(given, of, slices, ONE) == [("update", wanted)]
    named = replace(service, spec=replace(service.spec, ports=(replace(port, protocol="TCP"),)))
    assert corrections(named, of, slices, ONE) == []
    without = replace(service, spec=replace(service.spec, ports=None))
    assert corrections(without, of, slices, ONE) == [("update", kubernetes(6443))]
    unreached = [
        ("create", kubernetes(7)),
    ]
    assert corrections(None, None, [], Server("127.0.0.1", 7)) == unreached
    assert corrections(None, None, [], Server("", 7)) == unreached
    assert corrections(service, of, slices, ONE, Server("", 7)) == [("update", kubernetes(7))]


def test_host_2_the_endpoints_and_the_slices():
    service, of, slices = objects(ONE)
    labelled = replace(of, metadata=replace(of.metadata, labels={"a": "b"}), subsets=None)
    wanted = endpoints((6443, ["192.0.2.7"]))
    kept = {**wanted, "metadata": {**wanted["metadata"], "labels": {"a": "b"}}}
    assert corrections(service, labelled, slices, ONE) == [("update", kept)]
    [first] = slices
    shown = a_slice("kubernetes", "IPv4", 6443, "192.0.2.7")
    assert corrections(service, of, [], ONE) == [("create", shown)]
    other = replace(first, address_type="IPv6")
    assert corrections(service, of, [other], ONE) == [("delete", bare(other)), ("create", shown)]
    for wrong in ({"endpoints": None}, {"ports": None}):
        assert corrections(service, of, [replace(first, **wrong)], ONE) == [("update", shown)]
    own = replace(first, metadata=replace(first.metadata, labels={"a": "b"}, uid="u"))
    metadata = {
        **shown["metadata"],
        "uid": "u",
        "labels": {"a": "b", **shown["metadata"]["labels"]},
    }
    assert corrections(service, of, [own], ONE) == [("update", {**shown, "metadata": metadata})]
    both = replace(
        first, metadata=replace(first.metadata, labels={"a": "b", **first.metadata.labels})
    )
    assert corrections(service, of, [both], ONE) == []


def test_host_20_slices_of_servers_that_have_ended():
    service, _, slices = objects(ONE, OTHER, SIX)
    foreign = replace(slices[0], metadata=replace(slices[0].metadata, name="other"))
    assert [is_of_servers(one) for one in (*slices, foreign)] == [False, True, True, False]
    unlabelled = replace(slices[1], metadata=replace(slices[1].metadata, labels=None))
    assert not is_of_servers(unlabelled)
    found = corrections(service, objects(ONE)[1], [foreign, *slices], ONE)
    assert found == [("delete", bare(slices[1])), ("delete", bare(slices[2]))]


def test_host_18_the_range_of_the_flags():
    def corrected(found: Any) -> Any:
        made = service_cidr_correction(found, CONFIG)
        return None if made is None else (made[0], bare(made[1]))

    wanted = cidr("10.0.0.0/24", "fd00::/112")
    assert corrected(None) == ("create", wanted)
    _, default = service_cidr_correction(None, CONFIG)

    def having(*cidrs: str) -> Any:
        metadata = replace(default.metadata, uid="u")
        return replace(default, metadata=metadata, spec=replace(default.spec, cidrs=cidrs or None))

    updated = {**wanted, "metadata": {"name": "kubernetes", "uid": "u"}}
    assert corrected(having("10.0.0.0/24")) == ("update", updated)
    for other in (
        ("fd00::/112",),
        ("10.1.0.0/24",),
        (),
        ("10.0.0.0/24", "fd01::/112"),
        ("10.0.0.0/24", "fd00::/112"),
    ):
        assert corrected(having(*other)) is None
    single = AdmissionConfig((ip_network("10.0.0.0/24"),))
    assert service_cidr_correction(having("10.0.0.0/24"), single) is None
