"""Two claims are bound to one volume.

The binder chose the same volume for two claims that were created together, because its cache did
not show the first reservation yet, and the second write replaced the first. Two pods then wrote to
one disk. The change writes a reservation without comparing versions (VOL-1).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property
from refk8s.core.controllers.claim_binding import reserve

EXHIBIT = Exhibit(
    title="Two claims are bound to one volume",
    repository="openshift/origin",
    kind="issue",
    number=4829,
    said="PVC binding is racy",
    rule="VOL-1",
    changes=(
        Change(
            reserve,
            "body = replace(volume, metadata=metadata, spec=spec)",
            "body = replace(volume, metadata=replace(metadata, resource_version=None), spec=spec)",
        ),
    ),
    finder=Property("test_vol.test_vol_1_vol_2_vol_7_after_any_run_claims_and_volumes_agree", 300),
)
