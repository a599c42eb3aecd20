"""The volumes of a pod: which nodes reach them, and which claims are bound with the pod. Rules
SCHED-40 to SCHED-43 (spec/scheduler.md).

    claim                                      the pod
    missing, being deleted, lost               waits, on every node
    unbound, of a class with mode Immediate    waits, on every node
    bound                                      runs where its volume reaches
    unbound, mode WaitForFirstConsumer         runs where a volume is Available, or can be provisioned

Source: Kubernetes documentation, "Storage Classes" (Volume Binding Mode), "Persistent Volumes"
(Node Affinity); the plugins VolumeRestrictions, NodeVolumeLimits, VolumeBinding and VolumeZone.
"""

from collections.abc import Callable, Collection, Iterable, Mapping

from msgspec.structs import replace

from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from refk8s.core.api.object_reference import object_reference
from refk8s.core.api.request import Request, update_of
from refk8s.core.api.resources import (
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    STORAGE_CLASSES,
)
from refk8s.core.api.storage_v1 import StorageClass
from refk8s.core.loop.view import View, controller_of, key_of
from refk8s.core.pods.status import is_finished
from refk8s.core.pods.volumes import (
    BIND_COMPLETED,
    BOUND_BY_CONTROLLER,
    LOST,
    NO_PROVISIONER,
    SELECTED_NODE,
    best_volume,
    class_of,
    is_reserved_for,
    reaches,
    storage,
    waits_for_consumer,
)
from refk8s.core.scheduler.reasons import Refusal
from refk8s.core.scheduler.snapshot import Load, NodeFacts, PodInfo
from refk8s.core.scheduler.volume_limits import TOO_MANY, csi_volumes, is_over_limit
from refk8s.core.value import Value

ONE_POD = "ReadWriteOncePod"
ZONES = (
    "topology.kubernetes.io/zone", "topology.kubernetes.io/region",
    "failure-domain.beta.kubernetes.io/zone", "failure-domain.beta.kubernetes.io/region",
)  # fmt: skip
_CURRENT = dict(zip(ZONES[2:], ZONES[:2], strict=True))
"""The current label for each earlier one."""

USED_BY_A_POD = Refusal(
    "VolumeRestrictions",
    (
        "node has pod using PersistentVolumeClaim with the same name and "
        "ReadWriteOncePod access mode",
    ),
    True,
)
NOT_REACHED = Refusal(
    "VolumeBinding", ("node(s) didn't match PersistentVolume's node affinity",), False
)
NO_VOLUME = Refusal(
    "VolumeBinding", ("node(s) didn't find available persistent volumes to bind",), False
)
OTHER_ZONE = Refusal("VolumeZone", ("node(s) had no available volume zone",), False)

VOLUME_PLUGINS = ("VolumeRestrictions", "NodeVolumeLimits", "VolumeBinding", "VolumeZone")
UNBOUND = "pod has unbound immediate PersistentVolumeClaims"

VolumeCheck = Callable[["Volumes", NodeFacts, Load], Refusal | None]

Choice = tuple[PersistentVolumeClaim, PersistentVolume | None]
"""A claim that is bound with the pod, and its volume; None if one is provisioned."""


class Volumes(Value, frozen=True, eq=False):
    """The claims of a pod, as the view shows them. `blocked`: why it can run on no node."""

    blocked: str = ""
    bound: tuple[PersistentVolume, ...] = ()
    unbound: tuple[tuple[PersistentVolumeClaim, StorageClass], ...] = ()
    candidates: tuple[PersistentVolume, ...] = ()
    # the pods that use a ReadWriteOncePod claim of this pod: node and uid
    takers: tuple[tuple[str, str], ...] = ()
    # the filters of VolumeRestrictions, NodeVolumeLimits, VolumeBinding, VolumeZone, if enabled
    checks: tuple[tuple[str, VolumeCheck], ...] = ()

    def refusal(self, facts: NodeFacts, load: Load) -> Refusal | None:
        """Why the node cannot run the pod because of its volumes (SCHED-41, SCHED-44)."""
        for _, check in self.checks:
            if (refusal := check(self, facts, load)) is not None:
                return refusal
        return None

    def choose(self, facts: NodeFacts) -> list[Choice] | None:
        """A volume for each unbound claim on this node, the smallest claim first; None if one has
        none (SCHED-42). O(claims * candidates)."""
        if not self.unbound:
            return []
        left = [volume for volume in self.candidates if reaches(volume, facts.name, facts.labels)]
        found: list[Choice] = []
        for claim, storage_class in self.unbound:
            volume = best_volume(claim, left)
            if volume is None and not _is_provisioned(storage_class, facts):
                return None
            left = [one for one in left if one is not volume]
            found.append((claim, volume))
        return found


