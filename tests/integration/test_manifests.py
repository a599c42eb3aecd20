"""Manifests after the tasks and tutorials of the Kubernetes documentation, applied by kubectl to
simulated nodes: each folder of `manifests/` converges as its table says, and is deleted without
leftovers.

A folder is applied in a namespace of its own, `docs-FOLDER`, and all folders at the same time. The
table `expected.txt` has lines of three columns: an object (a name may end with `*`), a place in it,
and its value in JSON or as text (`~TEXT`: contains this; `absent` as the place: there is no such
object). A line that begins with a file in `refused/` has what kubectl is told about that file.
"""

import json
import re
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from fake_cluster import FakeCluster, running_cluster

MANIFESTS = Path(__file__).parent / "manifests"
FOLDERS = sorted(path for path in MANIFESTS.iterdir() if path.is_dir())
SECONDS_MAX = 150
"""Until all folders have converged, on a machine with much else to do."""
AT_ONCE = 3
"""So many kubectl processes at the same time."""
OWN = {"ServiceAccount default", "ConfigMap kube-root-ca.crt"}
"""What every namespace has."""


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[FakeCluster]:
    with running_cluster(tmp_path_factory.mktemp("manifests")) as cluster:
        yield cluster


def test_a_hundred_manifests_of_the_documentation_converge_and_go(cluster: FakeCluster) -> None:
    assert len(list(MANIFESTS.rglob("*.yaml"))) >= 100
    before = _everywhere(cluster)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda folder: _apply(cluster, folder), FOLDERS))
        _wait(lambda: [line for folder in FOLDERS for line in _unfulfilled(cluster, folder)])
        wrong = list(pool.map(lambda folder: _wrongly_accepted(cluster, folder), FOLDERS))
        assert not any(wrong), "\n".join(line for lines in wrong for line in lines)
        list(pool.map(lambda folder: _delete(cluster, folder), FOLDERS))
    _wait(lambda: [line for folder in FOLDERS for line in _left(cluster, folder)])
    for folder in FOLDERS:
        cluster.call("DELETE", f"/api/v1/namespaces/{_namespace(folder)}")
    _wait(lambda: sorted(_everywhere(cluster) - before))


_known: dict[str, tuple[str, str, bool]] = {
    "timetable": ("docs.example.com/v1", "timetables", True)  # custom-resources/
}


def _namespace(folder: Path) -> str:
    return f"docs-{folder.name}"


def _wait(question: Any) -> None:
    """Ask until nothing is wrong."""
    end = time.monotonic() + SECONDS_MAX
    while wrong := question():
        assert time.monotonic() < end, "\n".join(wrong)
        time.sleep(0.5)


def _apply(cluster: FakeCluster, folder: Path) -> None:
    named = {"metadata": {"name": _namespace(folder)}}
    assert cluster.call("POST", "/api/v1/namespaces", named)[0] == 201
    account = f"/api/v1/namespaces/{_namespace(folder)}/serviceaccounts/default"
    _wait(lambda: [account] if cluster.call("GET", account)[0] != 200 else [])
    arguments = ("apply", "-n", _namespace(folder), "-f", str(folder))
    if any(folder.glob("*definition.yaml")):  # its objects are applied when it is established
        cluster.kubectl("apply", "-f", str(next(folder.glob("*definition.yaml"))))
        cluster.kubectl("wait", "crd", "--all", "--for=condition=Established", "--timeout=60s")
    cluster.kubectl(*arguments)


def _delete(cluster: FakeCluster, folder: Path) -> None:
    arguments = ("--ignore-not-found", "--wait=false", "-f", str(folder))
    cluster.kubectl("delete", "-n", _namespace(folder), *arguments)


def _rows(folder: Path) -> list[list[str]]:
    lines = (folder / "expected.txt").read_text().splitlines()
    return [re.split(r"\s+", line.strip(), maxsplit=2) for line in lines if line.strip()]


def _unfulfilled(cluster: FakeCluster, folder: Path) -> list[str]:
    """The lines of the table that do not hold yet."""
    found = []
    for what, place, *value in _rows(folder):
        if what.startswith("refused/"):
            continue
        objects = _objects(cluster, what, _namespace(folder))
        if place == "absent":
            holds, seen = not objects, objects
        else:
            seen = [_at(one, place) for one in objects]
            holds = any(_is(one, value[0], thing) for one, thing in zip(seen, objects, strict=True))
        if not holds:
            found.append(f"{folder.name}: {what} {place} is {seen}, not {value}")
    return found


