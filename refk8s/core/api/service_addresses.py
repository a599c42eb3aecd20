"""The addresses of two services, by the ranges of the cluster's services. Rules HOST-2, DNS-19.

Source: Kubernetes documentation, "Service ClusterIP allocation"; kubeadm's address of the DNS.
"""

from refk8s.core.api.families import Network

DNS_PLACE = 10


def kubernetes_address(service_cidrs: tuple[Network, ...]) -> str:
    """The first address of the services, which is that of the API server."""
    return str(service_cidrs[0][1])


def dns_address(service_cidrs: tuple[Network, ...]) -> str:
    """The tenth address of the services: that of the cluster's DNS. Empty if there are fewer."""
    cidr = service_cidrs[0]
    return str(cidr[DNS_PLACE]) if cidr.num_addresses > DNS_PLACE + 1 else ""
