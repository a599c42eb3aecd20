"""One object never stops a component (LOOP-10, LOOP-12): whatever is stored, no decision raises,
and all others go on.

A cluster has run until its objects are of every kind that its components make. Then some of them
are replaced by what a hostile client could have stored: any value that decodes. Validation refuses
some of that, but not in every version that may have written it, and of a status it refuses little.
The cluster then goes on, and an exception anywhere is the end of the test: cluster.py raises what a
driver would report.
"""

from functools import cache

from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import disturbed

from refk8s.checking.simulator.ready import Ready
from refk8s.checking.simulator.scenario import (
    default_manifests,
    deployment,
    new_cluster,
    read_manifests,
    service,
)
from refk8s.checking.simulator.script import Order
from refk8s.core.actions import Crash, Submit
from refk8s.core.api.meta_v1 import DeleteOptions
from refk8s.core.api.request import Request
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    DEPLOYMENTS,
    ENDPOINT_SLICES,
    ENDPOINTS,
    LEASES,
    NAMESPACES,
    NODES,
    PODS,
    REPLICA_SETS,
    REPLICATION_CONTROLLERS,
    SERVICES,
)
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.cluster.state import Cluster
from refk8s.core.cluster.step import step, submit
from refk8s.core.store import Put, Txn, commit
from refk8s.core.value import evolve

STEPS_BEFORE, STEPS_AFTER = 700, 150
"""Actions until the base cluster has its pods running, and actions after the disturbance."""


def go_on(cluster: Cluster, steps: int) -> Cluster:
    """So many actions in the fair order."""
    order, ready = Order(), Ready(cluster)
    for _ in range(steps):
        action = order.next_action(cluster, ready)
        if action is None:
            break
        before, cluster = cluster, step(cluster, action)
        ready.took(before, action, cluster)
    return cluster


CONTROLLER = {
    "apiVersion": "v1", "kind": "ReplicationController", "metadata": {"name": "old", "namespace": "default"},
    "spec": {"replicas": 1, "selector": {"app": "old"}, "template": deployment("old", 1)["spec"]["template"]},
}  # fmt: skip
BY_HAND = {
    "apiVersion": "v1", "kind": "Endpoints", "metadata": {"name": "outside", "namespace": "default"},
    "subsets": [{"addresses": [{"ip": "192.0.2.1"}], "ports": [{"port": 80}]}],
}  # fmt: skip


