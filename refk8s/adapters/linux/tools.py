"""Runs programs of the system: nft, ip, conntrack, iptables."""

import os
import subprocess

TOOL_SECONDS_MAX = 30


def call(command: list[str], standard_input: str = "") -> subprocess.CompletedProcess[str]:
    """Run a program to its end. It is also found in /usr/sbin and /sbin.

    Raises OSError if it cannot be started, and TimeoutExpired after TOOL_SECONDS_MAX.
    """
    environment = {
        **os.environ,
        "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
        "LC_ALL": "C",
    }
    return subprocess.run(
        command,
        input=standard_input,
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS_MAX,
        check=False,
        env=environment,
    )


def output_of(*command: str) -> str | None:
    """The standard output of a program; None if it is missing or fails."""
    try:
        ran = call(list(command))
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None
