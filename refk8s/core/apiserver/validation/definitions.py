"""Validation of CustomResourceDefinitions. Rule CRD-6 (spec/custom_resources.md).

What all versions have in common is reported at `spec`, as upstream, where it is stored once:
`spec.validation.openAPIV3Schema` for a schema that every version has. Source: Kubernetes
documentation, "Extend the Kubernetes API with CustomResourceDefinitions"; KEP-1111 "Protection of
*.k8s.io API groups".
"""

from collections.abc import Callable, Iterable
from typing import Any

from refk8s.core.api import codec
from refk8s.core.api.apiextensions_v1 import (
    CustomResourceConversion,
    CustomResourceDefinition,
    CustomResourceDefinitionNames,
    CustomResourceDefinitionSpec,
    CustomResourceDefinitionVersion,
)
from refk8s.core.api.codec import DecodeError
from refk8s.core.api.custom import ESTABLISHED, bundle_of, has_condition
from refk8s.core.api.pem import problem_of_bundle
from refk8s.core.apiserver.custom.schema import schema_tree
from refk8s.core.apiserver.validation.field import (
    Causes,
    forbidden,
    invalid,
    malformed,
    not_supported,
    required,
    too_many,
    unchanged,
)
from refk8s.core.apiserver.validation.names import dns_label_1035, dns_subdomain
from refk8s.core.apiserver.validation.schemas import validate_schema
from refk8s.core.apiserver.validation.subresources import (
    validate_columns,
    validate_selectable_fields,
    validate_subresources,
)
from refk8s.core.apiserver.validation.webhook_client import (
    check_webhook_client,
    validate_review_versions,
)

VERSIONS_MAX = 100
"""The most versions of one definition. Upstream has no bound besides the size of the object."""

SCOPES = ("Cluster", "Namespaced")
APPROVAL = "api-approved.kubernetes.io"
_PROTECTED = ("k8s.io", "kubernetes.io")


def validate_definition(crd: CustomResourceDefinition) -> Causes:
    """The causes of a new definition."""
    causes: Causes = []
    expected = f"{crd.spec.names.plural}.{crd.spec.group}"
    if crd.metadata.name and crd.metadata.name != expected:
        words = 'must be spec.names.plural+"."+spec.group'
        causes.append(invalid("metadata.name", crd.metadata.name, words))
    causes += _spec(crd.spec)
    causes += _stored_versions(crd)
    return causes + _approval(crd) + _unknown_fields(crd.spec)


def validate_definition_update(
    new: CustomResourceDefinition, old: CustomResourceDefinition
) -> Causes:
    """The causes of a changed definition."""
    causes: Causes = _spec(new.spec) if new.spec != old.spec else []
    if has_condition(old, ESTABLISHED):
        causes += unchanged("spec.scope", new.spec.scope, old.spec.scope)
        causes += unchanged("spec.names.kind", new.spec.names.kind, old.spec.names.kind)
        causes += _authorities(new.spec, old.spec)
    causes += unchanged("spec.group", new.spec.group, old.spec.group)
    causes += unchanged("spec.names.plural", new.spec.names.plural, old.spec.names.plural)
    causes += _stored_versions(new)
    if _approval_state(new) != _approval_state(old):
        causes += _approval(new)
    return causes if old.spec.preserve_unknown_fields else causes + _unknown_fields(new.spec)


def validate_definition_status(
    new: CustomResourceDefinition, old: CustomResourceDefinition
) -> Causes:
    """The causes of a changed status."""
    return _stored_versions(new)


def _spec(spec: CustomResourceDefinitionSpec) -> Causes:
    causes: Causes = []
    if not spec.group:
        causes.append(required("spec.group"))
    elif wrong := malformed("spec.group", spec.group, dns_subdomain):
        causes += wrong
    elif "." not in spec.group:
        words = "should be a domain with at least one dot"
        causes.append(invalid("spec.group", spec.group, words))
    if not spec.scope:
        causes.append(required("spec.scope"))
    elif spec.scope not in SCOPES:
        causes.append(not_supported("spec.scope", spec.scope, SCOPES))
    causes += _versions(spec)
    causes += _names(spec.names)
    strategy = spec.conversion.strategy if spec.conversion is not None else "None"
    if spec.preserve_unknown_fields and strategy != "None":
        words = "must be None if spec.preserveUnknownFields is true"
        causes.append(invalid("spec.conversion.strategy", strategy, words))
    return causes + _conversion(spec.conversion)


