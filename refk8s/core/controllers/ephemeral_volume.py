"""The claims of generic ephemeral volumes of pods. Rule VOL-9 (spec/workloads/volume_binding.md).

Source: Kubernetes documentation, "Ephemeral Volumes" (generic ephemeral volumes).
"""

from collections.abc import Iterable

from refk8s.core.api.core_v1 import PersistentVolumeClaim, Pod
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import PERSISTENT_VOLUME_CLAIMS, PODS
from refk8s.core.context import Instant
from refk8s.core.controllers.owners import controller_reference
from refk8s.core.loop.plan import NOTHING, Key, Local, Note, Plan
from refk8s.core.loop.reconciler import Interest, Reconciler
from refk8s.core.loop.view import View, controller_of, key_of


def _of_pod(view: View, old: Pod | None, new: Pod | None) -> Iterable[Key]:
    """A new pod with an ephemeral volume; later changes of it do not matter."""
    if new is None or old is not None:
        return ()
    volumes = new.spec.volumes or ()
    return (key_of(new),) if any(volume.ephemeral is not None for volume in volumes) else ()


def _of_claim(
    view: View, old: PersistentVolumeClaim | None, new: PersistentVolumeClaim | None
) -> Iterable[Key]:
    """The pod of a claim that was deleted."""
    reference = controller_of(old) if new is None and old is not None else None
    if reference is None or reference.kind != "Pod" or old is None:
        return ()
    return (f"{old.metadata.namespace}/{reference.name}",)


class EphemeralVolume(Reconciler):
    """Creates the claims of one pod."""

    name = "ephemeral-volume-controller"
    component = "ephemeral_volume"
    interests = (Interest(PODS, _of_pod), Interest(PERSISTENT_VOLUME_CLAIMS, _of_claim))

    def reconcile(self, view: View, key: Key, now: Instant, local: Local) -> Plan:
        # Observe
        pod: Pod | None = view.get(PODS, key)
        if pod is None or pod.metadata.deletion_timestamp is not None:
            return NOTHING

        # Decide
        creations: list[Request] = []
        notes: list[Note] = []
        for volume in pod.spec.volumes or ():
            template = volume.ephemeral.volume_claim_template if volume.ephemeral else None
            if template is None:
                continue
            name = f"{pod.metadata.name}-{volume.name}"
            namespace = pod.metadata.namespace or ""
            found = view.get(PERSISTENT_VOLUME_CLAIMS, f"{namespace}/{name}")
            if found is not None:
                owner = controller_of(found)
                if owner is None or owner.uid != pod.metadata.uid:
                    words = (
                        f"ephemeral volume {volume.name}: PVC {namespace}/{name} was not created "
                        f"for pod {key} (pod is not owner)"
                    )
                    notes.append(Note(pod, "FailedBinding", words, "Warning"))
                continue
            metadata = ObjectMeta(
                name=name,
                namespace=namespace,
                labels=template.metadata.labels if template.metadata else None,
                annotations=template.metadata.annotations if template.metadata else None,
                owner_references=(controller_reference(pod),),
            )
            body = PersistentVolumeClaim(metadata=metadata, spec=template.spec)
            because = f"volume {volume.name} of pod {key} needs it"
            creations.append(
                Request("create", PERSISTENT_VOLUME_CLAIMS, namespace, body=body, because=because)
            )

        # Act
        wave = tuple(creations)
        return Plan((wave,) if wave else (), notes=tuple(notes), failed=bool(notes))
