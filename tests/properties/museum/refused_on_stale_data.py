"""A valid update is refused, because the API server's cache is old.

The API server decides an update on the object in its watch cache, to save a read of etcd. If the
write conflicts, it reads the object and decides again. But if a precondition did not hold on the
cached object, it answered with that, although the newest object met it. The change makes every
refusal final that is decided on the memory of an API server. An answer that writes nothing is
decided on a state that is new enough (LIST-14).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.freshness import is_final

EXHIBIT = Exhibit(
    title="An update is refused because of an old object in the watch cache",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=82303,
    said="In GuaranteedUpdate, retry on a precondition check failure if we are working with cached data",
    rule="LIST-14",
    changes=(
        Change(
            is_final,
            "return outcome.ok and request.verb in _READS and not reads_latest(request)",
            "return True",
        ),
    ),
    finder=Property(
        "test_apiservers.test_list_14_cluster_15_answers_and_writes_do_not_depend_on_the_server"
    ),
)
