"""A namespace goes, and something stays in it.

With several API servers one of them may not know yet that a namespace is going, and lets an object
be made there after the namespace controller has looked for the last time. The namespace goes (pull
request #37431 tells how); the object stays, and can hardly be deleted, as its namespace does not
exist. The change lets objects into a namespace that terminates. An object is left without its
namespace (NS-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.admission.namespace import check_namespace

EXHIBIT = Exhibit(
    title="An object is made in a namespace while that is deleted",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=36891,
    said="Deleting a namespace sometimes leaves orphaned deployment and pods which can't be deleted",
    rule="NS-2",
    changes=(
        Change(
            check_namespace,
            'if namespace.metadata.deletion_timestamp is not None or namespace.status.phase == "Terminating":',
            "if False:",
        ),
    ),
    finder=Property(
        "test_lessons.test_ns_2_nothing_is_left_of_a_namespace_whatever_is_created_and_refused_meanwhile",
        600,
    ),
)
