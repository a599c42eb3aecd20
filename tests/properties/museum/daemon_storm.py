"""A DaemonSet creates pods without end on a node that rejects them.

The kubelet of a node rejected or evicted the pod, whose phase became Failed. The DaemonSet
controller deleted it and created another at once, which was rejected too: several pods a second,
for each such node. The change does not wait before it deletes the next failed pod (DS-7).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.daemon_set_steps import manage

EXHIBIT = Exhibit(
    title="A DaemonSet and a kubelet fight over a pod",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=65240,
    said="Daemon sets should throttle pod recreation when the pod failed because of eviction",
    rule="DS-7",
    changes=(Change(manage, "if until is not None and situation.now < until:", "if False:"),),
    finder=Property("test_ds.test_ds_7_failed_pods_are_replaced_with_a_growing_back_off"),
)
