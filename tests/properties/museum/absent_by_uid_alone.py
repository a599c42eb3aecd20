"""A mistake in one namespace makes the garbage collector delete in another.

Somebody copied objects to another namespace, ownerReferences and all. The collector looked for the
owner there, did not find it, and remembered its uid as absent: the next look at the rightful
dependents, whose owner the cache did not show just then, deleted them too. Volume claims were lost
so. The change remembers by uid alone; this project had this bug until its museum was made. What an
existing owner owns is deleted (GC-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.garbage_collector import _wanted

EXHIBIT = Exhibit(
    title="An owner that is not in one namespace is taken for gone in all",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=65200,
    said="Garbage collector behavior on invalid ownerReferences for existing uids across namespaces and across kinds is non-deterministic",
    rule="GC-2",
    changes=(
        Change(
            _wanted,
            'return f"{question.options.field_manager} {question.resource.prefix}{question.namespace}/{question.name}"',
            "return question.options.field_manager",
        ),
    ),
    finder=Property(
        "test_gc_owners.test_gc_2_an_owner_is_its_uid_in_the_place_that_the_reference_names", 600
    ),
)
