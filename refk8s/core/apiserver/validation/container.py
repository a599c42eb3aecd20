"""Containers of a pod: names, ports, environment, mounts, probes, hooks. Rules VAL-8 ... VAL-11 (spec/validation.md).

Source: Kubernetes API reference, "Container"; documentation, "Configure Liveness, Readiness and Startup Probes", "Init Containers",
"Sidecar Containers", "Ephemeral Containers".
Left out: restart rules of single containers, stop signals by operating system, and the options of Windows containers.
"""

from typing import Any

from refk8s.core.api.core_v1 import (
    Container,
    ContainerPort,
    EnvFromSource,
    EnvVar,
    EphemeralContainer,
    Lifecycle,
    LifecycleHandler,
    ObjectFieldSelector,
    Probe,
    ResourceFieldSelector,
    SecurityContext,
    Volume,
    VolumeDevice,
    VolumeMount,
)
from refk8s.core.api.quantity import QuantityError, parse
from refk8s.core.apiserver.validation.field import (
    PORT_RANGE,
    Causes,
    duplicate,
    forbidden,
    invalid,
    not_found,
    not_negative,
    not_supported,
    required,
)
from refk8s.core.apiserver.validation.names import (
    config_key,
    dns_label,
    dns_subdomain,
    env_name,
    http_header,
    parse_ip,
    port_name,
    qualified_name,
)
from refk8s.core.apiserver.validation.resources import validate_requirements

PROTOCOLS = ("SCTP", "TCP", "UDP")
PULL_POLICIES = ("Always", "IfNotPresent", "Never")
MESSAGE_POLICIES = ("FallbackToLogsOnError", "File")
RESTART_POLICIES = ("Always", "OnFailure", "Never")
PROPAGATIONS = ("Bidirectional", "HostToContainer", "None")
ENV_FIELDS = (
    "metadata.name", "metadata.namespace", "metadata.uid", "spec.nodeName", "spec.serviceAccountName", "status.hostIP", "status.hostIPs",
    "status.podIP", "status.podIPs",
)  # fmt: skip
ENV_RESOURCES = (
    "limits.cpu", "limits.ephemeral-storage", "limits.memory", "requests.cpu", "requests.ephemeral-storage", "requests.memory",
)  # fmt: skip
CPU_DIVISORS = ("1", "1m")
BYTE_DIVISORS = ("1", "1k", "1M", "1G", "1T", "1P", "1E", "1Ki", "1Mi", "1Gi", "1Ti", "1Pi", "1Ei")
EPHEMERAL_FORBIDDEN = (
    ("ports", "ports"), ("resources", "resources"), ("liveness_probe", "livenessProbe"), ("readiness_probe", "readinessProbe"),
    ("startup_probe", "startupProbe"), ("lifecycle", "lifecycle"), ("restart_policy", "restartPolicy"), ("resize_policy", "resizePolicy"),
)  # fmt: skip

Volumes = dict[str, Volume]
AnyContainer = Container | EphemeralContainer


def validate_containers(containers: tuple[Container, ...], volumes: Volumes, grace: int | None, at: str) -> Causes:
    """VAL-8: at least one container; names differ; host ports do not collide."""
    if not containers:
        return [required(at)]
    causes: Causes = []
    seen: set[str] = set()
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, volumes, here)
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        seen.add(container.name)
        causes += _validate_life(container, grace, here)
        if container.restart_policy is not None and container.restart_policy not in RESTART_POLICIES:
            causes.append(not_supported(f"{here}.restartPolicy", container.restart_policy, RESTART_POLICIES))
    return causes + validate_host_ports(containers, at)


