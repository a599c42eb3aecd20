"""Who wrote which field of an object, when, and because of what. Rules EXPLAIN-3, EXPLAIN-4
(spec/explain.md).

Everything is read from JSON trees, so it works for any resource of any API server: managedFields
say who wrote which field and when, Events what the components did at that time, conditions what
they found, ownerReferences for whom the object is. Source: Kubernetes documentation, "Server-Side
Apply" (field management), "Event", "Garbage Collection" (owners).
"""

import json
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from refk8s.core.value import Value

NEAR = timedelta(seconds=5)
"""Events of a writer within this time of its last write are shown with that write."""
DEPTH_MAX = 64
SHOWN_MAX = 80  # characters of a value
HIDDEN = "(hidden)"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"

Tree = dict[str, Any]


class FieldShown(Value, frozen=True):
    """A field by its path, and its present value as short JSON; empty if it is gone."""

    path: str
    value: str


class EventShown(Value, frozen=True):
    """One Event about the object: the last time, how often, who, and what."""

    time: str
    count: int
    source: str
    type: str
    reason: str
    message: str


class Write(Value, frozen=True):
    """The last write of one manager: when, how, and which fields it owns since."""

    manager: str
    operation: str  # Apply or Update
    subresource: str
    time: str
    fields: tuple[FieldShown, ...]
    events: tuple[EventShown, ...] = ()  # of this writer, at about that time


class Owner(Value, frozen=True):
    """An owner, or an owner of an owner. `depth`: 1 for an owner of the object."""

    depth: int
    kind: str
    name: str
    uid: str
    is_controller: bool
    is_found: bool


class Condition(Value, frozen=True):
    """A condition of the status."""

    type: str
    status: str
    reason: str
    message: str
    since: str


class Step(Value, frozen=True):
    """One change of the object in a history: what changed, by whom, in one line each."""

    revision: str
    lines: tuple[str, ...]


class ObjectAccount(Value, frozen=True):
    """What is known about the writes of one object."""

    kind: str
    api_version: str
    key: str
    uid: str
    created_at: str
    generation: int
    resource_version: str
    deletion: str  # since when it is being deleted, and what it waits for
    writes: tuple[Write, ...]  # the latest first
    owners: tuple[Owner, ...]
    conditions: tuple[Condition, ...]
    events: tuple[EventShown, ...]  # the latest last
    history: tuple[Step, ...] = ()
    story: tuple[str, ...] = ()  # the lines of a story that name it


def explain_object(
    tree: Tree,
    owners: Sequence[Owner] = (),
    events: Iterable[Tree] = (),
    history: Sequence[Step] = (),
    story: Iterable[str] = (),
) -> ObjectAccount:
    """EXPLAIN-3: the account of an object. `owners`: found by `owners_of`; `events`: those about
    it. O(size of the object and of the Events)."""
    tree = without_secrets(tree)
    metadata = _map(tree.get("metadata"))
    shown = sorted([_event(one) for one in events], key=lambda one: (one.time, one.reason))
    writes = [_write(entry, tree, shown) for entry in _list(metadata.get("managedFields"))]
    namespace, name = _text(metadata.get("namespace")), _text(metadata.get("name"))
    key = f"{namespace}/{name}" if namespace else name
    return ObjectAccount(
        _text(tree.get("kind")),
        _text(tree.get("apiVersion")),
        key,
        _text(metadata.get("uid")),
        _text(metadata.get("creationTimestamp")),
        int(metadata.get("generation") or 0),
        _text(metadata.get("resourceVersion")),
        _deletion(metadata),
        tuple(sorted(writes, key=lambda one: (one.time, one.manager), reverse=True)),
        tuple(owners),
        tuple([_condition(one) for one in _list(_map(tree.get("status")).get("conditions"))]),
        tuple(shown),
        tuple(history),
        tuple([line for line in story if _names(line, key)]),
    )


def _names(line: str, key: str) -> bool:
    """Whether a line of a story names the object."""
    return key in [word.strip(".,:;()'\"") for word in line.split()]


