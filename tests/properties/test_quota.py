"""ResourceQuotas: what a namespace may use (spec/quota.md, QUOTA-1 to QUOTA-9)."""

import json
from collections.abc import Iterable
from typing import Any

import pytest
from api_world import World
from custom_world import CustomWorld, a_definition
from hypothesis import example, given
from hypothesis import strategies as st
from immutables import Map
from workload_helpers import NOW, change, create, get, new_cluster, remove, settle

from refk8s.core.api import codec, resources
from refk8s.core.api.core_v1 import (
    ResourceQuota,
    ResourceQuotaSpec,
    ResourceQuotaStatus,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.quantity import ZERO, parse
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.configuration import BadConfiguration, read_admission
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.cluster.step import start_all
from refk8s.core.context import SECOND, timestamp
from refk8s.core.controllers.resource_quota import DOUBT, RETRY, ResourceQuotaController
from refk8s.core.loop.plan import Local
from refk8s.core.loop.view import Viewer, key_of
from refk8s.core.quota.counts import NO_GROUPS, add, fold_counts, selected
from refk8s.core.quota.scopes import selects, traits_of
from refk8s.core.quota.usage import COUNTED, concerns, usage_of
from refk8s.core.store import Committed, Conflict, commit
from refk8s.core.value import evolve

QUOTAS, PODS, SERVICES = resources.RESOURCE_QUOTAS, resources.PODS, resources.SERVICES
CLAIMS, CONFIG_MAPS = resources.PERSISTENT_VOLUME_CLAIMS, resources.CONFIG_MAPS
RESOURCE_CLAIMS = resources.RESOURCE_CLAIMS
BASE = "/api/v1/namespaces/default"
MERGE_PATCH = STATUS = {"content-type": "application/merge-patch+json"}


def a_container(name: str = "c", **of: Any) -> dict[str, Any]:
    return {"name": name, "image": "i:1", "resources": of}


def a_pod(name: str, *containers: dict[str, Any], **spec: Any) -> dict[str, Any]:
    body = {"containers": list(containers or (a_container(),)), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": body}


class Namespaced(World):
    """A namespace whose quotas have been counted when nothing was there."""

    def send(self, method: str, path: str, body: Any, **headers: str) -> tuple[int, Any]:
        given = {"content-type": "application/json", **headers}
        reply: Any = self.http(method, f"{BASE}/{path}", body, given)
        return reply.code, json.loads(reply.content)

    def quota(self, name: str = "q", used: dict[str, str] | None = None, **spec: Any) -> None:
        body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": name}}
        assert self.send("POST", "resourcequotas", {**body, "spec": spec})[0] == 201
        self.counted(name, used or dict.fromkeys(spec["hard"], "0"))

    def counted(self, name: str, used: dict[str, str]) -> None:
        hard = self.get(QUOTAS, name).spec.hard
        code, _ = self.send(
            "PATCH", f"resourcequotas/{name}/status",
            {"status": {"hard": hard, "used": used}}, **STATUS,
        )  # fmt: skip
        assert code == 200

    def used(self, name: str = "q") -> dict[str, str]:
        return dict(self.get(QUOTAS, name).status.used)

    def post(self, path: str, body: dict[str, Any]) -> str:
        """Empty if it is created, else the message of the refusal."""
        code, answer = self.send("POST", path, body)
        assert code in (201, 403), answer
        return "" if code == 201 else answer["message"].partition(" is forbidden: ")[2]


# --- what is charged, and what is rejected


def test_quota_1_the_message_names_everything_that_is_exceeded():
    world = Namespaced()
    world.quota(hard={"pods": "1", "requests.memory": "64Mi", "limits.cpu": "9"})
    small = a_container(requests={"memory": "32Mi"}, limits={"cpu": "1"})
    assert world.post("pods", a_pod("a", small)) == ""
    assert world.used() == {"pods": "1", "requests.memory": "32Mi", "limits.cpu": "1"}
    large = a_container(requests={"memory": "48Mi"}, limits={"cpu": "1"})
    assert world.post("pods", a_pod("b", large)) == (
        "exceeded quota: q, requested: pods=1,requests.memory=48Mi, "
        "used: pods=1,requests.memory=32Mi, limited: pods=1,requests.memory=64Mi"
    )
    assert world.post("pods?dryRun=All", a_pod("b", small)) == (
        "exceeded quota: q, requested: pods=1, used: pods=1, limited: pods=1"
    )
    assert world.used()["pods"] == "1"


def test_quota_1_an_invalid_object_is_answered_with_its_causes_and_charged_to_nothing():
    world = Namespaced()
    world.quota(hard={"pods": "0"})
    code, _ = world.send("POST", "pods", a_pod("a", {"name": "c"}))
    assert code == 422


def test_quota_1_a_name_without_a_count_is_rejected():
    world = Namespaced()
    world.quota(hard={"pods": "5", "count/pods": "5"}, used={"pods": "0"})
    assert world.post("pods", a_pod("a")) == (
        "status unknown for quota: q, resources: count/pods,pods"
    )


def test_quota_1_a_dry_run_and_a_request_that_fails_are_charged_to_nothing():
    world = Namespaced()
    world.quota(hard={"pods": "5"})
    assert world.post("pods?dryRun=All", a_pod("a")) == "" and world.used() == {"pods": "0"}
    assert world.post("pods", a_pod("a")) == "" and world.used() == {"pods": "1"}
    code, answer = world.send("POST", "pods", a_pod("a"))
    assert code == 409 and world.used() == {"pods": "1"}, answer


def test_quota_2_of_two_servers_that_create_at_once_only_one_gets_the_last_place():
    world = Namespaced()
    world.quota(hard={"pods": "1"})
    pods = [codec.decode_tolerant(PODS.type, a_pod(name))[0] for name in "ab"]
    asked = [Request("create", PODS, "default", body=pod, user=ADMIN) for pod in pods]
    first, second = (handle(Exchange(one, world.history, world.context())) for one in asked)
    history, one = commit(world.history, first.txn, stamp)
    history, other = commit(history, second.txn, stamp)
    assert isinstance(one, Committed) and isinstance(other, Conflict)
    again: Any = handle(Exchange(asked[1], history, world.context()))
    assert again.code == 403


def test_quota_2_every_quota_that_counts_the_object_is_charged():
    world = Namespaced()
    world.quota("q", hard={"configmaps": "5"})
    world.quota("r", hard={"count/configmaps": "1", "pods": "3"})
    world.quota("s", hard={"secrets": "3"})
    body = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}}
    assert world.post("configmaps", body) == ""
    assert world.used("q") == {"configmaps": "1"} and world.used("s") == {"secrets": "0"}
    assert world.used("r") == {"count/configmaps": "1", "pods": "0"}


