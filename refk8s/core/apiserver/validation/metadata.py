"""The metadata of every object, on create and on update. Rules VAL-3, VAL-4, VAL-5
(spec/validation.md).

Source: Kubernetes documentation, "Object Names and IDs", "Labels and Selectors", "Annotations",
"Owners and Dependents", "Finalizers". Left out: managed fields, which clients do not write.
"""

from refk8s.core.api.meta_v1 import ObjectMeta, OwnerReference
from refk8s.core.api.resources import Resource
from refk8s.core.apiserver.validation import names
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_negative,
    required,
    too_long,
    unchanged,
)
from refk8s.core.apiserver.validation.names import (
    Check,
    label_value,
    mask_trailing_dash,
    qualified_name,
)

ANNOTATIONS_BYTES_MAX = 256 * 1024
STANDARD_FINALIZERS = ("kubernetes", "orphan", "foregroundDeletion")

# Resources whose names are not DNS subdomains, by plural and group.
_NAMES: dict[str, Check] = {
    "namespaces": names.dns_label,
    "services": names.dns_label,
    "statefulsets.apps": names.dns_label,
    "roles.rbac.authorization.k8s.io": names.path_segment,
    "rolebindings.rbac.authorization.k8s.io": names.path_segment,
    "clusterroles.rbac.authorization.k8s.io": names.path_segment,
    "clusterrolebindings.rbac.authorization.k8s.io": names.path_segment,
    "certificatesigningrequests.certificates.k8s.io": names.path_segment,
    "clustertrustbundles.certificates.k8s.io": names.path_segment,
    "ipaddresses.networking.k8s.io": names.ip,
    "apiservices.apiregistration.k8s.io": names.path_segment,
    "events": names.path_segment,
}


def name_check(resource: Resource) -> Check:
    """The check of a name of this resource (VAL-3)."""
    return _NAMES.get(
        f"{resource.plural}.{resource.group}" if resource.group else resource.plural,
        names.dns_subdomain,
    )


def validate_metadata(resource: Resource, meta: ObjectMeta, at: str = "metadata") -> Causes:
    """The metadata of an object of this resource (VAL-3, VAL-4)."""
    return check_metadata(meta, name_check(resource), resource.namespaced, at)


def check_metadata(
    meta: ObjectMeta,
    name_is_right: Check,
    namespaced: bool,
    at: str = "metadata",
    any_finalizer: bool = False,
) -> Causes:
    """The same, with this check of names. An object without a name needs a generateName, which must
    be a valid beginning of a name. `any_finalizer`: a finalizer needs no domain (upstream requires
    it for most kinds)."""
    causes: Causes = []
    name = meta.name
    if meta.generate_name:
        words = name_is_right(mask_trailing_dash(meta.generate_name))
        causes += [invalid(f"{at}.generateName", meta.generate_name, word) for word in words]
    if not name:
        causes.append(required(f"{at}.name", "name or generateName is required"))
    else:
        words = name_is_right(name)
        if words:
            causes += [invalid(f"{at}.name", name, word) for word in words]
    if namespaced:
        if not meta.namespace:
            causes.append(required(f"{at}.namespace"))
        else:
            causes += [
                invalid(f"{at}.namespace", meta.namespace, word)
                for word in names.dns_label(meta.namespace)
            ]
    elif meta.namespace:
        causes.append(forbidden(f"{at}.namespace", "not allowed on this type"))
    if meta.generation is not None:
        causes += not_negative(f"{at}.generation", meta.generation)
    if meta.labels:
        causes += validate_labels(meta.labels, f"{at}.labels")
    if meta.annotations:
        causes += validate_annotations(meta.annotations, f"{at}.annotations")
    if meta.owner_references:
        causes += validate_owner_references(meta.owner_references, f"{at}.ownerReferences")
    if meta.finalizers:
        causes += validate_finalizers(meta.finalizers, f"{at}.finalizers", any_finalizer)
    return causes


def validate_labels(labels: dict[str, str], at: str) -> Causes:
    """VAL-4: keys are qualified names, values are at most 63 bytes and have the characters of a
    name."""
    causes: Causes = []
    for key in labels:
        words = qualified_name(key)
        if words:
            causes += [invalid(at, key, word) for word in words]
        words = label_value(labels[key])
        if words:
            causes += [invalid(at, labels[key], word) for word in words]
    return causes


