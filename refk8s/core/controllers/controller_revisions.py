"""ControllerRevisions: the pod templates that a StatefulSet or a DaemonSet has had. Rules REV-1 to
REV-5 (spec/workloads/controller_revision.md).

    data       {"spec": {"template": {..., "$patch": "replace"}}}: a patch that restores the template
    revision   1, 2, 3 ...: the template of the set has the highest; a rollback raises an earlier one
    name       the name of the set and a hash

Source: Kubernetes documentation, "StatefulSets" and "Perform a Rollback on a DaemonSet"; API
reference, "ControllerRevision".
"""

from collections.abc import Iterable, Sequence
from typing import Any

import msgspec
from msgspec.structs import replace

from refk8s.core.api.apps_v1 import ControllerRevision
from refk8s.core.api.codec import DecodeError, from_tree, to_tree
from refk8s.core.api.core_v1 import PodTemplateSpec
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import CONTROLLER_REVISIONS
from refk8s.core.context import safe_text
from refk8s.core.controllers.owners import (
    Claim,
    Selects,
    claim,
    controller_reference,
    deletion,
    list_orphans,
)
from refk8s.core.loop.view import View
from refk8s.core.value import Value

REVISION_HASH = "controller-revision-hash"  # a label of pods, and of the revisions of DaemonSets
DATA_HASH = "controller.kubernetes.io/hash"  # a label of the revisions of StatefulSets
REVISION_MAX = 2**63 - 1
COLLISIONS_MAX = 2**31 - 1
NAME_PREFIX_LENGTH_MAX = 223

_FNV_OFFSET, _FNV_PRIME = 0x811C9DC5, 0x01000193
_encoder = msgspec.json.Encoder(order="sorted")
# Go's encoder writes these characters of strings as escapes.
_ESCAPES = (
    (b"<", b"\\u003c"), (b">", b"\\u003e"), (b"&", b"\\u0026"),
    (b"\xe2\x80\xa8", b"\\u2028"), (b"\xe2\x80\xa9", b"\\u2029"),
)  # fmt: skip


def template_data(template: PodTemplateSpec) -> dict[str, Any]:
    """The data of the revision with this template (REV-1)."""
    return {"spec": {"template": {**to_tree(template), "$patch": "replace"}}}


def template_of(revision: ControllerRevision) -> PodTemplateSpec | None:
    """The template of a revision; None if its data has none, because another program wrote it."""
    try:
        tree = revision.data["spec"]["template"]
        rest = {name: value for name, value in tree.items() if name != "$patch"}
        return from_tree(PodTemplateSpec, rest)
    except (KeyError, TypeError, AttributeError, DecodeError):
        return None


def data_hash(data: Any, collision_count: int) -> str:
    """The hash of the data and the collision count: 32-bit FNV-1 of the JSON with sorted keys, in
    the alphabet of generated names, as upstream (REV-2)."""
    text = _encoder.encode(data)
    for character, escape in _ESCAPES:
        text = text.replace(character, escape)
    number = _FNV_OFFSET
    for byte in text + b"%d" % collision_count:
        number = (number * _FNV_PRIME & 0xFFFFFFFF) ^ byte
    return safe_text(number)


def revision_name(owner: str, hash: str) -> str:
    """The name of a revision: the owner's, cut if the whole would be too long, and the hash."""
    return f"{owner[:NAME_PREFIX_LENGTH_MAX]}-{hash}"


def by_revision(revisions: Iterable[ControllerRevision]) -> list[ControllerRevision]:
    """The lowest revision first, then the oldest, then by name."""
    return sorted(
        revisions,
        key=lambda one: (
            one.revision,
            one.metadata.creation_timestamp or "",
            one.metadata.name or "",
        ),
    )


def claim_revisions(view: View, owner: Any, selected: Selects) -> Claim:
    """The revisions of the owner, and those that it adopts (REV-4)."""
    metadata = owner.metadata
    claimed = claim(
        owner,
        view.indexed(CONTROLLER_REVISIONS, "owner", metadata.uid),
        list_orphans(view, CONTROLLER_REVISIONS, metadata.namespace, owner.spec.selector),
        selected,
    )
    return replace(claimed, release=[])


class History(Value, frozen=True, eq=False):
    """The revision of the set's template, and what must be written first (None: it is stored)."""

    update: ControllerRevision
    collision_count: int
    request: Request | None = None


def compute_history(
    view: View,
    owner: Any,
    revisions: Sequence[ControllerRevision],
    label: str,
) -> History:
    """Find, renumber or create the revision of the owner's template (REV-2, REV-3).

    `revisions`: those of the owner, lowest first. `label`: has the hash. O(revisions).
    """
    data = template_data(owner.spec.template)
    count = owner.status.collision_count or 0
    number = min(revisions[-1].revision + 1, REVISION_MAX) if revisions else 1
    equal = next((one for one in reversed(revisions) if one.data == data), None)
    if equal is not None:
        if equal is revisions[-1]:
            return History(equal, count)
        return History(*_renumbered(equal, number, count))
    metadata = owner.metadata
    while True:
        hash = data_hash(data, count)
        name = revision_name(metadata.name or "", hash)
        found = view.get(CONTROLLER_REVISIONS, f"{metadata.namespace}/{name}")
        if found is None:
            break
        if found.data == data or count >= COLLISIONS_MAX:
            return History(found, count)
        count += 1
    made = ControllerRevision(
        metadata=ObjectMeta(
            name=name,
            namespace=metadata.namespace,
            labels={**(owner.spec.template.metadata.labels or {}), label: hash},
            annotations=metadata.annotations,
            owner_references=(controller_reference(owner),),
        ),
        data=data,
        revision=number,
    )
    because = f"{owner.kind} {metadata.name} has a new template"
    request = Request(
        "create", CONTROLLER_REVISIONS, metadata.namespace or "", body=made, because=because
    )
    return History(made, count, request)


def _renumbered(
    revision: ControllerRevision, number: int, count: int
) -> tuple[ControllerRevision, int, Request]:
    """REV-3: the revision of an earlier template becomes the highest."""
    metadata = revision.metadata
    body = replace(revision, revision=number)
    because = f"its template is used again, from revision {revision.revision} to {number}"
    request = Request(
        "update",
        CONTROLLER_REVISIONS,
        metadata.namespace or "",
        metadata.name or "",
        body=body,
        because=because,
    )
    return body, count, request


def surplus(owner: Any, unused: Sequence[ControllerRevision], count: int) -> tuple[Request, ...]:
    """Delete the lowest of the unused revisions, as many as exceed the history limit (REV-5).
    `count`: how many revisions the limit concerns."""
    limit = owner.spec.revision_history_limit
    if limit is None or count <= limit:
        return ()
    because = f"the history is longer than {limit}"
    return tuple(
        [
            deletion(CONTROLLER_REVISIONS, one, because)
            for one in unused[: count - limit]
            if one.metadata.deletion_timestamp is None
        ]
    )
