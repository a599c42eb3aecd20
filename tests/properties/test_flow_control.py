"""The objects of priority and fairness: rules FAIR-7 and FAIR-8 (spec/fair_shares.md)."""

from __future__ import annotations

import json
from typing import Any

from api_world import World
from hypothesis import given
from hypothesis import strategies as st

from refk8s.core.api.codec import to_tree
from refk8s.core.api.resources import FLOW_SCHEMAS, PRIORITY_LEVEL_CONFIGURATIONS
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.flow_control import default_flow_control
from refk8s.core.context import SECOND
from refk8s.core.controllers.flow_control import AUTO_UPDATE, DANGLING, flow_control
from refk8s.core.loop.plan import Local
from refk8s.core.loop.view import Viewer, key_of
from refk8s.core.value import evolve

GROUP = "flowcontrol.apiserver.k8s.io/v1"
SCHEMAS = f"/apis/{GROUP}/flowschemas"
LEVELS = f"/apis/{GROUP}/prioritylevelconfigurations"
DEFAULTS = {(one.kind, one.metadata.name): one for one in default_flow_control()}
ROUNDS_MAX = 8
NAMES = st.sampled_from(["own", "other"])
SUGGESTED = "service-accounts"


class FlowWorld(World):
    """`World` with the controllers, which run until they write nothing more."""

    def __init__(self) -> None:
        super().__init__()
        self.reconcilers = flow_control(default_flow_control())
        for one in default_flow_control():
            self.send("POST", SCHEMAS if one.kind == "FlowSchema" else LEVELS, to_tree(one))
        self.settle()

    def send(self, method: str, path: str, body: Any = b"", kind: str = "application/json") -> Any:
        reply: Any = self.http(method, path, body, {"content-type": kind})
        return json.loads(reply.content)

    def settle(self) -> int:
        """How often they wrote."""
        total = 0
        for _ in range(ROUNDS_MAX):
            count = sum(self._run(one) for one in self.reconcilers)
            self.now += SECOND
            total += count
            if not count:
                return total
        raise AssertionError("the controllers do not come to an end")

    def _run(self, reconciler: Any) -> int:
        resources = [interest.resource for interest in reconciler.interests]
        viewer = Viewer(resources, reconciler.indexes, ())
        view, keys = viewer.empty(), set(dict(DEFAULTS_OF).get(resources[0], ()))
        for resource in resources:
            found = [one.value for one in self.history.list(resource.prefix).records]
            view, _ = viewer.apply(
                view, resource, [(key_of(one), one) for one in found], self.history.revision
            )
            keys |= {key_of(one) for one in found} if resource == resources[0] else set()
        count = 0
        for key in sorted(keys):
            plan = reconciler.reconcile(view, key, self.now, Local(None))
            for request in plan.requests:
                response = self.do(evolve(request, user=ADMIN)).response
                assert response.code < 300, response.body
                count += 1
        return count


DEFAULTS_OF = [
    (FLOW_SCHEMAS, [name for kind, name in DEFAULTS if kind == "FlowSchema"]),
    (PRIORITY_LEVEL_CONFIGURATIONS, [name for kind, name in DEFAULTS if kind != "FlowSchema"]),
]


def a_schema(name: str, level: str) -> dict[str, Any]:
    spec = {"priorityLevelConfiguration": {"name": level}, "matchingPrecedence": 900}
    return {"apiVersion": GROUP, "kind": "FlowSchema", "metadata": {"name": name}, "spec": spec}


def a_level(name: str) -> dict[str, Any]:
    limited = {"nominalConcurrencyShares": 5, "limitResponse": {"type": "Reject"}}
    spec = {"type": "Limited", "limited": limited}
    kind = "PriorityLevelConfiguration"
    return {"apiVersion": GROUP, "kind": kind, "metadata": {"name": name}, "spec": spec}


ACTS = st.lists(
    st.one_of(
        st.tuples(st.just("schema"), NAMES, st.sampled_from(["low", "high", "catch-all"])),
        st.tuples(st.just("level"), st.sampled_from(["low", "high"]), st.booleans()),
        st.tuples(st.just("delete"), st.sampled_from([SUGGESTED, "catch-all", "probes"])),
        st.tuples(st.just("change"), st.sampled_from(["true", "false"]), st.integers(1, 9_999)),
    ),
    max_size=6,
)


@given(ACTS)
def test_fair_7_fair_8_the_objects_are_what_they_are_to_be(acts: list[Any]) -> None:
    # Shows FAIR-7.a FAIR-8.a FAIR-8.b.
    world = FlowWorld()
    own: int | None = None  # the precedence that an administrator has set for good
    for act in acts:
        match act:
            case "schema", name, level:
                world.send("POST", SCHEMAS, a_schema(name, level))
                patch = {"spec": {"priorityLevelConfiguration": {"name": level}}}
                world.send("PATCH", f"{SCHEMAS}/{name}", patch, "application/merge-patch+json")
            case "level", name, is_there:
                world.send("POST", LEVELS, a_level(name)) if is_there else world.send(
                    "DELETE", f"{LEVELS}/{name}"
                )
            case "delete", name:
                world.send("DELETE", f"{SCHEMAS}/{name}")
                own = None if name == SUGGESTED else own
            case "change", keep, precedence:
                tree = {
                    "metadata": {"annotations": {AUTO_UPDATE: keep}},
                    "spec": {"matchingPrecedence": precedence},
                }
                where = f"{SCHEMAS}/{SUGGESTED}"
                changed = world.send("PATCH", where, tree, "application/merge-patch+json")
                if changed["kind"] == "FlowSchema":
                    own = precedence if keep == "false" else None
        world.settle()
        levels = {one["metadata"]["name"] for one in world.send("GET", LEVELS)["items"]}
        schemas = world.send("GET", SCHEMAS)["items"]
        for schema in schemas:
            level = schema["spec"]["priorityLevelConfiguration"]["name"]
            said = {one["type"]: one for one in schema["status"]["conditions"]}[DANGLING]
            expected = ("False", "Found") if level in levels else ("True", "NotFound")
            assert (said["status"], said["reason"]) == expected, schema["metadata"]["name"]
            assert f'"{level}"' in said["message"]
        named = {one["metadata"]["name"]: one for one in schemas}
        assert {name for kind, name in DEFAULTS if kind == "FlowSchema"} <= set(named)
        wanted = DEFAULTS["FlowSchema", SUGGESTED].spec.matching_precedence
        assert named[SUGGESTED]["spec"]["matchingPrecedence"] == (own or wanted)


def test_fair_8_numbers_of_an_exempt_level_are_the_administrators() -> None:
    # Shows FAIR-8.c.
    world = FlowWorld()
    tree = {"spec": {"exempt": {"nominalConcurrencyShares": 7}}}
    world.send("PATCH", f"{LEVELS}/exempt", tree, "application/merge-patch+json")
    assert world.settle() == 0
    level = world.send("GET", f"{LEVELS}/exempt")
    assert level["spec"]["exempt"]["nominalConcurrencyShares"] == 7


def test_fair_7_what_is_said_already_is_not_written() -> None:
    assert FlowWorld().settle() == 0
