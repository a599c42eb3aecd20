"""A progress notification arrives before the events that it covers.

etcd answered a request for progress outside the stream of events. So the notification of revision 9
could arrive before the event of revision 9. A client that resumes at that revision, or drops events
up to it, never gets this event. The change sends a bookmark with the newest revision before the
events. A view then lacks them (WATCH-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.cluster import messages

EXHIBIT = Exhibit(
    title="A bookmark arrives before the events that it covers",
    repository="etcd-io/etcd",
    kind="issue",
    number=15220,
    said="Requested watcher progress notifications are not synchronised with stream",
    rule="WATCH-1",
    changes=(
        Change(
            messages.deliver,
            "events = (*cursor.initial, *watching.events(cursor.stream, changes))",
            "events = (*cursor.initial, *watching.events(cursor.stream, changes))\n"
            'events = (WatchEvent("BOOKMARK", None, known.revision), *events)',
        ),
    ),
    finder=Property(
        "test_loop.test_loop_8_watch_1_watch_2_after_crashes_it_still_comes_to_what_is_wanted"
    ),
    also=(Way("WATCH-1", Simulation(steps=2_500)),),
)