def validate_init_containers(containers: tuple[Container, ...], main: tuple[Container, ...], volumes: Volumes, grace: int | None, at: str) -> Causes:
    """VAL-8: names differ from those of all other containers; only one that restarts always (a sidecar) has probes and hooks."""
    causes: Causes = []
    seen = {container.name for container in main}
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, volumes, here)
        policy = container.restart_policy
        if policy is not None and policy not in RESTART_POLICIES:
            causes.append(not_supported(f"{here}.restartPolicy", policy, RESTART_POLICIES))
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        elif container.name:
            seen.add(container.name)
        causes += validate_host_ports((container,), at)
        if policy == "Always":
            causes += _validate_life(container, grace, here)
            continue
        words = "may not be set for init containers without restartPolicy=Always"
        for attribute, name in EPHEMERAL_FORBIDDEN:
            if name.endswith("Probe") or name == "lifecycle":
                if getattr(container, attribute) is not None:
                    causes.append(forbidden(f"{here}.{name}", words))
    return causes


def validate_ephemeral_containers(
    containers: tuple[EphemeralContainer, ...], others: tuple[Container, ...], volumes: Volumes, at: str
) -> Causes:
    """VAL-8: a debugging container has a name of its own, a target that exists, and nothing that belongs to the workload."""
    causes: Causes = []
    targets = {container.name for container in others}
    seen = set(targets)
    for position, container in enumerate(containers):
        here = f"{at}[{position}]"
        causes += validate_common(container, volumes, here)
        causes += validate_image_is_trimmed(container, here)
        if container.name in seen:
            causes.append(duplicate(f"{here}.name", container.name))
        seen.add(container.name)
        target = container.target_container_name
        if target and target not in targets:
            causes.append(not_found(f"{here}.targetContainerName", target))
        for attribute, name in EPHEMERAL_FORBIDDEN:
            value: Any = getattr(container, attribute)
            if value is not None and (attribute != "resources" or value.limits or value.requests or value.claims):
                causes.append(forbidden(f"{here}.{name}", "cannot be set for an Ephemeral Container"))
        for number, mount in enumerate(container.volume_mounts or ()):
            for part, name in ((mount.sub_path, "subPath"), (mount.sub_path_expr, "subPathExpr")):
                if part:
                    causes.append(forbidden(f"{here}.volumeMounts[{number}].{name}", "cannot be set for an Ephemeral Container"))
    return causes


def validate_common(container: AnyContainer, volumes: Volumes, at: str) -> Causes:
    """VAL-9: what every container must be, whatever its part in the pod."""
    causes: Causes = []
    if not container.name:
        causes.append(required(f"{at}.name"))
    else:
        words = dns_label(container.name)
        if words:
            causes += [invalid(f"{at}.name", container.name, word) for word in words]
    if not container.image:
        causes.append(required(f"{at}.image"))
    policy = container.termination_message_policy
    if policy != "File" and policy not in MESSAGE_POLICIES:
        where = f"{at}.terminationMessagePolicy"
        causes.append(not_supported(where, policy, MESSAGE_POLICIES) if policy else required(where))
    if container.ports:
        causes += validate_ports(container.ports, f"{at}.ports")
    if container.env:
        causes += validate_env(container.env, f"{at}.env")
    if container.env_from:
        causes += _validate_env_from(container.env_from, f"{at}.envFrom")
    if container.volume_mounts:
        causes += _validate_mounts(container, container.volume_mounts, volumes, f"{at}.volumeMounts")
    if container.volume_devices:
        causes += _validate_devices(container, container.volume_devices, volumes, f"{at}.volumeDevices")
    if container.image_pull_policy not in PULL_POLICIES:
        where = f"{at}.imagePullPolicy"
        causes.append(not_supported(where, container.image_pull_policy, PULL_POLICIES) if container.image_pull_policy else required(where))
    resources = container.resources
    if resources.limits is not None or resources.requests is not None:
        causes += validate_requirements(resources, f"{at}.resources")
    if container.security_context is not None:
        causes += _validate_security(container.security_context, f"{at}.securityContext")
    return causes


def validate_image_is_trimmed(container: AnyContainer, at: str) -> Causes:
    """VAL-9: in a pod (not yet in a template) the image has no blanks around it."""
    if container.image and container.image != container.image.strip():
        return [invalid(f"{at}.image", container.image, "must not have leading or trailing whitespace")]
    return []


# --- ports


