"""Strategic merge patch: a merge patch that also merges lists. Rules PATCH-8 to PATCH-14
(spec/patch.md).

The kind declares whether a list is merged, and by which key of its elements. Directives in the
patch express what a merge cannot: delete, replace, retain, and the order of elements. Source:
Kubernetes documentation, "Update API Objects in Place Using kubectl patch"; design proposals
"Strategic Merge Patch" and "Preserve Order in Strategic Merge Patch". Divergence: a malformed
directive is answered with 400; upstream answers some of them with 500 (spec/divergences.md).
"""

from collections.abc import Hashable, Sequence
from typing import Any, TypeAlias

from refk8s.core.api.status import ApiError, bad_request
from refk8s.core.apiserver.patch.document import Tree, name_of
from refk8s.core.apiserver.patch.shape import Field, Shape, field_of

DIRECTIVE = "$patch"
RETAIN_KEYS = "$retainKeys"
DELETE_FROM_LIST = "$deleteFromPrimitiveList/"
SET_ORDER = "$setElementOrder/"

Items: TypeAlias = Sequence[Any]


def merge_strategically(record: type[Any] | None, target: Tree, patch: Tree) -> Tree:
    """`target`, an object of class `record`, after `patch` (PATCH-8). Both stay unchanged. Raises
    ApiError 400 for a malformed directive."""
    return _merge_map(Shape(record), target, patch)


# --- maps -----------------------------------------------------------------------------------------


def _merge_map(shape: Shape, original: Tree, patch: Tree) -> Tree:
    match patch.get(DIRECTIVE, "merge"):  # PATCH-10
        case "delete":
            return {}
        case "replace":
            replacement: Tree = _without_directives(patch)
            return replacement
        case "merge":
            pass
        case other:
            raise _bad(f"unknown patch type: {other!r}")

    merged = _retain_keys(original, patch)
    changes = {key: value for key, value in patch.items() if not _is_directive(key)}
    for key, order in patch.items():
        if key.startswith(SET_ORDER):
            name = key.removeprefix(SET_ORDER)
            _merge_in_order(field_of(shape, name), name, merged, changes, order)
    for key, change in changes.items():
        _merge_field(field_of(shape, key), key, merged, change)
    for key, doomed in patch.items():
        if key.startswith(DELETE_FROM_LIST):
            _delete_from_list(merged, key.removeprefix(DELETE_FROM_LIST), doomed)
    return merged


def _merge_field(field: Field, key: str, merged: Tree, change: Any) -> None:
    """One member: null deletes it, values of the same type are merged, every other value replaces
    (PATCH-8)."""
    current = merged.get(key)
    if change is None:
        merged.pop(key, None)
    elif isinstance(change, dict) and isinstance(current, dict) and not field.replace:
        merged[key] = _merge_map(field.shape, current, change)
    elif isinstance(change, list) and isinstance(current, list) and field.merge:
        merged[key] = _merge_list(field, current, change)
    elif _is_dropped(change):  # PATCH-14
        merged.pop(key, None)
    else:
        merged[key] = _without_directives(change)


def _retain_keys(original: Tree, patch: Tree) -> Tree:
    """A copy of the original with only the keys that $retainKeys names, if the patch has this
    directive (PATCH-11)."""
    if RETAIN_KEYS not in patch:
        return dict(original)
    retained = patch[RETAIN_KEYS]
    if not isinstance(retained, list) or not all(isinstance(key, str) for key in retained):
        raise _bad("invalid patch format of retainKeys")
    kept = set(retained)  # for membership only
    for key, value in patch.items():
        if value is not None and not _is_directive(key) and key not in kept:
            raise _bad("patch content doesn't match retainKeys list")
    return {key: value for key, value in original.items() if key in kept}


def _delete_from_list(merged: Tree, key: str, doomed: Any) -> None:
    """Remove these values from a list of scalars; absent ones are ignored (PATCH-12)."""
    if not isinstance(doomed, list):
        raise _bad("invalid patch format of primitive list")
    current = merged.get(key)
    if isinstance(current, list):
        gone = {_scalar(value) for value in doomed}  # for membership only
        merged[key] = [value for value in current if _scalar(value) not in gone]


# --- lists ----------------------------------------------------------------------------------------


def _merge_list(field: Field, original: Items, patch: Items) -> list[Any]:
    """The elements of the patch are merged into those with the same identity, new ones are added,
    in the order of PATCH-13 (PATCH-9)."""
    if not original and not patch:
        return []
    if not _are_maps(original, patch):
        unique: dict[Hashable, Any] = {}
        for value in (*original, *patch):
            unique.setdefault(_scalar(value), value)
        return _in_order(
            list(unique.values()),
            [_scalar(value) for value in patch],
            [_scalar(value) for value in original],
            "",
        )
    if not field.merge_key:
        raise _bad("cannot merge lists of objects that have no merge key")
    kept, changes = _split_directives(field.merge_key, original, patch)
    merged = list(kept)
    places = {}
    # reversed, so that of several with the same key the first one is found
    for place, element in reversed(list(enumerate(merged))):
        if field.merge_key in element:
            places[_scalar(element[field.merge_key])] = place
    for change in changes:
        identity = _identity(change, field.merge_key)
        if identity in places:
            merged[places[identity]] = _merge_map(field.shape, merged[places[identity]], change)
        else:
            places[identity] = len(merged)
            merged.append(_without_directives(change))
    order = [_identity(change, field.merge_key) for change in changes]
    return _in_order(
        merged, order, [_identity(element, field.merge_key) for element in kept], field.merge_key
    )