def without_secrets(tree: Tree) -> Tree:
    """The tree; of a Secret with other words in place of its values."""
    if tree.get("kind") != "Secret":
        return tree
    hidden: Tree = {
        part: dict.fromkeys(_map(tree.get(part)), HIDDEN)
        for part in ("data", "stringData")
        if part in tree
    }
    metadata = dict(_map(tree.get("metadata")))
    annotations = _map(metadata.get("annotations"))
    if LAST_APPLIED in annotations:
        metadata["annotations"] = {**annotations, LAST_APPLIED: HIDDEN}
    return {**tree, **hidden, "metadata": metadata}


def references_of(tree: Tree) -> list[Tree]:
    """The ownerReferences of an object."""
    return _list(_map(tree.get("metadata")).get("ownerReferences"))


def owner_of(reference: Tree, depth: int, is_found: bool) -> Owner:
    """One owner. `is_found`: whether the object exists, with this uid."""
    return Owner(
        depth,
        _text(reference.get("kind")),
        _text(reference.get("name")),
        _text(reference.get("uid")),
        bool(reference.get("controller")),
        is_found,
    )


def _deletion(metadata: Tree) -> str:
    since = _text(metadata.get("deletionTimestamp"))
    if not since:
        return ""
    finalizers = [_text(one) for one in metadata.get("finalizers") or ()]
    rest = f"it waits for the finalizers {', '.join(finalizers)}" if finalizers else ""
    return f"since {since}" + (f"; {rest}" if rest else "")


def _condition(one: Tree) -> Condition:
    since = one.get("lastTransitionTime") or one.get("lastUpdateTime")
    return Condition(
        _text(one.get("type")),
        _text(one.get("status")),
        _text(one.get("reason")),
        _text(one.get("message")),
        _text(since),
    )


def _event(one: Tree) -> EventShown:
    """An Event of the core API, of either form."""
    series = _map(one.get("series"))
    times = (
        series.get("lastObservedTime"),
        one.get("lastTimestamp"),
        one.get("eventTime"),
        _map(one.get("metadata")).get("creationTimestamp"),
    )
    source = one.get("reportingComponent") or _map(one.get("source")).get("component")
    count = series.get("count") or one.get("count") or 1
    return EventShown(
        next((_text(time) for time in times if time), ""),
        count if isinstance(count, int) else 1,
        _text(source),
        _text(one.get("type")),
        _text(one.get("reason")),
        _text(one.get("message")),
    )


# --- managedFields --------------------------------------------------------------------------------


def _write(entry: Tree, tree: Tree, events: Sequence[EventShown]) -> Write:
    manager, time = _text(entry.get("manager")), _text(entry.get("time"))
    fields: list[FieldShown] = []
    _collect(_map(entry.get("fieldsV1")), tree, "", fields, 0)
    near = [one for one in events if _is_by(one, manager) and _is_near(one.time, time)]
    return Write(
        manager,
        _text(entry.get("operation")),
        _text(entry.get("subresource")),
        time,
        tuple(fields),
        tuple(near),
    )


def _collect(owned: Tree, value: Any, path: str, found: list[FieldShown], depth: int) -> None:
    """The leaves of a field set, with the values that the object has there."""
    if depth > DEPTH_MAX:
        return
    for key, below in owned.items():
        if key == ".":
            continue
        here, inner = _step(key, value)
        place = f"{path}.{here}" if path and not here.startswith("[") else f"{path}{here}"
        if any(one != "." for one in _map(below)):
            _collect(_map(below), inner, place, found, depth + 1)
        else:
            found.append(FieldShown(place, _short(inner)))


