"""Get and list: which state of the store is read, and which part of it. Rules LIST-1 to LIST-12,
LIST-15 (spec/watch_api.md).

| resourceVersion | resourceVersionMatch | limit | state read |
|---|---|---|---|
| not given or "0" | - | any | the present one |
| N | NotOlderThan, or none given without a limit | any | the present one; 504 when N has not been reached |
| N | Exact, or none given with a limit | any | the one at N; 410 when it is compacted, 504 when it has not been reached |
| in `continue` | - | any | the one of the first page; 410 when it is compacted |

Source: Kubernetes documentation, "Kubernetes API Concepts", "Resource versions" and "Retrieving
large results sets in chunks".
"""

import base64
import binascii
import json
from typing import Any

from refk8s.core.api import status
from refk8s.core.api.custom import CustomList
from refk8s.core.api.integer import UINT64_MAX, parse_uint64
from refk8s.core.api.meta_v1 import ListMeta, Status, StatusCause, StatusDetails
from refk8s.core.api.request import Options, Request, Response
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError, Cause
from refk8s.core.apiserver.exchange import Exchange
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.selection import Selection, select
from refk8s.core.apiserver.strategy import strategy_of
from refk8s.core.store import Compacted, FutureRevision, Page, Record

EXACT, NOT_OLDER_THAN = "Exact", "NotOlderThan"

# The items of a list have no kind and apiVersion, which follow from the list; see respond.py.

_TOO_OLD_PAGE = (
    "The provided continue parameter is too old to display a consistent list result. "
    "You can start a new list without the continue "
    "parameter, or use the continue token in this response to retrieve the remainder of the "
    "results. Continuing with the provided token "
    "results in an inconsistent list - objects that were created, modified, "
    "or deleted between the time the first chunk was returned and "
    "now may show up in the list."
)


def find(request: Request, store: Reader) -> Record[Any]:
    """The record of the object that the request names. Raises ApiError 404 if there is none, 400
    for an invalid name (API-10)."""
    record = find_or_none(request, store)
    if record is None:
        raise ApiError(status.not_found(request.resource, request.name))
    return record


def find_or_none(request: Request, store: Reader) -> Record[Any] | None:
    """As `find`; None if there is no such object."""
    name = request.name
    if not name or "/" in name or "%" in name or name in (".", ".."):
        raise ApiError(status.bad_request(f"Name parameter invalid: {status.show(name)}"))
    return store.get(request.resource.key(request.namespace, name))


def get(exchange: Exchange) -> Response:
    """One object, never older than the requested resourceVersion (LIST-2)."""
    request, store = exchange.request, exchange.store
    if request.options.resource_version:
        check_reached(parse_revision(request.options.resource_version), store)
    record = find(request, store)
    return Response(200, record.value, (record,))


def list_objects(exchange: Exchange) -> Response:
    """A list, or a page of one."""
    request, options = exchange.request, exchange.request.options
    if options.resource_version_match or options.send_initial_events is not None:
        check_list_options(options)
    selection = select(
        request.resource, request.namespace, options.label_selector, options.field_selector
    )
    page = read(selection, options, exchange.store)
    metadata = meta_of(page, selection, options)
    return list_response(request.resource, page.records, metadata, selection.prefix)


def list_response(
    resource: Resource, records: tuple[Record[Any], ...], metadata: ListMeta, prefix: str = ""
) -> Response:
    """The list object of these records."""
    items = tuple([record.value for record in records])
    if resource.is_custom:
        return Response(
            200,
            CustomList(
                kind=resource.list_kind,
                api_version=resource.api_version,
                metadata=metadata,
                items=items,
            ),
            records,
            prefix=prefix,
        )
    body = resource.list_type(metadata=metadata, items=items)  # type: ignore[call-arg]
    return Response(200, body, records, prefix=prefix)


