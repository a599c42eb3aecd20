"""Volumes of CSI drivers are attached to the nodes of their pods. Rules ATTACH-1 to ATTACH-7
(spec/workloads/attach_detach.md).

    a VolumeAttachment of this controller    does
    its node has a pod with the volume       attached: it is named in the Node's status
    its node has none, volume in use         waits; by force after six minutes, if the node is lost
    its node has none, volume not in use     removed from the Node's status, then deleted

Source: Kubernetes documentation, "Persistent Volumes", "Node Shutdowns" (force detach); API
reference, VolumeAttachment; the messages of kube-controller-manager. Left out: volumes of pods that
a migrated driver replaces.
"""

import re
from collections.abc import Iterable
from hashlib import sha256
from operator import attrgetter
from typing import TypeAlias

from immutables import Map

from refk8s.core.api.core_v1 import Node, PersistentVolume, Pod
from refk8s.core.api.meta_v1 import DeleteOptions, ObjectMeta, Preconditions
from refk8s.core.api.request import Patch, Request
from refk8s.core.api.resources import (
    CSI_DRIVERS,
    NODES,
    PERSISTENT_VOLUME_CLAIMS,
    PERSISTENT_VOLUMES,
    PODS,
    VOLUME_ATTACHMENTS,
)
from refk8s.core.api.storage_v1 import (
    CSIDriver,
    VolumeAttachment,
    VolumeAttachmentSource,
    VolumeAttachmentSpec,
)
from refk8s.core.context import MINUTE, Instant
from refk8s.core.controllers.node_lifecycle import is_ready_node
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler, own_key
from refk8s.core.loop.view import Index, View, key_of
from refk8s.core.pods.status import is_finished
from refk8s.core.pods.volumes import claims_of, key_of_claim_ref
from refk8s.core.value import Value, evolve, field

UNMOUNT_MAX: Instant = 6 * MINUTE
MANAGED = "volumes.kubernetes.io/controller-managed-attach-detach"
OUT_OF_SERVICE = "node.kubernetes.io/out-of-service"
FOR_MANY_NODES = ("ReadWriteMany", "ReadOnlyMany")
RECORDED_MAX = 64  # Events that are remembered for a volume
_COMPUTED = re.compile("csi-[0-9a-f]{64}")


class Known(Value, frozen=True, eq=False):
    """What is remembered about a volume: since when each node is to be without it, and the Events
    that were recorded, by pod and message."""

    since: Map[str, Instant] = field(default_factory=Map)
    recorded: frozenset[tuple[str, str]] = frozenset()


Memory: TypeAlias = Map[Key, Known]


def attachment_name(handle: str, driver: str, node: str) -> str:
    """ATTACH-1: the name of the VolumeAttachment, as upstream computes it."""
    return f"csi-{sha256(f'{handle}{driver}{node}'.encode()).hexdigest()}"


def is_own(attachment: VolumeAttachment, volume: PersistentVolume | None) -> bool:
    """ATTACH-7: whether this controller has made it, which its name shows. The handle of a volume
    that is gone is not known; then the form of the name decides."""
    name = attachment.metadata.name or ""
    if volume is None:
        return _COMPUTED.fullmatch(name) is not None
    csi, node = volume.spec.csi, attachment.spec.node_name
    return csi is not None and name == attachment_name(csi.volume_handle, csi.driver, node)


def unique_name(volume: PersistentVolume) -> str:
    """The name of the volume in the status of a Node; empty for one without a CSI driver."""
    csi = volume.spec.csi
    return f"kubernetes.io/csi/{csi.driver}^{csi.volume_handle}" if csi is not None else ""


def is_exclusive(volume: PersistentVolume) -> bool:
    """Whether it may be attached to one node only (ATTACH-3)."""
    modes = volume.spec.access_modes or ()
    return bool(modes) and not any(mode in FOR_MANY_NODES for mode in modes)


def _volume_of(attachment: VolumeAttachment) -> tuple[str, ...]:
    name = attachment.spec.source.persistent_volume_name
    return (name,) if name else ()


def _node_of(attachment: VolumeAttachment) -> tuple[str, ...]:
    return (attachment.spec.node_name,)


def _of_attachment(
    view: View, old: VolumeAttachment | None, new: VolumeAttachment | None
) -> set[Key]:
    return {name for one in (old, new) if one is not None for name in _volume_of(one)}


def _of_claim(view: View, old: object, new: object) -> set[Key]:
    return {
        one.spec.volume_name  # type: ignore[attr-defined]
        for one in (old, new)
        if one is not None and one.spec.volume_name  # type: ignore[attr-defined]
    }


def _of_pod(view: View, old: Pod | None, new: Pod | None) -> list[Key]:
    """The volumes of a pod that has got a node, has ended or is removed."""
    if old is not None and new is not None and _place(old) == _place(new):
        return []
    found = dict.fromkeys(
        claim
        for pod in (old, new)
        if pod is not None and pod.spec.volumes
        for claim in claims_of(pod)
    )
    claims = [view.get(PERSISTENT_VOLUME_CLAIMS, key) for key in found]
    return [one.spec.volume_name for one in claims if one is not None and one.spec.volume_name]


