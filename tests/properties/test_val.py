"""Validation: VAL-1 to VAL-33 (spec/validation.md)."""

import json
from itertools import pairwise
from typing import Any

import pytest
import val_examples
import val_examples_cluster
import val_examples_odd
import val_examples_trust
from hypothesis import assume, example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import label_selectors, labels, objects, pods, services
from val_examples import DAEMON_SET, DEPLOYMENT, JOB, REPLICA_SET, STATEFUL_SET, C

from refk8s.core.api import codec, quantity, resources, status
from refk8s.core.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from refk8s.core.api.cron_schedule import ScheduleError, parse_schedule
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.selector import from_label_selector
from refk8s.core.apiserver.admission.create import admit_job
from refk8s.core.apiserver.defaults import default
from refk8s.core.apiserver.flow_control import default_flow_control
from refk8s.core.apiserver.validation import (
    names,
    validate_approval_update,
    validate_create,
    validate_metadata,
    validate_status_update,
    validate_update,
)
from refk8s.core.apiserver.validation.job_policies import count_indexes
from refk8s.core.apiserver.validation.security import namespace_of_sysctl
from refk8s.core.apiserver.validation.selectors import validate_selector
from refk8s.core.apiserver.versions import stored_resource

NEW = [
    *val_examples.NEW,
    *val_examples_cluster.NEW,
    *val_examples_trust.NEW,
    *val_examples_odd.NEW,
]
CHANGES = [
    *val_examples.CHANGES,
    *val_examples_cluster.CHANGES,
    *val_examples_trust.CHANGES,
    *val_examples_odd.CHANGES,
]
STATUSES = [*val_examples.STATUSES, *val_examples_cluster.STATUSES, *val_examples_trust.STATUSES]
KINDS = [
    resource
    for resource in resources.ALL
    if "create" in resource.verbs or "update" in resource.verbs
]
REASONS = set(status._WORDS)


def tree_of(kind: str, fields: dict[str, Any]) -> Any:
    """A defaulted object from the short form of an example: the kind as Kind.group/version,
    metadata filled in."""
    name, _, version = kind.partition(".")
    resource = resources.by_kind(version or "v1", name)
    assert resource is not None, kind
    plain = {"name": "x", "uid": "u", **({"namespace": "n"} if resource.namespaced else {})}
    tree = {
        "kind": name,
        "apiVersion": version or "v1",
        **fields,
        "metadata": plain | fields.get("metadata", {}),
    }
    obj, unknown = codec.decode_tolerant(resource.type, tree)
    assert not unknown, unknown
    obj = default(resource, obj)
    return resource, admit_job(None, obj, None, None, None) if name == "Job" else obj


def numbered(examples: Any) -> list[str]:
    return [f"{rule}-{number}" for number, (rule, *_) in enumerate(examples)]


def causes_of(causes: Any) -> list[tuple[str, str]]:
    return [(cause.field, cause.reason.removeprefix("FieldValue")) for cause in causes]


# --- the form


@pytest.mark.parametrize(
    "resource", KINDS, ids=lambda resource: f"{resource.kind}.{resource.api_version}"
)
def test_val_1_whatever_the_object_there_are_causes_and_no_errors(resource):
    # whatever version it was written in, an object is checked as it is stored (API-28)
    stored = stored_resource(resource)

    @given(objects(stored.type), objects(stored.type), st.booleans())
    def law(new, old, is_defaulted):
        if is_defaulted:
            new, old = default(stored, new), default(stored, old)
        found = (
            validate_create(resource, new)
            + validate_update(resource, new, old)
            + validate_status_update(resource, new, old)
        )
        for cause in found:  # VAL-2
            assert cause.reason in REASONS and isinstance(cause.field, str)
            json.dumps(cause.message)

    law()


@pytest.mark.parametrize(("rule", "kind", "fields", "causes"), NEW, ids=numbered(NEW))
def test_val_2_a_new_object_is_refused_with_these_causes(rule, kind, fields, causes):
    resource, obj = tree_of(kind, fields)
    assert causes_of(validate_create(resource, obj)) == causes


@pytest.mark.parametrize(
    ("rule", "kind", "before", "after", "causes"), CHANGES, ids=numbered(CHANGES)
)
def test_val_2_a_change_is_refused_with_these_causes(rule, kind, before, after, causes):
    resource, old = tree_of(kind, before)
    assert (
        validate_create(
            resource, replace(old, status=type(old.status)()) if resource.has_status else old
        )
        == ()
    )
    _, new = tree_of(kind, after)
    assert causes_of(validate_update(resource, new, old)) == causes


