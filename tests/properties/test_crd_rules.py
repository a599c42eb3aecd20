"""Validation rules of custom resources (spec/custom_resources.md)."""

from __future__ import annotations

from typing import Any

import pytest
from custom_world import DEFINITIONS, CustomWorld, a_definition, a_version, causes

RULES = "x-kubernetes-validations"
AT = "spec.validation.openAPIV3Schema.properties[spec]"


def _world(spec: dict[str, Any], *rules: dict[str, Any]) -> CustomWorld:
    schema: dict[str, Any] = {"type": "object", "properties": {"spec": spec}}
    if rules:
        schema[RULES] = list(rules)
    return CustomWorld(a_definition(a_version(schema)))


def _object(*rules: dict[str, Any], **properties: Any) -> dict[str, Any]:
    return {"type": "object", "properties": properties, RULES: list(rules)}


INT, STRING = {"type": "integer"}, {"type": "string"}


def test_crd_23_a_broken_rule_is_a_cause_with_its_reason_path_and_message():
    world = _world(
        _object(
            {"rule": "self.min <= self.max", "messageExpression": "'%d > %d'.format([self.min, self.max])"},
            {"rule": "!has(self.extra)", "message": "no extra", "reason": "FieldValueForbidden", "fieldPath": ".extra"},
            {"rule": "self.max < 100"},
            min=INT, max=INT, extra=STRING,
        )
    )  # fmt: skip
    assert world.put_gadget(spec={"min": 1, "max": 2})[0] == 201
    code, answer = world.put_gadget("b", spec={"min": 3, "max": 2, "extra": "x"})
    assert code == 422
    assert sorted(causes(answer)) == [("spec", "FieldValueInvalid"), ("spec.extra", "FieldValueForbidden")]  # fmt: skip
    assert "3 > 2" in answer["message"] and "Forbidden: no extra" in answer["message"]
    code, answer = world.put_gadget("b", spec={"min": 3, "max": 200})
    assert "failed rule: self.max < 100" in answer["message"]


def test_crd_23_rules_of_items_and_of_the_root_have_their_places():
    item = {"type": "object", "properties": {"n": INT}, RULES: [{"rule": "self.n % 2 == 0"}]}
    spec = {
        "type": "object",
        "properties": {
            "parts": {"type": "array", "maxItems": 5, "items": item},
            "bag": {"type": "object", "maxProperties": 5, "additionalProperties": {**INT, RULES: [{"rule": "self > 0"}]}},
        },
    }  # fmt: skip
    world = _world(spec, {"rule": "self.metadata.name.startsWith('g')"})
    code, answer = world.put_gadget("a", spec={"parts": [{"n": 2}, {"n": 3}], "bag": {"k": 0}})
    assert code == 422
    assert [field for field, _ in causes(answer)] == ["<nil>", "spec.parts[1]", "spec.bag[k]"]
    assert world.put_gadget("g", spec={"parts": [{"n": 2}]})[0] == 201


def test_crd_23_names_are_escaped_and_formats_have_types():
    when = {"type": "string", "format": "date-time"}
    world = _world(
        _object(
            {"rule": "self.max__dash__size < 5 && self.__namespace__ != 'x' && self.a__dot__b == 1"},
            {"rule": "self.from < self.until && self.lasts < duration('2h')"},
            **{"max-size": INT, "namespace": STRING, "a.b": INT, "from": when, "until": when, "lasts": {"type": "string", "format": "duration"}},
        )
    )  # fmt: skip
    good = {"max-size": 3, "namespace": "y", "a.b": 1, "from": "2024-01-01T00:00:00Z", "until": "2024-01-01T00:00:01Z", "lasts": "1h"}  # fmt: skip
    assert world.put_gadget(spec=good)[0] == 201
    for change in ({"max-size": 7}, {"namespace": "x"}, {"until": "2023-01-01T00:00:00Z"}, {"lasts": "3h"}):  # fmt: skip
        assert world.put_gadget("b", spec={**good, **change})[0] == 422, change


