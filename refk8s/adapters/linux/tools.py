"""Programs of administrators (nft, ip, conntrack, iptables), run to their end."""

import os
import subprocess

TOOL_SECONDS_MAX = 30


def call(command: list[str], given: str = "") -> subprocess.CompletedProcess[str]:
    """Run it. It is found also where the user's path does not name the place; OSError or
    TimeoutExpired where it does not run."""
    environment = {
        **os.environ,
        "PATH": os.environ.get("PATH", os.defpath) + ":/usr/sbin:/sbin",
        "LC_ALL": "C",
    }
    return subprocess.run(
        command,
        input=given,
        capture_output=True,
        text=True,
        timeout=TOOL_SECONDS_MAX,
        check=False,
        env=environment,
    )


def said(*command: str) -> str | None:
    """What the program says; None where it is not there or fails."""
    try:
        ran = call(list(command))
    except (OSError, subprocess.TimeoutExpired):
        return None
    return ran.stdout if ran.returncode == 0 else None
