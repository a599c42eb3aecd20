"""The token of a deleted Secret is valid again when another one has its name.

A token of a service account that is bound to a Secret or pod is invalid when that object is deleted.
The uid in the token was compared with itself, so another object of the name made the token valid
again. The change does the same. A token is valid while the objects exist that have its uids
(HTTP-19).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.authenticate import _exists

EXHIBIT = Exhibit(
    title="The token of a deleted Secret is valid again when another one has its name",
    repository="kubernetes/kubernetes",
    kind="pull request",
    number=62993,
    said="fix a bug in serviceaccount validate.",
    rule="HTTP-19",
    changes=(
        Change(
            _exists,
            'record.value.metadata.uid != named["uid"]',
            "record.value.metadata.uid != record.value.metadata.uid",
        ),
    ),
    finder=Property(
        "test_http.test_http_19_a_token_is_good_only_within_its_time_and_while_what_it_names_is_there"
    ),
)
