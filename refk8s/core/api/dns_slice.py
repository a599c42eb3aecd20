"""The name of the EndpointSlice of a node's name server. Rules DNS-19 (spec/dns.md), NAUTH-7
(spec/authorization.md)."""

from hashlib import blake2b
from typing import Final

NAMESPACE: Final = "kube-system"
NAME: Final = "kube-dns"
"""The Service that leads to the name servers."""
NAME_LENGTH_MAX: Final = 253


def slice_name(node_name: str) -> str:
    """The name of a node's slice; a long one ends with a hash."""
    name = f"{NAME}-{node_name}"
    if len(name) <= NAME_LENGTH_MAX:
        return name
    return f"{NAME}-{blake2b(node_name.encode(), digest_size=16).hexdigest()}"
