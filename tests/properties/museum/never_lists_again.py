"""A watch that has become too old is opened again and again, and never listed anew.

The informer of the Java client took "too old resource version" for an ordinary end of its watch: it
returned, and the loop around it opened the next watch at the same revision, for ever. The component
ran on with the picture it had. The change treats 410 like a cut. In the end a view is not what the
store has (WATCH-3).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.loop.informer import Informer

EXHIBIT = Exhibit(
    title="After 410 Gone nothing is listed again",
    repository="kubernetes-client/java",
    kind="issue",
    number=1829,
    said="ReflectorRunnable using old resource version fails to redo list-watch in v13.0.0",
    rule="WATCH-3",
    changes=(
        Change(
            Informer.gone,
            "return evolve(self, phase=RESTING, revision=0, due=now)",
            "return self.failed(now)",
        ),
    ),
    finder=Property(
        "test_lessons.test_watch_1_watch_3_whatever_is_cut_and_forgotten_every_view_is_the_store_in_the_end",
        1_000,
    ),
    also=(Way("RS-1", Simulation(steps=2_000)),),
)