@pytest.mark.parametrize(
    ("rule", "kind", "before", "after", "causes"), STATUSES, ids=numbered(STATUSES)
)
def test_val_2_a_status_is_refused_with_these_causes(rule, kind, before, after, causes):
    (resource, old), (_, new) = tree_of(kind, before), tree_of(kind, after)
    assert causes_of(validate_status_update(resource, new, old)) == causes


def test_val_2_every_rule_about_objects_has_an_example_that_it_refuses():
    told = {rule for rule, *_, causes in [*NEW, *CHANGES, *STATUSES] if causes}
    assert told >= {f"VAL-{n}" for n in (*range(3, 34), 50, 51, 52, *range(60, 69))}


@pytest.mark.parametrize(("before", "after", "causes"), val_examples_cluster.APPROVALS)
def test_val_51_an_approval_is_refused_with_these_causes(before, after, causes):
    (resource, old), (_, new) = (
        tree_of(val_examples_cluster.SIGNING, before),
        tree_of(val_examples_cluster.SIGNING, after),
    )
    assert causes_of(validate_approval_update(resource, new, old)) == causes


@pytest.mark.parametrize(("rule", "kind", "fields", "causes"), NEW, ids=numbered(NEW))
def test_val_5_a_right_object_that_is_sent_again_is_right(rule, kind, fields, causes):
    resource, obj = tree_of(kind, fields)
    if not validate_create(resource, obj):
        assert validate_update(resource, obj, obj) == ()


def admitted(pod: Pod) -> Pod:
    return default(resources.PODS, pod)


@given(pods())
def test_val_2_what_users_write_is_right_once_it_is_defaulted_pods(pod):
    assume(
        all(
            t.effect == "NoExecute" or t.toleration_seconds is None
            for t in pod.spec.tolerations or ()
        )
    )
    assert validate_create(resources.PODS, admitted(pod)) == ()
    assert validate_update(resources.PODS, admitted(pod), admitted(pod)) == ()


@given(services())
def test_val_2_what_users_write_is_right_once_it_is_defaulted_services(service):
    assert validate_create(resources.SERVICES, default(resources.SERVICES, service)) == ()


@pytest.mark.parametrize(
    "resource",
    [resources.DEPLOYMENTS, resources.REPLICA_SETS, resources.STATEFUL_SETS, resources.DAEMON_SETS],
    ids=lambda resource: resource.kind,
)
def test_val_7_a_template_that_its_selector_matches_is_right_and_another_is_not(resource):
    @given(pods(), labels, label_selectors)
    def law(pod, given_labels, selector):
        metadata = ObjectMeta(labels=given_labels or None)
        spec = replace(pod.spec, restart_policy="Always", active_deadline_seconds=None)
        obj, _ = codec.decode_tolerant(resource.type, {"metadata": {"name": "x", "namespace": "n"}})
        template = replace(obj.spec.template, metadata=metadata, spec=spec)
        obj = default(
            resource, replace(obj, spec=replace(obj.spec, selector=selector, template=template))
        )
        fields = [cause.field for cause in validate_create(resource, obj)]
        matched = plainly_matches(selector, given_labels)
        empty = not (selector.match_labels or selector.match_expressions)
        assert ("spec.template.metadata.labels" in fields) == (not matched)
        assert ("spec.selector" in fields) == empty

    law()


hostile_labels = st.dictionaries(
    st.sampled_from(["app", "99%", "a b", "", "x/y/z"]),
    st.sampled_from(["web", "no/", "", "-x"]),
    max_size=2,
)
hostile_expressions = st.lists(st.fixed_dictionaries({
    "key": st.sampled_from(["app", "99%", ""]), "operator": st.sampled_from(["In", "NotIn", "Exists", "Is", ""]),
    "values": st.lists(st.sampled_from(["web", "-x"]), max_size=2),
}), max_size=2)  # fmt: skip


