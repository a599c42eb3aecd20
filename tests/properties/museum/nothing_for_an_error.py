"""The namespace controller takes an error for "there is nothing".

When it was told once that a resource is not to be had it remembered that, and never looked there
again: namespaces went with objects of that kind in them. The change takes every answer that is no
list for an empty one. An object is left without its namespace (NS-2).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.namespace import NamespaceController

EXHIBIT = Exhibit(
    title="A namespace's content that could not be listed is taken for none",
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
