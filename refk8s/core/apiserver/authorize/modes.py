"""The authorizers of an API server by their modes. Rules AUTHZ-1, AUTHZ-10 (spec/authorization.md).

Source: Kubernetes documentation, "Authorization" (authorization modes).
"""

from collections.abc import Callable, Sequence
from typing import Final

from refk8s.core.apiserver.authorize.node import NodeAuthorizer
from refk8s.core.apiserver.authorize.rbac import Rbac
from refk8s.core.apiserver.config import ALLOWED, Attributes, Decision
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.value import Value

Authorizer = Callable[[Attributes, Reader], Decision]

WEBHOOK: Final = "Webhook"


class InOrder(Value, frozen=True):
    """Authorizers in order: the first one that allows or denies a request decides."""

    authorizers: tuple[Authorizer, ...]

    def __call__(self, attributes: Attributes, store: Reader) -> Decision:
        reasons, problems = [], []
        for authorizer in self.authorizers:
            decision = authorizer(attributes, store)
            if decision.allowed or decision.is_denied:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
            if decision.problem:
                problems.append(decision.problem)
        return Decision(False, "\n".join(reasons), problem=aggregated(problems))


def aggregated(problems: Sequence[str]) -> str:
    """Several errors as upstream writes them: each once, in brackets if there are several."""
    texts = list(dict.fromkeys(problems))
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]" if texts else ""


def _allow(attributes: Attributes, store: Reader) -> Decision:
    """The mode AlwaysAllow after a webhook, which may deny."""
    return ALLOWED


def authorizers(
    modes: tuple[str, ...], webhooks: Sequence[Authorizer] = ()
) -> tuple[Authorizer | None, Rbac | None]:
    """The authorizer of these modes and the roles of RBAC, if it is one of them. None: every
    authenticated user may do everything (API-13). AlwaysDeny allows nothing that no other mode
    allows. `webhooks`: those of the modes Webhook, in their order."""
    if "AlwaysAllow" in modes and not webhooks:
        return None, None
    rbac = Rbac() if "RBAC" in modes else None
    left = iter(webhooks)
    found: list[Authorizer] = []
    for mode in modes:
        if mode == "RBAC" and rbac is not None:
            found.append(rbac)
        elif mode == "Node":
            found.append(NodeAuthorizer())
        elif mode == WEBHOOK:
            found.append(next(left))
        elif mode == "AlwaysAllow":
            found.append(_allow)
    return InOrder(tuple(found)), rbac
