"""What containers are made from, the node, and what it takes: KUBELET-50 to KUBELET-82
(spec/kubelet.md)."""

import gc
import random
import re
from base64 import b64encode
from itertools import pairwise

import pytest
from api_world import World as Server
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kubelet_bench import START, Bench, make_pod
from kubelet_chaos import container, shell
from msgspec.structs import replace

from refk8s.adapters.fake import world as fake
from refk8s.adapters.fake.world import make_world
from refk8s.core.api import codec
from refk8s.core.api.core_v1 import (
    Affinity,
    ConfigMap,
    ConfigMapEnvSource,
    ConfigMapKeySelector,
    ConfigMapProjection,
    ConfigMapVolumeSource,
    Container,
    ContainerPort,
    DownwardAPIProjection,
    DownwardAPIVolumeFile,
    EmptyDirVolumeSource,
    EnvFromSource,
    EnvVar,
    EnvVarSource,
    EphemeralVolumeSource,
    HostPathVolumeSource,
    ImageVolumeSource,
    KeyToPath,
    LocalVolumeSource,
    NFSVolumeSource,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    NodeStatus,
    ObjectFieldSelector,
    ObjectReference,
    PersistentVolume,
    PersistentVolumeClaim,
    PersistentVolumeClaimSpec,
    PersistentVolumeClaimStatus,
    PersistentVolumeClaimVolumeSource,
    PersistentVolumeSpec,
    PodDNSConfig,
    PodDNSConfigOption,
    PodResourceClaim,
    ProjectedVolumeSource,
    ResourceFieldSelector,
    ResourceRequirements,
    Secret,
    SecretEnvSource,
    SecretVolumeSource,
    Service,
    ServiceAccountTokenProjection,
    ServicePort,
    ServiceSpec,
    Volume,
    VolumeMount,
    VolumeProjection,
)
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference, Status
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    LEASES,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    SECRETS,
    SERVICE_ACCOUNTS,
    SERVICES,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.context import SECOND, parse_timestamp
from refk8s.core.kubelet.admission import requests_of, why_rejected
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.container import compute_mounts, runtime_resources
from refk8s.core.kubelet.environment import expand
from refk8s.core.kubelet.node_status import (
    compute_node,
    compute_node_status,
    is_same_but_heartbeats,
)
from refk8s.core.kubelet.oom_score import compute_oom_score_adj
from refk8s.core.pods.containers import every_container
from refk8s.core.pods.node_affinity import matches_node
from refk8s.core.pods.resources import pod_requests
from refk8s.core.ports import (
    CreateContainer,
    DescribeNode,
    Failed,
    ImagePulled,
    Later,
    PullImage,
    RunPodSandbox,
    StartContainer,
    StopContainer,
    WriteVolume,
)
from refk8s.core.value import evolve


def made(bench, name="c"):
    """What the container of this name was last made from."""
    return [op.config for _, op in bench.did(CreateContainer) if op.config.name == name][-1]


def sandbox(bench):
    return bench.did(RunPodSandbox)[-1][1].config


def written(bench, volume="v"):
    """(when, files) of every time this volume was written."""
    return [(at, dict(op.files)) for at, op in bench.did(WriteVolume) if op.volume == volume]


def running(bench, name="p"):
    return bench.pod(name).status.phase == "Running"


def named(name, namespace="default"):
    return ObjectMeta(name=name, namespace=namespace)


def ready(pod, *objects, config=None, seconds=0):
    """A bench with these objects and a pod."""
    bench = Bench(config=config).start().settle()
    for resource, obj in objects:
        bench.put(resource, obj)
    bench.add(pod)
    return bench.run_for(seconds)


def config_map(name="settings", namespace="default", **data):
    return CONFIG_MAPS, ConfigMap(metadata=named(name, namespace), data=data)


def secret(name="keys", **data):
    return SECRETS, Secret(
        metadata=named(name),
        data={key: b64encode(value.encode()).decode() for key, value in data.items()},
    )


# --- the sandbox ----------------------------------------------------------------------------------


@given(
    st.booleans(),
    st.sampled_from([None, "web", "x" * 63]),
    st.sampled_from([None, "override"]),
    st.booleans(),
)
def test_kubelet_50_the_sandbox_has_the_pods_names_and_ports(host, hostname, override, fqdn):
    ports = (
        ContainerPort(container_port=80, host_port=8080, host_ip="127.0.0.1"),
        ContainerPort(container_port=81),
    )
    pod = make_pod(
        containers=(container("c", ports=ports),),
        host_network=host,
        hostname=hostname,
        hostname_override=override,
        subdomain="sub",
        set_hostname_as_fqdn=fqdn or None,
    )
    bench = ready(pod)
    first = override or hostname or "p"
    full = f"{first}.sub.default.svc.cluster.local"
    if fqdn and not override and not host and len(full) > 64:
        assert not bench.did(RunPodSandbox) and bench.reasons().count("FailedCreatePodSandBox") == 1
        return
    config = sandbox(bench)
    assert len(config.hostname) <= 64
    if host and not override:
        assert config.hostname == "node"
    else:
        assert config.hostname == (full if fqdn and not override else first)
    assert [(p.host_port, p.container_port, p.host_ip) for p in config.port_mappings] == (
        [] if host else [(8080, 80, "127.0.0.1")]
    )


@given(
    st.sampled_from([None, "ClusterFirst", "ClusterFirstWithHostNet", "Default", "None"]),
    st.booleans(),
    st.booleans(),
    st.booleans(),
)
def test_kubelet_51_names_are_resolved_as_the_policy_says(policy, host, has_dns, custom):
    own = PodDNSConfig(
        nameservers=("9.9.9.9",),
        searches=("example.com",),
        options=(PodDNSConfigOption(name="ndots", value="2"),),
    )
    pod = make_pod(dns_policy=policy, host_network=host, dns_config=own if custom else None)
    config = sandbox(
        ready(pod, config=KubeletConfig(cluster_dns=("10.96.0.10",) if has_dns else ()))
    )
    clustered = has_dns and (
        policy == "ClusterFirstWithHostNet" or (policy in (None, "ClusterFirst") and not host)
    )
    extra = 1 if custom else 0
    assert config.dns_servers == (("10.96.0.10",) if clustered else ()) + ("9.9.9.9",) * extra
    domains = (
        ("default.svc.cluster.local", "svc.cluster.local", "cluster.local") if clustered else ()
    )
    assert config.dns_searches == domains + ("example.com",) * extra
    assert config.dns_options == (("ndots:2",) if custom else ("ndots:5",) if clustered else ())


# --- environment ----------------------------------------------------------------------------------


def field(name, path):
    return EnvVar(
        name=name, value_from=EnvVarSource(field_ref=ObjectFieldSelector(field_path=path))
    )


def resource(name, what, divisor=None, of=None):
    ref = ResourceFieldSelector(resource=what, divisor=divisor, container_name=of)
    return EnvVar(name=name, value_from=EnvVarSource(resource_field_ref=ref))


