"""Stages of admission from plain values: what each adds to a pod or rejects, compared in full
(spec/admission.md)."""

from __future__ import annotations

from itertools import product
from typing import Any

import pytest
from msgspec.structs import replace
from random_cases import cases, some

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree, to_tree
from refk8s.core.api.core_v1 import (
    Container,
    Node,
    Pod,
    PodCondition,
    PodSpec,
    PodStatus,
    ServiceAccount,
    Toleration,
    Volume,
    VolumeMount,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.node_v1 import Overhead, RuntimeClass, Scheduling
from refk8s.core.api.request import Request
from refk8s.core.api.scheduling_v1 import PriorityClass
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import label_keys, pod, priority, runtime_class
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.token_source import TOKEN_SOURCE
from refk8s.core.context import SECOND, Context, SeededChance
from refk8s.core.store import EMPTY, History, Put, Txn, commit

NOW = "2023-11-14T22:13:20Z"
CONTEXT = Context(1_700_000_000 * SECOND, SeededChance(b"seed"))
PODS = resources.PODS
CREATE = Request("create", PODS, "n")


def store_of(*objects: Any) -> History[Any]:
    """A store with these objects."""
    history: History[Any] = EMPTY
    for obj in objects:
        resource = resources.by_kind(obj.api_version, obj.kind)
        key = resource.key(obj.metadata.namespace or "", obj.metadata.name)
        history, _ = commit(history, Txn((), (Put(key, obj),)))
    return history


def a_pod(*containers: Container, labels: Any = None, annotations: Any = None, **spec: Any) -> Pod:
    containers = containers or (Container(name="c", image="i"),)
    metadata = ObjectMeta(name="p", labels=labels, annotations=annotations)
    return Pod(metadata=metadata, spec=PodSpec(containers=containers, **spec))


def refused(function: Any, *arguments: Any) -> str:
    """The message of the refusal, which is a 403 about the pod p."""
    with pytest.raises(ApiError) as error:
        function(*arguments)
    status = error.value.status
    assert (status.code, status.reason) == (403, "Forbidden")
    assert (status.details.name, status.details.kind) == ("p", "pods")
    start = 'pods "p" is forbidden: '
    assert status.message.startswith(start)
    return status.message.removeprefix(start)


def named(kind: Any, name: str, namespace: str | None = None, **fields: Any) -> Any:
    return kind(metadata=ObjectMeta(name=name, namespace=namespace), **fields)


# --- the account of a pod


def account(name: str, namespace: str = "n", **fields: Any) -> ServiceAccount:
    return named(ServiceAccount, name, namespace, **fields)


def secrets(*names: str) -> Any:
    from refk8s.core.api.core_v1 import LocalObjectReference

    return tuple([LocalObjectReference(name=name) for name in names])


@pytest.mark.parametrize("given", [None, "", "robot", "default"])
@pytest.mark.parametrize("known", [(), ("default",), ("default", "robot")])
def test_adm_3_the_account_of_a_pod(given, known):
    store = store_of(*[account(name, automount_service_account_token=False) for name in known])
    new = a_pod(service_account_name=given)
    if given == "robot" and "robot" not in known:
        words = 'error looking up service account n/robot: serviceaccount "robot" not found'
        assert refused(pod.admit_account, CREATE, new, None, store, CONTEXT) == words
        return
    made = pod.admit_account(CREATE, new, None, store, CONTEXT)
    name = given or "default"
    assert (made.spec.service_account_name, made.spec.service_account) == (name, name)
    has_token = made.spec.volumes is not None
    assert has_token is (name not in known), "an account that is still to come has the defaults"
    assert pod.admit_account(CREATE, new, new, store, CONTEXT) is new


def test_adm_3_the_namespace_of_the_pod_before_that_of_the_request():
    store = store_of(account("robot", "other"))
    new = a_pod(service_account_name="robot", automount_service_account_token=False)
    assert "n/robot" in refused(pod.admit_account, CREATE, new, None, store, CONTEXT)
    there = replace(new, metadata=replace(new.metadata, namespace="other"))
    made = pod.admit_account(CREATE, there, None, store, CONTEXT)
    assert made.spec.service_account_name == "robot"


@pytest.mark.parametrize("own", [None, (), ("mine",)])
@pytest.mark.parametrize("of_account", [None, (), ("theirs",)])
def test_adm_3_the_pull_secrets_of_the_account(own, of_account):
    spec = PodSpec(
        image_pull_secrets=None if own is None else secrets(*own),
        automount_service_account_token=False,
    )
    given = account("a", image_pull_secrets=None if of_account is None else secrets(*of_account))
    changed = pod.service_account(spec, given)
    expected = {"service_account_name": "default", "service_account": "default"}
    if not own and of_account:
        expected["image_pull_secrets"] = secrets("theirs")
    assert changed == expected


@pytest.mark.parametrize("by_pod", [None, True, False])
@pytest.mark.parametrize("by_account", [None, True, False])
def test_adm_4_the_pod_before_its_account(by_pod, by_account):
    spec = PodSpec(containers=(Container(name="c"),), automount_service_account_token=by_pod)
    given = account("a", automount_service_account_token=by_account)
    is_mounted = by_pod if by_pod is not None else by_account is not False
    assert ("volumes" in pod.service_account(spec, given)) is is_mounted


MIRROR = {"kubernetes.io/config.mirror": "x"}


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({}, ""),
        ({"volumes": [{"name": "v", "configMap": {"name": "s"}}]}, ""),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "s"}}]}}]}, ""),
        ({"serviceAccountName": "robot"}, "a mirror pod may not reference service accounts"),
        ({"volumes": [{"name": "v", "secret": {"secretName": "s"}}]}, "a mirror pod may not reference secrets"),
        ({"volumes": [{"name": "v", "projected": {"sources": [{"configMap": {"name": "s"}}, {"serviceAccountToken": {"path": "t"}}]}}]}, "a mirror pod may not use ServiceAccountToken volume projections"),
    ],
)  # fmt: skip
def test_adm_3_a_mirror_pod_gets_no_account(spec, words):
    tree = {"metadata": {"name": "p", "annotations": MIRROR}, "spec": {"containers": [{"name": "c"}], **spec}}  # fmt: skip
    new = from_tree(Pod, tree)
    if words:
        assert refused(pod.admit_account, CREATE, new, None, EMPTY, CONTEXT) == words
    else:
        assert pod.admit_account(CREATE, new, None, EMPTY, CONTEXT) is new
    other = a_pod(annotations={"a": "b"})
    assert pod.admit_account(CREATE, other, None, EMPTY, CONTEXT) is not other


