"""A mirrored EndpointSlice that is deleted is not made again.

Endpoints of a Service without selector were deleted and created again while the controller manager
restarted. Their slice still named the former Endpoints as owner, and the garbage collector deleted
it. The mirroring controller did not count a deletion of its slice that it had not expected, so the
Service stayed without slice until its Endpoints changed. With the change the controller ignores
changes of slices (SLICE-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.slices import services_of_slice

EXHIBIT = Exhibit(
    title="A mirrored EndpointSlice that is deleted is not made again",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=125354,
    said="endpointslicemirroring controller not create endpointslice when the endpoints are recreate",
    rule="SLICE-5",
    changes=(
        Change(
            services_of_slice,
            "key for slice in (old, new) if slice is not None for key in _service_of(slice)",
            'key for slice in (old, new) if slice is not None and "mirroring" not in str(slice.metadata.labels) '
            "for key in _service_of(slice)",
        ),
    ),
    finder=Property(
        "test_slice.test_slice_5_a_mirror_that_somebody_else_deletes_or_changes_is_put_right"
    ),
)
