"""Laws of reading, rules LIST-1 ... LIST-13 (spec/watch_api.md)."""

from __future__ import annotations

import json

import pytest
from api_world import KINDS, START, World, an_object, histories, populated, run, steps
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import Event, EventSource, ObjectReference, Secret
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Options, Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver import list_text
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.handle import handle
from refk8s.core.apiserver.http import WireRequest, receive, reply_to
from refk8s.core.apiserver.read import make_continue, parse_continue
from refk8s.core.context import Context, SeededChance
from refk8s.core.store import compact

PATH = "/api/v1/namespaces/default/configmaps"
selectors = st.sampled_from(["", "app=x", "app!=x", "app in (x,y)", "!app", "tier", "app=x,tier=z"])
fields = st.sampled_from(
    [
        "",
        "metadata.name=a",
        "metadata.name!=a",
        "metadata.namespace=default",
        "metadata.namespace=other,metadata.name=b",
    ]
)


def matches_labels(selector: str, labels: dict[str, str]) -> bool:
    """The selectors above, read once more by hand."""
    app, tier = labels.get("app"), labels.get("tier")
    return {
        "": True,
        "app=x": app == "x",
        "app!=x": app != "x",
        "app in (x,y)": app in ("x", "y"),
        "!app": app is None,
        "tier": tier is not None,
        "app=x,tier=z": app == "x" and tier == "z",
    }[selector]


def matches_fields(selector: str, obj) -> bool:
    name, namespace = obj.metadata.name, obj.metadata.namespace
    return {
        "": True,
        "metadata.name=a": name == "a",
        "metadata.name!=a": name != "a",
        "metadata.namespace=default": namespace == "default",
        "metadata.namespace=other,metadata.name=b": (name, namespace) == ("b", "other"),
    }[selector]


def list_of(world: World, kind=resources.CONFIG_MAPS, namespace="default", **options):
    return world.do(
        Request("list", kind, namespace, options=Options(**options), user=ADMIN)
    ).response


@given(
    histories(),
    st.sampled_from(KINDS),
    st.sampled_from(["", "default", "other"]),
    selectors,
    fields,
)
def test_list_1_list_3_a_list_is_what_the_selectors_choose_of_one_state_in_order(
    sequence, kind, namespace, labels, field
):
    # Shows LIST-1.a LIST-3.a LIST-12.a.
    world = run(sequence)
    said = list_of(world, kind, namespace, label_selector=labels, field_selector=field)
    everything = [
        record.value
        for record in sorted(world.history.list(kind.prefix).records, key=lambda record: record.key)
    ]
    expected = [
        obj
        for obj in everything
        if namespace in ("", obj.metadata.namespace)
        and matches_labels(labels, obj.metadata.labels or {})
        and matches_fields(field, obj)
    ]
    assert list(said.body.items) == expected
    assert said.body.metadata.resource_version == str(world.history.revision)


def test_list_1_the_order_is_of_code_points():
    # Shows LIST-1.a.
    world = World()
    for name in ("n10", "n9", "n-1", "n.1"):
        world.do(
            Request(
                "create",
                resources.CONFIG_MAPS,
                "default",
                body=an_object(resources.CONFIG_MAPS, ObjectMeta(name=name)),
                user=ADMIN,
            )
        )
    assert [item.metadata.name for item in list_of(world).body.items] == ["n-1", "n.1", "n10", "n9"]


@given(histories(), st.integers(-2, 3))
def test_list_2_list_9_a_get_is_never_older_than_asked(sequence, ahead):
    # Shows LIST-9.a.
    world = run(sequence)
    said = world.do(
        Request(
            "get",
            resources.CONFIG_MAPS,
            "default",
            "a",
            options=Options(resource_version=str(world.history.revision + ahead)),
            user=ADMIN,
        )
    ).response
    if ahead > 0:
        assert said.code == 504 and said.body.details.causes[0].reason == "ResourceVersionTooLarge"
        assert list_of(world, resource_version=str(world.history.revision + ahead)).code == 504
    else:
        assert said.code in (200, 404)


