"""A user with a slash in an extra attribute cannot use other API servers.

The API server passed the user on to another one in headers, with the key of an extra attribute in
the name of a header as it was. Keys have slashes, which names of headers cannot have, and the request
failed or named another user. The change does not encode them. The other server learns the whole user
(APISVC-6).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.apiserver.aggregation.identity import _escaped

EXHIBIT = Exhibit(
    title="A user with a slash in an extra attribute cannot use other API servers",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=63682,
    said="header key validation stricter than user.Info.Extra key validation",
    rule="APISVC-6",
    changes=(
        Change(
            _escaped,
            'chr(byte) if _TOKEN.fullmatch(bytes((byte,))) else f"%{byte:02X}"',
            "chr(byte)",
        ),
    ),
    finder=Property(
        "test_aggregation.test_apisvc_6_the_user_is_named_whole_and_by_this_server_alone",
        1_000,
    ),
)
