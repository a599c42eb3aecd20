"""What somebody else does to an EndpointSlice is never put right.

The controller listened to services and pods, and not to the slices themselves: one that was emptied
or deleted by hand stayed so until a pod changed. The change makes it deaf to them. Slices do not
equal the selected pods (SLICE-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.slices import services_of_slice

EXHIBIT = Exhibit(
    title="Nobody notices that an EndpointSlice was changed or deleted",
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
