"""What the status of an object may be (spec/validation.md, VAL-18, VAL-21, VAL-22, VAL-29, VAL-31)."""

import json
from ipaddress import ip_address

import pytest
from api_world import World
from hypothesis import given
from hypothesis import strategies as st
from test_val import tree_of

from refk8s.core.apiserver.validation import validate_status_update

PODS = "/api/v1/namespaces/default/pods"
SPEC = {"containers": [{"name": "c", "image": "i"}]}
SOCKETS = st.sampled_from(["10.0.0.1", "10.0.0.2", "2001:db8::1", "2001:db8::2", "x", ""])


def found(kind, status, before=None, **spec):
    """The fields and reasons of the causes of a written status."""
    resource, new = tree_of(kind, {"spec": spec, "status": status})
    _, old = tree_of(kind, {"spec": spec, "status": before or {}})
    return [(cause.field, cause.reason) for cause in validate_status_update(resource, new, old)]


def of_pod(status, before=None, **spec):
    return found("Pod", status, before, **SPEC, **spec)


# --- pods


@given(
    st.lists(st.sampled_from(["Ready", "DisruptionTarget", "x.io/a", "a b", "", "-"]), max_size=4)
)
def test_val_18_types_of_conditions_are_qualified_names(types):
    # Shows VAL-18.f.
    wrong = [
        f"metadata.conditions[{place}].Type"
        for place, name in enumerate(types)
        if name in ("a b", "", "-")
    ]
    conditions = [{"type": name, "status": "True"} for name in types]
    found_at = [field for field, _ in of_pod({"conditions": conditions})]
    assert sorted(set(found_at)) == sorted(wrong)


@given(st.lists(SOCKETS, max_size=3), st.lists(SOCKETS, max_size=3), SOCKETS)
def test_val_18_a_pod_has_one_address_of_each_family(pod_ips, host_ips, host_ip):
    # Shows VAL-18.c VAL-18.g.
    status = {
        "podIPs": [{"ip": one} for one in pod_ips],
        "hostIPs": [{"ip": one} for one in host_ips],
        "hostIP": host_ip,
    }
    causes = of_pod(status)
    expected = (
        [] if not host_ips or host_ips[0] == host_ip else [("status.hostIPs[0].ip", "Invalid")]
    )
    for addresses, at in ((pod_ips, "status.podIPs"), (host_ips, "status.hostIPs")):
        numbers = [one for one in addresses if one not in ("x", "")]
        expected += [
            (f"{at}[{place}]", "Invalid")
            for place, one in enumerate(addresses)
            if one not in numbers
        ]
        if len(addresses) < 2:
            continue
        if sorted(ip_address(one).version for one in numbers) != [4, 6]:
            expected.append((at, "Invalid"))
        expected += [
            (f"{at}[{place}]", "Duplicate")
            for place, one in enumerate(addresses)
            if one in addresses[:place]
        ]
    short = [(field, reason.removeprefix("FieldValue")) for field, reason in causes]
    assert sorted(short) == sorted(expected)


def container(name, code=None):
    state = {"running": {}} if code is None else {"terminated": {"exitCode": code}}
    return {"name": name, "state": state}


@given(
    st.sampled_from(["Always", "OnFailure", "Never"]),
    st.sampled_from(["containerStatuses", "initContainerStatuses", "ephemeralContainerStatuses"]),
    st.sampled_from([None, 0, 1]),
    st.booleans(),
    st.booleans(),
)
def test_val_18_what_does_not_restart_stays_terminated(policy, where, code, ends, is_sidecar):
    # Shows VAL-18.a VAL-18.e.
    first = {"name": "i", "image": "i"} | ({"restartPolicy": "Always"} if is_sidecar else {})
    before = {where: [container("other"), container("i", code)]}
    after = {where: [container("i", 3 if ends else None)]}
    restarts = policy == "Always" or (policy == "OnFailure" and code == 1)
    if where == "ephemeralContainerStatuses":
        restarts = False
    elif where == "initContainerStatuses" and is_sidecar:
        restarts = True
    wrong = code is not None and not ends and not restarts
    fields = of_pod(after, before, restartPolicy=policy, initContainers=[first])
    assert [field for field, _ in fields] == ([f"status.{where}[1].state"] if wrong else [])