@pytest.mark.parametrize(
    "kind", [REPLICA_SET, DEPLOYMENT, STATEFUL_SET, DAEMON_SET, "ReplicationController", JOB]
)
def test_val_7_an_accepted_workload_selects_the_pods_of_its_own_template(kind):
    """So that a controller counts what it creates, and stops: the law behind bounded creations."""

    @given(st.none() | hostile_labels, st.none() | hostile_expressions, hostile_labels)
    @example({"99%": "web"}, None, {"app": "web"})
    @example({"app": "web"}, None, {"app": "web"})
    def law(match_labels, match_expressions, template_labels):
        selector = {"matchLabels": match_labels, "matchExpressions": match_expressions}
        if kind == "ReplicationController":
            selector = match_labels
        template = {"metadata": {"labels": template_labels}, "spec": {"containers": [C]}}
        spec = {"selector": selector, "template": template}
        if kind == JOB:
            spec = {
                **spec,
                "manualSelector": True,
                "template": {**template, "spec": {**template["spec"], "restartPolicy": "Never"}},
            }
        resource, obj = tree_of(kind, {"spec": spec})
        if not validate_create(resource, obj):
            labels = obj.spec.template.metadata.labels
            if kind == "ReplicationController":
                assert obj.spec.selector and obj.spec.selector.items() <= labels.items()
            else:
                assert from_label_selector(obj.spec.selector).matches(labels or {})

    law()


def plainly_matches(selector: Any, given_labels: dict[str, str]) -> bool:
    wanted = all(
        given_labels.get(key) == value for key, value in (selector.match_labels or {}).items()
    )
    for one in selector.match_expressions or ():
        value = given_labels.get(one.key)
        wanted = wanted and {
            "In": value in (one.values or ()), "NotIn": value not in (one.values or ()), "Exists": value is not None,
            "DoesNotExist": value is None,
        }[one.operator]  # fmt: skip
    return wanted


# --- names and metadata

dns_letters = "abz09-."
texts = st.text(st.sampled_from([*dns_letters, "A", "_", "/", "%", " ", "é", "\n"]), max_size=8)


def plainly_label(text: str) -> bool:
    return (
        0 < len(text) <= 63
        and all(mark in "abcdefghijklmnopqrstuvwxyz0123456789-" for mark in text)
        and text[0] != "-" != text[-1]
    )


@given(texts | st.text(st.sampled_from(dns_letters), min_size=60, max_size=70))
@example("a" * 63)
@example("a\n")
def test_val_3_a_label_is_lower_case_letters_digits_and_inner_dashes(text):
    assert (names.dns_label(text) == ()) == plainly_label(text)


@given(texts | st.lists(st.text(st.sampled_from("ab-"), max_size=3), max_size=5).map(".".join))
def test_val_3_a_subdomain_is_labels_between_dots(text):
    right = len(text) <= 253 and all(plainly_label(part) for part in text.split("."))
    assert (names.dns_subdomain(text) == ()) == right


@given(st.text(st.sampled_from("a-"), min_size=200, max_size=30_000))
def test_val_3_hostile_names_are_looked_at_once(text):
    """No pattern backtracks: a name of any length is judged in time proportional to it (a quadratic
    one would not end here)."""
    for check in (
        names.dns_subdomain,
        names.dns_label,
        names.qualified_name,
        names.label_value,
        names.config_key,
        names.port_name,
    ):
        check(text)


@given(
    st.sampled_from([resources.PODS, resources.SERVICES, resources.NAMESPACES, resources.ROLES]),
    texts,
)
def test_val_3_each_kind_has_its_own_names(resource, name):
    namespace = "n" if resource.namespaced else None
    wrong = validate_metadata(resource, ObjectMeta(name=name or None, namespace=namespace))
    checks = {
        "Pod": names.dns_subdomain,
        "Service": names.dns_label,
        "Namespace": names.dns_label,
        "Role": names.path_segment,
    }
    check = checks[resource.kind]
    assert (not wrong) == (name != "" and check(name) == ())


keys = st.text(st.sampled_from("aZ0-_./é"), max_size=6)


@given(keys, keys)
def test_val_4_a_label_is_a_qualified_name_and_a_value(key, value):
    wrong = validate_metadata(
        resources.PODS, ObjectMeta(name="x", namespace="n", labels={key: value})
    )

    def inner(text: str) -> bool:
        return (
            text != ""
            and all(mark in "aZ0-_." for mark in text)
            and text[0] in "aZ0"
            and text[-1] in "aZ0"
        )

    prefix, slash, name = key.rpartition("/")
    right_key = inner(name) and (
        not slash or ("/" not in prefix and all(plainly_label(part) for part in prefix.split(".")))
    )
    assert (not wrong) == (right_key and (value == "" or inner(value)))


@given(st.lists(st.booleans(), max_size=4))
def test_val_4_one_owner_at_most_is_the_controller(controllers):
    owners = tuple([
        OwnerReference(api_version="v1", kind="K", name=f"o{number}", uid=f"{number}", controller=is_controller or None)
        for number, is_controller in enumerate(controllers)
    ])  # fmt: skip
    wrong = validate_metadata(
        resources.PODS, ObjectMeta(name="x", namespace="n", owner_references=owners or None)
    )
    assert len(wrong) == max(0, sum(controllers) - 1)


