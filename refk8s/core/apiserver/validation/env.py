"""Environment variables of a container, and the fields of pod and containers that they can refer
to. Rule VAL-16 (spec/validation.md).

Source: Kubernetes documentation, "Define Environment Variables for a Container", "Downward API".
"""

from refk8s.core.api.core_v1 import (
    EnvFromSource,
    EnvVar,
    FileKeySelector,
    ObjectFieldSelector,
    ResourceFieldSelector,
)
from refk8s.core.apiserver.validation.field import (
    Causes,
    invalid,
    malformed,
    not_found,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.mounts import Volumes, validate_relative_path
from refk8s.core.apiserver.validation.names import (
    config_key,
    dns_label,
    dns_subdomain,
    env_name,
    qualified_name,
)
from refk8s.core.apiserver.validation.resources import amount

ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",
    "status.podIP", "status.podIPs",
)  # fmt: skip
KNOWN_FIELDS = (
    *ENV_FIELDS, "metadata.annotations", "metadata.labels", "spec.host", "spec.restartPolicy", "spec.schedulerName", "status.phase",
)  # fmt: skip
"""All supported fields of a pod; which of them are allowed depends on the place."""
ENV_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
PAGES = ("requests.hugepages-", "limits.hugepages-")
CPU_DIVISORS = ("1", "1m")
BYTE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")


def validate_env(env: tuple[EnvVar, ...], volumes: Volumes, at: str) -> Causes:
    causes: Causes = []
    for position, variable in enumerate(env):
        here = f"{at}[{position}]"
        if not variable.name:
            causes.append(required(f"{here}.name"))
        else:
            causes += malformed(f"{here}.name", variable.name, env_name)
        source = variable.value_from
        if source is None:
            continue
        inside = f"{here}.valueFrom"
        sources = 0
        if source.field_ref is not None:
            sources += 1
            causes += validate_field_selector(source.field_ref, ENV_FIELDS, f"{inside}.fieldRef")
        if source.resource_field_ref is not None:
            sources += 1
            causes += validate_resource_selector(
                source.resource_field_ref, f"{inside}.resourceFieldRef", False
            )
        for reference, name in (
            (source.config_map_key_ref, "configMapKeyRef"),
            (source.secret_key_ref, "secretKeyRef"),
        ):
            if reference is not None:
                sources += 1
                causes += malformed(f"{inside}.{name}.name", reference.name or "", dns_subdomain)
                causes += _validate_key(reference.key, f"{inside}.{name}.key")
        if source.file_key_ref is not None:
            sources += 1
            causes += _validate_file_key(source.file_key_ref, volumes, f"{inside}.fileKeyRef")
        if sources == 0:
            words = (
                "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, "
                "`secretKeyRef` or `fileKeyRef`"
            )
            causes.append(invalid(inside, "", words))
        elif variable.value:
            causes.append(invalid(inside, "", "may not be specified when `value` is not empty"))
        elif sources > 1:
            causes.append(
                invalid(inside, "", "may not have more than one field specified at a time")
            )
    return causes


def _validate_file_key(selector: FileKeySelector, volumes: Volumes, at: str) -> Causes:
    """A key in a file of an emptyDir volume of the pod."""
    causes: Causes = []
    if not selector.key:
        causes.append(required(f"{at}.key"))
    else:
        causes += malformed(f"{at}.key", selector.key, env_name)
    name = selector.volume_name
    if not name:
        causes.append(required(f"{at}.volumeName"))
    else:
        causes += malformed(f"{at}.volumeName", name, dns_label)
        volume = volumes.get(name)
        if volume is None:
            causes.append(not_found(f"{at}.volumeName", name))
        elif volume.empty_dir is None:
            causes.append(
                invalid(f"{at}.volumeName", name, "referenced volume must be of type emptyDir")
            )
    if not selector.path:
        causes.append(required(f"{at}.path"))
    else:
        causes += validate_relative_path(selector.path, f"{at}.path")
    return causes


def _validate_key(key: str, at: str) -> Causes:
    return malformed(at, key, config_key) if key else [required(at)]


def validate_env_from(sources: tuple[EnvFromSource, ...], at: str) -> Causes:
    causes: Causes = []
    for position, source in enumerate(sources):
        here = f"{at}[{position}]"
        if source.prefix:
            causes += malformed(f"{here}.prefix", source.prefix, env_name)
        given = 0
        for reference, name in (
            (source.config_map_ref, "configMapRef"),
            (source.secret_ref, "secretRef"),
        ):
            if reference is not None:
                given += 1
                if not reference.name:
                    causes.append(required(f"{here}.{name}.name"))
                else:
                    causes += malformed(f"{here}.{name}.name", reference.name, dns_subdomain)
        if given == 0:
            causes.append(invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif given > 1:
            causes.append(invalid(at, "", "may not have more than one field specified at a time"))
    return causes


def validate_field_selector(
    selector: ObjectFieldSelector, fields: tuple[str, ...], at: str
) -> Causes:
    """A field of the pod: one of these, or a label or annotation with its key in brackets."""
    if not selector.api_version:
        return [required(f"{at}.apiVersion")]
    path = selector.field_path
    if not path:
        return [required(f"{at}.fieldPath")]
    if selector.api_version != "v1":
        return [
            invalid(
                f"{at}.fieldPath",
                path,
                f"error converting fieldPath: unsupported pod version: {selector.api_version}",
            )
        ]
    whole, bracket, key = path.removesuffix("']").partition("['")
    if bracket and whole and path.endswith("']"):
        if whole in ("metadata.labels", "metadata.annotations"):
            key = key if whole == "metadata.labels" else key.lower()
            return malformed(at, key, qualified_name)
        return [
            invalid(
                f"{at}.fieldPath",
                path,
                f"error converting fieldPath: field label does not support subscript: {path}",
            )
        ]
    if path not in KNOWN_FIELDS:
        return [
            invalid(
                f"{at}.fieldPath",
                path,
                f"error converting fieldPath: field label not supported: {path}",
            )
        ]
    path = "spec.nodeName" if path == "spec.host" else path
    return [] if path in fields else [not_supported(f"{at}.fieldPath", path, fields)]


def validate_resource_selector(selector: ResourceFieldSelector, at: str, in_volume: bool) -> Causes:
    """A limit or request of a container, in units of a divisor."""
    causes: Causes = []
    resource = selector.resource
    if in_volume and not selector.container_name:
        causes.append(required(f"{at}.containerName"))
    elif not resource:
        causes.append(required(f"{at}.resource"))
    elif resource not in ENV_RESOURCES and not resource.startswith(PAGES):
        causes.append(not_supported(f"{at}.resource", resource, ENV_RESOURCES))
    divisor = selector.divisor
    number = None if divisor is None else amount(divisor)
    if number is None or number.nano == 0:
        return causes
    if resource not in ENV_RESOURCES and not resource.startswith(PAGES):
        return causes
    allowed = CPU_DIVISORS if resource.endswith(".cpu") else BYTE_DIVISORS
    if divisor not in allowed:
        causes.append(
            invalid(
                f"{at}.divisor",
                resource,
                f"only divisor's values {', '.join(allowed)} are supported with this resource",
            )
        )
    return causes
