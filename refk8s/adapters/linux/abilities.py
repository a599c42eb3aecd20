"""The capabilities that containers on this machine can have. Rule RT-9.

An engine without a capability fails with an unclear message. So missing capabilities are removed
from a request, with one warning.
"""

from pathlib import Path

from refk8s.adapters.warn_once import WarnOnce

CAPABILITIES = (
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT",
    "SYS_PTRACE", "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD",
    "LEASE", "AUDIT_WRITE", "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND",
    "AUDIT_READ", "PERFMON", "BPF", "CHECKPOINT_RESTORE",
)  # fmt: skip
"""The capabilities by their number (capabilities(7))."""


class Abilities:
    """What can be set on this machine. `missing`: capabilities that the engine lacks itself."""

    def __init__(self, missing: frozenset[str]) -> None:
        self.missing = missing
        self.warn_once = WarnOnce()

    def grantable(self, names: tuple[str, ...]) -> tuple[list[str], list[str]]:
        """The capabilities to add and to drop, as far as this machine can give them (RT-9).

        To add ALL, the missing ones are dropped: engines do not support the names of all
        capabilities of their kernel.
        """
        wanted = [name.upper().removeprefix("CAP_") for name in names]
        every = "ALL" in wanted
        lacking = sorted(self.missing if every else self.missing.intersection(wanted))
        if lacking:
            self.warn_once(
                f"this machine lacks the capabilities {', '.join(lacking)}: containers that ask for them run without"
            )
        return (
            (["ALL"], lacking) if every else ([name for name in wanted if name not in lacking], [])
        )


def look(process: int) -> Abilities:
    """What this process (that of the container engine; 0: not known) may do; where that cannot be
    read, everything."""
    try:
        status = Path(f"/proc/{process}/status").read_text() if process else ""
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) if process else -1
    except (OSError, ValueError):
        return Abilities(frozenset())
    return Abilities(missing_capabilities(status, last))


def has_capability(name: str, process: str = "self") -> bool:
    """Whether a process has this capability now; False if that cannot be read."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    held = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff:")), 0
    )
    return bool(held >> CAPABILITIES.index(name) & 1)


def missing_capabilities(status: str, last: int) -> frozenset[str]:
    """The capabilities (up to the number `last`, all that this kernel knows) that a process's
    status in /proc says it can never have."""
    bounds = next(
        (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapBnd:")), -1
    )
    return frozenset(
        name
        for number, name in enumerate(CAPABILITIES)
        if number <= last and not bounds >> number & 1
    )
