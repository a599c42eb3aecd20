"""One patch keeps the API server busy.

A JSON patch of three megabytes has hundred thousands of operations, and each may look through the
whole object. The change accepts a hundred times as many. Their number is bounded before the first one
is made (PATCH-4).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.patch.json_patch import _operations

EXHIBIT = Exhibit(
    title="One patch keeps the API server busy",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=74534,
    said="CVE-2019-1002100: json-patch requests can exhaust apiserver resources",
    rule="PATCH-4",
    changes=(
        Change(
            _operations,
            "if len(document) > OPERATIONS_MAX:",
            "if len(document) > 100 * OPERATIONS_MAX:",
        ),
    ),
    finder=Property("test_patch.test_patch_4_the_number_of_operations_is_bounded"),
)
