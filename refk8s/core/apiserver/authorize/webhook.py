"""An authorizer that is a webhook. Rules AUTHZ-10, AUTHZ-11 (spec/authorization.md).

It is asked by a SubjectAccessReview. If its answer is not known, the decision ends with `Needed`,
and is made again when a driver has asked. Source: Kubernetes documentation, "Webhook Mode",
"Authorization" (configuring the API server using an authorization config file).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, Protocol

from refk8s.core.api.codec import encode
from refk8s.core.api.selector import SelectorError, parse, parse_fields
from refk8s.core.apiserver.calls import Needed, Question
from refk8s.core.apiserver.config import NO_OPINION, Attributes, Decision
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.review_answer import as_text, read_status
from refk8s.core.value import Value

GROUP: Final = "authorization.k8s.io"
KIND: Final = "SubjectAccessReview"
VERSIONS: Final = ("v1beta1", "v1")
"""The versions in which a webhook can be asked; the default of the flag comes first, as
upstream."""
CONDITIONS_UNITS_MAX: Final = 50_000
"""What the match conditions of one webhook may cost together."""
REASON_CHARACTERS_MAX: Final = 1_024
BOTH: Final = "webhook subject access review returned both allow and deny response"

_OF_LABELS: Final = {
    "=": "In",
    "in": "In",
    "!=": "NotIn",
    "notin": "NotIn",
    "exists": "Exists",
    "!": "DoesNotExist",
}


class Reviews(Protocol):
    """The answers of a webhook that still hold."""

    def find(self, question: bytes) -> Decision | None:
        """What the webhook has answered to this question; None if it must be asked."""


class WebhookAuthorizer(Value, frozen=True, eq=False):
    """One webhook. `conditions`: expressions that must all be true; else it has no opinion.
    `fails_closed`: a request is denied if it cannot be asked or an expression has no value."""

    name: str
    version: str
    reviews: Reviews
    conditions: tuple[str, ...] = ()
    fails_closed: bool = False

    def __call__(self, attributes: Attributes, store: Reader) -> Decision:
        if self.conditions:
            holds, problems = _hold(self.conditions, spec_of(attributes, full=True))
            if problems:
                return Decision(False, is_denied=self.fails_closed, problem=problems)
            if not holds:
                return NO_OPINION
        question = write_review(self.version, attributes)
        found = self.reviews.find(question)
        if found is None:
            raise Needed((), Question(self.name, question))
        return found


def write_review(version: str, attributes: Attributes) -> bytes:
    """The question: a SubjectAccessReview as JSON."""
    spec = spec_of(attributes)
    if version == "v1beta1" and "groups" in spec:
        spec["group"] = spec.pop("groups")
    return encode({"kind": KIND, "apiVersion": f"{GROUP}/{version}", "spec": spec})


def read_review(text: bytes, version: str) -> Decision:
    """What the webhook has decided. Raises BadReview."""
    status = read_status(text, KIND, f"{GROUP}/{version}")
    reason = "".join(as_text(line) + "\n" for line in _lines(status.get("reason")))[:-1]
    reason = reason[:REASON_CHARACTERS_MAX]
    if status.get("denied") is True:
        problem = BOTH if status.get("allowed") is True else ""
        return Decision(False, reason, is_denied=True, problem=problem)
    return Decision(status.get("allowed") is True, reason)


def _lines(reason: Any) -> Sequence[Any]:
    """The lines of a reason: it may have several, each of them printable."""
    return reason.split("\n") if isinstance(reason, str) else [reason]


def spec_of(attributes: Attributes, full: bool = False) -> dict[str, Any]:
    """The spec of the review. `full`: with the fields that are empty, as expressions read it."""
    user = attributes.user
    spec: dict[str, Any] = {
        "user": user.name,
        "groups": list(user.groups),
        "uid": user.uid,
        "extra": {key: list(values) for key, values in user.extra},
    }
    asked: dict[str, Any]
    if attributes.resource or not attributes.path:
        asked = {
            "namespace": attributes.namespace,
            "verb": attributes.verb,
            "group": attributes.group,
            "version": attributes.version,
            "resource": attributes.resource,
            "subresource": attributes.subresource,
            "name": attributes.name,
        }
        asked = asked if full else _filled(asked)
        asked |= _selectors(attributes)
        spec["resourceAttributes"] = asked
    else:
        asked = {"path": attributes.path, "verb": attributes.verb}
        spec["nonResourceAttributes"] = asked if full else _filled(asked)
    return spec if full else _filled(spec)


def _filled(tree: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in tree.items() if value}


def _selectors(attributes: Attributes) -> dict[str, Any]:
    """The requirements of the selectors. One that cannot be read restricts nothing."""
    found: dict[str, Any] = {}
    if attributes.fields:
        try:
            fields = [
                _requirement(one.key, "In" if one.operator == "=" else "NotIn", (one.value,))
                for one in parse_fields(attributes.fields).requirements
            ]
        except SelectorError:
            fields = []
        if fields:
            found["fieldSelector"] = {"requirements": fields}
    if attributes.labels:
        try:
            labels = [
                _requirement(one.key, operator, one.values)
                for one in parse(attributes.labels).requirements
                if (operator := _OF_LABELS.get(one.operator))
            ]
        except SelectorError:
            labels = []
        if labels:
            found["labelSelector"] = {"requirements": labels}
    return found


def _requirement(key: str, operator: str, values: Sequence[str]) -> dict[str, Any]:
    tree: dict[str, Any] = {"key": key, "operator": operator}
    return tree | ({"values": list(values)} if values else {})


# --- match conditions


def _hold(conditions: Sequence[str], spec: Mapping[str, Any]) -> tuple[bool, str]:
    """Whether no condition is false, and the errors of those without a value. A false one decides,
    even if another has no value."""
    # imported here: few clusters have such conditions
    from refk8s.core.apiserver.authorize.modes import aggregated
    from refk8s.core.cel.evaluate import Budget, evaluate
    from refk8s.core.cel.values import BudgetExceeded, CelError

    budget, problems = Budget(CONDITIONS_UNITS_MAX), []
    for text in conditions:
        try:
            if evaluate(compiled(text), {"request": spec}, budget) is False:
                return False, ""
        except (CelError, BudgetExceeded) as error:
            problems.append(f"cel evaluation error: expression '{text}' resulted in error: {error}")
    return True, aggregated(problems)


@lru_cache(maxsize=256)
def compiled(text: str) -> Any:
    """The tree of a condition. Raises InvalidExpression."""
    from refk8s.core.cel.environment import compile_text
    from refk8s.core.cel.types import BOOL

    return compile_text(text, {"request": _request_type()}, BOOL)[0]


def _request_type() -> Any:
    """The type of `request`: the spec of a SubjectAccessReview."""
    from refk8s.core.cel.types import STRING, Type, list_of, map_of

    def record(name: str, /, **fields: Any) -> Any:
        return Type(f"kubernetes.{name}", fields=fields, size=len(fields))

    selector = {
        kind: record(
            f"{kind}SelectorAttributes",
            rawSelector=STRING,
            requirements=list_of(
                record(
                    f"{kind}SelectorRequirement",
                    key=STRING,
                    operator=STRING,
                    values=list_of(STRING),
                )
            ),
        )
        for kind in ("Field", "Label")
    }
    texts = ("namespace", "verb", "group", "version", "resource", "subresource", "name")
    asked = record(
        "ResourceAttributes",
        **dict.fromkeys(texts, STRING),
        fieldSelector=selector["Field"],
        labelSelector=selector["Label"],
    )
    path = record("NonResourceAttributes", path=STRING, verb=STRING)
    return record(
        "SubjectAccessReviewSpec",
        resourceAttributes=asked,
        nonResourceAttributes=path,
        user=STRING,
        groups=list_of(STRING),
        extra=map_of(STRING, list_of(STRING)),
        uid=STRING,
    )
