"""What is known to differ from upstream and has no test elsewhere (spec/divergences.md): each fails
when the difference goes, so that the page can be kept true.
"""

import asyncio
import json
import re
from base64 import b64encode
from ipaddress import IPv4Network
from typing import Any, get_args, get_type_hints

import pytest
from api_world import World
from custom_world import GROUP, CustomWorld, a_definition, a_version, gadgets
from sched_worlds import a_node, a_pod

from refk8s.adapters.docker.engine.network import Network
from refk8s.adapters.linux.kernel_rules import KernelRules
from refk8s.adapters.linux.service_rules import choose_rules
from refk8s.adapters.linux.userspace_rules import UserspaceRules
from refk8s.checking.simulator.scenario import default_manifests, read_manifests
from refk8s.checking.simulator.simulate import Setup, simulate
from refk8s.cli.main import main
from refk8s.components.apiserver import ApiServer
from refk8s.components.clock import Clock
from refk8s.components.review_webhook import KEPT_SECONDS_MIN
from refk8s.core import components, ports
from refk8s.core.api.core_v1 import (
    AWSElasticBlockStoreVolumeSource,
    Container,
    NodeStatus,
    Taint,
    Toleration,
    Volume,
    VolumeMount,
)
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    ALL,
    ENDPOINT_SLICES,
    ENDPOINTS,
    LEASES,
    PODS,
)
from refk8s.core.api.token_secret import DAY
from refk8s.core.api.user import ADMIN, AUTHENTICATED
from refk8s.core.apiserver.admission.configuration import BadConfiguration, read_admission
from refk8s.core.apiserver.authorize.configuration import TYPES
from refk8s.core.apiserver.http import WireRequest, receive
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.oidc.issuers import Attribute, Issuer, Trusted
from refk8s.core.apiserver.oidc.tokens import Token, user_of_token
from refk8s.core.apiserver.openapi import openapi
from refk8s.core.apiserver.respond import Reply
from refk8s.core.context import SECOND, micro_timestamp
from refk8s.core.controllers.attach_detach import MANAGED
from refk8s.core.controllers.legacy_tokens import CLEAN_UP_PERIOD
from refk8s.core.controllers.node_ipam import PodRanges
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.node_status import compute_node, compute_node_status
from refk8s.core.kubelet.status import mount_statuses
from refk8s.core.network.node_routes import AUTO, compute_routes
from refk8s.core.ports.node_network import NodeNetwork, Peer
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.placement import choose
from refk8s.core.scheduler.snapshot import info_of, recompute
from refk8s.core.scheduler_configuration.read import BadConfiguration as BadSchedulerConfiguration
from refk8s.core.scheduler_configuration.read import read_configuration
from refk8s.core.scheduler_configuration.types import GROUP_VERSION, KIND
from refk8s.core.store import Engine, Put, Txn
from refk8s.core.value import evolve
from refk8s.store.local import LocalStore
from refk8s.store.memory import MemoryEngine

PODS_PATH = "/api/v1/namespaces/default/pods"
CONTAINER = {"name": "c", "image": "app:1"}


def a_manifest(kind, api_version="v1", name="a", **parts):
    return {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, **parts}


def posted(world, path, tree):
    reply = world.http("POST", path, tree)
    return reply.code, json.loads(reply.content)


# --- objects and the store ------------------------------------------------------------------------