def validate_port_number(number: int, at: str) -> Causes:
    return [] if 1 <= number <= 65535 else [invalid(at, number, PORT_RANGE)]


def validate_port(port: int | str, at: str) -> Causes:
    """A number, or the name of a port."""
    if isinstance(port, int):
        return validate_port_number(port, at)
    return [invalid(at, port, word) for word in port_name(port)]


def validate_ports(ports: tuple[ContainerPort, ...], at: str) -> Causes:
    """VAL-10: numbers from 1 to 65535, known protocols, names that differ."""
    causes: Causes = []
    seen: set[str] = set()
    for position, port in enumerate(ports):
        here = f"{at}[{position}]"
        if port.name:
            words = port_name(port.name)
            if words:
                causes += [invalid(f"{here}.name", port.name, word) for word in words]
            elif port.name in seen:
                causes.append(duplicate(f"{here}.name", port.name))
            seen.add(port.name)
        if not port.container_port:
            causes.append(required(f"{here}.containerPort"))
        else:
            causes += validate_port_number(port.container_port, f"{here}.containerPort")
        if port.host_port:
            causes += validate_port_number(port.host_port, f"{here}.hostPort")
        if not port.protocol:
            causes.append(required(f"{here}.protocol"))
        elif port.protocol not in PROTOCOLS:
            causes.append(not_supported(f"{here}.protocol", port.protocol, PROTOCOLS))
    return causes


def validate_host_ports(containers: tuple[Container, ...], at: str) -> Causes:
    """VAL-10: no two of these containers want the same port of the host."""
    causes: Causes = []
    seen: set[str] = set()
    for position, container in enumerate(containers):
        for number, port in enumerate(container.ports or ()):
            if port.host_port:
                key = f"{port.protocol}/{port.host_ip or ''}/{port.host_port}"
                if key in seen:
                    causes.append(duplicate(f"{at}[{position}].ports[{number}].hostPort", key))
                seen.add(key)
    return causes


# --- environment


def validate_env(env: tuple[EnvVar, ...], at: str) -> Causes:
    causes: Causes = []
    for position, variable in enumerate(env):
        here = f"{at}[{position}]"
        if not variable.name:
            causes.append(required(f"{here}.name"))
        else:
            causes += [invalid(f"{here}.name", variable.name, word) for word in env_name(variable.name)]
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
            causes += validate_resource_selector(source.resource_field_ref, f"{inside}.resourceFieldRef", False)
        for reference, name in ((source.config_map_key_ref, "configMapKeyRef"), (source.secret_key_ref, "secretKeyRef")):
            if reference is not None:
                sources += 1
                causes += [invalid(f"{inside}.{name}.name", reference.name or "", word) for word in dns_subdomain(reference.name or "")]
                causes += _validate_key(reference.key, f"{inside}.{name}.key")
        if source.file_key_ref is not None:
            sources += 1
        if sources == 0:
            words = "must specify one of: `fieldRef`, `resourceFieldRef`, `configMapKeyRef`, `secretKeyRef` or `fileKeyRef`"
            causes.append(invalid(inside, "", words))
        elif variable.value:
            causes.append(invalid(inside, "", "may not be specified when `value` is not empty"))
        elif sources > 1:
            causes.append(invalid(inside, "", "may not have more than one field specified at a time"))
    return causes


def _validate_key(key: str, at: str) -> Causes:
    return [invalid(at, key, word) for word in config_key(key)] if key else [required(at)]


def _validate_env_from(sources: tuple[EnvFromSource, ...], at: str) -> Causes:
    causes: Causes = []
    for position, source in enumerate(sources):
        here = f"{at}[{position}]"
        if source.prefix:
            causes += [invalid(f"{here}.prefix", source.prefix, word) for word in env_name(source.prefix)]
        given = 0
        for reference, name in ((source.config_map_ref, "configMapRef"), (source.secret_ref, "secretRef")):
            if reference is not None:
                given += 1
                if not reference.name:
                    causes.append(required(f"{here}.{name}.name"))
                else:
                    causes += [invalid(f"{here}.{name}.name", reference.name, word) for word in dns_subdomain(reference.name)]
        if given == 0:
            causes.append(invalid(at, "", "must specify one of: `configMapRef` or `secretRef`"))
        elif given > 1:
            causes.append(invalid(at, "", "may not have more than one field specified at a time"))
    return causes


