"""Drawn policies with their bindings, parameters and conditions, beside a plain reading of POL-6 to
POL-13 (spec/admission_policies.md)."""

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_pol_evaluation import PARAMS, RULE, Cluster, operations

from refk8s.core.api import resources
from refk8s.core.api.codec import from_tree, to_tree
from refk8s.core.api.request import Request
from refk8s.core.api.user import ADMIN
from refk8s.core.apiserver.admission.policies.expressions import _namespace
from refk8s.core.store import EMPTY, Put, Txn, commit

UNSERVED = {"apiVersion": "none.example.com/v1", "kind": "None"}
NOWHERE = {"objectSelector": {"matchLabels": {"no": "where"}}}
CONDITIONS = {
    "true": "object.metadata.name == 'a'",
    "false": "object.metadata.name != 'a'",
    "broken": "object.data.none == ''",
}
REFS = {
    None: None,
    "one": {"name": "one", "namespace": "other", "parameterNotFoundAction": "Deny"},
    "all": {"selector": {}, "namespace": "other", "parameterNotFoundAction": "Deny"},
    "odd": {"selector": {"matchLabels": {"odd": "yes"}}, "namespace": "other", "parameterNotFoundAction": "Allow"},
    "none allowed": {"name": "none", "namespace": "other", "parameterNotFoundAction": "Allow"},
    "none denied": {"name": "none", "parameterNotFoundAction": "Deny"},
}  # fmt: skip
WORDS = {None: ["-"], "one": ["1"], "all": ["1", "2"], "odd": ["1"], "none allowed": [], "none denied": []}  # fmt: skip

drawn_bindings = st.lists(
    st.tuples(st.sampled_from([None, {}, NOWHERE]), st.sampled_from([*REFS])), max_size=2
)
drawn_policies = st.fixed_dictionaries(
    {
        "matches": st.sampled_from([True, True, True, False]),
        "fails": st.booleans(),
        "kind": st.sampled_from([None, PARAMS, PARAMS, PARAMS, UNSERVED]),
        "condition": st.sampled_from([None, "true", "true", "false", "broken"]),
        "bindings": drawn_bindings,
    }
)
worlds = st.lists(drawn_policies, min_size=1, max_size=3)


class Drawn(Cluster):
    def __init__(self, policies: list[Any], kinds: Any, spec_of: Any, binding_spec: Any) -> None:
        super().__init__()
        for name, word, odd in (("one", "1", "yes"), ("two", "2", "no")):
            tree = {"metadata": {"name": name, "labels": {"odd": odd}}, "data": {"word": word}}
            body = from_tree(resources.CONFIG_MAPS.type, tree)
            self.do(Request("create", resources.CONFIG_MAPS, "other", body=body, user=ADMIN))
        policy_kind, binding_kind = kinds
        for name, drawn in zip("abc", policies, strict=False):
            constraints = {"resourceRules": [RULE], **({} if drawn["matches"] else NOWHERE)}
            given_ = {
                "matchConstraints": constraints,
                "failurePolicy": "Fail" if drawn["fails"] else "Ignore",
                **({"paramKind": drawn["kind"]} if drawn["kind"] else {}),
                **spec_of(name, bool(drawn["kind"])),
            }
            if drawn["condition"]:
                text = CONDITIONS[drawn["condition"]]
                given_["matchConditions"] = [{"name": "c", "expression": text}]
            self.put(policy_kind, name, given_)
            for letter, (match, ref) in zip("yx", drawn["bindings"], strict=False):
                spec = {"policyName": name, **binding_spec}
                spec |= {} if match is None else {"matchResources": match}
                spec |= {} if REFS[ref] is None else {"paramRef": REFS[ref]}
                self.put(binding_kind, f"{name}{letter}", spec)


def word_of(name: str, has_params: bool) -> str:
    """An expression for what identifies the policy and its parameter."""
    param = "(params == null ? '-' : string(params.data.word))" if has_params else "'-'"
    return f"'{name}' + {param}"