def test_kubelet_52_fields_and_resources_are_variables():
    limits = ResourceRequirements(
        limits={"cpu": "1500m", "memory": "100Mi"}, requests={"cpu": "250m"}
    )
    env = (
        field("NAME", "metadata.name"),
        field("SPACE", "metadata.namespace"),
        field("UID", "metadata.uid"),
        field("NODE", "spec.nodeName"),
        field("IP", "status.podIP"),
        field("HOST", "status.hostIP"),
        field("APP", "metadata.labels['app']"),
        field("NONE", "metadata.annotations['none']"),
        resource("CPUS", "limits.cpu"),
        resource("MILLI", "limits.cpu", "1m"),
        resource("MEMORY", "limits.memory", "1Mi"),
        resource("REQUEST", "requests.cpu", "1m"),
        resource("OTHER", "limits.memory", "1Gi", "d"),
    )
    pod = make_pod(containers=(container("c", env=env, resources=limits), container("d")))
    bench = ready(replace(pod, metadata=replace(pod.metadata, labels={"app": "web"})))
    told = dict(made(bench).env)
    assert told == {
        "NAME": "p", "SPACE": "default", "UID": bench.pod().metadata.uid, "NODE": "node", "IP": "10.244.0.2", "HOST": "192.168.0.1",
        "APP": "web", "NONE": "", "CPUS": "2", "MILLI": "1500", "MEMORY": "100", "REQUEST": "250", "OTHER": "32",
    }  # fmt: skip
    resources = made(bench).resources
    assert (
        resources.cpu_limit_milli,
        resources.memory_limit_bytes,
        resources.cpu_request_milli,
    ) == (1500, 100 << 20, 250)


CPU, MEMORY = st.sampled_from(["100m", "1500m"]), st.sampled_from(["100Mi", "1Gi"])
AMOUNTS = st.fixed_dictionaries({}, optional={"cpu": CPU, "memory": MEMORY})
MILLI = {"100m": 100, "1500m": 1500, None: 0}
BYTES = {"100Mi": 100 << 20, "1Gi": 1 << 30, None: 0}


@given(st.none() | st.tuples(AMOUNTS, AMOUNTS), AMOUNTS, AMOUNTS)
@settings(max_examples=60, deadline=None)
def test_kubelet_106_a_container_has_what_it_lacks_from_its_pod(of_pod, limits, requests):
    spec = make_pod().spec
    if of_pod is not None:
        given = ResourceRequirements(limits=of_pod[0], requests=of_pod[1])
        spec = replace(spec, resources=given)
    pod_limits, pod_requests = of_pod or ({}, {})
    found = runtime_resources(spec, ResourceRequirements(limits=limits, requests=requests))
    assert found.cpu_limit_milli == MILLI[limits.get("cpu", pod_limits.get("cpu"))]
    assert found.memory_limit_bytes == BYTES[limits.get("memory", pod_limits.get("memory"))]
    assert found.cpu_request_milli == MILLI[requests.get("cpu", pod_requests.get("cpu"))]


def test_kubelet_106_the_pods_limits_reach_the_runtime():
    pod = make_pod(containers=(container("c", resources=ResourceRequirements()),))
    amounts = {"cpu": "1500m", "memory": "100Mi"}
    whole = ResourceRequirements(limits=amounts, requests=amounts)
    bench = ready(replace(pod, spec=replace(pod.spec, resources=whole)))
    resources = made(bench).resources
    assert (resources.cpu_limit_milli, resources.memory_limit_bytes) == (1500, 100 << 20)


GIB = 1 << 30
MEMORY_ASKED = st.none() | st.integers(1, 3 * GIB)


def asks(name, memory, **more):
    requests = {"cpu": "1m"} if memory is None else {"cpu": "1m", "memory": str(memory)}
    return container(name, resources=ResourceRequirements(requests=requests), **more)


def score(pod, name, memory_bytes=4 * GIB):
    found = next(one for one in every_container(pod.spec) if one.name == name)
    return compute_oom_score_adj(pod, found, memory_bytes)


@pytest.mark.parametrize(
    ("limits", "requests", "expected"),
    [
        ({}, {}, 1000),
        ({"cpu": "1", "memory": "1Gi"}, {"cpu": "1", "memory": "1Gi"}, -997),
        ({}, {"memory": "1Gi"}, 750),
        ({"memory": "2Gi"}, {"memory": "1Gi"}, 750),
        ({}, {"cpu": "1"}, 999),
        ({}, {"memory": "4Mi"}, 999),
        ({}, {"memory": "8Mi"}, 999),
        ({}, {"memory": "9Mi"}, 998),
        ({}, {"memory": "4Gi"}, 3),
        ({}, {"memory": "100Gi"}, 3),
    ],
)
def test_kubelet_131_the_score_follows_from_the_class_and_the_request(limits, requests, expected):
    # Shows KUBELET-131.b KUBELET-131.c.
    resources = ResourceRequirements(limits=limits, requests=requests)
    pod = make_pod(containers=(container("c", resources=resources),))
    assert score(pod, "c") == expected


def test_kubelet_131_the_runtime_is_given_the_score():
    # Shows KUBELET-131.a.
    resources = ResourceRequirements(requests={"memory": "8Gi"})
    bench = ready(make_pod(containers=(container("c", resources=resources),)))
    assert made(bench).oom_score_adj == 750, "of a node with 32 GiB"


def test_kubelet_131_only_a_critical_pod_of_its_node_is_kept_as_a_guaranteed_one():
    # Shows KUBELET-131.b.
    pod = make_pod(containers=(container("c"),))
    for name, priority, expected in (
        ("system-node-critical", 2_000_001_000, -997),
        ("system-cluster-critical", 2_000_000_000, 1000),
        ("system-node-critical", None, 1000),
        (None, 2_000_001_000, 1000),
    ):
        spec = replace(pod.spec, priority_class_name=name, priority=priority)
        assert score(replace(pod, spec=spec), "c") == expected


def test_kubelet_131_a_node_whose_memory_is_not_known():
    pod = make_pod(containers=(asks("c", GIB),))
    assert score(pod, "c", 0) == 999


