"""Predicates of the service default/kubernetes of several API servers. Rule HOST-20
(spec/host.md)."""

from collections.abc import Iterator, Set

from refk8s.core.apiserver.live_servers import Server


def host_20_the_endpoints_are_the_servers_that_live(
    what: str, listed: Set[Server], living: Set[Server]
) -> Iterator[str]:
    """In a settled cluster. `what` lists them."""
    for server in sorted(living - listed):
        yield f"{what} does not list {server.address}, which lives"
    for server in sorted(listed - living):
        yield f"{what} lists {server.address}, which does not live"


def host_20_servers_are_listed(
    what: str, before: Set[Server], after: Set[Server], known: Set[Server]
) -> Iterator[str]:
    """After a write. `known`: all servers that the cluster has ever had."""
    for server in sorted(after - known):
        yield f"{what} lists {server.address}, which is no API server"
    if before and not after:
        yield f"{what} lists no server any more"