PATH = "/var/run/secrets/kubernetes.io/serviceaccount"


def mounting(name: str, *paths: str) -> Container:
    mounts = tuple([VolumeMount(name="mine", mount_path=path) for path in paths]) or None
    return Container(name=name, volume_mounts=mounts)


@pytest.mark.parametrize("present", [False, True])
@pytest.mark.parametrize("main", [("/a",), (PATH,), ()])
@pytest.mark.parametrize("first", [None, ("/a",), (PATH,)])
def test_adm_4_where_the_token_is_mounted(present, main, first):
    volumes = (Volume(name="other"), Volume(name="kube-api-access-own"))[: 2 if present else 1]
    spec = PodSpec(
        containers=(mounting("a", *main), mounting("b", PATH)),
        init_containers=None if first is None else (mounting("i", *first),),
        volumes=volumes,
    )
    made = pod.admit_account(CREATE, Pod(metadata=ObjectMeta(name="p"), spec=spec), None, EMPTY, CONTEXT).spec  # fmt: skip
    needed = main != (PATH,) or first == ("/a",)
    added = [one for one in made.volumes if one not in volumes]
    if not needed:
        assert made.containers == spec.containers and made.volumes == volumes
        return
    name = "kube-api-access-own" if present else added[0].name
    assert added == ([] if present else [Volume(name=name, projected=TOKEN_SOURCE)])
    assert name.startswith("kube-api-access-") and len(name) > len("kube-api-access-")
    mount = VolumeMount(name=name, read_only=True, mount_path=PATH)

    def mounted(one: Container) -> Container:
        mounts = one.volume_mounts or ()
        is_there = any(each.mount_path == PATH for each in mounts)
        return one if is_there else replace(one, volume_mounts=(*mounts, mount))

    assert made.containers == tuple([mounted(one) for one in spec.containers])
    assert made.init_containers == (first and tuple([mounted(one) for one in spec.init_containers]))


