"""MutatingAdmissionPolicies: how they change an object. Rules POL-12 to POL-14
(spec/admission_policies.md).

    policy matches -> binding matches -> parameters -> match conditions -> mutations, in order

Source: Kubernetes documentation, "Mutating Admission Policy"; API reference,
"MutatingAdmissionPolicy", "MutatingAdmissionPolicyBinding".
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from refk8s.core.api.codec import DecodeError, encode, to_tree
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.admission import matching
from refk8s.core.apiserver.admission.conditions import ConditionsFailed
from refk8s.core.apiserver.admission.matching import AdmissionRequest
from refk8s.core.apiserver.admission.policies.bound import MUTATING, Bound, policies_of
from refk8s.core.apiserver.admission.policies.expressions import (
    Evaluation,
    ExpressionFailed,
    OutOfBudget,
    values_of,
)
from refk8s.core.apiserver.admission.policies.parameters import (
    Misconfigured,
    find_parameters,
    parameter_resource,
)
from refk8s.core.apiserver.admission.policies.patches import PatchFailed, patched
from refk8s.core.apiserver.admission.policies.refusal import Problem, denied
from refk8s.core.apiserver.admission.versioned import in_version, record_of

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

OBJECT_BYTES_MAX: Final = 3 << 20
"""The longest object that mutations may make: as long as a request."""

RequestOf = Callable[[Any], AdmissionRequest]
Remake = Callable[[Any, Any], Any]
"""(object after a mutation, object before it) -> the object with its defaults, and with the fields
that only the API server sets."""


class Invocation(NamedTuple):
    """A policy with one of its bindings and parameters."""

    bound: Bound
    binding: Any
    resource: Resource
    parameter: Any

    @property
    def key(self) -> tuple[str, str, str, str]:
        """What a second pass recognizes it by."""
        metadata = getattr(self.parameter, "metadata", None)
        return (
            self.bound.policy.metadata.name,
            self.binding.metadata.name,
            (metadata.namespace or "") if metadata is not None else "",
            metadata.name if metadata is not None else "",
        )


class Mutation:
    """The mutating policies of one request: a first pass, and a second one for those that ask for
    it (`reinvocationPolicy` IfNeeded) if the object has changed after them (POL-14)."""

    def __init__(self, exchange: Exchange, request_of: RequestOf, remake: Remake) -> None:
        self.exchange, self.request_of, self.remake = exchange, request_of, remake
        self.waiting = policies_of(MUTATING, exchange).of(exchange.request.resource.plural)
        self.invoked: set[tuple[str, ...]] = set()
        self.again: set[tuple[str, ...]] = set()
        self.left: Any = None  # the object as the last pass left it
        self.problems: list[Problem] = []

    def first(self, new: Any) -> Any:
        """The object after every policy that matches. Raises ApiError."""
        return self._pass(new, is_second=False) if self.waiting else new

    def second(self, new: Any) -> Any:
        """The object after the policies that are due again. Raises ApiError."""
        if not self.waiting:
            return new
        if new != self.left:
            self.again |= self.invoked
        return self._pass(new, is_second=True) if self.again else new

    @property
    def is_due(self) -> bool:
        """Whether a policy has changed the object after one that asks to be invoked again."""
        return bool(self.again)

    def _pass(self, new: Any, *, is_second: bool) -> Any:
        """Invoke the policies in order. What is wrong is collected, and rejects the request at the
        end (POL-13)."""
        self.problems = []
        for one in [*self._invocations(self.request_of(new))]:
            if is_second and one.key not in self.again:
                continue
            changed = self._invoke(one, new)
            if changed is None:
                continue
            if changed is not new:
                new = changed
                self.again |= self.invoked
                self.invoked.clear()
            if one.bound.policy.spec.reinvocation_policy == "IfNeeded":
                self.invoked.add(one.key)
        if self.problems:
            raise denied(self.request_of(new), self.problems)
        self.left = new
        return new

    def _invocations(self, request: AdmissionRequest) -> Iterator[Invocation]:
        """Every policy that matches, by name, with each of its bindings and parameters (POL-12)."""
        store = self.exchange.store
        for bound in self.waiting:
            policy = bound.policy
            try:
                resource = matching.match(bound.criteria, request, store)
                if resource is None:
                    continue
                kind = policy.spec.param_kind
                found = parameter_resource(kind, store)
            except (ApiError, Misconfigured) as error:
                self._note(bound, None, f"failed to configure policy: {error}", "Forbidden")
                continue
            for binding, criteria in bound.bindings:
                try:
                    if criteria is not None and matching.match(criteria, request, store) is None:
                        continue
                    ref = binding.spec.param_ref
                    given = find_parameters(kind, found, ref, request.namespace, store)
                except (ApiError, Misconfigured) as error:
                    words = f"failed to configure binding: {error}"
                    self._note(bound, binding, words, "Forbidden")
                    continue
                for parameter in given:
                    yield Invocation(bound, binding, resource, parameter)

    def _note(self, bound: Bound, binding: Any, words: str, reason: str = "Invalid") -> None:
        """Keep a problem of a policy that fails closed."""
        if not bound.fails_closed:
            return
        where = "" if binding is None else f" with binding '{binding.metadata.name}'"
        name = bound.policy.metadata.name
        self.problems.append(Problem(f"policy '{name}'{where} denied request: {words}", reason))

    def _invoke(self, one: Invocation, new: Any) -> Any:
        """The object after the mutations of a policy; None if its conditions do not hold."""
        bound = one.bound
        values = self._values(one, new)
        try:
            if not bound.conditions.hold(values):
                return None
        except ConditionsFailed as error:
            self._note(bound, one.binding, str(error))
            return None
        if values["object"] is None:
            return new  # a deletion: there is nothing to change
        for mutation in bound.policy.spec.mutations or ():
            try:
                changed = self._mutate(one, mutation, values, new)
            except (ExpressionFailed, OutOfBudget, PatchFailed) as error:
                self._note(bound, one.binding, str(error))
                continue
            if changed is not new:
                new, values = changed, self._values(one, changed)
        return new

    def _values(self, one: Invocation, new: Any) -> dict[str, Any]:
        exchange = self.exchange
        request = in_version(exchange, self.request_of(new), one.resource)
        values = values_of(request, one.resource, exchange.store, exchange.config)
        values["params"] = to_tree(one.parameter)
        return values

    def _mutate(self, one: Invocation, mutation: Any, values: dict[str, Any], new: Any) -> Any:
        """The object after one mutation; the same one if nothing has changed."""
        evaluation = Evaluation(one.bound.declared, values)
        tree = values["object"]
        changed = patched(mutation, evaluation, tree, one.resource)
        if changed == tree and encode(changed) == encode(tree):
            return new
        if len(encode(changed)) > OBJECT_BYTES_MAX:
            raise PatchFailed(f"the object has more than {OBJECT_BYTES_MAX} bytes")
        try:
            record = record_of(self.exchange, self.request_of(new), one.resource, changed)
        except DecodeError as error:
            raise PatchFailed(f"error applying patch: {error}") from None
        return self.remake(record, new)
