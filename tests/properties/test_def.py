"""Defaulting: DEF-1 to DEF-22, DEF-30 (spec/defaults.md)."""

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import containers, objects, pods, services

from refk8s.core.api import codec, quantity, resources
from refk8s.core.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from refk8s.core.apiserver.defaults import _FILES as FILES
from refk8s.core.apiserver.defaults import default
from refk8s.core.apiserver.defaults.pod import pull_policy
from refk8s.core.apiserver.disabled import _KINDS as DROPPED
from refk8s.core.apiserver.disabled import drop_disabled

KINDS = [resource for resource in resources.ALL if f"{resource.module}.{resource.kind}" in FILES]
NAMES = [f"{resource.kind}.{resource.api_version}" for resource in KINDS]
POD_SPEC = {
    "dnsPolicy": "ClusterFirst", "restartPolicy": "Always", "schedulerName": "default-scheduler", "securityContext": {},
    "terminationGracePeriodSeconds": 30,
}  # fmt: skip


def defaulted(kind: str, api_version: str, **fields: Any) -> Any:
    """The object with these fields, defaulted, as a JSON tree."""
    resource = resources.by_kind(api_version, kind)
    obj, unknown = codec.decode_tolerant(
        resource.type, {"kind": kind, "apiVersion": api_version, **fields}
    )
    assert not unknown, unknown
    return codec.to_tree(default(resource, obj))


def container_of(**fields: Any) -> Any:
    return defaulted("Pod", "v1", spec={"containers": [{"name": "c", "image": "i:1", **fields}]})[
        "spec"
    ]["containers"][0]


# --- all kinds


@pytest.mark.parametrize("resource", KINDS, ids=NAMES)
def test_def_1_defaulting_twice_is_defaulting_once(resource):
    @given(objects(resource.type))
    def law(obj):
        once = default(resource, obj)
        assert default(resource, once) == once

    law()


@pytest.mark.parametrize("resource", KINDS, ids=NAMES)
def test_def_1_what_is_defaulted_is_canonical(resource):
    """Defaulting keeps objects in the one form that typed code meets (OBJ-4)."""

    @settings(max_examples=25)
    @given(objects(resource.type))
    def law(obj):
        once = default(resource, obj)
        tree = codec.to_tree(once)
        assert codec.to_tree(codec.decode_tolerant(resource.type, tree)[0]) == tree

    law()


@pytest.mark.parametrize(
    "resource",
    [r for r in resources.ALL if r not in KINDS],
    ids=lambda r: f"{r.kind}.{r.api_version}",
)
def test_def_2_a_kind_without_defaults_is_handed_back(resource):
    obj = resource.type()
    assert default(resource, obj) is obj


def missing(before: Any, after: Any, place: str = "") -> list[str]:
    """Where `after` does not have what `before` has."""
    if isinstance(before, dict) and isinstance(after, dict):
        return [
            where
            for key in before
            for where in missing(before[key], after.get(key), f"{place}.{key}")
        ]
    if isinstance(before, list) and isinstance(after, list) and len(before) == len(after):
        return [
            where
            for n, (one, other) in enumerate(zip(before, after, strict=True))
            for where in missing(one, other, f"{place}[{n}]")
        ]
    if before == after or before in (None, "", 0):
        return []
    if (
        isinstance(before, str)
        and quantity.is_quantity(before)
        and isinstance(after, str)
        and quantity.is_quantity(after)
    ):
        up = quantity.parse(after).nano - quantity.parse(before).nano
        return [] if abs(up) < 10**6 else [place]  # DEF-9
    return [place]


ALLOWED = {
    "Secret": (".stringData", ".data"), "Service": (".spec.sessionAffinityConfig",), "Namespace": (".metadata.labels",),
    "Node": (".spec.podCIDRs",),
}  # fmt: skip


@pytest.mark.parametrize("resource", KINDS, ids=NAMES)
def test_def_2_what_is_given_stays(resource):
    @given(objects(resource.type))
    def law(obj):
        wrong = missing(codec.to_tree(obj), codec.to_tree(default(resource, obj)))
        allowed = ALLOWED.get(resource.kind, ("-",))
        assert not [
            place
            for place in wrong
            if not place.startswith(allowed) and not place.endswith(".serviceAccount")
        ], wrong

    law()


@given(pods())
def test_def_2_an_object_that_lacks_nothing_is_handed_back_itself(pod):
    once = default(resources.PODS, pod)
    assert default(resources.PODS, once) is once


# --- pods


