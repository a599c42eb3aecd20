"""The object model, rules OBJ-1 to OBJ-12 (spec/object_model.md): records, their JSON, and the
table of resources."""

from __future__ import annotations

import copy
import json
import subprocess
import sys
from datetime import datetime, timedelta
from fractions import Fraction
from importlib import import_module
from pathlib import Path
from typing import Any

import msgspec
import pytest
import strategies
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from refk8s.core.api import base, codec, convert, intstr, json_text, resources, schema
from refk8s.core.api.apps_v1 import Deployment, DeploymentSpec
from refk8s.core.api.batch_v1 import JobSchedulingConfiguration
from refk8s.core.api.coordination_v1 import Lease
from refk8s.core.api.core_v1 import ConfigMap, ContainerStatus, Pod, PodSpec, PodStatus
from refk8s.core.api.meta_v1 import Object
from refk8s.core.api.moment import TimeError, canonical_micro_time, canonical_time
from refk8s.core.api.quantity import canonical

ROOT = Path(__file__).resolve().parents[2]
each_kind = pytest.mark.parametrize(
    "kind",
    strategies.KINDS,
    ids=lambda kind: f"{kind.__module__.rsplit('.', 1)[1]}.{kind.__name__}",
)
OBJECTS = [kind for kind in strategies.KINDS if not kind.__name__.endswith("List")]
each_object = pytest.mark.parametrize(
    "kind", OBJECTS, ids=lambda kind: f"{kind.__module__.rsplit('.', 1)[1]}.{kind.__name__}"
)
briefly = settings(max_examples=max(8, settings().max_examples // 10))


def slow_way(kind: type, data: bytes) -> tuple[Any, list[str]]:
    """What the field-by-field decoder makes of the bytes: the specification of the fast one."""
    problems: list[str] = []
    return convert.converter_of(kind)(json_text.parse(data), None, problems), problems


# Records and JSON


@each_kind
def test_obj_1_json_to_record_to_json_is_identity(kind):
    @briefly
    @given(strategies.json_trees(kind))
    def check(tree):
        record = codec.decode(kind, json.dumps(tree).encode())
        assert json.loads(codec.encode(record)) == tree

    check()


@each_kind
def test_obj_1_record_to_json_to_record_is_identity(kind):
    @briefly
    @given(strategies.objects(kind))
    def check(record):
        assert codec.decode(kind, codec.encode(record)) == record
        assert codec.from_tree(kind, codec.to_tree(record)) == record

    check()


@given(strategies.objects(Pod))
def test_obj_1_a_record_cannot_be_changed_and_a_tree_is_a_copy(pod):
    with pytest.raises(AttributeError):
        pod.spec.node_name = "n"
    before = copy.deepcopy(pod)
    tree = codec.to_tree(pod)
    tree["metadata"]["labels"] = {"changed": "yes"}
    tree["spec"]["containers"].clear()
    assert pod == before


@each_object
def test_obj_2_what_is_absent_is_none_and_is_not_written(kind):
    @briefly
    @given(strategies.objects(kind))
    def check(record):
        def visit(value: Any) -> None:
            if isinstance(value, msgspec.Struct):
                tree = codec.to_tree(value)
                for part in msgspec.structs.fields(value):
                    inner = getattr(value, part.name)
                    inner = None if inner is base.NO_FIELDS else inner
                    assert (inner is None) == (tree.get(part.encode_name) is None), part.encode_name
                    assert (
                        inner is not None
                        or part.default not in (None, base.NO_FIELDS)
                        or part.encode_name not in tree
                    )
                    visit(inner)
            elif isinstance(value, tuple):
                for item in value:
                    visit(item)

        visit(record)

    check()


@each_kind
def test_obj_3_a_required_field_is_always_written_and_may_be_missing_in_the_input(kind):
    facts = schema.fields_of(kind)
    written = json.loads(codec.encode(kind()))
    assert {wire for wire, known in facts.items() if known.required} <= set(written)
    assert codec.decode(kind, b"{}") == kind()
    if issubclass(kind, Object):  # every object says what it is
        assert (
            written["kind"] == kind.__name__ and written["apiVersion"] and written["metadata"] == {}
        )


def test_obj_3_go_writes_empty_structs_and_we_do_too():
    pod = codec.decode(Pod, b'{"spec":{"containers":[{"name":"a"}]}}')
    assert json.loads(codec.encode(pod))["spec"]["containers"] == [{"name": "a", "resources": {}}]
    assert json.loads(codec.encode(Deployment()))["spec"] == {
        "strategy": {},
        "template": {"metadata": {}, "spec": {"containers": []}},
    }


# One canonical form


@each_object
def test_obj_4_the_slow_way_makes_the_same_record_as_the_fast_way(kind):
    @briefly
    @given(strategies.objects(kind))
    def check(record):
        data = codec.encode(record)
        assert slow_way(kind, data) == (record, [])
        assert codec.from_tree(kind, codec.to_tree(record)) == record

    check()


@each_object
def test_obj_4_a_tree_makes_the_same_record_as_its_text_or_is_refused_in_the_same_words(kind):
    def outcome(decode, given):
        try:
            decoded = decode(kind, given)
        except codec.DecodeError as error:
            return str(error), error.malformed
        return codec.encode(decoded.object), decoded

    @briefly
    @given(strategies.odd_trees(kind) | strategies.messy_trees(kind).map(lambda messy: messy[0]))
    def check(tree):
        text = json.dumps(tree)
        assume("NaN" not in text and "Infinity" not in text)
        made = outcome(codec.decode_tree, json.loads(text))
        assert made == outcome(codec.decode_request, text.encode())

    check()


@each_object
def test_obj_4_a_careless_body_is_normalised_and_stays_as_it_is_from_then_on(kind):
    @briefly
    @given(strategies.messy_trees(kind))
    def check(messy):
        tree, unknown = messy
        decoded = codec.decode_request(kind, json.dumps(tree).encode())
        assert (decoded.object, decoded.warnings) == codec.decode_tolerant(kind, tree)
        assert decoded.warnings == tuple(f'unknown field "{place}"' for place in unknown)
        again = codec.decode_request(kind, codec.encode(decoded.object))
        assert again.object == decoded.object and not again.warnings

    check()


NOTHING_GIVEN = (
    b'{"spec":{"volumes":[],"nodeSelector":{},"hostNetwork":false,"hostname":"","containers":null,"tolerations":null,'
    b'"priority":null},"status":{"observedGeneration":0}}'
)


almost_times = st.builds(
    "{:04}-{:02}-{:02}T{:02}:{:02}:{:02}{}Z".format,
    st.integers(0, 9999),
    st.integers(0, 13),
    st.integers(0, 32),
    st.integers(0, 25),
    st.integers(0, 61),
    st.integers(0, 61),
    st.sampled_from(["", ".5", ".000000", ".123456", ".1234567"]),
)
almost_quantities = st.builds("{}{}{}".format, st.sampled_from(["", "-", "+", "0"]), st.integers(0, 10**6), st.sampled_from(
    ["", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "000", "000k", "24Ki"]
))  # fmt: skip
almost_base64 = st.text("ABQgwz059+/=\n-", max_size=8)


@settings(max_examples=400)
@given(st.one_of(
    st.tuples(st.just(base.Time), almost_times), st.tuples(st.just(base.MicroTime), almost_times),
    st.tuples(st.just(base.Quantity), almost_quantities), st.tuples(st.just(base.Base64), almost_base64),
))  # fmt: skip
@example((base.Time, "2026-02-29T00:00:00Z"))
@example((base.Time, "2026-04-31T00:00:00Z"))
@example((base.Time, "0001-01-01T00:00:00Z"))
@example((base.Base64, "YR=="))
@example((base.Quantity, "1024Ki"))
def test_obj_4_what_the_fast_way_takes_for_canonical_is(case):
    kind, text = case
    try:
        msgspec.convert(text, kind)
    except msgspec.ValidationError:
        return
    assert convert._converter(kind)[0](text, None, []) == text


def test_obj_4_a_zero_that_is_no_pointer_upstream_is_absent():
    assert codec.decode_request(Pod, NOTHING_GIVEN).object == Pod()
    assert codec.decode_request(Pod, b'{"spec":{"hostNetwork":false}}').object == Pod()
    given_zeros = codec.decode_request(
        Pod, b'{"spec":{"priority":0,"automountServiceAccountToken":false,"runtimeClassName":""}}'
    ).object
    assert given_zeros.spec == PodSpec(
        priority=0, automount_service_account_token=False, runtime_class_name=""
    )
    deployment = codec.decode_request(
        Deployment, b'{"spec":{"replicas":0,"paused":false,"minReadySeconds":0}}'
    ).object
    assert deployment.spec == DeploymentSpec(replicas=0)


def _fields(*names: str) -> st.SearchStrategy[str]:
    """Some of these fields with booleans, as JSON with any space that is allowed."""
    field = st.builds(
        '"{}"{}{}'.format,
        st.sampled_from(names),
        st.sampled_from([":", ":", " :", ":\n"]),
        st.sampled_from(["false", "true"]),
    )
    return st.lists(field, max_size=2, unique_by=lambda text: text.split(":")[0]).map(
        lambda parts: "".join(f",{part}" for part in parts)
    )


@example(',"stdin":false', "", "m")
@example(r',"st\u0064in":false', "", "m")
@given(
    _fields("stdin", "tty", r"st\u0064in", "stdinOnce"),
    _fields("started", r"start\u0065d"),
    st.sampled_from(["m", "m", "false", r"\"ready\":false", r"\\", r"\"stdin\":"]),
)
def test_obj_4_both_decoders_agree_on_every_false(of_container, of_status, message):
    body = (
        f'{{"spec":{{"containers":[{{"name":"c","resources":{{}}{of_container}}}]}},"status":{{'
        f'"message":"{message}","containerStatuses":[{{"name":"c","image":"i","imageID":"",'
        f'"restartCount":0,"ready":false{of_status}}}]}}}}'
    ).encode()
    assert codec.decode_request(Pod, body, field_validation=False).object == slow_way(Pod, body)[0]


@given(st.booleans(), st.booleans())
def test_obj_4_a_pod_that_is_not_ready_is_decoded_fast(ready, started):
    status = PodStatus(
        phase="Pending",
        container_statuses=(
            ContainerStatus(
                name="c", image="i", image_id="", ready=ready, restart_count=0, started=started
            ),
        ),
    )
    pod = Pod(status=status)
    assert not codec._may_drop_false(Pod, codec.encode(pod))
    assert codec.decode_request(Pod, codec.encode(pod)).object == pod


def test_obj_4_null_inside_a_list_or_map_is_the_zero_value():
    pod = codec.decode_request(
        Pod, b'{"metadata":{"labels":{"a":null}},"spec":{"tolerations":[null],"containers":[null]}}'
    ).object
    assert pod.metadata.labels == {"a": ""} and codec.to_tree(pod)["spec"]["tolerations"] == [{}]
    assert codec.to_tree(pod)["spec"]["containers"] == [{"name": "", "resources": {}}]


@given(
    strategies.quantities,
    st.one_of(
        st.integers(-(10**12), 10**12), st.integers(-999, 999).map(lambda number: number / 8)
    ),
)
def test_obj_4_a_quantity_may_be_a_number_and_comes_out_canonical(text, number):
    body = {
        "spec": {
            "containers": [
                {"name": "a", "resources": {"limits": {"cpu": number, "memory": f" {text} "}}}
            ]
        }
    }
    limits = (
        codec.decode_request(Pod, json.dumps(body).encode())
        .object.spec.containers[0]
        .resources.limits
    )
    assert limits["memory"] == text
    assert limits["cpu"] == canonical(f"{number:f}" if isinstance(number, float) else str(number))


# The table of resources


def test_obj_5_every_resource_is_found_by_its_path_and_its_kind():
    for resource in resources.ALL:
        assert resources.by_path(resource.group, resource.version, resource.plural) is resource
        assert resources.by_kind(resource.api_version, resource.kind) is resource
        instance = resource.type()
        assert (instance.kind, instance.api_version) == (resource.kind, resource.api_version)
        assert resources.type_of_kind(resource.api_version, resource.kind) is resource.type
        assert (
            resource.singular == resource.kind.lower()
            and resource.plural == resource.plural.lower()
        )
        if "list" in resource.verbs:
            assert (
                resources.type_of_kind(resource.api_version, resource.list_kind)
                is resource.list_type
            )
            assert resource.list_type().kind == resource.list_kind
    assert (
        resources.by_path("", "v1", "deployments") is None
        and resources.by_kind("v1", "Deployment") is None
    )


def test_obj_5_every_generally_available_kind_is_served():
    """Each record with metadata of its own is a resource, or the body of a subresource."""
    bodies = {"Scale", "Eviction", "TokenRequest"}
    served = {(resource.module, resource.kind) for resource in resources.ALL}
    for path in sorted((ROOT / "refk8s/core/api").glob("*_v?.py")):
        module = path.stem
        if module == "meta_v1":
            continue
        for name, value in sorted(vars(import_module(f"refk8s.core.api.{module}")).items()):
            if (
                isinstance(value, type)
                and issubclass(value, Object)
                and value.__module__.endswith("." + module)
            ):
                assert (module, name) in served or name in bodies, f"{module}.{name} is in no table"


def test_obj_5_names_are_unambiguous_within_a_group():
    for group in ("", *resources.GROUPS):
        names = [
            name
            for resource in resources.ALL
            if resource.group == group and not resource.storage_api_version
            for name in (resource.plural, resource.singular, *resource.short_names)
        ]
        assert len(names) == len(set(names)) or group == "", names


places = st.tuples(st.sampled_from(resources.ALL), strategies.namespaces, strategies.names)


@given(places, places)
def test_obj_6_two_objects_have_one_key_only_if_they_are_one_object(one, other):
    (left, namespace, name), (right, other_namespace, other_name) = one, other
    same_place = (
        left.prefix == right.prefix
        and name == other_name
        and (namespace == other_namespace or not left.namespaced)
    )
    assert (left.key(namespace, name) == right.key(other_namespace, other_name)) == same_place
    assert left.key(namespace, name).startswith(left.prefix) and left.prefix.endswith("/")


def test_obj_6_versions_of_one_resource_are_one_thing_in_the_store():
    assert resources.EVENTS_V1.prefix == resources.EVENTS.prefix
    assert (
        resources.HORIZONTAL_POD_AUTOSCALERS_V1.prefix
        == resources.HORIZONTAL_POD_AUTOSCALERS.prefix
    )
    shared = [resource for resource in resources.ALL if resource.storage_api_version]
    for resource in shared:
        kept = resources.by_kind(resource.storage_api_version, resource.kind)
        assert kept is not None and not kept.storage_api_version and kept.plural == resource.plural
    assert len({resource.prefix for resource in resources.ALL}) == len(resources.ALL) - len(shared)


# Field validation


@each_object
def test_obj_7_unknown_fields_are_named_and_left_out(kind):
    @briefly
    @given(strategies.messy_trees(kind))
    def check(messy):
        tree, unknown = messy
        record, named = codec.decode_tolerant(kind, tree)
        assert named == tuple(f'unknown field "{place}"' for place in unknown)
        if unknown:
            with pytest.raises(codec.DecodeError, match=r"^strict decoding error: unknown field"):
                codec.decode(kind, json.dumps(tree).encode())
        assert codec.decode(kind, codec.encode(record)) == record

    check()


def test_obj_7_a_repeated_field_is_named_and_its_last_value_counts():
    body = b'{"spec":{"replicas":1,"replicas":2,"nope":1,"template":{"metadata":{"labels":{"a":"b","a":"c"}}}},"kind":"Deployment"}'
    decoded = codec.decode_request(Deployment, body)
    assert decoded.object.spec.replicas == 2 and decoded.object.spec.template.metadata.labels == {
        "a": "c"
    }
    assert decoded.strict_error == (
        'strict decoding error: unknown field "spec.nope", '
        'duplicate field "spec.template.metadata.labels.a", '
        'duplicate field "spec.replicas"'
    )


@given(
    strategies.json_trees(Deployment), st.integers(0, 20), st.sampled_from([None, 1]), st.booleans()
)
def test_obj_7_a_repetition_is_found_however_the_text_is_spaced(tree, where, indent, repeated):
    text = json.dumps(tree, indent=indent, separators=None if indent else (",", ":"))
    keys = [part for part in ("kind", "apiVersion", "metadata", "spec", "status") if part in tree]
    key = keys[where % len(keys)]
    if repeated:
        text = text[: text.rindex("}")] + f', "{key}": {json.dumps(tree[key])}' + "}"
    decoded = codec.decode_request(Deployment, text.encode())
    assert decoded.warnings == ((f'duplicate field "{key}"',) if repeated else ())


def with_repetition(tree: Any, at: list[int]) -> str:
    """The tree as JSON text; the last key of one of its objects is written twice."""
    if isinstance(tree, list):
        return f"[{','.join(with_repetition(one, []) for one in tree)}]"
    if not isinstance(tree, dict):
        return json.dumps(tree)
    inner = [key for key, value in tree.items() if isinstance(value, dict) and value]
    chosen = inner[at[0] % len(inner)] if len(at) > 1 and inner else None
    parts = [
        f"{json.dumps(key)}:{with_repetition(value, at[1:] if key == chosen else [])}"
        for key, value in tree.items()
    ]
    return "{" + ",".join(parts + (parts[-1:] if chosen is None and at else [])) + "}"


@given(
    st.sampled_from([Pod, Deployment, ConfigMap]),
    st.data(),
    st.lists(st.integers(0, 9), max_size=6),
)
def test_obj_7_a_repetition_is_found_in_a_text_as_we_write_it(kind, data, at):
    tree = json.loads(codec.encode(data.draw(strategies.objects(kind))))
    in_owned = data.draw(st.booleans())  # what managers own is kept as text, and has any keys
    if in_owned:
        owned = {"f:data": {".": {}, "f:key": {}}, "f:metadata": {"f:labels": {}}}
        entry = {"manager": "m", "fieldsType": "FieldsV1", "fieldsV1": owned}
        tree["metadata"]["managedFields"] = [entry]
        entry_text = with_repetition(entry, at)
        text = json.dumps(tree, separators=(",", ":")).replace(
            json.dumps(entry, separators=(",", ":")), entry_text
        )
    else:
        text = with_repetition(tree, at)
    decoded = codec.decode_request(kind, text.encode())
    made, problems = slow_way(kind, text.encode())
    assert (decoded.object, list(decoded.warnings)) == (made, problems)
    assert in_owned or bool(problems) == bool(at)


# Times

zones = st.integers(-23 * 60, 23 * 60)


@given(strategies.moments, zones, st.text("0123456789", max_size=9))
@example(datetime(1, 1, 2), 0, "")
@example(datetime(2024, 2, 29), 60, "5")
def test_obj_8_any_rfc_3339_time_means_the_same_instant_in_utc(moment, minutes, fraction):
    whole = moment.replace(microsecond=0)
    sign, size = "+" if minutes >= 0 else "-", abs(minutes)
    zone = f"{sign}{size // 60:02}:{size % 60:02}"
    clock = whole.strftime("%Y-%m-%dT%H:%M:%S").zfill(19)
    try:
        expected = whole - timedelta(minutes=minutes)
    except OverflowError:
        return
    text = expected.strftime("%Y-%m-%dT%H:%M:%SZ").zfill(20)
    if expected.date() > datetime(1, 1, 1).date():
        assert canonical_time(f"{clock}{'.' + fraction if fraction else ''}{zone}") == text
        assert (
            canonical_micro_time(f"{clock}.{moment.microsecond:06}{zone}")
            == f"{text[:-1]}.{moment.microsecond:06}Z"
        )
        assert canonical_time(text) == text


@given(
    st.one_of(
        st.text("0123456789-:TZ.+", max_size=30),
        strategies.times.map(lambda text: text[:-1]),
        strategies.any_text,
    )
)
def test_obj_8_what_is_no_time_is_refused_and_says_why(text):
    try:
        made = canonical_time(text)
    except TimeError as error:
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        assert str(error).startswith(f'parsing time "{escaped}"')
        with pytest.raises(codec.DecodeError):
            codec.decode_request(
                Pod, json.dumps({"metadata": {"creationTimestamp": text}}).encode()
            )
    else:
        assert made is None or canonical_time(made) == made


@pytest.mark.parametrize("text, message", [
    ("yesterday", 'parsing time "yesterday" as "2006-01-02T15:04:05Z07:00": cannot parse "yesterday" as "2006"'),
    ("2026-13-01T00:00:00Z", 'parsing time "2026-13-01T00:00:00Z": month out of range'),
    ("2026-02-29T00:00:00Z", 'parsing time "2026-02-29T00:00:00Z": day out of range'),
    ("2026-01-01T00:00:00", 'parsing time "2026-01-01T00:00:00" as "2006-01-02T15:04:05Z07:00": cannot parse "" as "Z07:00"'),
    ("2026-01-01T00:00:00Zz", 'parsing time "2026-01-01T00:00:00Zz": extra text: "z"'),
])  # fmt: skip
def test_obj_8_the_words_are_upstreams(text, message):
    with pytest.raises(TimeError) as error:
        canonical_time(text)
    assert str(error.value) == message


def test_obj_8_a_micro_time_has_six_decimals():
    with pytest.raises(codec.DecodeError) as error:
        codec.decode_request(Lease, b'{"spec":{"renewTime":"yesterday"}}')
    assert error.value.full("Lease", "v1") == (
        'Lease in version "v1" cannot be handled as a Lease: '
        'parsing time "yesterday" as "2006-01-02T15:04:05.000000Z07:00": '
        'cannot parse "yesterday" as "2006"'
    )
    with pytest.raises(codec.DecodeError):
        codec.decode_request(Lease, b'{"spec":{"renewTime":"2026-01-01T00:00:00Z"}}')


# Facts of fields


def every_record() -> list[type]:
    found: dict[type, None] = {}

    def visit(type_: type) -> None:
        if type_ not in found:
            found[type_] = None
            for known in schema.fields_of(type_).values():
                if known.element is not None:
                    visit(known.element)

    for kind in strategies.KINDS:
        visit(kind)
    return list(found)


def test_obj_9_every_merge_key_is_a_field_of_the_elements():
    merged = 0
    for record in every_record():
        for known in schema.fields_of(record).values():
            keys = (
                (known.patch_merge_key, *known.list_map_keys)
                if known.patch_merge_key
                else known.list_map_keys
            )
            # its parts are not generally available, and plain JSON here
            if keys and record is not JobSchedulingConfiguration:
                merged += 1
                assert known.is_list and known.element is not None, (record, known)
                assert all(schema.field_facts(known.element, key) for key in keys), (record, known)
            assert getattr(record(), known.attribute, known) is not known
    assert merged > 60


def test_obj_9_the_facts_that_patches_live_on():
    containers = schema.field_facts(PodSpec, "containers")
    assert containers is not None and (containers.patch_strategy, containers.patch_merge_key) == (
        ("merge",),
        "name",
    )
    ports = schema.field_facts(resources.SERVICES.type().spec.__class__, "ports")
    assert ports is not None and (ports.patch_merge_key, ports.list_map_keys) == (
        "port",
        ("port", "protocol"),
    )
    strategy = schema.field_facts(DeploymentSpec, "strategy")
    assert (
        strategy is not None and strategy.patch_strategy == ("retainKeys",) and not strategy.is_list
    )
    selector = schema.field_facts(DeploymentSpec, "selector")
    assert selector is not None and selector.map_type == "atomic" and selector.required
    assert schema.field_facts(PodSpec, "foo") is None


def test_obj_9_the_generated_modules_are_current():
    made = subprocess.run(
        [sys.executable, str(ROOT / "tools/generate_api.py"), "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert made.returncode == 0, made.stdout + made.stderr


# Hostile input

scraps = st.sampled_from([
    b"[", b"{", b"]", b"}", b",", b":", b'"', b"\\", b"null", b"true", b"false", b"0", b"-", b"1e9", b"NaN", b"Infinity", b'"spec"',
    b'"metadata"', b'"labels"', b'"containers"', b"\xff", b"\xef\xbb\xbf", b'"\\ud800"', b"\x00", b"\n", b" ", b'"name"',
    b'"creationTimestamp"', b'"resources"', b'"limits"', b'"cpu"', b'"1Gi"', b'{"spec":', b'{"metadata":{"labels":', str(2**70).encode(),
    b"1" * 5000, b"1e999", b'"2026-01-01T00:00:00Z"',
])  # fmt: skip


@settings(max_examples=300)
@given(
    st.sampled_from([Pod, Deployment, ConfigMap, Lease]),
    st.one_of(st.binary(max_size=60), st.lists(scraps, max_size=12).map(b"".join)),
)
@example(Pod, b"[" * 20000)
@example(Pod, b'{"spec":' * 20000)
@example(ConfigMap, b'{"data":{"a":"\xff","b":"\\ud800"}}')
@example(ConfigMap, b'{"data":{"\\ud800":"x"}}')
@example(Pod, b'{"metadata":{"generation":1180591620717411303424}}')
@example(Pod, b'{"metadata":{"managedFields":[{"fieldsV1":' + b"[" * 250 + b"]" * 250 + b"}]}}")
@example(Pod, b'{"metadata":{"managedFields":[{"fieldsV1":{"a":1e999}}]}}')
def test_obj_10_any_bytes_give_a_record_or_a_decode_error(kind, data):
    for read in (codec.decode, codec.decode_request):
        try:
            made = read(kind, data)
        except codec.DecodeError as error:
            assert str(error)
            continue
        record = made.object if isinstance(made, codec.Decoded) else made
        assert codec.decode(kind, codec.encode(record)) == record


@given(strategies.json_trees(Pod), strategies.json_values, st.randoms(use_true_random=False))
def test_obj_10_a_value_of_the_wrong_type_is_refused_in_upstreams_words_or_is_right(
    tree, value, random
):
    place = tree
    while isinstance(place, dict | list) and place:
        key = (
            random.choice(sorted(place))
            if isinstance(place, dict)
            else random.randrange(len(place))
        )
        if not isinstance(place[key], dict | list) or not place[key] or random.random() < 0.3:
            place[key] = value
            break
        place = place[key]
    data = json.dumps(tree).encode()
    try:
        decoded = codec.decode_request(Pod, data)
    except codec.DecodeError as error:
        assert not error.malformed
    else:
        assert decoded.object == slow_way(Pod, data)[0]


INTO_REPLICAS = "into Go struct field DeploymentSpec.spec.replicas of type int32"


@pytest.mark.parametrize("kind, body, message", [
    (Deployment, b'{"spec":{"replicas":"three"}}', f"json: cannot unmarshal string {INTO_REPLICAS}"),
    (Deployment, b'{"spec":{"replicas":2147483648}}', f"json: cannot unmarshal number 2147483648 {INTO_REPLICAS}"),
    (Deployment, b'{"spec":{"replicas":1.5}}', f"json: cannot unmarshal number 1.5 {INTO_REPLICAS}"),
    (ConfigMap, b'{"data":["a"]}', "json: cannot unmarshal array into Go struct field ConfigMap.data of type map[string]string"),
    (ConfigMap, b'{"data":{"k":1}}', "json: cannot unmarshal number into Go struct field ConfigMap.data of type string"),
    (ConfigMap, b'{"binaryData":{"k":"not base64!"}}', "illegal base64 data at input byte 3"),
    (Pod, b'{"spec":{"containers":[{"ports":[{"containerPort":{}}]}]}}',
     "json: cannot unmarshal object into Go struct field ContainerPort.spec.containers.ports.containerPort of type int32"),
    (Pod, b'{"spec":{"containers":[{"resources":{"limits":{"cpu":"much"}}}]}}',
     "quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'"),
    (Pod, b"[]", "json: cannot unmarshal array into Go value of type v1.Pod"),
    (Pod, b'{"spec":{"restartPolicy":1}}', "json: cannot unmarshal number into Go struct field PodSpec.spec.restartPolicy of type v1.RestartPolicy"),
    (Pod, b'{"metadata":{"uid":1}}', "json: cannot unmarshal number into Go struct field ObjectMeta.metadata.uid of type types.UID"),
    (Pod, b'{"spec":{"volumes":[{"secret":1}]}}',
     "json: cannot unmarshal number into Go struct field Volume.spec.volumes.VolumeSource.secret of type v1.SecretVolumeSource"),
    (Pod, b'{"spec":{"overhead":1}}', "json: cannot unmarshal number into Go struct field PodSpec.spec.overhead of type v1.ResourceList"),
    (Pod, b'{"spec":{"containers":[{"securityContext":{"capabilities":{"add":1}}}]}}',
     "json: cannot unmarshal number into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type []v1.Capability"),
    (Pod, b'{"spec":{"containers":[{"securityContext":{"capabilities":{"add":[1]}}}]}}',
     "json: cannot unmarshal number into Go struct field Capabilities.spec.containers.securityContext.capabilities.add of type v1.Capability"),
    (Pod, b"", "unexpected end of JSON input"),
    (Pod, b'{"a"', "unexpected end of JSON input"),
    (Pod, b'{"a" 1}', "invalid character '1' after object key"),
    (Pod, b'{"a":1 2}', "invalid character '2' after object key:value pair"),
    (Pod, b'{"a":[1 2]}', "invalid character '2' after array element"),
    (Pod, b"{} x", "invalid character 'x' after top-level value"),
    (Pod, b"{,}", "invalid character ',' looking for beginning of object key string"),
    (Pod, b'{"a":?}', "invalid character '?' looking for beginning of value"),
    (Pod, b'{"a":"\n"}', "invalid character '\\n' in string literal"),
    (Pod, b'{"a":NaN}', "invalid character 'N' looking for beginning of value"),
    (Pod, b"[" * 300, "exceeded max depth"),
])  # fmt: skip
def test_obj_10_the_words_are_upstreams(kind, body, message):
    with pytest.raises(codec.DecodeError) as error:
        codec.decode_request(kind, body)
    assert str(error.value) == message


@given(st.binary(max_size=40))
def test_obj_10_a_document_is_json_exactly_when_the_fast_decoder_says_so(data):
    """Two parsers must agree on what JSON is; else a body could be one thing to field validation
    and another to the object."""
    try:
        msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError):
        fast = False
    else:
        fast = True
    try:
        json_text.parse(data)
    except json_text.MalformedJson:
        slow = False
    else:
        slow = True
    assert slow or not fast
    if slow and not fast:
        assert b"\\u" in data or b"\xef\xbf\xbd" in data.decode("utf-8", "replace").encode()


# The result of a merge


def plainly_fitting(number: int | float, bits: int) -> int:
    whole = int(number)
    if not -(2**63) <= whole < 2**63:
        whole = -(2**63)
    return int.from_bytes(
        whole.to_bytes(8, "little", signed=True)[: bits // 8], "little", signed=True
    )


whole_numbers = st.integers(-(2**70), 2**70) | st.integers(-(2**33), 2**33).map(float)


@given(whole_numbers, whole_numbers)
@example(2**31, 2**63)
@example(1e300, -1.0)
def test_obj_12_the_result_of_a_merge_has_the_lower_bits_of_its_numbers(small, large):
    spec = {
        "containers": [{"name": "c", "ports": [{"containerPort": small}]}],
        "activeDeadlineSeconds": large,
    }
    pod = codec.decode_merged(Pod, {"spec": spec}).object
    assert pod.spec.containers[0].ports[0].container_port == plainly_fitting(small, 32)
    assert (pod.spec.active_deadline_seconds or 0) == plainly_fitting(large, 64)


@pytest.mark.parametrize("value", [1.5, "1", True, [1], {"a": 1}])
def test_obj_12_other_values_are_refused_as_in_any_object(value):
    with pytest.raises(codec.DecodeError):
        codec.decode_merged(Pod, {"spec": {"activeDeadlineSeconds": value}})


# IntOrString


@given(st.integers(0, 300), st.integers(0, 10**6), st.booleans())
def test_obj_11_a_percentage_is_rounded_towards_its_side_by_less_than_one(percent, total, round_up):
    exact = Fraction(percent * total, 100)
    made = intstr.scaled(f"{percent}%", total, round_up=round_up)
    assert exact <= made < exact + 1 if round_up else made <= exact < made + 1


@given(st.integers(-(2**31), 2**31 - 1), st.integers(0, 10**6), st.booleans())
def test_obj_11_a_count_is_itself(count, total, round_up):
    assert intstr.scaled(count, total, round_up=round_up) == count


@given(strategies.any_text)
@example("25")
@example("25 %")
@example("%")
def test_obj_11_any_other_string_is_refused(text):
    if not intstr.is_percent(text):
        with pytest.raises(intstr.IntOrStringError):
            intstr.scaled(text, 10, round_up=True)
