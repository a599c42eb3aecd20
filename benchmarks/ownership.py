"""What field ownership costs a write: processor time of a decision, and bytes of its object.

    python benchmarks/ownership.py

Each row is one decision of the API server (from a request to a transaction) and the encoding of
what it stores, for the writes of which a cluster has most. Decisions run in one thread without
HTTP and disk. Best of several runs, in microseconds.
"""

from __future__ import annotations

import time
import timeit
from typing import Any

from msgspec.structs import replace

from refk8s.core.api import core_v1 as core
from refk8s.core.api import resources
from refk8s.core.api.coordination_v1 import Lease, LeaseSpec
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN, node_user, service_account_user
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import decide
from refk8s.core.apiserver.lifecycle import stamp
from refk8s.core.apiserver.outcome import Commit
from refk8s.core.apiserver.stored import encode_stored
from refk8s.core.context import Context, SeededChance, timestamp
from refk8s.core.store import EMPTY, History, Put, commit

NOW = 1_780_000_000_000_000
CONTEXT = Context(NOW, SeededChance(b"ownership"))
REPLICA_SETS = service_account_user("kube-system", "replicaset-controller")
KUBELET = node_user("node-1")
RUNS, DECISIONS = 7, 1000


def pod(name: str) -> core.Pod:
    """A pod as the ReplicaSet controller creates it."""
    container = core.Container(
        name="web",
        image="registry.example/web:1",
        ports=(core.ContainerPort(container_port=80),),
        env=tuple(core.EnvVar(name=f"KEY_{n}", value=str(n)) for n in range(4)),
        resources=core.ResourceRequirements(requests={"cpu": "100m", "memory": "64Mi"}),
    )
    owner = OwnerReference(
        api_version="apps/v1",
        kind="ReplicaSet",
        name="web",
        uid="11111111-2222-4333-8444-555555555555",
        controller=True,
        block_owner_deletion=True,
    )
    metadata = ObjectMeta(
        name=name,
        generate_name="web-",
        labels={"app": "web", "pod-template-hash": "abc"},
        owner_references=(owner,),
    )
    return core.Pod(metadata=metadata, spec=core.PodSpec(containers=(container,)))


def committed(store: History[Any], request: Request) -> History[Any]:
    """The store after a request."""
    outcome = decide(Exchange(request, store, CONTEXT))
    assert isinstance(outcome, Commit), outcome
    return commit(store, outcome.txn, stamp)[0]


def running(status: core.PodStatus | None, ip: str) -> core.PodStatus:
    """The status of a pod that runs."""
    now = timestamp(NOW)
    conditions = tuple(
        core.PodCondition(type=kind, status="True", last_transition_time=now)
        for kind in (
            "PodReadyToStartContainers",
            "Initialized",
            "Ready",
            "ContainersReady",
            "PodScheduled",
        )
    )
    container = core.ContainerStatus(
        name="web",
        image="registry.example/web:1",
        image_id="sha256:1",
        container_id=f"fake://{ip}",
        ready=True,
        started=True,
        state=core.ContainerState(running=core.ContainerStateRunning(started_at=now)),
    )
    return replace(
        status or core.PodStatus(),
        phase="Running",
        conditions=conditions,
        pod_ip=ip,
        pod_ips=(core.PodIP(ip=ip),),
        host_ip="10.0.0.1",
        host_ips=(core.HostIP(ip="10.0.0.1"),),
        start_time=now,
        container_statuses=(container,),
    )


