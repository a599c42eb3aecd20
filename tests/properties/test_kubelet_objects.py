"""The objects that pods need and the admission of a pod, from plain values, beside a plain reading of
KUBELET-70 to KUBELET-72, KUBELET-80 to KUBELET-82 and KUBELET-95 (spec/kubelet.md)."""

from __future__ import annotations

import pytest
from immutables import Map
from kubelet_bench import make_pod
from msgspec.structs import replace

from refk8s.core.api.authentication_v1 import (
    BoundObjectReference,
    TokenRequest,
    TokenRequestSpec,
    TokenRequestStatus,
)
from refk8s.core.api.core_v1 import (
    ConfigMap,
    Container,
    ContainerPort,
    Node,
    NodeStatus,
    PodOS,
    ResourceRequirements,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import NO_OPTIONS, Options, Request, Response
from refk8s.core.api.resources import (
    CONFIG_MAPS,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    SECRETS,
    SERVICE_ACCOUNTS,
)
from refk8s.core.context import MINUTE, SECOND, timestamp
from refk8s.core.kubelet.admission import capacity_of, requests_of, why_rejected
from refk8s.core.kubelet.config import KubeletConfig
from refk8s.core.kubelet.draft import Draft, Facts, bounded_grace
from refk8s.core.kubelet.memory import NEVER, PodMemory
from refk8s.core.kubelet.objects import (
    Held,
    Library,
    NotYet,
    claim_key,
    compute_read,
    config_map_key,
    has_changed,
    is_token,
    key_of_read,
    prune,
    secret_key,
    taken_in,
    token_key,
    volume_key,
)
from refk8s.core.ports import NodeDescribed

NOW = 10_000 * SECOND


# --- which object a pod needs ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "resource", "namespace"),
    [
        (config_map_key("ns", "o"), CONFIG_MAPS, "ns"),
        (secret_key("ns", "o"), SECRETS, "ns"),
        (claim_key("ns", "o"), PERSISTENT_VOLUME_CLAIMS, "ns"),
        (volume_key("o"), PERSISTENT_VOLUMES, ""),
    ],
)
def test_kubelet_70_an_object_is_read_by_its_name_and_as_new_as_asked(key, resource, namespace):
    for as_of, options in ((-1, NO_OPTIONS), (0, NO_OPTIONS), (7, Options(resource_version="7"))):
        found = compute_read(key, as_of)
        assert replace(found, because="") == Request(
            "get", resource, namespace, "o", options=options
        )
        assert found.because and key_of_read(found) == key
    assert not is_token(key)


@pytest.mark.parametrize("audience", ["", "vault", "https://a/b/c"])
@pytest.mark.parametrize("account", [None, "robot"])
def test_kubelet_72_a_token_is_one_of_the_pods_account_for_this_pod(audience, account):
    pod = make_pod("p", service_account_name=account)
    pod = replace(pod, metadata=replace(pod.metadata, uid="u"))
    key = token_key(pod, audience, 3607)
    spec = TokenRequestSpec(
        audiences=(audience,) if audience else None,
        expiration_seconds=3607,
        bound_object_ref=BoundObjectReference(api_version="v1", kind="Pod", name="p", uid="u"),
    )
    found = compute_read(key, 5)
    assert replace(found, because="") == Request(
        "create",
        SERVICE_ACCOUNTS,
        "default",
        account or "default",
        "token",
        TokenRequest(spec=spec),
    )
    assert found.because and key_of_read(found) == key and is_token(key)


# --- responses ------------------------------------------------------------------------------------

OBJECT = ConfigMap(metadata=ObjectMeta(name="o", resource_version="1"))
ASKED = Held(requested_at=5, requested_as_of=9, waiting=("a",), misses=3, as_of=2)


def test_kubelet_71_an_object_that_was_read_is_used_for_a_while():
    found = taken_in(ASKED, Response(200, OBJECT), NOW, MINUTE)
    assert found == Held(OBJECT, True, NOW + MINUTE, requested_as_of=9, as_of=9)


