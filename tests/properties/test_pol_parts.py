"""The parts of admission policies from plain values: how they are compiled, bound and evaluated, and
their answers, compared in full (POL-6 to POL-15, spec/admission_policies.md)."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hook_world import add, allow, patched
from msgspec.structs import replace
from test_adm_by_hand import CONTEXT
from test_hook import ANY_RULE, MUTATING
from test_hook_answers import Asked
from test_match import an_operation
from test_pol_patches import configuration, message, operation, operations, why_not

from refk8s.core.api import resources
from refk8s.core.api.codec import encode, from_tree, to_tree
from refk8s.core.api.core_v1 import ConfigMap
from refk8s.core.api.meta_v1 import ObjectMeta, StatusCause
from refk8s.core.api.request import Request
from refk8s.core.apiserver.admission.policies.bound import (
    MUTATING as MUTATING_KINDS,
)
from refk8s.core.apiserver.admission.policies.bound import (
    VALIDATING as VALIDATING_KINDS,
)
from refk8s.core.apiserver.admission.policies.bound import compile_policies, policies_of
from refk8s.core.apiserver.admission.policies.expressions import (
    EXPRESSION_UNITS_MAX,
    OUT_OF_BUDGET,
    POLICY_UNITS_MAX,
    Declared,
    Evaluation,
    ExpressionFailed,
    OutOfBudget,
    first,
    values_of,
)
from refk8s.core.apiserver.admission.policies.mutating import OBJECT_BYTES_MAX, Mutation
from refk8s.core.apiserver.admission.policies.patches import (
    _atomics,
    _merged,
    _patched_by_operations,
)
from refk8s.core.apiserver.admission.policies.patches import (
    patched as patched_by,
)
from refk8s.core.apiserver.admission.policies.refusal import Problem, denied, refused
from refk8s.core.apiserver.admission.policies.validating import validate
from refk8s.core.apiserver.admission.versioned import admission_request
from refk8s.core.apiserver.apply.types import Type
from refk8s.core.apiserver.config import Config, Decision
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.cel.admission import Environment, compile_condition, compile_message
from refk8s.core.cel.evaluate import Budget, evaluate
from refk8s.core.cel.types import BOOL, DYN, INT

CONFIG_MAPS = resources.CONFIG_MAPS
RULE = {"apiGroups": ["*"], "apiVersions": ["*"], "operations": ["*"], "resources": ["configmaps"]}
VALIDATING_POLICY, VALIDATING_BINDING = [one.type for one in VALIDATING_KINDS]
MUTATING_POLICY, MUTATING_BINDING = [one.type for one in MUTATING_KINDS]


def a_policy(name: str, kind: Any = VALIDATING_POLICY, plurals: Any = ("configmaps",), match: Any = None, **spec: Any) -> Any:  # fmt: skip
    rules = [{**RULE, "resources": [*plurals]}] if plurals else []
    constraints = {"resourceRules": rules, **(match or {})}
    return from_tree(
        kind, {"metadata": {"name": name}, "spec": {"matchConstraints": constraints, **spec}}
    )


def a_binding(name: str, policy: str | None, kind: Any = VALIDATING_BINDING, **spec: Any) -> Any:
    named = {} if policy is None else {"policyName": policy}
    return from_tree(kind, {"metadata": {"name": name}, "spec": {**named, **spec}})


# --- compiled


def test_pol_6_policies_with_their_bindings():
    match = {
        "matchPolicy": "Exact",
        "objectSelector": {"matchLabels": {"a": "b"}},
        "excludeResourceRules": [RULE],
    }
    full = a_policy(
        "full",
        match=match,
        failurePolicy="Ignore",
        paramKind={"apiVersion": "v1", "kind": "Pod"},
        matchConditions=[{"name": "c", "expression": "params.x == 1"}],
        variables=[{"name": "v", "expression": "1"}],
    )
    plain = a_policy("plain")
    own = a_binding(
        "one", "full", matchResources={"namespaceSelector": {"matchLabels": {"n": "s"}}}
    )
    other, lost = a_binding("two", "full"), a_binding("lost", None)
    index = compile_policies(
        ([full, a_policy("alone"), plain], [own, other, lost, a_binding("x", "plain")])
    )
    one, two = index.of("configmaps")
    assert (one.policy, two.policy, one.fails_closed, two.fails_closed) == (
        full,
        plain,
        False,
        True,
    )
    assert [binding for binding, _ in one.bindings] == [own, other]
    criteria = [criteria for _, criteria in one.bindings]
    assert criteria[0].namespaces.matches({"n": "s"}) and criteria[1] is None
    assert len(criteria[0].rules) == 1 and criteria[0].rules[0].resources == ("*/*",)
    assert not one.criteria.is_equivalent and two.criteria.is_equivalent
    assert one.criteria.objects.matches({"a": "b"}) and len(one.criteria.excluded) == 1
    assert one.conditions.texts == ("params.x == 1",)
    assert one.conditions.environment == Environment(has_params=True)
    assert two.conditions.environment == Environment(has_params=False)
    assert one.declared.environment == Environment(has_params=True, has_variables=True)
    assert two.declared.environment == Environment()
    nameless = replace(a_policy("p"), metadata=ObjectMeta(name=""))
    assert compile_policies(([nameless], [lost])).of("configmaps") != ()


def test_pol_6_policies_by_their_resources():
    def names(plural: str) -> str:
        return "".join([one.policy.metadata.name for one in index.of(plural)])

    given = {"a": ("pods",), "b": ("*",), "c": ("pods/exec", "nodes"), "d": ()}
    policies = [a_policy(name, plurals=plurals) for name, plurals in given.items()]
    policies.append(
        replace(a_policy("e"), spec=replace(a_policy("e").spec, match_constraints=None))
    )
    bindings = [a_binding(f"b{name}", name) for name in "abcde"]
    index = compile_policies((policies, bindings))
    found = (names("pods"), names("nodes"), names("secrets"))
    assert found == ("abcde", "bcde", "bde") and sorted(index.by_plural) == ["nodes", "pods"]


def test_pol_12_a_mutating_policy_may_make_objects():
    policy = a_policy("m", MUTATING_POLICY, mutations=[configuration("Object{}")])
    index = compile_policies(([policy], [a_binding("b", "m", MUTATING_BINDING)]))
    [bound] = index.of("configmaps")
    assert bound.declared.environment == Environment(is_mutation=True)


def put(asked: Asked, *objects: Any) -> None:
    for obj in objects:
        resource = resources.by_kind(obj.api_version, obj.kind)
        asked.put(resource.key("", obj.metadata.name), obj)


def test_pol_6_no_policy_is_for_policies_and_reviews():
    asked = Asked()
    put(asked, a_policy("p", plurals=("*",)), a_binding("b", "p"))
    for resource, count in (
        (CONFIG_MAPS, 1), (VALIDATING_KINDS[0], 0), (VALIDATING_KINDS[1], 0), (resources.TOKEN_REVIEWS, 0),
        (resources.VALIDATING_WEBHOOK_CONFIGURATIONS, 1),
    ):  # fmt: skip
        exchange = Exchange(Request("create", resource), asked.store, CONTEXT)
        assert len(policies_of(VALIDATING_KINDS, exchange).of(resource.plural)) == count
        assert policies_of(MUTATING_KINDS, exchange).of(resource.plural) == ()


# --- expressions


def declared(*variables: tuple[str, str], has_params: bool = False, **more: Any) -> Declared:
    spec = {"variables": [{"name": name, "expression": text} for name, text in variables]}
    spec |= {"paramKind": {"apiVersion": "v1", "kind": "Pod"}} if has_params else {}
    return Declared(a_policy("p", **spec).spec, **more)


def test_pol_8_what_a_policy_declares():
    found = declared(("a", "1"), ("b", "variables.a == 1"), ("c", "odd("), ("d", "variables.e"))
    assert found.environment == Environment(has_variables=True)
    assert found.texts == {"a": "1", "b": "variables.a == 1", "c": "odd(", "d": "variables.e"}
    assert found.variables == (("a", INT), ("b", BOOL), ("c", DYN), ("d", DYN))
    assert found.variables is found.variables and declared().variables == ()
    other = declared(has_params=True, is_mutation=True).environment
    assert other == Environment(has_params=True, is_mutation=True)


def value(text: str, variables: Any = (), values: Any = None, compiled: Any = compile_condition, **more: Any) -> Any:  # fmt: skip
    evaluation = Evaluation(declared(*variables), values or {"object": {"n": 1}})
    return evaluation.value(text, compiled, **more)


def failed(text: str, *arguments: Any, **more: Any) -> str:
    with pytest.raises(ExpressionFailed) as error:
        value(text, *arguments, **more)
    return str(error.value)


def test_pol_9_the_value_of_an_expression():
    assert value("object.n == 1") is True and value("object.n == 2") is False
    assert failed("object.m == 1") == "expression 'object.m == 1' resulted in error: no such key: m"
    assert "undeclared reference to 'params'" in failed("params.x == 1")
    assert "must evaluate to bool" in failed("'x'")
    assert value("'m ' + string(object.n)", compiled=compile_message) == "m 1"
    asks = "authorizer.path('/x').check('get').allowed() ? 'a' : 'b'"
    assert "undeclared reference to 'authorizer'" in failed(
        asks, compiled=compile_message, has_authorizer=False
    )


@pytest.mark.parametrize("has_params", [True, False])
@pytest.mark.parametrize("is_mutation", [True, False])
def test_pol_10_a_message_sees_everything_else(has_params, is_mutation):
    given = declared(("v", "1"), has_params=has_params, is_mutation=is_mutation)
    seen: list[Environment] = []

    def compiled(text: str, environment: Environment, variables: Any) -> Any:
        seen.append(environment)
        assert variables == (("v", INT),)
        return compile_condition("true", environment, variables)

    evaluation = Evaluation(given, {})
    evaluation.value("x", compiled)
    evaluation.value("x", compiled, has_authorizer=False)
    assert seen == [given.environment, Environment(has_params, False, True, is_mutation)]


def test_pol_8_variables_are_evaluated_when_they_are_read():
    variables = (
        ("a", "object.n + 1"),
        ("b", "variables.a * 2"),
        ("c", "object.none == 1"),
        ("d", "odd("),
    )
    assert value("variables.b == 4 && variables.a == 2", variables) is True
    words = 'composited variable "c" fails to evaluate: no such key: none'
    assert (
        failed("variables.c", variables) == f"expression 'variables.c' resulted in error: {words}"
    )
    assert failed("variables.d == 1", variables).startswith(
        "expression 'variables.d == 1' resulted in error: composited variable \"d\" fails to evaluate: "
    )
    assert value("has(variables.a)", variables) is True
    evaluation = Evaluation(declared(*variables), {"object": {"n": 1}})
    composed = evaluation.values["variables"]
    assert composed.get("none") is None and composed.get("none", 7) == 7
    evaluation.value("variables.a == 2", compile_condition)
    evaluation.values["object"] = {"n": 5}
    assert composed.get("a", 7) == 2, "once"


MANY = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]"


def loops(count: int) -> str:
    text = "true"
    for letter in "abcdefgh"[:count]:
        text = f"{MANY}.all({letter}, {text})"
    return text


def cost(text: str) -> int:
    budget = Budget(EXPRESSION_UNITS_MAX)
    evaluate(compile_condition(text, Environment()).node, {}, budget)
    return EXPRESSION_UNITS_MAX - budget.left


def test_pol_9_what_expressions_cost_together():
    text = loops(3)
    spent = cost(text)
    assert spent > 1000
    evaluation = Evaluation(declared(), {})
    assert evaluation.left == POLICY_UNITS_MAX
    for turn in (1, 2):
        evaluation.value(text, compile_condition)
        assert evaluation.left == POLICY_UNITS_MAX - turn * spent
    with pytest.raises(ExpressionFailed):
        evaluation.value("odd(", compile_condition)
    left = evaluation.left
    assert left == POLICY_UNITS_MAX - 2 * spent, "what does not compile costs nothing"
    with pytest.raises(ExpressionFailed) as error:
        evaluation.value(loops(6), compile_condition)
    assert str(error.value).startswith(f"expression '{loops(6)}' resulted in error: ")
    assert "cost limit exceeded" in str(error.value)
    assert evaluation.left == left - EXPRESSION_UNITS_MAX
    exact = Evaluation(declared(), {}, spent)
    exact.value(text, compile_condition)
    assert exact.left == 0
    for units in (spent - 1, EXPRESSION_UNITS_MAX):
        short = Evaluation(declared(), {}, units)
        with pytest.raises(OutOfBudget) as ended:
            short.value(loops(6), compile_condition)
        assert str(ended.value) == OUT_OF_BUDGET and short.left == 0


def test_pol_10_the_first_text_that_says_something():
    assert first([]) == first(["", " ", "\n"]) == ""
    assert first([" ", " a b ", "c"]) == "a b"


def test_pol_8_the_values_of_expressions():
    asked = Asked()
    request = an_operation(namespace="n")
    found = values_of(request, CONFIG_MAPS, asked.store, Config())
    assert sorted(found) == ["authorizer", "namespaceObject", "object", "oldObject", "request"]
    assert found["namespaceObject"]["metadata"] == {"name": "n"}
    assert (found["object"], found["request"]["name"]) == (to_tree(request.object), "a")
    assert found["authorizer"].request.resource == "configmaps"


# --- answers


def test_pol_10_the_answer_of_a_policy():
    request = an_operation()
    for reason, code in (
        ("Invalid", 422),
        ("Forbidden", 403),
        ("Unauthorized", 401),
        ("RequestEntityTooLarge", 413),
        ("Odd", 422),
    ):
        status = refused("Kind", request, "p", "b", "no", reason).status
        words = "Kind 'p' with binding 'b' denied request: no"
        assert (status.code, status.reason) == (code, reason)
        assert status.message == f'configmaps "a" is forbidden: {words}'
        assert status.details.causes == (StatusCause(message=words),)
        assert (status.details.name, status.details.kind) == ("a", "configmaps")
    bare = refused("Kind", request, "p", "", "no").status
    assert (bare.code, bare.reason) == (422, "Invalid")
    assert bare.message == "configmaps \"a\" is forbidden: Kind 'p' denied request: no"


def test_pol_13_the_answer_of_mutating_policies():
    status = denied(an_operation(), [Problem("one", "Odd"), Problem("two", "Invalid")]).status
    assert (status.code, status.reason, status.message) == (403, "Odd", "one")
    assert status.details.causes == (StatusCause(message="one"), StatusCause(message="two"))
    assert (status.details.name, status.details.kind) == ("a", "configmaps")


# --- patches


def test_pol_13_what_is_atomic_in_the_values_of_a_map():
    kind = Type(fields={"a": Type("s")}, element=Type(item=Type("s")))
    assert [*_atomics(kind, {"a": ["x"], "b": ["y"], "c": {}}, ".m")] == [".m.b"]
    nested = Type(fields={}, element=Type(fields={}, element=Type("s"), is_atomic_map=True))
    assert [*_atomics(nested, {"b": {"c": "d"}}, "")] == [".b"]
    listed = Type(item=Type(item=Type("s")), is_list_set=True)
    assert [*_atomics(listed, [["x"], []], ".l")] == [".l[0]", ".l[1]"]


def test_pol_13_a_subresource_has_the_fields_of_its_own_kind():
    scale = {"apiVersion": "autoscaling/v1", "kind": "Scale", "spec": {"replicas": 1}}
    paused = {"spec": {"paused": True}}
    assert ".spec.paused" in why_not(_merged, paused, scale, resources.DEPLOYMENTS)
    deployment = {"apiVersion": "apps/v1", "kind": "Deployment", "spec": {"replicas": 1}}
    merged = _merged(paused, deployment, resources.SERVICES)
    assert merged == {**deployment, "spec": {"replicas": 1, "paused": True}}
    unnamed: dict[str, Any] = {"spec": {}}
    assert ".spec.paused" in why_not(_merged, paused, unnamed, resources.SERVICES)


def test_pol_13_the_two_kinds_of_patches():
    tree = {"apiVersion": "v1", "kind": "ConfigMap", "data": {"a": "1"}}

    def made(mutation: Any) -> Any:
        spec = a_policy("m", MUTATING_POLICY, mutations=[mutation]).spec
        evaluation = Evaluation(Declared(spec, is_mutation=True), {"object": tree})
        return patched_by(spec.mutations[0], evaluation, tree, CONFIG_MAPS)

    text = "[JSONPatch{op: 'add', path: '/data/b', value: object.data.a + '2'}]"
    assert made(operations(text))["data"] == {"a": "1", "b": "12"}
    assert made(configuration("Object{data: {'b': object.data.a}}"))["data"] == {"a": "1", "b": "1"}


def test_pol_13_the_words_of_an_operation_that_fails():
    remove = [operation(op="remove", path="/none")]
    assert why_not(_patched_by_operations, remove, {}).startswith("JSONPath: ")
    assert len(why_not(_patched_by_operations, remove, {})) > len("JSONPath: ")
    assert _patched_by_operations(
        [operation(op="add", path="/a", value=message("Object.a"))], {}
    ) == {"a": {}}


# --- mutating policies on a request

NEW = ConfigMap(metadata=ObjectMeta(name="a", namespace="n"), data={"k": "v"})


def mutating(name: str, *mutations: Any, **spec: Any) -> Any:
    given = {"mutations": [*mutations], "reinvocationPolicy": "Never", **spec}
    return a_policy(name, MUTATING_POLICY, **given)


def bound_to(name: str, policy: str, **spec: Any) -> Any:
    return a_binding(name, policy, MUTATING_BINDING, **spec)


def setting(key: str, text: str) -> Any:
    return operations(f"[JSONPatch{{op: 'add', path: '/data/{key}', value: {text}}}]")


def run(asked: Asked, act: Any, new: Any = NEW, old: Any = None, remake: Any = lambda obj, _: obj) -> Any:  # fmt: skip
    operation = "CREATE" if old is None else "UPDATE"

    def of(exchange: Exchange) -> Any:
        return act(
            Mutation(exchange, lambda obj: admission_request(exchange, operation, obj, old), remake)
        )

    return asked.run(of)


def test_pol_13_every_problem_is_told():
    asked = Asked()
    unserved = {"apiVersion": "none.example.com/v1", "kind": "None"}
    broken = [{"name": "c", "expression": "object.none == 1"}]
    put(
        asked,
        mutating("a", paramKind=unserved),
        bound_to("a1", "a"),
        mutating("b", setting("b", "'1'"), paramKind={"apiVersion": "v1", "kind": "ConfigMap"}),
        bound_to("b1", "b", paramRef={"name": "none", "parameterNotFoundAction": "Deny"}),
        bound_to("b2", "b"),
        mutating("c", setting("c", "'1'"), matchConditions=broken),
        bound_to("c1", "c"),
        mutating(
            "d", setting("d", "1"), setting("e", "string(object.data.none)"), setting("f", "'1'")
        ),
        bound_to("d1", "d"),
        mutating("e", paramKind=unserved, failurePolicy="Ignore"),
        bound_to("e1", "e"),
    )
    code, reason, words = asked.refused(lambda: run(asked, lambda one: one.first(NEW)))
    found = "failed to find resource referenced by paramKind: 'none.example.com/v1, Kind=None'"
    expected = [
        f"policy 'a' denied request: failed to configure policy: {found}",
        "policy 'b' with binding 'b1' denied request: failed to configure binding: no params found for policy binding with `Deny` parameterNotFoundAction",
        "policy 'c' with binding 'c1' denied request: expression 'object.none == 1' resulted in error: no such key: none",
        "policy 'd' with binding 'd1' denied request: error applying patch: ",
        "policy 'd' with binding 'd1' denied request: expression '[JSONPatch{op: 'add', path: '/data/e', value: string(object.data.none)}]' resulted in error: no such key: none",
    ]
    assert (code, reason, words) == (403, "Forbidden", expected[0])
    try:
        run(asked, lambda one: one.first(NEW))
    except Exception as error:
        causes = [one.message for one in error.status.details.causes]
    assert [
        one if not one.startswith(expected[3]) else expected[3] for one in causes
    ] == expected and len(causes[3]) > len(expected[3])


def test_pol_12_every_binding_and_parameter_counts():
    asked = Asked()
    for name, word in (("one", "1"), ("two", "2")):
        tree = {"metadata": {"name": name, "namespace": "m"}, "data": {"word": word}}
        asked.put(CONFIG_MAPS.key("m", name), from_tree(ConfigMap, tree))
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    none = {"matchResources": {"objectSelector": {"matchLabels": {"no": "where"}}}}
    word = "(params == null ? '-' : params.data.word)"
    every = {"selector": {}, "namespace": "m", "parameterNotFoundAction": "Deny"}
    put(
        asked,
        mutating("a", setting("k", f"object.data.k + {word}"), paramKind=kind),
        bound_to("a0", "a", **none, paramRef=every),
        bound_to("a1", "a", paramRef=every),
        bound_to("a2", "a", matchResources={"namespaceSelector": {}}),
        bound_to("a3", "a", matchResources={"namespaceSelector": {"matchLabels": {"no": "where"}}}),
        mutating(
            "b", setting("b", "'1'"), match={"objectSelector": {"matchLabels": {"no": "where"}}}
        ),
        bound_to("b1", "b"),
        mutating("c", setting("c", "'1'")),
        bound_to("c1", "c"),
    )
    assert run(asked, lambda one: one.first(NEW)).data == {"k": "v12-", "c": "1"}


def test_pol_13_a_binding_that_cannot_be_configured():
    maps = {"apiVersion": "v1", "kind": "ConfigMap"}
    absent = {"name": "none", "parameterNotFoundAction": "Deny"}
    for failure in ("Fail", "Ignore"):
        asked = Asked()
        put(
            asked,
            mutating("b", setting("b", "'1'"), paramKind=maps, failurePolicy=failure),
            bound_to("b1", "b", paramRef=absent),
            bound_to("b2", "b"),
        )
        if failure == "Ignore":
            assert run(asked, lambda one: one.first(NEW)).data == {"k": "v", "b": "1"}
            continue
        code, reason, words = asked.refused(
            lambda asked=asked: run(asked, lambda one: one.first(NEW))
        )
        assert (code, reason) == (403, "Forbidden")
        assert words.startswith(
            "policy 'b' with binding 'b1' denied request: failed to configure binding: "
        )


def test_pol_13_what_counts_as_a_change():
    def made(new: Any, text: str) -> Any:
        asked = Asked()
        put(
            asked,
            mutating("a", operations(f"[JSONPatch{{op: 'add', path: '/data', value: {text}}}]")),
            bound_to("a1", "a"),
        )
        return run(asked, lambda one: one.first(new), new, remake=lambda obj, _: obj)

    both = replace(NEW, data={"a": "1", "b": "2"})
    assert made(both, "{'a': '1', 'b': '2'}") is both
    assert list(made(both, "{'b': '2', 'a': '1'}").data) == ["b", "a"]
    assert made(both, "{'a': '1'}").data == {"a": "1"}


def test_pol_8_a_mutation_asks_the_authorizer():
    asked = Asked()
    asked.config = Config(authorizer=lambda about, store: Decision(store is asked.store))
    text = "authorizer.path('/x').check('get').allowed() ? 'yes' : 'no'"
    put(asked, mutating("a", setting("x", text)), bound_to("a1", "a"))
    assert run(asked, lambda one: one.first(NEW)).data["x"] == "yes"


def test_pol_13_how_large_an_object_may_become():
    for extra in (0, 1):
        asked = Asked()
        put(asked, mutating("a", setting("x", "object.data.k")), bound_to("a1", "a"))
        room = OBJECT_BYTES_MAX - len(encode(replace(NEW, data={"k": "", "x": ""})))
        half = room // 2
        name = "a" * (1 + room % 2 + extra)
        new = replace(NEW, metadata=replace(NEW.metadata, name=name), data={"k": "y" * half})
        if not extra:
            made = run(asked, lambda one, new=new: one.first(new), new)
            assert len(encode(made)) == OBJECT_BYTES_MAX
        else:
            found = asked.refused(
                lambda new=new, asked=asked: run(asked, lambda one: one.first(new), new)
            )
            words = f"the object has more than {OBJECT_BYTES_MAX} bytes"
            assert found == (
                403,
                "Invalid",
                f"policy 'a' with binding 'a1' denied request: {words}",
            )


def test_pol_12_remake_completes_what_a_mutation_makes():
    asked = Asked()
    put(
        asked,
        mutating("a", setting("x", "'1'"), setting("y", "object.data.made")),
        bound_to("a1", "a"),
    )
    seen = []

    def remake(changed: Any, before: Any) -> Any:
        seen.append((changed.data, before.data))
        return replace(changed, data={**changed.data, "made": "z"})

    made = run(asked, lambda one: one.first(NEW), remake=remake)
    assert made.data == {"k": "v", "x": "1", "y": "z", "made": "z"}
    assert [before for _, before in seen] == [{"k": "v"}, {"k": "v", "x": "1", "made": "z"}]


def test_pol_12_a_deletion_is_not_changed():
    asked = Asked()
    put(asked, mutating("a", setting("x", "'1'")), bound_to("a1", "a"))
    assert run(asked, lambda one: one.first(None), None, NEW) is None
    assert run(Asked(), lambda one: one.second(one.first(NEW))) is NEW


def counted(name: str, **spec: Any) -> Any:
    return mutating(name, setting("k", f"object.data.k + '{name}'"), **spec)


AGAIN = {"reinvocationPolicy": "IfNeeded"}


def test_pol_14_the_second_pass():
    asked = Asked()
    quiet = mutating("d", setting("k", "object.data.k"), **AGAIN)
    put(
        asked,
        counted("a"),
        bound_to("a1", "a"),
        counted("b", **AGAIN),
        bound_to("b1", "b"),
        counted("c"),
        bound_to("c1", "c"),
        quiet,
        bound_to("d1", "d"),
    )
    dues: list[bool] = []

    def both(one: Mutation) -> Any:
        made = one.first(NEW)
        dues.append(one.is_due)
        return one.second(made)

    assert run(asked, both).data == {"k": "vabcb"} and dues == [True]

    def with_change(one: Mutation) -> Any:
        made = one.first(NEW)
        return one.second(replace(made, data={"k": "X"}))

    assert run(asked, with_change).data == {"k": "Xb"}
    alone = Asked()
    put(alone, counted("b", **AGAIN), bound_to("b1", "b"))
    assert run(alone, both).data == {"k": "vb"} and dues == [True, False]
    assert run(alone, with_change).data == {"k": "Xb"}, "the object has changed after it"
    never = Asked()
    put(never, counted("a"), bound_to("a1", "a"))
    assert run(never, with_change).data == {"k": "X"}


def test_pol_14_a_parameter_that_has_been_invoked_is_invoked_again_by_its_name():
    asked = Asked()
    for name in ("one", "two"):
        tree = {"metadata": {"name": name, "namespace": "n"}, "data": {"word": name}}
        asked.put(CONFIG_MAPS.key("n", name), from_tree(ConfigMap, tree))
    kind = {"apiVersion": "v1", "kind": "ConfigMap"}
    text = "object.data.k + (has(object.data.x) && params.data.word == 'two' ? '2' : '1')"
    ref = {"selector": {}, "parameterNotFoundAction": "Deny"}
    put(
        asked,
        mutating("a", setting("k", text), paramKind=kind, **AGAIN),
        bound_to("a1", "a", paramRef=ref),
        mutating("z", setting("x", "'1'")),
        bound_to("z1", "z"),
    )
    made = run(asked, lambda one: one.second(one.first(NEW)))
    assert made.data == {"k": "v1112", "x": "1"}


def test_pol_14_a_webhook_between_both_passes():
    from refk8s.core.apiserver.admission import admit

    rules = [{**ANY_RULE, "resources": ["configmaps"]}]

    def once(review: Any) -> Any:
        done = "x" in review["object"]["data"]
        return allow(review) if done else patched(add("/data/x", "1"))

    asked = Asked((MUTATING, "m", once, {"rules": rules}))
    put(asked, counted("b", **AGAIN), bound_to("b1", "b"))
    made = asked.run(lambda exchange: admit(exchange, NEW, None)).object
    assert made.data == {"k": "vbb", "x": "1"}


# --- validating policies on a request


def validated(asked: Asked, new: Any = NEW) -> Any:
    notes: list[Any] = []

    def act(exchange: Exchange) -> None:
        notes[:] = [exchange.notes]
        validate(exchange, lambda: admission_request(exchange, "CREATE", new, None))

    try:
        asked.run(act)
    except Exception as error:
        return error.status.message.partition(" is forbidden: ")[2], notes[0]
    return "", notes[0]


def validating(name: str, *texts: str, **spec: Any) -> Any:
    return a_policy(
        name,
        validations=[{"expression": text, "message": f"m{n}"} for n, text in enumerate(texts)],
        **spec,
    )


KIND = "ValidatingAdmissionPolicy"


def test_pol_10_what_the_actions_of_a_binding_do():
    def outcome(*actions: str) -> Any:
        asked = Asked()
        put(
            asked,
            validating("p", "true", "false", "object.none == 1"),
            a_binding("b", "p", validationActions=[*actions]),
        )
        words, notes = validated(asked)
        return words, notes.warnings, notes.annotations

    where = f"{KIND} 'p' with binding 'b'"
    assert outcome("Deny") == (f"{where} denied request: m1", [], {})
    error = "expression 'object.none == 1' resulted in error: no such key: none"
    warnings = [f"Validation failed for {where}: m1", f"Validation failed for {where}: {error}"]
    assert outcome("Warn") == ("", warnings, {})
    words, none, annotations = outcome("Audit")
    [(key, text)] = annotations.items()
    assert (words, none, key) == ("", [], "validation.policy.admission.k8s.io/validation_failure")
    assert text == json.dumps(
        [
            {
                "message": "m1",
                "policy": "p",
                "binding": "b",
                "expressionIndex": 1,
                "validationActions": ["Audit"],
            }
        ],
        separators=(",", ":"),
    )
    assert outcome("Deny", "Audit")[0] == f"{where} denied request: m1"
    assert json.loads(outcome("Audit", "Warn")[2][key])[0]["validationActions"] == ["Audit", "Warn"]


def test_pol_10_the_place_of_an_expression_without_a_value():
    asked = Asked()
    put(
        asked,
        validating("p", "true", "object.none == 1"),
        a_binding("b", "p", validationActions=["Audit"]),
    )
    [text] = validated(asked)[1].annotations.values()
    assert json.loads(text)[0]["expressionIndex"] == 1


def test_pol_9_problems_before_the_expressions():
    unserved = {"apiVersion": "none.example.com/v1", "kind": "None"}
    maps = {"apiVersion": "v1", "kind": "ConfigMap"}
    absent = {"paramRef": {"name": "none", "parameterNotFoundAction": "Deny"}}
    nowhere = {"matchResources": {"objectSelector": {"matchLabels": {"no": "where"}}}}
    deny = {"validationActions": ["Deny"]}
    found = "failed to find resource referenced by paramKind: 'none.example.com/v1, Kind=None'"
    none = "no params found for policy binding with `Deny` parameterNotFoundAction"
    for failure in ("Fail", "Ignore"):
        first_ = validating("a", "false", paramKind=unserved, failurePolicy=failure)
        last = validating("z", "false")
        asked = Asked()
        put(asked, first_, a_binding("a1", "a", **deny), last, a_binding("z1", "z", **deny))
        after = f"{KIND} 'z' with binding 'z1' denied request: m0"
        words = f"{KIND} 'a' denied request: failed to configure policy: {found}"
        assert validated(asked)[0] == (words if failure == "Fail" else after)
        asked = Asked()
        kind = validating("a", "false", paramKind=maps, failurePolicy=failure)
        put(
            asked,
            kind,
            a_binding("a0", "a", **nowhere, **deny),
            a_binding("a1", "a", **absent, **deny),
            a_binding("a2", "a", **deny),
        )
        words = f"{KIND} 'a' with binding 'a1' denied request: failed to configure binding: {none}"
        after = f"{KIND} 'a' with binding 'a2' denied request: m0"
        assert validated(asked)[0] == (words if failure == "Fail" else after)
        asked = Asked()
        broken = [{"name": "c", "expression": "object.none == 1"}]
        put(
            asked,
            validating("a", "false", matchConditions=broken, failurePolicy=failure),
            a_binding("a1", "a", **deny),
        )
        words = f"{KIND} 'a' with binding 'a1' denied request: expression 'object.none == 1' resulted in error: no such key: none"
        assert validated(asked)[0] == (words if failure == "Fail" else "")


@pytest.mark.parametrize("failure", ["Fail", "Ignore"])
def test_pol_9_a_policy_whose_budget_is_used_up(failure):
    asked = Asked()
    many = [loops(6) + f" || {n} == 1" for n in range(4)]
    put(
        asked,
        validating("a", *many, failurePolicy=failure),
        a_binding("a1", "a", validationActions=["Warn"]),
    )
    _, notes = validated(asked)
    if failure == "Fail":
        assert notes.warnings[-1].endswith(f": {OUT_OF_BUDGET}")
    else:
        assert notes.warnings == []


def test_pol_9_the_versions_of_a_custom_object():
    from custom_world import CustomWorld, a_definition, a_version

    from refk8s.core.apiserver.custom.definitions import find_custom

    world = CustomWorld(a_definition(a_version(), a_version(name="v2", storage=False)))
    assert world.put_gadget()[0] == 201
    kind = find_custom("example.com", "v1", "gadgets", world.history)
    gadget = world.history.get(kind.key("default", "a")).value
    rules = [{**RULE, "apiVersions": ["v2"], "resources": ["gadgets"]}]
    text = "object.apiVersion == 'example.com/v2' && request.kind.version == 'v2'"
    asked = Asked()
    asked.store = world.history
    asked.options = {"resource": kind, "namespace": "default"}
    put(
        asked,
        validating("p", text, f"!({text})", match={"resourceRules": rules}),
        a_binding("b", "p", validationActions=["Deny"]),
    )
    assert validated(asked, gadget)[0].endswith("denied request: m1")
    change = "[JSONPatch{op: 'add', path: '/spec', value: {'made': object.apiVersion}}]"
    put(
        asked,
        mutating("m", operations(change), match={"resourceRules": rules}),
        bound_to("m1", "m"),
    )
    label = configuration("Object{metadata: Object.metadata{labels: {'a': 'b'}}}")
    put(asked, mutating("l", label, match={"resourceRules": rules}), bound_to("l1", "l"))
    made = run(asked, lambda one: one.first(gadget), gadget)
    assert made.metadata.labels == {"a": "b"}
    assert (
        made.content["spec"] == {"made": "example.com/v2"} and made.api_version == "example.com/v1"
    )


def test_pol_10_a_message_without_a_value_gives_way_to_the_next():
    def told(expression: str, **more: Any) -> str:
        asked = Asked()
        rule = {"expression": " false ", "messageExpression": expression, **more}
        put(
            asked,
            a_policy("p", validations=[rule]),
            a_binding("b", "p", validationActions=["Deny"]),
        )
        return validated(asked)[0].partition("denied request: ")[2]

    asks = "authorizer.path('/x').check('get').allowed() ? 'a' : 'b'"
    for expression in (asks, "' '", "'a\\nb'", "string(object.none)", "odd("):
        assert told(expression, message=" plain ") == "plain"
        assert told(expression) == "failed expression: false"
    assert told("' made ' + object.data.k", message="plain") == "made v"


def test_pol_11_annotations_and_their_problems():
    def noted(failure: str, *annotations: tuple[str, str]) -> Any:
        given = [{"key": key, "valueExpression": text} for key, text in annotations]
        asked = Asked()
        put(
            asked,
            validating("p", "true", auditAnnotations=given, failurePolicy=failure),
            a_binding("b", "p", validationActions=["Warn"]),
        )
        _, notes = validated(asked)
        return notes.annotations, [one.rpartition(": ")[2] for one in notes.warnings]

    given = (
        ("a", " 'x' + object.data.k "),
        ("b", "string(object.data.none)"),
        ("c", "' y '"),
        ("d", "null"),
        ("e", "''"),
    )
    kept = {"p/a": "xv", "p/c": "y"}
    assert noted("Fail", *given) == (kept, ["none"])
    assert noted("Ignore", *given) == (kept, [])
