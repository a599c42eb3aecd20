"""What the configuration file of the scheduler sets, field by field and at every boundary, beside a
plain reading of SCHED-50 to SCHED-54 and SCHED-57 (spec/scheduler_profiles.md)."""

from __future__ import annotations

import pytest

from refk8s.core.api.core_v1 import NodeSelectorTerm, PreferredSchedulingTerm
from refk8s.core.context import SECOND
from refk8s.core.ports import Tls
from refk8s.core.scheduler.arguments import Arguments, Strategy
from refk8s.core.scheduler.extenders import Extender
from refk8s.core.scheduler.plugin import NO_PLUGINS
from refk8s.core.scheduler.profile import FILTERS, WEIGHTS
from refk8s.core.scheduler_configuration.extenders import TlsFiles
from refk8s.core.scheduler_configuration.read import BadConfiguration, read_configuration
from refk8s.core.scheduler_configuration.types import ClientConnection, LeaderElection

API = {"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration"}
ARGS = "profiles[0].pluginConfig[0].args"


def read(factories=None, **fields):
    return read_configuration({**API, **fields}, factories or {})


def why_not(factories=None, **fields):
    with pytest.raises(BadConfiguration) as refused:
        read(factories, **fields)
    return str(refused.value)


def with_args(name, **args):
    return {"profiles": [{"pluginConfig": [{"name": name, "args": args}]}]}


def arguments(name, **args):
    (profile,) = read(**with_args(name, **args)).profiles
    return profile.arguments


def why_not_args(name, **args):
    return why_not(**with_args(name, **args))


def plugins(**points):
    return read(profiles=[{"plugins": points}]).profiles[0]


def why_not_plugins(**points):
    words = why_not(profiles=[{"plugins": points}])
    start = "initializing profiles: creating profile for scheduler name default-scheduler: "
    return words.removeprefix(start)


# --- the document ---------------------------------------------------------------------------------


def test_sched_54_the_document_must_be_of_this_kind_and_version():
    kind, version = API["kind"], API["apiVersion"]
    for tree in (None, [], "x", 5):
        with pytest.raises(BadConfiguration) as refused:
            read_configuration(tree, {})
        assert str(refused.value) == f"must be a document of kind {kind}, {version}"
    for tree, shown in (
        ({"kind": "Pod", "apiVersion": "v1"}, ("Pod", "v1")),
        ({"kind": kind, "apiVersion": "v1"}, (kind, "v1")),
        ({"kind": "Pod", "apiVersion": version}, ("Pod", version)),
        ({}, (None, None)),
    ):
        with pytest.raises(BadConfiguration) as refused:
            read_configuration(tree, {})
        assert str(refused.value) == (
            f'no kind "{shown[0]}" is registered for version "{shown[1]}": must be {kind}, {version}'
        )
    words = 'strict decoding error: unknown field "profiles[0].x"'
    assert why_not(profiles=[{"x": 1}]) == words
    assert why_not(parallelism="x") == (
        "json: cannot unmarshal string into Go struct field "
        "KubeSchedulerConfiguration.parallelism of type int32"
    )


def test_sched_50_every_field_of_the_file():
    found = read(
        parallelism=1,
        percentageOfNodesToScore=100,
        enableProfiling=True,
        leaderElection={"leaderElect": True, "resourceLock": "leases", "leaseDuration": "9s"},
        clientConnection={"kubeconfig": "/k", "qps": 7, "burst": 9},
        profiles=[{"schedulerName": "a", "percentageOfNodesToScore": 0}, {"schedulerName": "b"}],
    )
    assert found.leader_election == LeaderElection(
        leader_elect=True, resource_lock="leases", lease_duration="9s"
    )
    assert found.client_connection == ClientConnection(kubeconfig="/k", qps=7, burst=9)
    assert [one.scheduler_name for one in found.profiles] == ["a", "b"]
    bare = read()
    assert bare.leader_election == LeaderElection() and bare.client_connection == ClientConnection()
    assert (bare.extenders, bare.tls_files) == ((), ())
    assert read(profiles=[{}]).profiles[0].scheduler_name == "default-scheduler"
    assert read(profiles=[{"schedulerName": "x"}]).profiles[0].scheduler_name == "x"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"parallelism": -1},
            "parallelism: Invalid value: -1: should be an integer value greater than zero",
        ),
        (
            {"percentageOfNodesToScore": -1},
            "percentageOfNodesToScore: Invalid value: -1: not in valid range [0-100]",
        ),
        (
            {"podInitialBackoffSeconds": -1},
            "podInitialBackoffSeconds: Invalid value: -1: must be greater than 0",
        ),
        (
            {"podInitialBackoffSeconds": 604801, "podMaxBackoffSeconds": 604801},
            "podInitialBackoffSeconds: Invalid value: 604801: must be at most 604800",
        ),
        (
            {"podInitialBackoffSeconds": 11},
            "podMaxBackoffSeconds: Invalid value: 10: must be greater than or equal to PodInitialBackoffSeconds",
        ),
        (
            {"delayCacheUntilActive": True},
            "delayCacheUntilActive: Forbidden: a candidate watches from its start",
        ),
        ({"profiles": [{"schedulerName": ""}]}, "profiles[0].schedulerName: Required value"),
        (
            {"profiles": [{"schedulerName": "a"}, {"schedulerName": "b"}, {"schedulerName": "b"}]},
            'profiles[2].schedulerName: Duplicate value: "profiles[1].schedulerName"',
        ),
        (
            {"profiles": [{"schedulerName": f"s{at}"} for at in range(65)]},
            "profiles: Invalid value: 65: at most 64 profiles",
        ),
        (
            {"profiles": [{"pluginConfig": [{"name": "EBSLimits"}]}]},
            'profiles[0].pluginConfig[0]: Invalid value: "EBSLimits": was invalid in version "kubescheduler.config.k8s.io/v1" (KubeSchedulerConfiguration is version "kubescheduler.config.k8s.io/v1")',
        ),
        (
            {
                "profiles": [
                    {
                        "plugins": {
                            "preFilter": {
                                "enabled": [{"name": "NodePorts"}, {"name": "CinderLimits"}]
                            }
                        }
                    }
                ]
            },
            'profiles[0].plugins.preFilter.enabled[1]: Invalid value: "CinderLimits": was invalid in version "kubescheduler.config.k8s.io/v1" (KubeSchedulerConfiguration is version "kubescheduler.config.k8s.io/v1")',
        ),
        (
            {
                "profiles": [
                    {
                        "plugins": {
                            "queueSort": {"enabled": [{"name": "PrioritySort"}, {"name": "X"}]}
                        }
                    }
                ]
            },
            "profiles[0].plugins.queueSort.Enabled: Invalid value: 2: only one queue sort plugin can be enabled",
        ),
    ],
)
def test_sched_54_what_the_file_must_not_say(fields, words):
    assert why_not(**fields) == words


