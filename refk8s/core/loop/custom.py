"""The lists and watches of custom resources: they follow from the definitions in the view. Rule
LOOP-15 (spec/loop.md).

A reconciler that covers objects of every kind (garbage collection, the deletion of namespaces)
names the function for custom objects, and its loop watches the objects of every definition that is
served. Source: design proposal "Garbage collection" (monitors follow discovery).
"""

from immutables import Map

from refk8s.core.api.custom import resource_to_list, resources_of
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS, Resource
from refk8s.core.loop import informer as informers
from refk8s.core.loop.draft import Draft
from refk8s.core.loop.informer import Informer
from refk8s.core.loop.view import Index, Table, View
from refk8s.core.machine import Unwatch
from refk8s.core.value import evolve


def by_group() -> Index:
    """Definitions by their group, under the name "group"."""
    return Index("group", CUSTOM_RESOURCE_DEFINITIONS, lambda crd: (crd.spec.group,))


def custom_resources(view: View) -> tuple[Resource, ...]:
    """Of every definition that is served, the resource whose objects need no conversion."""
    found = [resource_to_list(crd) for crd in view.list(CUSTOM_RESOURCE_DEFINITIONS)]
    return tuple([one for one in found if one is not None])


def custom_by_kind(view: View, api_version: str, kind: str) -> Resource | None:
    """The custom resource of this kind; None if no definition in the view serves it. Needs the
    index `by_group`."""
    group = api_version.rpartition("/")[0]
    for crd in view.indexed(CUSTOM_RESOURCE_DEFINITIONS, "group", group):
        for resource in resources_of(crd):
            if resource.kind == kind and resource.api_version == api_version:
                return resource
    return None


def newest(view: View, resource: Resource) -> Resource:
    """A custom resource as the view now shows its definition: in the same version if that is
    served, else in the preferred one. Itself if it is not served."""
    crd = view.get(CUSTOM_RESOURCE_DEFINITIONS, f"{resource.plural}.{resource.group}")
    for one in resources_of(crd) if crd is not None else ():
        if one.version == resource.version:
            return one
    return (resource_to_list(crd) if crd is not None else None) or resource


def follow_definitions(draft: Draft) -> list[Informer]:
    """Begin to watch the resources of new definitions. Returns the informers of those that are no
    longer served, which the caller ends with `forget`."""
    wanted = {resource.prefix: resource for resource in custom_resources(draft.view)}
    view = draft.view
    for prefix, resource in wanted.items():
        known = draft.informers.get(prefix)
        if known is None:
            draft.informers = draft.informers.set(prefix, Informer(resource))
            draft.is_watching = False
            # Other keys do not wait for it (LOOP-1): a list of it may fail for long.
            view = evolve(view, tables=view.tables.set(prefix, Table(synced=True)))
        elif known.resource != resource:
            informer = evolve(known, resource=newest(view, known.resource))
            draft.informers = draft.informers.set(prefix, informer)
    draft.view = view
    gone = [
        prefix for prefix in draft.informers if prefix not in draft.loop.sources | wanted.keys()
    ]
    return [draft.informers[prefix] for prefix in sorted(gone)]


def forget(draft: Draft, informer: Informer) -> None:
    """End the list or watch of a resource that is no longer served, whose objects the view does not
    have any more."""
    prefix = informer.resource.prefix
    for id in sorted(id for id, source in draft.sources.items() if source == prefix):
        draft.sources = draft.sources.delete(id)
        if informer.phase == informers.WATCHING:
            draft.effects.append(Unwatch(id))
    draft.informers = draft.informers.delete(prefix)
    draft.view = evolve(draft.view, tables=Map(draft.view.tables).delete(prefix))