@given(
    st.lists(MEMORY_ASKED, min_size=1, max_size=3),
    st.lists(st.tuples(MEMORY_ASKED, st.booleans()), max_size=2),
    st.none() | st.integers(0, 3 * GIB),
    st.sampled_from([GIB, 4 * GIB, 1000]),
)
def test_kubelet_131_a_sidecar_is_no_worse_than_the_others_and_the_rest_is_divided(
    regular, first, beyond, memory_bytes
):
    # Shows KUBELET-131.d KUBELET-131.e.
    containers = tuple(asks(f"c{n}", much) for n, much in enumerate(regular))
    inits = tuple(
        asks(f"i{n}", much, restart_policy="Always" if stays else None)
        for n, (much, stays) in enumerate(first)
    )
    pod = make_pod(containers=containers, init_containers=inits or None)
    asked = {f"c{n}": much or 0 for n, much in enumerate(regular)}
    least = min(asked.values())
    asked |= {
        f"i{n}": max(much or 0, least) if stays else much or 0
        for n, (much, stays) in enumerate(first)
    }
    if beyond is not None:
        needed = pod_requests(pod.spec).get("memory", 0)
        whole = ResourceRequirements(requests={"memory": str(needed + beyond)})
        pod = replace(pod, spec=replace(pod.spec, resources=whole))
        asked = {name: much + beyond // len(asked) for name, much in asked.items()}
        if needed + beyond == 0:
            return  # a pod without requests
    for name, much in asked.items():
        assert score(pod, name, memory_bytes) == min(
            max(1000 - 1000 * much // memory_bytes, 3), 999
        )


names = st.sampled_from(["A", "B", "LONG_NAME", "x.y"])
words = st.sampled_from(["$", "$$", "$(", ")", "(A)", "t "])
pieces = st.one_of(
    names.map(lambda name: f"$({name})"), names.map(lambda name: f"$$({name})"), words
)


@given(
    st.lists(pieces, max_size=8).map("".join),
    st.dictionaries(names, st.sampled_from(["1", "$(A)", ""]), max_size=4),
)
def test_kubelet_53_a_name_in_dollar_brackets_is_its_value(text, known):
    """Against the rule as one regular expression."""

    def of(match):
        if match[0] == "$$":
            return "$"
        return known.get(match[1], match[0])

    assert expand(text, known) == re.sub(r"\$\$|\$\(([^)]*)\)", of, text)


def test_kubelet_53_variables_may_name_those_before_them():
    env = (
        EnvVar(name="A", value="1"),
        EnvVar(name="B", value="$(A)2 $(C)"),
        EnvVar(name="C", value="$(B)$$(B)"),
    )
    bench = ready(
        make_pod(containers=(container("c", env=env, command=("run", "$(C)"), args=("$(NONE)",)),))
    )
    assert dict(made(bench).env) == {"A": "1", "B": "12 $(C)", "C": "12 $(C)$(B)"}
    assert made(bench).command == ("run", "12 $(C)$(B)")
    assert made(bench).args == ("$(NONE)",)


def service(name, namespace="default", ip="10.96.0.9", *ports):
    found = ports or (ServicePort(port=6379),)
    return SERVICES, Service(
        metadata=named(name, namespace), spec=ServiceSpec(cluster_ip=ip, ports=found)
    )


@given(st.booleans(), st.sampled_from(["10.96.0.9", "None", None]))
def test_kubelet_54_services_are_variables(links, address):
    redis = service(
        "redis-main",
        "default",
        address,
        ServicePort(port=6379, name="db"),
        ServicePort(port=53, protocol="UDP"),
    )
    bench = Bench().start().settle()
    for resource_, obj in (
        redis,
        service("kubernetes", ip="10.96.0.1"),
        service("far", "elsewhere"),
    ):
        bench.put(resource_, obj)
    bench.add(make_pod(enable_service_links=links))
    bench.settle()
    told = dict(made(bench).env)
    assert told["KUBERNETES_SERVICE_HOST"] == "10.96.0.1"
    assert not [name for name in told if name.startswith("FAR")]
    if not links or address != "10.96.0.9":
        assert not [name for name in told if name.startswith("REDIS")]
        return
    assert {name: value for name, value in told.items() if name.startswith("REDIS")} == {
        "REDIS_MAIN_SERVICE_HOST": address, "REDIS_MAIN_SERVICE_PORT": "6379", "REDIS_MAIN_SERVICE_PORT_DB": "6379",
        "REDIS_MAIN_PORT": "tcp://10.96.0.9:6379", "REDIS_MAIN_PORT_6379_TCP": "tcp://10.96.0.9:6379",
        "REDIS_MAIN_PORT_6379_TCP_PROTO": "tcp", "REDIS_MAIN_PORT_6379_TCP_PORT": "6379", "REDIS_MAIN_PORT_6379_TCP_ADDR": address,
        "REDIS_MAIN_PORT_53_UDP": "udp://10.96.0.9:53", "REDIS_MAIN_PORT_53_UDP_PROTO": "udp", "REDIS_MAIN_PORT_53_UDP_PORT": "53",
        "REDIS_MAIN_PORT_53_UDP_ADDR": address,
    }  # fmt: skip


def test_kubelet_54_later_variables_win():
    sources = (
        EnvFromSource(config_map_ref=ConfigMapEnvSource(name="settings")),
        EnvFromSource(secret_ref=SecretEnvSource(name="keys"), prefix="S_"),
        EnvFromSource(config_map_ref=ConfigMapEnvSource(name="nowhere", optional=True)),
    )
    env = (EnvVar(name="B", value="own"), EnvVar(name="D", value="$(A)$(S_K)"))
    pod = make_pod(containers=(container("c", env_from=sources, env=env),))
    bench = ready(
        pod,
        config_map(A="a", B="b", KUBERNETES_SERVICE_HOST="mine"),
        secret(K="k"),
        service("kubernetes"),
    )
    told = dict(made(bench).env)
    assert (told["A"], told["B"], told["S_K"], told["D"], told["KUBERNETES_SERVICE_HOST"]) == (
        "a",
        "own",
        "k",
        "ak",
        "mine",
    )
    assert len(told) == len(made(bench).env)


# --- volumes --------------------------------------------------------------------------------------


def mounted(*volumes, mounts=None, **spec):
    """A pod that mounts these volumes."""
    found = mounts or tuple(
        VolumeMount(name=volume.name, mount_path=f"/{volume.name}") for volume in volumes
    )
    return make_pod(containers=(container("c", volume_mounts=found),), volumes=volumes, **spec)


EMPTY = Volume(name="v", empty_dir=EmptyDirVolumeSource(medium="Memory"))


@given(
    st.sampled_from(
        [("", "v"), ("a/b", "v/a/b"), ("../x", None), ("/etc", None), ("a/../../x", None)]
    ),
    st.booleans(),
)
def test_kubelet_55_a_mount_names_a_volume_or_a_path_inside(case, read_only):
    inner, source = case
    bench = ready(
        mounted(
            EMPTY,
            mounts=(
                VolumeMount(
                    name="v", mount_path="/data", sub_path=inner or None, read_only=read_only
                ),
            ),
        )
    )
    bench.run_for(1)
    if source is None:
        assert (
            bench.pod().status.container_statuses[0].state.waiting.reason
            == "CreateContainerConfigError"
        )
        return
    mount = made(bench).mounts[0]
    assert (mount.source, mount.path, mount.read_only) == (source, "/data", read_only)


def test_kubelet_56_every_kind_of_volume_becomes_what_it_says():
    items = (KeyToPath(key="a", path="sub/a"),)
    volumes = (
        EMPTY,
        Volume(name="host", host_path=HostPathVolumeSource(path="/srv", type="Directory")),
        Volume(
            name="map",
            config_map=ConfigMapVolumeSource(name="settings", items=items, default_mode=0o400),
        ),
        Volume(name="keys", secret=SecretVolumeSource(secret_name="keys")),
        Volume(
            name="all",
            projected=ProjectedVolumeSource(
                sources=(
                    VolumeProjection(
                        config_map=None,
                        secret=None,
                        service_account_token=ServiceAccountTokenProjection(path="token"),
                    ),
                    VolumeProjection(
                        downward_api=DownwardAPIProjection(
                            items=(
                                DownwardAPIVolumeFile(
                                    path="labels",
                                    field_ref=ObjectFieldSelector(field_path="metadata.labels"),
                                ),
                            )
                        )
                    ),
                )
            ),
        ),
    )
    pod = mounted(*volumes, service_account_name="robot")
    pod = replace(pod, metadata=replace(pod.metadata, labels={"b": 'x"y', "a": "1"}))
    bench = ready(pod, config_map(a="1", b="2"), secret(k="hidden"), seconds=1)
    assert running(bench)
    by_name = {op.volume: op for _, op in bench.did(WriteVolume)}
    assert (by_name["v"].medium, dict(by_name["v"].files)) == ("Memory", {})
    assert (by_name["host"].host_path, by_name["host"].host_path_type) == ("/srv", "Directory")
    assert (dict(by_name["map"].files), by_name["map"].mode) == ({"sub/a": b"1"}, 0o400)
    assert dict(by_name["keys"].files) == {"k": b"hidden"}
    assert dict(by_name["all"].files)["labels"] == b'a="1"\nb="x\\"y"'
    assert dict(by_name["all"].files)["token"].startswith(b"token-")
    question = bench.sent(SERVICE_ACCOUNTS, "token")[0]
    assert (question.name, question.body.spec.bound_object_ref.name) == ("robot", "p")


@pytest.mark.parametrize(
    "volume",
    [
        Volume(name="v", nfs=NFSVolumeSource(server="s", path="/")),
        Volume(name="v", empty_dir=EmptyDirVolumeSource(medium="HugePages-2Mi")),
    ],
)
def test_kubelet_56_a_kind_that_is_not_supported_keeps_the_pod_waiting(volume):
    bench = ready(mounted(volume), seconds=30)
    assert bench.pod().status.phase == "Pending"
    assert bench.reasons().count("FailedMount") == 1
    bench.delete()
    bench.run_for(5)
    assert not bench.has_pod()


PICTURE = "example.invalid/picture:1"


def an_image(policy="Always", reference=PICTURE):
    return Volume(name="v", image=ImageVolumeSource(reference=reference, pull_policy=policy))


@pytest.mark.parametrize("policy", ["Always", "IfNotPresent", "Never", None])
def test_kubelet_110_an_image_volume_is_written_with_the_id_that_was_pulled(policy):
    bench = Bench().start().settle()
    bench.script = lambda op: (
        ImagePulled("sha256:9", True, 1, "")
        if isinstance(op, PullImage) and op.image == PICTURE
        else None
    )
    bench.add(mounted(an_image(policy)))
    bench.run_for(5)
    assert running(bench)
    (pull,) = [op for _, op in bench.did(PullImage) if op.image == PICTURE]
    assert pull.policy == (policy or "IfNotPresent")
    (write,) = [op for _, op in bench.did(WriteVolume) if op.volume == "v"]
    assert write.image_id == "sha256:9"
    kinds = [type(op) for _, op in bench.did(PullImage, WriteVolume, CreateContainer)]
    assert kinds.index(WriteVolume) < kinds.index(CreateContainer)
    (mount,) = [mount for mount in made(bench).mounts if mount.source == "v"]
    assert mount.read_only and not mount.managed


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3), st.booleans())
def test_kubelet_110_an_image_that_cannot_be_had_is_pulled_again_later(failures, writes):
    """Either the pull fails, or the write, because the image was removed from the node."""
    bench = Bench().start().settle()
    left = [failures]

    def fail(operation):
        kind = WriteVolume if writes else PullImage
        its = getattr(operation, "image", PICTURE) == PICTURE
        if type(operation) is not kind or not its or not left[0]:
            return None
        left[0] -= 1
        return Failed("", "gone")

    bench.script = fail
    bench.add(mounted(an_image()))
    bench.run_for(50)
    pulls = [at for at, op in bench.did(PullImage) if op.image == PICTURE]
    assert pulls == [10 * n for n in range(failures + 1)]
    assert ("FailedMount" in bench.reasons()) == (failures > 0)
    assert [at for at, _ in bench.did(CreateContainer)] == [10 * failures]
    assert running(bench)