@given(st.sampled_from(["", "Burstable", "BestEffort"]), st.sampled_from(["", "BestEffort"]))
def test_val_18_the_qos_class_is_immutable(new, old):
    # Shows VAL-18.d.
    wrong = [("status.qosClass", "FieldValueInvalid")] if new != old else []
    assert of_pod({"qosClass": new}, {"qosClass": old}) == wrong


@given(st.lists(st.tuples(st.sampled_from("ab"), st.sampled_from([None, "x", "A"])), max_size=3))
def test_val_18_claim_statuses_name_claims_of_the_pod_once(statuses):
    # Shows VAL-18.h.
    tree = [
        {"name": name} | ({} if claim is None else {"resourceClaimName": claim})
        for name, claim in statuses
    ]
    expected = []
    for place, (name, claim) in enumerate(statuses):
        at = f"status.resourceClaimStatuses[{place}].name"
        expected += [at] * (name == "b") + [at] * (claim == "A")
        expected += [at] * (name in [other for other, _ in statuses[:place]])
    claims = [{"name": "a", "resourceClaimName": "x"}]
    fields = [field for field, _ in of_pod({"resourceClaimStatuses": tree}, resourceClaims=claims)]
    assert fields == expected


@given(st.integers(-2, 2**32), st.lists(st.sampled_from([-1, 0, 2**31 - 1, 2**31]), max_size=3))
def test_val_18_users_of_containers_are_numbers_of_31_bits(uid, groups):
    # Shows VAL-18.i.
    user = {"linux": {"uid": uid, "gid": 0, "supplementalGroups": groups}}
    fields = [
        field for field, _ in of_pod({"containerStatuses": [container("c") | {"user": user}]})
    ]
    at = "status.containerStatuses[0].linux"
    expected = [] if 0 <= uid < 2**31 else [f"{at}.uid"]
    expected += [
        f"{at}.supplementalGroups[{place}]"
        for place, group in enumerate(groups)
        if not 0 <= group < 2**31
    ]
    assert fields == expected


# --- counts


COUNTS = (
    "currentNumberScheduled", "numberMisscheduled", "desiredNumberScheduled", "numberReady", "observedGeneration",
    "updatedNumberScheduled", "numberAvailable", "numberUnavailable", "collisionCount",
)  # fmt: skip
TEMPLATE = {
    "selector": {"matchLabels": {"a": "b"}},
    "template": {"metadata": {"labels": {"a": "b"}}, "spec": SPEC},
}


@given(st.dictionaries(st.sampled_from(COUNTS), st.integers(-1, 1)), st.integers(0, 1))
def test_val_21_counts_of_a_daemon_set_are_not_negative(counts, collisions):
    # Shows VAL-21.d.
    wrong = [f"status.{name}" for name, count in counts.items() if count < 0]
    if counts.get("collisionCount", 0) < collisions:
        wrong.append("status.collisionCount")
    before = {"collisionCount": collisions}
    fields = [field for field, _ in found("DaemonSet.apps/v1", counts, before, **TEMPLATE)]
    assert sorted(fields) == sorted(wrong)


@pytest.mark.parametrize("kind", ["Deployment.apps/v1", "ReplicaSet.apps/v1"])
@pytest.mark.parametrize("count", [-1, 0, 5])
def test_val_21_terminating_pods_are_counted_from_zero(kind, count):
    # Shows VAL-21.a.
    fields = [field for field, _ in found(kind, {"terminatingReplicas": count}, **TEMPLATE)]
    assert fields == (["status.terminatingReplicas"] if count < 0 else [])


@given(
    st.dictionaries(
        st.sampled_from(["disruptionsAllowed", "currentHealthy", "desiredHealthy", "expectedPods"]),
        st.integers(-1, 1),
    ),
    st.sampled_from([None, "Bad reason", "Good"]),
)
def test_val_31_counts_and_conditions_of_a_budget_are_complete(counts, reason):
    # Shows VAL-31.a.
    condition = {
        "type": "DisruptionAllowed",
        "status": "True",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    }
    status = dict(counts)
    wrong = [f"status.{name}" for name, count in counts.items() if count < 0]
    if reason is not None:
        status["conditions"] = [condition | {"reason": reason}]
        wrong += ["status.conditions[0].reason"] * (reason != "Good")
    fields = [field for field, _ in found("PodDisruptionBudget.policy/v1", status)]
    assert sorted(fields) == sorted(wrong)


# --- services and claims