def test_sched_54_the_boundaries_are_accepted_and_all_that_is_wrong_is_named():
    assert len(read(profiles=[{"schedulerName": f"s{at}"} for at in range(64)]).profiles) == 64
    most = read(podInitialBackoffSeconds=604800, podMaxBackoffSeconds=10**6).backoff
    assert (most.first, most.longest) == (604800 * SECOND, 604800 * SECOND)
    equal = read(podInitialBackoffSeconds=10).backoff
    assert (equal.first, equal.longest) == (10 * SECOND, 10 * SECOND)
    least = read(podMaxBackoffSeconds=1).backoff
    assert (least.first, least.longest) == (SECOND, SECOND)
    assert why_not(parallelism=0, percentageOfNodesToScore=101) == (
        "[parallelism: Invalid value: 0: should be an integer value greater than zero, "
        "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]]"
    )


# --- arguments ------------------------------------------------------------------------------------


def test_sched_50_without_arguments_the_defaults_hold():
    for name in (
        "NodeResourcesFit",
        "NodeResourcesBalancedAllocation",
        "NodeAffinity",
        "InterPodAffinity",
        "PodTopologySpread",
        "VolumeBinding",
        "DynamicResources",
        "DefaultPreemption",
    ):
        assert arguments(name) == Arguments(), name
        assert arguments(name, kind=f"{name}Args", apiVersion=API["apiVersion"]) == Arguments()
        words = f'decoding .profiles[0].pluginConfig[0]: decoding args for plugin {name}: no kind "{name}Args" is registered for version "v1"'
        assert why_not_args(name, apiVersion="v1") == words
        (profile,) = read(profiles=[{"pluginConfig": [{"name": name}]}]).profiles
        assert profile.arguments == Arguments()
    here = "decoding .profiles[0].pluginConfig[0]: "
    decoding = f"{here}decoding args for plugin NodeAffinity: "
    wrong = "json: cannot unmarshal number into Go "
    words = why_not(profiles=[{"pluginConfig": [{"name": "NodeAffinity", "args": 5}]}])
    assert words.startswith(f"{decoding}{wrong}value of type")
    assert why_not_args("NodeAffinity", addedAffinity=5) == (
        f"{decoding}{wrong}struct field NodeAffinityArgs.addedAffinity of type v1.NodeAffinity"
    )
    assert why_not_args("NodeAffinity", x=1) == (
        f'{decoding}strict decoding error: unknown field "x"'
    )
    assert why_not_args("NodeAffinity", kind="X") == (
        f"{here}args for plugin NodeAffinity were not of type {API['apiVersion']}, "
        "Kind=NodeAffinityArgs, got X"
    )


def strategy(**parts):
    return arguments("NodeResourcesFit", scoringStrategy=parts).strategy


