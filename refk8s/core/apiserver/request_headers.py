"""The user that an authenticating proxy names in headers. Rule HTTP-29 (spec/http.md).

The proxy authenticates the users and connects with a certificate of an authority of its own. What
the handshake says about that certificate decides whether these headers count (`Presented`). Source:
Kubernetes documentation, "Authenticating" (Authenticating Proxy); kube-apiserver reference
(`--requestheader-*`).
"""

import re
from collections.abc import Iterable, Mapping
from typing import Any, Final

from refk8s.core.api import status
from refk8s.core.api.status import ApiError
from refk8s.core.api.user import ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User
from refk8s.core.apiserver.impersonate import extra_key
from refk8s.core.value import Value

Lines = tuple[tuple[bytes, bytes], ...]

NAMES_MAX: Final = 64
"""How many names one flag may have."""
_TOKEN: Final = re.compile(r"[A-Za-z0-9!#$&'*+.^_`|~-]{1,128}")
_RESERVED: Final = re.compile(r"authorization|connection|content-.*|host|impersonate-.*|upgrade")


class BadHeaders(Exception):
    """A flag that cannot be followed: its name and the reason."""


class RequestHeaders(Value, frozen=True):
    """Which headers name the user, and the common names of the proxies that may send them (none:
    any). Names of headers are in lower case."""

    usernames: tuple[bytes, ...]
    allowed_names: frozenset[str] = frozenset()
    uids: tuple[bytes, ...] = ()
    groups: tuple[bytes, ...] = ()
    extra_prefixes: tuple[bytes, ...] = ()

    def is_named(self, header: bytes) -> bool:
        """Whether the header, in lower case, is one of these."""
        return (
            header in self.usernames
            or header in self.uids
            or header in self.groups
            or header.startswith(self.extra_prefixes)
        )

    def is_proxy(self, common_name: str) -> bool:
        """Whether a certificate of the proxies' authority with this name may send the headers."""
        return not self.allowed_names or common_name in self.allowed_names

    def user_of(self, lines: Lines) -> User | None:
        """The user that the headers name; None if no header has a name. Raises ApiError 401 for a
        value that is not UTF-8: replaced characters could make the name of another user."""
        try:
            return self._user_of(lines)
        except UnicodeError:
            raise ApiError(status.unauthorized()) from None

    def _user_of(self, lines: Lines) -> User | None:
        name = _first(lines, self.usernames)
        if not name:
            return None
        groups = [
            value.decode() for group in self.groups for header, value in lines if header == group and value
        ]  # fmt: skip
        if name != ANONYMOUS.name and AUTHENTICATED not in groups and UNAUTHENTICATED not in groups:
            groups.append(AUTHENTICATED)
        extra: dict[str, list[str]] = {}
        for header, value in lines:
            for prefix in self.extra_prefixes:
                if header.startswith(prefix):
                    key = extra_key(header[len(prefix) :].decode())
                    extra.setdefault(key, []).append(value.decode())
        fields = tuple([(key, tuple(extra[key])) for key in sorted(extra)])
        return User(name, _first(lines, self.uids), tuple(groups), fields)


def _first(lines: Lines, names: tuple[bytes, ...]) -> str:
    """The value of the first of these headers that has one. Of a repeated header the first counts."""
    for name in names:
        value = next((value for header, value in lines if header == name), b"")
        if value:
            return value.decode()
    return ""


class Presented(Value, frozen=True):
    """What a handshake has shown of the client's certificate. `user`: the one in its subject, if an
    authority of the clients has signed it. `is_proxy`: the authority of the proxies has signed it,
    for an allowed name. A certificate that is neither is not valid."""

    user: User | None = None
    is_proxy: bool = False
    is_valid: bool = True


NO_CERTIFICATE: Final = Presented()
INVALID: Final = Presented(is_valid=False)


def user_of_connection(
    presented: Presented, lines: Lines, headers: Mapping[str, str], config: RequestHeaders
) -> User | None:
    """The user by the certificate of the connection (HTTP-29); None if only a token can tell.
    `lines`: the headers that name a user. Raises ApiError 401 for a certificate without a user, if
    there is no token either."""
    if presented.is_proxy and (user := config.user_of(lines)) is not None:
        return user
    if presented.user is None and not presented.is_valid and "authorization" not in headers:
        raise ApiError(status.unauthorized())
    return presented.user


def read_flags(flags: Mapping[str, Any]) -> RequestHeaders:
    """The flags `--requestheader-*` besides that of the authority. Raises BadHeaders."""
    found = {name: _names(name, flags[name]) for name in _HEADERS}
    if not found["username_headers"]:
        raise BadHeaders("--requestheader-username-headers: required with the authority")
    return RequestHeaders(
        found["username_headers"],
        frozenset([one for one in flags["allowed_names"].split(",") if one]),
        found["uid_headers"],
        found["group_headers"],
        found["extra_headers_prefix"],
    )


_HEADERS: Final = ("username_headers", "uid_headers", "group_headers", "extra_headers_prefix")


def _names(flag: str, text: str) -> tuple[bytes, ...]:
    names: Iterable[str] = [one.strip() for one in text.split(",")] if text else ()
    found: list[bytes] = []
    for name in names:
        where = f"--requestheader-{flag.replace('_', '-')} {name}"
        if not _TOKEN.fullmatch(name):
            raise BadHeaders(f"{where}: not the name of a header")
        if _RESERVED.fullmatch(name.lower()):
            raise BadHeaders(f"{where}: this header has another meaning")
        found.append(name.lower().encode())
    if len(found) > NAMES_MAX:
        raise BadHeaders(f"--requestheader-{flag.replace('_', '-')}: more than {NAMES_MAX} names")
    return tuple(found)