def test_crd_23_a_transition_rule_is_about_changes():
    world = _world(
        _object(
            zone={**STRING, RULES: [{"rule": "self == oldSelf", "message": "zone cannot change"}]},
            size={**INT, RULES: [{"rule": "self >= oldSelf"}]},
            phase={**STRING, RULES: [{"rule": "oldSelf.hasValue() ? self != 'new' || oldSelf.value() == 'new' : self == 'new'", "optionalOldSelf": True}]},
        )
    )  # fmt: skip
    assert world.put_gadget(spec={"zone": "x", "size": 3})[0] == 201
    code, answer = world.patch_gadget("a", {"spec": {"zone": "y"}})
    assert code == 422 and causes(answer) == [("spec.zone", "FieldValueInvalid")]
    assert world.patch_gadget("a", {"spec": {"size": 2}})[0] == 422
    assert world.patch_gadget("a", {"spec": {"size": 4}})[0] == 200
    assert world.patch_gadget("a", {"spec": {"zone": None}})[0] == 200
    assert world.patch_gadget("a", {"spec": {"zone": "y"}})[0] == 200  # there was no old value
    assert world.patch_gadget("a", {"spec": {"phase": "done"}})[0] == 422
    assert world.patch_gadget("a", {"spec": {"phase": "new"}})[0] == 200
    assert world.patch_gadget("a", {"spec": {"phase": "done"}})[0] == 200
    assert world.patch_gadget("a", {"spec": {"phase": "new"}})[0] == 422


def test_crd_23_items_of_a_list_of_type_map_are_compared_by_their_keys():
    item = {"type": "object", "required": ["name"], "properties": {"name": STRING, "n": {**INT, RULES: [{"rule": "self >= oldSelf"}]}}}  # fmt: skip
    parts = {"type": "array", "maxItems": 5, "items": item, "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name"]}  # fmt: skip
    world = _world({"type": "object", "properties": {"parts": parts}})
    world.put_gadget(spec={"parts": [{"name": "a", "n": 1}, {"name": "b", "n": 5}]})
    swapped = [{"name": "b", "n": 5}, {"name": "a", "n": 2}]
    assert world.patch_gadget("a", {"spec": {"parts": swapped}})[0] == 200
    lower = [{"name": "b", "n": 4}, {"name": "a", "n": 2}]
    code, answer = world.patch_gadget("a", {"spec": {"parts": lower}})
    assert code == 422 and causes(answer) == [("spec.parts[0].n", "FieldValueInvalid")]


def test_crd_23_sets_are_equal_in_any_order():
    tags = {"type": "array", "maxItems": 3, "items": STRING, RULES: [{"rule": "self == oldSelf"}]}
    for list_type, code in (("set", 200), ("atomic", 422)):
        spec = {"type": "object", "properties": {"tags": {**tags, "x-kubernetes-list-type": list_type}}}  # fmt: skip
        world = _world(spec)
        assert world.put_gadget(spec={"tags": ["a", "b"]})[0] == 201
        assert world.patch_gadget("a", {"spec": {"tags": ["b", "a"]}})[0] == code
        assert world.patch_gadget("a", {"spec": {"tags": ["b", "c"]}})[0] == 422


def test_crd_11_a_rule_that_was_added_does_not_refuse_what_is_unchanged():
    world = _world(_object(n=INT, other=STRING))
    world.put_gadget(spec={"n": 9})

    def add_rule(tree: Any) -> None:
        spec = tree["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"]
        spec["properties"]["n"][RULES] = [{"rule": "self < 5"}]

    world.redefine("gadgets.example.com", add_rule)
    assert world.patch_gadget("a", {"spec": {"other": "x"}})[0] == 200
    assert world.patch_gadget("a", {"spec": {"n": 8}})[0] == 422