def test_sched_52_the_strategies_of_the_file():
    both = (("cpu", 1), ("memory", 1))
    assert strategy(type="LeastAllocated") == Strategy("LeastAllocated", both)
    drawn = [{"name": "cpu", "weight": 100}, {"name": "x.com/y"}, {"name": "memory", "weight": 1}]
    weighted = (("cpu", 100), ("x.com/y", 1), ("memory", 1))
    assert strategy(type="MostAllocated", resources=drawn) == Strategy("MostAllocated", weighted)
    shape = [{"utilization": 0, "score": 10}, {"utilization": 100}]
    assert strategy(
        type="RequestedToCapacityRatio", requestedToCapacityRatio={"shape": shape}
    ) == Strategy("RequestedToCapacityRatio", both, ((0, 10), (100, 0)))
    fit = "profiles[0].pluginConfig[0].args.scoringStrategy"
    for weight in (-1, 101):
        words = f"{fit}.resources[1].weight: Invalid value: {weight}: resource weight of b not in valid range (0, 100]"
        resources = [{"name": "a", "weight": 1}, {"name": "b", "weight": weight}]
        given = {"type": "LeastAllocated", "resources": resources}
        assert why_not_args("NodeResourcesFit", scoringStrategy=given) == words

    def shaped(*points):
        tree = [{"utilization": x, "score": y} for x, y in points]
        given = {"type": "RequestedToCapacityRatio", "requestedToCapacityRatio": {"shape": tree}}
        return why_not_args("NodeResourcesFit", scoringStrategy=given)

    here = f"{fit}.requestedToCapacityRatio.shape"
    assert (
        shaped((-1, 0)) == f"{here}[0].utilization: Invalid value: -1: not in valid range [0, 100]"
    )
    assert shaped((101, 0)) == (
        f"{here}[0].utilization: Invalid value: 101: not in valid range [0, 100]"
    )
    assert (
        shaped((0, 0), (5, -1)) == f"{here}[1].score: Invalid value: -1: not in valid range [0, 10]"
    )
    assert shaped((5, 0), (5, 0), (4, 0)) == (
        f"{here}[1].utilization: Invalid value: 5: values must be sorted in increasing order"
    )


def test_sched_53_ignored_resources_of_the_file():
    found = arguments(
        "NodeResourcesFit", ignoredResources=["a.com/x", "b"], ignoredResourceGroups=["c.com"]
    )
    assert (found.ignored_resources, found.ignored_groups) == (("a.com/x", "b"), ("c.com",))
    words = why_not_args("NodeResourcesFit", ignoredResources=["ok", "-"])
    assert words.startswith(f'{ARGS}.ignoredResources[1]: Invalid value: "-": ')
    words = why_not_args("NodeResourcesFit", ignoredResourceGroups=["ok", "-"])
    assert words.startswith(f'{ARGS}.ignoredResourceGroups[1]: Invalid value: "-": ')
    assert why_not_args("NodeResourcesFit", ignoredResourceGroups=["ok", "a/b"]) == (
        f'{ARGS}.ignoredResourceGroups[1]: Invalid value: "a/b": '
        "resource group name can't contain '/'"
    )


def test_sched_52_the_balanced_resources_of_the_file():
    drawn = [{"name": "cpu", "weight": 1}, {"name": "x.com/y"}]
    found = arguments("NodeResourcesBalancedAllocation", resources=drawn)
    assert found.balanced == ("cpu", "x.com/y")
    drawn = [{"name": "a", "weight": -1}, {"name": "b"}, {"name": "a"}]
    here = f"{ARGS}.resources"
    assert why_not_args("NodeResourcesBalancedAllocation", resources=drawn) == (
        f'[{here}[0].weight: Invalid value: -1: must be 1, {here}[2].name: Duplicate value: "a"]'
    )


TERM = {"matchExpressions": [{"key": "k", "operator": "Exists"}]}


def test_sched_53_the_affinity_that_a_profile_adds():
    preferred = {"weight": 7, "preference": TERM}
    found = arguments(
        "NodeAffinity",
        addedAffinity={
            "requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [TERM]},
            "preferredDuringSchedulingIgnoredDuringExecution": [preferred],
        },
    )
    (term,) = found.added_terms
    ((weight, preference),) = found.added_preferences
    assert isinstance(term, NodeSelectorTerm) and term == preference and weight == 7
    only = arguments(
        "NodeAffinity",
        addedAffinity={"preferredDuringSchedulingIgnoredDuringExecution": [preferred]},
    )
    assert only.added_terms is None and only.added_preferences == found.added_preferences
    assert PreferredSchedulingTerm(weight=7, preference=preference).weight == weight
    bad = {"weight": 101, "preference": TERM}
    words = why_not_args(
        "NodeAffinity", addedAffinity={"preferredDuringSchedulingIgnoredDuringExecution": [bad]}
    )
    assert words.startswith(
        f"{ARGS}.addedAffinity.preferredDuringSchedulingIgnoredDuringExecution[0].weight: "
    )


def test_sched_53_the_weight_of_required_terms_of_other_pods():
    for weight in (0, 100):
        found = arguments("InterPodAffinity", hardPodAffinityWeight=weight)
        assert found.hard_pod_affinity_weight == weight
    assert why_not_args("InterPodAffinity", hardPodAffinityWeight=-1) == (
        f"{ARGS}.hardPodAffinityWeight: Invalid value: -1: not in valid range [0, 100]"
    )
    found = arguments("InterPodAffinity", ignorePreferredTermsOfExistingPods=True)
    assert found.ignores_preferences_of_existing and found.hard_pod_affinity_weight == 1


SPREAD = {"topologyKey": "zone", "maxSkew": 1, "whenUnsatisfiable": "ScheduleAnyway"}