def test_adm_4_the_name_of_the_volume_follows_from_the_spec():
    def name(**spec: Any) -> str:
        made = pod.admit_account(CREATE, a_pod(**spec), None, EMPTY, CONTEXT)
        return made.spec.volumes[-1].name

    assert name() == name() != name(node_name="x")
    assert len(name()) == len("kube-api-access-") + 5
    empty = Pod(metadata=ObjectMeta(name="p"), spec=PodSpec())
    assert pod.admit_account(CREATE, empty, None, EMPTY, CONTEXT).spec.volumes is None


# --- tolerations, topology, status


UNREADY, UNREACHABLE = "node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable"


def test_adm_5_the_two_tolerations():
    both = tuple([
        Toleration(key=key, operator="Exists", effect="NoExecute", toleration_seconds=300)
        for key in (UNREADY, UNREACHABLE)
    ])  # fmt: skip
    keys, effects = ("", None, UNREADY, UNREACHABLE, "a"), ("", None, "NoExecute", "NoSchedule")
    for own in (None, ()):
        assert pod.default_tolerations(PodSpec(tolerations=own)) == {"tolerations": both}
    every = [Toleration(key=key, effect=effect) for key, effect in product(keys, effects)]
    for one, other in [(one, other) for one in every for other in (None, *every)]:
        own = (one,) if other is None else (one, other)
        added = tuple([
            wanted for wanted in both
            if not any(t.effect in ("", None, "NoExecute") and t.key in ("", None, wanted.key) for t in own)
        ])  # fmt: skip
        expected = {"tolerations": own + added} if added else {}
        assert pod.default_tolerations(PodSpec(tolerations=own)) == expected
        new = a_pod(tolerations=own)
        made = pod.admit_tolerations(CREATE, new, None, EMPTY, CONTEXT)
        assert made.spec.tolerations == own + added and (made is new) is (not added)


def test_adm_5_an_update_that_leaves_the_spec_is_not_looked_at():
    old = a_pod()
    assert pod.admit_tolerations(CREATE, old, old, EMPTY, CONTEXT) is old
    other = replace(old, spec=replace(old.spec, node_name="x"))
    assert pod.admit_tolerations(CREATE, other, old, EMPTY, CONTEXT).spec.tolerations


ZONE, REGION = "topology.kubernetes.io/zone", "topology.kubernetes.io/region"


@pytest.mark.parametrize(
    ("labels", "own", "expected"),
    [
        (None, {"a": "b"}, {"a": "b"}),
        ({"x": "y"}, {"a": "b"}, {"a": "b"}),
        ({ZONE: "z", "x": "y"}, None, {ZONE: "z"}),
        ({ZONE: "z", REGION: "r"}, {"a": "b", ZONE: "mine"}, {"a": "b", ZONE: "z", REGION: "r"}),
    ],
)
def test_adm_42_the_labels_of_the_place_of_a_pod(labels, own, expected):
    store = store_of(Node(metadata=ObjectMeta(name="x", labels=labels)))
    new = a_pod(node_name="x", labels=own)
    made = pod.admit_topology(CREATE, new, None, store, CONTEXT)
    assert made.metadata.labels == expected
    if own == expected:
        assert made is new
    for other in (a_pod(labels=own), a_pod(node_name="y", labels=own)):
        assert pod.admit_topology(CREATE, other, None, store, CONTEXT) is other
    assert pod.admit_topology(CREATE, new, new, store, CONTEXT) is new
    assert pod.topology_labels("y", store) == {}


def test_adm_6_the_first_status_of_a_pod():
    from refk8s.core.api.core_v1 import PodSchedulingGate

    new = replace(a_pod(), status=PodStatus(phase="Running", message="m"))
    made = pod.prepare(CREATE, new, None, EMPTY, CONTEXT)
    assert made == replace(new, status=PodStatus(phase="Pending", qos_class="BestEffort"))
    assert pod.prepare(CREATE, new, new, EMPTY, CONTEXT) is new
    gated = a_pod(scheduling_gates=(PodSchedulingGate(name="g"),))
    condition = PodCondition(
        type="PodScheduled", status="False", reason="SchedulingGated",
        message="Scheduling is blocked due to non-empty scheduling gates", last_transition_time=NOW,
    )  # fmt: skip
    began = PodStatus(phase="Pending", qos_class="BestEffort", conditions=(condition,))
    assert pod.prepare(CREATE, gated, None, EMPTY, CONTEXT).status == began