def test_quota_3_objects_of_custom_kinds_are_counted_and_events_are_not():
    world = CustomWorld(a_definition())
    spec = {"hard": {"count/gadgets.example.com": "1", "count/events": "0"}}
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}, "spec": spec}
    assert world.send("POST", f"{BASE}/resourcequotas", body)[0] == 201
    used = dict.fromkeys(spec["hard"], "0")
    status = {"status": {"hard": spec["hard"], "used": used}}
    media_type = "application/merge-patch+json"
    assert world.send("PATCH", f"{BASE}/resourcequotas/q/status", status, media_type)[0] == 200
    assert world.put_gadget("a")[0] == 201
    code, answer = world.put_gadget("b")
    assert code == 403 and "requested: count/gadgets.example.com=1" in answer["message"]
    about = {"kind": "Pod", "namespace": "default", "name": "p"}
    event = {"apiVersion": "v1", "kind": "Event", "metadata": {"name": "e"}}
    code, answer = world.send("POST", f"{BASE}/events", {**event, "involvedObject": about})
    assert code == 201, answer


def made(resource: Any, tree: dict[str, Any]) -> Any:
    return codec.decode_tolerant(resource.type, tree)[0]


@pytest.mark.parametrize(
    ("type_", "ports", "suppressed", "expected"),
    [
        ("ClusterIP", 2, False, ("0", "0")),
        ("NodePort", 2, False, ("2", "0")),
        ("LoadBalancer", 2, False, ("2", "1")),
        ("LoadBalancer", 2, True, ("1", "1")),
    ],
)
def test_quota_3_node_ports_are_counted_by_intent(type_, ports, suppressed, expected):
    listed = [{"port": 80 + number, "name": f"p{number}"} for number in range(ports)]
    listed[0]["nodePort"] = 30001
    spec = {"type": type_, "ports": listed}
    if suppressed:
        spec["allocateLoadBalancerNodePorts"] = False
    usage = usage_of(SERVICES, made(SERVICES, {"spec": spec}))
    shown = (str(usage["services.nodeports"]), str(usage["services.loadbalancers"]))
    assert shown == expected and str(usage["services"]) == "1" == str(usage["count/services"])


def a_claim(size: str | None, allocated: str = "", storage_class: str | None = None) -> Any:
    requests = {"storage": size} if size else {}
    spec = {"resources": {"requests": requests}, "storageClassName": storage_class}
    status = {"allocatedResources": {"storage": allocated}} if allocated else {}
    return made(CLAIMS, {"metadata": {"name": "c"}, "spec": spec, "status": status})


@pytest.mark.parametrize(
    ("claim", "expected"),
    [
        (a_claim("2Gi"), {"requests.storage": "2Gi"}),
        (a_claim(None), {}),
        (a_claim("2Gi", "3Gi"), {"requests.storage": "3Gi"}),
        (a_claim("4Gi", "3Gi"), {"requests.storage": "4Gi"}),
        (a_claim("1500m"), {"requests.storage": "2"}),
        (
            a_claim("2Gi", storage_class="gold"),
            {
                "requests.storage": "2Gi",
                "gold.storageclass.storage.k8s.io/requests.storage": "2Gi",
                "gold.storageclass.storage.k8s.io/persistentvolumeclaims": "1",
            },
        ),
    ],
)
def test_quota_3_a_claim_uses_its_request_also_of_its_class(claim, expected):
    usage = {name: str(much) for name, much in usage_of(CLAIMS, claim).items()}
    assert usage == {"persistentvolumeclaims": "1", "count/persistentvolumeclaims": "1", **expected}
    assert all(concerns(CLAIMS, name) for name in usage)


