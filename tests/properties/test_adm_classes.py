"""What a new pod takes from its runtime class and its own labels: ADM-30, ADM-31
(spec/admission.md); its gates and debugging containers."""

import json

import pytest
from api_world import World
from hypothesis import example, given
from hypothesis import strategies as st
from test_adm import Cluster

from refk8s.core.api import codec
from refk8s.core.api.core_v1 import Toleration
from refk8s.core.api.node_v1 import RuntimeClass
from refk8s.core.apiserver.admission.runtime_class import merge_tolerations

amounts = st.none() | st.dictionaries(
    st.sampled_from(["cpu", "memory"]),
    st.sampled_from(["1", "16Mi", "100m"]),
    min_size=1,
    max_size=2,
)
nodes = st.none() | st.dictionaries(st.sampled_from("ab"), st.sampled_from("xy"), max_size=2)
kinds = {
    "effect": st.sampled_from(["NoSchedule", "NoExecute", None]),
    "toleration_seconds": st.sampled_from([None, 5, 9]),
}
tolerations = st.lists(
    st.builds(
        Toleration, key=st.sampled_from(["a", "b", None]), operator=st.just("Exists"), **kinds
    )
    | st.builds(
        Toleration,
        key=st.sampled_from("ab"),
        operator=st.just("Equal"),
        value=st.sampled_from(["x", None]),
        **kinds,
    ),
    max_size=4,
).map(tuple)


def with_class(overhead=None, selector=None):
    cluster = Cluster()
    tree = {"metadata": {"name": "r"}, "handler": "h"}
    if overhead is not None:
        tree["overhead"] = {"podFixed": overhead}
    if selector is not None:
        tree["scheduling"] = {
            "nodeSelector": selector,
            "tolerations": [{"key": "rt", "operator": "Exists"}],
        }
    assert cluster.create(codec.decode_tolerant(RuntimeClass, tree)[0]).ok
    return cluster


@given(amounts, amounts, nodes, nodes)
@example({"cpu": "1"}, {"cpu": "1000m"}, None, None)
def test_adm_31_a_pod_has_the_overhead_and_nodes_of_its_class_or_is_refused(
    overhead, own, selector, own_selector
):
    cluster = with_class(overhead, selector)
    spec = (
        {"runtimeClassName": "r"}
        | ({"overhead": own} if own else {})
        | ({"nodeSelector": own_selector} if own_selector else {})
    )
    answer = cluster.pod(**spec)
    contradicts = any(
        (selector or {}).get(key, value) != value for key, value in (own_selector or {}).items()
    )
    normal = {"1000m": "1"}
    same = own is None or {name: normal.get(text, text) for name, text in own.items()} == overhead
    if contradicts or not same:
        assert answer.code == 403 and answer.body.reason == "Forbidden"
        return
    made = answer.body.spec
    assert made.overhead == (overhead or None)
    assert made.node_selector == ({**(own_selector or {}), **(selector or {})} or None)
    if selector is not None:
        assert any(one.key == "rt" for one in made.tolerations)


def test_adm_31_a_class_that_is_not_there_is_refused():
    answer = Cluster().pod(runtimeClassName="ghost")
    assert (
        answer.code == 403
        and answer.body.message
        == 'pods "p" is forbidden: pod rejected: RuntimeClass "ghost" not found'
    )


def test_adm_31_an_overhead_without_a_class_is_refused_once_the_pod_is_valid():
    assert Cluster().pod(overhead={"cpu": "1"}).code == 403
    assert Cluster().pod(overhead={"cpu": "1"}, dnsPolicy="Odd").code == 422


def plainly_tolerates(toleration, key, value, effect, seconds):
    """Whether a taint of this key, value and effect is tolerated for so many seconds."""
    if (toleration.effect and toleration.effect != effect) or (
        toleration.key and toleration.key != key
    ):
        return False
    if (toleration.operator or "Equal") == "Equal" and (
        not toleration.key or (toleration.value or "") != value
    ):
        return False
    return (
        toleration.toleration_seconds is None
        or effect != "NoExecute"
        or seconds <= toleration.toleration_seconds
    )


@given(tolerations, tolerations)
def test_adm_31_merged_tolerations_tolerate_what_both_lists_do_and_no_more(first, second):
    merged = merge_tolerations(first, second)
    assert set(merged) <= set(first + second)
    for key in "ab":
        for effect in ("NoSchedule", "NoExecute"):
            for value in ("x", ""):
                for seconds in (4, 7, 99):
                    taint = (key, value, effect, seconds)
                    assert any(plainly_tolerates(one, *taint) for one in merged) == any(
                        plainly_tolerates(one, *taint) for one in first + second
                    )


