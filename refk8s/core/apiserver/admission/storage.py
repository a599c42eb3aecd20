"""Finalizers of volumes and claims, and default classes. Rules ADM-21, ADM-22 (spec/admission.md).

Source: Kubernetes documentation, "Persistent Volumes" (storage object in use protection,
expanding), "Admission Control in Kubernetes" (DefaultStorageClass, DefaultIngressClass,
PersistentVolumeClaimResize).
"""

from typing import TYPE_CHECKING, Any

from msgspec.structs import replace

from refk8s.core.api import resources, status
from refk8s.core.api.core_v1 import PersistentVolume, PersistentVolumeClaim
from refk8s.core.api.default_class import default_class
from refk8s.core.api.finalizers import (
    ATTRIBUTES_CLASS_PROTECTION,
    CLAIM_PROTECTION,
    VOLUME_PROTECTION,
)
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.networking_v1 import Ingress
from refk8s.core.api.quantity import ZERO, Amount
from refk8s.core.api.request import Request
from refk8s.core.api.resources import Resource
from refk8s.core.api.status import ApiError
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.validation.network import CLASS_ANNOTATION
from refk8s.core.apiserver.validation.resources import amount
from refk8s.core.context import Context, timestamp
from refk8s.core.pods.volumes import DEFAULT_CLASS_ANNOTATIONS, class_of, has_class

if TYPE_CHECKING:
    from refk8s.core.apiserver.exchange import Exchange

_PROTECTION = {
    resources.PERSISTENT_VOLUME_CLAIMS: CLAIM_PROTECTION,
    resources.PERSISTENT_VOLUMES: VOLUME_PROTECTION,
    resources.VOLUME_ATTRIBUTES_CLASSES: ATTRIBUTES_CLASS_PROTECTION,
}
DEFAULT_INGRESS_CLASS = "ingressclass.kubernetes.io/is-default-class"


def protect(request: Request, new: Any, old: Any, store: Reader, context: Context) -> Any:
    """ADM-21: the finalizer of a new claim, volume or VolumeAttributesClass."""
    if old is not None:
        return new
    return replace(new, metadata=_protected(new.metadata, _PROTECTION[request.resource]))


def admit_class(
    request: Request, new: PersistentVolumeClaim, old: Any, store: Reader, context: Context
) -> PersistentVolumeClaim:
    """ADM-22: the default StorageClass."""
    if old is not None or has_class(new):
        return new
    name = _default_class(resources.STORAGE_CLASSES, DEFAULT_CLASS_ANNOTATIONS, store)
    return replace(new, spec=replace(new.spec, storage_class_name=name)) if name else new


def admit_volume(
    request: Request, new: PersistentVolume, old: Any, store: Reader, context: Context
) -> PersistentVolume:
    """ADM-21: a volume is created Pending, with the time of that phase."""
    if old is not None:
        return new
    began = replace(new.status, last_phase_transition_time=timestamp(context.now))
    return replace(new, status=began)


def admit_volume_status(
    request: Request,
    new: PersistentVolume,
    old: PersistentVolume,
    store: Reader,
    context: Context,
) -> PersistentVolume:
    """ADM-21: the time at which the phase changed, unless the client sets it."""
    before, after = old.status, new.status
    is_given = after.last_phase_transition_time not in (None, before.last_phase_transition_time)
    if is_given:
        return new
    if after.phase == before.phase:
        return replace(
            new, status=replace(after, last_phase_transition_time=before.last_phase_transition_time)
        )
    return replace(new, status=replace(after, last_phase_transition_time=timestamp(context.now)))


def _protected(metadata: ObjectMeta, finalizer: str) -> ObjectMeta:
    finalizers = metadata.finalizers or ()
    return (
        metadata
        if finalizer in finalizers
        else replace(metadata, finalizers=(*finalizers, finalizer))
    )


def admit_ingress(
    request: Request, new: Ingress, old: Any, store: Reader, context: Context
) -> Ingress:
    """ADM-22: the default IngressClass."""
    if old is not None or new.spec.ingress_class_name is not None:
        return new
    if CLASS_ANNOTATION in (new.metadata.annotations or {}):
        return new
    name = _default_class(resources.INGRESS_CLASSES, (DEFAULT_INGRESS_CLASS,), store)
    return replace(new, spec=replace(new.spec, ingress_class_name=name)) if name else new


def _default_class(resource: Resource, marks: tuple[str, ...], store: Reader) -> str:
    """The name of the default class; empty without one. O(classes)."""
    return default_class((record.value for record in store.list(resource.prefix).records), marks)


def check_growth(
    exchange: "Exchange", new: PersistentVolumeClaim, old: PersistentVolumeClaim | None
) -> None:
    """ADM-22: raise ApiError 403 for a larger claim of a class without `allowVolumeExpansion`."""
    if old is None:
        return
    if _size(new).nano <= _size(old).nano:
        return
    record = exchange.store.get(resources.STORAGE_CLASSES.key("", class_of(old)))
    if old.status.phase != "Bound":
        why = "Only bound persistent volume claims can be expanded"
    elif record is None or not record.value.allow_volume_expansion:
        why = (
            "only dynamically provisioned pvc can be resized and the storageclass that provisions "
            "the pvc must support resize"
        )
    else:
        return
    raise ApiError(status.forbidden(exchange.request.resource, new.metadata.name or "", why))


def _size(claim: PersistentVolumeClaim) -> Amount:
    """The storage that a claim requests."""
    text = (claim.spec.resources.requests or {}).get("storage")
    return ZERO if text is None else amount(text) or ZERO