def validate_field_selector(selector: ObjectFieldSelector, fields: tuple[str, ...], at: str) -> Causes:
    """A field of the pod: one of these, or a label or annotation by its key in brackets."""
    if not selector.api_version:
        return [required(f"{at}.apiVersion")]
    path = selector.field_path
    if not path:
        return [required(f"{at}.fieldPath")]
    whole, bracket, key = path.partition("['")
    if bracket and key.endswith("']"):
        if whole in ("metadata.labels", "metadata.annotations"):
            key = key[:-2] if whole == "metadata.labels" else key[:-2].lower()
            return [invalid(at, key, word) for word in qualified_name(key)]
        return [invalid(f"{at}.fieldPath", path, f"error converting fieldPath: field label does not support subscript: {path}")]
    return [] if path in fields else [not_supported(f"{at}.fieldPath", path, fields)]


def validate_resource_selector(selector: ResourceFieldSelector, at: str, in_volume: bool) -> Causes:
    """A limit or request of a container, in units of a divisor."""
    causes: Causes = []
    resource = selector.resource
    if in_volume and not selector.container_name:
        causes.append(required(f"{at}.containerName"))
    elif not resource:
        causes.append(required(f"{at}.resource"))
    elif resource not in ENV_RESOURCES and not resource.startswith(("requests.hugepages-", "limits.hugepages-")):
        causes.append(not_supported(f"{at}.resource", resource, ENV_RESOURCES))
    divisor = selector.divisor
    if divisor is None or _is_zero(divisor):
        return causes
    allowed = CPU_DIVISORS if resource.endswith(".cpu") else BYTE_DIVISORS
    if divisor not in allowed:
        causes.append(invalid(f"{at}.divisor", resource, f"only divisor's values {', '.join(allowed)} are supported with this resource"))
    return causes


def _is_zero(amount: str) -> bool:
    try:
        return parse(amount).nano == 0
    except QuantityError:
        return False


# --- mounts and devices


def _validate_mounts(container: AnyContainer, mounts: tuple[VolumeMount, ...], volumes: Volumes, at: str) -> Causes:
    """VAL-11: of volumes that the pod has, each at a place of its own."""
    causes: Causes = []
    paths: set[str] = set()
    devices = {device.name: device.device_path for device in container.volume_devices or ()}
    for position, mount in enumerate(mounts):
        here = f"{at}[{position}]"
        if not mount.name:
            causes.append(required(f"{here}.name"))
        volume = volumes.get(mount.name)
        if volume is None:
            causes.append(not_found(f"{here}.name", mount.name))
        if not mount.mount_path:
            causes.append(required(f"{here}.mountPath"))
        if mount.mount_path in paths:
            causes.append(invalid(f"{here}.mountPath", mount.mount_path, "must be unique"))
        paths.add(mount.mount_path)
        if mount.name in devices:
            causes.append(invalid(f"{here}.name", mount.name, "must not already exist in volumeDevices"))
        if mount.mount_path in devices.values():
            causes.append(invalid(f"{here}.mountPath", mount.mount_path, "must not already exist as a path in volumeDevices"))
        if mount.sub_path:
            causes += validate_descending_path(mount.sub_path, f"{at}.subPath")
        if mount.sub_path_expr:
            if mount.sub_path:
                causes.append(invalid(f"{here}.subPathExpr", mount.sub_path_expr, "subPathExpr and subPath are mutually exclusive"))
            causes += validate_descending_path(mount.sub_path_expr, f"{at}.subPathExpr")
        propagation = mount.mount_propagation
        if propagation is not None:
            if propagation not in PROPAGATIONS:
                causes.append(not_supported(f"{at}.mountPropagation", propagation, PROPAGATIONS))
            elif propagation == "Bidirectional" and not (container.security_context and container.security_context.privileged):
                words = "Bidirectional mount propagation is available only to privileged containers"
                causes.append(forbidden(f"{at}.mountPropagation", words))
        if mount.recursive_read_only is not None:
            causes += _validate_recursive(mount, f"{at}.recursiveReadOnly")
    return causes