def validate_annotations(annotations: dict[str, str], at: str) -> Causes:
    """VAL-4: keys like those of labels, but in any case; values are free; all together at most 256
    KiB."""
    causes: Causes = []
    characters = 0
    for key, value in annotations.items():
        words = qualified_name(key.lower())
        if words:
            causes += [invalid(at, key, word) for word in words]
        characters += len(key) + len(value)
    # a character has at most four bytes, so counting bytes is rarely needed
    if characters * 4 > ANNOTATIONS_BYTES_MAX:
        size = sum(
            [
                len(part.encode("utf-8", "surrogatepass"))
                for item in annotations.items()
                for part in item
            ]
        )
        if size > ANNOTATIONS_BYTES_MAX:
            causes.append(too_long(at, ANNOTATIONS_BYTES_MAX))
    return causes


def validate_owner_references(references: tuple[OwnerReference, ...], at: str) -> Causes:
    """VAL-4: each is complete, and at most one of them is the controller."""
    causes: Causes = []
    controller = ""
    for reference in references:
        version = reference.api_version.rpartition("/")[2]
        if not version or reference.api_version.count("/") > 1:
            causes.append(
                invalid(f"{at}.apiVersion", reference.api_version, "version must not be empty")
            )
        if not reference.kind:
            causes.append(invalid(f"{at}.kind", reference.kind, "must not be empty"))
        if not reference.name:
            causes.append(invalid(f"{at}.name", reference.name, "must not be empty"))
        if not reference.uid:
            causes.append(invalid(f"{at}.uid", reference.uid, "must not be empty"))
        if reference.api_version == "v1" and reference.kind == "Event":
            causes.append(
                invalid(at, reference, "/v1, Kind=Event is disallowed from being an owner")
            )
        if reference.controller:
            this = f"{reference.kind}/{reference.name}"
            if controller:
                words = (
                    "Only one reference can have Controller set to true. "
                    f'Found "true" in references for {controller} and {this}'
                )
                causes.append(invalid(at, references, words))
            else:
                controller = this
    return causes


def validate_finalizers(
    finalizers: tuple[str, ...], at: str, any_finalizer: bool = False
) -> Causes:
    """VAL-4: qualified names; without a prefix only Kubernetes' own; not both propagation
    policies."""
    causes: Causes = []
    for finalizer in finalizers:
        causes += malformed(at, finalizer, qualified_name)
    if "orphan" in finalizers and "foregroundDeletion" in finalizers:
        causes.append(
            invalid(at, finalizers, "finalizer orphan and foregroundDeletion cannot be both set")
        )
    if any_finalizer:
        return causes
    for position, finalizer in enumerate(finalizers):
        if "/" not in finalizer and finalizer not in STANDARD_FINALIZERS:
            words = "name is neither a standard finalizer name nor is it fully qualified"
            causes.append(invalid(f"{at}[{position}]", finalizer, words))
    return causes


def validate_metadata_update(new: ObjectMeta, old: ObjectMeta, at: str = "metadata") -> Causes:
    """The identity of an object is immutable (VAL-5), and an object that is being deleted gets no
    new finalizers (DEL-12). Labels and annotations are checked as on create."""
    causes: Causes = []
    if old.deletion_timestamp is not None and new.finalizers:
        added = [
            finalizer for finalizer in new.finalizers if finalizer not in (old.finalizers or ())
        ]
        if added:
            listed = ", ".join([f'"{finalizer}"' for finalizer in sorted(added)])
            words = (
                "no new finalizers can be added if the object is being deleted, "
                f"found new finalizers []string{{{listed}}}"
            )
            causes.append(forbidden(f"{at}.finalizers", words))
    if (new.generation or 0) < (old.generation or 0):
        causes.append(invalid(f"{at}.generation", new.generation or 0, "must not be decremented"))
    causes += unchanged(f"{at}.name", new.name, old.name)
    causes += unchanged(f"{at}.namespace", new.namespace, old.namespace)
    causes += unchanged(f"{at}.uid", new.uid, old.uid)
    causes += unchanged(f"{at}.creationTimestamp", new.creation_timestamp, old.creation_timestamp)
    causes += unchanged(f"{at}.deletionTimestamp", new.deletion_timestamp, old.deletion_timestamp)
    causes += unchanged(
        f"{at}.deletionGracePeriodSeconds",
        new.deletion_grace_period_seconds,
        old.deletion_grace_period_seconds,
    )
    if new.labels:
        causes += validate_labels(new.labels, f"{at}.labels")
    if new.annotations:
        causes += validate_annotations(new.annotations, f"{at}.annotations")
    return causes
