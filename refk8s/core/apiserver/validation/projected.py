"""Projected and downward API volumes: files from config maps, secrets, the pod itself and tokens.
Rule VAL-15 (spec/validation.md).

Source: Kubernetes documentation, "Projected Volumes", "Downward API", "Certificates and Certificate
Signing Requests".
"""

from msgspec.structs import astuple

from refk8s.core.api.core_v1 import (
    ClusterTrustBundleProjection,
    DownwardAPIVolumeFile,
    KeyToPath,
    PodCertificateProjection,
    ProjectedVolumeSource,
    ServiceAccountTokenProjection,
    VolumeProjection,
)
from refk8s.core.apiserver.token_source import TOKEN_SOURCE
from refk8s.core.apiserver.validation.certificates import validate_signer_name
from refk8s.core.apiserver.validation.env import validate_field_selector, validate_resource_selector
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.mounts import is_inside, validate_relative_path
from refk8s.core.apiserver.validation.names import dns_subdomain
from refk8s.core.apiserver.validation.selectors import validate_selector

FILE_FIELDS = (
    "metadata.annotations",
    "metadata.labels",
    "metadata.name",
    "metadata.namespace",
    "metadata.uid",
)
MODE_MAX = 0o777
TOKEN_SECONDS_MIN, TOKEN_SECONDS_MAX = 600, 2**32
CERTIFICATE_SECONDS_MIN, CERTIFICATE_SECONDS_MAX = 3600, 91 * 24 * 3600
KEY_TYPES = ("ECDSAP256", "ECDSAP384", "ECDSAP521", "ED25519", "RSA3072", "RSA4096")
_KINDS_OF_PROJECTION = len(VolumeProjection.__struct_fields__)
_MODE_WORDS = "must be a number between 0 and 0777 (octal), both inclusive"


def validate_mode(mode: int | None, at: str) -> Causes:
    return [] if mode is None or 0 <= mode <= MODE_MAX else [invalid(at, mode, _MODE_WORDS)]


def validate_items(items: tuple[KeyToPath, ...] | None, at: str) -> Causes:
    causes: Causes = []
    for position, item in enumerate(items or ()):
        if item.key and item.path and item.mode is None and is_inside(item.path):
            continue
        here = f"{at}.items[{position}]"
        if not item.key:
            causes.append(required(f"{here}.key"))
        if not item.path:
            causes.append(required(f"{here}.path"))
        else:
            causes += validate_relative_path(item.path, f"{here}.path")
        causes += validate_mode(item.mode, f"{here}.mode")
    return causes


def validate_files(items: tuple[DownwardAPIVolumeFile, ...] | None, at: str) -> Causes:
    """Each file has one field or resource of the pod. As upstream, the paths do not name the
    file."""
    causes: Causes = []
    for file in items or ():
        causes += (
            [required(f"{at}.path")]
            if not file.path
            else validate_relative_path(file.path, f"{at}.path")
        )
        if file.field_ref is not None:
            causes += validate_field_selector(file.field_ref, FILE_FIELDS, f"{at}.fieldRef")
            if file.resource_field_ref is not None:
                causes.append(
                    invalid(
                        at,
                        "resource",
                        "fieldRef and resourceFieldRef can not be specified simultaneously",
                    )
                )
        elif file.resource_field_ref is not None:
            causes += validate_resource_selector(
                file.resource_field_ref, f"{at}.resourceFieldRef", True
            )
        else:
            causes.append(required(at, "one of fieldRef and resourceFieldRef is required"))
        causes += validate_mode(file.mode, f"{at}.mode")
    return causes


def validate_projected(projected: ProjectedVolumeSource, at: str) -> Causes:
    """VAL-15: each source has one type, and no two of them write the same file."""
    if projected is TOKEN_SOURCE:
        return []
    causes = validate_mode(projected.default_mode, f"{at}.defaultMode")
    paths: set[str] = set()
    for position, source in enumerate(projected.sources or ()):
        here = f"{at}.sources[{position}]"
        causes += _validate_projection(source, here, at)
        for path in _paths(source):
            if path in paths:
                causes.append(invalid(at, path, "conflicting duplicate paths"))
            paths.add(path)
        if _KINDS_OF_PROJECTION - astuple(source).count(None) > 1:
            causes.append(forbidden(here, "may not specify more than 1 volume type per source"))
    return causes


def _paths(source: VolumeProjection) -> list[str]:
    """The files that a source writes, if they are named. The path of a service account's token is
    not one of them."""
    found = [
        item.path
        for items in (source.secret, source.config_map, source.downward_api)
        if items
        for item in items.items or ()
    ]
    if source.cluster_trust_bundle is not None:
        found.append(source.cluster_trust_bundle.path)
    if source.pod_certificate is not None:
        certificate = source.pod_certificate
        found += [
            certificate.credential_bundle_path or "",
            certificate.key_path or "",
            certificate.certificate_chain_path or "",
        ]
    return [path for path in found if path]