def _step(key: str, value: Any) -> tuple[str, Any]:
    """The words of one element of a path, and the value there; None if it is gone."""
    kind, _, rest = key.partition(":")
    if kind == "f":
        return rest, value.get(rest) if isinstance(value, dict) else None
    if kind == "k":
        wanted = _parse(rest)
        if isinstance(wanted, dict) and wanted:
            words = ",".join([f"{name}={_short(one)}" for name, one in wanted.items()])
            return f"[{words}]", next(
                (
                    one
                    for one in _list(value)
                    if all(one.get(name) == each for name, each in wanted.items())
                ),
                None,
            )
    if kind == "v":
        wanted = _parse(rest)
        is_there = isinstance(value, list) and wanted in value
        return f"[={_short(wanted)}]", wanted if is_there else None
    if kind == "i" and rest.isdecimal() and len(rest) < 8:
        at = int(rest)
        return f"[{at}]", value[at] if isinstance(value, list) and at < len(value) else None
    return key, None


def _parse(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return None


def _short(value: Any) -> str:
    if value is None:
        return ""
    text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text if len(text) <= SHOWN_MAX else f"{text[: SHOWN_MAX - 3]}..."


def _is_by(event: EventShown, manager: str) -> bool:
    """Whether the Event is of this manager: their names are equal, or one is a part of the other
    (kube-scheduler and default-scheduler, kube-controller-manager and deployment-controller)."""
    if not event.source or not manager:
        return False
    if event.source in manager or manager in event.source:
        return True
    words = {"scheduler", "kubelet"}
    if any(word in event.source and word in manager for word in words):
        return True
    return event.source.endswith("-controller") and "controller-manager" in manager


def _is_near(one: str, other: str) -> bool:
    first, second = _instant(one), _instant(other)
    return first is not None and second is not None and abs(first - second) <= NEAR


def _instant(text: str) -> datetime | None:
    try:
        return datetime.fromisoformat(text)
    except ValueError:
        return None


# --- trees of other programs: whatever has another type counts as absent --------------------------


def _map(value: Any) -> Tree:
    return value if isinstance(value, dict) else {}


def _list(value: Any) -> list[Tree]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _text(value: Any) -> str:
    return value if isinstance(value, str) else ""


# --- a history ------------------------------------------------------------------------------------


def history_of(versions: Iterable[tuple[str, Tree | None]]) -> list[Step]:
    """EXPLAIN-4: what each version of an object changed, by its revision, the earliest first. None:
    it was deleted. O(size of the versions)."""
    steps: list[Step] = []
    before: Tree | None = None
    for revision, tree in versions:
        if tree is None:
            steps.append(Step(revision, ("deleted",)))
        else:
            tree = without_secrets(tree)
            writers = _writers(before, tree)
            lines = [f"created by {writers}" if before is None else f"written by {writers}"]
            if before is not None:
                _differences(before, tree, "", lines, 0)
            steps.append(Step(revision, tuple(lines)))
        before = tree
    return steps


def _writers(before: Tree | None, tree: Tree) -> str:
    """The managers whose entries are new."""
    known = [
        _entry(one) for one in _list(_map((before or {}).get("metadata")).get("managedFields"))
    ]
    fresh = [
        one
        for one in _list(_map(tree.get("metadata")).get("managedFields"))
        if _entry(one) not in known
    ]
    names = [
        f"{_text(one.get('manager'))} at {_text(one.get('time'))}"
        + (f" ({one['subresource']})" if one.get("subresource") else "")
        for one in fresh
    ]
    return ", ".join(names) or "a manager that is not named"


def _entry(one: Tree) -> str:
    return json.dumps(one, sort_keys=True)


_UNTOLD = ("metadata.managedFields", "metadata.resourceVersion")


def _differences(old: Any, new: Any, path: str, lines: list[str], depth: int) -> None:
    if old == new or path in _UNTOLD:
        return
    if isinstance(old, dict) and isinstance(new, dict) and depth < DEPTH_MAX:
        for key in dict.fromkeys((*old, *new)):
            here = f"{path}.{key}" if path else str(key)
            _differences(old.get(key), new.get(key), here, lines, depth + 1)
        return
    lines.append(f"{path}: {_short(old) or 'absent'} -> {_short(new) or 'absent'}")