def test_d_34_components_are_healthy_while_they_hold_their_leases():
    # Shows DISC-17.
    world = World(("default", "kube-system"))

    def found(config: Any = None) -> dict[str, str]:
        world.config = config or world.config
        items = json.loads(world.http("GET", "/api/v1/componentstatuses").content)["items"]
        return {one["metadata"]["name"]: one["conditions"][0]["status"] for one in items}

    assert found() == {"etcd-0": "True", "scheduler": "False", "controller-manager": "False"}
    lease = {
        "apiVersion": "coordination.k8s.io/v1",
        "kind": "Lease",
        "metadata": {"name": "kube-scheduler"},
        "spec": {
            "holderIdentity": "host-1",
            "leaseDurationSeconds": 15,
            "renewTime": micro_timestamp(world.now),
        },
    }
    path = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases"
    assert world.http("POST", path, lease).code == 201
    assert found()["scheduler"] == "True"
    world.now += 20 * SECOND
    assert found()["scheduler"] == "False"
    assert found(evolve(world.config, components=("scheduler",)))["scheduler"] == "True"
    one = world.http("GET", "/api/v1/componentstatuses/nothing")
    assert json.loads(one.content)["details"] == {"name": "nothing", "kind": "componentstatus"}
    selected = world.http("GET", "/api/v1/componentstatuses?fieldSelector=metadata.name%3Detcd-0")
    assert [each["metadata"]["name"] for each in json.loads(selected.content)["items"]] == [
        "etcd-0"
    ]


@pytest.mark.parametrize(("depth", "code"), [(200, 201), (300, 400)])
def test_d_2_json_is_read_to_a_depth_of_256(depth, code):
    """In an object of a custom resource, which may hold any JSON."""
    world = CustomWorld(a_definition())
    text = '{"a":' * depth + "1" + "}" * depth
    head = f'{{"apiVersion":"{GROUP}/v1","kind":"Gadget","metadata":{{"name":"a"}},"spec":'
    assert world.send("POST", gadgets(), (head + text + "}").encode())[0] == code


def test_d_22_a_pod_that_nothing_holds_goes_in_one_write():
    world = World()
    assert posted(world, PODS_PATH, a_manifest("Pod", spec={"containers": [CONTAINER]}))[0] == 201
    before = world.history.revision
    assert world.http("DELETE", f"{PODS_PATH}/a").code == 200
    [change] = world.history.changes(PODS.prefix, before)
    assert world.history.revision == before + 1 and change.record is None


def test_d_90_a_store_has_prefixes_and_no_leases():
    asked = {name for name in dir(Engine) if not name.startswith("_")}
    reading = {"revision", "compacted", "get", "list", "changes", "prefix_revision"}
    assert reading <= asked and not {"lease", "grant", "range"} & asked
    assert fields(Put) == {"key", "value"} and fields(Txn) == {"compares", "writes"}


# --- the API server -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", ["/api", "/apis", "/apis/apps/v1", "/version"])
def test_d_16_discovery_is_json_and_there_is_no_cbor(path):
    world = World()
    reply = world.http("GET", path, headers={"accept": "application/vnd.kubernetes.protobuf"})
    assert (reply.code, reply.media_type) == (200, "application/json")
    cbor = "application/cbor"
    assert world.http("GET", PODS_PATH, headers={"accept": cbor}).code == 406
    reply = world.http("GET", PODS_PATH, headers={"accept": f"{cbor}, application/json"})
    assert (reply.code, reply.media_type) == (200, "application/json")


def test_d_17_the_fields_of_a_kind_are_not_described():
    document = json.loads(openapi("/openapi/v3/apis/apps/v1") or b"")
    fields = document["components"]["schemas"]["io.k8s.api.apps.v1.DeploymentCondition"]
    assert not [name for name, field in fields["properties"].items() if "description" in field]


def test_d_18_the_beta_form_of_aggregated_discovery_is_not_there():
    headers = {
        "accept": "application/json;g=apidiscovery.k8s.io;v=v2beta1;as=APIGroupDiscoveryList,application/json"
    }
    assert (
        json.loads(World().http("GET", "/apis", headers=headers).content)["kind"] == "APIGroupList"
    )


def test_d_19_only_what_is_generally_available_is_served():
    assert all(re.fullmatch(r"v\d+", resource.api_version.rpartition("/")[2]) for resource in ALL)