def test_sched_53_the_constraints_of_pods_without_any():
    hard = {**SPREAD, "whenUnsatisfiable": "DoNotSchedule", "maxSkew": 5}
    found = arguments("PodTopologySpread", defaultingType="List", defaultConstraints=[SPREAD, hard])
    first, second = found.default_constraints
    assert (first.topology_key, first.max_skew, first.when_unsatisfiable) == (
        "zone",
        1,
        "ScheduleAnyway",
    )
    assert (second.max_skew, second.when_unsatisfiable) == (5, "DoNotSchedule")
    assert arguments("PodTopologySpread", defaultingType="List").default_constraints == ()
    assert arguments("PodTopologySpread", defaultingType="System").default_constraints is None
    here = f"{ARGS}.defaultConstraints"

    def wrong(*constraints):
        return why_not_args(
            "PodTopologySpread", defaultingType="List", defaultConstraints=list(constraints)
        )

    assert wrong(SPREAD, {**hard, "topologyKey": ""}) == (
        f"{here}[1].topologyKey: Required value: can not be empty"
    )
    assert wrong({**SPREAD, "topologyKey": "-"}).startswith(f"{here}[0].topologyKey: Invalid value")
    assert wrong({**SPREAD, "whenUnsatisfiable": ""}) == (
        f"{here}[0].whenUnsatisfiable: Required value: can not be empty"
    )
    assert wrong({**SPREAD, "whenUnsatisfiable": "X"}) == (
        f'{here}[0].whenUnsatisfiable: Unsupported value: "X": supported values: "DoNotSchedule", "ScheduleAnyway"'
    )
    assert wrong({**SPREAD, "maxSkew": -1}) == (
        f"{here}[0].maxSkew: Invalid value: -1: not in valid range (0, inf)"
    )
    other = {**SPREAD, "topologyKey": "host"}
    assert wrong(SPREAD, other, SPREAD) == (
        f'{here}[2]: Duplicate value: "{{zone, ScheduleAnyway}}"'
    )


def test_sched_53_how_long_volumes_and_devices_are_waited_for():
    year = 365 * 24 * 3600
    for seconds, kept in ((0, 0), (9, 9), (year, year), (year + 1, year)):
        found = arguments("VolumeBinding", bindTimeoutSeconds=seconds)
        assert found.bind_timeout == kept * SECOND
    shape = [{"utilization": 1, "score": 2}]
    assert why_not_args("VolumeBinding", bindTimeoutSeconds=-1, shape=shape) == (
        f"[{ARGS}.bindTimeoutSeconds: Invalid value: -1: "
        "invalid BindTimeoutSeconds, should not be a negative value, "
        f'{ARGS}.shape: Invalid value: [{{"utilization":1,"score":2}}]: unexpected field `shape`, '
        "remove it or turn on the feature gate StorageCapacityScoring]"
    )
    for text, kept in (("1s", 1), ("10m", 600), ("9000h", year)):
        found = arguments("DynamicResources", bindingTimeout=text, filterTimeout="10s")
        assert found.device_timeout == kept * SECOND
    assert why_not_args("DynamicResources", bindingTimeout="0s") == (
        f'{ARGS}.bindingTimeout: Invalid value: "0s": must be at least 1 second'
    )
    words = "a search for devices ends after a number of steps; only 10s is accepted"
    for text in ("0s", "9s", "11s"):
        assert why_not_args("DynamicResources", filterTimeout=text) == (
            f'{ARGS}.filterTimeout: Invalid value: "{text}": {words}'
        )
    assert why_not_args("DynamicResources", filterTimeout="x", bindingTimeout="y") == (
        f'[{ARGS}.filterTimeout: Invalid value: "x": time: invalid duration "x", '
        f'{ARGS}.bindingTimeout: Invalid value: "y": time: invalid duration "y"]'
    )


def test_sched_53_how_many_nodes_preemption_compares():
    for percent, absolute in ((0, 1), (100, 0), (5, 7)):
        found = arguments(
            "DefaultPreemption",
            minCandidateNodesPercentage=percent,
            minCandidateNodesAbsolute=absolute,
        )
        assert (found.candidates_percent, found.candidates_min) == (percent, absolute)
    one = arguments("DefaultPreemption", minCandidateNodesPercentage=0)
    assert (one.candidates_percent, one.candidates_min) == (0, 100)
    two = arguments("DefaultPreemption", minCandidateNodesAbsolute=0)
    assert (two.candidates_percent, two.candidates_min) == (10, 0)
    here = f"{ARGS}.minCandidateNodes"
    for percent in (-1, 101):
        assert why_not_args("DefaultPreemption", minCandidateNodesPercentage=percent) == (
            f"{here}Percentage: Invalid value: {percent}: not in valid range [0, 100]"
        )
    assert why_not_args("DefaultPreemption", minCandidateNodesAbsolute=-1) == (
        f"{here}Absolute: Invalid value: -1: not in valid range [0, inf)"
    )