def _restrictions(volumes: Volumes, facts: NodeFacts, load: Load) -> Refusal | None:
    """A pod on this node that preemption has taken from its load does not count."""
    is_taken = any(node != facts.name or uid in load.pods for node, uid in volumes.takers)
    return USED_BY_A_POD if is_taken else None


def _binding(volumes: Volumes, facts: NodeFacts, load: Load) -> Refusal | None:
    for volume in volumes.bound:
        if not reaches(volume, facts.name, facts.labels):
            return NOT_REACHED
    return NO_VOLUME if volumes.choose(facts) is None else None


def _zone(volumes: Volumes, facts: NodeFacts, load: Load) -> Refusal | None:
    is_outside = any(not _is_in_zone(volume, facts.labels) for volume in volumes.bound)
    return OTHER_ZONE if is_outside else None


def _limits(view: View, pod: PodInfo) -> VolumeCheck:
    new = csi_volumes(view, pod.claims)

    def check(volumes: Volumes, facts: NodeFacts, load: Load) -> Refusal | None:
        return TOO_MANY if is_over_limit(view, new, facts.name, load) else None

    return check


def volumes_of(view: View, pod: PodInfo, filters: Collection[str] = VOLUME_PLUGINS) -> Volumes:
    """The claims of the pod, for the filters of these plugins (SCHED-40). O(claims + volumes of
    their classes)."""
    found = _claims_of(view, pod)
    if "VolumeBinding" not in filters:
        found = replace(found, blocked="", unbound=())
    elif found.blocked:
        return found
    checks: tuple[tuple[str, VolumeCheck], ...] = (
        ("VolumeRestrictions", _restrictions),
        ("NodeVolumeLimits", _limits(view, pod)),
        ("VolumeBinding", _binding),
        ("VolumeZone", _zone),
    )
    return replace(found, checks=tuple([one for one in checks if one[0] in filters]))


def _claims_of(view: View, pod: PodInfo) -> Volumes:
    bound: list[PersistentVolume] = []
    unbound: list[tuple[PersistentVolumeClaim, StorageClass]] = []
    candidates: dict[str, PersistentVolume] = {}
    takers: list[tuple[str, str]] = []
    owned = _ephemeral(view, pod)
    for key in pod.claims:
        claim: PersistentVolumeClaim | None = view.get(PERSISTENT_VOLUME_CLAIMS, key)
        name = key.partition("/")[2]
        if claim is None:
            if key in owned:
                words = (
                    "waiting for ephemeral volume controller to create the "
                    f'persistentvolumeclaim "{name}"'
                )
                return Volumes(words)
            return Volumes(f'persistentvolumeclaim "{name}" not found')
        owner = controller_of(claim)
        if key in owned and (owner is None or owner.uid != pod.uid):
            return Volumes(
                f"PVC {key} was not created for pod {pod.namespace}/{pod.name} (pod is not owner)"
            )
        if claim.metadata.deletion_timestamp is not None:
            return Volumes(f'persistentvolumeclaim "{name}" is being deleted')
        volume_name = claim.spec.volume_name or ""
        if claim.status.phase == LOST:
            words = (
                f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume '
                f'"{volume_name}"'
            )
            return Volumes(words)
        if ONE_POD in (claim.spec.access_modes or ()):
            takers += _users(view, key, pod)
        if volume_name and BIND_COMPLETED in (claim.metadata.annotations or {}):
            volume: PersistentVolume | None = view.get(PERSISTENT_VOLUMES, volume_name)
            if volume is None:
                words = (
                    f'persistentvolumeclaim "{name}" bound to non-existent persistentvolume '
                    f'"{volume_name}"'
                )
                return Volumes(words)
            bound.append(volume)
            continue
        storage_class: StorageClass | None = view.get(STORAGE_CLASSES, class_of(claim))
        if volume_name or storage_class is None or not waits_for_consumer(storage_class):
            return Volumes(UNBOUND)
        unbound.append((claim, storage_class))
        for entry in (f"claim/{key}", f"class/{class_of(claim)}"):
            for each in view.indexed(PERSISTENT_VOLUMES, "unclaimed", entry):
                candidates[each.metadata.name] = each
    unbound.sort(key=lambda pair: (storage(pair[0].spec.resources.requests), key_of(pair[0])))
    return Volumes("", tuple(bound), tuple(unbound), tuple(candidates.values()), tuple(takers))


