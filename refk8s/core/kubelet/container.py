"""The sandbox and containers that the runtime creates for a pod's spec. Rules KUBELET-50,
KUBELET-55, KUBELET-94, KUBELET-101, KUBELET-131 (spec/kubelet.md).

Source: Kubernetes documentation, "DNS for Services and Pods", "Configure a Security Context for a
Pod or Container", "Adding entries to Pod /etc/hosts with HostAliases". Left out: sharing the
process namespace; devices.
"""

from collections.abc import Callable
from hashlib import blake2b

from refk8s.core.api import quantity
from refk8s.core.api.core_v1 import Container, Pod, PodSpec, ResourceRequirements
from refk8s.core.kubelet import security
from refk8s.core.kubelet.draft import Draft, Facts, bounded_grace
from refk8s.core.kubelet.environment import compute_environment, expand
from refk8s.core.kubelet.node_addresses import node_ips
from refk8s.core.kubelet.oom_score import compute_oom_score_adj
from refk8s.core.kubelet.problems import BadConfig
from refk8s.core.kubelet.resolver import REASON, compute_resolution
from refk8s.core.kubelet.volumes import is_lasting, is_read_only
from refk8s.core.loop.view import controller_of
from refk8s.core.memo import remember
from refk8s.core.pods.containers import is_init, is_sidecar, long_running
from refk8s.core.ports import (
    ContainerConfig,
    Mount,
    PortMapping,
    Resources,
    SandboxConfig,
    SandboxStatus,
)

HOSTNAME_LENGTH_MAX = 63
FULL_NAME_LENGTH_MAX = 64


def spec_hash(container: Container) -> str:
    """A value that changes if a running container must be recreated: its image (KUBELET-15).

    No other field of a container can be changed.
    """
    return _hash_of(container.name, container.image)


@remember(1024)
def _hash_of(name: str, image: str | None) -> str:
    return blake2b(f"{name}\0{image}".encode(), digest_size=8).hexdigest()


# --- the sandbox ----------------------------------------------------------------------------------


def compute_sandbox_config(
    facts: Facts, pod: Pod, attempt: int, note: Callable[[str, str, str], None]
) -> SandboxConfig:
    """Network, host name and name resolution of the pod (KUBELET-50). `note` records an Event."""
    metadata, spec = pod.metadata, pod.spec
    resolution = compute_resolution(facts, pod)
    for words in resolution.warnings:
        note(REASON, words, "Warning")
    sysctls = spec.security_context.sysctls if spec.security_context is not None else None
    return SandboxConfig(
        pod_uid=metadata.uid or "",
        namespace=metadata.namespace or "",
        name=metadata.name or "",
        attempt=attempt,
        hostname=compute_hostname(facts, pod),
        host_network=bool(spec.host_network),
        host_pid=bool(spec.host_pid),
        host_ipc=bool(spec.host_ipc),
        port_mappings=compute_port_mappings(pod),
        dns_servers=resolution.servers,
        dns_searches=resolution.searches,
        dns_options=resolution.options,
        sysctls=tuple(
            [(security.sysctl_name(sysctl.name), sysctl.value) for sysctl in sysctls or ()]
        ),
    )


def compute_hostname(facts: Facts, pod: Pod) -> str:
    """The pod's host name: hostnameOverride, hostname, or its name (KUBELET-50).

    The node's on the host's network. BadConfig if a requested full name is longer than a host name
    may be.
    """
    if pod.spec.host_network and not pod.spec.hostname_override:
        return facts.node.hostname
    name, domain = compute_names(facts, pod)
    if not pod.spec.set_hostname_as_fqdn or not domain:
        return name
    full = f"{name}.{domain}"
    if len(full) > FULL_NAME_LENGTH_MAX:
        words = f"FQDN {full} is too long ({FULL_NAME_LENGTH_MAX} is the max, {len(full)} characters requested)"
        raise BadConfig(
            f"Failed to construct FQDN from pod hostname and cluster domain, {words}",
            "FailedCreatePodSandBox",
        )
    return full


