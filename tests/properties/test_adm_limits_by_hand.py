"""What LimitRanges make of drawn pods and claims, beside a plain reading of ADM-40 and ADM-41
(spec/admission.md)."""

from collections.abc import Iterable, Mapping
from fractions import Fraction
from itertools import product
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from test_quota import CLAIMS, PODS, a_claim, a_container, a_pod, made

from refk8s.core.api import resources
from refk8s.core.api.core_v1 import LimitRange, LimitRangeItem, LimitRangeSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.quantity import parse
from refk8s.core.api.request import Request
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission.limit_ranger import (
    ANNOTATION,
    _problems,
    check_claim,
    check_pod,
    fill,
)
from refk8s.core.context import Context, SeededChance
from refk8s.core.store import EMPTY, Put, Txn, commit

RANGES = resources.LIMIT_RANGES
CONTEXT = Context(0, SeededChance(b"seed"))
NAMES = ("cpu", "memory")

quantities = st.integers(1, 3).map(str)
tables = st.fixed_dictionaries({}, optional=dict.fromkeys(NAMES, quantities))
optional_tables = st.none() | tables.map(lambda table: table or None)


def stored(ranges: Mapping[str, Iterable[LimitRangeItem]], namespace: str = "default") -> Any:
    """A store with limit ranges of these names and items in the namespace."""
    history = EMPTY
    for name, items in ranges.items():
        metadata = ObjectMeta(name=name, namespace=namespace)
        limit_range = LimitRange(metadata=metadata, spec=LimitRangeSpec(limits=tuple(items)))
        key = RANGES.key(namespace, name)
        history = commit(history, Txn((), (Put(key, limit_range),)))[0]
    return history


def asked(verb: str = "create", subresource: str = "", resource: Any = PODS) -> Request:
    return Request(verb, resource, "default", "p", subresource)


def dying(pod: Any) -> Any:
    metadata = replace(pod.metadata, deletion_timestamp="2026-01-01T00:00:00Z")
    return replace(pod, metadata=metadata)


def refusal(check: Any, request: Request, new: Any, old: Any, store: Any) -> Any:
    """(code, reason, message) of what is rejected; None if nothing is."""
    try:
        check(SimpleNamespace(request=request, store=store), new, old)
    except ApiError as refused:
        answer = refused.status
        return answer.code, answer.reason, answer.message
    return None


# --- defaults

default_items = st.builds(
    LimitRangeItem,
    type=st.sampled_from(["Container", "Container", "Pod"]),
    default=optional_tables,
    default_request=optional_tables,
)
drawn_containers = st.tuples(st.booleans(), optional_tables, optional_tables)
"""(whether it is an init container, requests, limits)"""


def with_resources(name: str, requests: Any, limits: Any) -> dict[str, Any]:
    given_ = {"requests": requests, "limits": limits}
    return a_container(name, **{key: table for key, table in given_.items() if table})


@given(
    st.lists(st.lists(default_items, max_size=2), max_size=2),
    st.lists(drawn_containers, min_size=1, max_size=3),
    st.booleans(),
)
def test_adm_40_the_defaults_of_each_range_in_turn(drawn, containers, is_annotated):
    tree = a_pod("p")
    regular, first = [], []
    for number, (is_init, requests, limits) in enumerate(containers):
        (first if is_init else regular).append(with_resources(f"c{number}", requests, limits))
    tree["spec"] = {"containers": regular}
    if first:
        tree["spec"]["initContainers"] = first
    if is_annotated:
        tree["metadata"]["annotations"] = {"a": "b", ANNOTATION: "old"}
    expected: dict[str, Any] = {**tree, "metadata": {**tree["metadata"]}}
    for items in drawn:
        requests, limits = {}, {}
        for item in items:
            if item.type == "Container":
                requests.update(item.default_request or {})
                limits.update(item.default or {})
        words = []
        for kind, place in (("container", "containers"), ("init container", "initContainers")):
            changed = []
            for one in expected["spec"].get(place, []):
                own = one["resources"]
                wanted = {n: q for n, q in requests.items() if n not in own.get("requests", {})}
                bound = {n: q for n, q in limits.items() if n not in own.get("limits", {})}
                for what, more in (("request", wanted), ("limit", bound)):
                    if more:
                        words.append(f"{', '.join(sorted(more))} {what} for {kind} {one['name']}")
                merged = with_resources(
                    one["name"],
                    {**own.get("requests", {}), **wanted},
                    {**own.get("limits", {}), **bound},
                )
                changed.append(merged)
            if changed:
                expected["spec"] = {**expected["spec"], place: changed}
        if words:
            note = {ANNOTATION: "LimitRanger plugin set: " + "; ".join(words)}
            annotations = {**expected["metadata"].get("annotations", {}), **note}
            expected["metadata"] = {**expected["metadata"], "annotations": annotations}
    store = stored({f"r{number}": items for number, items in enumerate(drawn)})
    assert fill(asked(), made(PODS, tree), None, store, CONTEXT) == made(PODS, expected)