def test_kubelet_110_a_pod_that_is_deleted_waits_for_no_pull():
    bench = Bench().start().settle()
    never = bench.now + 3600 * SECOND
    bench.script = lambda op: (
        Later(never) if isinstance(op, PullImage) and op.image == PICTURE else None
    )
    bench.add(mounted(an_image()))
    bench.run_for(5)
    assert not bench.did(WriteVolume) and not bench.did(CreateContainer)
    bench.delete()
    bench.run_for(5)
    assert not bench.has_pod()


def test_kubelet_110_a_volume_without_an_image_keeps_the_pod_waiting():
    bench = ready(mounted(an_image(reference="")), seconds=30)
    assert bench.pod().status.phase == "Pending" and not bench.did(CreateContainer)
    assert bench.reasons().count("FailedMount") == 1


@pytest.mark.parametrize("is_simulated", [False, True])
def test_dra_16_d_350_a_node_with_containers_starts_no_pod_with_devices(is_simulated):
    config = KubeletConfig(simulates_devices=is_simulated)
    claims = (PodResourceClaim(name="gpu", resource_claim_name="c"),)
    pod = mounted(Volume(name="v", empty_dir=EmptyDirVolumeSource()))
    pod = replace(pod, spec=replace(pod.spec, resource_claims=claims))
    bench = ready(pod, seconds=30, config=config)
    assert bench.pod().status.phase == ("Running" if is_simulated else "Pending")
    assert ("FailedPrepareDynamicResources" in bench.reasons()) is not is_simulated


def a_claim(name="c", uid="uid-c", phase="Bound", volume="v", **more):
    return PERSISTENT_VOLUME_CLAIMS, PersistentVolumeClaim(
        metadata=ObjectMeta(name=name, namespace="default", uid=uid, **more),
        spec=PersistentVolumeClaimSpec(volume_name=volume),
        status=PersistentVolumeClaimStatus(phase=phase),
    )


def its_volume(uid="uid-c", **source):
    reference = ObjectReference(namespace="default", name="c", uid=uid)
    spec = PersistentVolumeSpec(claim_ref=reference, **source)
    return PERSISTENT_VOLUMES, PersistentVolume(metadata=ObjectMeta(name="v"), spec=spec)


HOST = {"host_path": HostPathVolumeSource(path="/srv/a", type="DirectoryOrCreate")}
MOUNTED = Volume(
    name="v", persistent_volume_claim=PersistentVolumeClaimVolumeSource(claim_name="c")
)


@pytest.mark.parametrize(
    ("source", "path"),
    [
        (HOST, ("/srv/a", "DirectoryOrCreate")),
        ({"host_path": HostPathVolumeSource(path="/srv/b")}, ("/srv/b", "")),
        ({"local": LocalVolumeSource(path="/disks/1")}, ("/disks/1", "Directory")),
    ],
)
def test_kubelet_97_a_claim_is_the_path_of_its_volume(source, path):
    bench = ready(mounted(MOUNTED), a_claim(), its_volume(**source), seconds=2)
    assert running(bench)
    (write,) = [op for _, op in bench.did(WriteVolume) if op.volume == "v"]
    assert (write.host_path, write.host_path_type) == path