def test_sched_50_each_profile_has_its_own_arguments():
    def one(weight):
        return [{"name": "InterPodAffinity", "args": {"hardPodAffinityWeight": weight}}]

    found = read(
        profiles=[
            {"schedulerName": "a", "pluginConfig": one(5)},
            {"schedulerName": "b", "pluginConfig": one(6)},
            {"schedulerName": "c"},
        ]
    )
    assert [each.arguments.hard_pod_affinity_weight for each in found.profiles] == [5, 6, 1]
    words = why_not(
        profiles=[{"schedulerName": "a"}, {"schedulerName": "b", "pluginConfig": one(999)}]
    )
    assert words.startswith("profiles[1].pluginConfig[0].args.hardPodAffinityWeight: ")
    known = [{"name": "NodePorts"}, {"name": "NodePorts", "args": {}}]
    assert why_not(profiles=[{"pluginConfig": known}]) == (
        'profiles[0].pluginConfig[1]: Duplicate value: "NodePorts"'
    )


# --- plugins --------------------------------------------------------------------------------------


def enabled(*names, **weights):
    return {
        "enabled": [
            *[{"name": name} for name in names],
            *[{"name": name, "weight": weight} for name, weight in weights.items()],
        ]
    }


def disabled(*names):
    return {"disabled": [{"name": name} for name in names]}


def test_sched_51_what_multi_point_and_the_points_enable():
    default = plugins()
    assert default.filters == frozenset(FILTERS) and default.weights == WEIGHTS
    assert default.has_preemption and default.frees_claims
    some = plugins(multiPoint=disabled("NodePorts", "ImageLocality", "DefaultPreemption"))
    assert some.filters == frozenset(FILTERS) - {"NodePorts"} and not some.has_preemption
    assert "ImageLocality" not in some.weights
    bare = plugins(
        multiPoint={**disabled("*"), **enabled("PrioritySort", "SchedulingGates", "DefaultBinder")},
        filter=enabled("NodeName"),
        score=enabled(TaintToleration=9, ImageLocality=0),
    )
    assert bare.filters == {"NodeName"} and not bare.frees_claims
    assert bare.weights == {"ImageLocality": 1}, "one whose preScore is disabled does not score"
    both = plugins(preScore=disabled("TaintToleration"), score=disabled("ImageLocality"))
    assert set(WEIGHTS) - set(both.weights) == {"TaintToleration", "ImageLocality"}
    first = plugins(
        score=enabled(ImageLocality=4), multiPoint=enabled(ImageLocality=5, NodeAffinity=6)
    )
    assert (first.weights["ImageLocality"], first.weights["NodeAffinity"]) == (4, 6)
    twice = plugins(filter=enabled("NodePorts"))
    assert twice.filters == frozenset(FILTERS)
    none = plugins(filter=disabled("*"), score=disabled("*"))
    assert (none.filters, none.weights) == (frozenset(), {})
    whole = plugins(multiPoint=disabled("DynamicResources", "VolumeBinding"))
    assert whole.filters == frozenset(FILTERS) - {"DynamicResources", "VolumeBinding"}


@pytest.mark.parametrize(
    ("points", "words"),
    [
        (
            {"score": enabled(ImageLocality=-1)},
            'score plugin "ImageLocality" has a negative weight',
        ),
        (
            {"multiPoint": enabled(ImageLocality=-1)},
            'score plugin "ImageLocality" has a negative weight',
        ),
        ({"score": enabled("NodePorts")}, 'plugin "NodePorts" does not extend ScorePlugin plugin'),
        (
            {"permit": enabled("NodePorts")},
            'plugin "NodePorts" does not extend PermitPlugin plugin',
        ),
        ({"preBind": enabled("X")}, 'PreBindPlugin "X" does not exist'),
        (
            {"filter": enabled("NodeName", "NodePorts", "NodeName")},
            'plugin "NodeName" already registered as "FilterPlugin"',
        ),
        (
            {"preBind": disabled("DynamicResources")},
            'plugin "DynamicResources" can only be disabled at all its extension points',
        ),
        (
            {"preEnqueue": disabled("DynamicResources")},
            'plugin "DynamicResources" can only be disabled at all its extension points',
        ),
        (
            {"preBind": disabled("VolumeBinding")},
            'plugin "VolumeBinding" can only be disabled at all its extension points',
        ),
        (
            {"multiPoint": disabled("DefaultBinder")},
            'at least one bind plugin is needed for profile with scheduler name "default-scheduler"',
        ),
        (
            {"multiPoint": disabled("PrioritySort")},
            'only one queue sort plugin required for profile with scheduler name "default-scheduler", but got 0',
        ),
        (
            {"multiPoint": disabled("SchedulingGates")},
            'plugin "SchedulingGates" cannot be disabled: the API server binds no pod with gates',
        ),
    ],
)
def test_sched_54_plugins_that_cannot_be_used(points, words):
    assert why_not_plugins(**points) == words


class Named:
    """A plugin of another package that remembers its arguments; it filters and scores."""

    def __init__(self, name, args):
        self.name, self.args = name, args

    def filter(self, pod, node, load):
        return ""

    def score(self, pod, node, load):
        return 0

    def normalize(self, scores):
        return scores


FACTORIES = {name: (lambda args, name=name: Named(name, args)) for name in ("Own", "Other")}