def invocations(policies: list[Any]) -> Any:
    """(policy, binding, what happens) in order: a word of a parameter, or a problem as (message,
    reason)."""
    for name, drawn in zip("abc", policies, strict=False):
        bindings = sorted(
            (f"{name}{letter}", *one) for letter, one in zip("yx", drawn["bindings"], strict=False)
        )
        if not bindings or not drawn["matches"]:
            continue
        if drawn["kind"] == UNSERVED:
            words = (
                "failed to find resource referenced by paramKind: 'none.example.com/v1, Kind=None'"
            )
            if drawn["fails"]:
                yield name, "", (f"failed to configure policy: {words}", "Forbidden")
            continue
        for binding, match, ref in bindings:
            if match == NOWHERE:
                continue
            ref = ref if drawn["kind"] else None
            if ref == "none denied":
                words = "no params found for policy binding with `Deny` parameterNotFoundAction"
                if drawn["fails"]:
                    yield name, binding, (f"failed to configure binding: {words}", "Forbidden")
                continue
            for word in WORDS[ref]:
                if drawn["condition"] == "broken":
                    text = CONDITIONS["broken"]
                    words = f"expression '{text}' resulted in error: no such key: none"
                    if drawn["fails"]:
                        yield name, binding, (words, "Invalid")
                elif drawn["condition"] != "false":
                    yield name, binding, word


def a_drawn_policy(kind: Any, *refs: Any, condition: Any = None, fails: bool = True) -> Any:
    bindings = [(None, ref) for ref in refs]
    return {"matches": True, "fails": fails, "kind": kind, "condition": condition, "bindings": bindings}  # fmt: skip


# each kind of problem once, before policies that take effect
PROBLEMS = [a_drawn_policy(UNSERVED, None), a_drawn_policy(PARAMS, "one", "none denied"), a_drawn_policy(None, None, condition="broken")]  # fmt: skip
IGNORED = [a_drawn_policy(UNSERVED, None, fails=False), a_drawn_policy(PARAMS, "all", "none denied", fails=False), a_drawn_policy(None, None)]  # fmt: skip


@given(worlds)
@example(PROBLEMS)
@example(PROBLEMS[1:])
@example(IGNORED)
def test_pol_6_pol_7_pol_9_what_drawn_validating_policies_warn_of(policies):
    kinds = (
        resources.VALIDATING_ADMISSION_POLICIES,
        resources.VALIDATING_ADMISSION_POLICY_BINDINGS,
    )

    def spec_of(name: str, has_params: bool) -> Any:
        return {
            "validations": [{"expression": "false", "messageExpression": word_of(name, has_params)}]
        }

    world = Drawn(policies, kinds, spec_of, {"validationActions": ["Warn"]})
    answer = world.create("a", {"k": "v"})
    warnings = []
    for name, binding, what in invocations(policies):
        where = f"ValidatingAdmissionPolicy '{name}'"
        with_binding = f"{where} with binding '{binding}'" if binding else where
        if isinstance(what, tuple) and what[1] == "Forbidden":
            words = f"{with_binding} denied request: {what[0]}"
            assert (answer.code, answer.body.reason) == (422, "Invalid")
            assert answer.body.message == f'configmaps "a" is forbidden: {words}'
            return
        said = what[0] if isinstance(what, tuple) else f"{name}{what}"
        warnings.append(f"Validation failed for {with_binding}: {said}")
    assert answer.code == 201
    assert list(answer.warnings) == list(dict.fromkeys(warnings))


@given(worlds)
@example(PROBLEMS)
@example(PROBLEMS[1:])
@example(IGNORED)
def test_pol_12_pol_13_what_drawn_mutating_policies_change(policies):
    kinds = (resources.MUTATING_ADMISSION_POLICIES, resources.MUTATING_ADMISSION_POLICY_BINDINGS)

    def spec_of(name: str, has_params: bool) -> Any:
        text = f"object.data.k + {word_of(name, has_params)}"
        mutation = operations(f"[JSONPatch{{op: 'replace', path: '/data/k', value: {text}}}]")
        return {"mutations": [mutation], "reinvocationPolicy": "Never"}

    world = Drawn(policies, kinds, spec_of, {})
    answer = world.create("a", {"k": ""})
    found = list(invocations(policies))
    problems = [one for one in found if isinstance(one[2], tuple)]
    # what cannot be configured is found before anything is invoked
    problems.sort(key=lambda one: one[2][1] != "Forbidden")
    if not problems:
        assert answer.code == 201
        words = [f"{name}{word}" for name, _, word in found]
        assert answer.body.data == {"k": "".join(words)}
        return
    messages = []
    for name, binding, (words, _) in problems:
        where = f" with binding '{binding}'" if binding else ""
        messages.append(f"policy '{name}'{where} denied request: {words}")
    assert answer.code == 403
    assert (answer.body.message, answer.body.reason) == (messages[0], problems[0][2][1])
    assert [one.message for one in answer.body.details.causes] == messages
    assert (answer.body.details.name, answer.body.details.kind) == ("a", "configmaps")


