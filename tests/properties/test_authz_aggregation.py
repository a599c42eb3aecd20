"""Aggregated cluster roles: rule RBAC-9 (spec/authorization.md)."""

from typing import Any

from authz_world import AuthorizedWorld
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace
from workload_helpers import view_of

from refk8s.core.api.meta_v1 import LabelSelector, ObjectMeta
from refk8s.core.api.rbac_v1 import AggregationRule, ClusterRole, PolicyRule
from refk8s.core.api.resources import CLUSTER_ROLES
from refk8s.core.controllers.cluster_role_aggregation import ClusterRoleAggregation
from refk8s.core.loop.plan import NOTHING, Local

NAMES = ("a", "b", "c", "d")
LABELS = st.dictionaries(st.sampled_from(("x", "y")), st.sampled_from(("1", "2")), max_size=2)
RULES = st.lists(
    st.sampled_from(("pods", "secrets", "nodes")).map(
        lambda name: PolicyRule(verbs=("get",), api_groups=("",), resources=(name,))
    ),
    max_size=2,
)


@st.composite
def roles(draw: st.DrawFn) -> ClusterRole:
    """A role. One that aggregates has no label, so roles do not aggregate one another in circles:
    whatever such a circle has once, it keeps."""
    name = draw(st.sampled_from(NAMES))
    labels = None if name == "a" else draw(LABELS) or None
    rule = None
    if name in ("a", "b") and draw(st.booleans()):
        wanted = draw(LABELS)
        labels = {"z": "1"} if name == "b" else None
        selectors = [LabelSelector(match_labels=wanted or {"x": "1"})]
        if name == "a":
            selectors.append(LabelSelector(match_labels={"z": "1"}))
        rule = AggregationRule(cluster_role_selectors=tuple(selectors))
    return ClusterRole(
        metadata=ObjectMeta(name=name, labels=labels),
        rules=tuple(draw(RULES)) or None,
        aggregation_rule=rule,
    )


CONTROLLER = ClusterRoleAggregation()


def settled(objects: dict[str, ClusterRole], due: set[str]) -> dict[str, ClusterRole]:
    """The roles after the controller has reconciled the keys that its interests make due."""
    turns = 0
    while due:
        turns += 1
        assert turns < 50, "it comes to an end"
        key = due.pop()
        view = view_of(CONTROLLER, *objects.values())
        plan = CONTROLLER.reconcile(view, key, 0, Local())
        if plan == NOTHING:
            continue
        [[request]] = plan.waves
        assert (request.verb, request.resource, request.name) == ("update", CLUSTER_ROLES, key)
        due |= change(objects, request.body)
    return objects


def change(objects: dict[str, ClusterRole], new: ClusterRole | None, name: str = "") -> set[str]:
    """Write or remove a role; the keys that are due."""
    key = name if new is None else new.metadata.name or ""
    old = objects.pop(key, None)
    if new is not None:
        objects[key] = new
    if old is None and new is None:
        return set()
    return set(CONTROLLER.interests[0].keys(view_of(CONTROLLER, *objects.values()), old, new))


def expected(objects: dict[str, ClusterRole], name: str) -> list[PolicyRule]:
    """The rules that the role must have, from the roles that do not aggregate up."""
    role = objects[name]
    if role.aggregation_rule is None:
        return list(role.rules or ())
    found: list[PolicyRule] = []
    for selector in role.aggregation_rule.cluster_role_selectors or ():
        wanted = (selector.match_labels or {}).items()
        for other in sorted(objects):
            labels = objects[other].metadata.labels or {}
            if other != name and wanted <= labels.items():
                found += [rule for rule in expected(objects, other) if rule not in found]
    return found


@given(st.lists(roles() | st.sampled_from(NAMES), max_size=12))
def test_rbac_9_a_role_has_the_rules_of_those_that_it_selects(steps: list[Any]) -> None:
    # Shows RBAC-9.a RBAC-9.b.
    objects: dict[str, ClusterRole] = {}
    for step in steps:
        due = change(objects, None, step) if isinstance(step, str) else change(objects, step)
        settled(objects, due)
        for name, role in objects.items():
            assert list(role.rules or ()) == unique(expected(objects, name), role), name


def unique(rules: list[PolicyRule], role: ClusterRole) -> list[PolicyRule]:
    """Equal rules once, in a role that aggregates."""
    if role.aggregation_rule is None:
        return rules
    return [rule for number, rule in enumerate(rules) if rule not in rules[:number]]


def test_rbac_9_the_order_is_that_of_the_selectors_and_then_of_the_names() -> None:
    def role(name: str, label: str) -> ClusterRole:
        rule = PolicyRule(verbs=("get",), api_groups=("",), resources=(name,))
        return ClusterRole(metadata=ObjectMeta(name=name, labels={label: "1"}), rules=(rule,))

    selectors = tuple(LabelSelector(match_labels={label: "1"}) for label in ("y", "x"))
    total = ClusterRole(
        metadata=ObjectMeta(name="sum"),
        aggregation_rule=AggregationRule(cluster_role_selectors=selectors),
    )
    parts = [role("c", "x"), role("a", "x"), role("b", "y"), role("d", "y")]
    objects = {one.metadata.name or "": one for one in (*parts, total)}
    found = settled(objects, {"sum"})["sum"].rules or ()
    assert [(rule.resources or ())[0] for rule in found] == ["b", "d", "a", "c"]


def test_rbac_9_view_edit_and_admin_are_filled() -> None:
    # Shows RBAC-9.c.
    world = AuthorizedWorld()
    objects = {
        record.value.metadata.name: record.value
        for record in world.history.list(CLUSTER_ROLES.prefix).records
    }
    settled(objects, {"view", "edit", "admin"})
    counts = [len(objects[name].rules or ()) for name in ("view", "edit", "admin")]
    assert 0 < counts[0] < counts[1] < counts[2]
    rules = objects["view"].rules or ()
    assert not any("secrets" in (rule.resources or ()) for rule in rules)
    assert not any("create" in rule.verbs for rule in rules)
    assert any("secrets" in (rule.resources or ()) for rule in objects["edit"].rules or ())
    by_hand = replace(objects["view"], rules=())
    settled(objects, change(objects, by_hand))
    assert objects["view"].rules == rules
