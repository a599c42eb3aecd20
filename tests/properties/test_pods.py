"""Every component reads a pod alike: POD-20 ... POD-24 (spec/pod.md).

The oracle of the laws and every component that decides by the field answer the same question.
"""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from immutables import Map
from msgspec.structs import replace
from sched_worlds import a_node, a_pod, placed
from workload_helpers import NOW, ago, view_of

from refk8s.core.api.core_v1 import (
    Affinity,
    Container,
    ContainerPort,
    NodeAffinity,
    NodeSelector,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodCondition,
    PodStatus,
    ResourceRequirements,
    Taint,
    Toleration,
)
from refk8s.core.apiserver.validation.pod_resources import total_requests
from refk8s.core.apiserver.validation.scheduling import validate_tolerations
from refk8s.core.controllers.node_lifecycle import NodeLifecycle, unready_pods
from refk8s.core.controllers.taint_eviction import TaintEviction
from refk8s.core.kubelet.admission import requests_of, why_rejected
from refk8s.core.kubelet.container import compute_port_mappings
from refk8s.core.kubelet.memory import PodMemory
from refk8s.core.loop.plan import Local
from refk8s.core.pods.status import is_active, is_finished, is_ready
from refk8s.core.properties import oracle
from refk8s.core.properties.predicates.scheduler import why_not
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.needs import needs_of
from refk8s.core.scheduler.snapshot import info_of, recompute

NAME = "n"
CAPACITY = {"cpu": 10**9, "memory": 10**15, "ephemeral-storage": 10**15, "pods": 10, "x.io/a": 99}
MODULES = ("seccomp", "apparmor")

often = settings(max_examples=5 * settings.default.max_examples)


def kubelet_reason(pod, node, *others):
    """Why the kubelet of this node rejects the pod; empty: it does not."""
    there = [PodMemory(f"u{at}", "default", "q", other) for at, other in enumerate(others)]
    bound = replace(pod, spec=replace(pod.spec, node_name=node.metadata.name))
    labels = node.metadata.labels
    found = why_rejected(bound, requests_of(bound), {}, CAPACITY, labels, there, MODULES)
    return found[0] if found is not None else ""


def scheduler_reason(pod, node, *others):
    """The plugin by which the scheduler refuses the node; empty: none does."""
    there = [placed(other, node.metadata.name, f"u{at}") for at, other in enumerate(others)]
    refusal = judge(info_of(pod), node.metadata.name, recompute([node], there), {})
    return refusal.plugin if refusal is not None else ""


def law_reasons(pod, node, *others):
    """The rules by which the laws keep the pod off the node."""
    return {reason.partition(":")[0] for reason in why_not(pod, node, others)}


# --- tolerations (what is decoded has no empty strings)

keys = st.sampled_from([None, "a", "b"])
taint_values = st.sampled_from([None, "v", "4", "5", "05", "6"])
operators = st.sampled_from([None, "Equal", "Exists", "Gt", "Lt", "Odd"])
tolerations = st.builds(
    Toleration,
    key=keys,
    operator=operators,
    value=taint_values,
    effect=st.sampled_from([None, "NoExecute", "NoSchedule"]),
)
taints = st.builds(
    Taint, key=st.sampled_from(["a", "b"]), value=taint_values, effect=st.just("NoExecute")
)


@often
@given(st.lists(tolerations, max_size=3), taints)
@example(
    [Toleration(key="a", operator="Gt", value="5")], Taint(key="a", value="5", effect="NoExecute")
)
@example(
    [Toleration(key="a", operator="Gt", value="5")], Taint(key="a", value="6", effect="NoExecute")
)
@example([Toleration(value="v")], Taint(key="a", value="v", effect="NoExecute"))
def test_pod_20_scheduler_eviction_and_laws_agree_on_a_taint(drawn, taint):
    node = a_node(NAME, taints=(taint,))
    pod = a_pod("p", tolerations=tuple(drawn) or None)
    expected = any(oracle.tolerates(one, taint) for one in drawn)
    assert (scheduler_reason(pod, node) == "TaintToleration") is not expected
    assert ("SCHED-5/6" in law_reasons(pod, node)) is not expected
    eviction = TaintEviction()
    view = view_of(eviction, node, placed(pod, NAME, "u"))
    plan = eviction.reconcile(view, "default/p", NOW, Local(Map()))
    assert bool(plan.waves) is not expected


