"""A watch that is resumed at the compacted revision misses the event of that revision.

etcd accepted a watch that starts at the compacted revision. If the event of that revision was a
deletion, it had been discarded already. The watcher got neither the deletion nor an error. The
change accepts a watch one revision too early: it gets no 410, and the event at that revision is
missing. A view then differs from every state that the store ever had (WATCH-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.store import check_revision

EXHIBIT = Exhibit(
    title="A watch that resumes at the compacted revision misses a deletion",
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