RICH = {
    "apiVersion": "v1", "kind": "Pod",
    "metadata": {"name": "rich", "namespace": "default", "labels": {"app": "web"}, "annotations": {"a": "b"}},
    "spec": {
        "restartPolicy": "OnFailure", "activeDeadlineSeconds": 900, "hostname": "h", "subdomain": "web",
        "nodeSelector": {"kubernetes.io/os": "linux"}, "securityContext": {"runAsUser": 1, "sysctls": [{"name": "a.b", "value": "1"}]},
        "hostAliases": [{"ip": "10.1.2.3", "hostnames": ["x"]}], "dnsConfig": {"nameservers": ["1.1.1.1"], "options": [{"name": "ndots"}]},
        "topologySpreadConstraints": [
            {"maxSkew": 1, "topologyKey": "kubernetes.io/hostname", "whenUnsatisfiable": "DoNotSchedule",
             "labelSelector": {"matchLabels": {"app": "web"}}},
            {"maxSkew": 2, "topologyKey": "zone", "whenUnsatisfiable": "ScheduleAnyway", "labelSelector": {}},
        ],
        "tolerations": [{"key": "k", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}],
        "affinity": {
            "nodeAffinity": {
                "requiredDuringSchedulingIgnoredDuringExecution": {
                    "nodeSelectorTerms": [{"matchExpressions": [{"key": "gen", "operator": "Gt", "values": ["3"]}]}, {
                        "matchExpressions": [{"key": "kubernetes.io/os", "operator": "In", "values": ["linux"]}]}]},
                "preferredDuringSchedulingIgnoredDuringExecution": [
                    {"weight": 3, "preference": {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}}],
            },
            "podAntiAffinity": {"preferredDuringSchedulingIgnoredDuringExecution": [
                {"weight": 5, "podAffinityTerm": {"topologyKey": "zone", "labelSelector": {"matchLabels": {"app": "db"}}}}]},
        },
        "volumes": [
            {"name": "v", "configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "a/b", "mode": 256}]}},
            {"name": "e", "emptyDir": {"medium": "Memory", "sizeLimit": "1Mi"}},
            {"name": "d", "downwardAPI": {"items": [{"path": "l", "fieldRef": {"fieldPath": "metadata.labels"}}]}},
            {"name": "p", "projected": {"sources": [{"serviceAccountToken": {"path": "t", "expirationSeconds": 600}}]}},
        ],
        "initContainers": [
            {"name": "i", "image": "app:1", "command": ["true"], "resources": {"requests": {"cpu": "1"}}},
            {"name": "s", "image": "app:1", "restartPolicy": "Always", "ports": [{"name": "sp", "containerPort": 81}]},
        ],
        "containers": [{
            "name": "c", "image": "app:1", "command": ["sleep", "9"], "args": ["$(A)"], "workingDir": "/",
            "ports": [{"name": "http", "containerPort": 80, "hostPort": 8080}],
            "env": [{"name": "A", "value": "$(B)"}, {"name": "C", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
                    {"name": "D", "valueFrom": {"resourceFieldRef": {"resource": "limits.cpu", "divisor": "1m"}}},
                    {"name": "E", "valueFrom": {"configMapKeyRef": {"name": "kube-root-ca.crt", "key": "ca.crt"}}}],
            "envFrom": [{"prefix": "P_", "configMapRef": {"name": "kube-root-ca.crt"}}],
            "resources": {"requests": {"cpu": "100m", "memory": "64Mi"}, "limits": {"cpu": "200m", "memory": "64Mi"}},
            "volumeMounts": [{"name": "v", "mountPath": "/v", "subPath": "a"}, {"name": "e", "mountPath": "/e", "subPathExpr": "$(A)"}],
            "livenessProbe": {"httpGet": {"port": "http", "path": "/"}, "periodSeconds": 5, "terminationGracePeriodSeconds": 7},
            "readinessProbe": {"tcpSocket": {"port": 80}}, "startupProbe": {"exec": {"command": ["x"]}, "failureThreshold": 30},
            "lifecycle": {"postStart": {"exec": {"command": ["x"]}}, "preStop": {"sleep": {"seconds": 3}}},
        }],
    },
}  # fmt: skip


@cache
def rich() -> object:
    """A pod that uses most of what a pod can, as the API server completes it."""
    (request,) = read_manifests([RICH])
    _, response = submit(base(), request)
    assert response.ok, response.body
    return response.body


@cache
def base() -> Cluster:
    """A cluster with running pods, services, slices, endpoints, leases, events and a namespace that
    is going."""
    cluster = new_cluster(2, b"hostile")
    outside = service("outside", "x")
    del outside["spec"]["selector"]
    for request in read_manifests([*default_manifests(), CONTROLLER, outside, BY_HAND]):
        cluster = step(cluster, Submit(request))
    return go_on(cluster, STEPS_BEFORE)


DECIDED_ON = (
    PODS, NODES, LEASES, NAMESPACES, DEPLOYMENTS, REPLICA_SETS, REPLICATION_CONTROLLERS, SERVICES, ENDPOINTS, ENDPOINT_SLICES, CONFIG_MAPS,
)  # fmt: skip
"""Resources whose fields decisions depend on; of the others they read the metadata alone."""


@cache
def stored(prefix: str) -> tuple[tuple[str, object], ...]:
    return tuple((record.key, record.value) for record in base().history.list(prefix).records)


@st.composite
def disturbances(draw):
    """One to eight stored objects, each with what it is replaced by, and whether and with what
    grace period it is deleted then."""
    found = {}
    for resource in draw(st.lists(st.sampled_from(DECIDED_ON), min_size=1, max_size=8)):
        key, obj = draw(st.sampled_from(stored(resource.prefix)))
        grace = draw(st.sampled_from([None, 0, 1, 2**31, 2**63 - 1, -1, -(2**63)]))
        found[key] = (
            resource,
            draw(disturbed(obj)),
            draw(st.booleans()),
            DeleteOptions(grace_period_seconds=grace),
        )
    return found


def store_all(cluster: Cluster, objects) -> Cluster:
    """Put them into the store past every check of the API server."""
    history, result = commit(
        cluster.history, Txn((), tuple(Put(key, obj) for key, obj in objects)), stamp
    )
    return evolve(cluster, history=history, last_commit=result)


@st.composite
def newcomers(draw):
    """Up to three new pods, with or without a node, none of which the API server has checked."""
    found = []
    for number in range(draw(st.integers(0, 3))):
        pod = draw(disturbed(rich()))
        node = draw(st.sampled_from([None, "node-1", "node-2"]))
        metadata = replace(pod.metadata, name=f"new-{number}", uid=f"uid-{number}")
        pod = replace(
            pod,
            metadata=metadata,
            spec=replace(pod.spec, node_name=node) if draw(st.booleans()) else pod.spec,
        )
        found.append((f"{PODS.prefix}default/new-{number}", pod))
    return found


@given(disturbances(), newcomers(), st.booleans())
def test_loop_10_no_decision_raises_whatever_is_stored(found, new, restarted):
    cluster = store_all(base(), [(key, obj) for key, (_, obj, _, _) in found.items()] + new)
    if restarted:
        for name in sorted(cluster.components):
            cluster = step(cluster, Crash(name))
    cluster = go_on(cluster, STEPS_AFTER // 3)
    for resource, obj, is_deleted, options in found.values():
        if is_deleted:
            metadata = obj.metadata
            cluster = step(
                cluster,
                Submit(
                    Request(
                        "delete",
                        resource,
                        metadata.namespace or "",
                        metadata.name,
                        body=options,
                        user=ADMIN,
                    )
                ),
            )
    go_on(cluster, STEPS_AFTER)