@pytest.mark.parametrize(
    ("spec", "place", "reason", "words"),
    [
        (_object({"rule": "self.q > 1"}, n=INT), "[0].rule", "FieldValueInvalid", "undefined field 'q'"),
        (_object({"rule": "self.n +"}, n=INT), "[0].rule", "FieldValueInvalid", "Syntax error"),
        (_object({"rule": "self.n"}, n=INT), "[0].rule", "FieldValueInvalid", "must evaluate to a bool"),
        (_object({"rule": " "}, n=INT), "[0].rule", "FieldValueRequired", "rule is not specified"),
        (_object({"rule": "true", "messageExpression": "1"}, n=INT), "[0].messageExpression", "FieldValueInvalid", "must evaluate to a string"),
        (_object({"rule": "true", "fieldPath": ".q"}, n=INT), "[0].fieldPath", "FieldValueInvalid", "must be a valid path"),
        (_object({"rule": "true", "messageExpression": " "}, n=INT), "[0].messageExpression", "FieldValueRequired", "must be non-empty if specified"),
        (_object({"rule": "true", "message": "a\rb"}, n=INT), "[0].message", "FieldValueInvalid", "must not contain line breaks"),
        (_object({"rule": "true\n", "message": " "}, n=INT), "[0].message", "FieldValueInvalid", "must be non-empty if specified"),
        (_object({"rule": "true &&\ntrue"}, n=INT), "[0].message", "FieldValueRequired", "if rule contains line breaks"),
        (_object({"rule": "true", "fieldPath": "\n"}, n=INT), "[0].fieldPath", "FieldValueInvalid", "must not contain line breaks"),
        (_object({"rule": "true", "optionalOldSelf": False}, n=INT), "[0].optionalOldSelf", "FieldValueInvalid", "may not be set"),
        (_object({"rule": "true", "reason": "Other"}, n=INT), "[0].reason", "FieldValueNotSupported", "supported values"),
        (_object({"rule": "self.l.all(x, self.l.all(y, x != y))"}, l={"type": "array", "items": STRING}), "[0].rule", "FieldValueForbidden", "exceeds budget by factor of more than 100x"),
    ],
)  # fmt: skip
def test_crd_24_a_rule_that_cannot_be_evaluated_is_refused(spec, place, reason, words):
    schema = {"type": "object", "properties": {"spec": spec}}
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema)))
    assert code == 422 and (f"{AT}.{RULES}{place}", reason) in causes(answer), answer
    assert words in answer["message"]


def test_crd_24_texts_are_checked_in_any_schema_and_expressions_where_nothing_is_wrong():
    wrong = {"rule": "true", "fieldPath": ".q"}
    schema = {"properties": {"spec": _object(wrong, {"rule": "self.z"}, n=INT)}}
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema)))
    assert code == 422 and causes(answer) == [
        ("spec.validation.openAPIV3Schema.type", "FieldValueRequired"),
        (f"{AT}.{RULES}[0].fieldPath", "FieldValueInvalid"),
    ]
    parts = {
        "a": {**INT, "uniqueItems": True, RULES: [{"rule": "self"}]},
        "b": {**INT, RULES: [{"rule": "self"}]},
    }
    schema = {"type": "object", "properties": {"spec": _object({"rule": "self.z"}, **parts)}}
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema)))
    assert code == 422 and causes(answer) == [
        (f"{AT}.properties[a].uniqueItems", "FieldValueForbidden"),
        (f"{AT}.properties[b].{RULES}[0].rule", "FieldValueInvalid"),
    ]


def test_crd_24_old_self_needs_values_with_an_identity():
    item = {**INT, RULES: [{"rule": "self >= oldSelf"}]}
    schema = {"type": "object", "properties": {"spec": {"type": "array", "maxItems": 3, "items": item}}}  # fmt: skip
    code, answer = CustomWorld().send("POST", DEFINITIONS, a_definition(a_version(schema)))
    assert code == 422 and causes(answer) == [(f"{AT}.items.{RULES}[0].rule", "FieldValueInvalid")]


def test_crd_25_rules_end_within_their_budget():
    spec = {"type": "array", "maxItems": 1_000, "items": INT, RULES: [{"rule": "self.all(a, self.all(b, a + b >= 0))"}]}  # fmt: skip
    world = _world(spec)
    assert world.put_gadget("a", spec=[1] * 50)[0] == 201
    code, answer = world.put_gadget("b", spec=[1] * 1_000)
    assert code == 422 and "cost" in answer["message"]