def _split_directives(merge_key: str, original: Items, patch: Items) -> tuple[Items, Items]:
    """The original without the elements that directives ($patch: delete, replace) remove, and the
    other elements of the patch (PATCH-10)."""
    doomed: set[Hashable] = set()  # for membership only
    changes: list[Any] = []
    is_replaced = False
    for element in patch:
        match element.get(DIRECTIVE, "merge"):
            case "delete":
                doomed.add(_identity(element, merge_key))
            case "replace":
                is_replaced = True
            case "merge":
                changes.append(element)
            case other:
                raise _bad(f"unknown patch type: {other!r}")
    if is_replaced:
        return [_without_directives(element) for element in changes], []
    return [
        element
        for element in original
        if merge_key not in element or _scalar(element[merge_key]) not in doomed
    ], changes


def _merge_in_order(field: Field, key: str, merged: Tree, changes: Tree, order: Any) -> None:
    """Merge the list `key` and sort it by $setElementOrder (PATCH-13). It is removed from
    `changes`."""
    current, change = merged.get(key), changes.get(key)
    for value in (
        order,
        *([] if current is None else [current]),
        *([change] if key in changes else []),
    ):
        if not isinstance(value, list):
            raise _bad(f"{SET_ORDER}{key} is about lists, not {name_of(value)}")
    if current is None and change is None:
        return
    merge_key = field.merge_key
    wanted = [_identity(element, merge_key) for element in order]
    _check_order(key, merge_key, change or [], wanted)
    changes.pop(key, None)
    if current is None:
        result: Items = _without_directives(change)
    elif change is None:
        result = current
    else:
        result = _merge_list(field, current, change) if field.merge else _without_directives(change)
    merged[key] = _in_order(
        result, wanted, [_identity(element, merge_key) for element in current or []], merge_key
    )


def _check_order(key: str, merge_key: str, change: Items, wanted: Sequence[Hashable]) -> None:
    """Raise ApiError 400 unless the elements that the patch adds or changes occur in the order
    list, in the same order."""
    rest = iter(wanted)
    for element in change:
        if isinstance(element, dict) and element.get(DIRECTIVE) in ("delete", "replace"):
            continue
        if not any(identity == _identity(element, merge_key) for identity in rest):
            raise _bad(f"the order of the patch's {key} does not match {SET_ORDER}{key}")


def _in_order(
    merged: Items, wanted: Sequence[Hashable], server: Sequence[Hashable], merge_key: str
) -> list[Any]:
    """The elements that the client named, in its order, interleaved with the others in the server's
    order (PATCH-13).

    Of the next element of each, the server's comes first if both were in the server's list and it
    preceded the other; else the client's.
    """
    rank: dict[Hashable, int] = {}
    for place, identity in enumerate(wanted):
        rank.setdefault(identity, place)
    past: dict[Hashable, int] = {}
    for place, identity in enumerate(server):
        past.setdefault(identity, place)
    pairs = [(_identity(element, merge_key), element) for element in merged]
    named = sorted((pair for pair in pairs if pair[0] in rank), key=lambda pair: rank[pair[0]])
    others = sorted(
        (pair for pair in pairs if pair[0] not in rank),
        key=lambda pair: past.get(pair[0], len(past)),
    )
    woven: list[Any] = []
    left, right = 0, 0
    while left < len(others) and right < len(named):
        other, mine = past.get(others[left][0]), past.get(named[right][0])
        if other is not None and mine is not None and other < mine:
            woven.append(others[left][1])
            left += 1
        else:
            woven.append(named[right][1])
            right += 1
    return (
        woven
        + [element for _, element in others[left:]]
        + [element for _, element in named[right:]]
    )


# --- elements -------------------------------------------------------------------------------------


def _are_maps(original: Items, patch: Items) -> bool:
    """Whether these are lists of objects. Mixed lists and lists of lists cannot be merged."""
    kinds = {isinstance(value, dict) for value in (*original, *patch)}
    if len(kinds) > 1:
        raise _bad("list element types are not identical")
    return True in kinds


def _identity(element: Any, merge_key: str) -> Hashable:
    """The identity of an element: the value of the merge key, or the element itself without a
    key."""
    if not merge_key:
        return _scalar(element)
    if not isinstance(element, dict) or merge_key not in element:
        raise _bad(
            f"{name_of(element)} in the list does not contain the declared merge key: {merge_key}"
        )
    return _scalar(element[merge_key])


def _scalar(value: Any) -> Hashable:
    """A scalar whose true differs from 1, as in JSON."""
    if value is None or isinstance(value, dict | list):
        raise _bad(
            "lists of lists are not supported"
            if isinstance(value, list)
            else f"{name_of(value)} cannot be an element to merge by"
        )
    return (type(value) is bool, value)


def _without_directives(value: Any) -> Any:
    """A value that is new to the object, without directives and nulls, because there is nothing for
    them to delete (PATCH-14)."""
    if isinstance(value, dict):
        return {
            key: _without_directives(inner)
            for key, inner in value.items()
            if inner is not None and not _is_directive(key) and not _is_dropped(inner)
        }
    if isinstance(value, list):
        return [_without_directives(one) for one in value if not _is_dropped(one)]
    return value


def _is_dropped(value: Any) -> bool:
    """Whether a new value is an object with a directive. There is nothing to delete or replace, so
    it is left out completely."""
    return isinstance(value, dict) and value.get(DIRECTIVE, "merge") != "merge"


def _is_directive(key: str) -> bool:
    return key in (DIRECTIVE, RETAIN_KEYS) or key.startswith((DELETE_FROM_LIST, SET_ORDER))


def _bad(message: str) -> ApiError:
    return ApiError(bad_request(message))