@given(
    st.sampled_from(["ClusterIP", "NodePort", "LoadBalancer"]),
    st.lists(
        st.tuples(st.sampled_from(["", "192.0.2.1"]), st.sampled_from([None, "VIP", "Proxy", "X"])),
        max_size=3,
    ),
)
def test_val_22_only_a_load_balancer_has_addresses_and_modes_of_them(kind, points):
    # Shows VAL-22.e VAL-22.f.
    ingress = [
        {"hostname": "a.example", "ip": ip} | ({} if mode is None else {"ipMode": mode})
        for ip, mode in points
    ]
    causes = found(
        "Service", {"loadBalancer": {"ingress": ingress}}, type=kind, ports=[{"port": 80}]
    )
    at = "status.loadBalancer.ingress"
    if kind != "LoadBalancer":
        assert causes == ([(at, "FieldValueForbidden")] if points else [])
        return
    expected = []
    for place, (ip, mode) in enumerate(points):  # without a mode, an address gets VIP by default
        if mode is not None and not ip:
            expected.append((f"{at}[{place}].ipMode", "FieldValueForbidden"))
        elif mode == "X":
            expected.append((f"{at}[{place}].ipMode", "FieldValueNotSupported"))
    assert causes == expected


@given(
    st.sampled_from(["storage", "cpu", "example.com/disk", "kubernetes.io/x", "a b"]),
    st.sampled_from(["ControllerResizeInProgress", "Odd"]),
    st.sampled_from(["1", "-1"]),
)
def test_val_29_a_resize_is_about_storage(name, state, size):
    # Shows VAL-29.k.
    status = {"allocatedResourceStatuses": {name: state}, "allocatedResources": {name: size}}
    fields = [field for field, _ in found("PersistentVolumeClaim", status)]
    is_wrong = name in ("cpu", "kubernetes.io/x", "a b")
    at = "status.allocatedResourceStatus"
    expected = [at] * is_wrong + [at] * (state == "Odd")
    if is_wrong:
        expected.append("status.allocatedResources")
    elif size == "-1":
        expected.append(f"status.allocatedResources[{name}]")
    assert fields == expected


@given(st.sampled_from(["", "BestEffort", "Guaranteed"]))
def test_adm_6_a_status_without_a_class_keeps_the_stored_one(given_class):
    # Shows ADM-6.g.
    world = World()
    world.http("POST", PODS, {"metadata": {"name": "p"}, "spec": SPEC})
    body = {"metadata": {"name": "p"}, "status": {"phase": "Running", "qosClass": given_class}}
    reply = world.http("PUT", f"{PODS}/p/status", body)
    if given_class == "Guaranteed":
        assert reply.code == 422
    else:
        assert json.loads(reply.content)["status"]["qosClass"] == "BestEffort"


# --- what a write of a status leaves as it was


def answer_of(body, path=f"{PODS}/p/status", method="PUT", world=None):
    if world is None:
        world = World()
        world.http("POST", PODS, {"metadata": {"name": "p"}, "spec": SPEC})
    reply = world.http(method, path, body)
    return reply.code, json.loads(reply.content)


@given(SOCKETS.filter(lambda one: one != "x"), st.lists(SOCKETS.filter(bool), max_size=2))
def test_def_6_a_pod_has_its_first_address_twice(one, several):
    # Shows DEF-6.e DEF-6.f.
    status = {"podIP": one, "podIPs": [{"ip": ip} for ip in several]}
    code, pod = answer_of({"metadata": {"name": "p"}, "status": status})
    expected = several if several and one in ("", several[0]) else [one] if one else []
    right = [ip for ip in expected if ip != "x"] == expected
    families = {ip_address(ip).version for ip in expected if ip != "x"}
    if not right or len(families) < len(expected):
        assert code == 422
        return
    assert [each["ip"] for each in pod["status"].get("podIPs", [])] == expected
    assert pod["status"].get("podIP", "") == (expected[0] if expected else "")


