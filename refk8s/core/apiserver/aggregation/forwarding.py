"""The request that is passed on to another API server, and what its answer becomes. Rules APISVC-5,
APISVC-6, APISVC-8 (spec/api_services.md).

Source: Kubernetes documentation, "Configure the Aggregation Layer" (Kubernetes Apiserver Proxies
the Request); RFC 9110, section 7.6.1.
"""

from __future__ import annotations

from typing import Final

from refk8s.core.api.user import User
from refk8s.core.apiserver.aggregation.identity import identity_headers
from refk8s.core.apiserver.aggregation.remotes import Remote
from refk8s.core.apiserver.proxy import Headers, Origin, compute_request

REDIRECTED: Final = "the backend attempted to redirect this request, which is not permitted"


def compute_head(
    remote: Remote,
    user: User,
    method: str,
    target: str,
    headers: Headers,
    client: str,
    upgrade: bytes = b"",
) -> bytes:
    """The head of the request: that of the client, with the user as this server knows him
    (APISVC-6). `client`: the address of the client. Raises ValueError if the user cannot be
    written in a header."""
    own = [pair for pair in headers if pair[0].lower() != b"host"]
    host = f"{remote.host}:{remote.service.port}".encode()
    added = [(b"host", host), *identity_headers(user)]
    return compute_request(method, target, own, Origin(client, "", "", ""), upgrade, added)


def is_redirect(code: int, location: bytes) -> bool:
    """Whether an answer leads elsewhere; this server goes nowhere else, nor sends its clients there
    (APISVC-8)."""
    return 300 <= code < 400 and bool(location)
