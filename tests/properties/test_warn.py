"""Warnings: WARN-1, WARN-2 (spec/validation.md)."""

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st
from strategies import objects
from test_adm_more import Server
from test_divergences import a_manifest
from test_val import KINDS, NEW, numbered, tree_of
from val_examples_cluster import (
    CAPACITY,
    CLASS,
    DRIVER,
    INGRESS,
    POLICY,
    SLICE,
    claim,
    ingress,
    volume,
)

from refk8s.core.api import resources
from refk8s.core.apiserver.defaults import default
from refk8s.core.apiserver.validation import validate_create
from refk8s.core.apiserver.warnings import deprecated, warnings_of

BACKEND = ingress(service={"name": "s", "port": {"number": 80}})
PORTS = {"ports": [{"port": 80}]}
OLD_LABEL = {"matchLabelExpressions": [{"key": "beta.kubernetes.io/os", "values": ["linux"]}]}
OLD = "beta.kubernetes.io/os"
MANAGED_BY = "endpointslice.kubernetes.io/managed-by"


def a_slice(family, address):
    return {"addressType": family, "endpoints": [{"addresses": [address]}], "ports": []}


def a_policy(cidr, *excepted):
    peer = {"ipBlock": {"cidr": cidr, "except": list(excepted)}}
    return {"spec": {"podSelector": {}, "ingress": [{"from": [peer]}]}}


def a_capacity(**topology):
    return {"storageClassName": "c", "nodeTopology": topology}


# (kind, fields, what one of the warnings begins with; empty: there is none)
ODD = [
    ("Service", {"spec": PORTS}, ""),
    ("Service", {"spec": {**PORTS, "externalName": "a.b"}}, "spec.externalName is ignored"),
    (
        "Service",
        {"spec": {"type": "ExternalName", "externalName": "a.b", "externalIPs": ["1.2.3.4"]}},
        "spec.externalIPs is ignored",
    ),
    (
        "Service",
        {"spec": {"clusterIP": "None", "clusterIPs": ["None"], "sessionAffinity": "ClientIP"}},
        "spec.SessionAffinity is ignored",
    ),
    (
        "Service",
        {"spec": {**PORTS, "externalIPs": ["2001:DB8::1"]}},
        "spec.externalIPs[0]: IPv6 address",
    ),
    (
        "Service",
        {"spec": {**PORTS, "externalIPs": ["::ffff:1.2.3.4"]}},
        "spec.externalIPs[0]: non-standard",
    ),
    (
        "Service",
        {"spec": {**PORTS, "type": "LoadBalancer", "loadBalancerSourceRanges": ["1.0.0.1/8"]}},
        "spec.loadBalancerSourceRanges[0]",
    ),
    (
        "Service",
        {"spec": {**PORTS, "trafficDistribution": "PreferClose"}},
        "spec.trafficDistribution",
    ),
    (
        "Service",
        {"spec": {**PORTS, "externalIPs": ["1.2.3.4"]}},
        "spec.externalIPs is deprecated",
    ),
    (SLICE, a_slice("FQDN", "a.example.com"), "spec.addressType: FQDN"),
    (SLICE, a_slice("IPv6", "2001:DB8::1"), "endpoints[0].addresses[0]: IPv6 address"),
    (SLICE, a_slice("IPv6", "2001:db8::1"), ""),
    (
        SLICE,
        {
            **a_slice("IPv6", "2001:DB8::1"),
            "metadata": {"labels": {MANAGED_BY: "endpointslice-controller.k8s.io"}},
        },
        "",
    ),
    (POLICY, a_policy("10.0.0.1/8"), "spec.ingress[0].from[0].ipBlock.cidr: CIDR value"),
    (POLICY, a_policy("10.0.0.0/8"), ""),
    (POLICY, a_policy("10.0.0.0/8", "10.1.0.1/16"), "spec.ingress[0].from[0].ipBlock.except[0]"),
    (CAPACITY, a_capacity(matchLabels={OLD: "x"}), f"nodeTopology.matchLabels.{OLD}: deprecated"),
    (
        CAPACITY,
        a_capacity(matchExpressions=[{"key": OLD, "operator": "Exists"}]),
        f"nodeTopology.matchExpressions[0]: {OLD} is deprecated since v1.14",
    ),
    (CAPACITY, a_capacity(matchLabels={"kubernetes.io/os": "x"}), ""),
    ("Node", {"spec": {"externalID": "x"}}, "spec.externalID"),
    (
        INGRESS,
        {**BACKEND, "metadata": {"annotations": {"kubernetes.io/ingress.class": "x"}}},
        "annotation",
    ),
    ("PersistentVolume", volume(hostPath={"path": "/x"}), ""),
    (
        "PersistentVolume",
        volume(hostPath={"path": "/x"}, persistentVolumeReclaimPolicy="Recycle"),
        "spec.persistentVolumeReclaimPolicy",
    ),
    ("PersistentVolume", volume(rbd={"monitors": ["m"], "image": "i"}), "spec.rbd: deprecated"),
    (
        "PersistentVolume",
        {
            **volume(hostPath={"path": "/x"}),
            "metadata": {
                "annotations": {"volume.beta.kubernetes.io/mount-options": "x"},
            },
        },
        "metadata.annotations[volume.beta",
    ),
    ("PersistentVolumeClaim", claim(), ""),
    (
        "PersistentVolumeClaim",
        claim(resources={"requests": {"storage": "1500m"}}),
        "spec.resources.requests[storage]: fractional",
    ),
    (
        CLASS,
        {"provisioner": "p", "allowedTopologies": [OLD_LABEL]},
        "allowedTopologies[0].matchLabelExpressions[0].key",
    ),
    (
        DRIVER,
        {"spec": {"tokenRequests": [{"audience": "a"}]}},
        "spec.serviceAccountTokenInSecrets is unset",
    ),
    (
        DRIVER,
        {"spec": {"tokenRequests": [{"audience": "a"}], "serviceAccountTokenInSecrets": True}},
        "",
    ),
]


