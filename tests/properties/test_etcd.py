"""Properties of the store on etcd that need no etcd: its URL, its keys and its state in memory.
Rules ETCD-1, ETCD-2, ETCD-4, ETCD-8, ETCD-9 (spec/etcd.md). The others: test_etcd_store.py."""

from __future__ import annotations

import json
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from msgspec.structs import replace
from strategies import objects
from test_proto import KNOWN, known_objects
from test_store import Attempt, Value, attempts, decode, encode, run, stamp

from refk8s.core.api import codec, resources
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.apiserver import protobuf_encode
from refk8s.core.apiserver.admission.ledger import port_key
from refk8s.core.apiserver.stored import decode_stored, encode_stored
from refk8s.core.store import Change, History, Put, Record, compact
from refk8s.store.errors import StoreRefused
from refk8s.store.etcd.address import EtcdAddress, parse_address
from refk8s.store.etcd.keys import Keys, folders
from refk8s.store.etcd.messages import RangeResponse, WatchResponse
from refk8s.store.etcd.mirror import Mirror, UnreadableValue

# --- The URL

hosts = st.from_regex(r"[a-z][a-z0-9-]{0,5}[a-z0-9]|10\.0\.0\.[1-9]|\[::[1-9]\]", fullmatch=True)
ports = st.integers(1, 65535)
prefixes = st.from_regex(r"(/[a-z.]{1,4}){1,2}", fullmatch=True)


@given(st.lists(st.tuples(hosts, st.none() | ports), min_size=1, max_size=3), st.none() | prefixes,
       st.booleans(), st.booleans())  # fmt: skip
def test_etcd_1_a_url_names_members_prefix_and_files(
    members: list[tuple[str, int | None]], prefix: str | None, has_ca: bool, has_cert: bool
) -> None:
    hosts = ",".join(host if port is None else f"{host}:{port}" for host, port in members)
    query = [f"prefix={prefix}"] if prefix else []
    query += ["cacert=/a/ca.crt"] if has_ca else []
    query += ["cert=/a/c.crt", "key=/a/c.key"] if has_cert else []
    address = parse_address(f"etcd://{hosts}" + ("?" + "&".join(query) if query else ""))
    assert address == EtcdAddress(
        tuple(f"{host}:{port or 2379}" for host, port in members),
        prefix or "/registry",
        "/a/ca.crt" if has_ca else "",
        *(("/a/c.crt", "/a/c.key") if has_cert else ("", "")),
    )
    assert address.is_tls == (has_ca or has_cert)


@pytest.mark.parametrize(
    "rest",
    [
        "",
        ",",
        "a,",
        "a:0",
        "a:65536",
        "a:99999999999999999999",
        "a:٣",
        "a b",
        "user:password@a",
        "http://a:2379",
        "a/registry",
        "a?prefix=registry",
        "a?prefix=/",
        "a?prefix=/registry/",
        "a?prefix=/a//b",
        "a?prefix=",
        "a?prefix=/a&prefix=/b",
        "a?cert=c",
        "a?key=k",
        "a?password=x",
        "a?prefix",
        ",".join("a" * 17),
    ],
)
def test_etcd_1_anything_else_is_refused_in_one_line_that_shows_the_form(rest: str) -> None:
    with pytest.raises(StoreRefused, match=r"; use etcd://HOST:2379") as refused:
        parse_address(f"etcd://{rest}")
    assert "\n" not in str(refused.value)


@given(st.text(max_size=30))
def test_etcd_1_any_text_is_an_address_or_refused(rest: str) -> None:
    with suppress(StoreRefused):
        parse_address(f"etcd://{rest}")


# --- Keys

STORED = [each for each in resources.ALL if not each.storage_api_version]
names = st.from_regex(r"[a-z0-9]([a-z0-9.:-]{0,8}[a-z0-9])?", fullmatch=True)
groups = st.from_regex(r"[a-z]{1,4}(\.[a-z]{1,4}){1,2}", fullmatch=True)
custom_prefixes = st.builds("/{}/{}/".format, groups, names)
object_keys = st.builds(
    lambda prefix, parts: prefix + "/".join(parts),
    st.sampled_from([each.prefix for each in STORED]) | custom_prefixes,
    st.lists(names, min_size=1, max_size=2),
)
KEYS = Keys("/registry")


@given(object_keys)
def test_etcd_2_a_key_can_be_told_from_its_key_in_etcd(key: str) -> None:
    # Shows ETCD-2.c
    assert KEYS.from_etcd(KEYS.to_etcd(key)) == key


@given(st.binary(max_size=40) | st.builds(lambda path: b"/registry/" + path.encode(), st.text("abps./\x00ü", max_size=20))
       | object_keys.map(lambda key: KEYS.to_etcd(key) + b"/"))  # fmt: skip
