"""The boundaries of admission policies: budgets, lengths, and patches of which a part cannot be
applied (spec/admission_policies.md, POL-7 to POL-13)."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_pol_evaluation import _LOOP, PARAMS, Cluster, holds, operations

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.policies.expressions import OUT_OF_BUDGET
from refk8s.core.apiserver.admission.policies.validating import Annotations
from refk8s.core.apiserver.exchange import Notes

LONG = f"{_LOOP}.all(a, {_LOOP}.all(b, {_LOOP}.all(c, {_LOOP}.all(d, {_LOOP}.all(e, {_LOOP}.all(f, a > 0))))))"  # fmt: skip
"""An expression that costs more than one expression may."""


@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
@pytest.mark.parametrize("before", [0, 2])
def test_pol_10_a_message_without_a_value_does_not_let_the_request_pass(failure, before):
    """`before`: expressions that use up the budget of the policy, so that the message ends it."""
    world = Cluster()
    used_up = [holds(f"{LONG} || object.metadata.name == '{n}'") for n in range(before)]
    refusal = holds("false", messageExpression=f"{LONG} ? 'a' : 'b'", message="not here")
    world.validating(*used_up, refusal, failurePolicy=failure)
    answer = world.create("a")
    assert answer.code == 422
    if failure == "Ignore" or not before:
        assert answer.body.message.endswith("denied request: not here")
    else:
        assert "cost limit exceeded" in answer.body.message


@pytest.mark.parametrize(
    ("length", "is_made"), [(5 * 1024, True), (5 * 1024 + 1, False), (2561, False)]
)
def test_pol_10_a_message_is_made_of_at_most_five_kibibytes(length, is_made):
    letter = "é" if length < 3000 else "x"
    world = Cluster()
    made = holds("false", messageExpression="string(object.data.k)", message="plain")
    world.validating(made)
    answer = world.create("a", {"k": letter * length})
    words = letter * length if is_made else "plain"
    assert answer.body.message.endswith(f"denied request: {words}")


def audited(world: Cluster, data: Any = None) -> dict[str, str]:
    body = from_tree(resources.CONFIG_MAPS.type, {"metadata": {"name": "a"}, "data": data or {}})
    request = Request("create", resources.CONFIG_MAPS, "default", body=body, user=ADMIN)
    return dict(world.do(request).response.annotations)


@pytest.mark.parametrize(("letter", "size"), [("x", 1), ("é", 2), ("€", 3), ("😀", 4)])
def test_pol_11_ten_kibibytes_of_an_annotation_are_kept(letter, size):
    world = Cluster()
    world.validating(
        holds("true"), auditAnnotations=[{"key": "k", "valueExpression": "string(object.data.k)"}]
    )
    assert audited(world, {"k": letter * 11_000})["p/k"] == letter * (10 * 1024 // size)


def test_pol_11_the_values_for_several_parameters_are_joined_each_once():
    world = Cluster()
    for name, word in (("1", "a, b"), ("2", "a"), ("3", "a, b")):
        tree = {"metadata": {"name": name}, "data": {"word": word}}
        body = from_tree(resources.CONFIG_MAPS.type, tree)
        world.do(Request("create", resources.CONFIG_MAPS, "other", body=body, user=ADMIN))
    ref = {"selector": {}, "namespace": "other", "parameterNotFoundAction": "Allow"}
    world.validating(
        holds("true"),
        binding={"paramRef": ref},
        paramKind=PARAMS,
        auditAnnotations=[{"key": "k", "valueExpression": "string(params.data.word)"}],
    )
    assert audited(world)["p/k"] == "a, b, a"


@given(st.lists(st.tuples(st.sampled_from("kl"), st.sampled_from(["a", "b", "a, b"])), max_size=8))
def test_pol_11_each_value_of_a_key_is_kept_once_in_order(added):
    notes = Notes()
    annotations = Annotations("p", notes)
    for key, text in added:
        annotations.add(key, text)
    expected: dict[str, list[str]] = {}
    for key, text in added:
        texts = expected.setdefault(f"p/{key}", [])
        texts += [text] if text not in texts else []
    assert notes.annotations == {key: ", ".join(texts) for key, texts in expected.items()}


def test_d_585_an_annotation_without_a_value_follows_the_actions_of_the_binding():
    for actions, code in ((("Deny",), 422), (("Warn",), 201)):
        world = Cluster()
        broken = [{"key": "k", "valueExpression": "string(object.data.none)"}]
        world.validating(holds("true"), actions=actions, auditAnnotations=broken)
        answer = world.create("a", {"k": "v"})
        assert answer.code == code
        words = "expression 'string(object.data.none)' resulted in error: no such key: none"
        assert words in (answer.body.message if code == 422 else answer.warnings[0])


TEST = "JSONPatch{{op: 'test', path: '{}', value: '{}'}}"
REMOVE = "JSONPatch{{op: 'remove', path: '{}'}}"


@pytest.mark.parametrize(
    ("patch", "expected"),
    [
        ([TEST.format("/data/k", "v"), REMOVE.format("/data/l")], {"k": "v"}),
        ([TEST.format("/data/k", "x"), REMOVE.format("/data/none")], {"k": "v", "l": "w"}),
        ([REMOVE.format("/data/l"), TEST.format("/data/k", "x")], {"k": "v", "l": "w"}),
        ([REMOVE.format("/data/l"), TEST.format("/data/l", "w")], {"k": "v", "l": "w"}),
        ([TEST.format("/data/none/deep", "x")], {"k": "v", "l": "w"}),
        # what comes before the test cannot be applied
        ([REMOVE.format("/data/none"), TEST.format("/data/k", "x")], None),
        ([REMOVE.format("/data/none"), TEST.format("/data/k", "v")], None),
        ([TEST.format("/data/k", "v"), REMOVE.format("/data/none")], None),
        ([TEST.format("data", "v")], None),
    ],
)
def test_pol_13_only_a_test_that_fails_leaves_the_patch_out(patch, expected):
    world = Cluster()
    world.mutating(operations(f"[{', '.join(patch)}]"))
    answer = world.create("a", {"k": "v", "l": "w"})
    if expected is None:
        assert answer.code == 403 and "denied request: JSONPath: " in answer.body.message
    else:
        assert answer.code == 201 and answer.body.data == expected


def test_pol_2_match_conditions_read_the_parameters():
    world = Cluster()
    for name, word in (("one", "a"), ("two", "b")):
        tree = {"metadata": {"name": name}, "data": {"word": word}}
        body = from_tree(resources.CONFIG_MAPS.type, tree)
        world.do(Request("create", resources.CONFIG_MAPS, "other", body=body, user=ADMIN))
    ref = {"selector": {}, "namespace": "other", "parameterNotFoundAction": "Deny"}
    world.validating(
        holds("false", messageExpression="string(params.data.word)"),
        binding={"paramRef": ref},
        paramKind=PARAMS,
        actions=("Warn",),
        matchConditions=[{"name": "c", "expression": "params.data.word == object.metadata.name"}],
    )
    for name in ("a", "b"):
        [warning] = world.create(name).warnings
        assert warning.endswith(f": {name}")
    assert world.create("c").warnings == ()


def test_pol_9_expressions_of_a_policy_share_its_budget():
    world = Cluster()
    used_up = [holds(f"{LONG} || object.metadata.name == '{n}'") for n in range(2)]
    world.validating(*used_up, holds(LONG), holds("false"), actions=("Warn",))
    *limits, last = world.create("a").warnings
    assert len(limits) == 2 and all("cost limit exceeded" in one for one in limits)
    assert last.endswith(f": {OUT_OF_BUDGET}")
