"""The README's example of a controller, as it stands there (LOOP-2)."""

import re
from pathlib import Path

from runs import settle

from refk8s.core.actions import Submit
from refk8s.core.api.core_v1 import Namespace
from refk8s.core.api.meta_v1 import ObjectMeta
from refk8s.core.api.request import Request
from refk8s.core.api.resources import NAMESPACES
from refk8s.core.api.user import ADMIN
from refk8s.core.cluster.state import begin
from refk8s.core.cluster.step import start_all, step
from refk8s.core.context import SECOND
from refk8s.core.loop.loop import Loop

README = Path(__file__).resolve().parents[2] / "README.md"


def test_the_controller_in_the_readme_greets_every_namespace():
    [block] = re.findall(r"test_readme\.py.*?```python\n(.*?)```", README.read_text(), re.S)
    assert (
        len([line for line in block.split("class Greeter")[1].splitlines() if line.strip()]) <= 20
    )
    scope: dict[str, type] = {}
    exec(block, scope)
    cluster = start_all(
        begin(
            {"greeter": Loop("greeter", [scope["Greeter"]()])},
            {},
            b"readme",
            1_790_000_000 * SECOND,
        )
    )
    for name in ("a", "b"):
        cluster = step(
            cluster,
            Submit(
                Request(
                    "create", NAMESPACES, body=Namespace(metadata=ObjectMeta(name=name)), user=ADMIN
                )
            ),
        )
    cluster = settle(cluster, lambda before, after: [])
    for name in ("a", "b"):
        assert cluster.history.get(f"/core/configmaps/{name}/greeting").value.data == {
            "hello": name
        }
