"""An EndpointSlice that a user changes is never corrected.

The controller watched services and pods, but not the slices. A slice that was emptied or deleted by
hand stayed so until a pod changed. The change removes the interest in slices. The slices do not
equal the selected pods (SLICE-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.slices import services_of_slice

EXHIBIT = Exhibit(
    title="A change or deletion of an EndpointSlice is not corrected",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=85353,
    said="EndpointSliceController does not react to updated or deleted EndpointsSlice objects",
    rule="SLICE-1",
    changes=(
        Change(
            services_of_slice,
            "return list(dict.fromkeys(key for slice in (old, new) if slice is not None for key in _service_of(slice)))",
            "return []",
        ),
    ),
    finder=Property("test_lessons.test_slice_1_what_somebody_else_does_to_a_slice_is_put_right"),
)
