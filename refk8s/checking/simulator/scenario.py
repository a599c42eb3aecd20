"""The initial state of a simulated cluster: nodes, components, and the first objects."""

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Network, IPv6Network
from typing import Any

from refk8s.adapters.fake.world import make_world
from refk8s.checking.simulator.extender import EXTENDER
from refk8s.core import components
from refk8s.core.actions import Submit
from refk8s.core.api import codec
from refk8s.core.api.request import Request
from refk8s.core.api.resources import by_kind
from refk8s.core.api.user import ADMIN, API_SERVER, User
from refk8s.core.apiserver.admission.bootstrap import bootstrap_objects
from refk8s.core.apiserver.admission.outcome import AdmissionConfig
from refk8s.core.apiserver.config import Config
from refk8s.core.apiserver.live_servers import Server
from refk8s.core.cluster.servers import submit
from refk8s.core.cluster.state import Cluster, ExtenderServer, Webhooks, begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND, Instant
from refk8s.core.controllers.node_ipam import PodRanges
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.scheduler.cycle import scheduler
from refk8s.core.value import evolve

START: Instant = 1_790_000_000 * SECOND
CPU_MILLI = 4_000
POD_RANGES = PodRanges(IPv4Network("10.244.0.0/16"))
DRIVER, DEVICE_CLASS = "devices.example.com", "device"
EXTENDED_RESOURCE = "example.com/device"
POD_RANGES_DUAL = PodRanges(
    IPv4Network("10.244.0.0/16"), second=PodRanges(IPv6Network("fd00:10:244::/56"), 64)
)
SERVICE_RANGES_DUAL = (IPv4Network("10.96.0.0/12"), IPv6Network("fd00:10:96::/112"))
SERVER_ADDRESS, SERVER_PORT = "127.0.0.1", 6443
SERVERS = tuple([Server(f"192.0.2.{number}", SERVER_PORT) for number in range(1, 10)])
"""Where pods would reach the API servers, by their numbers."""


class BadManifest(Exception):
    """A manifest is invalid; the message is the reason, in one line."""


def node_names(count: int) -> tuple[str, ...]:
    """The names of the nodes of a simulated cluster."""
    return tuple(f"node-{n}" for n in range(1, count + 1))


def new_cluster(
    nodes: int,
    seed: bytes,
    cpu_milli: int = CPU_MILLI,
    instances: int = 1,
    apiservers: int = 1,
    webhooks: Webhooks | None = None,
    *,
    has_api_services: bool = False,
    is_dual_stack: bool = False,
    extender: ExtenderServer | None = None,
    has_gangs: bool = False,
    lists_servers: bool = False,
) -> Cluster:
    """A cluster whose components have just started; only their first requests are in transit.

    `instances`: of the controller manager and of the scheduler (SIM-11); `apiservers`: SIM-12.
    `has_api_services`: there is the component of an API server that follows APIServices.
    `extender`: the scheduler asks it (CLUSTER-19). `has_gangs`: it binds the pods of a group
    together (`gang.py`). `is_dual_stack`: Services and pods have addresses of both families.
    `lists_servers`: each API server keeps a Lease (HOST-20).
    """
    names = node_names(nodes)
    configs = [(name, KubeletConfig(simulates_devices=True)) for name in names]
    machines = components.machines(
        configs, instances, POD_RANGES_DUAL if is_dual_stack else POD_RANGES
    )
    if has_api_services:
        from refk8s.core.controllers.custom_resource_definition import apiextensions

        machine = apiextensions()
        machines = machines | {machine.name: machine}
    if lists_servers:
        machines = machines | components.server_machines(SERVERS[:apiservers])
    if extender is not None:
        machine = scheduler(extenders=(EXTENDER,))
        machines = machines | {machine.name: machine}
    if has_gangs:
        from refk8s.checking.simulator.gang import profile

        machine = scheduler((profile(),))
        machines = machines | {machine.name: machine}
    worlds = {
        components.kubelet_name(name): make_world(name, index, cpu_milli=cpu_milli)
        for index, name in enumerate(names)
    }
    admission = AdmissionConfig(SERVICE_RANGES_DUAL) if is_dual_stack else AdmissionConfig()
    config = Config(admission=admission)
    cluster = begin(machines, worlds, seed, START, apiservers, webhooks, config)
    cluster = evolve(cluster, extender=extender)
    for obj in bootstrap_objects(SERVER_ADDRESS, SERVER_PORT, admission):
        cluster = step(cluster, Submit(creation(obj, API_SERVER)))
    return start_all(cluster)


def creation(obj: Any, user: User = ADMIN) -> Request:
    """The request that creates this object."""
    resource = by_kind(obj.api_version, obj.kind)
    if resource is None:
        raise BadManifest(f"{obj.api_version} {obj.kind} is not served here")
    namespace = (obj.metadata.namespace or "default") if resource.namespaced else ""
    return Request("create", resource, namespace, obj.metadata.name or "", body=obj, user=user)


