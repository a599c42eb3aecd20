"""Permissions that a request needs besides the one for itself. Rules RBAC-7, RBAC-8, AUTHZ-8,
AUTHZ-9 (spec/authorization.md).

They depend on the object. Those for roles and bindings are checked before it is validated, those
for certificates after (ADM-45).
Source: Kubernetes documentation, "Using RBAC Authorization" (privilege escalation prevention),
"Certificates and Certificate Signing Requests" (authorization).
"""

from collections.abc import Iterable
from typing import Any, Final

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.rbac_v1 import PolicyRule
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import MASTERS
from refk8s.core.apiserver.authorize import attributes_of, decide, require
from refk8s.core.apiserver.authorize.rules import describe, missing_rules, quoted
from refk8s.core.apiserver.config import Attributes
from refk8s.core.apiserver.exchange import Exchange

GROUP: Final = "rbac.authorization.k8s.io"
_ROLES: Final = (resources.ROLES, resources.CLUSTER_ROLES)
_BINDINGS: Final = (resources.ROLE_BINDINGS, resources.CLUSTER_ROLE_BINDINGS)
_CONCERNED: Final = frozenset(one.prefix for one in (*_ROLES, *_BINDINGS))
_EVERYTHING: Final = (
    PolicyRule(verbs=("*",), api_groups=("*",), resources=("*",)),
    PolicyRule(verbs=("*",), non_resource_urls=("*",)),
)


def require_create(exchange: Exchange) -> None:
    """AUTHZ-8: raise ApiError 403 unless the user may create the object that does not exist."""
    request = exchange.request
    attributes = attributes_of(request.user, request)
    create = Attributes(
        attributes.user,
        "create",
        attributes.group,
        attributes.resource,
        namespace=attributes.namespace,
        name=attributes.name,
        version=attributes.version,
    )
    if exchange.config.authorizer is not None:
        require(create, exchange.store, exchange.config)


def check_further(exchange: Exchange, new: Any, old: Any) -> None:
    """Raise ApiError 403 or 404 if the user lacks a permission that this object needs."""
    resource = exchange.request.resource
    if resource.prefix not in _CONCERNED:  # nearly every write
        return
    if exchange.config.authorizer is None or MASTERS in exchange.request.user.groups:
        return
    if resource in _ROLES:
        _check_role(exchange, new, old)
    else:
        _check_binding(exchange, new, old)


# --- roles and bindings


def _check_role(exchange: Exchange, new: Any, old: Any) -> None:
    """RBAC-7."""
    request = exchange.request
    if _may(exchange, "escalate", GROUP, request.resource.plural, _name_of(request)):
        return
    if old is not None and _is_for_garbage_collection(new, old):
        return
    _confirm(exchange, new.rules or ())
    aggregates = request.resource == resources.CLUSTER_ROLES and new.aggregation_rule is not None
    if aggregates and missing_rules(_held(exchange), _EVERYTHING):
        words = "must have cluster-admin privileges to use the aggregationRule"
        raise ApiError(status.forbidden(request.resource, new.metadata.name or "", words))


def _check_binding(exchange: Exchange, new: Any, old: Any) -> None:
    """RBAC-8."""
    role, namespace = new.role_ref, exchange.request.namespace
    plural = "roles" if role.kind == "Role" else "clusterroles"
    if _may(exchange, "bind", GROUP, plural, role.name):
        return
    if old is not None and _is_for_garbage_collection(new, old):
        return
    kind: Resource = resources.ROLES if role.kind == "Role" else resources.CLUSTER_ROLES
    if role.kind not in ("Role", "ClusterRole") or not role.name:
        return  # validation, which follows, refuses it
    record = exchange.store.get(kind.key(namespace if kind.namespaced else "", role.name))
    if record is None:
        raise ApiError(status.not_found(kind, role.name))
    _confirm(exchange, record.value.rules or ())


def _confirm(exchange: Exchange, wanted: Iterable[PolicyRule]) -> None:
    """Raise ApiError 403 if the user does not hold all these rules."""
    request = exchange.request
    missing = missing_rules(_held(exchange), wanted)
    if not missing:
        return
    user = request.user
    words = (
        f'user "{user.name}" (groups=[{quoted(user.groups)}]) is attempting to grant RBAC '
        "permissions not currently held:\n" + "\n".join(describe(missing))
    )
    problems = _problems(exchange)
    if problems:
        words += f"; resolution errors: [{', '.join(problems)}]"
    body = request.body
    name = request.name or getattr(getattr(body, "metadata", None), "name", None) or ""
    raise ApiError(status.forbidden(request.resource, name, words))


def _held(exchange: Exchange) -> tuple[PolicyRule, ...]:
    roles, request = exchange.config.roles, exchange.request
    if roles is None:
        return ()
    return roles.rules_of(request.user, request.namespace, exchange.store).rules


def _problems(exchange: Exchange) -> tuple[str, ...]:
    roles, request = exchange.config.roles, exchange.request
    if roles is None:
        return ()
    return roles.rules_of(request.user, request.namespace, exchange.store).problems


def _may(exchange: Exchange, verb: str, group: str, plural: str, name: str) -> bool:
    request = exchange.request
    asked = Attributes(request.user, verb, group, plural, "", request.namespace, name, version="*")
    return decide(asked, exchange.store, exchange.config).allowed


def _name_of(request: Request) -> str:
    return "" if request.verb == "create" else request.name


def _is_for_garbage_collection(new: Any, old: Any) -> bool:
    """Whether only what the garbage collector writes has changed: owners and finalizers. Whatever
    is written changes `managedFields` too."""
    metadata = replace(
        new.metadata,
        owner_references=old.metadata.owner_references,
        finalizers=old.metadata.finalizers,
        managed_fields=old.metadata.managed_fields,
        resource_version=old.metadata.resource_version,
    )
    return bool(replace(new, metadata=metadata) == old)


# --- certificates


def check_approval(exchange: Exchange, new: Any, old: Any) -> None:
    """AUTHZ-9: raise ApiError 403 if the user may not approve requests for this signer."""
    _check_signer(exchange, new, "approve")


def check_signature(exchange: Exchange, new: Any, old: Any) -> None:
    """AUTHZ-9: raise ApiError 403 if the user may not sign for this signer."""
    before, after = old.status, new.status
    if after.certificate != before.certificate or after.conditions != before.conditions:
        _check_signer(exchange, new, "sign")


def _check_signer(exchange: Exchange, new: Any, verb: str) -> None:
    if exchange.config.authorizer is None or MASTERS in exchange.request.user.groups:
        return
    signer = new.spec.signer_name
    domain = f"{signer.partition('/')[0]}/*"
    if not any(
        _may(exchange, verb, "certificates.k8s.io", "signers", name) for name in (signer, domain)
    ):
        words = f'user not permitted to {verb} requests with signerName "{signer}"'
        raise ApiError(status.forbidden(exchange.request.resource, new.metadata.name or "", words))
