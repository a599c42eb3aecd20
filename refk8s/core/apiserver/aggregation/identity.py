"""How another API server gets to know who asks. Rule APISVC-6 (spec/api_services.md).

This server has authenticated the user. The other one believes the headers because the connection
has the certificate of this server (request header authentication). Source: Kubernetes
documentation, "Configure the Aggregation Layer" (Kubernetes Apiserver Proxies the Request),
"Authenticating" (Authenticating Proxy).
"""

from __future__ import annotations

import re
from typing import Final

from refk8s.core.api.user import MASTERS, User
from refk8s.core.apiserver.proxy import Headers

USER, GROUP, UID, EXTRA = "x-remote-user", "x-remote-group", "x-remote-uid", "x-remote-extra-"
AGGREGATOR: Final = User("system:kube-aggregator")
"""The user who reads the discovery of other servers, as upstream."""
PROBING: Final = User("system:kube-aggregator", groups=(MASTERS,))
"""The same one as it finds out whether they are available: it may always."""
_TOKEN = re.compile(rb"[A-Za-z0-9!#$&'*+.^_`|~-]")
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")


def identity_headers(user: User) -> Headers:
    """The headers that name the user. Raises ValueError if one cannot be written: a user is never
    named in part."""
    found: list[tuple[str, str]] = [(USER, user.name)]
    if user.uid:
        found.append((UID, user.uid))
    found += [(GROUP, group) for group in user.groups]
    for key, values in user.extra:
        found += [(EXTRA + _escaped(key), value) for value in values]
    lines = [(name.encode("ascii"), value.encode("utf-8")) for name, value in found]
    for name, value in lines:
        if _CONTROL.search(value):
            raise ValueError(f'invalid header field value for "{name.decode().title()}"')
    return lines


def _escaped(key: str) -> str:
    """A key in the name of a header: what no name can have is percent-encoded."""
    return "".join(
        chr(byte) if _TOKEN.fullmatch(bytes((byte,))) else f"%{byte:02X}"
        for byte in key.lower().encode("utf-8")
    )
