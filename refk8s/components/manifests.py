"""`refk8s run --apply FILE`: creates the objects of a manifest file, as `kubectl create` does.

Rule HOST-10 (spec/host.md). Every object is a POST with `fieldValidation=Strict`, so the error
messages are the API server's.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

from refk8s.core.api import resources
from refk8s.core.api.json_text import parse
from refk8s.core.api.request import Request, Response
from refk8s.core.api.user import ADMIN
from refk8s.core.api.yaml_text import YamlDocument
from refk8s.core.apiserver.accept import YAML
from refk8s.core.apiserver.http import Received, WireRequest, receive
from refk8s.core.apiserver.respond import Reply
from refk8s.core.value import Value, evolve

BYTES_MAX = 64 << 20
"""The longest file; it is read into memory. 100,000 small objects need half of that."""
OBJECTS_MAX = 200_000

Submit = Callable[[Request], Awaitable[Response]]


class BadManifest(Exception):
    """A file, document or object cannot be created; the message has no file name."""


class Manifest(Value, frozen=True):
    """One object of a file, or the error at its position."""

    tree: dict[str, Any]
    problem: str = ""


async def apply(path: Path, submit: Submit) -> list[str]:
    """Create the objects of the file in order; returns one line for each.

    A file that cannot be read gives one line.
    """
    try:
        text = await asyncio.to_thread(_read, path)
        manifests = await asyncio.to_thread(lambda: list(manifests_of(text)))
    except BadManifest as error:
        return [f"cannot apply {path}: {error}"]
    if not manifests:
        return [f"cannot apply {path}: it has no objects"]
    said = []
    for manifest in manifests:
        try:
            said.append(await _create(manifest, path, submit))
        except BadManifest as error:
            said.append(f"error when creating {_quoted(path)}: {error}")
    return said


def manifests_of(text: bytes) -> Iterator[Manifest]:
    """The objects of all documents and the items of lists.

    Raises BadManifest if the text is not YAML.
    """
    from refk8s.components.yaml_reader import BadYaml, read_yaml_documents

    count = 0
    documents = read_yaml_documents(text)
    place = 0
    while True:
        place += 1
        try:
            document = next(documents, None)
        except BadYaml as error:
            raise BadManifest(" ".join(str(error).split())) from None
        if document is None:
            return
        for manifest in _objects(document, place):
            count += 1
            if count > OBJECTS_MAX:
                raise BadManifest(f"it holds more than {OBJECTS_MAX} objects")
            yield manifest


def _objects(document: YamlDocument, place: int) -> Iterator[Manifest]:
    if document.duplicates:
        yield Manifest({}, f"yaml: {document.duplicates[0]} (document {place})")
        return
    waiting = [document.tree]
    while waiting:
        tree = waiting.pop()
        if tree is None:
            continue  # an empty document, or an empty item of a list
        if not isinstance(tree, dict):
            yield Manifest(
                {}, f"document {place} holds {type(tree).__name__} where an object is expected"
            )
        elif str(tree.get("kind", "")).endswith("List") and isinstance(tree.get("items"), list):
            waiting += reversed(tree["items"])
        else:
            yield Manifest(tree)


def _read(path: Path) -> bytes:
    try:
        with open(path, "rb") as file:  # also a pipe, as from `--apply <(helm template ...)`
            text = file.read(BYTES_MAX + 1)
    except OSError as error:
        raise BadManifest(f"{error.strerror}; correct the path or its permissions") from None
    if len(text) > BYTES_MAX:
        raise BadManifest(f"it has more than {BYTES_MAX >> 20} MiB; make several files of it")
    return text


async def _create(manifest: Manifest, path: Path, submit: Submit) -> str:
    if manifest.problem:
        raise BadManifest(manifest.problem)
    tree = manifest.tree
    version, kind = tree.get("apiVersion"), tree.get("kind")
    metadata = tree.get("metadata")
    if not isinstance(version, str) or not isinstance(kind, str) or not version or not kind:
        raise BadManifest("an object needs apiVersion and kind, as strings")
    if metadata is not None and not isinstance(metadata, dict):
        raise BadManifest(f"metadata of the {kind} is not an object")
    resource = resources.by_kind(version, kind)
    if resource is None or "create" not in resource.verbs:
        raise BadManifest(f'no matches for kind "{kind}" in version "{version}"')
    namespace = (metadata or {}).get("namespace") or "default"
    prefix = f"/apis/{version}" if resource.group else f"/api/{version}"
    where = f"/namespaces/{quote(str(namespace), safe='')}" if resource.namespaced else ""
    headers = {"content-type": YAML}
    wire = WireRequest(
        "POST", f"{prefix}{where}/{resource.plural}", "fieldValidation=Strict", headers
    )
    received = receive(wire, ADMIN, lambda _: YamlDocument(tree))
    if isinstance(received, Reply):
        raise BadManifest(parse(received.content)["message"])
    assert isinstance(received, Received), "a built-in resource is served here"
    response = await submit(evolve(received.request, because=f"{path.name} has it"))
    name = f"{resource.singular}{'.' + resource.group if resource.group else ''}/{response.body.metadata.name if response.ok else ''}"
    if response.ok:
        return f"{name} created"
    if response.code == 409 and response.body.reason == "AlreadyExists":
        return f"{name}{(metadata or {}).get('name')} is there already"
    raise BadManifest(response.body.message)


def _quoted(path: Path) -> str:
    return f'"{path}"'
