"""Accepts forwarded packets where Docker, or a policy, would drop them. Rules NET-18
(spec/network.md), ROUTE-6 (spec/node_network.md).

Docker's chain DOCKER-USER is for rules of others, and comes before Docker's own. Source: Docker
documentation, "Packet filtering and firewalls".
"""

from refk8s.adapters.linux.tools import output_of


def accept(match: list[str], comment: str, is_six: bool = False) -> None:
    """Accept packets that match, if there is a chain that would drop them. `is_six`: of IPv6."""
    chain = _chain(is_six)
    if chain and _iptables(is_six, "-C", chain, *_rule(match, comment)) is None:
        _iptables(is_six, "-I", chain, *_rule(match, comment))


def remove_accept(match: list[str], comment: str, is_six: bool = False) -> None:
    """Remove these rules, however often they are there."""
    for chain in ("DOCKER-USER", "FORWARD"):
        while _iptables(is_six, "-D", chain, *_rule(match, comment)) is not None:
            pass


def _rule(match: list[str], comment: str) -> list[str]:
    return [*match, "-m", "comment", "--comment", comment, "-j", "ACCEPT"]


def _chain(is_six: bool) -> str:
    """The chain that needs an accept: Docker's, or a forward chain that drops; else none."""
    if _iptables(is_six, "-S", "DOCKER-USER") is not None:
        return "DOCKER-USER"
    policy = _iptables(is_six, "-S", "FORWARD") or ""
    return "FORWARD" if "-P FORWARD DROP" in policy else ""


def _iptables(is_six: bool, *arguments: str) -> str | None:
    return output_of("ip6tables" if is_six else "iptables", "-w", *arguments)