def test_sched_56_plugins_of_other_packages_are_made_with_their_arguments():
    tree = {
        "plugins": {"filter": enabled("Own"), "multiPoint": enabled(Other=3)},
        "pluginConfig": [{"name": "Other", "args": {"a": 1}}],
    }
    (profile,) = read(FACTORIES, profiles=[tree]).profiles
    filters = {one.name: one.args for one in profile.plugins.filter}
    assert filters == {"Own": None, "Other": {"a": 1}}
    assert [one.name for one in profile.plugins.score] == ["Other"]
    assert {"Own", "Other"} <= profile.filters and profile.weights["Other"] == 3
    assert "Own" not in profile.weights, "it is enabled as a filter only"
    config = [{"name": "Own", "args": {"a": 1}}]
    (profile,) = read(FACTORIES, profiles=[{"pluginConfig": config}]).profiles
    assert profile.plugins == NO_PLUGINS, "one that is not enabled"
    words = why_not(profiles=[{"pluginConfig": config}])
    assert words == "profiles[0].pluginConfig[0]: plugin Own has no arguments here"
    assert why_not_plugins(bind=enabled("Own")) == 'BindPlugin "Own" does not exist'
    bind = [{"plugins": {"bind": enabled("Own")}}]
    assert why_not(FACTORIES, profiles=bind).endswith(
        'plugin "Own" does not extend BindPlugin plugin'
    )


def test_sched_56_an_error_of_a_plugin_of_another_package_names_it():
    def refuse(args):
        raise ValueError(f"no {args}")

    config = [{"name": "Own", "args": {"a": 1}}]
    tree = {"plugins": {"filter": enabled("Own")}, "pluginConfig": config}
    assert why_not({"Own": refuse}, profiles=[tree]) == ("initializing plugin \"Own\": no {'a': 1}")


class Binding(Named):
    def bind(self, pod, node):
        return None


def test_sched_66_binders_before_the_default_one():
    made = {name: (lambda args, name=name: Binding(name, args)) for name in "AB"}

    def binders(**points):
        (profile,) = read(made, profiles=[{"plugins": points}]).profiles
        return [one.name for one in profile.plugins.bind], profile.plugins.has_default_binder

    assert binders(bind=enabled("B", "A")) == (["B", "A"], True)
    assert binders(bind=enabled("B", "DefaultBinder", "A")) == (["B"], True)
    assert binders(bind=enabled("DefaultBinder", "A", "B")) == ([], True)
    assert binders(bind=enabled("A"), multiPoint=disabled("DefaultBinder")) == (["A"], False)
    only = {**enabled("A", "B"), **disabled("DefaultBinder")}
    assert binders(bind=only) == (["A", "B"], False)
    assert binders(multiPoint=enabled("A")) == ([], True)


def test_sched_54_one_queue_sort_for_all_profiles():
    sort = {"queueSort": enabled("PrioritySort")}
    names = [{"schedulerName": name, "plugins": sort} for name in "ab"]
    assert len(read(profiles=names).profiles) == 2
    words = why_not(profiles=[names[0], {"schedulerName": "b"}])
    assert (
        words
        == "profiles[1].plugins.queueSort: Invalid value: null: must be the same for all profiles"
    )
    assert why_not(profiles=[{"schedulerName": "b"}, names[0]]) == (
        'profiles[1].plugins.queueSort: Invalid value: {"enabled":[{"name":"PrioritySort"}]}: '
        "must be the same for all profiles"
    )


# --- extenders ------------------------------------------------------------------------------------

URL = "http://h:1/x"


def extender(**fields):
    (found,) = read(extenders=[{"urlPrefix": URL, **fields}]).extenders
    return found


def why_not_extender(**fields):
    return why_not(extenders=[{"urlPrefix": URL}, {"urlPrefix": URL, **fields}])


def test_sched_57_every_field_of_an_extender():
    files = {"caFile": "/ca", "certFile": "/c", "keyFile": "/k"}
    data = {"caData": "YQ==", "certData": "Yg==", "keyData": "Yw=="}
    found = read(
        extenders=[
            {"urlPrefix": URL, "enableHTTPS": True, "tlsConfig": files},
            {"urlPrefix": URL, "tlsConfig": {**files, **data, "serverName": "s", "insecure": True}},
            {"urlPrefix": URL, "enableHTTPS": True, "tlsConfig": data, "httpTimeout": "600s"},
            {
                "urlPrefix": URL,
                "enableHTTPS": True,
                "httpTimeout": "0s",
                "prioritizeVerb": "p",
                "weight": 1_000_000,
            },
        ]
    )
    given = Tls(authorities=b"a", certificate=b"b", key=b"c")
    assert [one.tls for one in found.extenders] == [
        Tls(),
        Tls(False, "s", b"a", b"b", b"c"),
        given,
        Tls(is_verified=False),
    ]
    assert [one.seconds for one in found.extenders] == [5.0, 5.0, 600.0, 5.0]
    assert found.tls_files == (TlsFiles("/ca", "/c", "/k"), TlsFiles(), TlsFiles(), TlsFiles())
    assert found.extenders[0] == Extender(URL, weight=0)
    assert found.extenders[3].weight == 1_000_000
    ignored = {"name": "a.com/x", "ignoredByScheduler": True}
    two = read(
        extenders=[{"urlPrefix": URL, "managedResources": [ignored, {"name": "a.com/y"}]}],
        **with_args("NodeResourcesFit", ignoredResources=["b.com/z"]),
    )
    assert two.extenders[0].managed == {"a.com/x", "a.com/y"}
    assert two.profiles[0].arguments.ignored_resources == ("b.com/z", "a.com/x")


