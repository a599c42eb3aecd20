"""The volume claims of a StatefulSet's pods. Rules STS-8 to STS-10
(spec/workloads/stateful_set.md).

    whenDeleted  whenScaled   owner of the claim of a wanted pod   of a pod that is scaled away
    Retain       Retain       -                                    -
    Delete       Retain       the set                              the set
    Retain       Delete       -                                    the pod
    Delete       Delete       the set                              the pod

The garbage collector deletes a claim with its owner. Source: Kubernetes documentation,
"StatefulSets" (PersistentVolumeClaim retention); KEP-1847.
"""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from refk8s.core.api.apps_v1 import StatefulSet
from refk8s.core.api.core_v1 import PersistentVolumeClaim, Pod
from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PERSISTENT_VOLUME_CLAIMS, STATEFUL_SETS
from refk8s.core.controllers.owners import controller_reference
from refk8s.core.controllers.stateful_set_pods import claim_name
from refk8s.core.loop.plan import Key, Note
from refk8s.core.loop.view import View, controller_of

DELETE = "Delete"


def claims_of_pod(view: View, stateful_set: StatefulSet, pod: str) -> list[PersistentVolumeClaim]:
    """The claims of this pod that the view has."""
    namespace = stateful_set.metadata.namespace
    found = [
        view.get(
            PERSISTENT_VOLUME_CLAIMS, f"{namespace}/{claim_name(each.metadata.name or '', pod)}"
        )
        for each in stateful_set.spec.volume_claim_templates or ()
    ]
    return [claim for claim in found if claim is not None]


def missing_claims(view: View, stateful_set: StatefulSet, pod: str) -> tuple[Request, ...]:
    """Requests that create the claims of this pod which do not exist (STS-8). A claim that the
    retention policy gives to the set belongs to it from the beginning."""
    namespace = stateful_set.metadata.namespace or ""
    selector = stateful_set.spec.selector
    policy = stateful_set.spec.persistent_volume_claim_retention_policy
    owned = policy is not None and policy.when_deleted == DELETE
    requests: list[Request] = []
    names: dict[str, None] = {}
    for template in stateful_set.spec.volume_claim_templates or ():
        name = claim_name(template.metadata.name or "", pod)
        if name in names or view.get(PERSISTENT_VOLUME_CLAIMS, f"{namespace}/{name}") is not None:
            continue
        names[name] = None
        labels = {
            **(template.metadata.labels or {}),
            **((selector.match_labels if selector is not None else None) or {}),
        }
        metadata = ObjectMeta(
            name=name,
            namespace=namespace,
            labels=labels or None,
            annotations=template.metadata.annotations,
            finalizers=template.metadata.finalizers,
            owner_references=(controller_reference(stateful_set),) if owned else None,
        )
        words = f"create Claim {name} Pod {pod} in StatefulSet {stateful_set.metadata.name} success"
        requests.append(
            Request(
                "create",
                PERSISTENT_VOLUME_CLAIMS,
                namespace,
                body=replace(template, metadata=metadata),
                because=f"pod {pod} needs it",
                note=Note(stateful_set, "SuccessfulCreate", words),
            )
        )
    return tuple(requests)


def is_owned_by_an_earlier_pod(claim: PersistentVolumeClaim, pod: str) -> bool:
    """Whether the claim is deleted together with an earlier pod of this name (STS-10): the garbage
    collector removes it, and a new pod must not use it."""
    return any(
        reference.kind == "Pod" and reference.name == pod
        for reference in claim.metadata.owner_references or ()
    )


def retention_changes(
    view: View, stateful_set: StatefulSet, pod: Pod, is_scaled_away: bool
) -> tuple[Request, ...]:
    """Requests that give the pod's claims the owner of the table above (STS-9)."""
    requests: list[Request] = []
    for claim in claims_of_pod(view, stateful_set, pod.metadata.name or ""):
        references = compute_owners(stateful_set, pod, claim, is_scaled_away)
        if references == (claim.metadata.owner_references or ()):
            continue
        body = replace(claim, metadata=replace(claim.metadata, owner_references=references or None))
        requests.append(
            Request(
                "update",
                PERSISTENT_VOLUME_CLAIMS,
                claim.metadata.namespace or "",
                claim.metadata.name or "",
                body=body,
                because="its owner follows the retention policy",
            )
        )
    return tuple(requests)


def compute_owners(
    stateful_set: StatefulSet, pod: Pod, claim: PersistentVolumeClaim, is_scaled_away: bool
) -> tuple[OwnerReference, ...]:
    """The owner references that the claim should have. Those of other objects are kept; with
    another controller, and with an earlier set or pod of the same name, nothing is added."""
    present = claim.metadata.owner_references or ()
    names = {("StatefulSet", stateful_set.metadata.name), ("Pod", pod.metadata.name)}
    uids = (stateful_set.metadata.uid, pod.metadata.uid)
    if any((one.kind, one.name) in names and one.uid not in uids for one in present):
        return present
    others = tuple([one for one in present if one.uid not in uids])
    controller = controller_of(claim)
    if controller is not None and controller.uid not in uids:
        return others
    policy = stateful_set.spec.persistent_volume_claim_retention_policy
    if policy is None:
        return others
    owner: Any = None
    if is_scaled_away and policy.when_scaled == DELETE:
        owner = pod
    elif policy.when_deleted == DELETE:
        owner = stateful_set
    if owner is None:
        return others
    wanted = (*others, controller_reference(owner))
    is_right = len(wanted) == len(present) and all(one in present for one in wanted)
    return present if is_right else wanted


def sets_of_claim(view: View, old: Any | None, new: Any | None) -> Iterable[Key]:
    """The sets whose pods have a claim of this name: it ends with the name of a pod. Only creation,
    deletion and changes of its owners concern them. O(hyphens of the name)."""
    claim = new if new is not None else old
    if claim is None or (
        old is not None
        and new is not None
        and old.metadata.owner_references == new.metadata.owner_references
        and old.metadata.deletion_timestamp == new.metadata.deletion_timestamp
    ):
        return
    stem, _, ordinal = (claim.metadata.name or "").rpartition("-")
    if not ordinal.isdecimal():
        return
    parts = stem.split("-")
    for place in range(1, len(parts)):
        template, name = "-".join(parts[:place]), "-".join(parts[place:])
        key = f"{claim.metadata.namespace}/{name}"
        stateful_set = view.get(STATEFUL_SETS, key)
        if stateful_set is not None and any(
            each.metadata.name == template
            for each in stateful_set.spec.volume_claim_templates or ()
        ):
            yield key
