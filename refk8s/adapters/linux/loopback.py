"""Cluster IPs as addresses of the loopback device, for the user-space proxy. Rules NET-19, NET-20
(spec/network.md)."""

import logging
import zlib

from refk8s.adapters.linux.tools import call

log = logging.getLogger("refk8s")

DEVICE = "lo"


class LoopbackAddresses:
    """Cluster IPs as addresses of the loopback device. They have a mark of this cluster, by which a
    later process finds them: a label, and for IPv6, which has no labels, the metric of the route of
    the address, which nothing depends on."""

    def __init__(self, cluster_id: str) -> None:
        self._label = f"{DEVICE}:rfk-{cluster_id[:8]}"
        self._metric = str(1 << 31 | zlib.crc32(cluster_id.encode()))
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
        marked = _listed("-4", "label", self._label)
        marked += [words for words in _listed("-6", "dev", DEVICE) if self._has_metric(words)]
        return [words[3].partition("/")[0] for words in marked]

    def _has_metric(self, words: list[str]) -> bool:
        return words[4:6] == ["metric", self._metric]

    def _ip(self, verb: str, address: str) -> str:
        bits, mark = "32", ["label", self._label]
        if ":" in address:
            bits, mark = "128", ["metric", self._metric, "nodad"]
        command = ["ip", "addr", verb, f"{address}/{bits}", "dev", DEVICE]
        try:
            ran = call(command + (mark if verb == "add" else []))
        except OSError:
            return "the program ip is not installed"
        words = ran.stderr.strip().splitlines() or ["ip failed without a message"]
        return "" if ran.returncode == 0 or "exists" in words[0] else words[0]


def _listed(family: str, *which: str) -> list[list[str]]:
    """The lines of `ip addr` in words: the fourth is the address."""
    try:
        ran = call(["ip", "-o", family, "addr", "show", *which])
    except OSError:
        return []
    return [words for line in ran.stdout.splitlines() if len(words := line.split()) > 3]