device_requests = st.fixed_dictionaries(
    {"deviceClassName": st.sampled_from(["gpu", "nic"])},
    optional={"allocationMode": st.sampled_from(["All", "ExactCount"]), "count": st.integers(1, 9)},
)


@given(st.lists(st.lists(device_requests, min_size=1, max_size=3), max_size=4))
def test_quota_3_a_resource_claim_uses_the_most_devices_that_it_may_get(requests):
    """Each inner list of several is one of alternatives."""
    tree = {
        "spec": {
            "devices": {
                "requests": [
                    {"name": "r", "firstAvailable": one}
                    if len(one) > 1
                    else {"name": "r", "exactly": one[0]}
                    for one in requests
                ]
            }
        }
    }
    usage = usage_of(RESOURCE_CLAIMS, made(RESOURCE_CLAIMS, tree))
    expected = {"count/resourceclaims.resource.k8s.io": 1}
    for name in ("gpu", "nic"):
        most = [
            max((_number(one) for one in alternatives if one["deviceClassName"] == name), default=0)
            for alternatives in requests
        ]
        if any(one["deviceClassName"] == name for alternatives in requests for one in alternatives):
            expected[f"{name}.deviceclass.resource.k8s.io/devices"] = sum(most)
    assert {name: parse(str(much)).value for name, much in usage.items()} == expected
    assert all(concerns(RESOURCE_CLAIMS, name) for name in usage)


def _number(request: dict[str, Any]) -> int:
    mode = request.get("allocationMode", "")
    return 32 if mode == "All" else request.get("count", 0) if mode == "ExactCount" else 0


def test_quota_3_claims_for_more_devices_than_a_quota_has_are_rejected():
    world, name = Namespaced(), "gpu.deviceclass.resource.k8s.io/devices"
    world.quota(hard={name: "3"})
    exactly = {"deviceClassName": "gpu", "count": 2}
    spec = {"devices": {"requests": [{"name": "r", "exactly": exactly}]}}
    path = "/apis/resource.k8s.io/v1/namespaces/default/resourceclaims"
    body = {"apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim", "spec": spec}
    headers = {"content-type": "application/json"}
    first: Any = world.http("POST", path, {**body, "metadata": {"name": "a"}}, headers)
    second: Any = world.http("POST", path, {**body, "metadata": {"name": "b"}}, headers)
    assert (first.code, second.code) == (201, 403)
    assert f"requested: {name}=2, used: {name}=2, limited: {name}=3" in second.content.decode()


NAMES = ("cpu", "memory", "ephemeral-storage", "hugepages-2Mi", "example.com/gpu")
quantities = st.dictionaries(st.sampled_from(NAMES), st.integers(0, 9).map(str), max_size=3)
drawn_containers = st.tuples(quantities, quantities, st.booleans())


def peak(of: list[dict[str, str]], inits: list[tuple[dict[str, str], bool]], name: str) -> Any:
    """The largest sum, by playing the start of the pod: None if nothing names it."""
    amount = lambda texts: int(texts.get(name, "0"))  # noqa: E731
    if not any(name in texts for texts in (*of, *(one for one, _ in inits))):
        return None
    running, most = 0, 0
    for texts, stays in inits:
        most = max(most, running + amount(texts))
        running += amount(texts) if stays else 0
    return max(most, running + sum(map(amount, of)))


@given(st.lists(drawn_containers, min_size=1, max_size=3), st.lists(drawn_containers, max_size=3))
def test_quota_3_a_pod_uses_the_most_that_it_requests_at_any_time(containers, inits):
    tree = a_pod(
        "p",
        *(a_container(f"c{n}", requests=r, limits=m) for n, (r, m, _) in enumerate(containers)),
        initContainers=[
            a_container(f"i{n}", requests=r, limits=m) | ({"restartPolicy": "Always"} if s else {})
            for n, (r, m, s) in enumerate(inits)
        ],
    )
    usage = usage_of(PODS, made(PODS, tree))
    for name in NAMES:
        wanted = peak([r for r, _, _ in containers], [(r, s) for r, _, s in inits], name)
        limit = peak([m for _, m, _ in containers], [(m, s) for _, m, s in inits], name)
        shown = {key: parse(str(much)).value for key, much in usage.items()}
        assert shown.get(f"requests.{name}") == wanted
        if "/" not in name:
            assert shown.get(name) == wanted
        if name in NAMES[:3]:
            assert shown.get(f"limits.{name}") == limit
        else:
            assert f"limits.{name}" not in shown
    assert str(usage["pods"]) == "1" == str(usage["count/pods"])
    assert all(concerns(PODS, name) for name in usage)


def test_quota_3_resources_of_the_pod_and_its_overhead_count():
    own = {"requests": {"cpu": "3"}, "limits": {"cpu": "4"}}
    tree = a_pod("p", a_container(requests={"cpu": "1", "memory": "1"}), resources=own)
    tree["spec"]["overhead"] = {"cpu": "100m", "memory": "5"}
    usage = usage_of(PODS, made(PODS, tree))
    assert {name: str(much) for name, much in usage.items() if "." in name} == {
        "requests.cpu": "3100m", "requests.memory": "6", "limits.cpu": "4100m",
    }  # fmt: skip