def _ephemeral(view: View, pod: PodInfo) -> tuple[str, ...]:
    """The keys of the claims that are created for the pod's ephemeral volumes."""
    found = view.get(PODS, f"{pod.namespace}/{pod.name}")
    if found is None:
        return ()
    return tuple(
        [
            f"{pod.namespace}/{pod.name}-{volume.name}"
            for volume in found.spec.volumes or ()
            if volume.ephemeral is not None
        ]
    )


def _users(view: View, claim: str, pod: PodInfo) -> list[tuple[str, str]]:
    """Node and uid of each other pod with a node that uses the claim."""
    return [
        (other.spec.node_name, other.metadata.uid or "")
        for other in view.indexed(PODS, "claim", claim)
        if other.spec.node_name and other.metadata.uid != pod.uid and not is_finished(other)
    ]


def _is_provisioned(storage_class: StorageClass, facts: NodeFacts) -> bool:
    """Whether a volume can be provisioned for this node: by the allowed topologies of the class."""
    if storage_class.provisioner == NO_PROVISIONER:
        return False
    terms = storage_class.allowed_topologies
    return not terms or any(
        all(
            facts.labels.get(each.key) in (each.values or ())
            for each in term.match_label_expressions or ()
        )
        for term in terms
    )


def _is_in_zone(volume: PersistentVolume, labels: Mapping[str, str]) -> bool:
    """Whether the node is in the zone and region of the volume's labels, if it has any such label.
    Several zones are separated by two underscores; a label with an empty one is ignored."""
    own = volume.metadata.labels or {}
    if not own or not any(key in labels for key in ZONES):
        return True
    for key in ZONES:
        zones = [zone.strip() for zone in own[key].split("__")] if key in own else []
        if zones and all(zones):
            found = labels.get(key, labels.get(_CURRENT.get(key, key)))
            if found is None or found not in zones:
                return False
    return True


def bindings(choices: Iterable[Choice], node: str) -> tuple[Request, ...]:
    """The writes that bind the claims on this node (SCHED-42): the claimRef of a volume, or the
    claim's selected node. Those that are done already are left out."""
    requests: list[Request] = []
    for claim, volume in choices:
        metadata = claim.metadata
        if volume is None:
            annotations = metadata.annotations or {}
            if annotations.get(SELECTED_NODE) != node:
                marked = replace(metadata, annotations={**annotations, SELECTED_NODE: node})
                because = f"a volume for it is needed on {node}"
                requests.append(
                    update_of(PERSISTENT_VOLUME_CLAIMS, replace(claim, metadata=marked), because)
                )
            continue
        reference = volume.spec.claim_ref
        if reference is not None and reference.uid and is_reserved_for(volume, claim):
            continue
        marked = volume.metadata
        if reference is None:
            marks = {**(marked.annotations or {}), BOUND_BY_CONTROLLER: "yes"}
            marked = replace(marked, annotations=marks)
        spec = replace(volume.spec, claim_ref=object_reference(claim))
        body = replace(volume, metadata=marked, spec=spec)
        because = f"a pod on {node} uses claim {key_of(claim)}"
        requests.append(update_of(PERSISTENT_VOLUMES, body, because))
    return tuple(requests)