DEFAULTS = LimitRangeItem(type="Container", default={"cpu": "1"}, default_request={"cpu": "1"})
TINY = LimitRangeItem(type="Container", max={"cpu": "1m"})


@pytest.mark.parametrize(
    ("subresource", "is_update", "is_deleted", "is_limited"),
    [
        ("", False, False, True),
        ("", True, False, False),
        ("resize", True, False, True),
        ("resize", True, True, False),
        ("status", True, False, False),
    ],
)
def test_adm_40_adm_41_a_pod_is_limited_when_it_is_created_and_resized(
    subresource, is_update, is_deleted, is_limited
):
    pod = made(PODS, a_pod("p"))
    old = (dying(pod) if is_deleted else pod) if is_update else None
    request = asked("update" if is_update else "create", subresource)
    filled = fill(request, pod, old, stored({"a": [DEFAULTS]}), CONTEXT)
    assert (filled != pod) == is_limited
    assert (refusal(check_pod, request, pod, old, stored({"a": [TINY]})) is not None) == is_limited
    # limit ranges of another namespace do not concern it
    elsewhere = stored({"a": [DEFAULTS, TINY]}, "other")
    assert fill(request, pod, old, elsewhere, CONTEXT) is pod
    assert refusal(check_pod, request, pod, old, elsewhere) is None
    assert refusal(check_pod, request, pod, old, EMPTY) is None


# --- bounds

NUMBERS = (None, 0, 1, 2, 3, 4)


@pytest.mark.parametrize("least", [None, 1, 2])
@pytest.mark.parametrize("most", [None, 2, 3])
@pytest.mark.parametrize("ratio", [None, 1, 2])
def test_adm_41_the_sentence_of_each_bound(least, most, ratio):
    for request, limit in product(NUMBERS, NUMBERS):
        check_sentences(least, most, ratio, request, limit)


def check_sentences(least: Any, most: Any, ratio: Any, request: Any, limit: Any) -> None:
    def table(number):
        return {} if number is None else {"cpu": str(number)}

    def numbers(number):
        return {name: parse(text) for name, text in table(number).items()}

    item = LimitRangeItem(
        type="Pod", min=table(least), max=table(most), max_limit_request_ratio=table(ratio)
    )
    expected = []
    if least is not None:
        words = None
        if request is None:
            words = ".  No request is specified"
        elif request < least:
            words = f", but request is {request}"
        elif limit is not None and limit < least:
            words = f", but limit is {limit}"
        expected += [f"minimum cpu usage per Pod is {least}{words}"] if words else []
    if most is not None:
        words = None
        if limit is None:
            words = ".  No limit is specified"
        elif limit > most:
            words = f", but limit is {limit}"
        elif request is not None and request > most:
            words = f", but request is {request}"
        expected += [f"maximum cpu usage per Pod is {most}{words}"] if words else []
    if ratio is not None:
        words = None
        if not request:
            words = "no request is specified or request is 0"
        elif not limit:
            words = "no limit is specified or limit is 0"
        elif Fraction(limit, request) > ratio:
            words = f"provided ratio is {limit / request:.6f}"
        text = f"cpu max limit to request ratio per Pod is {ratio}, but {words}"
        expected += [text] if words else []
    assert _problems(item, numbers(request), numbers(limit)) == expected


bounded_items = st.builds(
    LimitRangeItem,
    type=st.sampled_from(["Container", "Pod", "PersistentVolumeClaim"]),
    min=optional_tables,
    max=optional_tables,
    max_limit_request_ratio=optional_tables,
)


def numbers(table: Mapping[str, str] | None) -> dict[str, Any]:
    return {name: parse(text) for name, text in (table or {}).items()}


def aggregated(problems: list[str], name: str, resource: str) -> Any:
    """The rejection with these problems; None without one."""
    found = sorted(set(problems), key=problems.index)
    if not found:
        return None
    words = found[0] if len(found) == 1 else f"[{', '.join(found)}]"
    return 403, "Forbidden", f'{resource} "{name}" is forbidden: {words}'


