"""A headless service of IPv6 has endpoints of IPv4.

The controller took the family of the endpoints from the cluster IP of the service. A headless
service has none, so its endpoints had the IPv4 addresses of the pods, whatever its family. The
change asks for `ipFamilies` only if there is a cluster IP. A headless service of both families has
no slice of IPv6 (SLICE-9).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.endpoints_of import families_of

EXHIBIT = Exhibit(
    title="Endpoints of a headless service have addresses of the wrong family",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=94673,
    said="Failed to find Endpoints for a IPv6 Headless Service in Dual-Stack cluster",
    rule="SLICE-9",
    changes=(
        Change(
            families_of,
            "return service.spec.ip_families or (",
            'return (service.spec.cluster_ip != "None" and service.spec.ip_families) or (',
        ),
    ),
    finder=Property(
        "test_dual_stack.test_slice_9_ipam_7_kubelet_119_with_two_families_the_cluster_comes_to_rest_whatever_failed"
    ),
)
