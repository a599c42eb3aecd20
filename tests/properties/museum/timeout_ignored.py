"""A creation that timed out counts as one that will succeed.

The ReplicaSet controller ignored timeouts: if the pod was created after all, the watch would
deliver it. If it was not created, the controller waited for it, and the request was not tried
again. The change drops the requests of this controller that get no response. A ReplicaSet has too
few pods, or its status is wrong (RS-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Simulation
from refk8s.core.loop import requests

EXHIBIT = Exhibit(
    title="A request that timed out is never tried again",
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
