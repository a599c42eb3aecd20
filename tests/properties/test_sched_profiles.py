"""Profiles of the scheduler (spec/scheduler_profiles.md, SCHED-50 to SCHED-56), ImageLocality
(SCHED-45), limits of volumes (SCHED-44), and all plugins against a naive reference."""

from __future__ import annotations

import runpy
from itertools import chain
from pathlib import Path

import pytest
import sched_reference as naive
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from sched_worlds import (
    a_node,
    a_pod,
    a_service,
    affinities,
    an_owner,
    new_cluster,
    placed,
    terms,
    with_node,
    with_pod,
)
from test_sched import condition_of, pod_named, quiet
from test_sched_inter_pod import NAMESPACE_LABELS, NAMESPACES, must_be, selectors, tied_pods
from test_sched_inter_pod import some_nodes as tied_nodes
from test_sched_preemption import classed, names, with_classes
from test_sched_volumes import on, using
from test_vol import a_claim, a_volume, bound
from workload_helpers import change, stored, view_of

from refk8s.core.api.core_v1 import (
    ContainerImage,
    CSIPersistentVolumeSource,
    Namespace,
    NodeSelectorRequirement,
    NodeSelectorTerm,
    PodAffinityTerm,
    Taint,
    TopologySpreadConstraint,
)
from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.resources import EVENTS, NODES, PODS
from refk8s.core.api.storage_v1 import (
    CSINode,
    CSINodeDriver,
    CSINodeSpec,
    VolumeAttachment,
    VolumeAttachmentSource,
    VolumeAttachmentSpec,
    VolumeNodeResources,
)
from refk8s.core.context import SECOND
from refk8s.core.explain.pod import explain_pod
from refk8s.core.pods.volumes import BIND_COMPLETED
from refk8s.core.properties.predicates.scheduler import why_not, why_not_among
from refk8s.core.scheduler.arguments import Arguments, Strategy
from refk8s.core.scheduler.cycle import Scheduler, scheduler
from refk8s.core.scheduler.evaluation import judge
from refk8s.core.scheduler.placement import Chooser, choose
from refk8s.core.scheduler.plugin import BadPoints, ExternalPlugins
from refk8s.core.scheduler.profile import DEFAULT_PROFILE, FILTERS, WEIGHTS, make_profile
from refk8s.core.scheduler.scores import image_locality
from refk8s.core.scheduler.snapshot import facts_of, fold, info_of, recompute
from refk8s.core.scheduler.spreading import Groups
from refk8s.core.scheduler.volumes import volumes_of
from refk8s.core.scheduler_configuration.read import BadConfiguration, read_configuration

API = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
GPU = "example.com/gpu"
EXAMPLE = Path(__file__).resolve().parents[2] / "examples/scheduler_plugin.py"


def read(factories=None, **fields):
    return read_configuration({**API, **fields}, factories or {})


def of_plugin(name, **args):
    """A file with one profile, whose plugin has these arguments."""
    return {"profiles": [{"pluginConfig": [{"name": name, "args": args}]}]}


def with_plugins(**points):
    return {"profiles": [{"plugins": points}]}


# --- the file


def test_sched_50_without_fields_the_profile_is_the_default_one():
    found = read()
    (profile,) = found.profiles
    assert (profile.scheduler_name, profile.filters) == ("default-scheduler", frozenset(FILTERS))
    assert (profile.weights, profile.arguments) == (WEIGHTS, DEFAULT_PROFILE.arguments)
    assert profile.has_preemption and profile.plugins == ExternalPlugins()
    assert (found.backoff.first, found.backoff.longest) == (SECOND, 10 * SECOND)


def test_sched_50_the_times_of_the_back_off_are_those_of_the_file():
    backoff = read(podInitialBackoffSeconds=2, podMaxBackoffSeconds=5).backoff
    assert (backoff.first, backoff.longest) == (2 * SECOND, 5 * SECOND)