def measure(what: str, store: History[Any], request: Request) -> None:
    """Print the cost of one decision and of encoding its object."""
    exchange = Exchange(request, store, CONTEXT)
    outcome = decide(exchange)
    assert isinstance(outcome, Commit), outcome
    put = next(one for one in outcome.txn.writes if isinstance(one, Put))
    best = min(
        timeit.repeat(
            lambda: decide(exchange), number=DECISIONS, repeat=RUNS, timer=time.process_time
        )
    )
    encoding = min(
        timeit.repeat(
            lambda: encode_stored(put.value), number=DECISIONS, repeat=RUNS, timer=time.process_time
        )
    )
    size = len(encode_stored(put.value))
    print(
        f"{what:32} decision {best / DECISIONS * 1e6:7.1f} us   "
        f"encoding {encoding / DECISIONS * 1e6:5.1f} us   {size:5} bytes"
    )


def main() -> None:
    """Measure each kind of write."""
    store: History[Any] = EMPTY
    namespace = core.Namespace(metadata=ObjectMeta(name="default"))
    store = committed(store, Request("create", resources.NAMESPACES, body=namespace, user=ADMIN))
    leases = core.Namespace(metadata=ObjectMeta(name="kube-node-lease"))
    store = committed(store, Request("create", resources.NAMESPACES, body=leases, user=ADMIN))
    account = core.ServiceAccount(metadata=ObjectMeta(name="default"))
    store = committed(
        store,
        Request("create", resources.SERVICE_ACCOUNTS, "default", body=account, user=ADMIN),
    )
    pods = resources.PODS
    creation = Request("create", pods, "default", body=pod("web-a"), user=REPLICA_SETS)
    measure("create a pod of a ReplicaSet", store, creation)
    store = committed(store, creation)
    binding = core.Binding(
        metadata=ObjectMeta(name="web-a"), target=core.ObjectReference(kind="Node", name="node-1")
    )
    bound = Request("create", pods, "default", "web-a", "binding", body=binding, user=ADMIN)
    store = committed(store, bound)
    there = store.get(pods.key("default", "web-a")).value  # type: ignore[union-attr]
    status = Request(
        "update",
        pods,
        "default",
        "web-a",
        "status",
        body=replace(there, status=running(there.status, "10.1.0.1")),
        user=KUBELET,
    )
    measure("first status of a pod", store, status)
    store = committed(store, status)
    there = store.get(pods.key("default", "web-a")).value  # type: ignore[union-attr]
    again = Request(
        "update",
        pods,
        "default",
        "web-a",
        "status",
        body=replace(there, status=running(there.status, "10.1.0.2")),
        user=KUBELET,
    )
    measure("next status of a pod", store, again)
    config = core.ConfigMap(metadata=ObjectMeta(name="c"), data={"key": "value" * 20})
    measure(
        "create a ConfigMap",
        store,
        Request("create", resources.CONFIG_MAPS, "default", body=config, user=ADMIN),
    )
    event = core.Event(
        metadata=ObjectMeta(name="web-a.1"),
        involved_object=core.ObjectReference(
            kind="Pod", namespace="default", name="web-a", uid=there.metadata.uid, api_version="v1"
        ),
        reason="Started",
        message="Started container web",
        source=core.EventSource(component="kubelet", host="node-1"),
        first_timestamp=timestamp(NOW),
        last_timestamp=timestamp(NOW),
        count=1,
        type="Normal",
    )
    measure(
        "create an Event",
        store,
        Request("create", resources.EVENTS, "default", body=event, user=KUBELET),
    )
    lease = Lease(
        metadata=ObjectMeta(name="node-1"),
        spec=LeaseSpec(holder_identity="node-1", renew_time="2026-01-01T00:00:00.000000Z"),
    )
    store = committed(
        store, Request("create", resources.LEASES, "kube-node-lease", body=lease, user=KUBELET)
    )
    there = store.get(resources.LEASES.key("kube-node-lease", "node-1")).value  # type: ignore[union-attr]
    renewed = replace(there, spec=replace(there.spec, renew_time="2026-01-01T00:00:10.000000Z"))
    measure(
        "renew a Lease",
        store,
        Request(
            "update", resources.LEASES, "kube-node-lease", "node-1", body=renewed, user=KUBELET
        ),
    )


if __name__ == "__main__":
    main()
