"""APIServices. Rules APISVC-1, APISVC-2 (spec/api_services.md).

Source: Kubernetes API reference, "APIService".
"""

from refk8s.core.api.apiregistration_v1 import APIService
from refk8s.core.apiserver.validation.field import (
    PORT_RANGE,
    Causes,
    invalid,
    malformed,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import dns_label_1035, dns_subdomain, path_segment

GROUP_PRIORITY_MAX = 20_000
VERSION_PRIORITY_MAX = 1_000
STATUSES = ("True", "False", "Unknown")


def validate_api_service(service: APIService) -> Causes:
    """APISVC-1, APISVC-2."""
    spec = service.spec
    group, version = spec.group or "", spec.version or ""
    causes = _validate_name(service)
    if not group and version != "v1":
        words = "only v1 may have an empty group and it better be legacy kube"
        causes.append(required("spec.group", words))
    if group:
        causes += malformed("spec.group", group, dns_subdomain)
    causes += malformed("spec.version", version, dns_label_1035)
    for field, number, limit in (
        ("groupPriorityMinimum", spec.group_priority_minimum, GROUP_PRIORITY_MAX),
        ("versionPriority", spec.version_priority, VERSION_PRIORITY_MAX),
    ):
        if not 0 < number <= limit:
            words = f"must be positive and less than {limit}"
            causes.append(invalid(f"spec.{field}", number, words))
    return causes + (
        _validate_local(service) if spec.service is None else _validate_remote(service)
    )


def _validate_name(service: APIService) -> Causes:
    """The name is `version.group`; what is no name at all has its cause from the metadata."""
    metadata = service.metadata
    wanted = f"{service.spec.version or ''}.{service.spec.group or ''}"
    return [
        invalid(f"metadata.{field}", name, f'must be `spec.version+"."+spec.group`: "{wanted}"')
        for field, name in (("generateName", metadata.generate_name), ("name", metadata.name))
        if name and name != wanted and not path_segment(name)
    ]


def _validate_local(service: APIService) -> Causes:
    spec = service.spec
    causes: Causes = []
    if spec.ca_bundle:
        count = f"{len(spec.ca_bundle)} bytes"
        words = "local APIServices may not have a caBundle"
        causes.append(invalid("spec.caBundle", count, words))
    if spec.insecure_skip_tls_verify:
        words = "local APIServices may not have insecureSkipTLSVerify"
        causes.append(invalid("spec.insecureSkipTLSVerify", True, words))
    return causes


def _validate_remote(service: APIService) -> Causes:
    spec = service.spec
    causes: Causes = []
    assert spec.service is not None
    for field in ("namespace", "name"):
        if not getattr(spec.service, field):
            causes.append(required(f"spec.service.{field}"))
    port = spec.service.port or 0
    if not 1 <= port <= 65535:
        causes.append(invalid("spec.service.port", port, f"port is not valid: {PORT_RANGE}"))
    if spec.insecure_skip_tls_verify and spec.ca_bundle:
        words = "may not be true if caBundle is present"
        causes.append(invalid("spec.insecureSkipTLSVerify", True, words))
    return causes


def validate_api_service_update(new: APIService, old: APIService) -> Causes:
    """APISVC-1: as a new one; group and version follow from the name."""
    return validate_api_service(new)


def validate_api_service_status(new: APIService, old: APIService) -> Causes:
    """APISVC-2: the status of a condition is True, False or Unknown."""
    return [
        not_supported(f"status.conditions[{position}].status", one.status, STATUSES)
        for position, one in enumerate(new.status.conditions or ())
        if one.status not in STATUSES
    ]