def _place(pod: Pod) -> str:
    """The node where the pod needs its volumes; empty without one."""
    return "" if is_finished(pod) else pod.spec.node_name or ""


def _of_node(view: View, old: Node | None, new: Node | None) -> Iterable[Key]:
    """The volumes that are attached to the node; every volume, for a new or removed node."""
    if old is None or new is None:
        return view.keys(PERSISTENT_VOLUMES)
    if _seen(old) == _seen(new):
        return ()
    name = new.metadata.name or ""
    attachments = view.indexed(VOLUME_ATTACHMENTS, "node", name)
    return dict.fromkeys(key for one in attachments for key in _volume_of(one))


def _seen(node: Node) -> tuple[object, ...]:
    status = node.status
    return (
        status.volumes_in_use,
        status.volumes_attached,
        is_ready_node(node),
        node.spec.taints,
        (node.metadata.annotations or {}).get(MANAGED),
    )


def _of_driver(view: View, old: CSIDriver | None, new: CSIDriver | None) -> list[Key]:
    return view.keys(PERSISTENT_VOLUMES)


class AttachDetachController(Reconciler):
    """Attaches one volume to the nodes of its pods, and detaches it from others."""

    name = "attachdetach-controller"
    interests = (
        Interest(PERSISTENT_VOLUMES, own_key),
        Interest(PERSISTENT_VOLUME_CLAIMS, _of_claim),
        Interest(PODS, _of_pod),
        Interest(NODES, _of_node),
        Interest(VOLUME_ATTACHMENTS, _of_attachment),
        Interest(CSI_DRIVERS, _of_driver),
    )
    indexes = (
        Index("claim", PODS, claims_of, attrgetter("spec.volumes")),
        Index("volume", VOLUME_ATTACHMENTS, _volume_of),
        Index("node", VOLUME_ATTACHMENTS, _node_of),
    )

    def start_memory(self, now: Instant) -> Memory:
        return Map()

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        volume: PersistentVolume | None = view.get(PERSISTENT_VOLUMES, key)
        every: list[VolumeAttachment] = view.indexed(VOLUME_ATTACHMENTS, "volume", key)
        attachments = [one for one in every if is_own(one, volume)]
        memory: Memory = local.memory
        if volume is None and not attachments:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING
        wanted = _wanted(view, volume)
        if not attachments and not wanted:
            return Plan(memory=memory.delete(key)) if key in memory else NOTHING

        # Decide (ATTACH-6)
        step = _Step(view, volume, key, wanted, memory.get(key, Known()), now)
        for attachment in attachments:
            if attachment.spec.node_name not in wanted:
                step.detach(attachment)
            elif attachment.metadata.deletion_timestamp is None:
                step.confirm(attachment)
        own = {one.spec.node_name for one in attachments}
        here = {one.spec.node_name for one in every}
        for node in wanted:
            if node not in own and step.attach(node, here - {node}):
                here.add(node)

        # Act, Report
        waves = (tuple(step.patches), (*step.creations, *step.deletions))
        return Plan(
            tuple([wave for wave in waves if wave]),
            notes=tuple(step.notes),
            memory=memory.set(key, step.known),
            wake_at=step.wake_at,
        )


def _wanted(view: View, volume: PersistentVolume | None) -> dict[str, list[Pod]]:
    """ATTACH-1: the pods that need the volume, by their nodes, those of the oldest pod first."""
    if volume is None or volume.spec.csi is None or volume.spec.claim_ref is None:
        return {}
    driver: CSIDriver | None = view.get(CSI_DRIVERS, volume.spec.csi.driver)
    if driver is not None and driver.spec.attach_required is False:
        return {}
    claim_key = key_of_claim_ref(volume)
    claim = view.get(PERSISTENT_VOLUME_CLAIMS, claim_key)
    if (
        claim is None
        or claim.spec.volume_name != volume.metadata.name
        or claim.metadata.uid != volume.spec.claim_ref.uid
    ):
        return {}
    pods = [pod for pod in view.indexed(PODS, "claim", claim_key) if _place(pod)]
    found: dict[str, list[Pod]] = {}
    for pod in sorted(pods, key=lambda one: (one.metadata.creation_timestamp or "", key_of(one))):
        found.setdefault(_place(pod), []).append(pod)
    return found