def _validate_recursive(mount: VolumeMount, at: str) -> Causes:
    value = mount.recursive_read_only
    if value == "Disabled":
        return []
    if value not in ("Enabled", "IfPossible"):
        return [not_supported(at, value, ("Disabled", "Enabled", "IfPossible"))]
    causes: Causes = []
    if not mount.read_only:
        causes.append(forbidden(at, "may only be specified when readOnly is true"))
    if mount.mount_propagation not in (None, "None"):
        causes.append(forbidden(at, "may only be specified when mountPropagation is None or not specified"))
    return causes


def _validate_devices(container: AnyContainer, devices: tuple[VolumeDevice, ...], volumes: Volumes, at: str) -> Causes:
    causes: Causes = []
    names: set[str] = set()
    paths: set[str] = set()
    mounts = {mount.name: mount.mount_path for mount in container.volume_mounts or ()}
    for position, device in enumerate(devices):
        here = f"{at}[{position}]"
        if not device.name:
            causes.append(required(f"{here}.name"))
        if device.name in names:
            causes.append(invalid(f"{here}.name", device.name, "must be unique"))
        volume = volumes.get(device.name)
        if volume is None:
            causes.append(not_found(f"{here}.name", device.name))
        elif volume.persistent_volume_claim is None and volume.ephemeral is None:
            words = "can only use volume source type of PersistentVolumeClaim or Ephemeral for block mode"
            causes.append(invalid(f"{here}.name", device.name, words))
        if not device.device_path:
            causes.append(required(f"{here}.devicePath"))
        if device.device_path in paths:
            causes.append(invalid(f"{here}.devicePath", device.device_path, "must be unique"))
        if ".." in device.device_path.split("/"):
            causes.append(invalid(f"{here}.devicePath", device.device_path, "can not contain backsteps ('..')"))
        paths.add(device.device_path)
        if device.name in mounts:
            causes.append(invalid(f"{here}.name", device.name, "must not already exist in volumeMounts"))
        if device.device_path in mounts.values():
            causes.append(invalid(f"{here}.devicePath", device.device_path, "must not already exist as a path in volumeMounts"))
        names.add(device.name)
    return causes


def validate_descending_path(path: str, at: str) -> Causes:
    """A path that stays below where it begins."""
    causes: Causes = []
    if path.startswith("/"):
        causes.append(invalid(at, path, "must be a relative path"))
    if ".." in path.split("/"):
        causes.append(invalid(at, path, "must not contain '..'"))
    return causes


# --- probes and hooks


def _validate_life(container: Container, grace: int | None, at: str) -> Causes:
    causes: Causes = []
    if container.lifecycle is not None:
        causes += _validate_lifecycle(container.lifecycle, grace, f"{at}.lifecycle")
    if container.liveness_probe is not None:
        causes += _validate_probe(container.liveness_probe, f"{at}.livenessProbe", True)
    if container.readiness_probe is not None:
        causes += _validate_probe(container.readiness_probe, f"{at}.readinessProbe", False)
    if container.startup_probe is not None:
        causes += _validate_probe(container.startup_probe, f"{at}.startupProbe", True)
    return causes


def _validate_probe(probe: Probe, at: str, once: bool) -> Causes:
    """VAL-9: one way to ask, no negative times; where one success must do (`once`), the threshold is 1."""
    causes = _validate_handler(probe, None, at)
    causes += not_negative(f"{at}.initialDelaySeconds", probe.initial_delay_seconds)
    causes += not_negative(f"{at}.timeoutSeconds", probe.timeout_seconds)
    causes += not_negative(f"{at}.periodSeconds", probe.period_seconds)
    causes += not_negative(f"{at}.successThreshold", probe.success_threshold)
    causes += not_negative(f"{at}.failureThreshold", probe.failure_threshold)
    grace = probe.termination_grace_period_seconds
    if grace is not None and (grace <= 0 or not once):
        if once:
            causes.append(invalid(f"{at}.terminationGracePeriodSeconds", grace, "must be greater than 0"))
        else:
            causes.append(invalid(f"{at}.terminationGracePeriodSeconds", grace, "must not be set for readinessProbes"))
    if once and probe.success_threshold != 1:
        causes.append(invalid(f"{at}.successThreshold", probe.success_threshold, "must be 1"))
    return causes