def read_manifests(trees: Iterable[Any]) -> tuple[Request, ...]:
    """Requests that create the objects of these YAML documents. Raises BadManifest."""
    found: list[Request] = []
    for tree in trees:
        if tree is None:
            continue
        if (
            not isinstance(tree, dict)
            or not isinstance(tree.get("apiVersion"), str)
            or not isinstance(tree.get("kind"), str)
        ):
            raise BadManifest("a document without apiVersion and kind")
        if tree["kind"] == "List":
            items = tree.get("items") or ()
            if not isinstance(items, (list, tuple)):
                raise BadManifest("the items of a List must be a list")
            found += read_manifests(items)
            continue
        if not isinstance(tree.get("metadata") or {}, dict):
            raise BadManifest(f"{tree['kind']}: metadata must be a map")
        resource = by_kind(tree["apiVersion"], tree["kind"])
        if resource is None:
            raise BadManifest(f"{tree['apiVersion']} {tree['kind']} is not served here")
        try:
            found.append(creation(codec.from_tree(resource.type, tree)))
        except Exception as error:
            raise BadManifest(
                f"{tree['kind']} {(tree.get('metadata') or {}).get('name', '')}: {error}"
            ) from error
    return tuple(found)


def refusal(cluster: Cluster, requests: Iterable[Request]) -> str:
    """The API server's message for the first of these requests that it rejects; else empty."""
    for request in requests:
        cluster, response = submit(cluster, request)
        if not response.ok:
            return f"{request.resource.kind} {request.name}: {response.body.message}"
    return ""


def deployment(
    name: str,
    replicas: int,
    image: str = "app:1",
    cpu: str = "100m",
    surge: int = 1,
    unavailable: int = 0,
    reads: str = "",
) -> dict[str, Any]:
    """The manifest of a Deployment whose pods take two seconds to stop.

    The pods read a variable from the ConfigMap `reads`.
    """
    env: list[dict[str, Any]] = [{"name": "FAKE_STOP_SECONDS", "value": "1"}]
    if reads:
        reference = {"name": reads, "key": "version", "optional": True}
        env.append({"name": "VERSION", "valueFrom": {"configMapKeyRef": reference}})
    container = {
        "name": "main",
        "image": image,
        "resources": {"requests": {"cpu": cpu}},
        "env": env,
    }
    return {
        "apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas, "selector": {"matchLabels": {"app": name}},
            "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": surge, "maxUnavailable": unavailable}},
            "template": {
                "metadata": {"labels": {"app": name}},
                "spec": {"terminationGracePeriodSeconds": 5, "containers": [container]},
            },
        },
    }  # fmt: skip


def stateful_set(
    name: str, replicas: int, policy: str = "OrderedReady", image: str = "app:1"
) -> dict[str, Any]:
    """The manifest of a StatefulSet whose pods take a second to stop."""
    return {
        "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "replicas": replicas, "serviceName": name, "podManagementPolicy": policy, "selector": {"matchLabels": {"app": name}},
            "template": _template(name, image),
        },
    }  # fmt: skip


def daemon_set(name: str, image: str = "app:1") -> dict[str, Any]:
    """The manifest of a DaemonSet whose pods take a second to stop."""
    return {
        "apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"matchLabels": {"app": name}}, "template": _template(name, image)},
    }  # fmt: skip


def _template(name: str, image: str) -> dict[str, Any]:
    container = {
        "name": "main",
        "image": image,
        "env": [{"name": "FAKE_STOP_SECONDS", "value": "1"}],
    }
    return {
        "metadata": {"labels": {"app": name}},
        "spec": {"terminationGracePeriodSeconds": 5, "containers": [container]},
    }


def set_manifests() -> Sequence[dict[str, Any]]:
    """A StatefulSet and a DaemonSet, with which the simulated user also changes sets."""
    return (stateful_set("store", 3), daemon_set("agent"))


def job(
    name: str, completions: int | None, parallelism: int, script: str = "sleep 2"
) -> dict[str, Any]:
    """The manifest of a Job whose pods run this script, and are not restarted."""
    container = {"name": "main", "image": "app:1", "command": ["sh", "-c", script]}
    return {
        "apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "completions": completions, "parallelism": parallelism,
            "template": {"spec": {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container]}},
        },
    }  # fmt: skip


def cron_job(name: str, policy: str = "Allow", script: str = "sleep 70") -> dict[str, Any]:
    """The manifest of a CronJob of every minute."""
    return {
        "apiVersion": "batch/v1", "kind": "CronJob", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "schedule": "* * * * *", "concurrencyPolicy": policy,
            "jobTemplate": {"spec": job(name, 1, 1, script)["spec"]},
        },
    }  # fmt: skip


def job_manifests() -> Sequence[dict[str, Any]]:
    """A Job and a CronJob, with which the simulated user also changes Jobs."""
    return (job("work", 3, 2), cron_job("tick"))


