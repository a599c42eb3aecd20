"""`refk8s explain`: reads what an explanation needs from an API server, and prints it. Rules
EXPLAIN-1 to EXPLAIN-5 (spec/explain.md).

Only get and list requests are sent.
"""

import json
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from attrs import frozen

from refk8s.components.command_client import CommandClient, run_command
from refk8s.components.files import CannotRun, read_bounded
from refk8s.core.api import codec
from refk8s.core.api.request import Options, Request
from refk8s.core.api.resources import CUSTOM_RESOURCE_DEFINITIONS, EVENTS, SERVED, Resource, by_kind
from refk8s.core.explain.object import (
    ObjectAccount,
    Owner,
    Step,
    Tree,
    explain_object,
    history_of,
    owner_of,
    references_of,
)

Print = Callable[[str], None]
OWNERS_MAX = 32
STORY_BYTES_MAX = 64 << 20


@frozen
class ExplainOptions:
    """The flags of `refk8s explain`."""

    kubeconfig: str | None = None
    context: str = ""
    output: str = "text"  # or json
    config: str = ""  # of the scheduler
    data_dir: str = ""
    story: str = ""


def explain_pod_now(options: ExplainOptions, namespace: str, name: str, say: Print) -> int:
    """EXPLAIN-1: print what the scheduler would decide about the pod. Raises CannotRun."""
    from refk8s.components.scheduler_file import read_scheduler_file
    from refk8s.core.explain.pod import explain_pod, tree_of
    from refk8s.core.explain.pod_text import pod_text
    from refk8s.core.loop.view import key_of
    from refk8s.core.scheduler.cycle import scheduler
    from refk8s.core.scheduler_configuration.read import SchedulerConfiguration

    found = read_scheduler_file(options.config) if options.config else SchedulerConfiguration()
    loop = scheduler(found.profiles, found.backoff)

    async def work(client: CommandClient) -> None:
        view = loop.viewer.empty()
        for source in loop.sources.values():
            # a part that the user may not read, or that the server does not have, counts as empty
            listed = await client.call(Request("list", source.resource), 403, 404)
            changes = [(key_of(one), one) for one in (listed.items if listed is not None else ())]
            view, _ = loop.viewer.apply(view, source.resource, changes, 1)
        profiles = {profile.scheduler_name: profile for profile in found.profiles}
        account = explain_pod(view, f"{namespace}/{name}", profiles, found.extenders)
        if account is None:
            raise CannotRun(f"pods {json.dumps(name)} not found in namespace {namespace}")
        say(_json(tree_of(account)) if options.output == "json" else pod_text(account).rstrip("\n"))

    return run_command(options.kubeconfig, options.context, work)


def explain_object_now(
    options: ExplainOptions, resource: str, namespace: str, name: str, say: Print
) -> int:
    """EXPLAIN-3: print who wrote which field of the object. Raises CannotRun."""
    from refk8s.core.explain.object_text import object_text

    story = list(_story(options.story)) if options.story else []

    async def work(client: CommandClient) -> None:
        found = await _find_resource(client, resource)
        place = namespace if found.namespaced else ""
        body = await client.call(Request("get", found, place, name), 404)
        if body is None:
            raise CannotRun(f"{found.plural} {json.dumps(name)} not found")
        tree = codec.to_tree(body)
        owners = await _owners(client, tree, place)
        history = _history(options.data_dir, found, place, name) if options.data_dir else []
        account = explain_object(tree, owners, await _events(client, tree), history, story)
        say(
            _json(_tree(account)) if options.output == "json" else object_text(account).rstrip("\n")
        )

    return run_command(options.kubeconfig, options.context, work)


def _json(tree: Any) -> str:
    return json.dumps(tree, indent=2, ensure_ascii=False)


def _tree(account: ObjectAccount) -> Any:
    return msgspec.to_builtins(account)