def test_quota_3_a_finished_pod_uses_only_its_object():
    pod = made(PODS, {**a_pod("p"), "status": {"phase": "Succeeded"}})
    assert {name: str(much) for name, much in usage_of(PODS, pod).items()} == {"count/pods": "1"}


# --- scopes


def a_quota(hard: Iterable[str] = ("pods",), used: Any = None, **spec: Any) -> ResourceQuota:
    tree = {
        "metadata": {"name": "q", "namespace": "default", "resourceVersion": "7"},
        "spec": {"hard": dict.fromkeys(hard, "9"), **spec},
    }
    quota = made(QUOTAS, tree)
    status = ResourceQuotaStatus(hard=quota.spec.hard, used=used) if used is not None else None
    return change_status(quota, status) if status is not None else quota


def change_status(quota: ResourceQuota, status: ResourceQuotaStatus) -> ResourceQuota:
    return change(quota, hard=quota.spec.hard).__class__(
        metadata=quota.metadata, spec=quota.spec, status=status
    )


def expression(operator: str, *values: str, scope: str = "PriorityClass") -> dict[str, Any]:
    one = {"scopeName": scope, "operator": operator, "values": list(values)}
    return {"scopeSelector": {"matchExpressions": [one]}}


AFFINITY = {"topologyKey": "zone", "namespaces": ["other"]}
PODS_BY_NAME = {
    "plain": a_pod("p"),
    "deadline": a_pod("p", activeDeadlineSeconds=5),
    "burstable": {**a_pod("p", a_container(requests={"cpu": "1"})), "status": {"qosClass": "Burstable"}},
    "high": a_pod("p", priorityClassName="high"),
    "across": a_pod(
        "p",
        affinity={"podAntiAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [AFFINITY]}},
    ),
    "within": a_pod(
        "p",
        affinity={"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [{"topologyKey": "z"}]}},
    ),
}  # fmt: skip


@pytest.mark.parametrize(
    ("spec", "selected_pods"),
    [
        ({}, set(PODS_BY_NAME)),
        ({"scopes": ["Terminating"]}, {"deadline"}),
        ({"scopes": ["NotTerminating"]}, set(PODS_BY_NAME) - {"deadline"}),
        ({"scopes": ["BestEffort"]}, set(PODS_BY_NAME) - {"burstable"}),
        ({"scopes": ["NotBestEffort"]}, {"burstable"}),
        ({"scopes": ["NotTerminating", "NotBestEffort"]}, {"burstable"}),
        ({"scopes": ["CrossNamespacePodAffinity"]}, {"across"}),
        (expression("In", "high", "low"), {"high"}),
        (expression("In", "low"), set()),
        (expression("NotIn", "high"), set(PODS_BY_NAME) - {"high"}),
        (expression("Exists"), {"high"}),
        (expression("DoesNotExist"), set(PODS_BY_NAME) - {"high"}),
        (expression("Exists", scope="Terminating"), {"deadline"}),
        (expression("Exists", scope="VolumeAttributesClass"), set()),
    ],
)
def test_quota_4_scopes_select_pods(spec, selected_pods):
    quota = a_quota(**spec)
    found = set()
    for name, tree in PODS_BY_NAME.items():
        pod = made(PODS, {"status": {"qosClass": "BestEffort"}, **tree})
        if selects(quota, PODS, traits_of(PODS, pod)):
            found.add(name)
    assert found == selected_pods


def test_quota_4_a_claim_has_the_classes_that_it_has_and_is_to_get():
    spec = {"volumeAttributesClassName": "a"}
    status = {
        "currentVolumeAttributesClassName": "b",
        "modifyVolumeStatus": {"targetVolumeAttributesClassName": "c", "status": "Pending"},
    }
    claim = made(CLAIMS, {"spec": spec, "status": status})
    bare = made(CLAIMS, {})
    scope = "VolumeAttributesClass"
    for name in "abc":
        quota = a_quota(**expression("In", name, scope=scope))
        assert selects(quota, CLAIMS, traits_of(CLAIMS, claim))
        assert not selects(quota, CLAIMS, traits_of(CLAIMS, bare))
    assert not selects(
        a_quota(**expression("In", "d", scope=scope)), CLAIMS, traits_of(CLAIMS, claim)
    )
    assert selects(
        a_quota(**expression("DoesNotExist", scope=scope)), CLAIMS, traits_of(CLAIMS, bare)
    )
    assert not selects(a_quota(scopes=["Terminating"]), CLAIMS, traits_of(CLAIMS, claim))


@pytest.mark.parametrize("resource", [SERVICES, CONFIG_MAPS])
def test_quota_4_other_objects_are_in_no_scope(resource):
    obj = made(resource, {"metadata": {"name": "a"}})
    assert not selects(a_quota(**expression("DoesNotExist")), resource, traits_of(resource, obj))
    assert selects(a_quota(), resource, traits_of(resource, obj))


# --- what must be specified, and updates


def test_quota_5_each_container_specifies_what_the_quota_limits():
    world = Namespaced()
    hard = ("pods", "requests.cpu", "limits.memory", "requests.ephemeral-storage")
    world.quota(hard=dict.fromkeys(hard, "10"))
    first = a_container("a", limits={"memory": "1"})
    both = a_container("b", requests={"cpu": "1"}, limits={"memory": "1"})
    pod = a_pod("p", first, both, initContainers=[a_container("c")])
    assert world.post("pods", pod) == (
        "failed quota: q: must specify limits.memory for: c; requests.cpu for: a,c"
    )
    assert world.post("pods", a_pod("p", both)) == ""
    own = {"requests": {"cpu": "1"}, "limits": {"cpu": "1", "memory": "1"}}
    assert world.post("pods", a_pod("q", a_container("a"), resources=own)) == ""


def test_quota_6_of_an_update_only_what_grows_is_charged():
    world = Namespaced()
    world.quota(hard={"services": "1", "services.nodeports": "2", "services.loadbalancers": "0"})
    body = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "a"}}
    ports = [{"port": 80, "name": "x"}]
    assert world.post("services", {**body, "spec": {"ports": ports}}) == ""

    def patched(spec: dict[str, Any]) -> str:
        code, answer = world.send("PATCH", "services/a", {"spec": spec}, **STATUS)
        assert code in (200, 403), answer
        return "" if code == 200 else answer["message"].partition(" is forbidden: ")[2]

    assert patched({"type": "NodePort"}) == ""
    assert world.used() == {
        "services": "1", "services.nodeports": "1", "services.loadbalancers": "0",
    }  # fmt: skip
    assert "requested: services.loadbalancers=1, used: services.loadbalancers=0" in patched(
        {"type": "LoadBalancer"}
    )
    more = [*ports, *({"port": n, "name": f"p{n}"} for n in (81, 82))]
    assert patched({"ports": more}) == (
        "exceeded quota: q, requested: services.nodeports=2, used: services.nodeports=1, "
        "limited: services.nodeports=2"
    )
    assert patched({"type": "ClusterIP"}) == "" and world.used()["services.nodeports"] == "1"