def _validate_lifecycle(lifecycle: Lifecycle, grace: int | None, at: str) -> Causes:
    causes: Causes = []
    if lifecycle.post_start is not None:
        causes += _validate_handler(lifecycle.post_start, grace, f"{at}.postStart")
    if lifecycle.pre_stop is not None:
        causes += _validate_handler(lifecycle.pre_stop, grace, f"{at}.preStop")
    return causes


def _validate_handler(handler: Probe | LifecycleHandler, grace: int | None, at: str) -> Causes:
    causes: Causes = []
    kinds: list[str] = []

    def first(kind: str) -> bool:
        kinds.append(kind)
        if len(kinds) > 1:
            causes.append(forbidden(f"{at}.{kind}", "may not specify more than 1 handler type"))
        return len(kinds) == 1

    if handler.exec is not None and first("exec") and not handler.exec.command:
        causes.append(required(f"{at}.exec.command"))
    if handler.http_get is not None and first("httpGet"):
        action = handler.http_get
        if not action.path:
            causes.append(required(f"{at}.httpGet.path"))
        causes += validate_port(action.port, f"{at}.httpGet.port")
        if action.scheme not in ("HTTP", "HTTPS"):
            causes.append(not_supported(f"{at}.httpGet.scheme", action.scheme, ("HTTP", "HTTPS")))
        for header in action.http_headers or ():
            causes += [invalid(f"{at}.httpGet.httpHeaders", header.name, word) for word in http_header(header.name)]
    if handler.tcp_socket is not None and first("tcpSocket"):
        causes += validate_port(handler.tcp_socket.port, f"{at}.tcpSocket.port")
    if isinstance(handler, Probe):
        if handler.grpc is not None and first("grpc"):
            causes += validate_port_number(handler.grpc.port, f"{at}.grpc.port")
    elif handler.sleep is not None and first("sleep"):
        seconds = handler.sleep.seconds
        if grace is not None and not 0 <= seconds <= grace:
            words = f"must be non-negative and less than terminationGracePeriodSeconds ({grace})"
            causes.append(invalid(f"{at}.sleep", seconds, words))
    if not kinds:
        causes.append(required(at, "must specify a handler type"))
    return causes


# --- security


def _validate_security(context: SecurityContext, at: str) -> Causes:
    causes: Causes = []
    if context.privileged and context.allow_privilege_escalation is False:
        causes.append(invalid(at, context, "cannot set `allowPrivilegeEscalation` to false and `privileged` to true"))
    if context.allow_privilege_escalation is False and context.capabilities is not None:
        if any(name in ("SYS_ADMIN", "CAP_SYS_ADMIN") for name in context.capabilities.add or ()):
            causes.append(invalid(at, context, "cannot set `allowPrivilegeEscalation` to false and `capabilities.Add` CAP_SYS_ADMIN"))
    return validate_ids(context.run_as_user, context.run_as_group, at) + causes


def validate_ids(user: int | None, group: int | None, at: str) -> Causes:
    causes: Causes = []
    for number, name in ((user, "runAsUser"), (group, "runAsGroup")):
        if number is not None and not 0 <= number <= 2**31 - 1:
            causes.append(invalid(f"{at}.{name}", number, "must be between 0 and 2147483647, inclusive"))
    return causes


def validate_address(address: str, at: str) -> Causes:
    return [] if parse_ip(address) is not None else [invalid(at, address, "must be a valid IP address, (e.g. 10.9.8.7 or 2001:db8::ffff)")]