def compute_names(facts: Facts, pod: Pod) -> tuple[str, str]:
    """(host name, at most 63 characters; the domain that a subdomain puts it in, else empty)."""
    spec = pod.spec
    if spec.hostname_override:
        return spec.hostname_override, ""
    name = (spec.hostname or pod.metadata.name or "")[:HOSTNAME_LENGTH_MAX].rstrip("-.")
    domain = (
        f"{spec.subdomain}.{pod.metadata.namespace}.svc.{facts.config.cluster_domain}"
        if spec.subdomain
        else ""
    )
    return name, domain


HOSTS_PATH = "/etc/hosts"
_HOSTS = """# Kubernetes-managed hosts file.
127.0.0.1\tlocalhost
::1\tlocalhost ip6-localhost ip6-loopback
fe00::0\tip6-localnet
fe00::0\tip6-mcastprefix
fe00::1\tip6-allnodes
fe00::2\tip6-allrouters
"""


def compute_hosts(facts: Facts, pod: Pod, container: Container, ips: tuple[str, ...]) -> str:
    """The content of the container's /etc/hosts (KUBELET-94).

    Empty if the container mounts a volume there. On the host's network these lines come after those
    of the node's file.
    """
    for mount in container.volume_mounts or ():
        if mount.mount_path == HOSTS_PATH:
            return ""
    name, domain = compute_names(facts, pod)
    names = f"{name}.{domain}\t{name}" if domain else name
    lines = [] if pod.spec.host_network else [f"{ip}\t{names}\n" for ip in ips]
    aliases = [
        f"{alias.ip}\t" + "\t".join(alias.hostnames or ()) + "\n"
        for alias in pod.spec.host_aliases or ()
    ]
    if aliases:
        aliases.insert(0, "\n# Entries added by HostAliases.\n")
    head = "# Kubernetes-managed hosts file (host network).\n" if pod.spec.host_network else _HOSTS
    return head + "".join([*lines, *aliases])


def compute_port_mappings(pod: Pod) -> tuple[PortMapping, ...]:
    """The host ports of containers and sidecars (POD-22); none on the host's network."""
    if pod.spec.host_network:
        return ()
    return tuple([
        PortMapping(port.container_port, port.host_port, port.protocol or "TCP", port.host_ip or "")
        for container in long_running(pod.spec)
        for port in container.ports or ()
        if port.host_port
    ])  # fmt: skip


# --- a container ----------------------------------------------------------------------------------


def compute_container_config(
    draft: Draft, pod: Pod, container: Container, attempt: int, sandbox: SandboxStatus
) -> ContainerConfig:
    """The complete request to the runtime to create the container.

    Raises BadConfig if it cannot be created, NotYet if an object has not been read.
    """
    security.check_enforceable(pod, container)
    image = draft.memory.container(container.name)
    facts, metadata, spec = draft.facts, pod.metadata, pod.spec
    services = facts.services(metadata.namespace or "", spec.enable_service_links is not False)
    host_ips = node_ips(facts.config, facts.node)
    ips = host_ips if spec.host_network else sandbox.ips
    env = compute_environment(pod, container, draft.library, services, facts.node, host_ips, ips)
    known = dict(env)
    context = container.security_context
    capabilities = context.capabilities if context is not None else None
    asked = security.confinement_of(pod, container)
    return ContainerConfig(
        pod_uid=metadata.uid or "",
        namespace=metadata.namespace or "",
        pod_name=metadata.name or "",
        name=container.name,
        image=container.image or "",
        image_id=image.image_id,
        attempt=attempt,
        init=is_init(spec, container) and not is_sidecar(container),
        command=tuple([expand(word, known) for word in container.command or ()]),
        args=tuple([expand(word, known) for word in container.args or ()]),
        env=env,
        working_dir=container.working_dir or "",
        mounts=compute_mounts(pod, container, known),
        resources=runtime_resources(spec, container.resources),
        oom_score_adj=compute_oom_score_adj(pod, container, facts.node.memory_bytes),
        user=security.compute_user(pod, container, image.image_user),
        groups=security.compute_groups(pod),
        privileged=bool(context is not None and context.privileged),
        read_only_root=bool(context is not None and context.read_only_root_filesystem),
        no_new_privileges=security.is_escalation_denied(container),
        seccomp=security.compute_seccomp(asked, facts.node),
        app_armor=security.compute_app_armor(asked, facts.node),
        se_linux=security.compute_se_linux(asked, facts.node),
        unmasked_proc=security.is_proc_unmasked(container),
        capabilities_add=(capabilities.add if capabilities is not None else None) or (),
        capabilities_drop=(capabilities.drop if capabilities is not None else None) or (),
        tty=bool(container.tty),
        stdin=bool(container.stdin),
        stdin_once=bool(container.stdin and container.stdin_once),
        runs_to_end=is_expected_to_end(pod, container),
        termination_grace_seconds=bounded_grace(spec.termination_grace_period_seconds),
        termination_message_path=container.termination_message_path or "",
        termination_message_from_log=container.termination_message_policy
        == "FallbackToLogsOnError",
        spec_hash=spec_hash(container),
        hosts=compute_hosts(facts, pod, container, ips),
        host_network=bool(spec.host_network),
        target_id=compute_target(draft, pod, container),
    )


