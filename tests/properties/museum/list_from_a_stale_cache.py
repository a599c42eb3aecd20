"""The state that a restarted component sees goes back in time.

Reflectors began with a list at resourceVersion 0, which any state satisfies. With several API
servers the list may come from one whose cache stopped long ago. A kubelet had ended a pod, which
was then created again on another node. After a restart the kubelet got the old state and ran the
pod a second time. The change lists at resourceVersion 0 again. A list must have the newest state
(WATCH-4).
"""

from museum.change import Change
from museum.exhibit import Exhibit, Property, Simulation, Way
from refk8s.core.loop.informer import Informer

EXHIBIT = Exhibit(
    title="A restarted component gets an old state from a stale API server",
    repository="kubernetes/kubernetes",
    kind="issue",
    number=59848,
    said="Use of resourceVersion=0 in reflectors for initial sync breaks pod safety when more than one master",
    rule="WATCH-4",
    changes=(
        Change(
            Informer.list_request,
            "options = Options(field_selector=self.field_selector, label_selector=self.label_selector)",
            'options = Options(field_selector=self.field_selector, label_selector=self.label_selector, resource_version="0")',
        ),
    ),
    finder=Property(
        "test_lessons.test_watch_4_who_starts_again_at_a_stale_server_knows_no_less_than_before"
    ),
    also=(Way("WATCH-4", Simulation(steps=2_500)),),
)