@pytest.mark.parametrize("field", ["matchLabelKeys", "mismatchLabelKeys"])
def test_adm_30_a_key_becomes_a_requirement_with_the_pods_own_value(field):
    @given(
        st.dictionaries(st.sampled_from("abc"), st.sampled_from("xy"), max_size=3),
        st.lists(st.sampled_from("abc"), max_size=3, unique=True),
    )
    def law(labels, keys):
        term = {
            "topologyKey": "zone",
            "labelSelector": {"matchLabels": {"app": "web"}},
            field: keys,
        }
        pod = codec.decode_tolerant(POD, {
            "metadata": {"name": "p", "labels": labels},
            "spec": {"containers": [{"name": "c", "image": "i"}], "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term]}}},
        })[0]  # fmt: skip
        made = Cluster().create(pod).body
        (got,) = made.spec.affinity.pod_affinity.required_during_scheduling_ignored_during_execution
        found = [
            (one.key, one.operator, one.values)
            for one in got.label_selector.match_expressions or ()
        ]
        assert found == [
            (key, "In" if field == "matchLabelKeys" else "NotIn", (labels[key],))
            for key in keys
            if key in labels
        ]

    law()


POD = type(Cluster().pod().body)


def test_adm_30_a_spread_constraint_is_completed_too():
    constraint = {
        "maxSkew": 1,
        "topologyKey": "zone",
        "whenUnsatisfiable": "DoNotSchedule",
        "labelSelector": {},
        "matchLabelKeys": ["v"],
    }
    tree = {
        "metadata": {"name": "p", "labels": {"v": "1"}},
        "spec": {
            "containers": [{"name": "c", "image": "i"}],
            "topologySpreadConstraints": [constraint],
        },
    }
    made = Cluster().create(codec.decode_tolerant(POD, tree)[0])
    assert made.ok, made.body
    (got,) = made.body.spec.topology_spread_constraints
    assert [
        (one.key, one.operator, one.values) for one in got.label_selector.match_expressions
    ] == [("v", "In", ("1",))]


# --- gates and debugging containers

PODS = "/api/v1/namespaces/default/pods"


def a_pod(**spec):
    return {
        "metadata": {"name": "p"},
        "spec": {"containers": [{"name": "c", "image": "i"}], **spec},
    }


def posted(world, path, tree):
    reply = world.http("POST", path, tree)
    return reply.code, json.loads(reply.content)


@given(st.lists(st.sampled_from(["a.com/x", "a.com/y"]), unique=True))
def test_adm_6_a_gated_pod_says_why_it_is_not_scheduled_and_is_not_bound(gates):
    world = World()
    code, made = posted(world, PODS, a_pod(schedulingGates=[{"name": name} for name in gates]))
    assert code == 201
    told = [
        (one["type"], one["status"], one["reason"])
        for one in made["status"].get("conditions") or ()
    ]
    assert told == ([("PodScheduled", "False", "SchedulingGated")] if gates else [])
    binding = {"metadata": {"name": "p"}, "target": {"kind": "Node", "name": "n"}}
    assert posted(world, f"{PODS}/p/binding", binding)[0] == (409 if gates else 201)


@pytest.mark.parametrize(
    ("sent", "code"),
    [
        ([{"name": "d", "image": "i", "command": ["x"]}], 422),
        ([], 422),
        ([{"name": "e", "image": "i"}], 422),
        ([{"name": "d", "image": "i"}, {"name": "e", "image": "i"}], 200),
        ([{"name": "d", "image": "i"}], 200),
    ],
)
def test_val_17_a_debugging_container_stays_as_it_is(sent, code):
    world = World()
    assert posted(world, PODS, a_pod())[0] == 201
    patch = {"content-type": "application/merge-patch+json"}
    first = {"spec": {"ephemeralContainers": [{"name": "d", "image": "i"}]}}
    assert world.http("PATCH", f"{PODS}/p/ephemeralcontainers", first, patch).code == 200
    reply = world.http(
        "PATCH", f"{PODS}/p/ephemeralcontainers", {"spec": {"ephemeralContainers": sent}}, patch
    )
    assert reply.code == code, reply.content