@example(b"/registry/pods//a")
@example(b"/registry/pods/" + b"a" * 2000)
@example(b"/registry/\xff\xfe")
def test_etcd_2_every_other_key_is_ignored(key: bytes) -> None:
    # Shows ETCD-2.d
    found = KEYS.from_etcd(key)
    assert found is None or KEYS.to_etcd(found) == key


@pytest.mark.parametrize(
    ("key", "expected"),
    [
        ("/core/pods/default/web-1", "pods/default/web-1"),
        ("/core/nodes/node-1", "minions/node-1"),
        ("/core/services/default/a", "services/specs/default/a"),
        ("/core/endpoints/default/a", "services/endpoints/default/a"),
        ("/core/replicationcontrollers/default/a", "controllers/default/a"),
        ("/core/events/default/a", "events/default/a"),
        ("/apps/deployments/default/a", "deployments/default/a"),
        ("/networking.k8s.io/ingresses/default/a", "ingress/default/a"),
        ("/networking.k8s.io/ingressclasses/a", "ingressclasses/a"),
        ("/networking.k8s.io/networkpolicies/default/a", "networkpolicies/default/a"),
        ("/networking.k8s.io/ipaddresses/10.0.0.1", "ipaddresses/10.0.0.1"),
        ("/coordination.k8s.io/leases/kube-system/a", "leases/kube-system/a"),
        ("/certificates.k8s.io/certificatesigningrequests/a", "certificatesigningrequests/a"),
        ("/storage.k8s.io/csinodes/a", "csinodes/a"),
        ("/rbac.authorization.k8s.io/clusterroles/system:a", "clusterroles/system:a"),
        ("/apiregistration.k8s.io/apiservices/v1.a", "apiregistration.k8s.io/apiservices/v1.a"),
        ("/apiextensions.k8s.io/customresourcedefinitions/a.b", "apiextensions.k8s.io/customresourcedefinitions/a.b"),
        ("/awesome.bears.com/pandas/cr3panda", "awesome.bears.com/pandas/cr3panda"),
        ("/cr.bar.com/foos/default/cr1foo", "cr.bar.com/foos/default/cr1foo"),
    ],
)  # fmt: skip
def test_etcd_2_keys_are_those_of_upstream(key: str, expected: str) -> None:
    assert KEYS.to_etcd(key) == b"/registry/" + expected.encode()


def test_d_92_a_node_port_is_a_key_that_upstream_does_not_read() -> None:
    assert KEYS.to_etcd(port_key(30080)) == b"/registry/refk8s/nodeports/30080"
    assert KEYS.from_etcd(b"/registry/ranges/servicenodeports") is None


def test_etcd_2_no_two_resources_share_a_folder() -> None:
    assert len(set(folders().values())) == len(folders())
    assert {each.prefix for each in STORED} <= folders().keys()