def _unknown_fields(spec: CustomResourceDefinitionSpec) -> Causes:
    if not spec.preserve_unknown_fields:
        return []
    words = (
        "cannot set to true, set x-kubernetes-preserve-unknown-fields to true in "
        "spec.versions[*].schema instead"
    )
    return [invalid("spec.preserveUnknownFields", True, words)]


def _versions(spec: CustomResourceDefinitionSpec) -> Causes:
    versions = spec.versions
    if len(versions) > VERSIONS_MAX:
        return [too_many("spec.versions", len(versions), VERSIONS_MAX)]
    causes: Causes = []
    for place, version in enumerate(versions):
        at = f"spec.versions[{place}]"
        causes += malformed(f"{at}.name", version.name, dns_label_1035)
        if version.deprecation_warning is not None:
            causes += _deprecation(version, f"{at}.deprecationWarning")
        if version.schema is None or version.schema.open_api_v3_schema is None:
            causes.append(required(f"{at}.schema.openAPIV3Schema"))
    listed = [codec.to_tree(version) for version in versions]
    if len({version.name for version in versions}) != len(versions):
        causes.append(invalid("spec.versions", listed, "must contain unique version names"))
    if sum(version.storage for version in versions) != 1:
        words = "must have exactly one version marked as storage version"
        causes.append(invalid("spec.versions", listed, words))
    for at, version in _each(versions, lambda one: one.schema, ".schema", ".validation"):
        schema = version.schema.open_api_v3_schema if version.schema is not None else None
        if schema is not None:
            has_status = version.subresources is not None and bool(version.subresources.status)
            where = f"{at}.openAPIV3Schema"
            try:
                tree = schema_tree(schema)
            except DecodeError as error:
                causes.append(invalid(where, "", str(error)))
                continue
            causes += validate_schema(tree, where, has_status=has_status)
    for at, version in _each(versions, lambda one: one.subresources, ".subresources"):
        causes += validate_subresources(version.subresources, at)
    for at, version in _each(
        versions, lambda one: one.additional_printer_columns, ".additionalPrinterColumns"
    ):
        causes += validate_columns(version.additional_printer_columns or (), at)
    for at, version in _each(versions, lambda one: one.selectable_fields, ".selectableFields"):
        causes += validate_selectable_fields(version, at)
    return causes


def _each(
    versions: tuple[CustomResourceDefinitionVersion, ...],
    part: Callable[[CustomResourceDefinitionVersion], Any],
    name: str,
    common_name: str = "",
) -> Iterable[tuple[str, CustomResourceDefinitionVersion]]:
    """The place of a part in each version; one place at `spec` if it is the same in all."""
    if versions and all(part(one) == part(versions[0]) for one in versions):
        yield f"spec{common_name or name}", versions[0]
        return
    for place, version in enumerate(versions):
        yield f"spec.versions[{place}]{name}", version


def _deprecation(version: CustomResourceDefinitionVersion, at: str) -> Causes:
    text = version.deprecation_warning or ""
    if not version.deprecated:
        return [invalid(at, text, "can only be set for deprecated versions")]
    if not text:
        return [invalid(at, text, "must not be empty")]
    if len(text.encode()) > 256:
        return [invalid(at, text, "must be <= 256 bytes in length")]
    if not text.isprintable():
        return [invalid(at, text, "must only contain printable characters")]
    return []


def _names(names: CustomResourceDefinitionNames) -> Causes:
    causes: Causes = []
    for key, text in (
        ("plural", names.plural),
        ("singular", names.singular or ""),
        ("kind", names.kind),
        ("listKind", names.list_kind or ""),
    ):
        at = f"spec.names.{key}"
        if not text:
            causes.append(required(at))
        elif key in ("kind", "listKind"):
            causes += [
                invalid(at, text, f"may have mixed case, but should otherwise match: {words}")
                for words in dns_label_1035(text.lower())
            ]
        else:
            causes += malformed(at, text, dns_label_1035)
    for key, texts in (("shortNames", names.short_names), ("categories", names.categories)):
        for place, text in enumerate(texts or ()):
            causes += malformed(f"spec.names.{key}[{place}]", text, dns_label_1035)
    if names.kind and names.kind == names.list_kind:
        words = "kind and listKind may not be the same"
        causes.append(invalid("spec.names.listKind", names.list_kind, words))
    return causes


