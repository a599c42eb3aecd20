"""A foreground deletion is never carried out.

The garbage collector acted on the moment at which it saw an object become deleted in the
foreground. Whoever was deleted already and was deleted in the foreground once more, or where the
first change was merged with a later one, waited for ever: the finalizer stayed and nobody looked.
The change hears of marks and owners, not of finalizers. An owner keeps foregroundDeletion without
any dependents (GC-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.garbage_collector import _concerned

EXHIBIT = Exhibit(
    title="A foreground deletion that was not seen to begin never ends",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=115570,
    said=(
        "use foreground cascading deletion will be stuck when garbagecontroller lost the firset update event(add deletetimestamp and "
        "finalizer) after delete"
    ),
    rule="GC-5",
    changes=(
        Change(
            _concerned,
            "news = was is None or (was.owner_references, was.finalizers, was.deletion_timestamp) != (\n"
            "    metadata.owner_references, metadata.finalizers, metadata.deletion_timestamp,\n"
            ")",
            "news = was is None or (was.owner_references, was.deletion_timestamp) != (\n"
            "    metadata.owner_references, metadata.deletion_timestamp,\n"
            ")",
        ),
    ),
    finder=Property(
        "test_lessons.test_gc_5_a_foreground_deletion_is_carried_out_however_often_it_is_asked_for",
        300,
    ),
)