@given(
    st.lists(st.lists(bounded_items, max_size=2), max_size=2),
    st.lists(drawn_containers.filter(lambda drawn: not drawn[0]), min_size=1, max_size=3),
    optional_tables,
)
def test_adm_41_the_problems_of_each_range_are_listed_together(drawn, containers, init):
    described = [(f"c{n}", one[1], one[2]) for n, one in enumerate(containers)]
    tree = a_pod("p", *(with_resources(*one) for one in described))
    tree["spec"]["overhead"] = {"cpu": "9"}
    if init is not None:
        described.append(("i", init, None))
        tree["spec"]["initContainers"] = [with_resources("i", init, None)]

    def largest(place: int) -> dict[str, Any]:
        """The sum of the containers, or the init container if it has more."""
        found: dict[str, int] = {}
        for name, *texts in described:
            for resource, text in (texts[place] or {}).items():
                before = found.get(resource, 0)
                found[resource] = max(before, int(text)) if name == "i" else before + int(text)
        return numbers({name: str(number) for name, number in found.items()})

    expected = None
    for items in drawn:
        problems: list[str] = []
        for item in items:
            if item.type == "Container":
                for _, requests, limits in described:
                    problems += _problems(item, numbers(requests), numbers(limits))
            elif item.type == "Pod":
                problems += _problems(item, largest(0), largest(1))
        expected = expected or aggregated(problems, "p", "pods")
    store = stored({f"r{number}": items for number, items in enumerate(drawn)})
    assert refusal(check_pod, asked(), made(PODS, tree), None, store) == expected


amounts_of_claims = st.none() | st.integers(1, 4)


@given(
    st.lists(st.tuples(amounts_of_claims, amounts_of_claims, st.booleans()), max_size=3),
    amounts_of_claims,
    st.sampled_from(["create", "update", "update of one that is being deleted"]),
)
def test_adm_41_a_claim_keeps_to_the_bounds_of_claims(drawn, size, kind):
    items = [
        LimitRangeItem(
            type="PersistentVolumeClaim" if is_of_claims else "Pod",
            min=None if least is None else {"storage": str(least)},
            max=None if most is None else {"storage": str(most)},
        )
        for least, most, is_of_claims in drawn
    ]
    problems = []
    for least, most, is_of_claims in drawn:
        for bound, word in ((least, "minimum"), (most, "maximum")):
            if bound is None or not is_of_claims:
                continue
            start = f"{word} storage usage per PersistentVolumeClaim is {bound}"
            if size is None:
                problems.append(f"{start}.  No request is specified")
            elif size < bound if word == "minimum" else size > bound:
                problems.append(f"{start}, but request is {size}")
    claim = a_claim(None if size is None else str(size))
    old = None if kind == "create" else claim if kind == "update" else dying(claim)
    expected = None if kind.endswith("deleted") else aggregated(problems, "c", CLAIMS.plural)
    request = asked("create" if old is None else "update", resource=CLAIMS)
    assert refusal(check_claim, request, claim, old, stored({"a": items})) == expected


def test_adm_41_several_resources_of_a_claim_are_each_checked():
    item = LimitRangeItem(
        type="PersistentVolumeClaim", min={"a.b/c": "1", "storage": "2"}, max={"a.b/d": "1"}
    )
    claim = a_claim("1")
    expected = aggregated(
        [
            "minimum a.b/c usage per PersistentVolumeClaim is 1.  No request is specified",
            "minimum storage usage per PersistentVolumeClaim is 2, but request is 1",
            "maximum a.b/d usage per PersistentVolumeClaim is 1.  No request is specified",
        ],
        "c",
        "persistentvolumeclaims",
    )
    request = asked(resource=CLAIMS)
    assert refusal(check_claim, request, claim, None, stored({"a": [item]})) == expected
    # of what is bounded by a fraction, every thousandth counts
    small = LimitRangeItem(type="PersistentVolumeClaim", max={"storage": "1500m"})
    assert refusal(check_claim, request, a_claim("1501m"), None, stored({"a": [small]}))
    assert not refusal(check_claim, request, a_claim("1500m"), None, stored({"a": [small]}))


def test_adm_41_the_problems_are_sorted_by_resource_and_each_is_listed():
    item = LimitRangeItem(
        type="Pod",
        min={"memory": "2", "cpu": "2"},
        max={"memory": "1", "cpu": "1"},
        max_limit_request_ratio={"memory": "1", "cpu": "1"},
    )
    table = numbers({"cpu": "1", "memory": "1"})
    limits = numbers({"cpu": "3", "memory": "3"})
    assert _problems(item, table, limits) == [
        f"{start} {name} {middle}"
        for start, middle in (
            ("minimum", "usage per Pod is 2, but request is 1"),
            ("maximum", "usage per Pod is 1, but limit is 3"),
        )
        for name in NAMES
    ] + [
        f"{name} max limit to request ratio per Pod is 1, but provided ratio is 3.000000"
        for name in NAMES
    ]