def test_d_170_these_plugins_have_a_configuration():
    plugins = [{"name": "EventRateLimit", "configuration": {}}]
    tree = {"apiVersion": "apiserver.config.k8s.io/v1", "kind": "AdmissionConfiguration", "plugins": plugins}  # fmt: skip
    with pytest.raises(BadConfiguration, match="EventRateLimit"):
        read_admission(tree, lambda name: {})


def test_d_27_a_node_port_that_stands_twice_is_the_clients_mistake():
    world = World()
    path = "/api/v1/namespaces/default/services"
    ports = [{"name": "a", "port": 80, "nodePort": 30001}]
    assert (
        posted(world, path, a_manifest("Service", spec={"type": "NodePort", "ports": ports}))[0]
        == 201
    )
    twice = a_manifest(
        "Service",
        spec={"type": "NodePort", "ports": [*ports, {"name": "b", "port": 81, "nodePort": 30001}]},
    )
    assert world.http("PUT", f"{path}/a", twice).code == 422


def test_d_23_a_docker_node_has_a_range_of_ipv4():
    network = Network(None, "c" * 36)  # nothing is asked of an engine
    assert "IPv4 too" in network.configure("fd00::/64")
    far = Peer("far", "", "", "fd00:2::/64", "fd00:198::2")
    found = compute_routes(NodeNetwork("", "", (far,), "fd00:1::/64"), (), AUTO)
    assert not found.routes and "there is no tunnel" in found.problems[0]


def test_d_24_version_1_of_autoscaling_is_silent_about_what_it_cannot_say():
    metric = {
        "type": "Pods",
        "pods": {"metric": {"name": "x"}, "target": {"type": "AverageValue", "averageValue": "1"}},
    }
    spec = {
        "maxReplicas": 3,
        "scaleTargetRef": {"kind": "Deployment", "name": "a", "apiVersion": "apps/v1"},
        "metrics": [metric],
    }
    world = World()
    path = "namespaces/default/horizontalpodautoscalers"
    assert (
        posted(
            world,
            f"/apis/autoscaling/v2/{path}",
            a_manifest("HorizontalPodAutoscaler", "autoscaling/v2", spec=spec),
        )[0]
        == 201
    )
    shown = json.loads(world.http("GET", f"/apis/autoscaling/v1/{path}/a").content)
    assert "annotations" not in shown["metadata"] and "metrics" not in shown["spec"]


def test_d_147_entries_are_not_adapted_to_a_changed_schema():
    spec = {"type": "object", "additionalProperties": {"type": "string"}}
    world = CustomWorld(
        a_definition(a_version({"type": "object", "properties": {"spec": dict(spec)}}))
    )
    path = "/apis/example.com/v1/namespaces/default/gadgets/a?fieldManager=me"
    body = {"apiVersion": "example.com/v1", "kind": "Gadget", "metadata": {"name": "a"}}
    headers = {"content-type": "application/apply-patch+yaml"}
    assert world.http("PATCH", path, {**body, "spec": {"k": "v"}}, headers).code == 201

    def make_atomic(tree):
        schema = tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
        schema["properties"]["spec"]["x-kubernetes-map-type"] = "atomic"

    world.redefine("gadgets.example.com", make_atomic)
    _, obj = world.patch_gadget("a", {"metadata": {"labels": {"x": "y"}}})
    fields = {one["manager"]: one["fieldsV1"] for one in obj["metadata"]["managedFields"]}
    assert fields["me"] == {"f:spec": {"f:k": {}}}


def test_d_25_pairs_of_keys_are_not_looked_at():
    world = World()
    pem = [
        b64encode(f"-----BEGIN {what}-----\nAAAA\n-----END {what}-----\n".encode()).decode()
        for what in ("CERTIFICATE", "PRIVATE KEY")
    ]
    pair = a_manifest(
        "Secret", type="kubernetes.io/tls", data={"tls.crt": pem[0], "tls.key": pem[1]}
    )
    reply = world.http("POST", "/api/v1/namespaces/default/secrets", pair)
    assert reply.code == 201 and not reply.warnings


