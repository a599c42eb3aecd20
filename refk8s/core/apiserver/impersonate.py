"""Impersonation: a user acts as another one that the headers name. Rule HTTP-23 (spec/http.md).

`kubectl --as` sends `Impersonate-User`, `-Group` (repeated), `-Uid` and `-Extra-KEY` (repeated).
The authenticated user needs the verb `impersonate` on each. Then the request is handled as one of
the named user. Source: Kubernetes documentation, "User impersonation". Left out: constrained
impersonation (KEP-5284), whose verbs need an authorizer that supports them.
"""

import re
from collections.abc import Iterable
from typing import Final
from urllib.parse import unquote

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import (
    ANONYMOUS,
    AUTHENTICATED,
    SERVICE_ACCOUNT_PREFIX,
    UNAUTHENTICATED,
    User,
    service_account_groups,
)
from refk8s.core.apiserver.authorize import decide, forbidden
from refk8s.core.apiserver.config import Attributes, Config
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.validation.names import dns_label, dns_subdomain

GROUP: Final = "authentication.k8s.io"
_EXTRA: Final = "impersonate-extra-"
_NO_ESCAPE: Final = re.compile(r"%(?![0-9a-fA-F]{2})")


def impersonate(
    user: User, headers: Iterable[tuple[str, str]], store: Reader, config: Config
) -> User:
    """The user that the headers name, or `user` if they name none (HTTP-23).

    `headers`: those that begin with `impersonate-`, in lower case and in order. Raises ApiError 500
    for a group, uid or extra field without a user, as upstream; ApiError 403 if the authorizer
    forbids one of them.
    """
    name, uid = "", ""
    groups: list[str] = []
    extra: dict[str, list[str]] = {}
    for header, value in headers:
        if header == "impersonate-user":
            name = name or value  # as upstream, the first one counts
        elif header == "impersonate-uid":
            uid = uid or value
        elif header == "impersonate-group":
            groups.append(value)
        elif header.startswith(_EXTRA):
            extra.setdefault(extra_key(header[len(_EXTRA) :]), []).append(value)
    if not name:
        if uid or groups or extra:
            words = "impersonation of a group, uid or extra field needs the header Impersonate-User"
            raise ApiError(status.internal_error(words))
        return user
    account = _account(name)
    if account is not None:
        namespace, account_name = account
        attributes = Attributes(
            user, "impersonate", resource="serviceaccounts", namespace=namespace, name=account_name
        )
        _require(attributes, store, config)
    else:
        _require(Attributes(user, "impersonate", resource="users", name=name), store, config)
    for group in groups:
        _require(Attributes(user, "impersonate", resource="groups", name=group), store, config)
    extra_fields = tuple([(key, tuple(extra[key])) for key in sorted(extra)])
    for key, values in extra_fields:
        for value in values:
            _require(
                Attributes(user, "impersonate", GROUP, "userextras", key, name=value, version="v1"),
                store,
                config,
            )
    if uid:
        asked = Attributes(user, "impersonate", GROUP, "uids", name=uid, version="v1")
        _require(asked, store, config)
    if account is not None and not groups:
        groups = [*service_account_groups(account[0])]
    if name == ANONYMOUS.name:
        groups += [UNAUTHENTICATED] if UNAUTHENTICATED not in groups else []
    elif AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
        groups.append(AUTHENTICATED)
    return User(name, uid, tuple(groups), extra_fields)


def _require(attributes: Attributes, store: Reader, config: Config) -> None:
    """Raise ApiError 403 if the user may not impersonate this. As upstream, also if an authorizer
    fails."""
    decision = decide(attributes, store, config)
    if not decision.allowed or decision.problem:
        raise forbidden(attributes, decision)


def _account(name: str) -> tuple[str, str] | None:
    """Namespace and name of the service account with this user name."""
    namespace, _, account = name.removeprefix(SERVICE_ACCOUNT_PREFIX).partition(":")
    if (
        not name.startswith(SERVICE_ACCOUNT_PREFIX)
        or dns_label(namespace)
        or dns_subdomain(account)
    ):
        return None
    return namespace, account


def extra_key(text: str) -> str:
    """The key of an extra field. Characters that a header name cannot contain are percent-encoded;
    an invalid encoding is kept unchanged."""
    return text.lower() if _NO_ESCAPE.search(text) else unquote(text.lower(), errors="replace")
