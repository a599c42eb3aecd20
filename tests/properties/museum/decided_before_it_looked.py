"""A controller that has just started decides before its lists are complete.

After a restart the services were listed before the pods. The endpoints controller saw services
without pods and emptied their Endpoints, among them those by which it reached the API server. The
change reconciles before every list is complete. A restart alone changes objects (LOOP-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.loop import turn

EXHIBIT = Exhibit(
    title="A restarted controller acts on a cache that is not filled yet",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=23034,
    said="kube-apiserver service endpoints got flushed after restart controller-manager",
    rule="LOOP-1",
    changes=(
        Change(
            turn._reconcile_due,
            "if not draft.due or not (draft.is_watching or is_synced(draft.informers, draft.view)):",
            "if not draft.due:",
        ),
    ),
    finder=Property("test_lessons.test_loop_1_loop_8_a_restart_alone_changes_nothing"),
)