@pytest.mark.parametrize("key", ["/core/unknown/a", "/core/pods", "pods/a", "/nodots/pods/a"])
def test_etcd_2_a_key_of_no_resource_is_an_error(key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        KEYS.to_etcd(key)


# --- Values


@st.composite
def stored_objects(draw: st.DrawFn) -> tuple[str, Any]:
    """The key of an object, and an object of any kind with a name that fits."""
    resource = draw(st.sampled_from([each for each in STORED if "get" in each.verbs]))
    value = draw(objects(resource.type))
    namespace, name = draw(st.sampled_from(["default", "a"])), draw(st.sampled_from("bc"))
    metadata = replace(
        value.metadata or ObjectMeta(),
        name=name,
        namespace=namespace if resource.namespaced else None,
        resource_version=draw(st.none() | st.just("7")),
    )
    value = replace(value, api_version=resource.api_version, kind=resource.kind, metadata=metadata)
    return resource.key(namespace, name), value


@given(stored_objects())
def test_etcd_3_a_value_is_the_json_of_the_object_without_resource_version(
    stored: tuple[str, Any],
) -> None:
    # Shows ETCD-3.b
    key, value = stored
    tree = json.loads(encode_stored(value))
    assert (tree["apiVersion"], tree["kind"]) == (value.api_version, value.kind)
    assert "resourceVersion" not in tree["metadata"]
    plain = replace(value, metadata=replace(value.metadata, resource_version=None))
    assert tree == codec.to_tree(plain)
    assert decode_stored(key, encode_stored(value)) == plain
    newer = json.dumps({**tree, "newField": {"a": 1}, "metadata": {**tree["metadata"], "z": 1}})
    assert decode_stored(key, newer.encode()) == plain, "fields that are unknown are dropped"


@given(
    known_objects(
        [
            (r.api_version, r.kind)
            for r in STORED
            if "get" in r.verbs and (r.api_version, r.kind) in KNOWN
        ]
    )
)
def test_etcd_3_values_that_upstream_wrote_as_protobuf_are_read(drawn: tuple[type, Any]) -> None:
    # Shows ETCD-3.d
    type_, value = drawn
    resource = next(r for r in STORED if (r.api_version, r.kind) == (value.api_version, value.kind))
    metadata = replace(
        value.metadata,
        namespace="a" if resource.namespaced else None,
        name="b",
        resource_version=None,
        managed_fields=value.metadata.managed_fields or None,  # protobuf has no empty list
    )
    value = codec.from_tree(type_, codec.to_tree(replace(value, metadata=metadata)))
    assert (
        decode_stored(resource.key("a", "b"), protobuf_encode.encode(codec.to_tree(value))) == value
    )


@given(stored_objects(), stored_objects())
def test_etcd_3_the_value_of_another_key_is_not_taken(
    one: tuple[str, Any], other: tuple[str, Any]
) -> None:
    if one[0] != other[0]:
        with pytest.raises(ValueError, match=r"."):
            decode_stored(one[0], encode_stored(other[1]))


@given(stored_objects(), st.data())
def test_etcd_9_damaged_bytes_are_an_error_or_an_object_of_this_key(
    stored: tuple[str, Any], data: st.DataObject
) -> None:
    key, value = stored
    bytes_ = bytearray(encode_stored(value))
    at = data.draw(st.integers(0, len(bytes_) - 1))
    bytes_[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    with suppress(ValueError):
        assert decode_stored(key, bytes(bytes_)).metadata.name == value.metadata.name


# --- The state in memory

PLACES = {"/core/pods/": "pods/", "/core/pods-x/": "pods-x/", "/core/nodes/": "minions/"}
FEW = Keys("/t", PLACES)


def message_of(records: list[tuple[str, Record[Value] | None, int]]) -> Any:
    """A message of the watch with an event for each: key, record (None: deleted), revision."""
    message = WatchResponse()
    for key, record, revision in records:
        event = message.events.add(type=0 if record else 1)
        kv = event.kv
        kv.key, kv.mod_revision = FEW.to_etcd(key), revision
        if record is not None:
            kv.create_revision, kv.version = record.create_revision, record.version
            kv.value = encode((record.value[0], 0))
    return message


def page_of(history: History[Value]) -> Any:
    page = RangeResponse()
    for record in history.list("/").records:
        page.kvs.add(
            key=FEW.to_etcd(record.key),
            value=encode((record.value[0], 0)),
            create_revision=record.create_revision,
            mod_revision=record.mod_revision,
            version=record.version,
        )
    return page


def mirror_of(history: History[Value]) -> Mirror[Value]:
    mirror: Mirror[Value] = Mirror(FEW, encode, decode, stamp, history.revision)
    mirror.fill(page_of(history).kvs)
    mirror.filled()
    return mirror


def same(mirror: Mirror[Value], history: History[Value]) -> None:
    """Nothing that can be read tells them apart."""
    engine = mirror.engine
    assert (engine.revision, engine.compacted) == (history.revision, history.compacted)
    for at in (None, *range(history.compacted, history.revision + 1)):
        assert mirror.list("/", at, None, None) == history.list("/", at)
    for after in range(history.compacted, history.revision + 1):
        assert engine.changes("/", after) == history.changes("/", after)


@given(st.lists(attempts, max_size=6), st.lists(attempts, max_size=8), st.data())
def test_etcd_4_the_state_follows_the_events_however_they_are_split(
    before: list[Attempt], after: list[Attempt], data: st.DataObject
) -> None:
    history = (
        run(before)[-1].after
        if before
        else History(1, 0, run([Attempt((), ())])[0].after._by_resource)
    )
    mirror = mirror_of(history)
    present = run(after, history)[-1].after if after else history
    changes = present.changes("/", history.revision)
    # within a revision etcd's order is that of the request
    events = data.draw(
        st.permutations(changes).map(lambda each: sorted(each, key=lambda c: c.revision))
    )
    heard: list[Change[Value]] = []
    while events:
        size = data.draw(st.integers(1, len(events)))
        whole = size == len(events) or events[size].revision != events[size - 1].revision
        split = not whole or data.draw(st.booleans())
        message = message_of([(c.key, c.record, c.revision) for c in events[:size]])
        found = mirror.apply(message.events, is_fragment=split and size < len(events))
        heard += found
        assert all(change.revision <= mirror.engine.revision for change in found)
        seen = mirror.engine.revision
        assert mirror.list("/", None, None, None).records == present.list("/", seen).records
        events = events[size:]
    mirror.advance(present.revision)
    assert tuple(heard) == changes
    same(mirror, compact(present, history.revision))


@given(st.lists(attempts, min_size=1, max_size=6), st.data())
def test_etcd_4_events_that_were_delivered_before_change_nothing(
    tried: list[Attempt], data: st.DataObject
) -> None:
    present = run(tried)[-1].after
    mirror = mirror_of(present)
    old = present.changes("/", 1)[: data.draw(st.integers(0, 5))]
    assert (
        mirror.apply(message_of([(c.key, c.record, c.revision) for c in old]).events, False) == ()
    )
    same(mirror, compact(present, present.revision))


@given(st.lists(attempts, min_size=1, max_size=6), st.lists(attempts, max_size=12))
def test_etcd_8_the_changes_after_a_gap_lead_to_the_present_state(
    before: list[Attempt], missed: list[Attempt]
) -> None:
    old = run(before)[-1].after
    new = run(missed, old)[-1].after if missed else old
    mirror = mirror_of(old)
    changes = mirror.catch_up(mirror_of(new))
    state = {record.key: record for record in old.list("/").records}
    for change in changes:
        assert old.revision < change.revision <= new.revision
        assert change.previous == state.get(change.key)
        assert (
            change.record is None
            or change.previous is None
            or (change.record.create_revision == change.previous.create_revision)
        ), "another object of this name is another object"
        if change.record is None:
            del state[change.key]
        else:
            state[change.key] = change.record
    assert state == {record.key: record for record in new.list("/").records}
    assert list(changes) == sorted(changes, key=lambda c: (c.revision, c.key))
    same(mirror, compact(new, new.revision))


def test_etcd_8_and_9_a_record_whose_value_cannot_be_read_after_a_gap_is_not_deleted() -> None:
    key = "/core/pods/default/a"
    (step,) = run([Attempt((), (Put(key, (1, 0)),))])
    mirror = mirror_of(step.after)
    page = RangeResponse()
    page.kvs.add(key=FEW.to_etcd(key), value=b"{", mod_revision=9, create_revision=2, version=2)
    newer: Mirror[Value] = Mirror(FEW, encode, decode, stamp, 9)
    newer.fill(page.kvs)
    newer.filled()
    assert mirror.catch_up(newer) == () and mirror.engine.get(key) == step.after.get(key)
    with pytest.raises(UnreadableValue):
        mirror.get(key, None)


def test_etcd_15_the_history_in_memory_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("refk8s.store.window.HISTORY_CHANGES_MAX", 50)
    history: History[Value] = run([Attempt((), ())])[-1].after
    mirror = mirror_of(history)
    for number in range(200):
        writes = tuple(
            Put(key, (number % 10, 0)) for key in ("/core/nodes/a", "/core/pods/default/a")
        )
        before = history
        history = run([Attempt((), writes)], history)[-1].after
        changes = history.changes("/", before.revision)
        mirror.apply(message_of([(c.key, c.record, c.revision) for c in changes]).events, False)
        assert mirror.engine.change_count <= 50
        same(mirror, compact(history, mirror.engine.compacted))
    assert mirror.engine.change_count >= 45 - 2


def test_etcd_9_a_value_that_cannot_be_read_stays_until_it_is_replaced() -> None:
    (step,) = run([Attempt((), ())])
    mirror = mirror_of(step.after)
    key, other = "/core/pods/default/a", "/core/nodes/a"

    def event(revision: int, name: str, value: bytes | None) -> tuple[Change[Value], ...]:
        message = WatchResponse()
        kv = message.events.add(type=1 if value is None else 0).kv
        kv.key, kv.mod_revision, kv.create_revision = FEW.to_etcd(name), revision, 2
        kv.version = 1
        if value is not None:
            kv.value = value
        return mirror.apply(message.events, False)

    event(2, key, encode((1, 0)))
    event(3, other, encode((1, 0)))
    for revision, bytes_ in enumerate((b"", b'{"', b"\xff" * 9, b"k8s\0", b"[" * 100_000), 4):
        assert event(revision, key, bytes_) == ()
        assert mirror.engine.revision == revision
        for refused in (
            lambda: mirror.get(key, None),
            lambda: mirror.list("/core/pods/", None, None, None),
        ):
            with pytest.raises(UnreadableValue, match=key) as error:
                refused()
            assert error.value.status.code == 500
        assert (
            mirror.get(other, None) is not None
            and mirror.list("/core/nodes/", None, None, None).records
        )
    (change,) = event(20, key, encode((5, 0)))
    assert change.record is not None and change.record.value == (5, 20)
    assert change.previous is not None and change.previous.value == (1, 2)
    assert mirror.get(key, None) == change.record
    assert event(21, key, b"{") == ()
    (change,) = event(22, key, None)
    assert change.record is None and mirror.get(key, None) is None