@often
@given(tolerations)
@example(Toleration(key="a", operator="Gt", value="5"))
@example(Toleration(key="a", operator="Lt", value="5"))
def test_pod_20_what_validation_accepts_is_what_can_match(toleration):
    """An operator is accepted exactly if some taint is matched by it."""
    paths = {cause.field for cause in validate_tolerations((toleration,), "t")}
    taint = Taint(key=toleration.key or "a", value=toleration.value, effect="NoExecute")
    can_match = oracle.tolerates(replace(toleration, effect=None), taint)
    assert can_match or paths == {"t[0].operator"}
    if not paths:
        assert can_match


# --- nodes

numbers = ["5", "+5", "-5", "05", "5_0", " 5", "٥", "9" * 30, "0" * 30 + "7", str(2**63), "", "x"]
texts = st.sampled_from(numbers)
requirements = st.builds(
    NodeSelectorRequirement,
    key=st.sampled_from(["k", "none", "metadata.name"]),
    operator=st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Odd"]),
    values=st.lists(texts | st.just(NAME), max_size=2).map(lambda found: tuple(found) or None),
)
some = st.lists(requirements, max_size=2).map(lambda found: tuple(found) or None)
terms = st.builds(NodeSelectorTerm, match_expressions=some, match_fields=some)


def requiring(*alternatives, **spec):
    """A pod that requires one of these terms."""
    required = NodeSelector(node_selector_terms=alternatives)
    affinity = NodeAffinity(required_during_scheduling_ignored_during_execution=required)
    return a_pod("p", affinity=Affinity(node_affinity=affinity), **spec)


def over(number, operator="Gt"):
    """The term that the label k is above (Lt: below) the number."""
    requirement = NodeSelectorRequirement(key="k", operator=operator, values=(number,))
    return NodeSelectorTerm(match_expressions=(requirement,))


@often
@given(
    st.lists(terms, max_size=2),
    st.none() | texts,
    st.none() | st.dictionaries(st.sampled_from(["k", "none"]), texts, max_size=1),
)
@example([over("5")], "9" * 30, None)
@example([over("5")], "5_0", None)
@example([over("9" * 30, "Lt")], "5", None)
def test_pod_21_scheduler_kubelet_and_laws_agree_on_a_node(alternatives, label, selector):
    labels = {} if label is None else {"k": label}
    node = a_node(NAME, labels=labels)
    pod = requiring(*alternatives, node_selector=selector)
    expected = all(labels.get(key) == text for key, text in (selector or {}).items())
    expected = expected and any(oracle.term_matches(one, labels, NAME) for one in alternatives)
    assert (scheduler_reason(pod, node) == "NodeAffinity") is not expected
    assert (kubelet_reason(pod, node) == "NodeAffinity") is not expected
    assert ("SCHED-7" in law_reasons(pod, node)) is not expected


# --- containers: host ports and requests

ports = st.builds(
    ContainerPort,
    container_port=st.just(80),
    host_port=st.sampled_from([None, 80, 81]),
    protocol=st.sampled_from([None, "TCP", "UDP"]),
    host_ip=st.sampled_from([None, "0.0.0.0", "127.0.0.1"]),
)
quantities = st.dictionaries(
    st.sampled_from(["cpu", "memory", "x.io/a"]), st.sampled_from(["0", "1", "3", "7"]), max_size=3
)
containers = st.builds(
    lambda found, requests, policy: Container(
        name="c",
        image="x",
        ports=tuple(found) or None,
        resources=ResourceRequirements(requests=requests or None),
        restart_policy=policy,
    ),
    st.lists(ports, max_size=2),
    quantities,
    st.sampled_from([None, "Always"]),
)