@pytest.mark.parametrize(
    ("kind", "selector", "names"),
    [
        (resources.EVENTS, "involvedObject.kind=Pod", ["e"]),
        (resources.EVENTS, "involvedObject.kind=Node", []),
        (resources.EVENTS, "source=kubelet,reason=Started,type!=Warning", ["e"]),
        (resources.SECRETS, "type=Opaque", ["s"]),
        (resources.SECRETS, "type!=Opaque", []),
        (resources.PODS, "spec.nodeName=", ["a"]),
        (resources.PODS, "spec.nodeName=node-1", []),
        (resources.PODS, "spec.nodeName!=node-1", ["a"]),
        (
            resources.PODS,
            "spec.restartPolicy=Always,spec.schedulerName=default-scheduler,spec.hostNetwork=false",
            ["a"],
        ),
        (resources.PODS, "status.phase=Pending", ["a"]),
    ],
)
def test_list_3_kinds_declare_fields_of_their_own(kind, selector, names):
    world = populated()
    about = ObjectReference(kind="Pod", namespace="default", name="a")
    event = Event(
        metadata=ObjectMeta(name="e"),
        involved_object=about,
        source=EventSource(component="kubelet"),
        reason="Started",
        type="Normal",
    )
    assert (
        world.do(
            Request("create", resources.EVENTS, "default", body=event, user=ADMIN)
        ).response.code
        == 201
    )
    assert (
        world.do(
            Request(
                "create",
                resources.SECRETS,
                "default",
                body=Secret(metadata=ObjectMeta(name="s")),
                user=ADMIN,
            )
        ).response.code
        == 201
    )
    assert [
        item.metadata.name for item in list_of(world, kind, field_selector=selector).body.items
    ] == names


@pytest.mark.parametrize(
    "options",
    [
        {"label_selector": "a in ("},
        {"field_selector": "data.k=v"},
        {"field_selector": "metadata.name"},
    ],
)
def test_list_3_what_cannot_be_read_or_is_no_selectable_field_is_refused(options):
    # Shows LIST-3.c.
    assert list_of(World(), **options).code == 400
    assert list_of(World(), resources.PODS, field_selector="spec.none=1").code == 400


def test_list_3_pods_have_fields_with_old_names():
    # Shows LIST-3.b.
    world = World()
    pod = an_object(resources.PODS, ObjectMeta(name="p"))
    pod = replace(pod, spec=replace(pod.spec, node_name="n"))
    created = world.do(Request("create", resources.PODS, "default", body=pod, user=ADMIN))
    assert created.response.code == 201
    for selector, count in (("spec.host=n", 1), ("spec.host=m", 0), ("status.podIPs=", 1)):
        assert len(list_of(world, resources.PODS, field_selector=selector).body.items) == count


# --- pages


@given(
    histories(size=15),
    st.integers(1, 3),
    selectors,
    st.lists(steps((resources.CONFIG_MAPS,)), max_size=6),
    st.booleans(),
)
def test_list_4_list_5_the_pages_of_a_chain_join_to_the_list_of_one_state(
    sequence, limit, labels, meanwhile, everywhere
):
    # Shows LIST-4.a LIST-4.b LIST-5.a LIST-12.d.
    world = run(sequence)
    for name in ("c", "d", "e"):
        world.do(
            Request(
                "create",
                resources.CONFIG_MAPS,
                "other",
                body=an_object(resources.CONFIG_MAPS, ObjectMeta(name=name, labels={"app": "x"})),
                user=ADMIN,
            )
        )
    namespace = "" if everywhere else "other"
    whole = list_of(world, namespace=namespace, label_selector=labels).body
    items, token, left = [], "", None
    while True:
        page = list_of(
            world, namespace=namespace, label_selector=labels, limit=limit, continue_=token
        ).body
        assert (
            len(page.items) <= limit
            and page.metadata.resource_version == whole.metadata.resource_version
        )
        items += page.items
        token = page.metadata.continue_ or ""
        left = page.metadata.remaining_item_count
        assert left == (len(whole.items) - len(items) if token and not labels else None)
        assert bool(token) == (len(items) < len(whole.items))
        if not token:
            break
        late = an_object(
            resources.CONFIG_MAPS, ObjectMeta(generate_name="cc-", labels={"app": "x"})
        )
        world.do(Request("create", resources.CONFIG_MAPS, "other", body=late, user=ADMIN))
        if meanwhile:
            world.do(meanwhile.pop().request(world))
    assert tuple(items) == whole.items


def test_list_6_resource_version_0_is_not_cut():
    # Shows LIST-6.a LIST-12.a.
    world = populated()
    world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "default",
            body=an_object(resources.CONFIG_MAPS, ObjectMeta(name="b")),
            user=ADMIN,
        )
    )
    said = list_of(world, limit=1, resource_version="0").body
    assert len(said.items) == 2 and said.metadata.continue_ is None