HERE = "extenders[1]"


@pytest.mark.parametrize(
    ("fields", "words"),
    [
        (
            {"prioritizeVerb": "p", "weight": -1},
            f"{HERE}.weight: Invalid value: -1: must have a positive weight applied to it",
        ),
        ({"weight": 1_000_001}, f"{HERE}.weight: Invalid value: 1000001: at most 1000000"),
        (
            {"prioritizeVerb": "p", "weight": 1_000_001},
            f"{HERE}.weight: Invalid value: 1000001: at most 1000000",
        ),
        (
            {"httpTimeout": "601s"},
            f'{HERE}.httpTimeout: Invalid value: "601s": must be greater than 0 and at most 600s',
        ),
        (
            {"httpTimeout": "-1s"},
            f'{HERE}.httpTimeout: Invalid value: "-1s": must be greater than 0 and at most 600s',
        ),
        (
            {"httpTimeout": "x"},
            f'{HERE}.httpTimeout: Invalid value: "x": time: invalid duration "x"',
        ),
        (
            {"preemptVerb": "a b"},
            f'{HERE}.preemptVerb: Invalid value: "a b": must be a part of a URL',
        ),
        ({"bindVerb": "a#b"}, f'{HERE}.bindVerb: Invalid value: "a#b": must be a part of a URL'),
        (
            {"prioritizeVerb": "ä", "weight": 1},
            f'{HERE}.prioritizeVerb: Invalid value: "ä": must be a part of a URL',
        ),
        (
            {"tlsConfig": {"caData": "?"}},
            f'{HERE}.tlsConfig.caData: Invalid value: "": must be data in Base64',
        ),
        (
            {"tlsConfig": {"certData": "?"}},
            f'{HERE}.tlsConfig.certData: Invalid value: "": must be data in Base64',
        ),
        (
            {"managedResources": [{"name": "a.com/x"}, {"name": "a.com/x"}]},
            f'{HERE}.managedResources[1].name: Invalid value: "a.com/x": duplicate extender managed resource name',
        ),
        (
            {"managedResources": [{"name": "requests.x"}]},
            f'{HERE}.managedResources[0].name: Invalid value: "requests.x": is an invalid extended resource name',
        ),
    ],
)
def test_sched_54_extenders_that_cannot_be_asked(fields, words):
    assert why_not_extender(**fields) == words


@pytest.mark.parametrize(
    "url",
    [
        "",
        "h:1",
        "ftp://h",
        "http://",
        "http://h:0",
        "http://h:x",
        "http://h/?a",
        "http://h/#a",
        "http://h /",
        "http://ä",
    ],
)
def test_sched_54_the_url_of_an_extender(url):
    words = "must be a URL such as http://127.0.0.1:8888/scheduler"
    assert why_not(extenders=[{"urlPrefix": url}]) == (
        f'extenders[0].urlPrefix: Invalid value: "{url}": {words}'
    )
    for right in ("http://h", "https://h:1/a/b", "http://[::1]:8/x"):
        assert read(extenders=[{"urlPrefix": right}]).extenders[0].url == right


def test_sched_54_a_resource_is_managed_once_and_one_extender_binds():
    managed = {"urlPrefix": URL, "managedResources": [{"name": "a.com/x"}]}
    assert why_not(extenders=[managed, managed]) == (
        'extenders[1].managedResources[0].name: Invalid value: "a.com/x": duplicate extender managed resource name'
    )
    binder = {"urlPrefix": URL, "bindVerb": "b"}
    assert why_not(extenders=[binder, {"urlPrefix": URL}, binder]) == (
        'extenders: Invalid value: "found 2 extenders implementing bind": only one extender can implement bind'
    )
    assert len(read(extenders=[{"urlPrefix": URL}] * 16).extenders) == 16
    assert why_not(extenders=[{"urlPrefix": URL}] * 17) == (
        "extenders: Invalid value: 17: at most 16 extenders"
    )
    words = why_not_extender(managedResources=[{"name": "-"}])
    assert words.startswith(f'{HERE}.managedResources[0].name: Invalid value: "-": ')


# --- several errors at once -----------------------------------------------------------------------