def test_quota_6_other_updates_are_not_charged():
    world = Namespaced()
    assert world.post("pods", a_pod("a")) == ""
    world.quota(hard={"pods": "0"})
    labels = {"metadata": {"labels": {"a": "b"}}}
    assert world.send("PATCH", "pods/a", labels, **STATUS)[0] == 200
    assert world.used() == {"pods": "0"}


# --- the controller


def limited_world(*limited: dict[str, Any]) -> Namespaced:
    world = Namespaced()
    document = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "ResourceQuotaConfiguration"}
    plugin = {"name": "ResourceQuota", "configuration": {**document, "limitedResources": list(limited)}}  # fmt: skip
    tree = {**document, "kind": "AdmissionConfiguration", "plugins": [plugin]}
    said = read_admission(tree, lambda name: {})
    admission = evolve(world.config.admission, limited=said.limited)
    world.config = evolve(world.config, admission=admission)
    return world


def test_quota_9_what_is_limited_needs_a_quota():
    # Shows QUOTA-9.a QUOTA-9.b QUOTA-9.c.
    world = limited_world({"resource": "pods", "matchContains": ["requests.", "cpu"]})
    assert world.post("configmaps", {"metadata": {"name": "a"}}) == ""
    assert world.post("pods", a_pod("free")) == ""
    wants = a_pod("a", a_container(requests={"cpu": "1", "memory": "1Mi"}))
    missing = "cpu,requests.cpu,requests.memory"
    assert world.post("pods", wants) == f"insufficient quota to consume: {missing}"
    world.quota(hard={"cpu": "4", "requests.cpu": "4"})
    assert world.post("pods", wants) == "insufficient quota to consume: requests.memory"
    world.quota("r", hard={"requests.memory": "1Gi"})
    assert world.post("pods", wants) == ""
    assert world.used("q") == {"cpu": "1", "requests.cpu": "1"}


def test_quota_9_what_a_quota_cannot_count_is_refused_before_what_none_covers():
    # Shows QUOTA-9.e.
    world = limited_world({"resource": "pods", "matchContains": ["memory"]})
    world.quota(hard={"requests.cpu": "4"})
    wants = a_pod("a", a_container(requests={"memory": "1Mi"}))
    assert world.post("pods", wants) == "failed quota: q: must specify requests.cpu for: c"


def test_quota_9_another_resource_of_the_name_is_not_limited():
    world = limited_world({"resource": "services", "apiGroup": "x.example.com", "matchContains": ["services"]})  # fmt: skip
    assert world.post("services", A_SERVICE) == ""


A_SERVICE = {"metadata": {"name": "a"}, "spec": {"ports": [{"port": 80}]}}


def a_claim_tree(size: str) -> dict[str, Any]:
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": size}}, "storageClassName": "gold"}  # fmt: skip
    return {"metadata": {"name": "c"}, "spec": spec}


def test_quota_9_a_quota_for_a_storage_class_covers_it():
    part = "gold.storageclass.storage.k8s.io/requests.storage"
    world = limited_world({"resource": "persistentvolumeclaims", "matchContains": [".storageclass.storage.k8s.io/requests.storage"]})  # fmt: skip
    assert world.post("persistentvolumeclaims", a_claim_tree("1Gi")) == f"insufficient quota to consume: {part}"  # fmt: skip
    world.quota(hard={part: "5Gi"})
    assert world.post("persistentvolumeclaims", a_claim_tree("1Gi")) == ""