def _conversion(conversion: CustomResourceConversion | None) -> Causes:
    at = "spec.conversion"
    if conversion is None:
        return []
    causes: Causes = []
    if not conversion.strategy:
        causes.append(required(f"{at}.strategy"))
    elif conversion.strategy not in ("None", "Webhook"):
        causes.append(not_supported(f"{at}.strategy", conversion.strategy, ("None", "Webhook")))
    webhook = conversion.webhook
    client = webhook.client_config if webhook is not None else None
    reviewed = tuple(webhook.conversion_review_versions) if webhook is not None else ()
    client_at, versions_at = f"{at}.webhookClientConfig", f"{at}.conversionReviewVersions"
    if conversion.strategy != "Webhook":
        words = "should not be set when strategy is not set to Webhook"
        return [
            *causes,
            *([forbidden(client_at, words)] if client is not None else []),
            *([forbidden(versions_at, words)] if reviewed else []),
        ]
    if client is None:
        causes.append(required(client_at, "required when strategy is set to Webhook"))
    else:
        causes += check_webhook_client(client, client_at)
    if not reviewed:
        causes.append(required(versions_at))
    else:
        causes += validate_review_versions(reviewed, versions_at)
    return causes


def _authorities(new: CustomResourceDefinitionSpec, old: CustomResourceDefinitionSpec) -> Causes:
    """A caBundle that can be used stays so (CRD-29)."""
    if not (problem := problem_of_bundle(bundle_of(new))) or problem_of_bundle(bundle_of(old)):
        return []
    return [invalid("spec.conversion.webhookClientConfig.caBundle", bundle_of(new), problem)]


def _stored_versions(crd: CustomResourceDefinition) -> Causes:
    at, stored = "status.storedVersions", tuple(crd.status.stored_versions or ())
    if not stored:
        return [invalid(at, [], "must have at least one stored version")]
    causes: Causes = []
    left = list(stored)
    for version in crd.spec.versions:
        is_stored = version.name in left
        if is_stored:
            left.remove(version.name)
        if version.storage and not is_stored:
            words = f"must have the storage version {version.name}"
            causes.append(invalid(at, list(stored), words))
    names = {version.name for version in crd.spec.versions}
    for place, name in enumerate(stored):
        if name not in names:
            words = (
                f"missing from spec.versions; {name} was previously a storage version, and must "
                "remain in spec.versions until a storage migration ensures no data remains "
                f"persisted in {name} and removes {name} from status.storedVersions"
            )
            causes.append(invalid(f"{at}[{place}]", name, words))
    return causes


def _approval_state(crd: CustomResourceDefinition) -> str:
    """Whether an approval is missing, invalid, or given (a URL, or a reason for none)."""
    approval = (crd.metadata.annotations or {}).get(APPROVAL, "")
    if not approval:
        return "missing"
    if approval.startswith("unapproved"):
        return "bypassed"
    return "approved" if _is_url(approval) else "invalid"


def _is_url(text: str) -> bool:
    scheme, separator, rest = text.partition("://")
    return bool(separator and scheme and rest.partition("/")[0])


def _approval(crd: CustomResourceDefinition) -> Causes:
    """A group of the Kubernetes community needs an annotation with the URL of its approval."""
    group = crd.spec.group
    if not any(group == one or group.endswith(f".{one}") for one in _PROTECTED):
        return []
    at = f"metadata.annotations[{APPROVAL}]"
    approval = (crd.metadata.annotations or {}).get(APPROVAL, "")
    if not approval:
        words = (
            f'protected groups must have approval annotation "{APPROVAL}", '
            "see https://github.com/kubernetes/enhancements/pull/1111"
        )
        return [required(at, words)]
    if _approval_state(crd) != "invalid":
        return []
    words = (
        'protected groups must have approval annotation "api-approved.kubernetes.io" with either '
        'a URL or a reason starting with "unapproved", see '
        "https://github.com/kubernetes/enhancements/pull/1111"
    )
    return [invalid(at, approval, words)]
