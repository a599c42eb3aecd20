"""A ReplicaSet counts its pods before its cache shows those that it has created.

The controller waits until its cache shows the pods that it created. After five minutes it waited no
longer, whatever the cache showed. If the watch was later than that, it counted too few pods and
created as many again. (The first controllers, which had no expectations, did the same.) The change
releases a key as soon as its requests are answered. More pods are created than requested (RS-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="Pods are created twice because the cache is late",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=129795,
    said="ReplicaSet controller may create extra Pods when expectations expire during informer delays",
    rule="RS-2",
    changes=(
        Change(
            requests.release,
            "if all(draft.view.tables[prefix].revision >= revision for prefix, revision in busy.reached.items() if prefix in draft.view.tables) and all(",
            "if True or all(",
        ),
    ),
    finder=Property(
        "test_lessons.test_rs_2_never_a_pod_too_many_however_late_the_watch_of_pods", 500
    ),
    also=(Way("RS-2", Simulation(steps=2_500, seeds_max=200, faults="delay=0.1:200")),),
)