@st.composite
def several_containers(draw):
    """A pod with regular containers, init containers and sidecars."""
    regular = draw(st.lists(containers, min_size=1, max_size=2))
    inits = draw(st.lists(containers, max_size=3))
    pod = a_pod("p", init_containers=tuple(inits) or None)
    named = tuple(
        replace(one, name=f"c{at}", restart_policy=None) for at, one in enumerate(regular)
    )
    return replace(pod, spec=replace(pod.spec, containers=named))


def with_port(init=False):
    """A pod with host port 80 of its only container or its only init container."""
    pod = a_pod("p")
    port = (ContainerPort(container_port=80, host_port=80),)
    if init:
        held = Container(name="i", image="x", ports=port)
        return replace(pod, spec=replace(pod.spec, init_containers=(held,)))
    held = replace(pod.spec.containers[0], ports=port)
    return replace(pod, spec=replace(pod.spec, containers=(held,)))


@often
@given(several_containers(), several_containers())
@example(with_port(init=True), with_port())
def test_pod_22_scheduler_kubelet_runtime_and_laws_agree_on_host_ports(pod, other):
    node = a_node(NAME, cpu="1k", memory="1Gi")
    node = replace(
        node, status=replace(node.status, allocatable={**node.status.allocatable, "x.io/a": "99"})
    )
    expected = oracle.have_conflict(oracle.host_ports(pod), oracle.host_ports(other))
    assert (scheduler_reason(pod, node, other) == "NodePorts") is expected
    assert (kubelet_reason(pod, node, other) == "NodePorts") is expected
    assert ("SCHED-8" in law_reasons(pod, node, other)) is expected
    mapped = [
        (one.host_port, one.protocol, one.host_ip or "0.0.0.0")
        for one in compute_port_mappings(pod)
    ]
    assert sorted(mapped) == sorted(oracle.host_ports(pod))


@often
@given(several_containers(), st.none() | quantities, st.none() | quantities)
def test_pod_23_scheduler_kubelet_validation_and_laws_agree_on_requests(pod, of_pod, overhead):
    total = {name: much for name, much in oracle.requests(pod).items() if much}
    in_billionths = {
        name: much * (10**6 if name == "cpu" else 10**9) for name, much in total.items()
    }
    assert {name: much for name, much in total_requests(pod.spec).items() if much} == in_billionths
    resources = None if of_pod is None else ResourceRequirements(requests=of_pod)
    pod = replace(pod, spec=replace(pod.spec, resources=resources, overhead=overhead))
    expected = {name: much for name, much in oracle.requests(pod).items() if much}
    assert {name: much for name, much in requests_of(pod).items() if much} == expected | {"pods": 1}
    needs = needs_of(pod)
    found = {"cpu": needs.cpu, "memory": needs.memory, **needs.extended}
    assert {name: much for name, much in found.items() if much} == expected


# --- status

conditions = st.builds(
    PodCondition,
    type=st.sampled_from(["Ready", "Initialized"]),
    status=st.sampled_from(["True", "False", "Unknown"]),
)


@given(
    st.sampled_from([None, "", "Pending", "Running", "Succeeded", "Failed", "Unknown"]),
    st.lists(conditions, max_size=3),
    st.booleans(),
)
@example(
    "Running",
    [PodCondition(type="Ready", status="False"), PodCondition(type="Ready", status="True")],
    False,
)
def test_pod_24_components_and_laws_agree_on_finished_active_and_ready(phase, found, going):
    pod = placed(a_pod("p"), NAME, "u", deletion_timestamp=ago(1) if going else None)
    pod = replace(pod, status=PodStatus(phase=phase, conditions=tuple(found) or None))
    assert is_finished(pod) is oracle.is_finished(pod)
    assert is_active(pod) is oracle.is_active(pod)
    assert is_ready(pod) is oracle.is_ready(pod)
    view = view_of(NodeLifecycle(), a_node(NAME), pod)
    assert bool(unready_pods(view, NAME)) is oracle.is_ready(pod)
