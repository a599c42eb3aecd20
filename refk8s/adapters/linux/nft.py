"""Executes transactions of nftables by the program `nft`."""

import subprocess

from refk8s.adapters.linux.tools import call
from refk8s.core.network.nft_script import remove_script


class Unusable(Exception):
    """The kernel rejects rules here; the message is the reason."""


def run_nft(script: str, *flags: str) -> None:
    """Execute one transaction. Raises Unusable with the tool's message if it fails."""
    try:
        ran = call(["nft", *flags, "-f", "-"], script)
    except FileNotFoundError:
        raise Unusable("the program nft is not installed") from None
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Unusable(f"nft does not run: {error}") from None
    if ran.returncode:
        raise Unusable((ran.stderr.strip().splitlines() or [f"nft ended with {ran.returncode}"])[0])


def remove_table(name: str) -> None:
    """Remove the tables of both families, if there are any. Raises Unusable."""
    of_ipv4 = remove_script(name)
    try:
        run_nft(of_ipv4 + remove_script(name, "ip6"))
    except Unusable:  # a kernel without rules of IPv6 has no such table
        run_nft(of_ipv4)
