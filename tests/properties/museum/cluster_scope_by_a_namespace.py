"""A role in a namespace gives access to custom resources of the cluster.

A request named a custom resource without a namespace as if it were in one. It was authorized in that
namespace, and answered with the object of the cluster. The change accepts such a path. A path that
names another scope than that of the resource is not served (API-10).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.route import _place

EXHIBIT = Exhibit(
    title="A role in a namespace gives access to custom resources of the cluster",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=80983,
    said="CVE-2019-11247: API server allows access to custom resources via wrong scope",
    rule="API-10",
    changes=(
        Change(
            _place,
            "if resource.namespaced != bool(namespace) and (",
            "if resource.namespaced and not namespace and (",
        ),
    ),
    finder=Property(
        "test_lessons.test_api_10_a_role_in_a_namespace_opens_no_custom_object_of_the_cluster"
    ),
)
