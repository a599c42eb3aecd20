"""JSON patch: a list of operations, all of which apply or none. Rules PATCH-5, PATCH-6
(spec/patch.md).

Source: RFC 6902 (JSON Patch) and RFC 6901 (JSON Pointer). As upstream, this goes beyond the RFC in
two cases: a negative index counts from the end, and a test for null succeeds if the member is
absent.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import msgspec

from refk8s.core.api.json_text import equal
from refk8s.core.api.meta_v1 import StatusDetails
from refk8s.core.api.status import ApiError, bad_request, failure, too_large
from refk8s.core.apiserver.patch.document import DEPTH_MAX, Tree, is_deeper, name_of

OPERATIONS_MAX = 10_000
COPY_BYTES_MAX = 3 * 1024 * 1024
"""The most bytes, as JSON, that all copy operations of one patch may copy. Each may double the
document, so a short patch could fill the memory."""

_INDEX = re.compile(r"-?[0-9]{1,9}\Z")


class UnmetTest(ApiError):
    """A test of the patch does not hold, and every operation before it applies."""


class _DoesNotApply(Exception):
    """An operation that cannot be applied to this document."""


class _TestFailed(_DoesNotApply):
    """A test that does not hold."""


def apply_json_patch(tree: Tree, document: Any) -> Tree:
    """`tree` after all operations, in order (PATCH-5). Raises ApiError 400, 413 or 422, of which
    UnmetTest is one; then none takes effect."""
    operations = _operations(document)
    work = _Work(tree)
    try:
        for operation in operations:
            _apply(work, operation)
    except _TestFailed:
        raise UnmetTest(does_not_apply()) from None
    except (_DoesNotApply, RecursionError):
        raise ApiError(does_not_apply()) from None
    if not isinstance(work.root, dict) or is_deeper(work.root, DEPTH_MAX):  # PATCH-4
        raise ApiError(does_not_apply())
    return work.root


def does_not_apply() -> Any:
    """422 with the API server's message, which does not name the failed operation."""
    return failure(
        422,
        "Invalid",
        "the server rejected our request due to an error in our request",
        StatusDetails(),
    )


def _operations(document: Any) -> list[Mapping[str, Any] | None]:
    if document is None:  # as upstream: no operation
        return []
    if not isinstance(document, list):
        raise ApiError(
            bad_request(
                "error decoding patch: a JSON patch is an array of operations, "
                f"not {name_of(document)}"
            )
        )
    if len(document) > OPERATIONS_MAX:  # PATCH-4
        message = (
            f"The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, "
            f"got {len(document)}"
        )
        raise ApiError(too_large(message))
    for position, operation in enumerate(document):
        if not isinstance(operation, dict | None):
            raise ApiError(
                bad_request(
                    f"error decoding patch: operation {position} is "
                    f"{name_of(operation)}, not an object"
                )
            )
    return document


class _Work:
    """A document that is being changed. A container is copied before its first change and then
    changed in place: O(changed) for a whole patch."""

    __slots__ = ("_own", "copied_bytes", "root")

    def __init__(self, root: Any) -> None:
        self.root = root
        self.copied_bytes = 0
        # id -> container copied here; the reference keeps the id from being reused
        self._own: dict[int, Any] = {}

    def own(self, container: Any) -> Any:
        """The container itself if it is a copy made here, else a new copy."""
        if id(container) in self._own:
            return container
        copy = dict(container) if isinstance(container, dict) else list(container)
        self._own[id(copy)] = copy
        return copy

    def find(self, tokens: tuple[str, ...]) -> Any:
        """The value at this path."""
        value = self.root
        for token in tokens:
            value = _child(value, token)
        return value

    def open(self, tokens: tuple[str, ...]) -> tuple[Any, str]:
        """The container of the last token, ready to be changed, and that token."""
        if not isinstance(self.root, dict | list):
            raise _DoesNotApply
        container = self.root = self.own(self.root)
        for token in tokens[:-1]:
            child = _child(container, token)
            if not isinstance(child, dict | list):
                raise _DoesNotApply
            child = self.own(child)
            container[
                token if isinstance(container, dict) else _position(token, len(container))
            ] = child
            container = child
        return container, tokens[-1]


