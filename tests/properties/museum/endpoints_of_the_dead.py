"""A pod that has ended keeps its address among the endpoints.

Pods that had failed for good were still in Endpoints and EndpointSlices. Their addresses were given
to new pods of other services in other namespaces, which got the traffic. The change lists a pod as
long as it exists. The slices do not equal the pods that may receive traffic (SLICE-1, EP-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.endpoints_of import address_of

EXHIBIT = Exhibit(
    title="The address of a pod that has ended stays an endpoint",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=109414,
    said="Pods with failed status IP address reused on new pods, but traffic still going to old pods across namespaces.",
    rule="SLICE-1",
    changes=(Change(address_of, "if is_finished(pod):", "if False:"),),
    finder=Property(
        "test_slice.test_slice_1_slice_2_slice_3_slice_6_slices_together_equal_the_selected_pods_whatever_happened",
        1_000,
    ),
)
