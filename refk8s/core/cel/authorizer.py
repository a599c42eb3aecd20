"""What the user of a request may do, as expressions ask it: authorizer.group('apps')
.resource('deployments').namespace('n').check('create').allowed(). Rule CEL-8 (spec/cel.md).

Source: Kubernetes documentation, "Common Expression Language in Kubernetes" (Kubernetes authorizer
library).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from refk8s.core.api.selector import SelectorError, parse, parse_fields
from refk8s.core.cel.values import CelError, MessageValue
from refk8s.core.value import Value, evolve

AUTHORIZER = "kubernetes.authorization.Authorizer"


class Check(Value, frozen=True):
    """What is asked: about a path, or about a resource. `account`: (namespace, name) of the service
    account for which it is asked; empty for the user of the request. `problem`: why a selector is
    invalid."""

    path: str = ""
    group: str = ""
    resource: str = ""
    subresource: str = ""
    namespace: str = ""
    name: str = ""
    fields: str = ""
    account: tuple[str, str] = ("", "")
    problem: str = ""


class Answer(Value, frozen=True):
    """The answer of the authorizer."""

    allowed: bool
    reason: str = ""
    error: str = ""


Ask = Callable[[Check, str], Answer]
"""(what, verb) -> the answer."""


class Authorizer(MessageValue):
    """The variable `authorizer`, or the one of a service account."""

    def __init__(self, ask: Ask, request: Check, account: tuple[str, str] = ("", "")) -> None:
        self.ask, self.request, self.account = ask, request, account
        own = ResourceCheck(ask, evolve(request, account=account))
        super().__init__(AUTHORIZER, {} if account[1] else {"requestResource": own})


class _Asking:
    def __init__(self, ask: Ask, check: Check) -> None:
        self.ask, self.what = ask, check


class PathCheck(_Asking):
    """A path about which is asked."""


class GroupCheck(_Asking):
    """A group, of which a resource is still to be named."""


class ResourceCheck(_Asking):
    """A resource about which is asked."""


def _need(value: Any, kind: type, *texts: Any) -> None:
    if type(value) is not kind or not all(isinstance(one, str) for one in texts):
        raise TypeError


def _path(authorizer: Any, path: Any) -> PathCheck:
    _need(authorizer, Authorizer, path)
    if not path:
        raise CelError("path must not be empty")
    return PathCheck(authorizer.ask, Check(path=path, account=authorizer.account))


def _group(authorizer: Any, group: Any) -> GroupCheck:
    _need(authorizer, Authorizer, group)
    return GroupCheck(authorizer.ask, Check(group=group, account=authorizer.account))


def _resource(group: Any, resource: Any) -> ResourceCheck:
    _need(group, GroupCheck, resource)
    if not resource:
        raise CelError("resource must not be empty")
    return ResourceCheck(group.ask, evolve(group.what, resource=resource))


def _service_account(authorizer: Any, namespace: Any, name: Any) -> Authorizer:
    _need(authorizer, Authorizer, namespace, name)
    return Authorizer(authorizer.ask, authorizer.request, (namespace, name))


def _with(field: str) -> Callable[[Any, Any], ResourceCheck]:
    def change(resource: Any, text: Any) -> ResourceCheck:
        _need(resource, ResourceCheck, text)
        return ResourceCheck(resource.ask, evolve(resource.what, **{field: text}))

    return change


def _selector(field: str, read: Callable[[str], object]) -> Callable[[Any, Any], ResourceCheck]:
    """An invalid selector is an error of the decision, not of the expression."""

    def change(resource: Any, text: Any) -> ResourceCheck:
        _need(resource, ResourceCheck, text)
        what = resource.what
        try:
            read(text)
        except SelectorError as error:
            return ResourceCheck(resource.ask, evolve(what, problem=str(error)))
        return ResourceCheck(resource.ask, evolve(what, fields=text) if field else what)

    return change


def _check(what: Any, verb: Any) -> Answer:
    if not isinstance(what, PathCheck | ResourceCheck) or not isinstance(verb, str):
        raise TypeError
    if what.what.problem:
        return Answer(False, error=what.what.problem)
    return what.ask(what.what, verb)


def _of_answer(read: Callable[[Answer], Any]) -> Callable[[Any], Any]:
    def get(answer: Any) -> Any:
        _need(answer, Answer)
        return read(answer)

    return get


FUNCTIONS: Final[Mapping[str, Callable[..., Any]]] = {
    "path": _path, "group": _group, "resource": _resource, "serviceAccount": _service_account,
    "subresource": _with("subresource"), "namespace": _with("namespace"), "name": _with("name"),
    "fieldSelector": _selector("fields", parse_fields), "labelSelector": _selector("", parse),
    "check": _check, "allowed": _of_answer(lambda one: one.allowed),
    "reason": _of_answer(lambda one: one.reason),
    "errored": _of_answer(lambda one: bool(one.error)),
    "error": _of_answer(lambda one: one.error),
}  # fmt: skip
"""By name."""
