"""The lists and watches of a loop: changes update the view and make keys due. Rules LOOP-2,
LOOP-16, WATCH-1 to WATCH-6 (spec/loop.md, spec/watch.md).

`informer.py` has the state of the list and watch of one resource.
"""

from collections.abc import Iterable
from typing import Any

from refk8s.core.api.request import Response, WatchEvent
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS
from refk8s.core.loop import informer as informers
from refk8s.core.loop.custom import follow_definitions, forget
from refk8s.core.loop.draft import Draft
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.plan import Key
from refk8s.core.loop.state import is_synced
from refk8s.core.loop.view import Problems, key_of
from refk8s.core.machine import Call, Watch


def run_informers(draft: Draft) -> None:
    """List or watch each resource whose informer rests and is due."""
    if draft.is_watching:
        return
    for prefix in _prefixes(draft):
        informer = draft.informers[prefix]
        if informer.phase != informers.RESTING or informer.due > draft.now:
            continue
        if informer.is_dormant(draft.view):
            continue  # LOOP-14
        if informer.revision:
            informer = _watch(draft, informer, informer.revision)
        else:
            id = draft.next_id()
            draft.sources = draft.sources.set(id, prefix)
            draft.effects.append(Call(id, informer.list_request(draft.loop.user)))
            informer = informer.listing()
        draft.informers = draft.informers.set(prefix, informer)
    draft.is_watching = all(
        informer.phase == informers.WATCHING for informer in draft.informers.values()
    ) and is_synced(draft.informers, draft.view)


def _prefixes(draft: Draft) -> Iterable[str]:
    """The prefixes of all informers: those of the loop, and then those of custom resources."""
    own = draft.loop.sources
    if len(draft.informers) == len(own):
        return own
    return (*own, *sorted(prefix for prefix in draft.informers if prefix not in own))


def take_list(draft: Draft, prefix: str, id: int, response: Response | None) -> None:
    """A list is answered: the view has exactly its objects, and a watch continues from it."""
    draft.sources = draft.sources.delete(id)
    informer = draft.informers[prefix]
    if response is not None and informer.is_missing(response.code):  # LOOP-16
        draft.informers = draft.informers.set(prefix, informer.missing(draft.now))
        table = draft.view.table(informer.resource)
        _update_view(draft, informer, [(key, None) for key in table.objects], table.revision)
        return
    if response is None or not response.ok:
        draft.informers = draft.informers.set(prefix, informer.failed(draft.now))
        return
    revision = int(response.body.metadata.resource_version)
    listed = {key_of(obj): obj for obj in response.body.items}
    changes: list[tuple[Key, Any | None]] = [
        (key, None) for key in draft.view.keys(informer.resource) if key not in listed
    ]
    known = draft.view.table(informer.resource).objects
    changes += [
        (key, obj)
        for key, obj in listed.items()
        if key not in known or known[key].metadata != obj.metadata
    ]
    draft.informers = draft.informers.set(prefix, _watch(draft, informer, revision))
    _update_view(draft, informer, changes, revision)


def take_changes(draft: Draft, prefix: str, events: tuple[WatchEvent, ...]) -> None:
    """A watch delivers changes."""
    informer = draft.informers[prefix]
    changes: list[tuple[Key, Any | None]] = []
    revision = informer.revision
    for event in events:
        if event.revision < revision or (event.revision == revision and event.type == "BOOKMARK"):
            continue  # WATCH-5: a change that the view has is not applied again
        revision = event.revision
        if event.type != "BOOKMARK":
            changes.append(
                (key_of(event.object), None if event.type == "DELETED" else event.object)
            )
    draft.informers = draft.informers.set(prefix, informer.received(revision))
    _update_view(draft, informer, changes, revision)


def end_watch(draft: Draft, prefix: str, id: int, code: int) -> None:
    """A watch has ended: list again after 410, and if the resource is not served any more;
    otherwise watch again after a back-off."""
    draft.is_watching = False
    draft.sources = draft.sources.delete(id)
    informer = draft.informers[prefix]
    is_listed_again = code == 410 or informer.is_missing(code)
    informer = informer.gone(draft.now) if is_listed_again else informer.failed(draft.now)
    draft.informers = draft.informers.set(prefix, informer)


def _watch(draft: Draft, informer: Informer, revision: int) -> Informer:
    id = draft.next_id()
    informer = informer.watching(revision)
    draft.sources = draft.sources.set(id, informer.resource.prefix)
    draft.effects.append(Watch(id, informer.watch_request(draft.loop.user)))
    return informer


def _update_view(
    draft: Draft, informer: Informer, changes: Iterable[tuple[Key, Any | None]], revision: int
) -> None:
    """Update the view, and make the keys due that the changes concern."""
    resource = informer.resource
    problems: Problems = []
    draft.view, changed = draft.loop.viewer.apply(
        draft.view, resource, changes, revision, problems=problems
    )
    for key, error in problems:
        draft.report((draft.loop.name, key), error)
    loop = draft.loop
    if resource == CUSTOM_RESOURCE_DEFINITIONS and loop.custom_listeners:  # LOOP-15
        for gone in follow_definitions(draft):
            held = draft.view.keys(gone.resource)
            _update_view(draft, gone, [(key, None) for key in held], gone.revision)
            forget(draft, gone)
    listeners = loop.listeners.get(resource.prefix, loop.custom_listeners)
    for keys, names in listeners:  # LOOP-2
        concerned: list[Key] = []
        for own, old, new in changed:
            try:
                if found := keys(draft.view, old, new):  # most changes concern no key
                    concerned += tuple(found)
            except Exception as error:  # LOOP-10
                for name in names:
                    draft.report((name, own), error)
        keys_once = dict.fromkeys(concerned)  # many pods change, and all concern one owner
        for name in names:
            for key in keys_once:
                draft.make_due((name, key))
