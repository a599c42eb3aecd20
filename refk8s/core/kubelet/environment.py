"""The environment variables of a container, and $(VAR) in its command. Rules KUBELET-52 ...
KUBELET-54 (spec/kubelet.md).

Later entries win: services of the namespace, then envFrom in order, then env in order. A value may
name variables defined before it. Source: Kubernetes documentation, "Define Environment Variables
for a Container", "Define Dependent Environment Variables", "Accessing the Service", "Expose Pod
Information to Containers Through Environment Variables". Left out: fileKeyRef.
"""

from base64 import b64decode
from collections.abc import Iterable, Mapping

from refk8s.core.api import quantity
from refk8s.core.api.core_v1 import Container, EnvVar, Pod, ResourceFieldSelector, Service
from refk8s.core.kubelet.objects import Library, config_map_key, secret_key
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.memo import remember_identical
from refk8s.core.pods.containers import find_container
from refk8s.core.ports import NodeDescribed


def compute_environment(
    pod: Pod,
    container: Container,
    library: Library,
    services: Iterable[Service],
    node: NodeDescribed,
    host_ips: tuple[str, ...],
    ips: tuple[str, ...],
) -> tuple[tuple[str, str], ...]:
    """All variables in order, each name once.

    Raises BadConfig if a source is missing, NotYet if one has not been read.
    """
    namespace = pod.metadata.namespace or ""
    given: dict[str, str] = {}
    for source in container.env_from or ():
        prefix = source.prefix or ""
        if source.config_map_ref is not None:
            data = _config_map(
                library, namespace, source.config_map_ref.name or "", source.config_map_ref.optional
            )
        elif source.secret_ref is not None:
            data = _secret(
                library, namespace, source.secret_ref.name or "", source.secret_ref.optional
            )
        else:
            continue
        for name, value in sorted((data or {}).items()):
            if "=" not in name:
                given[prefix + name] = value
    linked = service_variables(services)
    for entry in container.env or ():
        found = _value(pod, container, entry, library, {**linked, **given}, node, host_ips, ips)
        if found is not None:
            given.pop(entry.name, None)
            given[entry.name] = found
    for name, value in linked.items():
        given.setdefault(name, value)
    return tuple(given.items())


def _value(
    pod: Pod,
    container: Container,
    entry: EnvVar,
    library: Library,
    known: Mapping[str, str],
    node: NodeDescribed,
    host_ips: tuple[str, ...],
    ips: tuple[str, ...],
) -> str | None:
    """The value of one entry; None: its optional source is missing."""
    source = entry.value_from
    if source is None:
        return expand(entry.value or "", known)
    namespace = pod.metadata.namespace or ""
    if source.field_ref is not None:
        return field_value(pod, source.field_ref.field_path, host_ips, ips)
    if source.resource_field_ref is not None:
        return resource_value(pod, container, source.resource_field_ref, node)
    if (ref := source.config_map_key_ref) is not None:
        data = _config_map(library, namespace, ref.name or "", ref.optional)
        if data is not None and ref.key not in data and not ref.optional:
            raise BadConfig(f"couldn't find key {ref.key} in ConfigMap {namespace}/{ref.name}")
        return (data or {}).get(ref.key)
    if (secret := source.secret_key_ref) is not None:
        data = _secret(library, namespace, secret.name or "", secret.optional)
        if data is not None and secret.key not in data and not secret.optional:
            raise BadConfig(f"couldn't find key {secret.key} in Secret {namespace}/{secret.name}")
        return (data or {}).get(secret.key)
    raise BadConfig(f"the source of environment variable {entry.name} is not supported")


def _config_map(
    library: Library, namespace: str, name: str, optional: bool | None
) -> Mapping[str, str] | None:
    found = library.get(config_map_key(namespace, name))
    if found is None:
        if optional:
            return None
        raise BadConfig(f'configmap "{name}" not found')
    data: Mapping[str, str] = found.data or {}
    return data


def _secret(
    library: Library, namespace: str, name: str, optional: bool | None
) -> Mapping[str, str] | None:
    found = library.get(secret_key(namespace, name))
    if found is None:
        if optional:
            return None
        raise BadConfig(f'secret "{name}" not found')
    return {
        key: b64decode(value).decode("utf-8", "replace")
        for key, value in (found.data or {}).items()
    }


# --- $(VAR) ---------------------------------------------------------------------------------------


