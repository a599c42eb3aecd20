"""Pods are counted before those that have just been made are seen.

A ReplicaSet controller waits until its cache shows what it has created; but after five minutes it
waited no longer, whatever the cache showed. With a watch that was later than that it counted too
few, and created as many again. (So did the first controllers that had no expectations at all.) The
change lets a key go as soon as its requests are answered. More pods are made than asked for (RS-2).
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
            "if all(draft.view.tables[prefix].revision >= revision for prefix, revision in busy.reached.items()) and all(",
            "if True or all(",
        ),
    ),
    finder=Property(
        "test_lessons.test_rs_2_never_a_pod_too_many_however_late_the_watch_of_pods", 500
    ),
    also=(Way("RS-2", Simulation(steps=2_500, faults="delay=0.1:200")),),
)