class _Step:
    """What is to be done about one volume."""

    def __init__(
        self,
        view: View,
        volume: PersistentVolume | None,
        name: str,
        wanted: dict[str, list[Pod]],
        known: Known,
        now: Instant,
    ) -> None:
        self.view, self.volume, self.name, self.wanted, self.now = view, volume, name, wanted, now
        since = {node: at for node, at in known.since.items() if node not in wanted}
        self.known = evolve(known, since=Map(since))
        self.unique = unique_name(volume) if volume is not None else ""
        self.patches: list[Request] = []
        self.creations: list[Request] = []
        self.deletions: list[Request] = []
        self.notes: list[Note] = []
        self.wake_at: Instant | None = None

    def attach(self, name: str, elsewhere: set[str]) -> bool:
        """ATTACH-1, ATTACH-3: create the VolumeAttachment, or say why not; whether it is
        created."""
        volume, node = self.volume, self.view.get(NODES, name)
        assert volume is not None and volume.spec.csi is not None
        if node is None or (node.metadata.annotations or {}).get(MANAGED) != "true":
            return False
        if elsewhere and is_exclusive(volume):
            for pod in self.wanted[name]:
                self._tell(
                    pod, f'Multi-Attach error for volume "{self.name}" {self._users(name, pod)}'
                )
            return False
        csi = volume.spec.csi
        attachment = VolumeAttachment(
            metadata=ObjectMeta(name=attachment_name(csi.volume_handle, csi.driver, name)),
            spec=VolumeAttachmentSpec(
                attacher=csi.driver,
                source=VolumeAttachmentSource(persistent_volume_name=self.name),
                node_name=name,
            ),
        )
        because = f"pod {key_of(self.wanted[name][0])} on {name} uses volume {self.name}"
        self.creations.append(
            Request("create", VOLUME_ATTACHMENTS, body=attachment, because=because)
        )
        return True

    def _users(self, name: str, pod: Pod) -> str:
        """Which pods of other nodes use the volume, in upstream's words."""
        others = [one for node, pods in self.wanted.items() if node != name for one in pods]
        namespace = pod.metadata.namespace
        near = [str(one.metadata.name) for one in others if one.metadata.namespace == namespace]
        far = len(others) - len(near)
        if not others:
            return (
                "Volume is already exclusively attached to one node and can't be "
                "attached to another"
            )
        if not near:
            return f"Volume is already used by {far} pod(s) in different namespaces"
        more = f" and {far} pod(s) in different namespaces" if far else ""
        return f"Volume is already used by pod(s) {', '.join(near)}{more}"

    def confirm(self, attachment: VolumeAttachment) -> None:
        """ATTACH-2: name an attached volume in the status of its node."""
        name, status = attachment.spec.node_name, attachment.status
        pods = self.wanted[name]
        if not status.attached:
            error = status.attach_error.message if status.attach_error is not None else None
            for pod in pods if error else ():
                words = f'AttachVolume.Attach failed for volume "{self.name}" : {error}'
                self._tell(pod, words)
            return
        node: Node | None = self.view.get(NODES, name)
        if node is None or self.unique in _attached(node):
            return
        self.patches.append(self._patch(node, [*_attached(node), self.unique]))
        for pod in pods:
            words = f'AttachVolume.Attach succeeded for volume "{self.name}" '
            self._tell(pod, words, "SuccessfulAttachVolume", "Normal")

    def detach(self, attachment: VolumeAttachment) -> None:
        """ATTACH-4, ATTACH-5: wait until the volume is not in use, then delete the attachment."""
        name = attachment.spec.node_name
        since = self.known.since.get(name, self.now)
        self.known = evolve(self.known, since=self.known.since.set(name, since))
        if attachment.metadata.deletion_timestamp is not None:
            return
        node: Node | None = self.view.get(NODES, name)
        if node is not None and self.unique in (node.status.volumes_in_use or ()):
            is_late = self.now >= since + UNMOUNT_MAX
            if not (_is_out_of_service(node) or (is_late and not is_ready_node(node))):
                if not is_late:
                    until = since + UNMOUNT_MAX
                    self.wake_at = until if self.wake_at is None else min(until, self.wake_at)
                return
        if node is not None and self.unique in _attached(node):
            rest = [one for one in _attached(node) if one != self.unique]
            self.patches.append(self._patch(node, rest))
        self.deletions.append(
            Request(
                "delete",
                VOLUME_ATTACHMENTS,
                name=attachment.metadata.name or "",
                body=DeleteOptions(preconditions=Preconditions(uid=attachment.metadata.uid)),
                because=f"no pod on {name} uses volume {self.name}",
            )
        )

    def _patch(self, node: Node, names: list[str]) -> Request:
        """The list is replaced as a whole, so it is a conflict if the Node has changed."""
        metadata = node.metadata
        tree = {
            "metadata": {"resourceVersion": metadata.resource_version},
            "status": {"volumesAttached": [{"name": one, "devicePath": ""} for one in names]},
        }
        return Request(
            "patch",
            NODES,
            name=metadata.name or "",
            subresource="status",
            body=Patch("application/merge-patch+json", tree),
            because=f"volume {self.name} is attached to it, or is not any more",
        )

    def _tell(
        self, pod: Pod, words: str, reason: str = "FailedAttachVolume", type: str = "Warning"
    ) -> None:
        recorded = (pod.metadata.uid or "", words)
        if recorded in self.known.recorded:
            return
        kept = self.known.recorded if len(self.known.recorded) < RECORDED_MAX else frozenset()
        self.known = evolve(self.known, recorded=kept | {recorded})
        self.notes.append(Note(pod, reason, words, type))


def _attached(node: Node) -> list[str]:
    return [one.name for one in node.status.volumes_attached or ()]


def _is_out_of_service(node: Node) -> bool:
    return any(taint.key == OUT_OF_SERVICE for taint in node.spec.taints or ())
