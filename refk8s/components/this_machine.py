"""The name and the address of this machine."""

from refk8s.adapters.linux.address import hostname, node_address

__all__ = ["hostname", "node_address"]