def read(selection: Selection, options: Options, store: Reader) -> Page[Any]:
    """The selected records in the state that the options determine, at most `limit`, in the order
    of keys (LIST-1, LIST-4)."""
    limit: int | None = options.limit if options.limit > 0 else None
    at: int | None = None
    after: str | None = None
    if options.continue_:
        if options.resource_version not in ("", "0"):
            raise ApiError(
                status.bad_request("specifying resource version is not allowed when using continue")
            )
        at, after = parse_continue(options.continue_, selection.prefix)
    elif options.resource_version == "0":
        # as from a watch cache, which returns the whole list (LIST-6)
        limit = None
    elif options.resource_version:
        revision = parse_revision(options.resource_version, of_list=True)
        if options.resource_version_match == EXACT or (
            limit is not None and not options.resource_version_match
        ):
            at = revision
        else:
            check_reached(revision, store)
    try:
        return _page(selection, store, at, after, limit)
    except Compacted:
        if after is not None:
            token = make_continue(-1, selection.prefix, after)
            raise ApiError(_expired(_TOO_OLD_PAGE, token)) from None  # LIST-7
        raise ApiError(
            _expired("The resourceVersion for the provided list is too old.", None)
        ) from None
    except FutureRevision:
        raise ApiError(too_large(at or 0, store.revision)) from None


def _page(
    selection: Selection, store: Reader, at: int | None, after: str | None, limit: int | None
) -> Page[Any]:
    matches = selection.matches
    if selection.name:  # LIST-15
        record = store.get(selection.key, at)
        found = (
            record is not None
            and (after is None or record.key > after)
            and (matches is None or matches(record.value))
        )
        records: tuple[Record[Any], ...] = (record,) if record is not None and found else ()
        return Page(records, store.revision if at is None else at, False, 0)
    if matches is None:
        return store.list(selection.prefix, at, after, limit)
    page = store.list(selection.prefix, at, after)
    chosen = tuple([record for record in page.records if matches(record.value)])
    if limit is None or len(chosen) <= limit:
        return Page(chosen, page.revision, False, 0)
    return Page(chosen[:limit], page.revision, True, len(chosen) - limit)


def meta_of(page: Page[Any], selection: Selection, options: Options) -> ListMeta:
    """The metadata of the list: its revision, and the continue token if more items follow
    (LIST-5)."""
    if not page.more:
        return ListMeta(resource_version=str(page.revision))
    return ListMeta(
        resource_version=str(page.revision),
        continue_=make_continue(page.revision, selection.prefix, page.records[-1].key),
        # As upstream, the remaining items are counted only without selectors: with them, everything
        # would have to be read.
        remaining_item_count=page.remaining if selection.matches is None else None,
    )


# --- Revisions


def parse_revision(text: str, *, of_list: bool = False) -> int:
    """A resourceVersion as a number. Raises ApiError 400 for any other text (LIST-8, divergence
    D-26)."""
    try:
        return parse_uint64(text)
    except ValueError as error:
        words = f"resourceVersion: Invalid value: {status.show(text)}: {error}"
        raise ApiError(
            status.bad_request(f"invalid resource version: {words}" if of_list else words)
        ) from None


def check_reached(revision: int, store: Reader) -> None:
    """Raise ApiError 504 if the store has not reached this revision (LIST-9)."""
    if revision > store.revision:
        raise ApiError(too_large(revision, store.revision))


def too_large(revision: int, current: int) -> Status:
    """504 Timeout: the revision has not been reached. The client may retry."""
    causes = (StatusCause(reason="ResourceVersionTooLarge", message="Too large resource version"),)
    details = StatusDetails(causes=causes, retry_after_seconds=1)
    return status.failure(
        504, "Timeout", f"Too large resource version: {revision}, current: {current}", details
    )


def _expired(message: str, token: str | None) -> Status:
    failure = status.expired(message)
    return Status(
        metadata=ListMeta(continue_=token),
        status=failure.status,
        message=message,
        reason=failure.reason,
        code=failure.code,
    )


# --- Continue tokens: the revision of the first page, and the key to continue after


def make_continue(revision: int, prefix: str, last_key: str) -> str:
    """A token. Revision -1 means the present state at the time of the next request (an inconsistent
    continuation, LIST-7)."""
    # The least possible next key: the last one and a NUL, which no name contains.
    body = json.dumps(
        {"v": "meta.k8s.io/v1", "rv": revision, "start": last_key[len(prefix) :] + "\0"},
        separators=(",", ":"),
    )
    return base64.urlsafe_b64encode(body.encode()).rstrip(b"=").decode()