@pytest.mark.parametrize(
    "more",
    [
        {"evictionResponders": [{"name": "a"}]},
        {"containers": [{**CONTAINER, "livenessProbe": {"grpc": {"port": 1, "mode": "TLS"}}}]},
    ],
)
def test_d_31_a_field_that_comes_with_the_next_version_is_dropped_silently(more):
    world = World()
    template = {"metadata": {"labels": {"a": "b"}}, "spec": {"containers": [CONTAINER], **more}}
    path = "/api/v1/namespaces/default/podtemplates?fieldValidation=Strict"
    reply = world.http("POST", path, a_manifest("PodTemplate", template=template))
    assert (
        reply.code == 201
        and b"evictionResponders" not in reply.content
        and b"TLS" not in reply.content
    )


def test_d_32_a_patch_of_a_revision_created_with_blanks_is_taken():
    world, path = World(), "/apis/apps/v1/namespaces/default/controllerrevisions"
    body = b'{"metadata": {"name": "a"}, "data": {"x": 1, "y": ["z"]}, "revision": 1}'
    assert world.http("POST", path, body).code == 201
    patch = {"content-type": "application/merge-patch+json"}
    assert world.http("PATCH", f"{path}/a", {"metadata": {"labels": {"x": "y"}}}, patch).code == 200
    assert world.http("PATCH", f"{path}/a", {"data": {"x": 2}}, patch).code == 422


# --- the controllers ------------------------------------------------------------------------------


def test_d_41_a_settled_cluster_is_never_gone_through_again():
    """However long it rests, everybody lists everything once: WATCH-4 is put to the test at each
    list."""
    run = simulate(
        Setup(
            seed=1, steps=1_500, faults={}, requests=read_manifests(default_manifests()), user=False
        )
    )
    assert not run.broken and run.virtual_seconds > 60
    states = [component.state for component in run.cluster.components.values()]
    informers = [one for state in states for one in state.informers.values()]
    # two resources of the scheduler are not listed without claims (LOOP-14)
    assert run.tested["WATCH-4"] == sum(one.revision > 0 for one in informers) > 50


def test_d_47_endpoints_and_slices_have_no_times():
    run = simulate(
        Setup(
            seed=2, steps=1_000, faults={}, requests=read_manifests(default_manifests()), user=False
        )
    )
    found = [
        record.value
        for resource in (ENDPOINTS, ENDPOINT_SLICES)
        for record in run.cluster.history.list(resource.prefix).records
    ]
    of_web = [each for each in found if each.metadata.name.startswith("web")]
    assert len(of_web) == 2
    for each in of_web:
        assert "endpoints.kubernetes.io/last-change-trigger-time" not in (
            each.metadata.annotations or {}
        )


def test_d_49_these_are_all_the_controllers_that_there_are():
    ranges = PodRanges(IPv4Network("10.244.0.0/16"))
    assert sorted(components.controller_manager("", ranges).reconcilers) == sorted(
        [
            "job-controller",
            "deployment-controller", "replicaset-controller", "replication-controller", "statefulset-controller", "daemon-set-controller", "endpoint-controller", "endpointslice-controller",
            "cronjob-controller", "ttl-after-finished-controller", "ttl-controller", "horizontal-pod-autoscaler",
            "endpointslicemirroring-controller", "namespace-controller", "generic-garbage-collector", "node-controller",
            "taint-eviction-controller", "pod-garbage-collector", "serviceaccount-controller",
            "root-ca-certificate-publisher-controller", "serviceaccount-token-controller", "legacy-service-account-token-cleaner",
            "pvc-protection-controller", "pv-protection-controller", "volumeattributesclass-protection-controller", "persistent-volume-binder", "persistent-volume-releaser", "ephemeral-volume-controller", "attachdetach-controller", "resource-claim-controller", "device-taint-eviction-controller", "service-cidr-controller", "disruption-controller", "resourcequota-controller", "clusterrole-aggregation-controller",
            "token-cleaner-controller", "bootstrap-signer-controller",
            "node-ipam-controller",
            "service-lb-controller",
            "certificatesigningrequest-approving-controller",
            "certificatesigningrequest-cleaner-controller", "podcertificaterequestcleaner",
        ]
    )  # fmt: skip
    served = {resource.kind for resource in ALL}
    assert {"PersistentVolume", "PersistentVolumeClaim", "VolumeAttachment"} <= served


