"""Whether another API server is available, and what it serves. Rules APISVC-9, APISVC-10
(spec/api_services.md).

The Service and its endpoints are looked at first, then the other server is asked for its discovery
document. The first question does not verify its certificate and is that of an administrator, so the
condition says whether there is a server. The second question is asked as every request is, so its
answer says what clients can reach.

Source: Kubernetes documentation, "Kubernetes API Aggregation Layer"; upstream's availability
controller and its aggregation of discovery.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

import msgspec

from refk8s.core.api import status
from refk8s.core.api.aggregated import LOCAL, Availability, RemoteResource
from refk8s.core.api.request import Response
from refk8s.core.api.resources import API_SERVICES, ENDPOINT_SLICES, SERVICES
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.aggregation.identity import AGGREGATOR, PROBING, identity_headers
from refk8s.core.apiserver.aggregation.remotes import Remote, remote_of
from refk8s.core.apiserver.calls import Answered, Call, Calls, Result, ask

if TYPE_CHECKING:
    from refk8s.core.api.user import User
    from refk8s.core.apiserver.exchange import Exchange
    from refk8s.core.apiserver.outcome import Reader

ATTEMPTS: Final = 5
"""How many times the other server is asked at the same time; one success suffices, as upstream."""
SECONDS: Final = 5.0
DOCUMENT_BYTES_MAX: Final = 1 << 20
RESOURCES_MAX: Final = 512
TEXT_LENGTH_MAX: Final = 253
ITEMS_MAX: Final = 32


PASSED: Final = ("Passed", "all checks passed")


def check(exchange: Exchange) -> Response:
    """The availability of the API server that an APIService names. Only the API server itself asks
    for it. Raises Needed, and ApiError 404."""
    request, store = exchange.request, exchange.store
    record = store.get(API_SERVICES.key("", request.name))
    if record is None:
        raise ApiError(status.not_found(API_SERVICES, request.name))
    remote = remote_of(record.value)
    if remote is None:
        return Response(200, LOCAL)
    if (problem := problem_of_service(remote, store)) is not None:
        return Response(200, problem)
    questions = [_question(remote, PROBING, number) for number in range(ATTEMPTS)]
    problems = [_problem(remote, result) for result in ask(exchange.calls, *questions)]
    if all(problems):
        return Response(200, Availability(False, "FailedDiscoveryCheck", problems[-1]))
    document, schemas = ask(
        exchange.calls,
        _question(remote, AGGREGATOR, 0),
        _question(remote, AGGREGATOR, 1, "/openapi/v3"),
    )
    return Response(
        200, Availability(True, *PASSED, read_resources(document), _hash_of(remote, schemas))
    )


def problem_of_service(remote: Remote, store: Reader) -> Availability | None:
    """What is wrong with the Service, without asking anybody; None if nothing is."""
    port = remote.service
    record = store.get(SERVICES.key(port.namespace, port.name))
    where = f"service/{port.name} in {status.show(port.namespace)}"
    if record is None:
        return Availability(False, "ServiceNotFound", f"{where} is not present")
    spec = record.value.spec
    if (spec.type or "ClusterIP") != "ClusterIP":
        return None
    names = [one.name or "" for one in spec.ports or () if one.port == port.port]
    if not names:
        words = f"{where} is not listening on port {port.port}"
        return Availability(False, "ServicePortError", words)
    prefix = f"{ENDPOINT_SLICES.prefix}{port.namespace}/"
    slices = [
        one.value
        for one in store.list(prefix).records
        if (one.value.metadata.labels or {}).get("kubernetes.io/service-name") == port.name
    ]
    if not slices:
        words = f"cannot find endpointslices for {where}"
        return Availability(False, "EndpointsNotFound", words)
    if not any(_has_endpoint(one, names[0]) for one in slices):
        words = (
            f"endpointslices for {where} have no addresses with port name {status.show(names[0])}"
        )
        return Availability(False, "MissingEndpoints", words)
    return None


def _has_endpoint(endpoint_slice: Any, port_name: str) -> bool:
    has_port = any(
        (one.name or "") == port_name and one.port is not None for one in endpoint_slice.ports or ()
    )
    return has_port and any(
        one.conditions is None or one.conditions.ready is not False
        for one in endpoint_slice.endpoints or ()
    )


def _question(remote: Remote, user: User, number: int, path: str = "") -> Any:
    """A GET of the other server, as this user."""
    target = path or remote.root

    def make(calls: Calls) -> Call:
        place = f"{remote.name} {target} {number}".encode()
        is_probe = user is PROBING
        return Call(
            calls.id_of(b"discovery", place, b"probe" if is_probe else b""),
            remote.url(target),
            remote.service,
            b"" if is_probe else remote.ca_bundle,
            b"",
            SECONDS,
            DOCUMENT_BYTES_MAX,
            method="GET",
            content_type="",
            headers=tuple(identity_headers(user)),
            is_verified=remote.is_verified and not is_probe,
            is_of_proxy=True,
        )

    return make


def _problem(remote: Remote, result: Result) -> str:
    """Why an answer shows no server; empty if it shows one."""
    url = remote.url(remote.root)
    where = f"failing or missing response from {url}: "
    if not isinstance(result, Answered):
        return where + result.why
    if not 200 <= result.code < 300:
        return f"{where}bad status from {url}: {result.code}"
    return ""


# --- what it serves -------------------------------------------------------------------------------


class _Entry(msgspec.Struct, rename="camel"):
    name: str
    kind: str
    namespaced: bool
    singular_name: str = ""
    verbs: list[str] = []
    group: str = ""
    version: str = ""
    short_names: list[str] = []
    categories: list[str] = []


class _List(msgspec.Struct):
    resources: list[_Entry]


_read_list = msgspec.json.Decoder(_List).decode


def read_resources(result: Result) -> tuple[RemoteResource, ...] | None:
    """The resources in an APIResourceList; None for anything else, and for one that is too long
    for discovery."""
    if not isinstance(result, Answered) or result.code != 200:
        return None
    try:
        entries = _read_list(result.body).resources
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    if len(entries) > RESOURCES_MAX or not all(_is_short(entry) for entry in entries):
        return None
    return tuple(
        [
            RemoteResource(
                one.name,
                one.singular_name,
                one.kind,
                one.namespaced,
                tuple(one.verbs),
                one.group,
                one.version,
                tuple(one.short_names),
                tuple(one.categories),
            )
            for one in sorted(entries, key=lambda entry: entry.name)
        ]
    )


def _is_short(entry: _Entry) -> bool:
    lists = (entry.verbs, entry.short_names, entry.categories)
    texts = [entry.name, entry.kind, entry.singular_name, entry.group, entry.version]
    return (
        bool(entry.name and entry.kind)
        and all(len(one) <= ITEMS_MAX for one in lists)
        and all(len(text) <= TEXT_LENGTH_MAX for one in (texts, *lists) for text in one)
    )


def _hash_of(remote: Remote, result: Result) -> str:
    """The hash of the OpenAPI document of the group version in an index of such documents; "none"
    if the index has the document without one, and empty without the document (DISC-8)."""
    if not isinstance(result, Answered) or result.code != 200:
        return ""
    try:
        tree = msgspec.json.decode(result.body)
        url = tree["paths"][remote.root[1:]]["serverRelativeURL"]
        found = parse_qs(urlsplit(url).query).get("hash", [""])[0]
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, LookupError, TypeError, ValueError, AttributeError):  # fmt: skip
        return ""
    return found if found.isalnum() and len(found) <= TEXT_LENGTH_MAX else "none"
