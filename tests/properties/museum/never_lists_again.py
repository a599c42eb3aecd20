"""A watch that has become too old is opened again and again without a list.

The informer of the Java client handled "too old resource version" as an ordinary end of its watch.
It returned, and the loop around it opened the next watch at the same revision, for ever. The
component continued with an old state. The change handles 410 like an interrupted connection. In the
end a view differs from the store (WATCH-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.loop.informer import Informer

EXHIBIT = Exhibit(
    title="After 410 Gone the resource is not listed again",
    repository="kubernetes-client/java",
    kind="issue",
    number=1829,
    said="ReflectorRunnable using old resource version fails to redo list-watch in v13.0.0",
    rule="WATCH-3",
    changes=(
        Change(
            Informer.gone,
            "return replace(self, phase=RESTING, revision=0, due=now)",
            "return self.failed(now)",
        ),
    ),
    finder=Property(
        "test_lessons.test_watch_1_watch_3_whatever_is_cut_and_forgotten_every_view_is_the_store_in_the_end",
        1_000,
    ),
    also=(Way("RS-1", Simulation(steps=2_000)),),
)
