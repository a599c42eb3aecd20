"""The authorizers of an API server by their modes. Rule AUTHZ-1 (spec/authorization.md).

Source: Kubernetes documentation, "Authorization" (authorization modes).
"""

from collections.abc import Callable

from refk8s.core.apiserver.authorize.node import NodeAuthorizer
from refk8s.core.apiserver.authorize.rbac import Rbac
from refk8s.core.apiserver.config import Attributes, Decision
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.value import Value

Authorizer = Callable[[Attributes, Reader], Decision]


class InOrder(Value, frozen=True):
    """Authorizers in order: the first one that allows a request decides."""

    authorizers: tuple[Authorizer, ...]

    def __call__(self, attributes: Attributes, store: Reader) -> Decision:
        reasons = []
        for authorizer in self.authorizers:
            decision = authorizer(attributes, store)
            if decision.allowed:
                return decision
            if decision.reason:
                reasons.append(decision.reason)
        return Decision(False, "\n".join(reasons))


def authorizers(modes: tuple[str, ...]) -> tuple[Authorizer | None, Rbac | None]:
    """The authorizer of these modes and the roles of RBAC, if it is one of them. None: every
    authenticated user may do everything (API-13). AlwaysDeny allows nothing that no other mode
    allows."""
    if "AlwaysAllow" in modes:
        return None, None
    rbac = Rbac() if "RBAC" in modes else None
    found: list[Authorizer] = []
    for mode in modes:
        if mode == "RBAC" and rbac is not None:
            found.append(rbac)
        elif mode == "Node":
            found.append(NodeAuthorizer())
    return InOrder(tuple(found)), rbac