def _apply(work: _Work, operation: Mapping[str, Any] | None) -> None:
    kind = None if operation is None else operation.get("op")
    act = _ACTS.get(kind) if isinstance(kind, str) else None
    if act is None or operation is None:
        raise _DoesNotApply
    act(work, _pointer(operation, "path"), operation)


def _add(work: _Work, path: tuple[str, ...], operation: Mapping[str, Any]) -> None:
    _put(work, path, operation.get("value"))


def _put(work: _Work, path: tuple[str, ...], value: Any) -> None:
    if not path:
        work.root = value
        return
    container, token = work.open(path)
    if isinstance(container, dict):
        container[token] = value
    elif token == "-":
        container.append(value)
    else:
        container.insert(_position(token, len(container) + 1), value)


def _remove(work: _Work, path: tuple[str, ...], operation: Mapping[str, Any]) -> None:
    _take(work, path)


def _take(work: _Work, path: tuple[str, ...]) -> Any:
    if not path:
        raise _DoesNotApply
    container, token = work.open(path)
    value = _child(container, token)
    del container[token if isinstance(container, dict) else _position(token, len(container))]
    return value


def _replace(work: _Work, path: tuple[str, ...], operation: Mapping[str, Any]) -> None:
    if not path:
        work.root = operation.get("value")
        return
    container, token = work.open(path)
    _child(container, token)  # it must exist
    container[token if isinstance(container, dict) else _position(token, len(container))] = (
        operation.get("value")
    )


def _move(work: _Work, path: tuple[str, ...], operation: Mapping[str, Any]) -> None:
    source = _pointer(operation, "from")
    if path == source:
        work.find(source)
        return
    # A move into the value itself fails, because the target is gone after the removal.
    _put(work, path, _take(work, source))


def _copy(work: _Work, path: tuple[str, ...], operation: Mapping[str, Any]) -> None:
    value = work.find(_pointer(operation, "from"))
    try:
        text = msgspec.json.encode(value)
    except (TypeError, ValueError, OverflowError):
        raise _DoesNotApply from None
    work.copied_bytes += len(text)
    if work.copied_bytes > COPY_BYTES_MAX:  # PATCH-4
        raise _DoesNotApply
    # an independent value: a later change of one does not affect the other
    _put(work, path, msgspec.json.decode(text))


def _test(work: _Work, path: tuple[str, ...], operation: Mapping[str, Any]) -> None:
    if not _holds(work, path, operation.get("value")):
        raise _TestFailed


def _holds(work: _Work, path: tuple[str, ...], expected: Any) -> bool:
    """Whether the value at this path is the expected one; null also if there is none."""
    try:
        if path and expected is None:
            container = work.find(path[:-1])
            if isinstance(container, dict) and path[-1] not in container:
                return True
        return equal(work.find(path), expected)
    except _DoesNotApply:
        return False


_Act: TypeAlias = Callable[[_Work, tuple[str, ...], Mapping[str, Any]], None]
_ACTS: dict[str, _Act] = {
    "add": _add,
    "remove": _remove,
    "replace": _replace,
    "move": _move,
    "copy": _copy,
    "test": _test,
}


def _pointer(operation: Mapping[str, Any], key: str) -> tuple[str, ...]:
    """A JSON pointer as its tokens. It is required, and is empty or begins with a slash
    (PATCH-6)."""
    text = operation.get(key)
    if not isinstance(text, str) or (text and text[0] != "/"):
        raise _DoesNotApply
    return tuple(token.replace("~1", "/").replace("~0", "~") for token in text.split("/")[1:])


def _child(container: Any, token: str) -> Any:
    if isinstance(container, dict):
        if token not in container:
            raise _DoesNotApply
        return container[token]
    if isinstance(container, list):
        return container[_position(token, len(container))]
    raise _DoesNotApply


def _position(token: str, length: int) -> int:
    """The index that a token names in a list of this length; a negative one counts from the end
    (PATCH-6)."""
    if not _INDEX.match(token):
        raise _DoesNotApply
    index = int(token)
    if not -length <= index < length:
        raise _DoesNotApply
    return index if index >= 0 else index + length