def test_d_492_an_api_server_alone_has_no_lease():
    async def leases() -> Any:
        server = ApiServer(LocalStore(MemoryEngine(stamp)), Clock())
        answered: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        request = Request("list", LEASES, "kube-system", user=ADMIN)
        server.submit(request, answered.set_result)
        found = await answered
        server.stop()
        return found

    answer = asyncio.run(leases())
    assert answer.ok and not answer.body.items


def test_d_491_these_controllers_are_missing():
    there = components.controller_manager().reconcilers
    assert not {
        "kube-apiserver-serving-clustertrustbundle-publisher",
        "storage-version-migrator-controller",
    } & set(there)


@pytest.mark.parametrize("path", ["/debug/pprof/", "/logs/", "/configz", "/flagz", "/statusz"])
def test_d_603_these_paths_and_metrics_are_not_there(path):
    reply = receive(WireRequest("GET", path), ADMIN)
    assert isinstance(reply, Reply) and reply.code == 404


def test_d_604_distributed_claims_are_ignored():
    """A token whose groups are at another server is that of a user without groups."""

    class Signed:
        def is_signed(self, header, data, signature):
            return True

    issuer = Issuer("https://i", ("a",), Attribute("sub"), Attribute("groups"))
    claims = {
        "sub": "jane",
        "aud": "a",
        "exp": 10,
        "_claim_names": {"groups": "source"},
        "_claim_sources": {"source": {"endpoint": "https://i/groups"}},
    }
    user = user_of_token(Trusted(issuer, Signed()), Token({"alg": "RS256"}, claims, b"", b""), 1)
    assert (user.name, user.groups) == ("jane", (AUTHENTICATED,))


def test_d_602_what_authorizers_there_are():
    assert TYPES == ("AlwaysAllow", "AlwaysDeny", "Node", "RBAC", "Webhook")
    assert KEPT_SECONDS_MIN == 1.0


def test_d_600_a_token_is_spared_for_a_year():
    assert CLEAN_UP_PERIOD == 365 * DAY
    options = [text for one in main.commands["controller-manager"].params for text in one.opts]
    assert options and not [text for text in options if "clean-up" in text]


def test_d_50_volumes_in_use_are_those_of_other_kubelets():
    """A node with a volume in use, of whatever driver, says nothing about it."""
    facts = ports.NodeDescribed(
        "n", "10.0.0.1", 4_000, 1 << 30, 1 << 30, 110, "amd64", "linux", "os", "kernel", "fake://1"
    )
    made = compute_node("n", KubeletConfig(), facts, 0)
    assert made.metadata.annotations == {MANAGED: "true"}
    assert made.status.volumes_in_use is None


# --- the scheduler --------------------------------------------------------------------------------


def test_d_270_volumes_in_the_spec_of_a_pod_have_no_limit():
    """A disk of a cloud provider, which a driver would replace."""
    disk = AWSElasticBlockStoreVolumeSource(volume_id="vol-1")
    pod = a_pod("p", volumes=(Volume(name="v", aws_elastic_block_store=disk),))
    assert not info_of(pod).claims and not info_of(pod).has_claims


def test_d_271_what_a_configuration_does_not_change():
    """A tenth of the nodes, and one thread: the choice is the same."""
    tree = {"apiVersion": GROUP_VERSION, "kind": KIND}
    profiles = [
        read_configuration({**tree, **fields}, {}).profiles[0]
        for fields in ({}, {"percentageOfNodesToScore": 10, "parallelism": 1})
    ]
    nodes = [a_node(f"n{at:03}", cpu="1" if at else "4") for at in range(200)]
    pod = info_of(a_pod("p", {"cpu": "500m"}))
    chosen = {choose(pod, recompute(nodes, []), profile=each)[0] for each in profiles}
    assert len(chosen) == 1


