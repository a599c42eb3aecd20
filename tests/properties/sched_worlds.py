"""Small worlds for the scheduler's properties: templates of pods and nodes, and what users do to
them."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import strategies as st
from msgspec.structs import replace
from runs import with_default_namespace

from refk8s.core.actions import Submit
from refk8s.core.api.apps_v1 import ReplicaSet, ReplicaSetSpec
from refk8s.core.api.core_v1 import (
    Affinity,
    Container,
    ContainerPort,
    Node,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    NodeSpec,
    NodeStatus,
    Pod,
    PodSpec,
    PodStatus,
    PodTemplateSpec,
    PreferredSchedulingTerm,
    ResourceRequirements,
    Service,
    ServiceSpec,
    Taint,
    Toleration,
)
from refk8s.core.api.meta_v1 import DeleteOptions, LabelSelector, ObjectMeta, OwnerReference
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import NODES, PODS
from refk8s.core.api.selector import from_map
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import Cluster, begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.machine import AnyMachine
from refk8s.core.scheduler.cycle import scheduler
from refk8s.core.scheduler.snapshot import Group, PodInfo, info_of

NAME = "kube-scheduler"
START = 1_700_000_000 * SECOND

effects = st.sampled_from(["NoSchedule", "NoExecute", "PreferNoSchedule"])
taint_keys = st.sampled_from(["a", "b"])
small_values = st.sampled_from(["", "1", "2"])
taints = st.builds(
    lambda key, value, effect: Taint(key=key, value=value or None, effect=effect),
    taint_keys,
    small_values,
    effects,
)
tolerations = st.one_of(
    st.builds(
        lambda key, value, effect: Toleration(key=key, operator="Equal", value=value or None, effect=effect),
        taint_keys, small_values, st.one_of(st.none(), effects),
    ),
    st.builds(lambda key, effect: Toleration(key=key, operator="Exists", effect=effect), st.none() | taint_keys, st.none() | effects),
    st.just(Toleration(key="node.kubernetes.io/unschedulable", operator="Exists")),
)  # fmt: skip
label_keys = st.sampled_from(["disk", "size", "topology.kubernetes.io/zone"])
label_values = st.sampled_from(["", "1", "7", "12", "x"])
node_labels = st.dictionaries(label_keys, label_values, max_size=3)


@st.composite
def requirements(draw) -> NodeSelectorRequirement:
    operator = draw(st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt"]))
    if operator in ("Exists", "DoesNotExist"):
        return NodeSelectorRequirement(key=draw(label_keys), operator=operator)
    if operator in ("Gt", "Lt"):
        return NodeSelectorRequirement(
            key=draw(label_keys),
            operator=operator,
            values=(draw(st.sampled_from(["5", "7", "12"])),),
        )
    values = draw(st.lists(label_values, min_size=1, max_size=2))
    return NodeSelectorRequirement(key=draw(label_keys), operator=operator, values=tuple(values))


fields = st.builds(
    lambda operator, name: NodeSelectorRequirement(key="metadata.name", operator=operator, values=(name,)),
    st.sampled_from(["In", "NotIn"]), st.sampled_from(["n0", "n1"]),
)  # fmt: skip
terms = st.builds(
    lambda expressions, names: NodeSelectorTerm(match_expressions=tuple(expressions) or None, match_fields=tuple(names) or None),
    st.lists(requirements(), max_size=2), st.lists(fields, max_size=1),
)  # fmt: skip


@st.composite
def affinities(draw) -> Affinity:
    required = draw(st.none() | st.lists(terms, min_size=1, max_size=2))
    preferred = draw(st.lists(st.tuples(st.integers(1, 100), terms), max_size=2))
    return Affinity(
        node_affinity=NodeAffinity(
            required_during_scheduling_ignored_during_execution=NodeSelector(
                node_selector_terms=tuple(required)
            )
            if required
            else None,
            preferred_during_scheduling_ignored_during_execution=tuple(
                PreferredSchedulingTerm(weight=weight, preference=term)
                for weight, term in preferred
            )
            or None,
        )
    )


amounts = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["0", "100m", "500m", "1", "1500m"]),
        "memory": st.sampled_from(["0", "64Mi", "1Gi", "1.5Gi"]),
        "ephemeral-storage": st.sampled_from(["1Gi"]),
        "example.com/gpu": st.sampled_from(["1", "2"]),
    },
)
ports = st.builds(
    lambda number, protocol, address: ContainerPort(container_port=80, host_port=number, protocol=protocol, host_ip=address),
    st.sampled_from([8080, 8081]), st.sampled_from([None, "TCP", "UDP"]), st.sampled_from([None, "0.0.0.0", "127.0.0.1", "127.0.0.2"]),
)  # fmt: skip
containers = st.builds(
    lambda requests, taken: Container(name="c", image="x", resources=ResourceRequirements(requests=requests or None), ports=taken),
    amounts, st.one_of(st.none(), st.none(), ports.map(lambda port: (port,))),
)  # fmt: skip
init_containers = st.builds(
    lambda requests, policy: Container(
        name="i", image="x", resources=ResourceRequirements(requests=requests or None), restart_policy=policy
    ),
    amounts, st.sampled_from([None, "Always"]),
)  # fmt: skip


@st.composite
def pod_specs(draw) -> PodSpec:
    """What a user may ask of a scheduler, mostly little."""
    inits = draw(st.one_of(st.just([]), st.lists(init_containers, max_size=3)))
    main = draw(st.lists(containers, min_size=1, max_size=2))
    return PodSpec(
        containers=tuple(replace(container, name=f"c{at}") for at, container in enumerate(main)),
        init_containers=tuple(
            replace(container, name=f"i{at}") for at, container in enumerate(inits)
        )
        or None,
        node_selector=draw(
            st.one_of(
                st.none(),
                st.none(),
                st.dictionaries(label_keys, label_values, min_size=1, max_size=1),
            )
        ),
        affinity=draw(st.one_of(st.none(), st.none(), affinities())),
        tolerations=tuple(draw(st.lists(tolerations, max_size=2))) or None,
        overhead=draw(st.one_of(st.none(), st.none(), st.just({"cpu": "100m"}))),
        scheduler_name="default-scheduler",
    )


@st.composite
def nodes(draw, name: str = "n0") -> Node:
    return Node(
        metadata=ObjectMeta(
            name=name, labels={"kubernetes.io/hostname": name, **draw(node_labels)}
        ),
        spec=NodeSpec(
            taints=tuple(draw(st.one_of(st.just([]), st.lists(taints, max_size=2)))) or None,
            unschedulable=draw(st.sampled_from([None, None, None, True])),
        ),
        status=NodeStatus(
            allocatable={
                "cpu": draw(st.sampled_from(["1", "2", "4"])),
                "memory": draw(st.sampled_from(["1Gi", "4Gi"])),
                "pods": draw(st.sampled_from(["2", "10"])),
                "ephemeral-storage": "10Gi",
                **draw(st.sampled_from([{}, {}, {"example.com/gpu": "2"}])),
            }
        ),
    )


def a_node(
    name: str,
    cpu: str = "2",
    memory: str = "4Gi",
    pods: str = "10",
    labels: dict[str, str] | None = None,
    **spec,
) -> Node:
    return Node(
        metadata=ObjectMeta(name=name, labels={"kubernetes.io/hostname": name, **(labels or {})}),
        spec=NodeSpec(**spec),
        status=NodeStatus(allocatable={"cpu": cpu, "memory": memory, "pods": pods}),
    )


def a_pod(name: str, requests: dict[str, str] | None = None, **spec) -> Pod:
    container = Container(name="c", image="x", resources=ResourceRequirements(requests=requests))
    spec.setdefault("scheduler_name", "default-scheduler")
    return Pod(
        metadata=ObjectMeta(name=name, namespace="default"),
        spec=PodSpec(containers=(container,), **spec),
        status=PodStatus(),
    )


def placed(pod: Pod, node: str, uid: str, owner: str = "", **metadata) -> Pod:
    """The pod as it is when it has a node, without a cluster."""
    owners = (
        (
            OwnerReference(
                api_version="apps/v1", kind="ReplicaSet", name=owner, uid=owner, controller=True
            ),
        )
        if owner
        else None
    )
    changed = replace(pod.metadata, uid=uid, owner_references=owners, **metadata)
    return replace(pod, metadata=changed, spec=replace(pod.spec, node_name=node or None))


def labelled(pod: Pod, app: str, namespace: str = "default") -> Pod:
    return replace(pod, metadata=replace(pod.metadata, labels={"app": app}, namespace=namespace))


def grouped(pod: Pod, **labels: str) -> PodInfo:
    """The pod as the scheduler knows it, if a Service selects these labels (SCHED-27)."""
    namespace = pod.metadata.namespace or ""
    group = Group(namespace, from_map(labels)) if labels else None
    return replace(info_of(pod), group=group)


def a_service(name: str, namespace: str = "default", **labels: str) -> Service:
    return Service(
        metadata=ObjectMeta(name=name, namespace=namespace),
        spec=ServiceSpec(selector=labels or None, cluster_ip="None"),
    )


def an_owner(name: str, selector: LabelSelector, namespace: str = "default") -> ReplicaSet:
    """The ReplicaSet that `placed` names."""
    template = PodTemplateSpec(metadata=ObjectMeta(), spec=PodSpec(containers=()))
    return ReplicaSet(
        metadata=ObjectMeta(name=name, namespace=namespace, uid=name),
        spec=ReplicaSetSpec(selector=selector, template=template),
    )


def new_cluster(
    machine: AnyMachine | None = None, more: dict[str, AnyMachine] | None = None
) -> Cluster:
    """A namespace and a scheduler, started."""
    cluster = begin({NAME: machine or scheduler(), **(more or {})}, {}, b"seed", START)
    return start_all(with_default_namespace(cluster))


def stored(cluster: Cluster, resource) -> list:
    return [record.value for record in cluster.history.list(resource.prefix).records]


def with_node(cluster: Cluster, node: Node) -> Cluster:
    """A node joins and is ready: its object, its status, and the taint gone that it gets until
    somebody finds it ready."""
    cluster = step(cluster, Submit(Request("create", NODES, body=node, user=ADMIN)))
    cluster = patched(
        cluster,
        NODES,
        node.metadata.name,
        {"status": {"allocatable": node.status.allocatable}},
        "status",
    )
    taints = [{"key": t.key, "value": t.value, "effect": t.effect} for t in node.spec.taints or ()]
    return patched(cluster, NODES, node.metadata.name, {"spec": {"taints": taints or None}})


def with_pod(cluster: Cluster, pod: Pod) -> Cluster:
    return step(cluster, Submit(Request("create", PODS, "default", body=pod, user=ADMIN)))


def patched(cluster: Cluster, resource, name: str, tree: dict, part: str = "") -> Cluster:
    namespace = "default" if resource is PODS else ""
    return step(
        cluster,
        Submit(
            Request(
                "patch",
                resource,
                namespace,
                name,
                part,
                body=Patch("application/merge-patch+json", tree),
                user=ADMIN,
            )
        ),
    )


def deleted(cluster: Cluster, pod: Pod, now: bool) -> Cluster:
    body = DeleteOptions(grace_period_seconds=0 if now else None)
    return step(
        cluster,
        Submit(Request("delete", PODS, "default", pod.metadata.name, body=body, user=ADMIN)),
    )


OPERATIONS = 9


def operate(
    cluster: Cluster, which: int, specs: Sequence[PodSpec], spare: Sequence[Node]
) -> Cluster:
    """Something that a user, a kubelet or an administrator does; nodes never shrink and never
    vanish."""
    kind, which = which % OPERATIONS, which // OPERATIONS
    pods, there = stored(cluster, PODS), stored(cluster, NODES)
    if kind <= 2:
        name = f"p{which % 7}"  # Few names, so that a pod may come back under the name of another.
        if any(pod.metadata.name == name for pod in pods):
            name = f"p{cluster.history.revision}"
        return with_pod(
            cluster,
            Pod(
                metadata=ObjectMeta(name=name, namespace="default"), spec=specs[which % len(specs)]
            ),
        )
    if kind == 3 and len(there) < len(spare):
        return with_node(cluster, spare[len(there)])
    if kind <= 5 and pods:
        pod = pods[which % len(pods)]
        return deleted(
            cluster, pod, pod.metadata.deletion_timestamp is not None or not pod.spec.node_name
        )
    if kind == 6 and (running := [pod for pod in pods if pod.spec.node_name]):
        return patched(
            cluster,
            PODS,
            running[which % len(running)].metadata.name,
            {"status": {"phase": "Succeeded"}},
            "status",
        )
    if kind == 7 and there:
        node = there[which % len(there)]
        return patched(
            cluster,
            NODES,
            node.metadata.name,
            {"spec": {"unschedulable": not node.spec.unschedulable}},
        )
    if there:
        node = there[which % len(there)]
        return patched(
            cluster,
            NODES,
            node.metadata.name,
            {"metadata": {"labels": {"disk": "1" if which % 2 else None}}},
        )
    return cluster


worlds = st.tuples(
    st.lists(pod_specs(), min_size=1, max_size=3),
    st.tuples(nodes("n0"), nodes("n1"), nodes("n2")),
)
"""(templates of pods, nodes that join one after another)"""

steps = st.lists(st.tuples(st.integers(0, 15), st.integers(0, 2**16)), min_size=30, max_size=100)
"""What happens: kinds 0 to 4 the next thing that can, 5 time passes, 6 to 12 an operation, 13 to 15
a fault."""