@pytest.mark.parametrize(
    ("values", "priority", "covers", "refused"),
    [
        (["cluster-services"], "cluster-services", None, True),
        (["cluster-services"], "", None, False),
        (["cluster-services"], "cluster-services", "cluster-services", False),
        (["cluster-services"], "cluster-services", "other", True),
    ],
)
def test_quota_9_what_is_in_a_scope_needs_a_quota_with_it(values, priority, covers, refused):
    # Shows QUOTA-9.d.
    scope = {"scopeName": "PriorityClass", "operator": "In", "values": values}
    world = limited_world({"resource": "pods", "matchScopes": [scope]})
    for name in ("cluster-services", "other"):
        body = {"metadata": {"name": name}, "value": 1}
        made: Any = world.http("POST", "/apis/scheduling.k8s.io/v1/priorityclasses", body)
        assert made.code == 201
    if covers:
        selector = {"matchExpressions": [{**scope, "values": [covers]}]}
        world.quota(hard={"pods": "5"}, scopeSelector=selector)
    words = world.post("pods", a_pod("a", **({"priorityClassName": priority} if priority else {})))
    message = "insufficient quota to match these scopes: [{PriorityClass In [cluster-services]}]"
    assert words == (message if refused else "")


def test_quota_9_an_update_that_uses_no_more_needs_none():
    # Shows QUOTA-9.f.
    world = Namespaced()
    assert world.post("services", A_SERVICE) == ""
    limits = limited_world({"resource": "services", "matchContains": ["services"]}).config
    world.config = limits
    merge = {"content-type": "application/merge-patch+json"}
    label = {"metadata": {"labels": {"a": "b"}}}
    assert world.send("PATCH", "services/a", label, **merge)[0] == 200
    node_port = {"spec": {"type": "NodePort"}}
    code, answer = world.send("PATCH", "services/a", node_port, **merge)
    assert code == 403 and "insufficient quota to consume" in answer["message"]


@pytest.mark.parametrize(
    ("limited", "words"),
    [
        ({"resource": ""}, "limitedResources[0].resource: Required value"),
        ({"resource": "pods", "matchContains": [""]}, "no empty text"),
        ({"resource": "pods", "odd": 1}, "odd"),
        ({"resource": "pods", "matchScopes": [{"scopeName": "X", "operator": "Exists"}]}, "scopeName"),
        ({"resource": "pods", "matchScopes": [{"scopeName": "PriorityClass", "operator": "X"}]}, "operator"),
        ({"resource": "pods", "matchScopes": [{"scopeName": "PriorityClass", "operator": "In"}]}, "values"),
    ],
)  # fmt: skip
def test_quota_9_what_cannot_be_enforced_is_refused(limited, words):
    with pytest.raises(BadConfiguration) as refused:
        limited_world(limited)
    assert words in str(refused.value)


@st.composite
def objects_of_namespace(draw: st.DrawFn) -> tuple[Any, Any]:
    """(resource, object) with a name of few, so that histories replace and remove them."""
    resource = draw(st.sampled_from([PODS, SERVICES, CLAIMS, CONFIG_MAPS]))
    name = draw(st.sampled_from("abc"))
    metadata = {"name": name, "namespace": draw(st.sampled_from(["default", "other"])), "uid": name}
    if resource == PODS:
        tree = draw(st.sampled_from(list(PODS_BY_NAME.values())))
        phase = draw(st.sampled_from(["Pending", "Failed"]))
        grace = draw(st.sampled_from([None, 10]))
        if grace is not None:
            metadata |= {"deletionTimestamp": timestamp(NOW), "deletionGracePeriodSeconds": grace}
        return resource, made(PODS, {**tree, "metadata": metadata, "status": {"phase": phase}})
    if resource == CLAIMS:
        claim = a_claim(draw(st.sampled_from(["1Gi", "2Gi"])), storage_class="gold")
        return resource, change(claim, **{key: metadata[key] for key in ("name", "namespace")})
    spec = {
        "spec": {"type": draw(st.sampled_from(["NodePort", "ClusterIP"])), "ports": [{"port": 1}]}
    }
    return resource, made(
        resource, {"metadata": metadata, **(spec if resource == SERVICES else {})}
    )


def a_service(name: str, type_: str = "ClusterIP") -> tuple[Any, Any]:
    metadata = {"name": name, "namespace": "default"}
    spec = {"type": type_, "ports": [{"port": 1}]}
    return SERVICES, made(SERVICES, {"metadata": metadata, "spec": spec})