@given(st.integers(250_000, 270_000), st.sampled_from("aé"))
def test_val_4_annotations_are_counted_in_bytes(size, letter):
    count = size // len(letter.encode())
    wrong = validate_metadata(
        resources.PODS, ObjectMeta(name="x", namespace="n", annotations={"k": letter * count})
    )
    assert [cause.reason for cause in wrong] == ["FieldValueTooLong"] * (
        1 + count * len(letter.encode()) > 256 * 1024
    )


@given(
    st.lists(st.sampled_from(["a/1", "b/2", "c/3"]), unique=True),
    st.lists(st.sampled_from(["a/1", "b/2", "c/3"]), unique=True),
)
def test_val_5_what_is_being_deleted_gets_no_new_finalizers(before, after):
    obj = default(resources.CONFIG_MAPS, resources.CONFIG_MAPS.type())
    going = ObjectMeta(
        name="x",
        namespace="n",
        uid="u",
        deletion_timestamp="2026-01-01T00:00:00Z",
        finalizers=tuple(before) or None,
    )
    old = replace(obj, metadata=going)
    new = replace(obj, metadata=replace(going, finalizers=tuple(after) or None))
    assert bool(validate_update(resources.CONFIG_MAPS, new, old)) == bool(set(after) - set(before))


@given(label_selectors)
def test_val_6_a_valid_selector_has_no_causes(selector):
    assert validate_selector(selector, "s") == []


# --- pods


numbers = st.integers(0, 3)


@given(st.lists(numbers, min_size=1, max_size=4), st.lists(numbers, max_size=2))
def test_val_8_every_name_in_a_pod_is_another(main, init):
    def made(ids):
        return tuple([Container(name=f"c{n}", image="i") for n in ids])

    pod = Pod(
        metadata=ObjectMeta(name="x", namespace="n"),
        spec=PodSpec(containers=made(main), init_containers=made(init) or None),
    )
    wrong = validate_create(resources.PODS, admitted(pod))
    everyone = [*main, *init]
    assert len(wrong) == len(everyone) - len(set(everyone))
    assert all(cause.reason == "FieldValueDuplicate" for cause in wrong)


cpu = st.integers(0, 4000).map(lambda milli: f"{milli}m")


@given(st.none() | cpu, st.none() | cpu)
def test_val_12_a_request_is_at_most_its_limit(request, limit):
    resources_of = {
        "requests": {"cpu": request} if request else {},
        "limits": {"cpu": limit} if limit else {},
    }
    _, pod = tree_of(
        "Pod", {"spec": {"containers": [{"name": "c", "image": "i", "resources": resources_of}]}}
    )
    wrong = validate_create(resources.PODS, pod)
    assert bool(wrong) == (
        request is not None and limit is not None and int(request[:-1]) > int(limit[:-1])
    )


@given(st.text(max_size=4).filter(lambda text: not quantity.is_quantity(text)))
def test_val_1_what_is_no_quantity_has_a_cause_where_a_decoder_did_not_refuse_it(text):
    """Components of this process hand over objects that no decoder has seen."""
    resources_of = ResourceRequirements(requests={"cpu": text}, limits={"memory": text})
    pod = Pod(
        metadata=ObjectMeta(name="x", namespace="n"),
        spec=PodSpec(containers=(Container(name="c", image="i", resources=resources_of),)),
    )
    assert {
        cause.field.partition(".resources")[2]
        for cause in validate_create(resources.PODS, admitted(pod))
    } >= {".limits[memory]"}


@given(pods(), pods())
def test_val_17_of_a_pod_only_images_and_what_the_rule_names_can_change(one, other):
    old = admitted(replace(one, metadata=replace(one.metadata, namespace="n")))
    fresh = zip(old.spec.containers, other.spec.containers, strict=False)
    images = (
        tuple([replace(mine, image=theirs.image) for mine, theirs in fresh])
        + old.spec.containers[len(other.spec.containers) :]
    )
    assert (
        validate_update(
            resources.PODS, replace(old, spec=replace(old.spec, containers=images)), old
        )
        == ()
    )
    moved = replace(old, spec=replace(old.spec, node_name="elsewhere", hostname="h"))
    assert ("spec", "FieldValueForbidden") in [
        (cause.field, cause.reason) for cause in validate_update(resources.PODS, moved, old)
    ]


