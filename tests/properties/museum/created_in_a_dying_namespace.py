"""An object outlives its namespace.

One of several API servers may not know yet that a namespace is being deleted. It creates an object
there after the namespace controller has listed the content for the last time. The namespace is
removed (pull request #37431 describes it). The object stays, and can hardly be deleted, since its
namespace does not exist. The change accepts objects in a namespace that is terminating. An object
exists without its namespace (NS-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.admission.namespace import check_namespace

EXHIBIT = Exhibit(
    title="An object is created in a namespace that is being deleted",
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