@given(st.lists(st.tuples(objects_of_namespace(), st.booleans()), max_size=20))
@example(
    [
        (a_service("a"), False),
        (a_service("b"), False),
        (a_service("a"), True),
        (a_service("b"), True),
    ]
)
@example([(a_service("a", "NodePort"), False), (a_service("b"), False), (a_service("a"), False)])
def test_quota_7_the_counts_of_changes_are_those_of_the_objects(history):
    counts: Any = Map()
    there: dict[Any, Any] = {}
    for (resource, obj), is_removal in history:
        place = (resource, key_of(obj))
        old = there.pop(place, None)
        new = None if is_removal else obj
        if old is None and new is None:
            continue
        counts = fold_counts(counts, resource, old, new)
        if new is not None:
            there[place] = new
    for namespace in ("default", "other"):
        for resource in (PODS, SERVICES, CLAIMS, CONFIG_MAPS):
            groups = NO_GROUPS
            for (of, _), obj in there.items():
                if of == resource and obj.metadata.namespace == namespace:
                    groups = add(groups, resource, obj)
            found = counts.get((namespace, resource.prefix), NO_GROUPS)
            for now in (NOW, NOW + 11 * SECOND):
                for quota in (a_quota(), a_quota(scopes=["NotBestEffort"])):
                    kept, wake = selected(quota, resource, found, now)
                    again, wake_again = selected(quota, resource, groups, now)
                    plain = lambda of: {n: m.nano for n, m in of.items() if m.nano}  # noqa: E731
                    assert plain(kept) == plain(again) and wake == wake_again


def test_quota_7_a_pod_whose_grace_period_is_over_is_not_charged_any_more():
    metadata = {
        "name": "p", "namespace": "default",
        "deletionTimestamp": timestamp(NOW), "deletionGracePeriodSeconds": 10,
    }  # fmt: skip
    pod = made(PODS, {**a_pod("p"), "metadata": metadata})
    groups = add(NO_GROUPS, PODS, pod)
    total, wake_at = selected(a_quota(), PODS, groups, NOW + 10 * SECOND)
    assert total["pods"] == total["count/pods"] and wake_at == NOW + 10 * SECOND + 1
    total, wake_at = selected(a_quota(), PODS, groups, NOW + 10 * SECOND + 1)
    assert set(total) == {"count/pods"} and wake_at is None


HARD = ("pods", "configmaps")
NO_DOUBTS: Any = Map()


def config_map(name: str) -> Any:
    return made(CONFIG_MAPS, {"metadata": {"name": name, "namespace": "default"}})


def viewed(quota: ResourceQuota, *objects: Any, revision: int) -> Any:
    """A view whose tables, except that of quotas, are of this revision."""
    controller = ResourceQuotaController()
    viewer = Viewer(
        [one.resource for one in controller.interests], controller.indexes, controller.folds
    )
    view = viewer.empty()
    for resource in (*COUNTED, resources.CUSTOM_RESOURCE_DEFINITIONS):
        mine = [quota] if resource == QUOTAS else [o for o in objects if o.kind == resource.kind]
        at = 99 if resource == QUOTAS else revision
        view, _ = viewer.apply(view, resource, [(key_of(one), one) for one in mine], at)
    return view


def reconciled(
    quota: ResourceQuota, *objects: Any, revision: int = 7, now: int = NOW, memory: Any = NO_DOUBTS
) -> Any:
    view = viewed(quota, *objects, revision=revision)
    return ResourceQuotaController().reconcile(view, "default/q", now, Local(memory))


def written(plan: Any) -> Any:
    return plan.requests[0].body.status.used if plan.requests else None


def test_quota_7_a_count_that_is_up_to_date_is_written_at_once_and_only_once():
    plan = reconciled(a_quota(HARD), config_map("a"))
    assert written(plan) == {"pods": "0", "configmaps": "1"}
    request = plan.requests[0]
    assert (request.verb, request.subresource) == ("update", "status")
    assert request.body.metadata.resource_version == "7"
    assert request.body.status.hard == a_quota(HARD).spec.hard
    quota = a_quota(HARD, used={"pods": "0", "configmaps": "1"})
    assert not reconciled(quota, config_map("a")).requests


def test_quota_7_a_changed_limit_is_copied_and_a_name_that_is_gone_is_dropped():
    quota = a_quota(("configmaps",), used={"pods": "0", "configmaps": "0"})
    assert written(reconciled(quota)) == {"configmaps": "0"}
    other = change_status(
        quota, ResourceQuotaStatus(hard={"configmaps": "1"}, used={"configmaps": "0"})
    )
    assert reconciled(other).requests[0].body.status.hard == {"configmaps": "9"}


def test_quota_7_a_name_of_no_served_resource_keeps_its_value():
    names = ("count/gadgets.example.com", "count/others.example.com", "configmaps")
    quota = a_quota(names, used={names[0]: "3", "configmaps": "1"})
    assert written(reconciled(quota)) == {names[0]: "3", "configmaps": "0"}


def test_quota_8_a_lower_count_of_an_older_view_is_not_written():
    quota = a_quota(HARD, used={"pods": "0", "configmaps": "2"})
    plan = reconciled(quota, config_map("a"), revision=6)
    assert not plan.requests and not plan.queries and plan.wake_at == NOW + DOUBT
    later = reconciled(quota, config_map("a"), revision=6, now=NOW + DOUBT, memory=plan.memory)
    assert not later.requests
    assert [(one.verb, one.resource, one.namespace) for one in later.queries] == [
        ("list", CONFIG_MAPS, "default")
    ]
    assert later.wake_at == NOW + DOUBT + RETRY
    assert written(reconciled(quota, config_map("a"), revision=7, memory=plan.memory)) == {
        "pods": "0", "configmaps": "1",
    }  # fmt: skip


