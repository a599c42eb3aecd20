"""Filters of the scheduler beside a plain reading: SCHED-5, SCHED-6, SCHED-7
(spec/scheduler.md)."""

from __future__ import annotations

from hypothesis import example, given, settings
from hypothesis import strategies as st
from sched_worlds import a_node, a_pod

from refk8s.core.api.core_v1 import NodeSelectorRequirement, NodeSelectorTerm, Taint, Toleration
from refk8s.core.pods.node_affinity import term_matches
from refk8s.core.pods.tolerations import tolerates
from refk8s.core.scheduler.filters import node_unschedulable
from refk8s.core.scheduler.needs import needs_of
from refk8s.core.scheduler.snapshot import facts_of

numbers = [
    "-9223372036854775808",
    "-9223372036854775809",
    "9223372036854775807",
    "9223372036854775808",
    "0",
    "7",
    "+7",
    "08",
    "-1",
    "x",
    "",
]
long_ones = ["0" * 24 + "5", "1" + "0" * 24]  # leading zeros do not count
texts = st.sampled_from([*numbers, *long_ones])


def number(text):
    """The text as a 64-bit integer; None where it is none."""
    digits = text[1:] if text[:1] in ("+", "-") else text
    if not digits.isdigit() or not -(2**63) <= int(text) < 2**63:
        return None
    return int(text)


@settings(max_examples=10 * settings.default.max_examples)
@given(
    st.sampled_from(["In", "NotIn", "Exists", "DoesNotExist", "Gt", "Lt", "Odd"]),
    st.lists(texts, max_size=2),
    st.none() | texts,
    st.booleans(),
)
@example("Lt", ["0"], "-9223372036854775808", False)
@example("Gt", ["0"], "9223372036854775808", False)
@example("Gt", ["0"], "0" * 23 + "5", False)
def test_sched_7_what_a_requirement_wants_of_a_node(operator, values, found, of_field):
    """Of a label or, as its only field, of the node's name."""
    name = found or "n"
    facts = facts_of(a_node(name, labels={} if found is None else {"k": found}))
    requirement = NodeSelectorRequirement(
        key="metadata.name" if of_field else "k", operator=operator, values=tuple(values) or None
    )
    term = (
        NodeSelectorTerm(match_fields=(requirement,))
        if of_field
        else NodeSelectorTerm(match_expressions=(requirement,))
    )
    has = name if of_field else found
    mine, its = (
        (None if has is None else number(has)),
        number(values[0]) if len(values) == 1 else None,
    )
    compared = mine is not None and its is not None
    expected = {
        "In": has in values,
        "NotIn": has not in values,
        "Exists": has is not None,
        "DoesNotExist": has is None,
        "Gt": compared and mine > its,
        "Lt": compared and mine < its,
        "Odd": False,
    }[operator]
    assert term_matches(term, facts.labels, facts.name) == expected
    assert not term_matches(NodeSelectorTerm(), facts.labels, facts.name)


keys = st.sampled_from([None, "", "a", "b"])
effects = st.sampled_from([None, "", "NoSchedule", "NoExecute"])


@settings(max_examples=10 * settings.default.max_examples)
@given(
    st.builds(
        Toleration,
        key=keys,
        value=keys,
        operator=st.sampled_from([None, "", "Equal", "Exists", "Odd"]),
        effect=effects,
    ),
    st.builds(
        Taint,
        key=st.sampled_from(["a", "b"]),
        value=keys,
        effect=st.sampled_from(["NoSchedule", "NoExecute"]),
    ),
)
def test_sched_6_what_tolerates_what(toleration, taint):
    same_key = not toleration.key or toleration.key == taint.key
    same_value = toleration.operator == "Exists" or (
        toleration.operator in (None, "", "Equal")
        and (toleration.value or "") == (taint.value or "")
    )
    expected = (toleration.effect or taint.effect) == taint.effect and same_key and same_value
    assert tolerates(toleration, taint) == expected


@given(st.booleans(), st.booleans())
def test_sched_5_a_cordoned_node_takes_only_who_tolerates_it(cordoned, tolerant):
    tolerations = (
        (Toleration(key="node.kubernetes.io/unschedulable", operator="Exists"),)
        if tolerant
        else None
    )
    needs = needs_of(a_pod("p", {"cpu": "1"}, tolerations=tolerations))
    refusal = node_unschedulable.check(needs, facts_of(a_node("n", unschedulable=cordoned)))
    assert (refusal is not None) == (cordoned and not tolerant)