def observed(*pairs: Any) -> Any:
    return tuple([PodCondition(type=kind, status="True", observed_generation=of) for kind, of in pairs])  # fmt: skip


@pytest.mark.parametrize(
    ("before", "after", "expected"),
    [
        ((), (), ()),
        ((("A", 3),), (("A", None),), (("A", 3),)),
        ((("A", 3),), (("A", 4),), (("A", 4),)),
        ((("A", 3),), (("B", None),), (("B", None),)),
        ((("A", None),), (("A", None),), (("A", None),)),
        ((("A", 3), ("A", 5)), (("A", None), ("A", None), ("A", None)), (("A", 3), ("A", 5), ("A", None))),
        ((("A", 3), ("A", 5)), (("A", 4), ("A", None)), (("A", 4), ("A", 5))),
        ((("A", None), ("A", 5)), (("A", None), ("A", None)), (("A", None), ("A", 5))),
        ((("B", 2), ("A", 3)), (("A", None), ("B", None)), (("A", 3), ("B", 2))),
    ],
)  # fmt: skip
def test_adm_6_a_condition_keeps_the_generation_that_it_had(before, after, expected):
    old = replace(a_pod(), status=PodStatus(conditions=observed(*before)))
    new = replace(a_pod(), status=PodStatus(conditions=observed(*after), qos_class="Burstable"))
    made = pod.keep_of_status(CREATE, new, old, EMPTY, CONTEXT)
    assert made.status == replace(new.status, conditions=observed(*expected))
    if after == expected:
        assert made.status.conditions == new.status.conditions


@pytest.mark.parametrize(("before", "after"), [*product((None, 0, 3), (None, 0, 4))])
@pytest.mark.parametrize(
    ("qos", "given"), [*product((None, "Guaranteed"), (None, "", "Burstable"))]
)
def test_adm_6_a_status_keeps_its_class_and_its_generation(before, after, qos, given):
    old = replace(a_pod(), status=PodStatus(observed_generation=before, qos_class=qos))
    new = replace(a_pod(), status=PodStatus(observed_generation=after, qos_class=given))
    made = pod.keep_of_status(CREATE, new, old, EMPTY, CONTEXT).status
    assert (made.observed_generation or 0, made.qos_class or None) == (
        after or before or 0,
        given or qos,
    )
    undated = observed(("A", None))
    old = replace(old, status=replace(old.status, conditions=undated))
    same = replace(
        new, status=PodStatus(observed_generation=1, qos_class="Burstable", conditions=undated)
    )
    assert pod.keep_of_status(CREATE, same, old, EMPTY, CONTEXT) is same


# --- priorities


def a_class(name: str, **fields: Any) -> PriorityClass:
    return named(PriorityClass, name, **fields)


LOW, NEVER = "PreemptLowerPriority", "Never"
COMPUTED = "must not be provided in pod spec; priority admission controller computed"


@pytest.mark.parametrize("asked", [None, "", "high", "none"])
@pytest.mark.parametrize("has_default", [False, True])
@pytest.mark.parametrize("value", [None, 0, 5, 7])
@pytest.mark.parametrize("policy", [None, LOW, NEVER])
def test_adm_7_the_values_of_a_priority_class(asked, has_default, value, policy):
    high = a_class("high", value=7, preemption_policy=NEVER)
    base = a_class("base", value=5, global_default=True)
    store = store_of(high, *([base] if has_default else []))
    new = a_pod(priority_class_name=asked, priority=value, preemption_policy=policy)
    arguments = (CREATE, new, None, store, CONTEXT)
    if asked == "none":
        words = "no PriorityClass with name none was found"
        assert refused(pod.admit_priority, *arguments) == words
        return
    found = high if asked else base if has_default else None
    number, mode = (0, LOW) if found is None else (found.value, found.preemption_policy or LOW)
    if value is not None and value != number:
        words = f"the integer value of priority ({value}) {COMPUTED} {number} from the given PriorityClass name"  # fmt: skip
        assert refused(pod.admit_priority, *arguments) == words
    elif policy is not None and policy != mode:
        words = f"the string value of PreemptionPolicy ({policy}) {COMPUTED} {mode} from the given PriorityClass name"  # fmt: skip
        assert refused(pod.admit_priority, *arguments) == words
    else:
        name = asked or ("base" if has_default else asked)
        expected = {"priority": number, "preemption_policy": mode, "priority_class_name": name}
        assert pod.admit_priority(*arguments) == replace(new, spec=replace(new.spec, **expected))