def test_d_272_unknown_plugins_and_urls_are_refused():
    tree = {"apiVersion": GROUP_VERSION, "kind": KIND}
    plugins = {"multiPoint": {"enabled": [{"name": "GangScheduling"}]}}
    for fields, words in (
        ({"extenders": [{"urlPrefix": "127.0.0.1:1"}]}, "must be a URL such as"),
        ({"profiles": [{"plugins": plugins}]}, '"GangScheduling" does not exist'),
    ):
        with pytest.raises(BadSchedulerConfiguration, match=words):
            read_configuration({**tree, **fields}, {})


@pytest.mark.parametrize("operator", ["Gt", "Lt"])
def test_d_64_tolerations_compare_no_numbers(operator):
    """5 is more than 4 and less than 6."""
    pod = a_pod(
        "p",
        tolerations=tuple(
            [Toleration(key="k", operator=operator, value=value) for value in ("4", "6")]
        ),
    )
    node = a_node("n", taints=(Taint(key="k", value="5", effect="NoSchedule"),))
    assert judge(info_of(pod), "n", recompute([node], []), {}) is not None


# --- the kubelet and the proxy --------------------------------------------------------------------


def fields(kind):
    return set(kind.__struct_fields__)


def test_d_71_containers_are_told_without_health():
    run = simulate(
        Setup(
            seed=2, steps=1_000, faults={}, requests=read_manifests(default_manifests()), user=False
        )
    )
    statuses = [
        s
        for record in run.cluster.history.list(PODS.prefix).records
        for s in record.value.status.container_statuses or ()
    ]
    assert statuses
    assert all(status.allocated_resources_status is None for status in statuses)
    mount = VolumeMount(name="v", mount_path="/v", read_only=True, recursive_read_only="IfPossible")
    (told,) = mount_statuses(Container(name="c", volume_mounts=(mount,)))
    assert told.recursive_read_only == "Disabled"


def test_d_72_all_that_a_node_has_is_to_be_given():
    facts = ports.NodeDescribed(
        "n", "10.0.0.1", 4_000, 1 << 30, 1 << 30, 110, "amd64", "linux", "os", "kernel", "fake://1"
    )
    status = compute_node_status(KubeletConfig(), facts, "", NodeStatus(), 0)
    assert status.capacity and status.allocatable == status.capacity


def test_d_74_a_container_is_made_without_devices_user_namespaces_or_another_containers_processes():
    known = fields(ports.ContainerConfig) | fields(ports.SandboxConfig)
    assert not [
        name for name in known if re.search("device|share_process|host_users|strict_groups", name)
    ]


def test_d_76_no_operation_ends_a_command_that_was_started_in_a_container():
    assert {kind.__name__ for kind in get_args(ports.Operation)} == {
        "ListPods", "RunPodSandbox", "StopPodSandbox", "RemovePodSandbox", "PullImage", "CreateContainer", "StartContainer",
        "StopContainer", "RemoveContainer", "Probe", "RunHook", "WriteVolume", "DescribeNode",
        "UpdateRuntimeConfig", "UpdateContainerResources", "Post",
    }  # fmt: skip


def test_d_77_a_node_is_reached_at_the_port_of_its_kubelet_only():
    """STREAM-11 has the rest."""
    from test_stream_proxy import Destination, with_server

    from refk8s.components.proxy import DEFAULT_PORT

    async def body(request):
        path = f"/api/v1/nodes/node-1:{DEFAULT_PORT + 1}/proxy/"
        assert (await request("GET", path)).code == 400

    with_server(Destination(), body)


def test_d_78_a_node_has_kernel_maps_or_a_user_space_proxy():
    assert {*get_args(get_type_hints(choose_rules)["return"])} == {KernelRules, UserspaceRules}
