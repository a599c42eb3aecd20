"""The proxy subresources: where a request is sent, and the headers of both directions. Rules
STREAM-11 ... STREAM-15 (spec/streams.md).

Source: Kubernetes documentation, "Access Services Running on Clusters" (URLs of the proxy);
Kubernetes API reference, "connect GET requests to proxy of Pod"; RFC 9110, section 7.6.1
(hop-by-hop headers).
"""

import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any
from urllib.parse import unquote

from refk8s.core.api import status
from refk8s.core.api.core_v1 import Pod, Service
from refk8s.core.api.discovery_v1 import EndpointSlice
from refk8s.core.api.status import ApiError
from refk8s.core.value import Value

Headers = Sequence[tuple[bytes, bytes]]

PATHS = re.compile(rb"/api/v1/(?:namespaces/[^/]+/(?:pods|services)|nodes)/[^/]+/proxy(/[^?]*)?")
"""The percent-encoded path of a proxied request; the group is the part after `proxy`."""
SCHEMES = {"": "http", "http": "http", "https": "https"}
HOP_BY_HOP = frozenset((
    b"connection", b"keep-alive", b"proxy-authenticate", b"proxy-authorization", b"proxy-connection", b"te", b"trailer",
    b"transfer-encoding", b"upgrade",
))  # fmt: skip
CREDENTIALS = frozenset((b"authorization", b"x-remote-user", b"x-remote-group", b"x-remote-uid"))
"""What the API server has used itself: the destination must not get it."""
_IMPERSONATION = (b"impersonate-", b"x-remote-extra-")
_FORWARDED = frozenset((
    b"x-forwarded-for", b"x-forwarded-host", b"x-forwarded-proto", b"x-forwarded-uri",
))  # fmt: skip
_CORS = frozenset((
    b"access-control-allow-credentials", b"access-control-allow-headers", b"access-control-allow-methods", b"access-control-allow-origin",
))  # fmt: skip
_TOKEN = re.compile(rb"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


class Named(Value, frozen=True):
    """The destination in a URL: `[scheme:]name[:port]`."""

    scheme: str
    name: str
    port: str = ""


def split_name(text: str, kind: str) -> Named:
    """The parts of the name in a URL. Raises ApiError 400 for any other text (STREAM-11)."""
    parts = text.split(":")
    scheme, name, port = "", parts[0], ""
    if len(parts) == 2:
        port = parts[1]
    elif len(parts) == 3:
        scheme, name, port = parts
    if len(parts) > 3 or scheme not in SCHEMES or (len(parts) == 3 and not scheme):
        raise ApiError(status.bad_request(f"invalid {kind} request {status.show(text)}"))
    if not _NAME.fullmatch(name):
        raise ApiError(status.bad_request(f"invalid {kind} request {status.show(text)}"))
    return Named(SCHEMES[scheme], name, port)


def rest_of(raw_path: bytes) -> str | None:
    """The path after `proxy`, percent-encoded as it came; "" if nothing follows it; None for a path
    that is written in another way than PATHS."""
    found = PATHS.fullmatch(raw_path)
    return None if found is None else (found[1] or b"").decode("latin-1")


# --- the destination ------------------------------------------------------------------------------


def choose_pod_port(pod: Pod, named: Named) -> int:
    """The port number: that of the URL, else the first that a container declares, else that of the
    scheme. Raises ApiError 400 for a port that is no number (STREAM-12)."""
    if named.port:
        return _number(named.port)
    for container in pod.spec.containers:
        for port in container.ports or ():
            return port.container_port
    return 443 if named.scheme == "https" else 80


def _number(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 5 and 0 < int(text) < 1 << 16):
        raise ApiError(status.bad_request(f"invalid port {status.show(text)}"))
    return int(text)


class Endpoint(Value, frozen=True):
    """A ready endpoint of a service: the pod, the address that its slice has, and the port."""

    pod: str
    uid: str
    address: str
    port: int


def list_endpoints(
    service: Service, named: Named, slices: Iterable[EndpointSlice]
) -> list[Endpoint]:
    """The ready endpoints for the service's port in the URL (STREAM-13): by name, or by number.
    Only endpoints that are pods of the service's namespace. Raises ApiError 503 for a port number
    that the service does not have."""
    namespace = service.metadata.namespace
    found = []
    for endpoint, port in _ready(service, named, slices):
        target = endpoint.target_ref
        if (
            target is not None
            and target.kind == "Pod"
            and target.name
            and target.namespace in (None, "", namespace)
        ):
            address = endpoint.addresses[0]
            found.append(Endpoint(target.name, target.uid or "", address, port))
    return found


def list_addresses(
    service: Service, named: Named, slices: Iterable[EndpointSlice]
) -> list[tuple[str, int]]:
    """The (address, port) of each ready endpoint that is no pod, for the service's port. Raises
    ApiError 503."""
    return [
        (endpoint.addresses[0], port)
        for endpoint, port in _ready(service, named, slices)
        if endpoint.target_ref is None or endpoint.target_ref.kind != "Pod"
    ]


def _ready(
    service: Service, named: Named, slices: Iterable[EndpointSlice]
) -> Iterator[tuple[Any, int]]:
    """The ready endpoints for the service's port, each with its port number."""
    wanted = named.port
    if wanted.isascii() and wanted.isdigit():
        for port in service.spec.ports or ():
            if str(port.port) == wanted:
                wanted = port.name or ""
                break
        else:
            name = service.metadata.name
            words = f"no service port {wanted} found for service {status.show(name)}"
            raise ApiError(status.unavailable(words))
    for one in slices:
        numbers = [
            port.port for port in one.ports or () if (port.name or "") == wanted and port.port
        ]
        for endpoint in one.endpoints or ():
            is_ready = endpoint.conditions is None or endpoint.conditions.ready is not False
            if numbers and is_ready and endpoint.addresses:
                yield endpoint, numbers[0]


def is_endpoint_of(endpoint: Endpoint, pod: Pod) -> bool:
    """Whether the pod is the one of the endpoint and has its address (STREAM-13)."""
    reported = pod.status
    addresses = {one.ip for one in (reported.pod_ips if reported is not None else None) or ()}
    is_same = not endpoint.uid or endpoint.uid == pod.metadata.uid
    return is_same and endpoint.address in addresses


# --- the headers ----------------------------------------------------------------------------------


def _hop_by_hop(headers: Headers) -> frozenset[bytes]:
    """The headers for the next hop only: the known ones, and those that Connection names."""
    named = [
        token.strip().lower()
        for name, value in headers
        if name.lower() == b"connection"
        for token in value.split(b",")
    ]
    return HOP_BY_HOP | frozenset(named)


class Origin(Value, frozen=True):
    """Where the client has sent its request: the address of the client, and scheme, host and path
    of the URL up to and including `proxy`. What is empty is not passed on."""

    client: str
    host: str
    prefix: str
    scheme: str = "https"


def compute_request(
    method: str,
    target: str,
    headers: Headers,
    origin: Origin,
    upgrade: bytes = b"",
    added: Headers = (),
) -> bytes:
    """The head of the request to the destination (STREAM-15). `target`: path and query. `upgrade`:
    the protocol that the client changes to. `added`: headers of the API server, which are valid.
    The body has the length that the client announces, or is sent in chunks."""
    dropped = _hop_by_hop(headers) | CREDENTIALS | _FORWARDED | {b"expect"}
    lines = [f"{method} {target} HTTP/1.1".encode("latin-1")]
    forwarded = [
        value
        for name, value in headers
        if name.lower() == b"x-forwarded-for" and _is_plain(name, value)
    ]
    is_chunked = False
    for name, value in headers:
        lower = name.lower()
        is_chunked = is_chunked or lower == b"transfer-encoding"
        if lower not in dropped and not lower.startswith(_IMPERSONATION) and _is_plain(name, value):
            lines.append(name + b": " + value)
    if is_chunked:
        lines = [line for line in lines if not line.lower().startswith(b"content-length:")]
        lines.append(b"transfer-encoding: chunked")
    lines += [name + b": " + value for name, value in added]
    client = origin.client.encode("latin-1")
    lines.append(b"x-forwarded-for: " + b", ".join([*forwarded, client]))
    path = unquote(origin.prefix, errors="replace") + target.partition("?")[0]
    for header, text in (
        ("x-forwarded-host", origin.host),
        ("x-forwarded-proto", origin.scheme),
        ("x-forwarded-uri", path if origin.scheme else ""),
    ):
        line = f"{header}: {text}".encode("utf-8", "replace")
        if text and _is_plain(b"a", line):
            lines.append(line)
    if upgrade and _is_plain(b"upgrade", upgrade):
        lines += [b"connection: Upgrade", b"upgrade: " + upgrade]
    else:
        lines.append(b"connection: close")
    return b"\r\n".join(lines) + b"\r\n\r\n"


def _is_plain(name: bytes, value: bytes) -> bool:
    return _TOKEN.fullmatch(name) is not None and not set(value) & set(b"\r\n\0")


def compute_headers(headers: Headers) -> list[tuple[bytes, bytes]]:
    """The headers of the answer to the client: without those of the connection, and without those
    that would let other sites read the API server's answers."""
    dropped = _hop_by_hop(headers) | _CORS
    return [
        (name.lower(), value)
        for name, value in headers
        if name.lower() not in dropped and _is_plain(name, value)
    ]
