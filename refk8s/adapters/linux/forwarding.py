"""Accepts forwarded packets where Docker, or a policy, would drop them. Rules NET-18
(spec/network.md), ROUTE-6 (spec/node_network.md).

Docker's chain DOCKER-USER is for rules of others, and comes before Docker's own. Source: Docker
documentation, "Packet filtering and firewalls".
"""

from refk8s.adapters.linux.tools import output_of


def accept(match: list[str], comment: str) -> None:
    """Accept packets that match, if there is a chain that would drop them."""
    chain = _chain()
    if chain and _iptables("-C", chain, *_rule(match, comment)) is None:
        _iptables("-I", chain, *_rule(match, comment))


def remove_accept(match: list[str], comment: str) -> None:
    """Remove these rules, however often they are there."""
    for chain in ("DOCKER-USER", "FORWARD"):
        while _iptables("-D", chain, *_rule(match, comment)) is not None:
            pass


def _rule(match: list[str], comment: str) -> list[str]:
    return [*match, "-m", "comment", "--comment", comment, "-j", "ACCEPT"]


def _chain() -> str:
    """The chain that needs an accept: Docker's, or a forward chain that drops; else none."""
    if _iptables("-S", "DOCKER-USER") is not None:
        return "DOCKER-USER"
    return "FORWARD" if "-P FORWARD DROP" in (_iptables("-S", "FORWARD") or "") else ""


def _iptables(*arguments: str) -> str | None:
    return output_of("iptables", "-w", *arguments)