@given(st.lists(st.tuples(st.sampled_from(["x.io/a", "x.io/b"]), st.integers(0, 2)), max_size=4))
def test_adm_6_observed_generations_are_not_lost(conditions):
    # Shows ADM-6.h.
    world = World()
    world.http("POST", PODS, {"metadata": {"name": "p"}, "spec": SPEC})
    body = {"metadata": {"name": "p"}, "status": {"observedGeneration": 1, "conditions": []}}
    bare = {"metadata": {"name": "p"}, "status": {"conditions": []}}
    for name, generation in conditions:
        one = {"type": name, "status": "True"}
        bare["status"]["conditions"].append(one)
        body["status"]["conditions"].append(one | {"observedGeneration": generation})
    answer_of(body, world=world)
    _, pod = answer_of(bare, world=world)
    assert pod["status"]["observedGeneration"] == 1
    found = [one.get("observedGeneration", 0) for one in pod["status"].get("conditions", [])]
    assert found == [generation for _, generation in conditions]


def test_api_8_the_owners_of_a_pod_are_not_written_with_its_status():
    # Shows API-8.b.
    owner = {"apiVersion": "v1", "kind": "X", "name": "x", "uid": "u"}
    metadata = {"name": "p", "ownerReferences": [owner], "labels": {"a": "b"}}
    code, pod = answer_of({"metadata": metadata, "status": {"phase": "Running"}})
    assert code == 200 and pod["metadata"]["labels"] == {"a": "b"}
    assert "ownerReferences" not in pod["metadata"]


@given(st.sampled_from(["", "default", "other"]))
def test_api_3_the_body_of_a_subresource_has_the_namespace_of_the_path(namespace):
    # Shows API-3.b.
    world = World()
    world.http("POST", PODS, {"metadata": {"name": "p"}, "spec": SPEC})
    metadata = {"name": "p", "namespace": namespace}
    binding = {"metadata": metadata, "target": {"name": "n"}}
    local = {
        "metadata": {"namespace": namespace},
        "spec": {"user": "u", "resourceAttributes": {"namespace": "default", "verb": "get"}},
    }
    reviews = "/apis/authorization.k8s.io/v1/namespaces/default/localsubjectaccessreviews"
    for path, body in (
        (f"{PODS}/p/binding?dryRun=All", binding),
        (f"{PODS}/p/eviction?dryRun=All", {"metadata": metadata}),
        (reviews, local),
    ):
        code, _ = answer_of(body, path, "POST", world)
        assert code == (400 if namespace == "other" else 201), path


VOLUME = {
    "capacity": {"storage": "1Gi"},
    "accessModes": ["ReadWriteOnce"],
    "hostPath": {"path": "/x"},
}
CLAIM = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}


@pytest.mark.parametrize(
    ("path", "spec", "status", "name", "expected"),
    [
        ("/api/v1/namespaces", None, {}, "phase", "Active"),
        ("/api/v1/persistentvolumes", VOLUME, {}, "phase", "Pending"),
        ("/api/v1/namespaces/default/persistentvolumeclaims", CLAIM, {}, "phase", "Pending"),
        ("/api/v1/nodes", None, {"capacity": {"cpu": "1"}}, "allocatable", {"cpu": "1"}),
        ("/api/v1/namespaces/default/services", {"type": "LoadBalancer", "ports": [{"port": 80}]}, {"loadBalancer": {"ingress": [{"ip": "192.0.2.1"}]}}, "loadBalancer", {"ingress": [{"ip": "192.0.2.1", "ipMode": "VIP"}]}),
    ],
)  # fmt: skip
def test_def_1_a_written_status_has_its_defaults(path, spec, status, name, expected):
    world = World()
    created = {"metadata": {"name": "x"}} | ({} if spec is None else {"spec": spec})
    assert world.http("POST", path, created).code == 201
    code, answer = answer_of(
        {"metadata": {"name": "x"}, "status": status}, f"{path}/x/status", "PUT", world
    )
    assert code == 200 and answer["status"][name] == expected


def test_val_18_a_status_of_a_megabyte_is_checked_in_a_time_that_grows_with_its_length():
    # Each entry compared with all before it takes minutes.
    addresses = [{"ip": f"10.{n >> 16 & 255}.{n >> 8 & 255}.{n & 255}"} for n in range(40_000)]
    ended = {"terminated": {"exitCode": 0}}
    names = [f"c{number}" for number in range(10_000)]
    before = {"containerStatuses": [{"name": name, "state": ended} for name in names]}
    after = {
        "podIPs": addresses,
        "containerStatuses": [{"name": name, "state": {}} for name in reversed(names)],
    }
    causes = of_pod(after, before, restartPolicy="Never")
    assert causes.count(("status.podIPs", "FieldValueInvalid")) == 1
    assert sum(field.endswith(".state") for field, _ in causes) == len(names)
