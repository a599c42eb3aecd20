"""Cluster IPs as addresses of the loopback device, for the user-space proxy. Rules NET-19, NET-20
(spec/network.md)."""

import logging

from refk8s.adapters.linux.tools import call

log = logging.getLogger("refk8s")

DEVICE = "lo"


class LoopbackAddresses:
    """Cluster IPs as addresses of the loopback device. They have a label of this cluster, by which
    a later process finds them."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._addresses: list[str] | None = None
        self.refused = ""  # the reason if addresses may not be added

    def set(self, addresses: list[str]) -> None:
        """Add and delete addresses, so that those with this label are these."""
        if self._addresses is None:
            self._addresses = self._found()
        for address in self._addresses:
            if address not in addresses:
                self._ip("del", address)
        for address in addresses:
            if address not in self._addresses and not self.refused:
                self.refused = self._ip("add", address)
                if self.refused:
                    log.warning(
                        "cluster IPs are not served on this machine, only node ports: %s",
                        self.refused,
                    )
        self._addresses = [] if self.refused else list(addresses)

    def remove_all(self) -> None:
        """Delete all addresses with this label, including those of an earlier process."""
        for address in self._found():
            self._ip("del", address)
        self._addresses = None

    def _found(self) -> list[str]:
        try:
            ran = call(["ip", "-o", "-4", "addr", "show", "label", self._label])
        except OSError:
            return []
        return [
            words[3].partition("/")[0]
            for line in ran.stdout.splitlines()
            if len(words := line.split()) > 3
        ]

    def _ip(self, verb: str, address: str) -> str:
        command = [
            "ip",
            "addr",
            verb,
            f"{address}/32",
            "dev",
            DEVICE,
            *(["label", self._label] if verb == "add" else []),
        ]
        try:
            ran = call(command)
        except OSError:
            return "the program ip is not installed"
        words = ran.stderr.strip().splitlines() or ["ip failed without a message"]
        return "" if ran.returncode == 0 or "exists" in words[0] else words[0]