def _validate_projection(source: VolumeProjection, here: str, at: str) -> Causes:
    """An empty source is accepted, as upstream. `at`: the path of the volume's source, with which
    some paths begin."""
    causes: Causes = []
    for projected, name in ((source.secret, "secret"), (source.config_map, "configMap")):
        if projected is not None:
            causes += [] if projected.name else [required(f"{here}.{name}.name")]
            causes += validate_items(projected.items, f"{here}.{name}")
    if source.downward_api is not None:
        causes += validate_files(source.downward_api.items, f"{here}.downwardAPI")
    if source.service_account_token is not None:
        causes += _validate_token(source.service_account_token, f"{here}.serviceAccountToken", at)
    if source.cluster_trust_bundle is not None:
        causes += _validate_bundle(source.cluster_trust_bundle, f"{here}.clusterTrustBundle")
    if source.pod_certificate is not None:
        causes += _validate_certificate(source.pod_certificate, f"{here}.podCertificate")
    return causes


def _validate_bundle(bundle: ClusterTrustBundleProjection, at: str) -> Causes:
    """VAL-15: a bundle is selected by its name, or by its signer and labels."""
    causes: Causes = []
    if bundle.name is not None and bundle.signer_name is not None:
        causes.append(invalid(at, bundle, "only one of name and signerName may be used"))
    elif bundle.name is not None:
        if not bundle.name:
            causes.append(required(f"{at}.name", "must be a valid object name"))
        for word in dns_subdomain(bundle.name.rpartition(":")[2]):
            causes.append(
                invalid(f"{at}.name", bundle.name, f"not a valid clustertrustbundlename: {word}")
            )
        if bundle.label_selector is not None:
            causes.append(
                invalid(
                    f"{at}.labelSelector",
                    bundle.label_selector,
                    "labelSelector must be unset if name is specified",
                )
            )
    elif bundle.signer_name is not None:
        if not bundle.signer_name:
            causes.append(required(f"{at}.signerName", "must be a valid signer name"))
        else:
            causes += validate_signer_name(bundle.signer_name, f"{at}.signerName")
        causes += validate_selector(bundle.label_selector, f"{at}.labelSelector")
    else:
        causes.append(required(at, "either name or signerName must be specified"))
    return (
        causes
        + ([] if bundle.path else [required(f"{at}.path")])
        + validate_relative_path(bundle.path, f"{at}.path")
    )


def _validate_certificate(certificate: PodCertificateProjection, at: str) -> Causes:
    """VAL-15: a signer, a known key type, a lifetime between an hour and 91 days, and at least one
    file."""
    causes = validate_signer_name(certificate.signer_name, f"{at}.signerName")
    if certificate.key_type not in KEY_TYPES:
        causes.append(not_supported(f"{at}.keyType", certificate.key_type, KEY_TYPES))
    seconds = certificate.max_expiration_seconds
    if seconds is not None and not CERTIFICATE_SECONDS_MIN <= seconds <= CERTIFICATE_SECONDS_MAX:
        words = (
            f"if provided, maxExpirationSeconds must be between {CERTIFICATE_SECONDS_MIN} and "
            f"{CERTIFICATE_SECONDS_MAX}"
        )
        causes.append(invalid(f"{at}.maxExpirationSeconds", seconds, words))
    named = (
        (certificate.credential_bundle_path, "credentialBundlePath"), (certificate.key_path, "keyPath"),
        (certificate.certificate_chain_path, "certificateChainPath"),
    )  # fmt: skip
    if not any(path for path, _ in named):
        causes.append(
            required(
                at,
                "specify at least one of credentialBundlePath, keyPath, and certificateChainPath",
            )
        )
    for path, name in named:
        causes += validate_relative_path(path or "", f"{at}.{name}")
    return causes


def _validate_token(token: ServiceAccountTokenProjection, here: str, at: str) -> Causes:
    """VAL-15: a lifetime between ten minutes and 2^32 seconds."""
    seconds = token.expiration_seconds
    causes: Causes = []
    if seconds is not None and seconds < TOKEN_SECONDS_MIN:
        causes.append(
            invalid(
                f"{here}.expirationSeconds",
                seconds,
                "may not specify a duration less than 10 minutes",
            )
        )
    if seconds is not None and seconds > TOKEN_SECONDS_MAX:
        causes.append(
            invalid(
                f"{here}.expirationSeconds",
                seconds,
                "may not specify a duration larger than 2^32 seconds",
            )
        )
    if not token.path:
        return [*causes, required(f"{at}.path")]
    return causes + validate_relative_path(token.path, f"{at}.path")