def listed(revision: int, *objects: Any) -> Response:
    tree = {"metadata": {"resourceVersion": str(revision)}}
    found = made(CONFIG_MAPS, tree)
    return Response(200, _List(found.metadata, objects))


class _List:
    def __init__(self, metadata: Any, items: tuple[Any, ...]) -> None:
        self.metadata, self.items = metadata, items


@pytest.mark.parametrize(("revision", "expected"), [(6, None), (7, "2"), (9, "2")])
def test_quota_8_a_list_as_new_as_the_quota_is_counted(revision, expected):
    controller = ResourceQuotaController()
    quota = a_quota(("configmaps",))
    first = reconciled(quota, revision=6)
    assert [one.resource for one in first.queries] == [CONFIG_MAPS], "never counted: asked at once"
    again = reconciled(quota, revision=6, now=NOW + 1, memory=first.memory)
    assert not again.queries and not again.requests, "asked already"
    late = reconciled(quota, revision=6, now=NOW + RETRY, memory=first.memory)
    assert len(late.queries) == 1, "asked again"
    answer = listed(revision, config_map("a"), config_map("b"))
    memory, keys = controller.answered(first.memory, "default/q", first.queries[0], answer, NOW)
    assert keys == ("default/q",)
    plan = reconciled(quota, revision=6, memory=memory)
    assert (written(plan) or {}).get("configmaps") == expected
    failed = Response(500, None)
    assert controller.answered(first.memory, "default/q", first.queries[0], failed, NOW)[1] == ()


def test_quota_8_a_higher_count_may_be_a_charge_in_transit():
    quota = a_quota(("configmaps",), used={"configmaps": "0"})
    plan = reconciled(quota, config_map("a"), revision=9)
    assert not plan.requests and plan.wake_at == NOW + DOUBT
    later = reconciled(quota, config_map("a"), revision=9, now=NOW + DOUBT, memory=plan.memory)
    assert written(later) == {"configmaps": "1"}


def test_quota_8_a_create_that_is_not_counted_yet_writes_the_quota():
    world = Namespaced()
    body = {"apiVersion": "v1", "kind": "ResourceQuota", "metadata": {"name": "q"}}
    spec = {"hard": {"pods": "1", "configmaps": "1"}}
    assert world.send("POST", "resourcequotas", {**body, "spec": spec})[0] == 201
    before = world.get(QUOTAS, "q")
    assert world.post("pods", a_pod("a")) == ""
    after = world.get(QUOTAS, "q")
    assert after.metadata.resource_version == world.get(PODS, "a").metadata.resource_version
    assert (after.spec, after.status) == (before.spec, before.status)
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "a"}}
    assert world.post("secrets", secret) == "" and world.get(QUOTAS, "q") == after


def test_quota_7_the_counts_follow_creates_deletes_and_changed_limits():
    spec = ResourceQuotaSpec(hard={"configmaps": "2", "count/secrets": "4"})
    quota = ResourceQuota(metadata=ObjectMeta(name="q", namespace="default"), spec=spec)
    cluster = new_cluster(ResourceQuotaController())
    cluster = create(cluster, config_map("a"), quota)
    cluster = settle(start_all(cluster))
    assert get(cluster, QUOTAS, "q").status == ResourceQuotaStatus(
        hard=spec.hard, used={"configmaps": "1", "count/secrets": "0"}
    )
    cluster = create(cluster, config_map("b"))
    assert get(cluster, QUOTAS, "q").status.used["configmaps"] == "2"
    cluster = settle(remove(settle(cluster), CONFIG_MAPS, "a"))
    assert get(cluster, QUOTAS, "q").status.used["configmaps"] == "1"


@given(st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True))
def test_quota_7_what_is_deleted_is_given_back(names):
    spec = ResourceQuotaSpec(hard={"configmaps": "9"})
    quota = ResourceQuota(metadata=ObjectMeta(name="q", namespace="default"), spec=spec)
    cluster = settle(start_all(create(new_cluster(ResourceQuotaController()), quota)))
    cluster = settle(create(cluster, *map(config_map, names)))
    assert get(cluster, QUOTAS, "q").status.used["configmaps"] == str(len(names))
    for left, name in enumerate(reversed(names)):
        cluster = settle(remove(cluster, CONFIG_MAPS, name))
        found = get(cluster, QUOTAS, "q").status.used["configmaps"]
        assert found == str(len(names) - left - 1), "QUOTA-7"
    cluster = settle(create(cluster, config_map("d")))
    assert get(cluster, QUOTAS, "q").status.used["configmaps"] == "1"


def test_quota_7_every_counted_resource_is_named_by_its_count():
    for resource in COUNTED:
        obj = made(resource, {"metadata": {"name": "a"}})
        usage = usage_of(resource, obj)
        assert all(concerns(resource, name) for name in usage)
        name = f"count/{resource.plural}" + (f".{resource.group}" if resource.group else "")
        assert usage.get(name, ZERO).value == 1
        assert [one for one in COUNTED if concerns(one, name)] == [resource]
