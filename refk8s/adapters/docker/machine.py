"""What this machine is and has, for the Node object."""

import os
from pathlib import Path

from refk8s.adapters.docker.engine.client import Engine
from refk8s.adapters.docker.engine.images import Images
from refk8s.adapters.linux import resolv_conf
from refk8s.core.ports import NodeDescribed, Resolver

PODS_MAX = 110
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64", "armv7l": "arm", "i686": "386"}


def describe(
    engine: Engine,
    images: Images,
    node_name: str,
    node_ips: tuple[str, ...],
    data: Path,
    resolv: Path | None,
    network_error: str = "",
) -> NodeDescribed:
    """The machine as it is now."""
    info = engine.call("info")
    disk = os.statvfs(_existing(Path(info.get("DockerRootDir") or "/"), data))
    total = disk.f_blocks * disk.f_frsize
    machine = info.get("Architecture") or os.uname().machine
    return NodeDescribed(
        hostname=node_name,
        internal_ip=node_ips[0],
        second_ip=node_ips[1] if len(node_ips) > 1 else "",
        cpu_milli=int(info.get("NCPU") or os.cpu_count() or 1) * 1000,
        memory_bytes=int(info.get("MemTotal") or 0),
        ephemeral_storage_bytes=total,
        pods=PODS_MAX,
        architecture=ARCHITECTURES.get(machine, machine),
        operating_system=info.get("OSType") or "linux",
        os_image=info.get("OperatingSystem") or "unknown",
        kernel_version=info.get("KernelVersion") or os.uname().release,
        container_runtime_version=f"docker://{info.get('ServerVersion') or 'unknown'}",
        machine_id=_text("/etc/machine-id"),
        system_uuid=_text("/sys/class/dmi/id/product_uuid") or _text("/etc/machine-id"),
        boot_id=_text("/proc/sys/kernel/random/boot_id"),
        images=images.list(),
        memory_available_bytes=_memory_available(),
        disk_available_fraction=disk.f_bavail * disk.f_frsize / total if total else -1.0,
        pids_available=_pids_available(),
        security_modules=security_modules(info.get("SecurityOptions") or []),
        resolver=resolver_of(resolv_conf.read(resolv_conf.for_pods(resolv))),
        network_error=network_error,
    )


EMBEDDED = "127.0.0.11"
"""The engine's own resolver in the network of each container. It sends queries to the node's
resolvers, also to those that only the node itself can reach."""


def resolver_of(conf: resolv_conf.ResolvConf) -> Resolver:
    """The node's resolver, and its servers for pods (KUBELET-51)."""
    reached = tuple(
        [each for each in conf.servers if not each.startswith("127.") and each != "::1"]
    )
    return Resolver(conf.servers, conf.searches, conf.options, reached or (EMBEDDED,))


def security_modules(options: list[str]) -> tuple[str, ...]:
    """The kernel's security modules that the engine uses, from its words "name=MODULE,..."."""
    found = {option.partition(",")[0].removeprefix("name=") for option in options}
    return tuple([module for module in ("apparmor", "seccomp", "selinux") if module in found])


def _existing(*paths: Path) -> Path:
    return next((path for path in paths if path.exists()), Path("/"))


def _text(path: str) -> str:
    try:
        return Path(path).read_text().strip()
    except OSError:
        return ""


def _memory_available() -> int:
    for line in _text("/proc/meminfo").splitlines():
        if line.startswith("MemAvailable:"):
            return int(line.split()[1]) * 1024
    return -1


def _pids_available() -> int:
    """How many more processes the whole machine can have."""
    most, load = _text("/proc/sys/kernel/pid_max"), _text("/proc/loadavg").split()
    if not most or len(load) < 4:
        return -1
    return max(0, int(most) - int(load[3].partition("/")[2]))