@pytest.mark.parametrize(
    "objects",
    [
        (),
        (a_claim(phase="Pending", volume=None),),
        (a_claim(phase="Lost"), its_volume(**HOST)),
        (a_claim(),),
        (a_claim(), its_volume("uid-other", **HOST)),
        (a_claim(), its_volume(nfs=NFSVolumeSource(server="s", path="/"))),
        (a_claim(), its_volume(volume_mode="Block", **HOST)),
    ],
)
def test_kubelet_97_a_pod_waits_for_a_claim_that_cannot_be_mounted(objects):
    bench = ready(mounted(MOUNTED), *objects, seconds=30)
    assert bench.pod().status.phase == "Pending" and not bench.did(StartContainer)
    assert bench.reasons().count("FailedMount") == 1


def test_kubelet_97_the_claim_of_an_ephemeral_volume_belongs_to_the_pod():
    volume = Volume(name="v", ephemeral=EphemeralVolumeSource())
    bench = ready(mounted(volume), a_claim("p-v"), its_volume(**HOST), seconds=5)
    assert bench.pod().status.phase == "Pending"
    owner = OwnerReference(
        api_version="v1", kind="Pod", name="p", uid=bench.pod().metadata.uid, controller=True
    )
    bench.put(*a_claim("p-v", owner_references=(owner,)))
    bench.run_for(90)
    assert running(bench)


def test_kubelet_97_a_read_only_claim_is_not_written_to():
    source = replace(MOUNTED.persistent_volume_claim, read_only=True)
    pod = mounted(replace(MOUNTED, persistent_volume_claim=source))
    for one, wanted in ((pod, True), (mounted(MOUNTED), False)):
        mounts = compute_mounts(one, one.spec.containers[0], {})
        assert [mount.read_only for mount in mounts if mount.source == "v"] == [wanted]


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 3), st.booleans())
def test_kubelet_56_a_volume_that_was_not_written_is_written_again_before_any_container(
    failures, two
):
    """Where there are two volumes, the write of the second one fails."""
    bench = Bench().start().settle()
    bench.put(*config_map(a="1"))
    names = ["v", "w"] if two else ["v"]
    bench.add(
        mounted(*[Volume(name=n, config_map=ConfigMapVolumeSource(name="settings")) for n in names])
    )
    left = [failures]

    def fail(operation):
        if type(operation) is not WriteVolume or operation.volume != names[-1] or not left[0]:
            return None
        left[0] -= 1
        return Failed("", "no space left")

    bench.script = fail
    bench.run_for(50)
    writes = [(at, operation.volume) for at, operation in bench.did(WriteVolume)]
    assert writes == [(0, n) for n in names] + [(10 * (n + 1), names[-1]) for n in range(failures)]
    assert [at for at, _ in bench.did(CreateContainer)] == [10 * failures]
    assert running(bench)


def test_kubelet_58_a_source_that_changes_during_the_write_is_written_again():
    """The write takes half a minute; the object changes meanwhile and is read again."""
    bench = Bench().start().settle()
    bench.put(*config_map(a="0"))
    bench.add(mounted(Volume(name="v", config_map=ConfigMapVolumeSource(name="settings"))))
    begun = []

    def slow(operation):
        if type(operation) is not WriteVolume:
            return None
        begun.append(bench.now)
        return Later(bench.now + 100 * SECOND) if len(begun) == 1 else None

    bench.script = slow
    bench.run_for(5)
    bench.put(*config_map(a="1"))
    bench.run_for(300)
    assert [files["a"] for _, files in written(bench)] == [b"0", b"1"]
    assert running(bench)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(["crash", "agent", "sandbox", "node"]), max_size=4))
def test_kubelet_57_an_empty_directory_is_made_once(events):
    bench = ready(mounted(Volume(name="v", empty_dir=EmptyDirVolumeSource())))
    uid = bench.pod().metadata.uid
    for event in events:
        if event == "agent":
            bench.start()
        elif event == "crash":
            bench.disturb(
                lambda world, now: fake.crash_container(world, world.running()[0].id, 1, now)
            )
        elif event == "sandbox":
            bench.disturb(lambda world, now: fake.crash_sandbox(world, uid, now))
        else:
            bench.disturb(fake.crash_node)
        bench.run_for(700)
    assert running(bench)
    assert len(written(bench)) == 1
    assert "v" in bench.world.pods[uid].volumes


@settings(max_examples=20, deadline=None)
@given(st.lists(st.sampled_from(["1", "2"]), min_size=1, max_size=4), st.booleans())
def test_kubelet_58_files_follow_their_source(values, restart):
    bench = ready(
        mounted(Volume(name="v", config_map=ConfigMapVolumeSource(name="settings"))),
        config_map(a="0"),
    )
    expected = ["0"]
    for value in values:
        bench.put(*config_map(a=value))
        if restart:
            bench.start()
        bench.run_for(62)
        assert dict(bench.world.pods[bench.pod().metadata.uid].volumes["v"].files) == {
            "a": value.encode()
        }
        if value != expected[-1]:
            expected.append(value)
    if not restart:
        assert [files["a"].decode() for _, files in written(bench)] == expected


def test_kubelet_58_labels_in_a_volume_follow_the_pod():
    volume = Volume(
        name="v",
        projected=ProjectedVolumeSource(
            sources=(
                VolumeProjection(
                    downward_api=DownwardAPIProjection(
                        items=(
                            DownwardAPIVolumeFile(
                                path="l",
                                field_ref=ObjectFieldSelector(field_path="metadata.labels"),
                            ),
                        )
                    )
                ),
            )
        ),
    )
    bench = ready(mounted(volume))
    pod = bench.pod()
    bench.put(PODS, replace(pod, metadata=replace(pod.metadata, labels={"a": "1"})))
    bench.settle()
    assert [files["l"] for _, files in written(bench)] == [b"", b'a="1"']


# --- the node -------------------------------------------------------------------------------------


def test_kubelet_60_the_node_is_registered_once():
    bench = Bench(config=KubeletConfig(node_labels=(("disk", "ssd"),))).start().settle()
    labels = bench.node().metadata.labels
    assert (labels["disk"], labels["kubernetes.io/hostname"], labels["kubernetes.io/arch"]) == (
        "ssd",
        "node",
        "amd64",
    )
    assert bench.node().status.capacity == {
        "cpu": "4",
        "memory": "32Gi",
        "ephemeral-storage": "100Gi",
        "pods": "110",
    }
    bench.start().run_for(100)
    assert len([r for r in bench.sent(NODES) if r.verb == "create"]) == 1
    bench.remove_node()
    bench.run_for(1000)
    assert len([r for r in bench.sent(NODES) if r.verb == "create"]) == 1
    bench.start().run_for(1)
    assert len([r for r in bench.sent(NODES) if r.verb == "create"]) == 2


def test_kubelet_60_a_node_that_exists_keeps_what_others_wrote():
    bench = Bench()
    mine = compute_node("node", KubeletConfig(), fake.make_world("node").node, START)
    labels = {"kubernetes.io/arch": "wrong", "mine": "kept"}
    bench.put(NODES, replace(mine, metadata=replace(mine.metadata, labels=labels)))
    bench.start().settle()
    held = bench.node().metadata.labels
    assert (held["kubernetes.io/arch"], held["mine"]) == ("amd64", "kept")
    assert not [r for r in bench.sent(NODES) if r.verb == "create"]


