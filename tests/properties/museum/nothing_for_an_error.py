"""The namespace controller handles an error as an empty list.

When a resource was once not available, the controller remembered this and did not list it again.
Namespaces were removed with objects of that kind in them. The change counts every response that is
not a list as an empty list. An object exists without its namespace (NS-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.namespace import NamespaceController

EXHIBIT = Exhibit(
    title="The content of a namespace that could not be listed counts as empty",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=93790,
    said="Fix namespace controller cleanup orphaning",
    rule="NS-2",
    changes=(
        Change(
            NamespaceController.answered,
            "if response is None or not response.ok:  # NS-6",
            "if response is None or not response.ok:\n"
            "    survey = evolve(survey, found=survey.found.set(request.resource.prefix, Remaining(0, 0, ())))\n"
            "    return memory.set(key, survey), (key,) if survey.complete else ()\n"
            "if False:",
        ),
    ),
    finder=Property(
        "test_lessons.test_ns_2_nothing_is_left_of_a_namespace_whatever_is_created_and_refused_meanwhile",
        600,
    ),
)