def test_adm_7_a_class_without_values_has_the_defaults():
    store = store_of(a_class("bare"))
    made = pod.admit_priority(CREATE, a_pod(priority_class_name="bare"), None, store, CONTEXT)
    assert (made.spec.priority, made.spec.preemption_policy) == (0, LOW)


@pytest.mark.parametrize(("before", "after"), [*product((None, 0, 3), (None, 4))])
@pytest.mark.parametrize(("was", "now"), [*product((None, LOW), (None, NEVER))])
def test_adm_7_an_update_keeps_what_it_omits(before, after, was, now):
    old = a_pod(priority=before, preemption_policy=was)
    new = a_pod(priority=after, preemption_policy=now)
    kept = (before if after is None else after, was if now is None else now)
    made = pod.admit_priority(CREATE, new, old, EMPTY, CONTEXT)
    assert (made.spec.priority, made.spec.preemption_policy) == kept
    assert (made is new) is ((after, now) == kept)
    assert pod.admit_priority(CREATE, old, old, EMPTY, CONTEXT) is old


@pytest.mark.parametrize("drawn", cases(40))
def test_adm_8_of_several_defaults_the_lowest_counts(drawn):
    made = [
        a_class(f"c{n}", value=drawn.choice([None, -3, 0, 1, 3]), global_default=drawn.choice([True, False, None]))
        for n in range(drawn.randint(0, 4))
    ]  # fmt: skip
    marked = [one for one in made if one.global_default]
    expected = min(marked, key=lambda one: (one.value or 0, one.metadata.name), default=None)
    assert priority.default_class(store_of(*made)) == expected


@pytest.mark.parametrize("is_default", [True, False, None])
@pytest.mark.parametrize("name", ["a", "b"])
@pytest.mark.parametrize("is_update", [True, False])
@pytest.mark.parametrize("has_other", [True, False])
def test_adm_8_only_one_class_is_the_default(is_default, name, is_update, has_other):
    other = a_class("a", value=1, global_default=True)
    store = store_of(*([other] if has_other else []), a_class("c", value=1))
    new = a_class(name, value=2, global_default=is_default)
    exchange = Exchange(Request("create", resources.PRIORITY_CLASSES), store, CONTEXT)
    old = new if is_update else None
    if is_default and has_other and not (is_update and name == "a"):
        with pytest.raises(ApiError) as error:
            priority.check_class(exchange, new, old)
        words = "PriorityClass a is already marked as default. Only one default can exist"
        subject = f'priorityclasses.scheduling.k8s.io "{name}" is forbidden'
        assert error.value.status.message == f"{subject}: {words}"
        assert error.value.status.code == 403
    else:
        assert priority.check_class(exchange, new, old) is None


# --- runtime classes


def runtime(overhead: Any = None, selector: Any = None, tolerations: Any = None) -> RuntimeClass:
    scheduling = None
    if selector is not None or tolerations is not None:
        scheduling = Scheduling(node_selector=selector, tolerations=tolerations)
    made = None if overhead is None else Overhead(pod_fixed=overhead)
    return named(RuntimeClass, "r", handler="h", overhead=made, scheduling=scheduling)


