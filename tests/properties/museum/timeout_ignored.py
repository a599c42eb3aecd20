"""A creation that timed out is taken for one that will show up.

The ReplicaSet controller ignored timeouts: the pod may have been made after all, and then the watch
will tell. Where it had not been made the controller waited for it, and nobody tried again. The
change drops those of this controller's requests that get no answer. A ReplicaSet stays short, or
its status wrong (RS-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Simulation
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="What timed out is waited for and never tried again",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=67662,
    said="Create pod failed and not retry due to controller manager ignore timeout error",
    rule="RS-1",
    changes=(
        Change(
            requests.take_answer,
            "if response is None or response.code == 503:  # LOOP-6: unknown, so the same again",
            'if response is None and flight.item[0] == "replicaset-controller":\n    return\nif response is None or response.code == 503:',
        ),
    ),
    finder=Simulation(faults="lose-request=0.02:30,lose-answer=0.02:30,delay=0.01:20"),
)