async def _find_resource(client: CommandClient, word: str) -> Resource:
    """The resource that the word names as for kubectl: plural, singular, short name or kind,
    perhaps with its group. Raises CannotRun."""
    name, _, group = word.lower().partition(".")

    def is_meant(one: Resource) -> bool:
        names = (one.plural, one.singular, one.kind.lower(), *one.short_names)
        return name in names and (not group or one.group == group)

    found = [one for one in SERVED if is_meant(one)]
    if not found:
        from refk8s.core.api.custom import resources_of

        listed = await client.call(Request("list", CUSTOM_RESOURCE_DEFINITIONS), 403, 404)
        definitions = listed.items if listed is not None else ()
        found = [one for crd in definitions for one in resources_of(crd) if is_meant(one)]
    if not found:
        raise CannotRun(f"the server has no resource type {json.dumps(word)}")
    return found[0]


async def _owners(client: CommandClient, tree: Tree, namespace: str) -> list[Owner]:
    """The owners of an object and their owners, each followed by its own."""
    found: list[Owner] = []
    seen: set[str] = set()

    async def follow(child: Tree, depth: int) -> None:
        for reference in references_of(child):
            if len(found) >= OWNERS_MAX or str(reference.get("uid")) in seen:
                continue
            seen.add(str(reference.get("uid")))
            resource = by_kind(str(reference.get("apiVersion")), str(reference.get("kind")))
            body = None
            if resource is not None:
                place = namespace if resource.namespaced else ""
                request = Request("get", resource, place, str(reference.get("name")))
                body = await client.call(request, 403, 404)
            parent = codec.to_tree(body) if body is not None else {}
            uid = (parent.get("metadata") or {}).get("uid")
            # an owner of another kind cannot be looked up here, and counts as there
            is_found = resource is None or uid == reference.get("uid")
            found.append(owner_of(reference, depth, is_found))
            if is_found:
                await follow(parent, depth + 1)

    await follow(tree, 1)
    return found


async def _events(client: CommandClient, tree: Tree) -> list[Tree]:
    """The Events about the object; none if the user may not list them."""
    metadata = tree.get("metadata") or {}
    selector = f"involvedObject.kind={tree.get('kind')},involvedObject.name={metadata.get('name')}"
    request = Request(
        "list",
        EVENTS,
        str(metadata.get("namespace") or "default"),
        options=Options(field_selector=selector),
    )
    listed = await client.call(request, 403, 404)
    uids = {metadata.get("uid"), metadata.get("name"), "", None}  # Events of Nodes have the name
    events = [codec.to_tree(one) for one in (listed.items if listed is not None else ())]
    return [one for one in events if (one.get("involvedObject") or {}).get("uid") in uids]


def _story(path: str) -> Iterator[str]:
    """The lines of a file with the output of `refk8s run --story`. Raises CannotRun."""
    data = read_bounded(path, "--story", STORY_BYTES_MAX)
    yield from data.decode(errors="replace").splitlines()


def _history(data_dir: str, resource: Resource, namespace: str, name: str) -> list[Step]:
    """EXPLAIN-4: what the journal of a store that is not in use has of the object. Raises
    CannotRun."""
    path = Path(data_dir).expanduser() / "store.db"
    key = f"{resource.prefix}{namespace}/{name}" if namespace else f"{resource.prefix}{name}"
    if not path.is_file():
        raise CannotRun(f"--data-dir {data_dir}: has no store.db")
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            rows = file.execute(
                "SELECT position, value FROM journal WHERE key = ? ORDER BY position", (key,)
            ).fetchall()
    except sqlite3.Error as error:
        raise CannotRun(
            f"--data-dir {data_dir}: {error}: the journal can be read while the API server is "
            "stopped; leave the flag out, or use --story"
        ) from None
    versions: list[tuple[str, Tree | None]] = []
    for position, value in rows:
        try:
            tree = json.loads(value) if value is not None else None
        except ValueError:
            raise CannotRun(f"--data-dir {data_dir}: {resource.plural} are encrypted") from None
        versions.append((f"revision {position >> 16}", tree))
    return history_of(versions)
