"""An autoscaler removes replicas although one of its metrics cannot be read.

An autoscaler had two metrics. The server of one of them was down, and the other asked for fewer
replicas. The autoscaler removed replicas, although the metric that was missing might have asked for
more. The change decides with the metrics that are there (HPA-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.horizontal_pod_autoscaler import _Round

EXHIBIT = Exhibit(
    title="An autoscaler removes replicas while a metric is missing",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=99394,
    said="hpa: Scales down despite some metrics being unavailable (since v1.16, #74526)",
    rule="HPA-3",
    changes=(
        Change(
            _Round.largest,
            "if best is None or (failed and best[0] < current):",
            "if best is None:",
        ),
    ),
    finder=Property("test_hpa.test_hpa_3_a_metric_that_fails_stops_only_removals"),
)
