"""A restarted kubelet starts pods that had ended for good.

The kubelet came back, saw the pods of its node without the containers that had been removed
meanwhile, and started them: also those whose phase was Succeeded or Failed. The change no longer
ends a pod because its phase is final. A container of a finished pod runs (POD-11).
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