@given(containers("c"))
def test_def_3_a_bare_pod_spec_gets_five_defaults_in_a_pod_and_in_a_template(container):
    bare = [{"name": "c", "image": container.image}]
    pod = defaulted("Pod", "v1", spec={"containers": bare})["spec"]
    template = defaulted(
        "Deployment", "apps/v1", spec={"template": {"spec": {"containers": bare}}}
    )["spec"]["template"]["spec"]
    assert {name: value for name, value in template.items() if name != "containers"} == POD_SPEC
    # DEF-6
    assert {name: value for name, value in pod.items() if name != "containers"} == POD_SPEC | {
        "enableServiceLinks": True
    }


@pytest.mark.parametrize("given_as", ["serviceAccount", "serviceAccountName"])
def test_def_3_an_account_is_named_twice(given_as):
    spec = defaulted("Pod", "v1", spec={"containers": [], given_as: "robot"})["spec"]
    assert spec["serviceAccount"] == spec["serviceAccountName"] == "robot"


def test_def_4_a_container_says_how_it_ends_and_its_ports_are_tcp():
    made = container_of(ports=[{"containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}])
    assert (made["terminationMessagePath"], made["terminationMessagePolicy"]) == (
        "/dev/termination-log",
        "File",
    )
    assert [port["protocol"] for port in made["ports"]] == ["TCP", "UDP"]


tags = st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,6}", fullmatch=True)
image_names = st.builds(
    "{}{}".format,
    st.sampled_from(["", "reg.example.com/", "reg.example.com:5000/a/", "localhost:80/"]),
    st.sampled_from(["app", "a/b"]),
)
digests = st.just("sha256:" + "a" * 64)


@given(image_names, st.none() | tags, st.none() | digests)
def test_def_5_the_tag_decides_when_to_pull(name, tag, digest):
    image = name + (f":{tag}" if tag else "") + (f"@{digest}" if digest else "")
    always = tag == "latest" or (tag is None and digest is None)
    assert pull_policy(image) == ("Always" if always else "IfNotPresent")


@pytest.mark.parametrize(
    "image",
    [
        "-1",
        "ä",
        "a\nb",
        "*",
        "10%",
        "Invalid_Name!",
        "a" * 256,
        "app:",
        "app@sha256:1",
        "a" * 64,
        "",
    ],
)
def test_def_5_what_is_no_reference_is_not_pulled_always(image):
    assert pull_policy(image) == "IfNotPresent"


@pytest.mark.parametrize("image", ["0", "100m", "LOCALHOST/a", "[::1]:5000/a"])
def test_def_5_what_only_looks_odd_is_a_reference(image):
    assert pull_policy(image) == "Always"


@given(st.sampled_from(["Always", "IfNotPresent", "Never"]), image_names)
def test_def_5_a_policy_that_is_given_stays(policy, image):
    assert container_of(image=image, imagePullPolicy=policy)["imagePullPolicy"] == policy


amounts = st.dictionaries(
    st.sampled_from(["cpu", "memory", "example.com/gpu"]),
    st.sampled_from(["1", "2", "100m", "64Mi"]),
    max_size=3,
)


@given(amounts, amounts)
def test_def_6_what_is_limited_and_not_requested_is_requested(limits, requests):
    made = container_of(resources={"limits": limits, "requests": requests})["resources"]
    assert made.get("requests", {}) == limits | requests
    template = {
        "spec": {
            "containers": [{"name": "c", "resources": {"limits": limits, "requests": requests}}]
        }
    }
    kept = defaulted("ReplicaSet", "apps/v1", spec={"template": template})["spec"]["template"][
        "spec"
    ]["containers"][0]["resources"]
    assert kept.get("requests", {}) == requests


@given(st.integers(1, 65535), st.none() | st.integers(1, 65535))
def test_def_6_on_the_hosts_network_a_port_is_the_hosts(port, host_port):
    given_ports = [{"containerPort": port} | ({"hostPort": host_port} if host_port else {})]
    spec = defaulted(
        "Pod", "v1", spec={"hostNetwork": True, "containers": [{"name": "c", "ports": given_ports}]}
    )["spec"]
    assert spec["containers"][0]["ports"][0]["hostPort"] == (host_port or port)


def test_def_7_a_probe_and_a_hook_need_only_be_named():
    made = container_of(
        readinessProbe={"httpGet": {"port": 80}}, startupProbe={"exec": {"command": ["x"]}, "failureThreshold": 30},
        livenessProbe={"grpc": {"port": 9}, "timeoutSeconds": 0}, lifecycle={"preStop": {"httpGet": {"port": 81}}},
        env=[{"name": "N", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
    )  # fmt: skip
    times = {"timeoutSeconds": 1, "periodSeconds": 10, "successThreshold": 1, "failureThreshold": 3}
    assert made["readinessProbe"] == times | {
        "httpGet": {"port": 80, "path": "/", "scheme": "HTTP"}
    }
    assert made["startupProbe"] == times | {"exec": {"command": ["x"]}, "failureThreshold": 30}
    assert made["livenessProbe"] == times | {"grpc": {"port": 9, "service": ""}}
    assert made["lifecycle"]["preStop"]["httpGet"] == {"port": 81, "path": "/", "scheme": "HTTP"}
    assert made["env"][0]["valueFrom"]["fieldRef"]["apiVersion"] == "v1"


VOLUMES = [
    ({}, {"emptyDir": {}}),
    ({"secret": {"secretName": "s"}}, {"secret": {"secretName": "s", "defaultMode": 420}}),
    (
        {"configMap": {"name": "m", "defaultMode": 256}},
        {"configMap": {"name": "m", "defaultMode": 256}},
    ),
    ({"configMap": {"name": "m"}}, {"configMap": {"name": "m", "defaultMode": 420}}),
    ({"hostPath": {"path": "/x"}}, {"hostPath": {"path": "/x", "type": ""}}),
    ({"downwardAPI": {}}, {"downwardAPI": {"defaultMode": 420}}),
    (
        {"projected": {"sources": [{"serviceAccountToken": {"path": "t"}}]}},
        {
            "projected": {
                "defaultMode": 420,
                "sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 3600}}],
            }
        },
    ),
    (
        {"image": {"reference": "a/b:1"}},
        {"image": {"reference": "a/b:1", "pullPolicy": "IfNotPresent"}},
    ),
    ({"nfs": {"server": "s", "path": "/p"}}, {"nfs": {"server": "s", "path": "/p"}}),
    (
        {"ephemeral": {"volumeClaimTemplate": {"spec": {}}}},
        {
            "ephemeral": {
                "volumeClaimTemplate": {
                    "metadata": {},
                    "spec": {"volumeMode": "Filesystem", "resources": {}},
                }
            }
        },
    ),
]


@pytest.mark.parametrize(
    ("written", "meant"), VOLUMES, ids=[str(sorted(meant)) for _, meant in VOLUMES]
)
def test_def_8_a_volume_without_a_source_is_an_empty_dir_and_the_others_get_their_modes(
    written, meant
):
    made = defaulted("Pod", "v1", spec={"containers": [], "volumes": [{"name": "v", **written}]})[
        "spec"
    ]["volumes"][0]
    assert made == {"name": "v"} | meant


@given(st.integers(1, 10**10), st.sampled_from(["n", "u", "m", ""]))
def test_def_9_nothing_is_finer_than_a_thousandth(number, unit):
    written = quantity.canonical(f"{number}{unit}")
    kept = container_of(resources={"requests": {"cpu": written}})["resources"]["requests"]["cpu"]
    nano = quantity.parse(kept).nano
    assert nano % 10**6 == 0 and 0 <= nano - quantity.parse(written).nano < 10**6
    assert kept == quantity.canonical(kept)


# --- workloads

TEMPLATE = {
    "metadata": {"labels": {"app": "x"}},
    "spec": {"containers": [{"name": "c", "image": "i"}]},
}


def spec_of(kind: str, api_version: str = "apps/v1", **fields: Any) -> Any:
    made = defaulted(
        kind,
        api_version,
        spec={"selector": {"matchLabels": {"app": "x"}}, "template": TEMPLATE, **fields},
    )["spec"]
    del made["template"], made["selector"]
    return made


def test_def_10_a_deployment_rolls_by_quarters():
    rolling = {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"},
    }
    whole = {
        "replicas": 1,
        "revisionHistoryLimit": 10,
        "progressDeadlineSeconds": 600,
        "strategy": rolling,
    }
    assert spec_of("Deployment") == whole
    assert spec_of("Deployment", replicas=0)["replicas"] == 0
    partly = spec_of("Deployment", strategy={"rollingUpdate": {"maxSurge": 0}})["strategy"]
    assert partly == {
        "type": "RollingUpdate",
        "rollingUpdate": {"maxSurge": 0, "maxUnavailable": "25%"},
    }
    assert spec_of("Deployment", strategy={"type": "Recreate"})["strategy"] == {"type": "Recreate"}


def test_def_10_the_other_workloads_have_their_own_ways():
    assert spec_of("ReplicaSet") == {"replicas": 1}
    assert spec_of("StatefulSet") == {
        "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady", "serviceName": "",
        "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
        "persistentVolumeClaimRetentionPolicy": {"whenDeleted": "Retain", "whenScaled": "Retain"},
    }  # fmt: skip
    rolling = {"type": "RollingUpdate", "rollingUpdate": {"maxUnavailable": 1, "maxSurge": 0}}
    assert spec_of("DaemonSet") == {"revisionHistoryLimit": 10, "updateStrategy": rolling}
    assert spec_of("DaemonSet", updateStrategy={"type": "OnDelete"})["updateStrategy"] == {
        "type": "OnDelete"
    }


@given(
    st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2),
    st.booleans(),
    st.booleans(),
)
def test_def_11_a_replication_controller_takes_its_templates_labels_where_it_has_none(
    labels, own_selector, own_labels
):
    selector, own = ({"s": "1"} if own_selector else {}), ({"l": "1"} if own_labels else {})
    template = {"metadata": {"labels": labels}, "spec": TEMPLATE["spec"]}
    made = defaulted(
        "ReplicationController",
        "v1",
        metadata={"labels": own},
        spec={"selector": selector, "template": template},
    )
    assert made["spec"].get("selector", {}) == (selector or labels)
    assert made["metadata"].get("labels", {}) == (own or labels)
    assert made["spec"]["replicas"] == 1


# --- services


@given(services())
def test_def_12_a_port_leads_to_itself_over_tcp(service):
    ports = tuple([replace(port, target_port=None, protocol=None) for port in service.spec.ports])
    bare = replace(service, spec=replace(service.spec, ports=ports))
    made = default(resources.SERVICES, bare)
    assert [(port.target_port, port.protocol) for port in made.spec.ports] == [
        (port.port, "TCP") for port in bare.spec.ports
    ]
    assert made.spec.internal_traffic_policy == "Cluster" and made.spec.session_affinity == "None"
    assert made.spec.external_traffic_policy == (
        "Cluster" if made.spec.type == "NodePort" else None
    )


def test_def_12_affinity_lasts_three_hours_and_its_configuration_goes_with_it():
    affine = defaulted("Service", "v1", spec={"sessionAffinity": "ClientIP"})["spec"]
    assert affine["sessionAffinityConfig"] == {"clientIP": {"timeoutSeconds": 10800}}
    config = {"clientIP": {"timeoutSeconds": 5}}
    kept = defaulted(
        "Service", "v1", spec={"sessionAffinity": "ClientIP", "sessionAffinityConfig": config}
    )["spec"]
    assert kept["sessionAffinityConfig"] == config
    plain = defaulted(
        "Service", "v1", spec={"sessionAffinity": "None", "sessionAffinityConfig": config}
    )["spec"]
    assert "sessionAffinityConfig" not in plain


def test_def_12_only_what_can_be_reached_from_outside_has_a_policy_for_it():
    assert "externalTrafficPolicy" not in defaulted("Service", "v1", spec={})["spec"]
    assert (
        "internalTrafficPolicy"
        not in defaulted("Service", "v1", spec={"type": "ExternalName"})["spec"]
    )
    balanced = defaulted("Service", "v1", spec={"type": "LoadBalancer"})["spec"]
    assert (balanced["externalTrafficPolicy"], balanced["allocateLoadBalancerNodePorts"]) == (
        "Cluster",
        True,
    )
    assert (
        defaulted("Service", "v1", spec={"externalIPs": ["192.0.2.1"]})["spec"][
            "externalTrafficPolicy"
        ]
        == "Cluster"
    )


def test_def_13_endpoints_are_of_tcp():
    ports = [{"port": 80}, {"port": 53, "protocol": "UDP"}]
    made = defaulted(
        "Endpoints", "v1", subsets=[{"addresses": [{"ip": "10.0.0.1"}], "ports": ports}]
    )
    assert [port["protocol"] for port in made["subsets"][0]["ports"]] == ["TCP", "UDP"]
    sliced = defaulted(
        "EndpointSlice",
        "discovery.k8s.io/v1",
        addressType="IPv4",
        endpoints=[],
        ports=[{"port": 80}],
    )
    assert sliced["ports"] == [{"name": "", "port": 80, "protocol": "TCP"}]


# --- the cluster


@given(
    st.dictionaries(
        st.sampled_from(["a", "kubernetes.io/metadata.name"]),
        st.sampled_from(["x", "y"]),
        max_size=2,
    )
)
def test_def_14_a_namespace_is_labelled_with_its_name(labels):
    made = defaulted("Namespace", "v1", metadata={"name": "n", "labels": labels})
    assert made["metadata"]["labels"] == labels | {"kubernetes.io/metadata.name": "n"}
    assert made["status"]["phase"] == "Active"


@given(amounts, st.none() | amounts)
def test_def_15_all_that_a_node_has_can_be_given_away(capacity, allocatable):
    status = {"capacity": capacity} | ({} if allocatable is None else {"allocatable": allocatable})
    made = defaulted("Node", "v1", status=status)["status"]
    assert made.get("allocatable", {}) == (allocatable or capacity)


@given(
    st.sampled_from(["", "10.0.1.0/24"]),
    st.lists(st.sampled_from(["10.0.1.0/24", "10.0.2.0/24", "2001:db8::/64"]), max_size=2),
)
def test_def_15_the_range_of_a_node_is_the_first_of_its_ranges(one, several):
    # Shows DEF-15.a DEF-15.b.
    made = defaulted("Node", "v1", spec={"podCIDR": one, "podCIDRs": several})["spec"]
    expected = several if several and one in ("", several[0]) else [one] if one else []
    assert made.get("podCIDRs", []) == expected
    assert made.get("podCIDR", "") == (expected[0] if expected else "")


@given(amounts, amounts, amounts, amounts)
def test_def_15_a_container_limit_defaults_downwards(least, most, limit, request):
    item = {
        "type": "Container",
        "min": least,
        "max": most,
        "default": limit,
        "defaultRequest": request,
    }
    made = defaulted("LimitRange", "v1", spec={"limits": [item]})["spec"]["limits"][0]
    assert made.get("default", {}) == most | limit
    assert made.get("defaultRequest", {}) == least | most | limit | request


def test_def_15_a_priority_class_pushes_others_out():
    made = defaulted("PriorityClass", "scheduling.k8s.io/v1", value=7)
    assert made["preemptionPolicy"] == "PreemptLowerPriority"


words = st.dictionaries(st.sampled_from(["a", "b", "c"]), st.text(max_size=5), max_size=3)


@given(words, words)
def test_def_16_string_data_is_written_over_data_and_not_kept(data, strings):
    encoded = {key: base64.b64encode(text.encode()).decode() for key, text in data.items()}
    made = defaulted("Secret", "v1", data=encoded, stringData=strings)
    assert "stringData" not in made and made["type"] == "Opaque"
    assert {
        key: base64.b64decode(text).decode() for key, text in made.get("data", {}).items()
    } == data | strings


def test_def_17_storage_is_pending_and_a_file_system():
    volume = defaulted("PersistentVolume", "v1", spec={"hostPath": {"path": "/x"}})
    assert volume["spec"] == {
        "hostPath": {"path": "/x", "type": ""},
        "persistentVolumeReclaimPolicy": "Retain",
        "volumeMode": "Filesystem",
    }
    assert volume["status"] == {"phase": "Pending"}
    inline = {"rbd": {"monitors": ["m"], "image": "i"}, "hostPath": {"path": "/x"}}
    attachment = defaulted(
        "VolumeAttachment", "storage.k8s.io/v1", spec={"source": {"inlineVolumeSpec": inline}}
    )
    assert attachment["spec"]["source"]["inlineVolumeSpec"] == {
        "rbd": inline["rbd"] | {"pool": "rbd", "user": "admin", "keyring": "/etc/ceph/keyring"},
        "hostPath": {"path": "/x", "type": ""},
    }
    claim = defaulted("PersistentVolumeClaim", "v1", spec={"volumeMode": "Block"})
    assert (claim["spec"]["volumeMode"], claim["status"]["phase"]) == ("Block", "Pending")
    storage_class = defaulted("StorageClass", "storage.k8s.io/v1", provisioner="x")
    assert (storage_class["reclaimPolicy"], storage_class["volumeBindingMode"]) == (
        "Delete",
        "Immediate",
    )
    driver = defaulted("CSIDriver", "storage.k8s.io/v1", spec={"attachRequired": False})["spec"]
    assert driver["attachRequired"] is False and driver["volumeLifecycleModes"] == ["Persistent"]


@given(st.none() | st.integers(0, 9), st.none() | st.integers(0, 9))
def test_def_18_a_job_wants_one_success_if_it_says_nothing(completions, parallelism):
    numbers = {"completions": completions, "parallelism": parallelism}
    made = defaulted(
        "Job",
        "batch/v1",
        spec={"template": TEMPLATE, **{name: n for name, n in numbers.items() if n is not None}},
    )
    assert made["spec"].get("completions") == (
        1 if completions is None and parallelism is None else completions
    )
    assert made["spec"]["parallelism"] == (1 if parallelism is None else parallelism)
    assert made["metadata"]["labels"] == {"app": "x"}


def test_def_18_retries_and_histories():
    indexed = defaulted("Job", "batch/v1", spec={"template": TEMPLATE, "backoffLimitPerIndex": 1})[
        "spec"
    ]
    assert indexed["backoffLimit"] == 2**31 - 1
    plain = defaulted("Job", "batch/v1", spec={"template": TEMPLATE})["spec"]
    assert (plain["backoffLimit"], plain["completionMode"], plain["suspend"], plain["podReplacementPolicy"]) == (
        6, "NonIndexed", False, "TerminatingOrFailed"
    )  # fmt: skip
    cron = defaulted(
        "CronJob",
        "batch/v1",
        spec={"schedule": "* * * * *", "jobTemplate": {"spec": {"template": TEMPLATE}}},
    )["spec"]
    assert (
        cron["concurrencyPolicy"],
        cron["successfulJobsHistoryLimit"],
        cron["failedJobsHistoryLimit"],
    ) == ("Allow", 3, 1)
    assert cron["jobTemplate"]["spec"]["template"]["spec"]["dnsPolicy"] == "ClusterFirst"
    assert "completions" not in cron["jobTemplate"]["spec"]


@pytest.mark.parametrize("kind", ["Job", "CronJob"])
def test_def_18_a_condition_of_a_failure_policy_is_to_be_true(kind):
    conditions = [{"type": "A"}, {"type": "B", "status": "False"}]
    rules = [{"action": "Ignore", "onPodConditions": conditions}]
    spec: Any = {"template": TEMPLATE, "podFailurePolicy": {"rules": rules}}
    if kind == "CronJob":
        spec = {"schedule": "* * * * *", "jobTemplate": {"spec": spec}}
    made = defaulted(kind, "batch/v1", spec=spec)["spec"]
    policy = (made["jobTemplate"]["spec"] if kind == "CronJob" else made)["podFailurePolicy"]
    found = [condition["status"] for condition in policy["rules"][0]["onPodConditions"]]
    assert found == ["True", "False"]


POD_LEVEL = [
    # of the pod, of its containers, of an init container -> of the pod
    ({"limits": {"cpu": "1"}}, [{}], {}, {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
    ({"limits": {"cpu": "1"}}, [{"requests": {"cpu": "100m"}}, {"limits": {"cpu": "200m"}}], {},
     {"limits": {"cpu": "1"}, "requests": {"cpu": "300m"}}),
    ({"limits": {"memory": "1Gi"}}, [{"requests": {"memory": "1Mi", "cpu": "1"}}], {"requests": {"memory": "3Mi"}},
     {"limits": {"memory": "1Gi"}, "requests": {"memory": "3Mi", "cpu": "1"}}),
    ({"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}}, [{"requests": {"cpu": "1m"}}], {},
     {"limits": {"cpu": "1"}, "requests": {"cpu": "500m"}}),
    ({"requests": {"cpu": "500m"}}, [{"requests": {"memory": "1Mi"}}], {}, {"requests": {"cpu": "500m"}}),
    ({"requests": {"cpu": "1"}}, [{"limits": {"hugepages-2Mi": "4Mi"}}], {},
     {"limits": {"hugepages-2Mi": "4Mi"}, "requests": {"cpu": "1", "hugepages-2Mi": "4Mi"}}),
    ({"limits": {"cpu": "1"}}, [{"requests": {"x.io/y": "1"}}], {}, {"limits": {"cpu": "1"}, "requests": {"cpu": "1"}}),
    ({}, [{"requests": {"cpu": "1"}}], {}, {}),
]  # fmt: skip


@pytest.mark.parametrize(("given_ones", "containers_have", "init_has", "expected"), POD_LEVEL)
def test_def_33_pod_level_requests_follow(given_ones, containers_have, init_has, expected):
    spec = {
        "containers": [{"name": f"c{n}", "resources": r} for n, r in enumerate(containers_have)],
        "initContainers": [{"name": "i", "resources": init_has}],
        "resources": given_ones,
    }
    assert defaulted("Pod", "v1", spec=spec)["spec"]["resources"] == expected
    template = defaulted("PodTemplate", "v1", template={"spec": spec})["template"]["spec"]
    assert template["resources"] == given_ones


@given(pods(), st.sampled_from(POD_LEVEL))
def test_def_33_defaults_of_defaults_are_the_same(pod, row):
    resources_of, _ = codec.decode_tolerant(ResourceRequirements, row[0])
    made = default(resources.PODS, replace(pod, spec=replace(pod.spec, resources=resources_of)))
    assert default(resources.PODS, made) == made


POLICIES = [
    ({}, ["Ingress"]),
    ({"egress": [{}]}, ["Ingress", "Egress"]),
    ({"ingress": [{}]}, ["Ingress"]),
]


@pytest.mark.parametrize(("rules", "types"), POLICIES)
def test_def_19_a_network_policy_is_about_ingress_and_about_egress_if_it_says_so(rules, types):
    made = defaulted("NetworkPolicy", "networking.k8s.io/v1", spec={"podSelector": {}, **rules})
    assert made["spec"]["policyTypes"] == types
    ingress_class = defaulted(
        "IngressClass", "networking.k8s.io/v1", spec={"parameters": {"kind": "K", "name": "n"}}
    )
    assert ingress_class["spec"]["parameters"]["scope"] == "Cluster"


def test_def_20_subjects_belong_to_their_groups():
    subjects = [
        {"kind": "User", "name": "u"},
        {"kind": "Group", "name": "g"},
        {"kind": "ServiceAccount", "name": "s", "namespace": "n"},
    ]
    made = defaulted(
        "RoleBinding",
        "rbac.authorization.k8s.io/v1",
        roleRef={"kind": "Role", "name": "r"},
        subjects=subjects,
    )
    group = "rbac.authorization.k8s.io"
    assert [subject.get("apiGroup") for subject in made["subjects"]] == [group, group, None]
    assert made["roleRef"]["apiGroup"] == group


def test_def_21_an_autoscaler_aims_at_four_fifths_of_the_cpu():
    written = {"maxReplicas": 3, "behavior": {"scaleUp": {"selectPolicy": "Min"}}}
    made = defaulted("HorizontalPodAutoscaler", "autoscaling/v2", spec=written)["spec"]
    assert made["minReplicas"] == 1
    target = {"type": "Utilization", "averageUtilization": 80}
    assert made["metrics"] == [{"type": "Resource", "resource": {"name": "cpu", "target": target}}]
    assert (
        made["behavior"]["scaleUp"]["selectPolicy"] == "Min"
        and len(made["behavior"]["scaleUp"]["policies"]) == 2
    )
    assert made["behavior"]["scaleDown"]["policies"] == [
        {"type": "Percent", "value": 100, "periodSeconds": 15}
    ]
    first = defaulted("HorizontalPodAutoscaler", "autoscaling/v1", spec={"maxReplicas": 3})["spec"]
    assert (first["minReplicas"], first["targetCPUUtilizationPercentage"]) == (1, 80)


def test_def_6_a_pod_of_a_defaulted_template_costs_no_copy_of_its_containers():
    template = default(
        resources.PODS, Pod(spec=PodSpec(containers=(Container(name="c", image="i:1"),)))
    ).spec
    pod = default(resources.PODS, Pod(spec=replace(template, enable_service_links=None)))
    assert pod.spec.containers is template.containers


def test_def_10_a_daemon_set_that_does_not_roll_has_zeros():
    made = defaulted(
        "DaemonSet", "apps/v1", spec={"updateStrategy": {"type": "OnDelete", "rollingUpdate": {}}}
    )["spec"]
    assert made["updateStrategy"]["rollingUpdate"] == {"maxSurge": 0, "maxUnavailable": 0}


# --- fields of features that are off


@pytest.mark.parametrize("resource", DROPPED, ids=[resource.kind for resource in DROPPED])
def test_def_22_what_is_dropped_once_is_gone_and_what_was_there_stays(resource):
    @settings(max_examples=50)
    @given(objects(resource.type), objects(resource.type))
    def law(drawn, other):
        new, old = default(resource, drawn), default(resource, other)
        dropped = drop_disabled(resource, new, None)
        assert drop_disabled(resource, dropped, None) is dropped
        assert drop_disabled(resource, new, new) == new or resource.kind == "Job"
        assert drop_disabled(resource, dropped, old) == dropped

    law()


SIGNALLED = {
    "name": "c",
    "image": "i",
    "lifecycle": {"stopSignal": "SIGUSR1"},
    "livenessProbe": {"grpc": {"port": 1, "mode": "TLS"}},
    "readinessProbe": {"httpGet": {"port": 1, "protocol": "HTTP2"}},
    "volumeMounts": [{"name": "v", "mountPath": "/v", "bindMountOptions": ["noexec"]}],
}
OWNED = [
    {"name": "v", "emptyDir": {"mode": 493}},
    {"name": "w", "configMap": {"name": "c", "defaultUser": 4711, "items": [{"key": "k", "path": "p", "user": 4711}]}},
    {"name": "x", "projected": {"defaultUser": 4711, "sources": [{"serviceAccountToken": {"path": "t", "user": 4711}}]}},
]  # fmt: skip
OFF = [
    (
        "Lease",
        "coordination.k8s.io/v1",
        {"strategy": "OldestEmulationVersion", "preferredHolder": "b"},
    ),
    ("Pod", "v1", {"containers": [SIGNALLED], "schedulingGroup": {"podGroupName": "g"}}),
    ("Pod", "v1", {"containers": [], "ephemeralContainers": [SIGNALLED]}),
    ("Pod", "v1", {"containers": [{"name": "c", "image": "i"}], "volumes": OWNED}),
    ("Node", "v1", {"podPreemptionPolicy": {"disableResizePreemption": ["x"]}}),
    ("Deployment", "apps/v1", {"template": {"spec": {"containers": [SIGNALLED]}}}),
    ("StatefulSet", "apps/v1", {"updateStrategy": {"rollingUpdate": {"maxUnavailable": 99}}}),
    (
        "CronJob",
        "batch/v1",
        {"jobTemplate": {"spec": {"template": {"spec": {"containers": [SIGNALLED]}}}}},
    ),
]


@pytest.mark.parametrize(("kind", "version", "spec"), OFF, ids=[row[0] for row in OFF])
def test_def_22_a_new_object_loses_them_and_an_old_one_keeps_them(kind, version, spec):
    resource = resources.by_kind(version, kind)
    obj = default(
        resource,
        codec.decode_tolerant(resource.type, {"kind": kind, "apiVersion": version, "spec": spec})[
            0
        ],
    )
    tree = str(codec.to_tree(drop_disabled(resource, obj, None)))
    assert not any(
        word in tree
        for word in (
            "SIGUSR1",
            "TLS",
            "HTTP2",
            "noexec",
            "4711",
            "493",
            "schedulingGroup",
            "99",
            "Emulation",
            "preferredHolder",
            "podPreemption",
        )
    )
    assert drop_disabled(resource, obj, obj) == obj


@given(
    st.sampled_from([None, "All", "ExactCount"]),
    st.sampled_from([None, 0, 1, 3]),
    st.sampled_from([None, "Equal", "Exists"]),
)
def test_def_30_a_request_for_devices_is_for_exactly_one_unless_it_says_otherwise(
    mode, count, operator
):
    wish = {
        "deviceClassName": "gpu",
        "tolerations": [{"key": "a", **({"operator": operator} if operator else {})}],
    }
    wish |= {
        name: value
        for name, value in (("allocationMode", mode), ("count", count))
        if value is not None
    }
    for part in ({"exactly": wish}, {"firstAvailable": [{"name": "s", **wish}]}):
        spec = {"devices": {"requests": [{"name": "r", **part}]}}
        for resource, tree in (
            (resources.RESOURCE_CLAIMS, {"spec": spec}),
            (resources.RESOURCE_CLAIM_TEMPLATES, {"spec": {"spec": spec}}),
        ):
            obj = default(resource, codec.decode_tolerant(resource.type, tree)[0])
            (request,) = (
                obj.spec if resource is resources.RESOURCE_CLAIMS else obj.spec.spec
            ).devices.requests
            found = request.exactly or request.first_available[0]
            assert found.allocation_mode == (mode or "ExactCount")
            assert (found.count or 0) == (count or (0 if mode == "All" else 1))
            assert found.tolerations[0].operator == (operator or "Equal")


def test_def_31_a_priority_level_has_shares_and_queues_and_a_flow_schema_a_precedence():
    group = "flowcontrol.apiserver.k8s.io/v1"
    limited = {"limitResponse": {"type": "Queue", "queuing": {"handSize": 3}}}
    made = defaulted(
        "PriorityLevelConfiguration", group, spec={"type": "Limited", "limited": limited}
    )
    assert made["spec"]["limited"] == {
        "nominalConcurrencyShares": 30,
        "lendablePercent": 0,
        "limitResponse": {
            "type": "Queue",
            "queuing": {"queues": 64, "handSize": 3, "queueLengthLimit": 50},
        },
    }
    limited = {
        "nominalConcurrencyShares": 0,
        "lendablePercent": 5,
        "limitResponse": {"type": "Reject"},
    }
    made = defaulted(
        "PriorityLevelConfiguration", group, spec={"type": "Limited", "limited": limited}
    )
    assert made["spec"]["limited"] == limited
    made = defaulted("PriorityLevelConfiguration", group, spec={"type": "Exempt", "exempt": {}})
    assert made["spec"]["exempt"] == {"nominalConcurrencyShares": 0, "lendablePercent": 0}
    for own, precedence in ({}, 1000), ({"matchingPrecedence": 7}, 7):
        spec = {"priorityLevelConfiguration": {"name": "x"}, **own}
        assert defaulted("FlowSchema", group, spec=spec)["spec"]["matchingPrecedence"] == precedence


def test_def_32_the_certificate_of_a_pod_is_valid_for_a_day_unless_the_request_says_otherwise():
    resource = resources.POD_CERTIFICATE_REQUESTS
    for asked, stored in ((None, 86_400), (3_600, 3_600)):
        spec = {"maxExpirationSeconds": asked} if asked else {}
        obj = default(resource, codec.decode_tolerant(resource.type, {"spec": spec})[0])
        assert obj.spec.max_expiration_seconds == stored
        assert default(resource, obj) is obj
