"""A mistake in one namespace makes the garbage collector delete objects in another.

A user copied objects to another namespace together with their ownerReferences. The collector looked
for the owner there, did not find it, and remembered its uid as absent. When its cache did not show
the owner of the original dependents for a moment, it deleted these too. Volume claims were lost in
this way. The change remembers an owner by its uid alone; this project had this bug until its museum
was made. Objects of an existing owner are deleted (GC-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.garbage_collector import _wanted

EXHIBIT = Exhibit(
    title="An owner in another namespace counts as absent everywhere",
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
