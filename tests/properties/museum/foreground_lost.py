"""A foreground deletion is never carried out.

The garbage collector acted only on the change that it saw as the begin of a foreground deletion. If
the object was already being deleted and was deleted again in the foreground, or if the first change
was merged with a later one, the finalizer stayed for ever. The change reacts to deletion timestamps
and owners, but not to finalizers. An owner keeps the finalizer foregroundDeletion without any
dependents (GC-5).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.garbage_collector import _concerned

EXHIBIT = Exhibit(
    title="A foreground deletion whose begin was not seen never ends",
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
