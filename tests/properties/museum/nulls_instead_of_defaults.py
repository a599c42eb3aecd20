"""A null in a custom object keeps its field from getting the default.

A client wrote null into a field that has a default and is not nullable. The null was neither dropped
nor replaced, and the object was rejected. The change keeps such a null. It is dropped, and the field
then gets its default (CRD-8).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.custom.prune import _defaulted_map

EXHIBIT = Exhibit(
    title="A null in a custom object keeps its field from getting the default",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=95423,
    said="CRs: Default non-nullable nulls",
    rule="CRD-8",
    changes=(
        Change(
            _defaulted_map,
            "if item is None and not child.nullable:",
            "if item is None and not child.nullable and child.default is None:",
        ),
    ),
    finder=Property("test_lessons.test_crd_8_a_null_that_is_not_allowed_is_absent"),
)
