"""Files of manifests. Rule HOST-10 (spec/host.md)."""

import asyncio
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from api_world import World
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from refk8s.cli.main import main
from refk8s.components.manifests import apply
from refk8s.core.api.request import Request, Response
from refk8s.core.api.resources import CONFIG_MAPS


def config_map(name: str, **more: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {"name": name},
        "data": {"a": "12:30"},
        **more,
    }


def applied(world: World, text: str | bytes, name: str = "a.yaml") -> list[str]:
    async def submit(request: Request) -> Response:
        return world.do(request).response

    with tempfile.TemporaryDirectory() as directory:
        path = Path(directory) / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [line.replace(f"{directory}/", "") for line in asyncio.run(apply(path, submit))]


def names(world: World) -> list[str]:
    return [record.value.metadata.name for record in world.history.list(CONFIG_MAPS.prefix).records]


@given(
    st.recursive(st.integers(0, 30), lambda inner: st.lists(inner, max_size=4), max_leaves=8),
    st.booleans(),
)
def test_host_10_lists_and_documents_are_created_one_by_one(tree: Any, as_json: bool) -> None:
    # Shows HOST-10.a, HOST-10.c.
    """Lists in lists, whatever their depth: every object is created once, and a second time it is
    there already."""
    world, numbers = World(), []

    def built(part: Any) -> dict[str, Any]:
        if isinstance(part, int):
            numbers.append(part)
            return config_map(f"m-{part}")
        return {"apiVersion": "v1", "kind": "List", "items": [built(each) for each in part]}

    documents = [built(part) for part in (tree if isinstance(tree, list) else [tree])]
    text = "\n---\n".join(
        json.dumps(each) if as_json else yaml.safe_dump(each) for each in documents
    )
    said = applied(world, text)
    if not numbers:
        assert said == ["cannot apply a.yaml: it has no objects"]
        return
    assert names(world) == sorted({f"m-{number}" for number in numbers})
    seen: set[int] = set()
    for number, line in zip(numbers, said, strict=True):
        assert line == f"configmap/m-{number} {'is there already' if number in seen else 'created'}"
        seen.add(number)


BAD = {
    "a: [": "cannot apply a.yaml: yaml: ",
    "": "cannot apply a.yaml: it has no objects",
    "- 1": "where an object is expected",
    "just text": "where an object is expected",
    "kind: ConfigMap": "an object needs apiVersion and kind",
    "apiVersion: 1\nkind: [x]": "an object needs apiVersion and kind",
    "apiVersion: v1\nkind: Podd": 'no matches for kind "Podd" in version "v1"',
    "apiVersion: v1\nkind: ConfigMap\nmetadata: 3": "metadata of the ConfigMap is not an object",
    json.dumps(config_map("x", dat={})): 'strict decoding error: unknown field "dat"',
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: 1}": "cannot be handled as a ConfigMap",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\ndata: {a: b, a: c}": 'key "a" already set',
    json.dumps(config_map("Not_A_Name")): "metadata.name",
    json.dumps(
        {**config_map("x"), "metadata": {"name": "x", "namespace": "../nowhere"}}
    ): "error when creating",
    json.dumps(
        {**config_map("x"), "metadata": {"name": "x", "namespace": "missing"}}
    ): 'namespaces "missing" not found',
    "a: &a [x, x]\nb: &b [*a, *a]\n"
    + "".join(f"k{n}: &k{n} [*b, *b]\n" for n in range(3)): "an object needs",
    b"\xff\xfe\x00": "cannot apply a.yaml: yaml: ",
    "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\nbinaryData: .inf": "",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: repr(text[:20]))
def test_host_10_what_is_wrong_is_one_line_and_the_next_object_is_created(
    text: str | bytes,
) -> None:
    # Shows HOST-10.b, HOST-10.d, HOST-10.e.
    world = World()
    (line, *more) = applied(world, text)
    assert BAD[text] in line and "\n" not in line and not more
    assert names(world) == []
    if isinstance(text, str) and not line.startswith("cannot apply"):
        said = applied(world, f"{text}\n---\n{json.dumps(config_map('next'))}")
        assert len(said) == 2 and said[1] == "configmap/next created"


def test_host_10_a_file_that_cannot_be_read_is_one_line(tmp_path: Path) -> None:
    async def submit(request: Request) -> Response:
        raise AssertionError("nothing is sent")

    for path in (tmp_path / "none", tmp_path):
        (line,) = asyncio.run(apply(path, submit))
        assert line.startswith(f"cannot apply {path}: ") and "\n" not in line


def test_host_10_a_file_that_is_not_there_is_refused_before_the_cluster_starts(
    tmp_path: Path,
) -> None:
    data = tmp_path / "data"
    for path in (tmp_path / "none", tmp_path):
        done = CliRunner().invoke(main, ["run", "--data-dir", str(data), "--apply", str(path)])
        assert done.exit_code == 2 and "--apply" in done.output and not data.exists()