@settings(max_examples=15, deadline=None)
@given(st.integers(1, 40))
def test_kubelet_61_the_nodes_status_is_written_when_it_changed_and_every_five_minutes(minutes):
    bench = Bench().start().settle()
    bench.run_for(60 * minutes)
    assert len(bench.sent(NODES, "status")) == minutes // 5
    bench.world = replace(bench.world, node=evolve(bench.world.node, memory_bytes=16 << 30))
    bench.run_for(11)
    assert bench.node().status.capacity["memory"] == "16Gi"
    before = len(bench.sent(NODES, "status"))
    bench.run_for(100)
    assert len(bench.sent(NODES, "status")) == before


@given(st.sampled_from([0, 1, 10250]), st.sampled_from(["", "10.0.0.7"]), st.booleans())
def test_kubelet_61_what_the_api_server_stores_is_not_written_again(port, address, has_images):
    """A kubelet without a port wrote its status over and over: the default of the API server
    differed from what it wanted."""
    config = KubeletConfig(port=port, node_ip=address)
    facts = make_world("node").carry_out(DescribeNode(), START, None)[1]
    facts = replace(facts, images=((("app:1",), 7),) if has_images else ())
    api = Server()
    created = compute_node("node", config, facts, START)
    answer = api.do(Request("create", NODES, name="node", body=created, user=ADMIN)).response
    stored = codec.decode(NODES.type, codec.encode(answer.body))
    wanted = compute_node_status(config, facts, "", stored.status, START + SECOND)
    assert is_same_but_heartbeats(wanted, stored.status)


RESOURCE_NAMES = st.sampled_from(["cpu", "example.com/dongle", "example.com/card"])


@given(
    st.dictionaries(RESOURCE_NAMES, st.sampled_from(["0", "3", "1k"])),
    st.dictionaries(RESOURCE_NAMES, st.sampled_from(["0", "3", "1k"])),
)
def test_kubelet_105_an_extended_resource_is_allocatable_as_the_capacity_says(
    capacity, allocatable
):
    """A client wrote the capacity alone, as the documentation says, and no pod could request it."""
    facts = make_world("node").carry_out(DescribeNode(), START, None)[1]
    old = NodeStatus(capacity=capacity, allocatable=allocatable)
    wanted = compute_node_status(KubeletConfig(), facts, "", old, START)
    extended = {name: amount for name, amount in capacity.items() if "/" in name}
    assert {name: it for name, it in wanted.capacity.items() if "/" in name} == extended
    assert {name: it for name, it in wanted.allocatable.items() if "/" in name} == extended
    assert wanted.allocatable["cpu"] == wanted.capacity["cpu"]


@settings(max_examples=15, deadline=None)
@given(st.integers(0, 300), st.booleans())
def test_kubelet_62_the_lease_is_renewed_every_ten_seconds(seconds, lose):
    bench = Bench().start().settle()
    if lose:
        bench.objects[LEASES.prefix].clear()
    bench.run_for(seconds)
    lease = bench.objects[LEASES.prefix].get("kube-node-lease/node")
    if lease is None:
        assert lose and seconds < 10
        return
    assert bench.now - parse_timestamp(lease.spec.renew_time) <= 10 * SECOND
    assert (lease.spec.holder_identity, lease.spec.lease_duration_seconds) == ("node", 40)
    assert lease.metadata.owner_references[0].uid == bench.node().metadata.uid
    assert seconds // 10 - 1 <= len(bench.sent(LEASES)) - 1 <= seconds // 10 + 1


@settings(max_examples=20, deadline=None)
@given(st.lists(st.integers(0, 3 * SECOND), min_size=2, max_size=4))
def test_kubelet_62_nodes_renew_together(starts):
    """Each at most ten seconds after its last renewal, and all at multiples of 0.25 s."""
    for start in starts:
        bench = Bench()
        bench.now += start
        bench.start().run_for(60)
        times = [
            parse_timestamp(r.body.document["spec"]["renewTime"])
            for r in bench.sent(LEASES)
            if r.verb == "patch"
        ]
        assert len(times) >= 5
        assert all(9.75 * SECOND <= b - a <= 10 * SECOND for a, b in pairwise(times))
        assert all(at % (SECOND // 4) == 0 for at in times)


def test_kubelet_62_renewals_begin_again_with_a_node_that_somebody_else_creates():
    bench = Bench().start().settle()
    node = bench.node()
    bench.remove_node()
    bench.objects[LEASES.prefix].clear()
    bench.run_for(60)
    assert not bench.objects[LEASES.prefix]
    bench.put(NODES, node)
    bench.run_for(60)
    lease = bench.objects[LEASES.prefix]["kube-node-lease/node"]
    assert bench.now - parse_timestamp(lease.spec.renew_time) <= 10 * SECOND


@settings(max_examples=10, deadline=None)
@given(st.integers(0, 900), st.sampled_from([403, 422]))
def test_kubelet_63_the_machine_is_described_while_renewals_are_refused(seconds, code):
    """A heartbeat renews the Lease and describes the machine. The first may fail for long."""
    bench = Bench().start().settle()
    bench.refuse = lambda request: Response(code, Status()) if request.resource == LEASES else None
    bench.run_for(seconds)
    bench.world = replace(bench.world, node=evolve(bench.world.node, memory_bytes=16 << 30))
    bench.run_for(21)
    assert bench.node().status.capacity["memory"] == "16Gi"
    bench.refuse = lambda request: None
    bench.run_for(1000)  # the longest back-off
    described = [at for at, op, _ in bench.operations if isinstance(op, DescribeNode)]
    assert 9 * SECOND <= described[-1] - described[-2] <= 11 * SECOND


@given(
    st.sampled_from([-1, 0, 99 << 20, 100 << 20]),
    st.sampled_from([-1.0, 0.05, 0.1]),
    st.sampled_from([-1, 999, 1000]),
    st.booleans(),
)
@settings(max_examples=40, deadline=None)
def test_kubelet_63_the_conditions_say_what_the_machine_says(memory, disk, pids, down):
    bench = Bench().start().settle()
    told = evolve(
        bench.world.node,
        memory_available_bytes=memory,
        disk_available_fraction=disk,
        pids_available=pids,
    )
    bench.world = replace(bench.world, node=told)
    bench.run_for(11)
    if down:
        bench.world = fake.set_faults(bench.world, down="no engine")
        bench.run_for(11)
    held = {c.type: c.status for c in bench.node().status.conditions}
    assert held == {
        "MemoryPressure": str(memory in (0, 99 << 20)),
        "DiskPressure": str(disk == 0.05),
        "PIDPressure": str(pids == 999),
        "Ready": str(not down),
    }
    bench.world = fake.set_faults(bench.world, down="")
    bench.run_for(11)
    assert {c.type: c.status for c in bench.node().status.conditions}["Ready"] == "True"


# --- objects --------------------------------------------------------------------------------------


def gets(bench):
    return [r for r in bench.requests if r.verb == "get"]


def test_kubelet_70_an_object_is_read_once_for_all_pods_of_the_node():
    bench = Bench().start().settle()
    bench.put(*config_map(mode="x"))
    env = (
        EnvVar(
            name="M",
            value_from=EnvVarSource(
                config_map_key_ref=ConfigMapKeySelector(name="settings", key="mode")
            ),
        ),
    )
    for n in range(5):
        bench.add(make_pod(f"p{n}", (container("c", env=env),)))
    bench.settle()
    assert all(running(bench, f"p{n}") for n in range(5))
    assert len(gets(bench)) == 1
    bench.run_for(300)
    assert len(gets(bench)) == 1, "what no pod mounts is not read again"


def test_kubelet_70_a_projected_volume_asks_for_all_its_sources_at_once():
    sources = tuple(
        VolumeProjection(config_map=ConfigMapProjection(name=name)) for name in ("a", "b", "c")
    )
    bench = Bench().start().settle()
    for name in ("a", "b", "c"):
        bench.put(*config_map(name, **{name: "1"}))
    bench.add(mounted(Volume(name="v", projected=ProjectedVolumeSource(sources=sources))))
    while not bench.calls:
        bench.do(bench.choices()[0])
    assert sorted(request.name for _, _, request in bench.calls) == ["a", "b", "c"]
    bench.settle()
    assert running(bench)


def test_kubelet_70_a_pod_that_waits_for_objects_leaves_nothing_for_the_collector():
    """A cycle through one exception would keep the whole step, 42 objects of each new pod."""
    sources = tuple(
        VolumeProjection(config_map=ConfigMapProjection(name=name)) for name in ("a", "b")
    )
    bench = Bench().start().settle()
    for name in ("a", "b"):
        bench.put(*config_map(name, **{name: "1"}))
    bench.add(mounted(Volume(name="v", projected=ProjectedVolumeSource(sources=sources))))
    gc.collect()
    gc.disable()
    try:
        bench.settle()
        assert running(bench)
        assert gc.collect() == 0
    finally:
        gc.enable()


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 60))
def test_kubelet_71_what_is_missing_is_asked_for_again(seconds):
    bench = ready(mounted(Volume(name="v", config_map=ConfigMapVolumeSource(name="settings"))))
    bench.run_for(seconds)
    assert not running(bench)
    asked = len(gets(bench))
    bench.put(*config_map(a="1"))
    bench.run_for(11)
    assert running(bench)
    expected = [at for at in (0, 1, 3, 7, 15, 25, 35, 45, 55) if at <= seconds]
    assert asked == len(expected)