@settings(max_examples=settings.default.max_examples // 2)
@given(
    st.lists(
        st.tuples(st.booleans(), st.booleans(), st.sampled_from([None, "one", "all"])),
        min_size=1,
        max_size=3,
    )
)
def test_pol_14_which_policies_are_invoked_again(drawn):
    """Each policy appends its word, if it changes something, once for each invocation."""
    world = Cluster()
    for name, word in (("one", "1"), ("two", "2")):
        tree = {"metadata": {"name": name}, "data": {"word": word}}
        body = from_tree(resources.CONFIG_MAPS.type, tree)
        world.do(Request("create", resources.CONFIG_MAPS, "other", body=body, user=ADMIN))
    order = []
    for name, (is_again, changes, ref) in zip("abc", drawn, strict=False):
        text = f"object.data.k + {word_of(name, True)}" if changes else "object.data.k"
        patch = f"[JSONPatch{{op: 'replace', path: '/data/k', value: {text}}}]"
        spec = {
            "matchConstraints": {"resourceRules": [RULE]},
            "mutations": [operations(patch)],
            "reinvocationPolicy": "IfNeeded" if is_again else "Never",
            "paramKind": PARAMS,
        }
        world.put(resources.MUTATING_ADMISSION_POLICIES, name, spec)
        bound = {"policyName": name, **({"paramRef": REFS[ref]} if ref else {})}
        world.put(resources.MUTATING_ADMISSION_POLICY_BINDINGS, name, bound)
        order += [(f"{name}{word}", is_again, changes) for word in WORDS[ref]]
    expected = ""
    # what asks to be invoked again, and has been: without and with a change after it
    fresh: set[str] = set()
    stale: set[str] = set()
    for is_second in (False, True):
        for word, is_again, changes in order:
            if is_second and word not in stale:
                continue
            if changes:
                expected += word
                stale |= fresh
                fresh = set()
            fresh |= {word} if is_again else set()
    assert world.create("a", {"k": ""}).body.data == {"k": expected}


def test_pol_8_what_expressions_see_of_the_namespace():
    tree = {"name": "n", "labels": {"a": "b"}, "uid": "u"}
    hidden = {
        "managedFields": [{"manager": "m"}], "selfLink": "/n",
        "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "v"}],
    }  # fmt: skip
    kind = resources.NAMESPACES
    namespace = from_tree(kind.type, {"metadata": {**tree, **hidden}})
    history = commit(EMPTY, Txn((), (Put(kind.key("", "n"), namespace),)))[0]

    def seen(where: str, resource: Any) -> Any:
        request: Any = SimpleNamespace(namespace=where, resource=resource)
        return _namespace(request, history)

    assert seen("n", resources.CONFIG_MAPS) == to_tree(from_tree(kind.type, {"metadata": tree}))
    assert seen("", resources.NODES) is None and seen("n", kind) is None
    assert seen("", kind) is None and seen("other", resources.CONFIG_MAPS) is None


@pytest.mark.parametrize("resource", ["namespaces", "nodes"])
def test_pol_8_objects_of_the_cluster_have_no_namespace(resource):
    world = Cluster()
    rule = {**RULE, "resources": [resource]}
    spec = {
        "matchConstraints": {"resourceRules": [rule]},
        "validations": [{"expression": "dyn(namespaceObject) != null", "message": "none"}],
    }
    world.put(resources.VALIDATING_ADMISSION_POLICIES, "p", spec)
    bound = {"policyName": "p", "validationActions": ["Deny"]}
    world.put(resources.VALIDATING_ADMISSION_POLICY_BINDINGS, "p", bound)
    kind = {"namespaces": resources.NAMESPACES, "nodes": resources.NODES}[resource]
    body = from_tree(kind.type, {"metadata": {"name": "n"}})
    answer = world.do(Request("create", kind, body=body, user=ADMIN)).response
    assert answer.code == 422 and answer.body.message.endswith("denied request: none")