def _is(seen: Any, expected: str, thing: Any) -> bool:
    if expected.startswith("~"):
        return isinstance(seen, str) and expected[1:] in seen
    if expected.startswith("="):  # the value of another place
        return bool(seen == _at(thing, expected[1:]))
    try:
        value = json.loads(expected)
    except ValueError:
        value = expected
    return bool(seen == value) or seen == expected


def _at(tree: Any, place: str) -> Any:
    """The value at a place: `spec.ports[0].port`, `status.conditions[Ready].status`,
    `metadata.labels[a.b/c]`, `endpoints.length`."""
    for step, index in re.findall(r"([^.\[\]]+)|\[([^\]]*)\]", place):
        key = step or index
        if isinstance(tree, list):
            if key == "length":
                return len(tree)
            if key.isdigit():
                tree = tree[int(key)] if int(key) < len(tree) else None
            else:
                tree = next((one for one in tree if one.get("type") == key), None)
        else:
            tree = tree.get(key) if isinstance(tree, dict) else None
    return tree


def _path(cluster: FakeCluster, kind: str, namespace: str) -> str:
    """The path of the collection of a kind in lower case."""
    version, plural, is_namespaced = _kinds(cluster)[kind]
    prefix = "/api/v1" if version == "v1" else f"/apis/{version}"
    return f"{prefix}/namespaces/{namespace}/{plural}" if is_namespaced else f"{prefix}/{plural}"


def _kinds(cluster: FakeCluster) -> dict[str, tuple[str, str, bool]]:
    """Every kind that is listed: its version, plural, and whether it is in namespaces."""
    if len(_known) > 1:
        return _known
    accepted = {"Accept": "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList"}
    for root in ("/api", "/apis"):
        for group in cluster.call("GET", root, None, accepted)[1]["items"]:
            version = group["versions"][0]
            name = group["metadata"].get("name", "")
            for resource in version["resources"]:
                if "list" not in resource["verbs"] or name == "events.k8s.io":
                    continue
                kind = resource["responseKind"]["kind"].lower()
                stated = f"{name}/{version['version']}" if name else version["version"]
                if kind not in _known:
                    is_namespaced = resource["scope"] == "Namespaced"
                    _known[kind] = (stated, resource["resource"], is_namespaced)
    return _known


def _objects(cluster: FakeCluster, what: str, namespace: str) -> list[Any]:
    """The objects that `kind/name` means; a name may end with `*`."""
    kind, name = what.split("/", 1)
    if kind not in _kinds(cluster):
        return []
    path = _path(cluster, kind, namespace)
    if not name.endswith("*"):
        code, answer = cluster.call("GET", f"{path}/{name}")
        return [answer] if code == 200 else []
    found = cluster.call("GET", path)[1]["items"]
    return [one for one in found if one["metadata"]["name"].startswith(name[:-1])]


def _wrongly_accepted(cluster: FakeCluster, folder: Path) -> list[str]:
    """The lines about files in `refused/` that do not hold."""
    found = []
    for what, *said in _rows(folder):
        if what.startswith("refused/"):
            arguments = ("apply", "-n", _namespace(folder), "-f", str(folder / what))
            answer = cluster.kubectl(*arguments, fine=False)
            if " ".join(said) not in answer:
                found.append(f"{folder.name}/{what}: {answer}")
    return found


def _left(cluster: FakeCluster, folder: Path) -> list[str]:
    """What the namespace has after everything in the folder has been deleted."""
    found = []
    for kind, (_, _, is_namespaced) in _kinds(cluster).items():
        if is_namespaced and kind not in ("event", "podmetrics", "timetable"):
            answer = cluster.call("GET", _path(cluster, kind, _namespace(folder)))[1]
            names = [f"{answer['kind'][:-4]} {one['metadata']['name']}" for one in answer["items"]]
            found += [f"{folder.name}: {name}" for name in names if name not in OWN]
    return found


def _everywhere(cluster: FakeCluster) -> set[str]:
    """The objects that are in no namespace, and volumes."""
    found = set()
    for kind, (_, _, is_namespaced) in _kinds(cluster).items():
        if not is_namespaced and kind not in ("componentstatus", "node", "nodemetrics", "csinode"):
            answer = cluster.call("GET", _path(cluster, kind, ""))[1]
            found |= {f"{kind} {one['metadata']['name']}" for one in answer["items"]}
    return found