def expand(text: str, known: Mapping[str, str], strict: bool = False) -> str:
    """The text with $(NAME) replaced by the value of NAME, and $$ by $ (KUBELET-53).

    O(len). All other text stays. `strict`: an undefined NAME is BadConfig.
    """
    if "$" not in text:
        return text
    parts: list[str] = []
    at = 0
    while True:
        dollar = text.find("$", at)
        if dollar < 0 or dollar + 1 == len(text):
            parts.append(text[at:])
            break
        parts.append(text[at:dollar])
        following = text[dollar + 1]
        if following == "$":
            parts.append("$")
            at = dollar + 2
        elif following == "(" and (end := text.find(")", dollar)) != -1:
            name = text[dollar + 2 : end]
            if strict and name not in known:
                raise BadConfig(f'missing value for "{name}"')
            parts.append(known.get(name, text[dollar : end + 1]))
            at = end + 1
        else:
            parts.append(text[dollar : dollar + 2])
            at = dollar + 2
    return "".join(parts)


# --- services -------------------------------------------------------------------------------------


def service_variables(services: Iterable[Service]) -> dict[str, str]:
    """NAME_SERVICE_HOST, NAME_SERVICE_PORT ... of every service with a cluster IP (KUBELET-54)."""
    found: dict[str, str] = {}
    for service in services:
        found.update(_variables_of(service))
    return found


@remember_identical(256)
def _variables_of(service: Service) -> dict[str, str]:
    """The variables of one service, which every pod of its namespace gets."""
    found: dict[str, str] = {}
    address = service.spec.cluster_ip
    ports = service.spec.ports
    if not address or address == "None" or not ports:
        return found
    name = (service.metadata.name or "").upper().replace("-", "_")
    found[f"{name}_SERVICE_HOST"] = address
    found[f"{name}_SERVICE_PORT"] = str(ports[0].port)
    for port in ports:
        if port.name:
            found[f"{name}_SERVICE_PORT_{port.name.upper().replace('-', '_')}"] = str(port.port)
    for position, port in enumerate(ports):
        protocol = port.protocol or "TCP"
        host = f"[{address}]" if ":" in address else address
        url = f"{protocol.lower()}://{host}:{port.port}"
        if position == 0:
            found[f"{name}_PORT"] = url
        prefix = f"{name}_PORT_{port.port}_{protocol}"
        found[prefix] = url
        found[f"{prefix}_PROTO"] = protocol.lower()
        found[f"{prefix}_PORT"] = str(port.port)
        found[f"{prefix}_ADDR"] = address
    return found


# --- the downward API -----------------------------------------------------------------------------


def field_value(pod: Pod, path: str, host_ips: tuple[str, ...], ips: tuple[str, ...]) -> str:
    """A field of the pod as text (KUBELET-52)."""
    metadata = pod.metadata
    if path.startswith("metadata.") and path.endswith("']"):
        table, _, name = path.partition("['")
        held = (
            metadata.labels
            if table == "metadata.labels"
            else metadata.annotations
            if table == "metadata.annotations"
            else None
        )
        return (held or {}).get(name[:-2], "")
    match path:
        case "metadata.name":
            return metadata.name or ""
        case "metadata.namespace":
            return metadata.namespace or ""
        case "metadata.uid":
            return metadata.uid or ""
        case "metadata.labels":
            return _lines(metadata.labels or {})
        case "metadata.annotations":
            return _lines(metadata.annotations or {})
        case "spec.nodeName":
            return pod.spec.node_name or ""
        case "spec.serviceAccountName":
            return pod.spec.service_account_name or ""
        case "status.hostIP":
            return host_ips[0]
        case "status.hostIPs":
            return ",".join(host_ips)
        case "status.podIP":
            return ips[0] if ips else ""
        case "status.podIPs":
            return ",".join(ips)
    raise BadConfig(f"unsupported fieldPath: {path}")


def _lines(table: Mapping[str, str]) -> str:
    """Labels or annotations as a file: one line each, sorted, the value in quotes."""
    quoted = [
        (name, value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n"))
        for name, value in sorted(table.items())
    ]
    return "\n".join([f'{name}="{value}"' for name, value in quoted])


def resource_value(
    pod: Pod, container: Container, ref: ResourceFieldSelector, node: NodeDescribed
) -> str:
    """A limit or request of a container in units of the divisor, rounded up.

    If the limit is not set, it is the amount that the node has.
    """
    if ref.container_name and ref.container_name != container.name:
        named = find_container(pod.spec, ref.container_name)
        if named is None:
            raise BadConfig(f'container "{ref.container_name}" not found')
        container = named
    kind, _, resource = ref.resource.partition(".")
    held = container.resources.limits if kind == "limits" else container.resources.requests
    text = (held or {}).get(resource)
    if text is None and kind == "limits":
        text = {
            "cpu": f"{node.cpu_milli}m",
            "memory": str(node.memory_bytes),
            "ephemeral-storage": str(node.ephemeral_storage_bytes),
        }.get(resource)
    amount = quantity.parse(text or "0").nano
    divisor = (
        quantity.parse(ref.divisor).nano if ref.divisor and ref.divisor != "0" else quantity.NANO
    )
    return str(-(-amount // divisor))