def test_kubelet_71_where_the_api_is_silent_what_was_read_last_is_used():
    env = (
        EnvVar(
            name="M",
            value_from=EnvVarSource(
                config_map_key_ref=ConfigMapKeySelector(name="settings", key="mode")
            ),
        ),
    )
    bench = ready(make_pod(containers=(container("c", env=env),)), config_map(mode="x"))
    bench.run_for(200)
    bench.api_away = True
    bench.disturb(lambda world, now: fake.crash_container(world, world.running()[0].id, 1, now))
    bench.run_for(20)
    assert dict(made(bench).env)["M"] == "x"
    assert len(bench.world.running()) == 1


@settings(max_examples=10, deadline=None)
@given(st.integers(120, 1440).map(lambda number: 5 * number))
def test_kubelet_72_a_token_is_renewed_in_time(seconds):
    source = ServiceAccountTokenProjection(
        path="token", expiration_seconds=seconds, audience="vault"
    )
    volume = Volume(
        name="v",
        projected=ProjectedVolumeSource(sources=(VolumeProjection(service_account_token=source),)),
    )
    bench = ready(mounted(volume))
    bench.run_for(seconds * 2)
    times = [at for at, _ in written(bench)]
    assert [times[1], times[2]] == [0.8 * seconds, 2 * 0.8 * seconds]
    assert bench.sent(SERVICE_ACCOUNTS, "token")[0].body.spec.audiences == ("vault",)


# --- what a node takes ----------------------------------------------------------------------------


def wants(name="c", restart_policy=None, **amounts):
    return Container(
        name=name,
        image="a",
        restart_policy=restart_policy,
        resources=ResourceRequirements(requests=amounts),
    )


cpus = st.integers(0, 4)


@given(
    st.lists(cpus, min_size=1, max_size=3),
    st.lists(st.tuples(st.booleans(), cpus), max_size=4),
    cpus,
)
def test_kubelet_80_a_pod_counts_with_the_most_that_it_uses_at_once(containers, inits, overhead):
    """Against every moment of the pod's life: each init container with the sidecars before it, and
    all containers with all sidecars."""
    pod = make_pod(
        containers=tuple(wants(f"c{n}", cpu=str(amount)) for n, amount in enumerate(containers)),
        init_containers=tuple(
            wants(f"i{n}", "Always" if sidecar else None, cpu=str(amount))
            for n, (sidecar, amount) in enumerate(inits)
        ),
        overhead={"cpu": str(overhead)},
    )
    moments = [sum(containers) + sum(amount for sidecar, amount in inits if sidecar)]
    for n, (_, amount) in enumerate(inits):
        moments.append(amount + sum(before for sidecar, before in inits[:n] if sidecar))
    assert requests_of(pod) == {"pods": 1, "cpu": 1000 * (max(moments) + overhead)}


fates = ["run", "end", "delete"]


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(st.integers(0, 5), st.sampled_from(["128Mi", "20Gi"]), st.sampled_from(fates)),
        max_size=8,
    ),
    st.booleans(),
)
def test_kubelet_81_a_node_takes_no_more_than_it_has(pods, restart):
    """`end`: the pod ends by itself before the next comes."""
    bench = Bench(world=fake.make_world("node", pods=4)).start().settle()
    cpu, memory, count = 4000, 32 << 30, 4
    for n, (wanted, bytes_, fate) in enumerate(pods):
        line = "true" if fate == "end" else "sleep 100000"
        spec = replace(
            shell("c", line),
            resources=ResourceRequirements(requests={"cpu": str(wanted), "memory": bytes_}),
        )
        bench.add(make_pod(f"p{n}", (spec,), restart_policy="Never"))
        bench.run_for(1)
        if restart:
            bench.start().settle()
        size = {"128Mi": 128 << 20, "20Gi": 20 << 30}[bytes_]
        fits = 1000 * wanted <= cpu and size <= memory and count > 0
        status = bench.pod(f"p{n}").status
        if not fits:
            reason = (
                "OutOfpods" if count <= 0 else "OutOfcpu" if 1000 * wanted > cpu else "OutOfmemory"
            )
            assert (status.phase, status.reason) == ("Failed", reason)
            assert status.message.startswith("Pod was rejected: Node didn't have enough resource: ")
            continue
        assert status.phase == ("Succeeded" if fate == "end" else "Running")
        if fate == "delete":
            bench.delete(f"p{n}")
            bench.run_for(1)
        elif fate == "run":
            cpu, memory, count = cpu - 1000 * wanted, memory - size, count - 1
    assert not [op for _, op in bench.did(StopContainer) if op.container_id == ""]


@given(
    st.dictionaries(st.sampled_from(["example.com/gpu", "vendor/fpga"]), st.integers(0, 4)),
    st.dictionaries(st.sampled_from(["example.com/gpu", "vendor/fpga"]), st.integers(0, 4)),
)
def test_kubelet_81_only_extended_resources_that_the_node_announces_are_checked(wanted, announced):
    limits = {name: str(number) for name, number in wanted.items()}
    container = replace(
        shell("c", "true"), resources=ResourceRequirements(requests=limits, limits=limits)
    )
    capacity = {"cpu": 4000, "memory": 1 << 30, "pods": 10, **announced}
    pod = make_pod("p", (container,))
    rejected = why_rejected(pod, requests_of(pod), {}, capacity, {}, ())
    lacking = [name for name in sorted(wanted) if wanted[name] > announced.get(name, 4)]
    assert (rejected[0] if rejected else "") == (f"OutOf{lacking[0]}" if lacking else "")


