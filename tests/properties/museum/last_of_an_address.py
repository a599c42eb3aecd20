"""A service with a ready pod has no endpoint, because a terminating pod had the same address.

A pod was terminating, and its address already belonged to the next pod. Both were in the slice. The
proxy kept one entry for each address, that of the terminating pod, and the service had no endpoint.
The change keeps the last endpoint of each address. Packets do not reach a ready pod (NET-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.network.proxy import choose

EXHIBIT = Exhibit(
    title="Of two endpoints with one address, the proxy uses the wrong one",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=135266,
    said="kube-proxy generate no iptables rules when endpointslices have two ep with same ip but one pod is terminating",
    rule="NET-2",
    changes=(
        Change(
            choose,
            "endpoints = tuple(endpoints)",
            "endpoints = tuple({endpoint.addresses[0]: (endpoint, number) for endpoint, number in endpoints}.values())",
        ),
    ),
    finder=Property(
        "test_net.test_net_2_packets_reach_the_right_endpoints_evenly_or_are_refused", 300
    ),
)
