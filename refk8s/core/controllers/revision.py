"""Revisions of a Deployment: templates, hashes and revision numbers of its ReplicaSets. Rules DEP-2
to DEP-5 (spec/workloads/deployment.md).

    template of the Deployment  --hash-->  name and label of the ReplicaSet with this template
    revision 1, 2, 3 ...        annotation of each ReplicaSet; the new one has the highest, and a
                                rollback raises the number of an earlier one

Source: Kubernetes documentation, "Deployments" ("Pod-template-hash label", "Rolling Back a
Deployment", "Revision History Limit"). Left out: the annotation deprecated.deployment.rollback.to
of extensions/v1beta1, which no served version writes.
"""

from collections.abc import Iterable, Mapping, Sequence
from hashlib import blake2b
from typing import Any

import msgspec
from msgspec.structs import replace

from refk8s.core.api.apps_v1 import Deployment, ReplicaSet
from refk8s.core.api.core_v1 import PodTemplateSpec
from refk8s.core.api.integer import int64
from refk8s.core.api.meta_v1 import LabelSelector
from refk8s.core.context import safe_text

TEMPLATE_HASH = "pod-template-hash"
REVISION = "deployment.kubernetes.io/revision"
REVISION_HISTORY = "deployment.kubernetes.io/revision-history"
DESIRED_REPLICAS = "deployment.kubernetes.io/desired-replicas"
MAX_REPLICAS = "deployment.kubernetes.io/max-replicas"
LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
ROLLBACK_TO = "deprecated.deployment.rollback.to"

NOT_COPIED = (LAST_APPLIED, REVISION, REVISION_HISTORY, DESIRED_REPLICAS, MAX_REPLICAS, ROLLBACK_TO)

REVISION_MAX = 2**63 - 1
HISTORY_LENGTH_MAX = 2_000  # characters of the history annotation
NAME_LENGTH_MAX = 253

# sorted, so that the hash does not depend on the order of keys
_encoder = msgspec.json.Encoder(order="sorted")


def template_hash(template: PodTemplateSpec, collision_count: int | None) -> str:
    """The hash of a template and the collision count: eight to ten characters (DEP-2).

    It depends on nothing else: not on the process, the order of labels or the time. The alphabet is
    that of generated names.
    """
    salt = b"" if collision_count is None else b"%d" % collision_count
    number = int.from_bytes(
        blake2b(_encoder.encode(template) + salt, digest_size=4).digest(), "big"
    )
    return safe_text(number)


def replica_set_name(deployment: str, hash: str) -> str:
    """The Deployment's name (cut if the whole would be too long) and the hash."""
    return f"{deployment[: NAME_LENGTH_MAX - len(hash) - 1]}-{hash}"


def with_hash(labels: Mapping[str, str] | None, hash: str) -> dict[str, str]:
    """The labels and the hash label."""
    return {**(labels or {}), TEMPLATE_HASH: hash}


def without_hash(template: PodTemplateSpec) -> PodTemplateSpec:
    """The template as the Deployment has it."""
    labels = template.metadata.labels
    if not labels or TEMPLATE_HASH not in labels:
        return template
    rest = {name: value for name, value in labels.items() if name != TEMPLATE_HASH}
    return replace(template, metadata=replace(template.metadata, labels=rest or None))


def by_age(replica_sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    """The oldest first, then by name."""
    return sorted(
        replica_sets, key=lambda rs: (rs.metadata.creation_timestamp or "", rs.metadata.name or "")
    )


def find_new(deployment: Deployment, replica_sets: Sequence[ReplicaSet]) -> ReplicaSet | None:
    """The oldest ReplicaSet with the Deployment's template (DEP-3)."""
    wanted = without_hash(deployment.spec.template)
    return next(
        (rs for rs in by_age(replica_sets) if without_hash(rs.spec.template) == wanted), None
    )


def whole_number(annotations: Mapping[str, str] | None, name: str) -> int | None:
    """The annotation as a 64-bit integer; None if it is absent or not one."""
    return int64((annotations or {}).get(name, ""))


def revision_of(replica_set: ReplicaSet) -> int:
    """Its revision; 0 without a valid one."""
    return whole_number(replica_set.metadata.annotations, REVISION) or 0


def by_revision(replica_sets: Iterable[ReplicaSet]) -> list[ReplicaSet]:
    """The lowest revision first, then by age and name."""
    return sorted(by_age(replica_sets), key=revision_of)


def next_revision(old: Iterable[ReplicaSet]) -> int:
    """One more than the highest revision of the old ones, at most 2^63 - 1 (DEP-4)."""
    return min(max((revision_of(rs) for rs in old), default=0) + 1, REVISION_MAX)


def compute_annotations(
    deployment: Deployment, existing: Mapping[str, str] | None, revision: int
) -> dict[str, str]:
    """The annotations of the new ReplicaSet: copied from the Deployment (DEP-5), with the revision
    raised if it is lower (DEP-4).

    The replaced revision is appended to the history. An annotation that was removed from the
    Deployment stays, as upstream. A revision that is not a number is not changed.
    """
    annotations = dict(existing or {})
    for name, value in (deployment.metadata.annotations or {}).items():
        if name not in NOT_COPIED:
            annotations[name] = value
    before = annotations.get(REVISION)
    number = whole_number(annotations, REVISION) if before else 0
    if number is not None and number < revision:
        annotations[REVISION] = str(revision)
        if before is not None:
            history = compute_history(annotations.get(REVISION_HISTORY, ""), before)
            if history is not None:
                annotations[REVISION_HISTORY] = history
    return annotations


def compute_history(history: str, revision: str) -> str | None:
    """The history with this revision appended, without the oldest ones that no longer fit; None if
    the revision alone does not fit."""
    if not history:
        return revision
    entries = [*history.split(","), revision]
    while len(entries) > 1 and sum(map(len, entries)) + len(entries) - 1 > HISTORY_LENGTH_MAX:
        entries.pop(0)
    joined = ",".join(entries)
    return joined if len(joined) <= HISTORY_LENGTH_MAX else None


def new_labels(deployment: Deployment, hash: str) -> tuple[dict[str, str], Any]:
    """The labels of a new ReplicaSet and of its pods, and its selector: those of the Deployment and
    the hash."""
    selector = deployment.spec.selector or LabelSelector()
    return (
        with_hash(deployment.spec.template.metadata.labels, hash),
        replace(selector, match_labels=with_hash(selector.match_labels, hash)),
    )