@settings(max_examples=20, deadline=None)
@given(st.booleans(), st.booleans(), st.sampled_from([0, 1, 5]))
def test_kubelet_81_a_pod_that_the_api_server_has_no_more_uses_nothing(forced, port, seconds):
    """The first pod ignores SIGTERM for a minute; it is deleted at once, or has that minute."""

    def pod(name):
        ports = (ContainerPort(container_port=80, host_port=80),) if port else ()
        amount = ResourceRequirements(requests={} if port else {"cpu": "3"})
        one = replace(shell("c", "sleep 100000"), resources=amount, ports=ports)
        return make_pod(name, (one,), restart_policy="Never")

    bench = ready(pod("p"), seconds=2)
    assert running(bench)
    late = bench.now + 60 * SECOND
    bench.script = lambda op: Later(late) if isinstance(op, StopContainer) else None
    bench.delete("p", 0 if forced else 60)
    bench.run_for(seconds)
    bench.add(pod("q"))
    bench.run_for(1)
    reason = "NodePorts" if port else "OutOfcpu"
    assert bench.pod("q").status.reason == (None if forced else reason)


def test_kubelet_81_a_host_port_is_taken_once():
    def pod(name, address=""):
        return make_pod(
            name,
            (
                container(
                    "c", ports=(ContainerPort(container_port=80, host_port=80, host_ip=address),)
                ),
            ),
        )

    bench = ready(pod("p", "127.0.0.1"))
    for name, address, taken in (
        ("q", "127.0.0.2", False),
        ("r", "", True),
        ("s", "127.0.0.1", True),
    ):
        bench.add(pod(name, address))
        bench.run_for(1)
        assert (bench.pod(name).status.reason == "NodePorts") is taken


requirements = st.builds(
    NodeSelectorRequirement,
    key=st.sampled_from(["zone", "count", "none"]),
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]),
    values=st.lists(st.sampled_from(["a", "b", "3", "5", "-1"]), max_size=2).map(tuple),
)
terms = st.builds(NodeSelectorTerm, match_expressions=st.lists(requirements, max_size=2).map(tuple))


@given(
    st.lists(terms, max_size=3),
    st.dictionaries(st.sampled_from(["zone", "count"]), st.sampled_from(["a", "3"]), max_size=2),
)
def test_kubelet_82_selector_and_affinity_are_matched_against_the_nodes_labels(
    alternatives, selector
):
    labels = {"zone": "a", "count": "3"}

    def holds(requirement):
        held = labels.get(requirement.key)
        numbers = (
            held == "3" and len(requirement.values) == 1 and requirement.values[0] not in ("a", "b")
        )
        return {
            "In": held in requirement.values,
            "NotIn": held not in requirement.values,
            "Exists": held is not None,
            "DoesNotExist": held is None,
            "Gt": numbers and int(requirement.values[0]) < 3,
            "Lt": numbers and int(requirement.values[0]) > 3,
        }[requirement.operator]

    expected = all(labels.get(key) == value for key, value in selector.items())
    expected = expected and any(
        term.match_expressions and all(holds(r) for r in term.match_expressions)
        for term in alternatives
    )
    world = fake.make_world("node")
    node = compute_node("node", KubeletConfig(node_labels=tuple(labels.items())), world.node, START)
    required = NodeSelector(node_selector_terms=tuple(alternatives))
    affinity = Affinity(
        node_affinity=NodeAffinity(required_during_scheduling_ignored_during_execution=required)
    )
    pod = make_pod(node_selector=selector, affinity=affinity)
    assert matches_node(pod.spec, node.metadata.labels, "node") is bool(expected)
    bench = ready(pod, config=KubeletConfig(node_labels=tuple(labels.items())))
    assert (bench.pod().status.reason == "NodeAffinity") is not bool(expected)


def test_kubelet_a_runtime_that_does_not_describe_itself_holds_everything_up():
    bench = Bench()
    bench.world = fake.set_faults(bench.world, down="no engine")
    bench.add(make_pod())
    bench.start().run_for(25)
    assert not bench.did(RunPodSandbox)
    assert len(bench.did(DescribeNode)) == 3
    bench.world = fake.set_faults(bench.world, down="")
    bench.run_for(15)
    assert running(bench)


STEPS = st.lists(
    st.sampled_from(
        ["edit", "remove", "pod in env", "pod in volume", "do", "do", "do", "time", "away", "back"]
    ),
    max_size=25,
)


@settings(max_examples=150, deadline=None)
@given(STEPS, st.integers(0, 2**32))
@example(["edit", "pod in env", "settle", "edit", "pod in env"], 0)
@example(["edit", "pod in volume", "settle", "edit", "pod in volume"], 0)
@example(["edit", "pod in env", "settle", "remove", "pod in env"], 0)
@example(["edit", "pod in env", "settle", "away", "edit", "pod in env", "time", "time"], 0)
def test_kubelet_95_a_pod_sees_nothing_that_is_older_than_itself(steps, seed):
    """Whatever is delivered in which order: the value in a container was current when its pod was
    made, or later."""
    bench = Bench().start().settle()
    chance = random.Random(seed)
    made_at, version = {}, 0
    key = ConfigMapKeySelector(name="settings", key="version")
    env = (EnvVar(name="V", value_from=EnvVarSource(config_map_key_ref=key)),)
    volume = Volume(name="v", config_map=ConfigMapVolumeSource(name="settings"))
    for step in steps:
        if step == "edit":
            version += 1
            bench.put(*config_map(version=str(version)))
        elif step == "remove":
            version += 1
            bench.table(CONFIG_MAPS).pop("default/settings", None)
        elif step.startswith("pod"):
            name = f"p{len(made_at)}"
            mounts = (VolumeMount(name="v", mount_path="/v"),)
            by_volume = make_pod(name, (container("c", volume_mounts=mounts),), volumes=(volume,))
            pod = bench.add(
                make_pod(name, (container("c", env=env),)) if step == "pod in env" else by_volume
            )
            made_at[pod.metadata.uid] = version
        elif step == "time":
            bench.elapse_to(bench.now + 7 * SECOND)
        elif step in ("away", "back"):
            bench.api_away = step == "away"
        elif step == "settle":
            bench.settle()
        elif choices := bench.choices():
            bench.do(chance.choice(choices))
    bench.settle()
    seen = {}
    for _, operation, _ in bench.operations:
        if isinstance(operation, WriteVolume):
            seen[operation.pod_uid] = operation.files.get("version", b"").decode()
        elif isinstance(operation, CreateContainer):
            told = dict(operation.config.env).get("V") or seen[operation.config.pod_uid]
            assert int(told) >= made_at[operation.config.pod_uid]
    bench.api_away = False
    bench.put(*config_map(version=str(version + 1)))
    bench.run_for(30)
    assert all(running(bench, f"p{n}") for n in range(len(made_at))), "a pod waits for ever"