def test_adm_31_the_overhead_of_a_class():
    def admitted(given: Any, own: Any) -> Any:
        new = a_pod(runtime_class_name="r", overhead=own)
        return pod.admit_runtime_class(CREATE, new, None, store_of(runtime(given)), CONTEXT)

    words = "pod rejected: Pod's Overhead doesn't match RuntimeClass's defined Overhead"
    for own in (None, {"cpu": "1"}, {"cpu": "1000m"}):
        assert admitted({"cpu": "1"}, own).spec.overhead == {"cpu": "1"}
    for given, own in (({"cpu": "1"}, {"cpu": "2"}), ({"cpu": "1"}, {}), ({"cpu": "1"}, {"memory": "1"})):  # fmt: skip
        new = a_pod(runtime_class_name="r", overhead=own)
        arguments = (CREATE, new, None, store_of(runtime(given)), CONTEXT)
        assert refused(pod.admit_runtime_class, *arguments) == words
    assert admitted(None, {"cpu": "2"}).spec.overhead == {"cpu": "2"}
    bare = store_of(replace(runtime(), overhead=Overhead()))
    made = pod.admit_runtime_class(CREATE, a_pod(runtime_class_name="r", overhead={}), None, bare, CONTEXT)  # fmt: skip
    assert made.spec.overhead is None
    ghost = a_pod(runtime_class_name="ghost")
    words = 'pod rejected: RuntimeClass "ghost" not found'
    assert refused(pod.admit_runtime_class, CREATE, ghost, None, EMPTY, CONTEXT) == words
    for new, old in ((a_pod(), None), (ghost, ghost)):
        assert pod.admit_runtime_class(CREATE, new, old, EMPTY, CONTEXT) is new


def test_adm_31_the_nodes_of_a_class():
    def of_new(theirs: Any, mine: Any) -> Any:
        new = a_pod(runtime_class_name="r", node_selector=mine)
        return runtime_class.of_new(new, store_of(runtime(None, theirs)))

    assert of_new({"a": "x"}, None) == {"node_selector": {"a": "x"}}
    assert of_new({"a": "x"}, {"a": "x", "b": "y"}) == {"node_selector": {"a": "x", "b": "y"}}
    assert of_new({}, {"b": "y"}) == {}
    new = a_pod(runtime_class_name="r", node_selector={"a": "y", "b": "z"})
    store = store_of(runtime(None, {"b": "x", "a": "x"}))
    words = "conflict: runtimeClass.scheduling.nodeSelector[a] = x; pod.spec.nodeSelector[a] = y"
    assert refused(runtime_class.of_new, new, store) == words
    only = (Toleration(key="rt", operator="Exists"),)
    new = a_pod(runtime_class_name="r", tolerations=(Toleration(key="own"),))
    assert runtime_class.of_new(new, store_of(runtime(None, None, only))) == {
        "tolerations": (Toleration(key="own"), *only)
    }
    bare = a_pod(runtime_class_name="r")
    assert runtime_class.of_new(bare, store_of(runtime(None, None, only))) == {"tolerations": only}
    assert runtime_class.of_new(bare, store_of(runtime(None, None, ()))) == {}
    assert runtime_class.of_new(a_pod(), EMPTY) == {}


def covers(wide: Toleration, narrow: Toleration) -> bool:
    """By the fields, as the documentation says which taints a toleration matches."""
    if wide == narrow:
        return True
    if (wide.key and wide.key != narrow.key) or (wide.effect and wide.effect != narrow.effect):
        return False
    seconds = (wide.toleration_seconds, narrow.toleration_seconds)
    if seconds[0] is not None and (seconds[1] is None or seconds[1] > seconds[0]):
        return False
    if (wide.operator or "Equal") == "Exists":
        return True
    return (
        (wide.operator or "Equal") == (narrow.operator or "Equal") == "Equal"
        and (wide.value or "") == (narrow.value or "")
    )  # fmt: skip


@pytest.mark.parametrize("drawn", cases(400))
def test_adm_31_tolerations_that_another_one_covers_are_left_out(drawn):
    def toleration() -> Toleration:
        return Toleration(
            key=drawn.choice(["a", "b", None, ""]),
            operator=drawn.choice(["Exists", "Equal", None, "Odd"]),
            value=drawn.choice(["x", None, ""]),
            effect=drawn.choice(["NoSchedule", "NoExecute", None]),
            toleration_seconds=drawn.choice([None, 5, 9]),
        )

    pool = [toleration() for _ in range(3)]
    first, second = [tuple(some(drawn, pool, 2)) for _ in range(2)]
    every, expected = first + second, []
    for place, one in enumerate(every):
        later = [other for other in every[place + 1 :] if other != one]
        if not any(covers(other, one) for other in (*later, *expected)):
            expected.append(one)
    assert runtime_class.merge_tolerations(first, second) == tuple(expected)