RATIO = {"type": "RequestedToCapacityRatio"}
SPREAD = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}
FIT = "profiles[0].pluginConfig[0].args.scoringStrategy"
ARGS = "profiles[0].pluginConfig[0].args"


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"foo": 1}, 'strict decoding error: unknown field "foo"'),
        ({"parallelism": 0}, "parallelism: Invalid value: 0: should be an integer value greater than zero"),
        ({"percentageOfNodesToScore": 101}, "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]"),
        ({"podInitialBackoffSeconds": 0}, "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0"),
        ({"podMaxBackoffSeconds": 0}, "podMaxBackoffSeconds: Invalid value: 0: must be greater than or equal to PodInitialBackoffSeconds"),
        ({"leaderElection": {"resourceLock": "endpoints"}}, 'leaderElection.resourceLock: Invalid value: "endpoints": resourceLock value must be "leases"'),
        ({"profiles": [{"schedulerName": "a"}, {"schedulerName": "a"}]}, 'profiles[1].schedulerName: Duplicate value: "profiles[0].schedulerName"'),
        ({"profiles": [{"schedulerName": "a"}, {}]}, "profiles[1].schedulerName: Required value"),
        ({"profiles": [{"percentageOfNodesToScore": -1}]}, "profiles[0].percentageOfNodesToScore: Invalid value: -1: not in valid range [0-100]"),
        (with_plugins(filter={"enabled": [{"name": "Foo"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: FilterPlugin "Foo" does not exist'),
        (with_plugins(multiPoint={"enabled": [{"name": "Foo"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: PreFilterPlugin "Foo" does not exist'),
        (with_plugins(bind={"enabled": [{"name": "NodePorts"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: plugin "NodePorts" does not extend BindPlugin plugin'),
        (with_plugins(filter={"enabled": [{"name": "NodePorts"}, {"name": "NodePorts"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: plugin "NodePorts" already registered as "FilterPlugin"'),
        (with_plugins(bind={"disabled": [{"name": "*"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: at least one bind plugin is needed for profile with scheduler name "default-scheduler"'),
        (with_plugins(queueSort={"disabled": [{"name": "*"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: only one queue sort plugin required for profile with scheduler name "default-scheduler", but got 0'),
        (with_plugins(preEnqueue={"disabled": [{"name": "*"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: plugin "SchedulingGates" cannot be disabled: the API server binds no pod with gates'),
        (with_plugins(reserve={"disabled": [{"name": "VolumeBinding"}]}), 'initializing profiles: creating profile for scheduler name default-scheduler: plugin "VolumeBinding" can only be disabled at all its extension points'),
        (with_plugins(score={"enabled": [{"name": "EBSLimits"}]}), 'profiles[0].plugins.score.enabled[0]: Invalid value: "EBSLimits": was invalid in version "kubescheduler.config.k8s.io/v1" (KubeSchedulerConfiguration is version "kubescheduler.config.k8s.io/v1")'),
        ({"profiles": [{"schedulerName": "a"}, {"schedulerName": "b", "plugins": {"queueSort": {"enabled": [{"name": "PrioritySort"}]}}}]}, 'profiles[1].plugins.queueSort: Invalid value: {"enabled":[{"name":"PrioritySort"}]}: must be the same for all profiles'),
        ({"profiles": [{"pluginConfig": [{"name": "NodeAffinity"}, {"name": "NodeAffinity"}]}]}, 'profiles[0].pluginConfig[1]: Duplicate value: "NodeAffinity"'),
        (of_plugin("NodePorts", a=1), "profiles[0].pluginConfig[0]: plugin NodePorts has no arguments here"),
        (of_plugin("NodeAffinity", kind="Foo"), "decoding .profiles[0].pluginConfig[0]: args for plugin NodeAffinity were not of type kubescheduler.config.k8s.io/v1, Kind=NodeAffinityArgs, got Foo"),
        (of_plugin("NodeAffinity", foo=1), 'decoding .profiles[0].pluginConfig[0]: decoding args for plugin NodeAffinity: strict decoding error: unknown field "foo"'),
        (of_plugin("NodeResourcesFit", scoringStrategy={"type": "Foo"}), f'{FIT}.type: Unsupported value: "Foo": supported values: "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"'),
        (of_plugin("NodeResourcesFit", scoringStrategy={"type": "MostAllocated", "resources": [{"name": "cpu", "weight": 101}]}), f"{FIT}.resources[0].weight: Invalid value: 101: resource weight of cpu not in valid range (0, 100]"),
        (of_plugin("NodeResourcesFit", scoringStrategy=RATIO), f"{FIT}.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio"),
        (of_plugin("NodeResourcesFit", scoringStrategy={**RATIO, "requestedToCapacityRatio": {}}), f"{FIT}.requestedToCapacityRatio.shape: Required value: at least one point must be specified"),
        (of_plugin("NodeResourcesFit", scoringStrategy={**RATIO, "requestedToCapacityRatio": {"shape": [{"utilization": 50, "score": 11}, {"utilization": 50, "score": 1}]}}), f"[{FIT}.requestedToCapacityRatio.shape[1].utilization: Invalid value: 50: values must be sorted in increasing order, {FIT}.requestedToCapacityRatio.shape[0].score: Invalid value: 11: not in valid range [0, 10]]"),
        (of_plugin("NodeResourcesFit", scoringStrategy={"type": "LeastAllocated", "requestedToCapacityRatio": {"shape": []}}), f"{FIT}.requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio"),
        (of_plugin("NodeResourcesFit", ignoredResourceGroups=["a/b"]), f"{ARGS}.ignoredResourceGroups[0]: Invalid value: \"a/b\": resource group name can't contain '/'"),
        (of_plugin("NodeResourcesBalancedAllocation", resources=[{"name": "cpu"}, {"name": "cpu", "weight": 2}]), f'[{ARGS}.resources[1].name: Duplicate value: "cpu", {ARGS}.resources[1].weight: Invalid value: 2: must be 1]'),
        (of_plugin("InterPodAffinity", hardPodAffinityWeight=101), f"{ARGS}.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"),
        (of_plugin("PodTopologySpread", defaultingType="Foo"), f'{ARGS}.defaultingType: Unsupported value: "Foo": supported values: "System", "List"'),
        (of_plugin("PodTopologySpread", defaultConstraints=[SPREAD]), f'{ARGS}.defaultingType: Invalid value: "System": when .defaultConstraints are not empty'),
        (of_plugin("PodTopologySpread", defaultingType="List", defaultConstraints=[{**SPREAD, "maxSkew": 0}]), f"{ARGS}.defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)"),
        (of_plugin("PodTopologySpread", defaultingType="List", defaultConstraints=[{**SPREAD, "labelSelector": {}}]), f"{ARGS}.defaultConstraints[0].labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod"),
        (of_plugin("PodTopologySpread", defaultingType="List", defaultConstraints=[SPREAD, SPREAD]), f'{ARGS}.defaultConstraints[1]: Duplicate value: "{{zone, ScheduleAnyway}}"'),
        (of_plugin("VolumeBinding", bindTimeoutSeconds=-1), f"{ARGS}.bindTimeoutSeconds: Invalid value: -1: invalid BindTimeoutSeconds, should not be a negative value"),
        (of_plugin("VolumeBinding", shape=[{"utilization": 0, "score": 1}]), f'{ARGS}.shape: Invalid value: [{{"score":1}}]: unexpected field `shape`, remove it or turn on the feature gate StorageCapacityScoring'),
        (of_plugin("DynamicResources", bindingTimeout="999ms"), f'{ARGS}.bindingTimeout: Invalid value: "999ms": must be at least 1 second'),
        (of_plugin("DynamicResources", filterTimeout="-1s"), f'{ARGS}.filterTimeout: Invalid value: "-1s": must be zero or positive'),
        (of_plugin("DynamicResources", bindingTimeout="x"), f'{ARGS}.bindingTimeout: Invalid value: "x": time: invalid duration "x"'),
        (of_plugin("DefaultPreemption", minCandidateNodesPercentage=0, minCandidateNodesAbsolute=0), f"[{ARGS}.minCandidateNodesPercentage: Invalid value: 0: cannot be zero at the same time as minCandidateNodesAbsolute, {ARGS}.minCandidateNodesAbsolute: Invalid value: 0: cannot be zero at the same time as minCandidateNodesPercentage]"),
    ],
)  # fmt: skip
def test_sched_54_what_cannot_be_followed_is_refused(fields, message):
    with pytest.raises(BadConfiguration) as refused:
        read(**fields)
    assert str(refused.value) == message


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 105) | st.sampled_from(["", "a", "cpu", "*"]),
    lambda inner: st.lists(inner, max_size=2)
    | st.dictionaries(
        st.sampled_from(
            ["schedulerName", "plugins", "pluginConfig", "name", "args", "weight", "enabled",
             "disabled", "score", "filter", "multiPoint", "scoringStrategy", "resources", "shape"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)  # fmt: skip


@given(st.lists(json_values, max_size=2), json_values)
def test_sched_54_any_document_is_a_configuration_or_is_refused_in_one_line(profiles, more):
    for tree in (more, {**API, "profiles": profiles}, {**API, "extenders": more}):
        try:
            read_configuration(tree, {})
        except BadConfiguration as refused:
            assert "\n" not in str(refused)


def test_sched_51_extension_points_enable_and_disable():
    """multiPoint is for all points, `*` for all plugins that the point does not enable itself."""

    def profile(**points):
        return read(**with_plugins(**points)).profiles[0]

    only_images = profile(
        score={"disabled": [{"name": "*"}], "enabled": [{"name": "ImageLocality", "weight": 5}]}
    )
    assert only_images.weights == {"ImageLocality": 5} and only_images.filters == set(FILTERS)
    without = profile(multiPoint={"disabled": [{"name": "NodeAffinity"}]})
    assert "NodeAffinity" not in without.filters | set(without.weights)
    again = profile(multiPoint={"enabled": [{"name": "TaintToleration"}]})
    assert again.weights == WEIGHTS | {"TaintToleration": 1}, "a new entry has its own weight"
    both = profile(
        multiPoint={"enabled": [{"name": "NodeAffinity", "weight": 4}]},
        score={"enabled": [{"name": "NodeAffinity", "weight": 7}]},
    )
    assert both.weights["NodeAffinity"] == 7
    assert not profile(postFilter={"disabled": [{"name": "*"}]}).has_preemption
    bare = profile(preFilter={"disabled": [{"name": "NodePorts"}]})
    assert "NodePorts" not in bare.filters
    assert "NodeAffinity" not in profile(preScore={"disabled": [{"name": "NodeAffinity"}]}).weights


@pytest.mark.parametrize("name", FILTERS)
def test_sched_51_a_disabled_filter_rejects_no_node(name):
    """A node that every filter of nodes and pods rejects."""
    profile = make_profile(filters=[name])
    reasons = {
        one for checks in (profile.by_node, profile.by_load, profile.related) for one, _ in checks
    }
    assert reasons <= {name}


def test_sched_51_without_preemption_nobody_is_deleted_and_the_message_does_not_mention_it():
    profile = make_profile(has_preemption=False)
    cluster = with_node(with_classes(new_cluster(scheduler((profile,)))), a_node("n", cpu="1"))
    cluster = quiet(with_pod(cluster, classed("first", "low", "1")))
    cluster = quiet(with_pod(cluster, classed("vip", "high", "1")))
    assert names(cluster) == ["first", "vip"]
    message = condition_of(cluster, "vip").message
    assert message == "0/1 nodes are available: 1 Insufficient cpu."


# --- profiles


def test_sched_50_each_profile_has_its_own_pods_and_none_the_others():
    """Two profiles share the room; the third name is left alone. Shows SCHED-50.b."""
    packing = make_profile("packing", arguments=Arguments(strategy=Strategy("MostAllocated")))
    cluster = new_cluster(scheduler((DEFAULT_PROFILE, packing)))
    for name in ("a", "b"):
        cluster = with_node(cluster, a_node(name, cpu="4"))
    cluster = quiet(with_pod(cluster, a_pod("first", {"cpu": "1"})))
    names = {"spread": "default-scheduler", "packed": "packing", "foreign": "other"}
    for name, of_profile in names.items():
        cluster = with_pod(cluster, a_pod(name, {"cpu": "1"}, scheduler_name=of_profile))
    cluster = quiet(cluster)
    nodes = {pod.metadata.name: pod.spec.node_name for pod in stored(cluster, PODS)}
    assert nodes["spread"] != nodes["first"] and nodes["packed"] in ("a", "b")
    assert nodes["foreign"] is None and not pod_named(cluster, "foreign").status.conditions
    sources = {
        event.involved_object.name: event.reporting_component
        for event in stored(cluster, EVENTS)
        if event.reason == "Scheduled"
    }
    assert sources == {
        "first": "default-scheduler",
        "spread": "default-scheduler",
        "packed": "packing",
    }


def test_sched_50_two_profiles_never_use_the_same_room():
    cluster = with_node(
        new_cluster(scheduler((DEFAULT_PROFILE, make_profile("other")))), a_node("n", cpu="1")
    )
    for name, of_profile in (("a", "default-scheduler"), ("b", "other")):
        cluster = with_pod(cluster, a_pod(name, {"cpu": "1"}, scheduler_name=of_profile))
    cluster = quiet(cluster)
    assert sorted(bool(pod.spec.node_name) for pod in stored(cluster, PODS)) == [False, True]


# --- scores and filters of all plugins against the naive reference

shapes = st.lists(
    st.tuples(st.integers(0, 100), st.integers(0, 10)), min_size=1, max_size=3,
    unique_by=lambda point: point[0],
).map(lambda points: tuple(sorted(points)))  # fmt: skip
resources = st.lists(
    st.tuples(st.sampled_from(["cpu", "memory", "ephemeral-storage", GPU]), st.integers(1, 3)),
    min_size=1, max_size=3, unique_by=lambda one: one[0],
).map(tuple)  # fmt: skip
strategies = st.builds(
    Strategy,
    st.sampled_from(["LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"]),
    resources,
    shapes,
)
default_constraints = st.lists(
    st.builds(
        lambda key, skew, when: TopologySpreadConstraint(
            topology_key=key, max_skew=skew, when_unsatisfiable=when
        ),
        st.sampled_from([naive.HOST, naive.ZONE]), st.integers(1, 3),
        st.sampled_from(["DoNotSchedule", "ScheduleAnyway"]),
    ),
    max_size=2,
).map(tuple)  # fmt: skip
zone_term = NodeSelectorTerm(
    match_expressions=(NodeSelectorRequirement(key=naive.ZONE, operator="Exists"),)
)
arguments = st.builds(
    Arguments,
    strategy=st.just(Strategy()) | strategies,
    balanced=st.lists(st.sampled_from(["cpu", "memory", "ephemeral-storage", GPU]), min_size=1, max_size=4, unique=True).map(tuple),
    added_terms=st.sampled_from([None, None, (zone_term,)]),
    added_preferences=st.lists(st.tuples(st.integers(1, 100), terms), max_size=1).map(tuple),
    hard_pod_affinity_weight=st.sampled_from([0, 1, 50]),
    ignores_preferences_of_existing=st.booleans(),
    default_constraints=st.none() | default_constraints,
)  # fmt: skip
images = st.lists(
    st.builds(
        lambda names, size: ContainerImage(names=tuple(names), size_bytes=size),
        st.sampled_from([["x:latest"], ["y:1", "z:1"]]),
        st.sampled_from([1 << 20, 100 << 20, 900 << 20, 3000 << 20]),
    ),
    max_size=2, unique_by=lambda image: image.names,
).map(tuple)  # fmt: skip
requested = st.fixed_dictionaries(
    {},
    optional={
        "cpu": st.sampled_from(["250m", "1", "3"]),
        "memory": st.sampled_from(["256Mi", "2Gi"]),
        "ephemeral-storage": st.sampled_from(["1Gi"]),
        GPU: st.just("1"),
    },
)


soft_taints = st.lists(
    st.sampled_from([Taint(key=key, effect="PreferNoSchedule") for key in "ab"]), max_size=2, unique=True
)  # fmt: skip


@st.composite
def whole_pods(draw, uid: str):
    """A pod with requests, perhaps an owner, node affinity and inter-pod terms."""
    pod = draw(tied_pods())
    affinity = pod.spec.affinity
    if draw(st.booleans()):
        of_nodes = draw(affinities()).node_affinity
        affinity = replace(affinity, node_affinity=of_nodes) if affinity else None
    (container,) = pod.spec.containers
    given_image = draw(st.sampled_from(["x", "x", "z:1"]))
    container = replace(
        container,
        image=given_image,
        resources=replace(container.resources, requests=draw(requested) or None),
    )
    spec = replace(pod.spec, affinity=affinity, containers=(container,))
    metadata = replace(pod.metadata, name=uid)
    return replace(pod, spec=spec, metadata=metadata), draw(st.sampled_from(["", "", "rs"]))


@st.composite
def whole_worlds(draw):
    """(nodes, the pods on them, the pod that comes)"""
    nodes = []
    for node in draw(tied_nodes):
        allocatable = {
            "cpu": draw(st.sampled_from(["2", "8"])), "memory": draw(st.sampled_from(["4Gi", "16Gi"])),
            "ephemeral-storage": "10Gi", "pods": "99",
            **draw(st.sampled_from([{}, {GPU: "4"}])),
        }  # fmt: skip
        status = replace(node.status, allocatable=allocatable, images=draw(images) or None)
        taints = (*(node.spec.taints or ()), *draw(soft_taints)) or None
        nodes.append(replace(node, status=status, spec=replace(node.spec, taints=taints)))
    pods = []
    for at in range(draw(st.integers(0, 4))):
        pod, owner = draw(whole_pods(f"u{at}"))
        where = nodes[draw(st.integers(0, 9)) % len(nodes)].metadata.name
        pods.append(placed(pod, where, f"u{at}", owner))
    pod, owner = draw(whole_pods("p"))
    return nodes, pods, placed(pod, "", "p", owner)


spread_together = st.tuples(
    st.lists(
        st.builds(
            lambda name, namespace, app: a_service(name, namespace, **({"app": app} if app else {})),
            st.sampled_from("st"), st.sampled_from(["default", "default", "b"]), st.sampled_from(["", "a", "b"]),
        ),
        max_size=2, unique_by=lambda one: (one.metadata.name, one.metadata.namespace),
    ),
    st.lists(
        st.builds(
            lambda namespace, selector: an_owner("rs", selector, namespace),
            st.sampled_from(["default", "default", "b"]), selectors.filter(bool),
        ),
        max_size=1,
    ),
)  # fmt: skip
"""The Services, and the ReplicaSets that pods have as owners."""


@given(whole_worlds(), arguments, spread_together)
def test_sched_12_to_sched_15_sched_27_sched_33_sched_34_sched_45_sched_52_sched_53_all_plugins_agree_with_the_naive_reference(
    world, given_arguments, selecting
):
    """The same nodes can run the pod, each plugin gives the same points, and the chosen node has
    the most. Shows EXPLAIN-1.b, SCHED-27.b, SCHED-27.c, SCHED-27.d."""
    nodes, pods, pod = world
    profile = make_profile(arguments=given_arguments)
    group = naive.group_of(pod, *selecting)
    feasible = [
        node
        for node in nodes
        if not why_not(pod, node, naive.on(node, pods))
        and not why_not_among(pod, node, nodes, pods, NAMESPACE_LABELS)
        and naive.is_enforced(node, given_arguments)
        and naive.default_skew(pod, node, nodes, pods, given_arguments, group)
    ]
    view = view_of(
        Scheduler((profile,)), *nodes, *pods, pod, *NAMESPACES.values(), *chain(*selecting)
    )
    key = f"{pod.metadata.namespace}/{pod.metadata.name}"
    account = explain_pod(view, key, {profile.scheduler_name: profile})
    able = {one.name: one for one in account.nodes if not one.refusals}
    assert set(able) == {node.metadata.name for node in feasible}
    snapshot = recompute(nodes, pods)
    info = Groups().of(view, info_of(pod))
    name, refusals = choose(info, snapshot, NAMESPACES, profile=profile)
    cached = Chooser(profile).choose(info, snapshot, NAMESPACES)
    assert cached[0] == name and (name or dict(cached[1]) == dict(refusals))
    assert account.best == (name or "")
    if not feasible:
        return
    expected = naive.all_points(
        pod, feasible, nodes, pods, NAMESPACE_LABELS, given_arguments, group
    )
    for one in able.values():
        assert {each.plugin: each.points for each in one.points} == {
            plugin: of_node[one.name] for plugin, of_node in expected.items()
        } | {"DynamicResources": 0}
        assert one.total == sum(WEIGHTS[each.plugin] * each.points for each in one.points)
    assert able[name].total == max(one.total for one in able.values())


@given(whole_worlds(), arguments, spread_together, st.data())
def test_sched_17_rankings_of_any_profile_give_the_plain_answer(
    world, given_arguments, selecting, data
):
    """Nodes and pods change between decisions; the cache of each profile follows."""
    nodes, pods, pod = world
    profile = make_profile(arguments=given_arguments)
    chooser, snapshot = Chooser(profile), recompute(nodes, [])
    groups, view = Groups(), view_of(Scheduler((profile,)), *chain(*selecting))
    for coming in [*pods, pod]:
        other = groups.of(view, info_of(coming))
        node = data.draw(st.sampled_from(nodes))
        with_images = replace(node, status=replace(node.status, images=data.draw(images) or None))
        snapshot = snapshot.with_node(node.metadata.name, facts_of(with_images))
        name, refusals = chooser.choose(other, snapshot, NAMESPACES)
        expected, plain = choose(other, snapshot, NAMESPACES, profile=profile)
        assert name == expected and (name or {k: n for k, n in refusals.items() if n} == plain)
        if name is not None:
            snapshot = snapshot.with_load(name, snapshot.load(name).plus(other))


@example([("d", "far", "blue"), *[("d", "far", "red")] * 4], True)
@given(
    st.lists(
        st.tuples(st.sampled_from("abcd"), st.sampled_from(["near", "far", "even", "plain"]),
                  st.sampled_from(["red", "blue"])),
        min_size=1, max_size=12,
    ),
    st.booleans(),
)  # fmt: skip
def test_sched_17_groups_of_nodes_with_equal_topology_give_the_plain_answer(steps, shares_a_name):
    """Pods of four templates come and go; anti-affinity is by host name, the rest by zone."""
    nodes = [
        a_node(name, cpu="64", labels={naive.ZONE: zone, "kubernetes.io/hostname": host})
        for name, zone, host in (
            ("a", "1", "a"), ("b", "1", "b"), ("c", "2", "a" if shares_a_name else "c"), ("d", "3", "d"),
        )
    ]  # fmt: skip
    chooser, snapshot = Chooser(), recompute(nodes, [])
    for number, (leaver, kind, color) in enumerate(steps):
        selector = LabelSelector(match_labels={"color": color})
        term = PodAffinityTerm(label_selector=selector, topology_key=naive.ZONE)
        far = PodAffinityTerm(label_selector=selector, topology_key=naive.HOST)
        skew = TopologySpreadConstraint(
            label_selector=selector, topology_key=naive.ZONE, max_skew=1,
            when_unsatisfiable="DoNotSchedule",
        )  # fmt: skip
        parts = {
            "near": {"affinity": must_be([term])}, "far": {"affinity": must_be(far_terms=[far])},
            "even": {"topology_spread_constraints": (skew,)}, "plain": {},
        }[kind]  # fmt: skip
        pod = info_of(
            placed(a_pod("p", {"cpu": "1"}, **parts), "", f"u{number}", labels={"color": color})
        )
        name, refusals = chooser.choose(pod, snapshot, {})
        expected, plain = choose(pod, snapshot, {})
        assert name == expected
        if name is None:
            assert {each: count for each, count in refusals.items() if count} == plain
        else:
            snapshot = snapshot.with_load(name, snapshot.load(name).plus(pod))
        load = snapshot.load(leaver)
        if number % 3 == 2 and leaver != "d" and load.pods:
            snapshot = snapshot.with_load(leaver, load.minus(load.pods[min(load.pods)]))


def test_sched_17_namespaces_that_a_term_begins_to_select_count_at_once():
    """No node has changed, only the labels of a namespace."""
    far = PodAffinityTerm(
        label_selector=LabelSelector(),
        topology_key=naive.HOST,
        namespace_selector=LabelSelector(match_labels={"team": "b"}),
    )
    near = PodAffinityTerm(label_selector=LabelSelector(), topology_key=naive.ZONE)
    nodes = [a_node(name, labels={naive.ZONE: "1"}) for name in "ab"]
    there = [placed(a_pod("q"), "b", "q"), placed(a_pod("r"), "b", "r", namespace="c")]
    there.append(placed(a_pod("s"), "a", "s", namespace="d"))
    snapshot = recompute(nodes, there)
    pod = info_of(a_pod("p", affinity=must_be([near], [far])))
    chooser = Chooser()
    for selected in ((), ("d",), ("c",), ("c", "d"), ()):
        found = {
            name: Namespace(
                metadata=ObjectMeta(name=name, labels={"team": "b"} if name in selected else None)
            )
            for name in ("default", "c", "d")
        }
        assert chooser.choose(pod, snapshot, found)[0] == choose(pod, snapshot, found)[0]


def test_sched_52_a_strategy_packs_or_spreads():
    """3 of 4 CPUs with the pod give 75 points."""
    nodes = [a_node("a", cpu="4"), a_node("b", cpu="4")]
    there = placed(a_pod("q", {"cpu": "2", "memory": "2Gi"}), "a", "q")
    pod = info_of(a_pod("p", {"cpu": "1", "memory": "1Gi"}))
    for kind, chosen in (("LeastAllocated", "b"), ("MostAllocated", "a")):
        profile = make_profile(
            weights={"NodeResourcesFit": 1}, arguments=Arguments(strategy=Strategy(kind))
        )
        assert choose(pod, recompute(nodes, [there]), profile=profile)[0] == chosen
    packed = Arguments(strategy=Strategy("MostAllocated", (("cpu", 1),)))
    ((_, _, points),) = make_profile(weights={"NodeResourcesFit": 1}, arguments=packed).local
    snapshot = recompute(nodes, [there])
    assert points(pod.needs, snapshot.nodes["a"], snapshot.load("a")) == 75


def test_sched_53_ignored_resources_are_not_checked():
    node = a_node("n")
    for asked, allowed in ((GPU, True), ("example.com/x", True), ("other.com/x", False)):
        profile = make_profile(
            arguments=Arguments(ignored_resources=(GPU,), ignored_groups=("example.com",))
        )
        pod = info_of(a_pod("p", {asked: "1"}))
        assert (judge(pod, "n", recompute([node], []), {}, profile) is None) == allowed
        assert judge(pod, "n", recompute([node], []), {}) is not None


def test_sched_53_added_affinity_is_named_in_the_message():
    profile = make_profile(arguments=Arguments(added_terms=(zone_term,)))
    refusal = judge(info_of(a_pod("p")), "n", recompute([a_node("n")], []), {}, profile)
    assert refusal.messages == ("node(s) didn't match scheduler-enforced node affinity",)
    assert not refusal.resolvable


# --- images


def test_sched_45_images_count_by_their_share_of_all_nodes():
    """1000 MiB on half of all nodes: 48 points."""
    size = 1000 << 20
    assert image_locality.points((("x:latest", size),), 1, {"x:latest": 2}, 4) == 48
    assert image_locality.points((("x:latest", 23 << 20),), 1, {"x:latest": 4}, 4) == 0
    assert image_locality.points((("x:latest", size),), 1, {"x:latest": 4}, 4) == 100
    assert image_locality.points((("x:latest", size),), 2, {"x:latest": 4}, 4) == 49
    images_here = (ContainerImage(names=("x:latest",), size_bytes=size),)
    nodes = [a_node(name) for name in ("n0", "n1")]
    nodes[1] = replace(nodes[1], status=replace(nodes[1].status, images=images_here))
    assert Chooser().choose(info_of(a_pod("p")), recompute(nodes, []))[0] == "n1"


@given(st.lists(st.tuples(st.integers(0, 2), st.none() | images), max_size=8))
def test_sched_3_sched_45_the_counts_of_images_are_those_computed_from_scratch(changes):
    nodes: dict = {}
    snapshot = recompute([], [])
    for which, found in changes:
        name = f"n{which}"
        old = nodes.pop(name, None)
        if found is not None:
            node = a_node(name)
            nodes[name] = replace(node, status=replace(node.status, images=found))
        new = nodes.get(name)
        if old is not None or new is not None:
            snapshot = fold(snapshot, NODES, old, new)
    assert dict(snapshot.images) == dict(recompute(nodes.values(), []).images)


# --- volumes

DRIVER = "csi.example.com"
DONE = {BIND_COMPLETED: "yes"}


def csi_node(limit: int | None) -> CSINode:
    allocatable = VolumeNodeResources(count=limit) if limit is not None else None
    driver = CSINodeDriver(name=DRIVER, node_id="n", allocatable=allocatable)
    return CSINode(metadata=ObjectMeta(name="n"), spec=CSINodeSpec(drivers=(driver,)))


def csi_volume(name: str):
    csi = CSIPersistentVolumeSource(driver=DRIVER, volume_handle=f"handle-{name}")
    return change(a_volume(name), csi=csi, host_path=None)


def attachment(name: str, node: str = "n"):
    source = VolumeAttachmentSource(persistent_volume_name=name)
    spec = VolumeAttachmentSpec(attacher=DRIVER, node_name=node, source=source)
    return VolumeAttachment(metadata=ObjectMeta(name=f"{name}-{node}"), spec=spec)


@given(
    st.none() | st.integers(0, 3),
    st.lists(st.lists(st.sampled_from("abc"), max_size=2, unique=True), max_size=3),
    st.lists(st.sampled_from("abc"), min_size=1, max_size=3, unique=True),
    st.lists(st.tuples(st.sampled_from("abcd"), st.sampled_from("nm")), max_size=3, unique=True),
)
def test_sched_44_a_node_has_at_most_as_many_volumes_as_its_driver_says(
    limit, there, wanted, attachments
):
    """Shows SCHED-44.b. There is no volume d."""
    claims = [bound(a_claim(one, volume=f"v{one}", annotations=DONE)) for one in "abc"]
    volumes = [csi_volume(f"v{one}") for one in "abc"]
    pods = [using(*names, name=f"q{at}", node_name="n") for at, names in enumerate(there)]
    pod, node = using(*wanted), a_node("n")
    more = [attachment(f"v{one}", where) for one, where in attachments]
    view = view_of(Scheduler(), pod, node, *pods, *claims, *volumes, *more, csi_node(limit))
    load = view.fold("truth").load("n")
    found = volumes_of(view, info_of(pod)).refusal(facts_of(node), load)
    attached = {one for names in there for one in names}
    attached |= {one for one, where in attachments if where == "n" and one != "d"}
    new = set(wanted) - attached
    too_many = limit is not None and bool(new) and len(attached | new) > limit
    assert (found is not None) == too_many
    if found is not None:
        assert found.messages == ("node(s) exceed max volume count",)


def _important(*names):
    return using(*names, priority=5)


def _of_low(account):
    """The nodes where preemption would help, with the victims there."""
    return {each.node: [key for key, _ in each.victims] for each in account.candidates}


@pytest.mark.parametrize("is_attached", [False, True])
def test_sched_35_sched_44_preemption_frees_volumes_that_are_not_attached(is_attached):
    """The limit of the node is one volume, and a less important pod has it."""
    claims = [bound(a_claim(one, volume=f"v{one}", annotations=DONE)) for one in "ab"]
    volumes = [csi_volume(f"v{one}") for one in "ab"]
    low, free = using("a", name="low", node_name="n"), using(name="free", node_name="n")
    more = [attachment("va")] if is_attached else []
    objects = (a_node("n"), low, free, *claims, *volumes, csi_node(1), *more)
    view = view_of(Scheduler(), _important("b"), *objects)
    account = explain_pod(view, "default/p", {"default-scheduler": DEFAULT_PROFILE})
    assert [one.plugin for one in account.nodes[0].refusals] == ["NodeVolumeLimits"]
    assert _of_low(account) == ({} if is_attached else {"n": ["default/low"]})


def test_sched_35_sched_41_preemption_frees_a_claim_for_one_pod_on_its_node():
    claim = bound(access_modes=("ReadWriteOncePod",))
    volume = a_volume(modes=("ReadWriteOncePod",))
    low, free = using("c", name="low", node_name="n"), using(name="free", node_name="m")
    view = view_of(Scheduler(), _important("c"), a_node("n"), a_node("m"), low, free, claim, volume)
    account = explain_pod(view, "default/p", {"default-scheduler": DEFAULT_PROFILE})
    assert {one.plugin for each in account.nodes for one in each.refusals} == {"VolumeRestrictions"}
    assert _of_low(account) == {"n": ["default/low"]}


def test_sched_35_nobody_is_deleted_on_a_node_that_does_not_reach_the_volumes():
    """The node is full, and the volume is on another one."""
    low = a_pod("low", {"cpu": "2"}, node_name="n0")
    low = replace(low, metadata=replace(low.metadata, uid="low"))
    pod = using("c", containers=a_pod("p", {"cpu": "2"}).spec.containers, priority=5)
    objects = (a_node("n0"), low, pod, bound(), on(a_volume(), "n1"))
    view = view_of(Scheduler(), *objects)
    account = explain_pod(view, "default/p", {"default-scheduler": DEFAULT_PROFILE})
    assert [one.plugin for one in account.nodes[0].refusals] == [
        "NodeResourcesFit",
        "VolumeBinding",
    ]
    assert account.nodes[0].refusals[0].resolvable and not account.candidates
    assert "didn't match PersistentVolume's node affinity" in account.message


# --- plugins of other packages


Team = runpy.run_path(str(EXAMPLE))["Team"]


class Wild(Team):
    def normalize(self, scores):
        return dict.fromkeys(scores, 101)


def profile_with(plugin):
    return read(
        {"Team": lambda args: plugin},
        **with_plugins(multiPoint={"enabled": [{"name": "Team", "weight": 30}]}),
    ).profiles[0]


def test_sched_56_a_plugin_filters_and_scores():
    profile = profile_with(Team(None))
    nodes = [a_node("a", labels={"team": "x"}), a_node("b", labels={"team": "x"}), a_node("c")]
    cluster = new_cluster(scheduler((profile,)))
    for node in nodes:
        cluster = with_node(cluster, node)
    for name, team in (("free", None), ("bound", "x"), ("lost", "y")):
        pod = a_pod(name)
        labels = {"team": team} if team else None
        cluster = quiet(
            with_pod(cluster, replace(pod, metadata=replace(pod.metadata, labels=labels)))
        )
    found = {pod.metadata.name: pod.spec.node_name for pod in stored(cluster, PODS)}
    assert found["lost"] is None and found["bound"] in ("a", "b") and found["free"]
    assert found["free"] != found["bound"], "the node with fewer pods is preferred"
    message = condition_of(cluster, "lost").message
    assert message.startswith("0/3 nodes are available: 3 node(s) of another team.")


def test_sched_56_points_outside_their_range_fail_only_this_decision():
    profile = profile_with(Wild(None))
    with pytest.raises(BadPoints, match="invalid score 101 for node a"):
        choose(info_of(a_pod("p")), recompute([a_node("a")], []), profile=profile)


def test_sched_56_a_plugin_that_cannot_be_made_is_refused():
    def broken(args):
        raise ValueError(f"no {args}")

    with pytest.raises(BadConfiguration, match='initializing plugin "Team": no None'):
        read({"Team": broken}, **with_plugins(filter={"enabled": [{"name": "Team"}]}))
    with pytest.raises(BadConfiguration, match='FilterPlugin "Team" does not exist'):
        read(**with_plugins(filter={"enabled": [{"name": "Team"}]}))
    assert read({"Team": broken}).profiles[0].plugins == ExternalPlugins(), (
        "one that is not enabled is not made"
    )