@given(st.none() | st.integers(1, 100), st.none() | st.integers(1, 100))
def test_val_17_a_deadline_only_comes_nearer(before, after):
    def made(seconds):
        deadline = {"activeDeadlineSeconds": seconds} if seconds else {}
        return tree_of("Pod", {"spec": {"containers": [{"name": "c", "image": "i"}]} | deadline})[1]

    allowed = after == before or (after is not None and (before is None or after <= before))
    assert (validate_update(resources.PODS, made(after), made(before)) == ()) == allowed


counts = st.integers(0, 3)


@given(counts, counts, counts, counts)
def test_val_21_no_part_of_a_status_is_larger_than_the_whole(replicas, labelled, ready, available):
    template = {
        "metadata": {"labels": {"a": "b"}},
        "spec": {"containers": [{"name": "c", "image": "i"}]},
    }
    spec = {"selector": {"matchLabels": {"a": "b"}}, "template": template}
    parts = {
        "replicas": replicas,
        "fullyLabeledReplicas": labelled,
        "readyReplicas": ready,
        "availableReplicas": available,
    }
    _, old = tree_of("ReplicaSet.apps/v1", {"spec": spec})
    _, new = tree_of("ReplicaSet.apps/v1", {"spec": spec, "status": parts})
    right = labelled <= replicas and available <= ready <= replicas
    assert (validate_status_update(resources.REPLICA_SETS, new, old) == ()) == right


fields_of_cron = st.sampled_from(
    [
        "*",
        "?",
        "*/5",
        "1",
        "1-3",
        "1-3/2",
        "1,2",
        "jan",
        "MON",
        "60",
        "0",
        "7",
        "3-1",
        "x",
        "*/0",
        "-1",
        "",
    ]
)


def is_schedule(text):
    try:
        return parse_schedule(text) is not None
    except ScheduleError:
        return False


@given(st.lists(fields_of_cron, min_size=4, max_size=6))
def test_val_28_a_schedule_has_five_fields_within_their_bounds(parts):
    bounds = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 6)]
    texts_of = [part for part in parts if part]

    def right(part: str, position: int) -> bool:
        low, high = bounds[position]
        if part in ("*", "?", "*/5"):
            return True
        if part in ("1", "1-3", "1-3/2", "1,2"):
            return True
        if part in ("0", "7", "60"):
            return low <= int(part) <= high
        return (part == "jan" and position == 3) or (part == "MON" and position == 4)

    expected = len(texts_of) == 5 and all(
        right(part, position) for position, part in enumerate(texts_of)
    )
    assert is_schedule(" ".join(parts)) == expected


# --- security, jobs


@given(st.text(st.sampled_from("netipckrl./_-a1"), max_size=12))
@example("net.ipv4.tcp_syncookies")
@example("net/ipv4.conf/all")
@example("kernel.shm_rmid_forced")
def test_val_60_a_sysctl_is_of_one_kernel_namespace_however_it_is_written(name):
    found = namespace_of_sysctl(name)
    swapped = name.translate(str.maketrans("./", "/."))
    assert found in ("", "net", "ipc")
    if "." in name or "/" in name:
        assert namespace_of_sysctl(swapped) == found, "dots and slashes change places"


@given(st.lists(st.tuples(st.integers(0, 30), st.integers(0, 5)), max_size=4), st.integers(0, 40))
def test_val_67_indexes_are_counted_as_often_as_they_are_named(intervals, completions):
    text = ",".join(f"{low}-{low + more}" if more else str(low) for low, more in intervals)
    named = [index for low, more in intervals for index in range(low, low + more + 1)]
    total, wrong = count_indexes(text, completions)
    rises = all(left < right for left, right in pairwise(named))
    assert (wrong == "") == (rises and all(index < completions for index in named))
    assert total == (len(named) if not wrong else 0)


@given(st.text(st.sampled_from("0123,-+ a"), max_size=12), st.integers(0, 9))
@example("9" * 5000, 9)
def test_val_67_any_text_is_counted_or_refused(text, completions):
    total, _ = count_indexes(text, completions)
    assert 0 <= total <= max(completions, 0)


@pytest.mark.parametrize(
    "obj", default_flow_control(), ids=lambda one: f"{one.kind}-{one.metadata.name}"
)
def test_val_68_the_default_flow_schemas_and_priority_levels_are_valid(obj):
    """With ADM-12: they are defaulted, and every schema names one of the levels."""
    resource = resources.by_kind(obj.api_version, obj.kind)
    assert default(resource, obj) is obj and validate_create(resource, obj) == ()
    if obj.kind == "FlowSchema":
        levels = {one.metadata.name for one in default_flow_control() if one.kind != "FlowSchema"}
        assert obj.spec.priority_level_configuration.name in levels and len(levels) == 8
