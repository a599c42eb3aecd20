"""Cluster IPs as addresses of the loopback device, for the proxy of our own. Rules NET-19, NET-20
(spec/network.md)."""

import logging

from refk8s.adapters.linux.tools import call

log = logging.getLogger("refk8s")

DEVICE = "lo"


class LoopbackAddresses:
    """Cluster IPs as addresses of the loopback device, under a label of this cluster, by which a
    later process finds them again."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._had: list[str] | None = None
        self.refused = ""  # why addresses may not be added

    def have(self, addresses: list[str]) -> None:
        """These, and no others of this label."""
        if self._had is None:
            self._had = self._found()
        for address in self._had:
            if address not in addresses:
                self._ip("del", address)
        for address in addresses:
            if address not in self._had and not self.refused:
                self.refused = self._ip("add", address)
                if self.refused:
                    log.warning(
                        "cluster IPs are not served on this machine, only node ports: %s",
                        self.refused,
                    )
        self._had = [] if self.refused else list(addresses)

    def remove_all(self) -> None:
        """Also those of an earlier process."""
        for address in self._found():
            self._ip("del", address)
        self._had = None

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
            return "there is no ip program here"
        words = ran.stderr.strip().splitlines() or ["it was refused"]
        return "" if ran.returncode == 0 or "exists" in words[0] else words[0]