@pytest.mark.parametrize(("kind", "fields", "beginning"), ODD)
def test_warn_2_an_odd_object_is_taken_with_a_warning(kind, fields, beginning):
    resource, obj = tree_of(kind, fields)
    answer = Server().post(resource, "x", fields)
    assert answer.code == 201
    if beginning:
        assert any(text.startswith(beginning) for text in answer.warnings), answer.warnings
    else:
        assert not answer.warnings
    assert validate_create(resource, obj) == ()


@pytest.mark.parametrize(
    "resource", KINDS, ids=lambda resource: f"{resource.kind}.{resource.api_version}"
)
def test_warn_2_whatever_the_object_there_are_texts_and_no_errors(resource):
    @given(objects(resource.type), st.booleans())
    def law(obj, is_defaulted):
        obj = default(resource, obj) if is_defaulted else obj
        assert all(
            isinstance(text, str)
            for text in (*warnings_of(resource, obj), *warnings_of(resource, obj, obj))
        )

    law()


@pytest.mark.parametrize(("rule", "kind", "fields", "causes"), NEW, ids=numbered(NEW))
def test_warn_2_what_is_refused_has_no_warnings(rule, kind, fields, causes):
    resource, obj = tree_of(kind, fields)
    if (
        validate_create(resource, obj)
        and obj.metadata.name
        and obj.metadata.namespace in (None, "n")
    ):
        assert not Server().ask("create", resource, obj.metadata.namespace or "", body=obj).warnings


@pytest.mark.parametrize(("method", "path"), [
    ("GET", ""), ("POST", ""), ("DELETE", ""), ("GET", "/a"), ("PUT", "/a"), ("PATCH", "/a"), ("DELETE", "/a"), ("GET", "?limit=1"),
])  # fmt: skip
def test_warn_1_every_answer_about_endpoints_warns_and_none_about_slices(method, path):
    world = World()
    body = {"POST": a_manifest("Endpoints"), "PUT": a_manifest("Endpoints"), "PATCH": {}}.get(
        method, b""
    )
    headers = {"content-type": "application/merge-patch+json"} if method == "PATCH" else None
    asked = f"/api/v1/namespaces/default/endpoints{path}"
    assert any("v1.33" in text for text in world.http(method, asked, body, headers).warnings)
    assert not world.http("GET", "/apis/discovery.k8s.io/v1/endpointslices").warnings


def test_warn_1_only_what_goes_away_is_warned_about():
    assert [resource.plural for resource in resources.ALL if deprecated(resource)] == [
        "componentstatuses",
        "endpoints",
    ]