def device_pod(name: str, claim: str, script: str, generated: bool = True) -> dict[str, Any]:
    """The manifest of a pod with the devices of one claim: of a template of this name, or this
    claim."""
    of_claim = {"resourceClaimTemplateName" if generated else "resourceClaimName": claim}
    container = {
        "name": "main",
        "image": "app:1",
        "command": ["sh", "-c", script],
        "resources": {"claims": [{"name": "device"}]},
    }
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container],
            "resourceClaims": [{"name": "device", **of_claim}],
        },
    }  # fmt: skip


def extended_pod(name: str, script: str, count: int = 1) -> dict[str, Any]:
    """The manifest of a pod that requests so many devices as an extended resource (DRA-23)."""
    amounts = {EXTENDED_RESOURCE: str(count)}
    container = {
        "name": "main",
        "image": "app:1",
        "command": ["sh", "-c", script],
        "resources": {"requests": amounts, "limits": amounts},
    }
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": [container],
        },
    }  # fmt: skip


def resource_claim(name: str, count: int = 1, is_admin: bool = False) -> dict[str, Any]:
    """The manifest of a ResourceClaim for so many devices."""
    spec = _claim_spec(count) if not is_admin else _claim_spec(count, adminAccess=True)
    return {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaim",
        "metadata": {"name": name, "namespace": "default"}, "spec": spec,
    }  # fmt: skip


def _claim_spec(count: int, **more: Any) -> dict[str, Any]:
    exactly = {"deviceClassName": DEVICE_CLASS, "count": count, **more}
    return {"devices": {"requests": [{"name": "device", "exactly": exactly}]}}


def resource_slice(node: str, devices: int, generation: int = 1) -> dict[str, Any]:
    """The manifest of the ResourceSlice with all devices of a node."""
    return {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceSlice", "metadata": {"name": f"slice-{node}"},
        "spec": {
            "driver": DRIVER, "nodeName": node,
            "pool": {"name": node, "generation": generation, "resourceSliceCount": 1},
            "devices": [{"name": f"device-{n}"} for n in range(devices)],
        },
    }  # fmt: skip


def device_manifests(nodes: int = 2) -> Sequence[dict[str, Any]]:
    """Two devices on each node, and a template, a claim and pods for them, with which the simulated
    user also changes claims and slices."""
    template = {
        "apiVersion": "resource.k8s.io/v1", "kind": "ResourceClaimTemplate",
        "metadata": {"name": "one", "namespace": "default"}, "spec": {"spec": _claim_spec(1)},
    }  # fmt: skip
    return (
        {
            "apiVersion": "resource.k8s.io/v1", "kind": "DeviceClass", "metadata": {"name": DEVICE_CLASS},
            "spec": {"extendedResourceName": EXTENDED_RESOURCE},
        },
        *[resource_slice(name, 2) for name in node_names(nodes)],
        template,
        resource_claim("shared"),
        device_pod("trains-0", "one", "sleep 900"),
        device_pod("shares-0", "shared", "sleep 20", generated=False),
    )  # fmt: skip


def volume_pod(name: str, claim: str) -> dict[str, Any]:
    """The manifest of a pod with the volume of this claim."""
    volume = {"name": "data", "persistentVolumeClaim": {"claimName": claim}}
    return {
        "apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": "default"},
        "spec": {
            "restartPolicy": "Never", "terminationGracePeriodSeconds": 5,
            "containers": [{"name": "main", "image": "app:1"}], "volumes": [volume],
        },
    }  # fmt: skip


def volume_manifests() -> Sequence[dict[str, Any]]:
    """A CSI driver, a volume for one node and one for many, their claims, and a pod."""
    found: list[dict[str, Any]] = [
        {"apiVersion": "storage.k8s.io/v1", "kind": "CSIDriver", "metadata": {"name": DRIVER}}
    ]
    for name, mode in (("one", "ReadWriteOnce"), ("many", "ReadWriteMany")):
        common = {"accessModes": [mode], "storageClassName": ""}
        size = {"storage": "1Gi"}
        csi = {"driver": DRIVER, "volumeHandle": f"handle-{name}"}
        found += [
            {
                "apiVersion": "v1", "kind": "PersistentVolume", "metadata": {"name": name},
                "spec": {**common, "capacity": size, "csi": csi},
            },
            {
                "apiVersion": "v1", "kind": "PersistentVolumeClaim",
                "metadata": {"name": name, "namespace": "default"},
                "spec": {**common, "resources": {"requests": size}, "volumeName": name},
            },
        ]  # fmt: skip
    return (*found, volume_pod("stores-0", "one"))


def service(name: str, app: str, **more: Any) -> dict[str, Any]:
    """The manifest of a Service that selects this label. `more`: fields of the spec."""
    return {
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
        "spec": {"selector": {"app": app}, "ports": [{"port": 80}], **more},
    }  # fmt: skip


def default_manifests() -> Sequence[dict[str, Any]]:
    """The objects that a simulated user creates by default."""
    return (
        deployment("web", 3, reads="settings"),
        service("web", "web"),
        deployment("db", 1, surge=0, unavailable=1),
    )
