"""A watch that is resumed at the very edge of what is compacted misses the event there.

etcd accepted a watch that starts at the compacted revision, and had already dropped the event of
that revision where it was a deletion: the watcher heard neither of the deletion nor that it had
missed something. The change lets a watcher resume one revision too early: it is not sent away with
410, and what happened at the edge is never told. A view then differs from every state that the
store ever had (WATCH-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.store import check_revision

EXHIBIT = Exhibit(
    title="A watch resumed at the edge of a compaction misses a deletion",
    repository="etcd-io/etcd",
    kind="issue",
    number=18089,
    said="Watch dropping an event when compacting on delete",
    rule="WATCH-1",
    changes=(Change(check_revision, "if at < compacted:", "if at < compacted - 1:"),),
    finder=Property(
        "test_lessons.test_watch_1_watch_3_whatever_is_cut_and_forgotten_every_view_is_the_store_in_the_end",
        1_000,
    ),
    also=(Way("STORE-8", Simulation(steps=2_500)),),
)
