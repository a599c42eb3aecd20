"""What containers on this machine can have: capabilities and OOM scores. Rules RT-9, RT-46.

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


OOM_SCORE_ADJ_MIN = -1000
IDENTITY = ["0", "0", "4294967295"]
"""The mapping of user ids of a user namespace that maps none, as that of the machine."""


class Abilities:
    """What can be set on this machine. `missing`: capabilities that the engine lacks itself.
    `oom_floor`: the lowest OOM score that it can give."""

    def __init__(self, missing: frozenset[str], oom_floor: int = OOM_SCORE_ADJ_MIN) -> None:
        self.missing = missing
        self._oom_floor = oom_floor
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

    def oom_score_adj(self, wanted: int) -> int:
        """This OOM score, or the lowest that the engine can give (RT-46)."""
        return max(wanted, self._oom_floor)


def look(process: int) -> Abilities:
    """What this process (that of the container engine; 0: not known) may do. Where that cannot be
    read, it is all capabilities, and no OOM score below 0."""
    try:
        status = Path(f"/proc/{process}/status").read_text() if process else ""
        last = int(Path("/proc/sys/kernel/cap_last_cap").read_text()) if process else -1
    except (OSError, ValueError):
        return Abilities(frozenset(), 0)
    return Abilities(missing_capabilities(status, last), look_at_oom_floor(process))


def look_at_oom_floor(process: int) -> int:
    """The lowest OOM score that this process can give to others: its own without SYS_RESOURCE on
    the machine itself (in the first user namespace); 0 if that cannot be read."""
    if not process:
        return 0
    try:
        users = Path(f"/proc/{process}/uid_map").read_text().split()
        own = int(Path(f"/proc/{process}/oom_score_adj").read_text())
    except (OSError, ValueError):
        return 0
    is_free = users == IDENTITY and has_capability("SYS_RESOURCE", str(process))
    return OOM_SCORE_ADJ_MIN if is_free else max(own, 0)


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