def test_adm_31_an_overhead_needs_a_class_that_has_one():
    words = "pod rejected: Pod Overhead set without corresponding RuntimeClass defined Overhead"

    def check(new: Pod, old: Any, *objects: Any) -> None:
        runtime_class.check_overhead(Exchange(CREATE, store_of(*objects), CONTEXT), new, old)

    new = a_pod(overhead={"cpu": "1"})
    assert refused(check, new, None) == words
    assert refused(check, a_pod(overhead={"cpu": "1"}, runtime_class_name="r"), None, runtime()) == words  # fmt: skip
    check(a_pod(overhead={"cpu": "1"}, runtime_class_name="r"), None, runtime({"cpu": "1"}))
    check(new, new)
    check(a_pod(), None)


# --- labels of selectors


def term(match: Any, mismatch: Any, selector: Any = ()) -> dict[str, Any]:
    tree: dict[str, Any] = {"topologyKey": "zone"}
    if selector is not None:
        tree["labelSelector"] = {"matchExpressions": [*selector]} if selector else {}
    tree |= {"matchLabelKeys": match} if match is not None else {}
    return tree | ({"mismatchLabelKeys": mismatch} if mismatch is not None else {})


OWN = ({"key": "own", "operator": "Exists"},)
LABELS = {"a": "1", "b": "2"}


def requirement(key: str, operator: str) -> dict[str, Any]:
    return {"key": key, "operator": operator, "values": [LABELS[key]]}


@pytest.mark.parametrize("selector", [None, (), OWN])
@pytest.mark.parametrize("match", [None, ["a"], ["b", "x", "a"]])
@pytest.mark.parametrize("mismatch", [None, ["b"], ["x"]])
def test_adm_30_the_keys_of_terms_and_constraints(selector, match, mismatch):
    before = term(match, mismatch, selector)
    after = term(match, mismatch, selector)
    added = [requirement(key, "In") for key in match or () if key in LABELS]
    added += [requirement(key, "NotIn") for key in mismatch or () if key in LABELS]
    if added and selector is not None:
        after["labelSelector"] = {"matchExpressions": [*selector, *added]}
    plain = term(None, None, OWN)
    kinds = ("podAffinity", "podAntiAffinity")
    required = "requiredDuringSchedulingIgnoredDuringExecution"
    preferred = "preferredDuringSchedulingIgnoredDuringExecution"
    for kind in kinds:
        for name, wrap in (
            (required, lambda one: one),
            (preferred, lambda one: {"weight": 3, "podAffinityTerm": one}),
        ):

            def spec(one: Any, kind: str = kind, name: str = name, wrap: Any = wrap) -> Any:
                return {"containers": [{"name": "c"}], "affinity": {kind: {name: [wrap(plain), wrap(one)]}}}  # fmt: skip

            merged_as(spec(before), spec(after))
    constraint = {"maxSkew": 1, "topologyKey": "zone", "whenUnsatisfiable": "DoNotSchedule"}
    if mismatch is None:
        other = {**constraint, "labelSelector": {}}

        def constraints(one: Any) -> Any:
            whole = {**constraint, **one, "topologyKey": "zone"}
            return {"containers": [{"name": "c"}], "topologySpreadConstraints": [other, whole]}

        merged_as(constraints(before), constraints(after))


def merged_as(before: Any, after: Any) -> None:
    given = from_tree(Pod, {"metadata": {"name": "p", "labels": LABELS}, "spec": before})
    changed = label_keys.merged(given)
    assert to_tree(replace(given.spec, **changed)) == to_tree(from_tree(PodSpec, after))
    if before == after:
        assert set(changed) <= {"topology_spread_constraints"}
    made = pod.prepare(CREATE, given, None, EMPTY, CONTEXT)
    assert to_tree(made.spec) == to_tree(from_tree(PodSpec, after))


def test_adm_30_a_pod_without_labels_or_keys_stays():
    tree = {"containers": [{"name": "c"}], "affinity": {"podAffinity": {}}}
    given = from_tree(Pod, {"metadata": {"name": "p"}, "spec": tree})
    assert label_keys.merged(given) == {} == label_keys.merged(a_pod(labels=LABELS))
    keyed = {"containers": [{"name": "c"}], "affinity": {"podAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": [term(["a"], None)]}}}  # fmt: skip
    assert label_keys.merged(from_tree(Pod, {"metadata": {"name": "p"}, "spec": keyed})) == {}