@pytest.mark.parametrize(("seconds", "used"), [(100, 80), (101, 80.8), (0, 0)])
def test_kubelet_72_a_token_is_renewed_after_four_fifths_of_its_time(seconds, used):
    status = TokenRequestStatus(token="t", expiration_timestamp=timestamp(NOW + seconds * SECOND))
    token = TokenRequest(spec=TokenRequestSpec(), status=status)
    found = taken_in(ASKED, Response(201, token), NOW, MINUTE)
    assert found.good_until == NOW + int(used * SECOND)
    endless = replace(token, status=TokenRequestStatus(token="t"))
    assert taken_in(ASKED, Response(201, endless), NOW, MINUTE).good_until == NOW + MINUTE


def test_kubelet_71_a_missing_object_is_read_again_after_1_2_4_8_and_then_10_seconds():
    held, waits = replace(ASKED, value=OBJECT, read=True, misses=0), []
    for _ in range(12):
        held = taken_in(held, Response(404, None), NOW, MINUTE)
        waits.append((held.good_until - NOW) // SECOND)
    assert waits == [1, 2, 4, 8, *[10] * 8]
    assert held == Held(None, True, held.good_until, misses=10, as_of=9, requested_as_of=9)


@pytest.mark.parametrize("response", [None, Response(500, None), Response(403, None)])
def test_kubelet_71_without_an_answer_the_last_object_stays(response):
    known = replace(ASKED, value=OBJECT, read=True)
    found = taken_in(known, response, NOW, MINUTE)
    assert found == replace(
        known, requested_at=0, waiting=(), misses=4, good_until=NOW + 8 * SECOND
    )


def test_kubelet_71_which_responses_change_an_object():
    one, same = Held(OBJECT), Held(replace(OBJECT, data={"a": "b"}))
    other = Held(replace(OBJECT, metadata=ObjectMeta(name="o", resource_version="2")))
    token = Held(TokenRequest(spec=TokenRequestSpec()))
    none = Held(None, read=True)
    for before, after, expected in (
        (one, one, False),
        (one, same, False),
        (one, other, True),
        (one, none, True),
        (none, one, True),
        (none, none, False),
        (token, token, True),
    ):
        assert has_changed(before, after) == expected


def test_kubelet_71_what_no_pod_has_needed_for_long_is_dropped():
    old = NOW - 10 * MINUTE
    objects = Map(
        {
            "old": Held(good_until=old - 1),
            "edge": Held(good_until=old),
            "asked": Held(good_until=old - 1, requested_at=3),
            "new": Held(good_until=NOW),
            "older": Held(),
        }
    )
    assert sorted(prune(objects, NOW)) == ["asked", "edge", "new"]


# --- the library ----------------------------------------------------------------------------------


def got(held, since=-1, now=NOW, show=False, key="configmaps/ns/o"):
    """(object or NotYet, needed, wake_at) of one look-up."""
    library = Library(Map({key: held} if held is not None else {}), now, since)
    try:
        value = library.show(key) if show else library.get(key)
    except NotYet:
        value = NotYet
    assert library.mounted == ([key] if show else [])
    return value, library.needed, library.wake_at


FRESH = Held(OBJECT, True, NOW + 5, as_of=4)
KEY = "configmaps/ns/o"


def test_kubelet_70_an_object_is_used_while_it_is_good_and_read_after_that():
    assert got(FRESH) == (OBJECT, [], None)
    assert got(replace(FRESH, value=None)) == (None, [], NOW + 5), (
        "a missing one is looked for again"
    )
    assert got(FRESH, key="tokens/x") == (OBJECT, [], NOW + 5), "a token is renewed"
    # it has become old, or was never read: it is needed, and waited for at most 15 s
    for held in (replace(FRESH, good_until=NOW), None):
        assert got(held) == (NotYet, [KEY], NOW + 15 * SECOND)
    since = replace(FRESH, good_until=NOW, requested_at=NOW - 14 * SECOND)
    assert got(since) == (NotYet, [KEY], NOW + SECOND)
    late = replace(since, requested_at=NOW - 15 * SECOND)
    assert got(late) == (OBJECT, [], None), "then the last one is used"
    assert got(replace(late, read=False, value=None)) == (NotYet, [], None)


def test_kubelet_95_a_container_gets_an_object_as_new_as_its_pod():
    assert got(FRESH, since=4) == (OBJECT, [], None)
    assert got(FRESH, since=5) == (NotYet, [KEY], None)
    failed = replace(FRESH, requested_as_of=5)
    assert got(failed, since=5) == (NotYet, [], NOW + 5), "the read failed: it is repeated later"
    for again in (
        replace(failed, requested_at=3),
        replace(failed, good_until=NOW),
        replace(failed, requested_as_of=4),
    ):
        assert got(again, since=5) == (NotYet, [KEY], None)
    newer = replace(failed, requested_as_of=6)
    assert got(newer, since=5) == (NotYet, [], NOW + 5)


def test_kubelet_58_a_volume_shows_the_object_as_last_read():
    old = replace(FRESH, good_until=NOW - MINUTE)
    assert got(old, show=True) == (OBJECT, [], None)
    assert got(old, since=4, show=True) == (OBJECT, [], None)
    assert got(old, since=5, show=True) == (NotYet, [KEY], None)
    assert got(old, show=True, key="tokens/x") == (NotYet, ["tokens/x"], NOW + 15 * SECOND)
    assert got(replace(FRESH, value=None), show=True) == (None, [], NOW + 5)


def test_kubelet_70_the_first_of_several_instants_is_kept():
    held = {"a": replace(FRESH, value=None), "b": replace(FRESH, value=None, good_until=NOW + 3)}
    for order in ("ab", "ba"):
        library = Library(Map(held), NOW)
        for key in order:
            library.get(key)
        assert library.wake_at == NOW + 3


# --- the draft ------------------------------------------------------------------------------------


def test_pod_3_a_grace_period_is_at_least_one_second_and_bounded():
    found = [bounded_grace(seconds) for seconds in (None, -5, 0, 1, 2, 30, 10**12)]
    assert found[:-1] == [30, 1, 1, 1, 2, 30] and found[-1] < 10**12
    assert bounded_grace(found[-1]) == found[-1] > 10**6


def test_kubelet_1_the_first_instant_is_kept_and_never_is_none():
    node = NodeDescribed("n", "10.0.0.1", 1, 1, 1, 1, "amd64", "linux", "", "", "")
    draft = Draft(Facts(KubeletConfig(), node), None, PodMemory("u", "d", "p"), Library({}, 0), 0)
    for at, expected in (
        (NEVER, None),
        (NEVER - 1, NEVER - 1),
        (9, 9),
        (10, 9),
        (8, 8),
        (NEVER, 8),
    ):
        draft.wake(at)
        assert draft.wake_at == expected
    assert list(Facts(KubeletConfig(), node).services("ns", True)) == []


# --- admission ------------------------------------------------------------------------------------

CAPACITY = {"cpu": 1000, "memory": 100, "pods": 2, "ephemeral-storage": 50, "a.com/gpu": 1}


def a_pod(requests=None, **spec):
    ports = spec.pop("ports", None)
    one = Container(name="c", resources=ResourceRequirements(requests=requests), ports=ports)
    return make_pod("p", (one,), **{"node_name": "n", **spec})


def rejected(pod, used=None, capacity=CAPACITY, labels=None, others=(), modules=()):
    return why_rejected(pod, requests_of(pod), used or {}, capacity, labels or {}, others, modules)


def short(resource, wanted, taken, there):
    words = f"Node didn't have enough resource: {resource}, requested: {wanted}, used: {taken}, capacity: {there}"
    return f"OutOf{resource}", f"Pod was rejected: {words}"


def test_kubelet_80_a_pod_requests_its_resources_and_a_place():
    assert requests_of(a_pod({"cpu": "1500m", "a.com/gpu": "2"})) == {
        "cpu": 1500,
        "a.com/gpu": 2,
        "pods": 1,
    }
    assert requests_of(a_pod()) == {"pods": 1}


def test_kubelet_81_what_a_node_has():
    facts = NodeDescribed("n", "10.0.0.1", 4000, 7, 5, 110, "amd64", "linux", "", "", "")
    own = {"cpu": 4000, "memory": 7, "ephemeral-storage": 5, "pods": 110}
    assert capacity_of(facts, None) == capacity_of(facts, Node(metadata=ObjectMeta())) == own
    announced = {"a.com/gpu": "2", "cpu": "1", "hugepages-2Mi": "4Mi"}
    node = Node(metadata=ObjectMeta(), status=NodeStatus(allocatable=announced))
    assert capacity_of(facts, node) == own | {"a.com/gpu": 2}


@pytest.mark.parametrize(
    ("requests", "used", "expected"),
    [
        ({"cpu": "1"}, {}, None),
        ({"cpu": "1"}, {"cpu": 1}, short("cpu", 1000, 1, 1000)),
        ({"cpu": "900m"}, {"cpu": 100}, None),
        ({"memory": "101"}, {}, short("memory", 101, 0, 100)),
        ({"cpu": "2", "memory": "101"}, {"pods": 2}, short("pods", 1, 2, 2)),
        ({"cpu": "2", "memory": "101"}, {"pods": 1}, short("cpu", 2000, 0, 1000)),
        ({"a.com/gpu": "2"}, {}, short("a.com/gpu", 2, 0, 1)),
        ({"b.com/x": "2"}, {}, None),
        ({"b.com/x": "2", "memory": "101"}, {}, short("memory", 101, 0, 100)),
        ({"hugepages-2Mi": "4Mi"}, {}, short("hugepages-2Mi", 4 << 20, 0, 0)),
        ({"cpu": "0"}, {"cpu": 5000}, None),
    ],
)
def test_kubelet_81_a_pod_that_requests_more_than_is_left_is_rejected(requests, used, expected):
    assert rejected(a_pod(requests), used) == expected


def test_kubelet_82_a_node_that_does_not_match_rejects_the_pod():
    words = "Pod was rejected: Predicate NodeAffinity failed: node(s) didn't match Pod's node affinity/selector"
    picky = a_pod(node_selector={"k": "v"})
    assert rejected(picky) == rejected(picky, labels={"k": "w"}) == ("NodeAffinity", words)
    assert rejected(picky, labels={"k": "v"}) is None
    assert rejected(a_pod({"cpu": "2"}, node_selector={"k": "v"}))[0] == "OutOfcpu"


def test_kubelet_82_a_host_port_that_is_taken_rejects_the_pod():
    def with_port(number):
        return a_pod(ports=(ContainerPort(container_port=1, host_port=number),))

    def memory(pod):
        return PodMemory("u", "d", "q", pod=pod)

    words = "Pod was rejected: Predicate NodePorts failed: node(s) didn't have free ports for the requested pod ports"
    taken, other, none = memory(with_port(80)), memory(with_port(81)), memory(None)
    assert rejected(with_port(80), others=[none, other, taken]) == ("NodePorts", words)
    assert rejected(with_port(80), others=[none, other, memory(a_pod())]) is None
    assert rejected(a_pod(), others=[taken]) is None
    assert (
        rejected(
            replace(with_port(80), spec=replace(with_port(80).spec, node_selector={"k": "v"})),
            others=[taken],
        )[0]
        == "NodeAffinity"
    )


def test_kubelet_92_what_the_node_does_not_support_comes_first():
    pod = a_pod({"cpu": "2"}, os=PodOS(name="windows"))
    reason, message = rejected(pod)
    assert reason == "PodOSNotSupported" and message.startswith("Pod was rejected: Failed to admit")
