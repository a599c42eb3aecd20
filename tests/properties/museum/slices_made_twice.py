"""Two EndpointSlices have the same endpoints.

The controller created a slice, was reconciled again before its cache showed the slice, and created
another one. The change lets this controller reconcile before it sees its own writes. A pod is in
two slices of one service (SLICE-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="An EndpointSlice is created twice",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=100033,
    said="EndpointSlice Controllers create duplicate EndpointSlices in certain cases",
    rule="SLICE-1",
    changes=(
        Change(
            requests.release,
            "if all(draft.view.tables[prefix].revision >= revision for prefix, revision in busy.reached.items() if prefix in draft.view.tables) and all(",
            'if item[0] == "endpointslice-controller" or all(',
        ),
    ),
    finder=Property(
        "test_lessons.test_slice_1_no_pod_stands_twice_in_one_life_however_late_the_news"
    ),
)
