"""A restarted kubelet starts pods that have ended for good.

After its restart the kubelet saw pods of its node whose containers had been removed, and started
them, including those with phase Succeeded or Failed. With the change a final phase no longer ends a
pod. A container of a finished pod runs (POD-11).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Lives
from refk8s.core.kubelet.lifecycle import why_ending

EXHIBIT = Exhibit(
    title="A restarted kubelet starts finished pods again",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=37447,
    said="Upon restart, kubelet tries to start all pods including terminated ones",
    rule="POD-11",
    changes=(Change(why_ending, 'if is_finished(pod):\n    return "terminal"', ""),),
    finder=Lives(),
)