def parse_continue(token: str, prefix: str) -> tuple[int | None, str]:
    """(revision, or None for the present one; the key to continue after). Raises ApiError 400 for a
    token that this server did not issue (LIST-8)."""
    try:
        tree = json.loads(
            base64.b64decode(
                token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True
            )
        )
        version, revision, start = tree["v"], tree["rv"], tree["start"]
    except (ValueError, KeyError, TypeError, RecursionError, binascii.Error, UnicodeError):
        raise ApiError(status.bad_request("continue key is not valid")) from None
    if version != "meta.k8s.io/v1":
        words = (
            "continue key is not valid: server does not recognize this encoded version "
            f"{status.show(version)}"
        )
        raise ApiError(status.bad_request(words))
    if type(revision) is not int or not -1 <= revision <= UINT64_MAX or revision == 0:
        raise ApiError(
            status.bad_request(
                "continue key is not valid: incorrect encoded start resourceVersion (version "
                "meta.k8s.io/v1)"
            )
        )
    if not isinstance(start, str) or not start:
        raise ApiError(
            status.bad_request(
                "continue key is not valid: encoded start key empty (version meta.k8s.io/v1)"
            )
        )
    if ".." in start.split("/"):
        raise ApiError(status.bad_request(f"continue key is not valid: {status.show(start)}"))
    return (None if revision == -1 else revision), prefix + start.removesuffix("\0")


# --- Options


def check_list_options(options: Options) -> None:
    """Raise ApiError 422 for an invalid combination of options (LIST-10)."""
    causes: list[Cause] = []
    if match := options.resource_version_match:
        if not options.resource_version:
            causes.append(
                _forbidden_match(
                    "resourceVersionMatch is forbidden unless resourceVersion is provided"
                )
            )
        if options.continue_:
            causes.append(
                _forbidden_match("resourceVersionMatch is forbidden when continue is provided")
            )
        if match not in (EXACT, NOT_OLDER_THAN):
            detail = 'supported values: "Exact", "NotOlderThan", ""'
            causes.append(Cause(status.NOT_SUPPORTED, "resourceVersionMatch", detail, match))
        if match == EXACT and options.resource_version == "0":
            causes.append(
                _forbidden_match(
                    'resourceVersionMatch "exact" is forbidden for resourceVersion "0"'
                )
            )
    if options.send_initial_events is not None:
        causes.append(
            Cause(status.FORBIDDEN, "sendInitialEvents", "sendInitialEvents is forbidden for list")
        )
    if causes:
        raise ApiError(invalid_options("ListOptions", causes))


def check_watch_options(options: Options) -> None:
    """The same for watches (WATCHAPI-2)."""
    causes: list[Cause] = []
    match = options.resource_version_match
    if options.send_initial_events is not None and match != NOT_OLDER_THAN:
        causes.append(
            _forbidden_match(
                "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan"
            )
        )
    if match:
        if options.send_initial_events is None:
            causes.append(
                _forbidden_match(
                    "resourceVersionMatch is forbidden for watch unless "
                    "sendInitialEvents is provided"
                )
            )
        if match != NOT_OLDER_THAN:
            causes.append(
                Cause(
                    status.NOT_SUPPORTED,
                    "resourceVersionMatch",
                    'supported values: "NotOlderThan"',
                    match,
                )
            )
        if options.continue_:
            causes.append(
                _forbidden_match("resourceVersionMatch is forbidden when continue is provided")
            )
    if causes:
        raise ApiError(invalid_options("ListOptions", causes))


def _forbidden_match(detail: str) -> Cause:
    return Cause(status.FORBIDDEN, "resourceVersionMatch", detail)


def invalid_options(kind: str, causes: list[Cause]) -> Status:
    """422 about the options of a request, which are objects of meta.k8s.io upstream."""
    return status.invalid(
        Resource("meta.k8s.io", "v1", kind.lower(), kind.lower(), kind, False), "", causes
    )


__all__ = [
    "check_list_options", "check_reached", "check_watch_options", "find", "get", "invalid_options", "list_objects", "list_response",
    "make_continue", "meta_of", "parse_continue", "parse_revision", "read", "strategy_of", "too_large",
]  # fmt: skip