def runtime_resources(spec: PodSpec, wanted: ResourceRequirements) -> Resources:
    """Limits and requests as the runtime takes them: the pod's for those that the container lacks
    (KUBELET-106)."""
    limits, requests = wanted.limits or {}, wanted.requests or {}
    if spec.resources is not None:
        limits = {**(spec.resources.limits or {}), **limits}
        requests = {**(spec.resources.requests or {}), **requests}
    return Resources(
        cpu_limit_milli=quantity.milli_value(limits["cpu"]) if "cpu" in limits else 0,
        memory_limit_bytes=quantity.value(limits["memory"]) if "memory" in limits else 0,
        cpu_request_milli=quantity.milli_value(requests["cpu"]) if "cpu" in requests else 0,
    )


def compute_target(draft: Draft, pod: Pod, container: Container) -> str:
    """The id of the container whose processes an ephemeral container sees (KUBELET-101); empty
    without a target. Raises BadConfig if the target does not run."""
    if not pod.spec.ephemeral_containers:
        return ""
    name = next(
        (
            one.target_container_name
            for one in pod.spec.ephemeral_containers
            if one.name == container.name
        ),
        None,
    )
    if not name or pod.spec.host_pid:
        return ""
    target = draft.memory.container(name)
    if target.current is None or not target.running:
        raise BadConfig(f'the target container "{name}" does not run')
    return target.current.id


def is_expected_to_end(pod: Pod, container: Container) -> bool:
    """Whether a container is meant to exit.

    That is an init container, a container of a Job's pod, or a command that is not restarted.
    """
    if is_init(pod.spec, container):
        return not is_sidecar(container)
    controller = controller_of(pod)
    if controller is not None and controller.kind == "Job":
        return True
    return (pod.spec.restart_policy or "Always") != "Always" and bool(
        container.command or container.args
    )


def compute_mounts(pod: Pod, container: Container, known: dict[str, str]) -> tuple[Mount, ...]:
    """The mounts of the pod's volumes. A subPath makes the source "volume/path" (KUBELET-55).

    A volume that the kubelet writes is read-only for a container (KUBELET-90).
    """
    volumes = {volume.name: volume for volume in pod.spec.volumes or ()}
    mounts: list[Mount] = []
    for mount in container.volume_mounts or ():
        if mount.name not in volumes:
            raise BadConfig(f'volume "{mount.name}" of container "{container.name}" is not there')
        inner = (
            expand(mount.sub_path_expr, known, strict=True)
            if mount.sub_path_expr
            else mount.sub_path or ""
        )
        if inner.startswith("/") or ".." in inner.split("/") or "\0" in inner:
            raise BadConfig(f'the subPath "{inner}" of volume "{mount.name}" leads out of it')
        managed = not is_lasting(volumes[mount.name])
        source = f"{mount.name}/{inner}" if inner else mount.name
        propagation = "" if mount.mount_propagation in (None, "None") else mount.mount_propagation
        recursive = mount.recursive_read_only == "Enabled"
        mounts.append(
            Mount(
                source,
                mount.mount_path,
                bool(mount.read_only) or managed or is_read_only(volumes[mount.name]),
                managed,
                propagation,
                recursive,
            )
        )
    return tuple(mounts)
