"""A pod becomes not ready and ready again, and its service does not get it back.

The controller wrote that the pod is not ready. When the pod was ready again, the cache still showed
the Endpoints before that write, in which it was ready, so the controller did nothing. Then the
cache showed the write, and no event made the controller look again. The change lets this controller
reconcile before it sees its own write, and removes its interest in Endpoints. The pod stays among
those that are not ready (EP-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.endpoints import _of_endpoints
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="Endpoints that are compared with a stale copy stay wrong for ever",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=127429,
    said="Endpoints controller uses stale endpoints in reconciling, the endpoint Subsets will be wrong and never restores correctly",
    rule="EP-5",
    changes=(
        Change(
            requests.release,
            "if all(draft.view.tables[prefix].revision >= revision for prefix, revision in busy.reached.items() if prefix in draft.view.tables) and all(",
            'if item[0] == "endpoint-controller" or all(',
        ),
        Change(
            _of_endpoints,
            "return (key_of(either),) if ours or view.get(SERVICES, key_of(either)) is not None else ()",
            "return ()",
        ),
    ),
    finder=Property(
        "test_lessons.test_ep_5_a_pod_that_comes_and_goes_is_told_of_as_it_is_in_the_end_however_late_the_news",
        300,
    ),
)