def test_sched_54_every_error_of_a_file_is_named():
    fit = {
        "ignoredResources": ["-", "-x"],
        "ignoredResourceGroups": ["a/b", "-"],
        "scoringStrategy": {"type": "X", "requestedToCapacityRatio": {}},
    }
    words = why_not_args("NodeResourcesFit", **fit)
    for here in (
        "ignoredResources[0]",
        "ignoredResources[1]",
        "ignoredResourceGroups[0]",
        "ignoredResourceGroups[1]",
    ):
        assert f"{ARGS}.{here}: Invalid value" in words
    assert (
        f'{ARGS}.scoringStrategy.type: Unsupported value: "X": supported values: "LeastAllocated", "MostAllocated", "RequestedToCapacityRatio"'
        in words
    )
    assert (
        f"{ARGS}.scoringStrategy.requestedToCapacityRatio: Forbidden: must be nil when type is not RequestedToCapacityRatio"
        in words
    )
    ratio = {"type": "RequestedToCapacityRatio", "resources": [{"name": "a", "weight": 101}]}
    words = why_not_args(
        "NodeResourcesFit", scoringStrategy={**ratio, "requestedToCapacityRatio": {}}
    )
    assert "resources[0].weight" in words
    assert (
        f"{ARGS}.scoringStrategy.requestedToCapacityRatio.shape: Required value: at least one point must be specified"
        in words
    )
    assert (
        f"{ARGS}.scoringStrategy.requestedToCapacityRatio: Required value: must be specified when type is RequestedToCapacityRatio"
        in why_not_args("NodeResourcesFit", scoringStrategy=ratio)
    )
    zero, selecting = {**SPREAD, "maxSkew": 0}, {**SPREAD, "labelSelector": {}}
    words = why_not_args("PodTopologySpread", defaultConstraints=[zero, selecting])
    for part in (
        f'{ARGS}.defaultingType: Invalid value: "System": when .defaultConstraints are not empty',
        f"{ARGS}.defaultConstraints[0].maxSkew: Invalid value: 0: not in valid range (0, inf)",
        f"{ARGS}.defaultConstraints[1].labelSelector: Forbidden: constraint must not define a selector, as they deduced for each pod",
    ):
        assert part in words
    assert why_not_args("PodTopologySpread", defaultingType="X") == (
        f'{ARGS}.defaultingType: Unsupported value: "X": supported values: "System", "List"'
    )
    assert why_not_args("DynamicResources", filterTimeout="-1s") == (
        f'{ARGS}.filterTimeout: Invalid value: "-1s": must be zero or positive'
    )
    assert why_not_args("InterPodAffinity", hardPodAffinityWeight=101) == (
        f"{ARGS}.hardPodAffinityWeight: Invalid value: 101: not in valid range [0, 100]"
    )
    both = {"minCandidateNodesPercentage": 0, "minCandidateNodesAbsolute": 0}
    here, same = f"{ARGS}.minCandidateNodes", "cannot be zero at the same time as minCandidateNodes"
    assert why_not_args("DefaultPreemption", **both) == (
        f"[{here}Percentage: Invalid value: 0: {same}Absolute, {here}Absolute: Invalid value: 0: {same}Percentage]"
    )
    one = arguments("DefaultPreemption", minCandidateNodesPercentage=1, minCandidateNodesAbsolute=0)
    assert (one.candidates_percent, one.candidates_min) == (1, 0)


def test_sched_54_every_error_of_the_profiles_and_extenders_is_named():
    config = [
        {"name": name, "args": args}
        for name, args in (
            ("InterPodAffinity", {"hardPodAffinityWeight": -1}),
            ("CinderLimits", None),
            ("NodePorts", {"a": 1}),
            ("NodePorts", None),
            ("DefaultPreemption", {"minCandidateNodesAbsolute": -1}),
            ("EBSLimits", None),
            ("EBSLimits", None),
        )
    ]
    words = why_not(profiles=[{"pluginConfig": config}])
    for at, part in (
        (0, ".args.hardPodAffinityWeight"),
        (1, ": Invalid value"),
        (2, ": plugin NodePorts"),
        (3, ": Duplicate value"),
        (4, ".args.minCandidateNodesAbsolute"),
        (5, ": Invalid value"),
        (6, ": Duplicate value"),
        (6, ": Invalid value"),
    ):
        assert f"profiles[0].pluginConfig[{at}]{part}" in words
    removed = {"filter": enabled("EBSLimits"), "score": enabled("GCEPDLimits")}
    words = why_not(
        profiles=[{"schedulerName": "", "percentageOfNodesToScore": 101, "plugins": removed}]
    )
    for part in (
        "schedulerName: Required value",
        "percentageOfNodesToScore: Invalid value: 101: not in valid range [0-100]",
        "plugins.filter.enabled[0]",
        "plugins.score.enabled[0]",
    ):
        assert f"profiles[0].{part}" in words
    words = why_not(leaderElection={"resourceLock": "endpoints"}, podInitialBackoffSeconds=0)
    assert (
        'leaderElection.resourceLock: Invalid value: "endpoints": resourceLock value must be "leases"'
        in words
    )
    assert "podInitialBackoffSeconds: Invalid value: 0: must be greater than 0" in words
    assert why_not_plugins(multiPoint=enabled("X")) == 'PreFilterPlugin "X" does not exist'
    words = why_not_extender(filterVerb="a b", prioritizeVerb="p", managedResources=[{"name": "-"}])
    for part in (
        'filterVerb: Invalid value: "a b": must be a part of a URL',
        "weight: Invalid value: 0: must have a positive weight applied to it",
        "managedResources[0].name: Invalid value",
    ):
        assert f"{HERE}.{part}" in words
    whole = extender(
        filterVerb="f",
        prioritizeVerb="p",
        preemptVerb="v",
        bindVerb="b",
        weight=1,
        nodeCacheCapable=True,
        ignorable=True,
        httpTimeout="500ms",
    )
    assert whole == Extender(URL, "f", "p", "v", "b", 1, True, is_ignorable=True, seconds=0.5)