@given(histories(size=15))
def test_list_7_a_chain_that_is_too_old_goes_on_in_the_present_if_the_client_will(sequence):
    # Shows LIST-5.b LIST-7.a.
    world = run(sequence)
    for name in ("c", "d", "e"):
        world.do(
            Request(
                "create",
                resources.CONFIG_MAPS,
                "default",
                body=an_object(resources.CONFIG_MAPS, ObjectMeta(name=name)),
                user=ADMIN,
            )
        )
    first = list_of(world, limit=1).body
    world.do(
        Request(
            "create",
            resources.CONFIG_MAPS,
            "default",
            body=an_object(resources.CONFIG_MAPS, ObjectMeta(name="z")),
            user=ADMIN,
        )
    )
    world.history = compact(world.history, world.history.revision)
    refused = list_of(world, limit=1, continue_=first.metadata.continue_)
    assert refused.code == 410 and refused.body.reason == "Expired"
    rest, token = [], refused.body.metadata.continue_
    while token:
        page = list_of(world, limit=2, continue_=token)
        assert page.code == 200
        rest += page.body.items
        token = page.body.metadata.continue_
    assert [*first.items, *rest] == list(list_of(world).body.items), (
        "nothing before the place where it went on had changed"
    )


@pytest.mark.parametrize("version", ["abc", "-1", "1.5", "99999999999999999999999", "٣", " 1"])
def test_list_8_what_is_no_revision_is_refused(version):
    """Also divergence D-26: upstream answers a get or watch with 500."""
    # Shows LIST-8.a.
    world = populated()
    assert list_of(world, resource_version=version).code == 400
    for verb, name in (("get", "a"), ("watch", "")):
        said = world.do(
            Request(
                verb,
                resources.CONFIG_MAPS,
                "default",
                name,
                options=Options(resource_version=version),
                user=ADMIN,
            )
        ).response
        assert said.code == 400 and said.body.reason == "BadRequest"
        assert said.body.message.startswith("resourceVersion: Invalid value: ")


@given(
    st.one_of(
        st.text(max_size=30),
        st.binary(max_size=30).map(lambda raw: raw.decode("latin-1")),
        st.sampled_from(["e30", "W10", "bnVsbA", "e"]),
    )
)
def test_list_8_what_is_no_token_of_ours_is_refused(token):
    # Shows LIST-8.b.
    if token:
        assert list_of(populated(), continue_=token).code == 400


@pytest.mark.parametrize(
    "tree",
    [
        {"v": "meta.k8s.io/v2", "rv": 2, "start": "a"},
        {"v": "meta.k8s.io/v1", "rv": 0, "start": "a"},
        {"v": "meta.k8s.io/v1", "rv": True, "start": "a"},
        {"v": "meta.k8s.io/v1", "rv": 2, "start": ""},
        {"v": "meta.k8s.io/v1", "rv": 2, "start": "../x"},
        {"v": "meta.k8s.io/v1", "rv": 2**70, "start": "a"},
        {"v": "meta.k8s.io/v1", "rv": 2, "start": 3},
        {"rv": 2},
        [],
    ],
)
def test_list_8_nor_is_one_that_only_looks_like_it(tree):
    # Shows LIST-8.b.
    import base64

    token = base64.urlsafe_b64encode(json.dumps(tree).encode()).rstrip(b"=").decode()
    assert list_of(populated(), continue_=token).code == 400


@given(
    st.integers(1, 2**40),
    st.text("abc-./", min_size=1, max_size=20).filter(lambda name: ".." not in name.split("/")),
)
def test_list_5_a_token_says_where_to_go_on(revision, name):
    assert parse_continue(
        make_continue(revision, "/core/pods/", "/core/pods/" + name), "/core/pods/"
    ) == (revision, "/core/pods/" + name)


def test_list_9_a_token_of_the_future_is_not_served():
    world = populated()
    token = make_continue(
        world.history.revision + 5,
        f"{resources.CONFIG_MAPS.prefix}default/",
        f"{resources.CONFIG_MAPS.prefix}default/a",
    )
    assert list_of(world, continue_=token).code == 504


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"resource_version_match": "Exact"}, 422),
        ({"resource_version_match": "Exact", "resource_version": "0"}, 422),
        ({"resource_version_match": "Nearly", "resource_version": "2"}, 422),
        (
            {"resource_version_match": "NotOlderThan", "resource_version": "2", "continue_": "x"},
            422,
        ),
        ({"send_initial_events": True}, 422),
        ({"continue_": "x", "resource_version": "2"}, 400),
        ({"resource_version_match": "Exact", "resource_version": "3"}, 200),
        ({"resource_version_match": "NotOlderThan", "resource_version": "0"}, 200),
    ],
)
def test_list_10_resource_version_match_means_something_or_is_refused(options, code):
    # Shows LIST-10.a.
    assert list_of(populated(), **options).code == code


@given(
    histories(size=15),
    st.integers(0, 30),
    st.sampled_from(["", "Exact", "NotOlderThan"]),
    st.sampled_from([0, 5]),
    selectors,
)
def test_list_12_which_state_a_list_is_of(sequence, back, match, limit, labels):
    # Shows LIST-2.a LIST-12.b LIST-12.c.
    world = run(sequence)
    revision = max(world.history.revision - back, 1)
    said = list_of(
        world,
        resource_version=str(revision),
        resource_version_match=match,
        limit=limit,
        label_selector=labels,
    )
    exact = match == "Exact" or (not match and limit)
    at = revision if exact else world.history.revision
    assert said.code == 200 and said.body.metadata.resource_version == str(at)
    then = [
        record.value
        for record in world.history.list(f"{resources.CONFIG_MAPS.prefix}default/", at=at).records
    ]
    expected = [obj for obj in then if matches_labels(labels, obj.metadata.labels or {})]
    assert list(said.body.items) == (expected[:limit] if limit else expected)


def test_list_12_an_exact_state_that_is_compacted_is_410():
    # Shows LIST-12.c.
    world = populated()
    world.history = compact(world.history, world.history.revision)
    assert list_of(world, resource_version="2", resource_version_match="Exact").code == 410
    assert list_of(world, resource_version="2").code == 200


# --- the text


@given(histories(), st.sampled_from(KINDS), selectors)
def test_list_11_items_leave_kind_and_version_to_the_list(sequence, kind, labels):
    # Shows LIST-11.a.
    world = run(sequence)
    base = f"/apis/{kind.group}/v1" if kind.group else "/api/v1"
    reply = world.http(
        "GET", f"{base}/namespaces/default/{kind.plural}?labelSelector={labels.replace(' ', '%20')}"
    )
    tree = json.loads(reply.content)
    assert (tree["kind"], tree["apiVersion"]) == (f"{kind.kind}List", kind.api_version)
    expected = list_of(world, kind, label_selector=labels).body.items
    for item, obj in zip(tree["items"], expected, strict=True):
        assert "kind" not in item and "apiVersion" not in item and next(iter(item)) == "metadata"
        assert {"kind": kind.kind, "apiVersion": kind.api_version, **item} == json.loads(
            json.dumps(_tree(obj))
        )


def _tree(obj):
    from refk8s.core.api.codec import to_tree

    return to_tree(obj)


@given(histories(size=15), st.lists(steps(), min_size=1, max_size=10), selectors)
def test_list_13_a_kept_list_is_the_list(sequence, more, labels):
    # Shows LIST-13.a LIST-13.b.
    world = run(sequence)
    received = receive(
        WireRequest("GET", PATH, f"labelSelector={labels.replace(' ', '%20')}"), ADMIN
    )
    kept, recalled = None, 0
    for step in more:
        response = handle(
            Exchange(received.request, world.history, Context(START, SeededChance(b"")))
        )
        reply = reply_to(received, response, START)
        if kept is not None and (said := list_text.recall(kept, world.history)) is not None:
            recalled += 1
            assert said.whole() == reply.whole() and said.length == len(said.whole().content)
        kept = list_text.keep(received, response, reply, world.history)
        assert kept is not None and list_text.recall(kept, world.history).whole() == reply.whole()
        world.do(step.request(world))


def test_list_13_pages_and_other_forms_are_not_kept():
    world = populated()
    for query, headers in (
        ("limit=1", {}),
        ("resourceVersion=2", {}),
        ("", {"accept": "application/json;as=Table;g=meta.k8s.io;v=v1"}),
        ("pretty=true", {}),
    ):
        received = receive(WireRequest("GET", PATH, query, headers), ADMIN)
        response = handle(
            Exchange(received.request, world.history, Context(START, SeededChance(b"")))
        )
        assert (
            list_text.keep(received, response, reply_to(received, response, START), world.history)
            is None
        )
