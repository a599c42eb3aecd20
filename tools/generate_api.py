"""Write refk8s/core/api/<group>_<version>.py from the published definitions of the Kubernetes API.

    python tools/generate_api.py            write the modules
    python tools/generate_api.py --check    exit 1 if a module differs from the definitions

Source of names, types, required marks and x-kubernetes keys: the development dependency
`kubernetes-validate` (`kubernetes-json-schema/v1.37.0-local/_definitions.json`). Facts that those
definitions do not have (which optional values the API server writes even if they are not set) are
in `go_facts.py`, each with its source. No descriptions are used.

Rules: OBJ-1 to OBJ-4 and OBJ-9 (spec/object_model.md). Left out: alpha and beta versions.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import keyword
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import go_facts

from refk8s.core.apiserver.protobuf_fields import MESSAGES

KUBERNETES_VERSION = "v1.37.0"
TARGET = Path(__file__).parent.parent / "refk8s" / "core" / "api"
LINE_MAX = 140
META = "io.k8s.apimachinery.pkg.apis.meta.v1."

# Definitions that are one JSON value and not a record: how each is typed.
SCALARS = {
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "Quantity",
    META + "Time": "Time",
    META + "MicroTime": "MicroTime",
    META + "FieldsV1": "FieldsV1",
    META + "Patch": "Json",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "Json",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "IntOrString",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSON": "Json",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "Json",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "Json",
    "io.k8s.apiextensions-apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "Json",
}
# The value of a required field of this type that is not set: always written (OBJ-3).
REQUIRED_DEFAULTS = {
    "str": "str",
    "Base64": "str",
    "bool": "bool",
    "Int32": "int",
    "Int64": "int",
    "Float": "float",
    "IntOrString": "int",
    "Quantity": "zero_quantity",
    "Time": "null",
    "MicroTime": "null",
    "Json": "null",
}

# Records of the meta group that the definitions leave out. Source: Kubernetes API concepts,
# "Receiving resources as Tables" and "Metadata-only fetches".
EXTRA: dict[str, Any] = {
    META + "TableColumnDefinition": {
        "properties": {
            "name": {"type": "string"},
            "type": {"type": "string"},
            "format": {"type": "string"},
            "description": {"type": "string"},
            "priority": {"type": "integer", "format": "int32"},
        },
        "required": ["name", "type", "format", "description", "priority"],
    },
    META + "TableRowCondition": {
        "properties": {
            "type": {"type": "string"},
            "status": {"type": "string"},
            "reason": {"type": "string"},
            "message": {"type": "string"},
        },
        "required": ["type", "status"],
    },
    META + "TableRow": {
        "properties": {
            "cells": {"type": "array", "items": {}},
            "conditions": {
                "type": "array",
                "items": {"$ref": "#/$defs/" + META + "TableRowCondition"},
            },
            "object": {},
        },
        "required": ["cells"],
    },
    META + "Table": {
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": "#/$defs/" + META + "ListMeta"},
            "columnDefinitions": {
                "type": "array",
                "items": {"$ref": "#/$defs/" + META + "TableColumnDefinition"},
            },
            "rows": {"type": "array", "items": {"$ref": "#/$defs/" + META + "TableRow"}},
        },
        "required": ["columnDefinitions", "rows"],
        "x-kubernetes-group-version-kind": [
            {"group": "meta.k8s.io", "kind": "Table", "version": "v1"}
        ],
    },
    META + "PartialObjectMetadata": {
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": "#/$defs/" + META + "ObjectMeta"},
        },
        "x-kubernetes-group-version-kind": [
            {"group": "meta.k8s.io", "kind": "PartialObjectMetadata", "version": "v1"}
        ],
    },
    META + "PartialObjectMetadataList": {
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "metadata": {"$ref": "#/$defs/" + META + "ListMeta"},
            "items": {
                "type": "array",
                "items": {"$ref": "#/$defs/" + META + "PartialObjectMetadata"},
            },
        },
        "required": ["items"],
        "x-kubernetes-group-version-kind": [
            {"group": "meta.k8s.io", "kind": "PartialObjectMetadataList", "version": "v1"}
        ],
    },
    META + "CreateOptions": {
        "properties": {
            "apiVersion": {"type": "string"},
            "kind": {"type": "string"},
            "dryRun": {"type": "array", "items": {"type": "string"}},
            "fieldManager": {"type": "string"},
            "fieldValidation": {"type": "string"},
        },
    },
}


def definitions() -> dict[str, Any]:
    """The definitions of the development dependency, with the records it leaves out."""
    package = importlib.util.find_spec("kubernetes_validate")
    assert package is not None and package.origin is not None, "pip install kubernetes-validate"
    path = (
        Path(package.origin).parent
        / "kubernetes-json-schema"
        / f"{KUBERNETES_VERSION}-local"
        / "_definitions.json"
    )
    found: dict[str, Any] = json.loads(path.read_text())["$defs"]
    return {**found, **EXTRA}


def module_of(name: str) -> str | None:
    """The module a definition belongs to, or None when it is not generally available or no
    record."""
    if name in SCALARS:
        return None
    group, version, _ = name.rsplit(".", 2)
    group = group.rsplit(".", 1)[1]
    if name.startswith("io.k8s.apimachinery.pkg.version."):
        return "meta_v1"
    return f"{group}_{version}" if re.fullmatch(r"v\d+", version) else None


def attribute_of(wire: str) -> str:
    """snake_case of a wire name: clusterIP -> cluster_ip, podCIDRs -> pod_cidrs, $ref -> ref, not
    -> not_, bool -> bool_."""
    name = re.sub(r"^\$", "", wire).replace("-", "_").replace("APIV3", "ApiV3")
    name = re.sub(r"([A-Z]{2,})s(?=[A-Z]|$)", lambda found: found.group(1).capitalize() + "s", name)
    name = re.sub(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])", "_", name).lower()
    return (
        name + "_"
        if keyword.iskeyword(name) or name in ("bool", "dict", "float", "int", "str", "tuple")
        else name
    )


def camel(attribute: str) -> str:
    """What msgspec's rename="camel" makes of an attribute."""
    first, *rest = attribute.split("_")  # an empty part stays empty, so not_ needs an explicit name
    return first + "".join(part.title() for part in rest)


class Writer:
    """The text of one module. `imports` collects the names taken from other generated modules."""

    def __init__(self, module: str, names: list[str], every: dict[str, Any]) -> None:
        self.module, self.names, self.every = module, names, every
        self.imports: dict[str, set[str]] = {}
        self.base: set[str] = set()
        self.annotated = False

    def reference(self, name: str, owner: str) -> str:
        """The Python name of another definition; quoted inside its own body, where it does not
        exist yet."""
        if name in SCALARS:
            self.base.add(SCALARS[name])
            return SCALARS[name]
        module, short = module_of(name), name.rsplit(".", 1)[1]
        if module is None:
            return self.scalar("Json")  # a part that is not generally available: kept as it is
        if module != self.module:
            self.imports.setdefault(module, set()).add(short)
        return short

    def type_of(self, schema: dict[str, Any], owner: str) -> str:
        if "$ref" in schema:
            return self.reference(schema["$ref"].removeprefix("#/$defs/"), owner)
        kinds = schema.get("type")
        kind = (
            next((one for one in kinds if one != "null"), None)
            if isinstance(kinds, list)
            else kinds
        )
        if kind == "array":
            return f"tuple[{self.type_of(schema['items'], owner)}, ...]"
        if kind == "object":
            values = schema.get("additionalProperties")
            return (
                f"dict[str, {self.type_of(values, owner)}]"
                if values is not None
                else self.scalar("Json")
            )
        if kind == "integer":
            return self.scalar("Int32" if schema.get("format") == "int32" else "Int64")
        if kind == "number":
            return self.scalar("Float")
        if kind == "string":
            return self.scalar("Base64") if schema.get("format") == "byte" else "str"
        if kind == "boolean":
            return "bool"
        return self.scalar("Json")

    def scalar(self, name: str) -> str:
        self.base.add(name)
        return name

    def field(
        self, name: str, wire: str, schema: dict[str, Any], gvk: dict[str, str] | None
    ) -> str:
        definition, short = self.every[name], name.rsplit(".", 1)[1]
        attribute, kind = attribute_of(wire), self.type_of(schema, short)
        path = f"{self.module}.{short}.{wire}"
        # Sometimes a default is not dropped by omit_defaults: that of a factory other than list,
        # dict and set.
        factory: str | None = None
        if gvk is not None and wire in ("apiVersion", "kind"):
            version = f"{gvk['group']}/{gvk['version']}" if gvk["group"] else gvk["version"]
            factory = f'constant("{version if wire == "apiVersion" else gvk["kind"]}")'
            self.base.add("constant")
        elif (
            wire in definition.get("required", ())
            or go_facts.is_always_written(path)
            or self.is_part(definition, wire, gvk)
        ):
            factory = REQUIRED_DEFAULTS.get(kind)
            if factory is None:
                factory = (
                    "empty_tuple"
                    if kind.startswith("tuple")
                    else "empty_map"
                    if kind.startswith("dict")
                    else kind
                )
        elif go_facts.is_written_as_null(path):
            factory = "null"
        if kind == "FieldsV1":
            self.base.add("NO_FIELDS")
            return f"    {attribute}: {kind} = NO_FIELDS"
        # a pointer: validation distinguishes absent and empty
        if (kind == "LabelSelector" and self.module == "apps_v1") or go_facts.is_required_pointer(
            path
        ):
            factory = None
        arguments = []
        if factory is not None:
            arguments.append(f"default_factory={factory}")
            if factory in ("empty_tuple", "empty_map", "null", "zero_quantity"):
                self.base.add(factory)
        if factory in (None, "null") and kind != "Json":
            kind = (
                self.non_zero(kind) if go_facts.is_zero_absent(path, kind) else kind
            ) + " | None"
        if factory is None and camel(attribute) != wire:
            arguments.append("default=None")
        if camel(attribute) != wire:
            arguments.append(f'name="{wire}"')
        if re.search(rf"\b{short}\b", kind):
            kind = f'"{kind}"'
        if not arguments:
            return f"    {attribute}: {kind} = None"
        self.base.add("field")
        return f"    {attribute}: {kind} = field({', '.join(arguments)})"

    def non_zero(self, kind: str) -> str:
        """The type of an optional field whose zero value means absent (OBJ-4)."""
        plain = {
            "bool": "Flag",
            "Int32": "Count32",
            "Int64": "Count64",
            "str": "Text",
            "Base64": "Bytes",
        }.get(kind)
        if plain is not None:
            return self.scalar(plain)
        self.annotated = True
        return f"Annotated[{kind}, {self.scalar('SOME')}]"

    @staticmethod
    def is_part(definition: dict[str, Any], wire: str, gvk: dict[str, str] | None) -> bool:
        """Metadata, spec and status of a kind are values and not pointers upstream: always there,
        written as {} when empty."""
        schema = definition["properties"][wire]
        return gvk is not None and wire in ("metadata", "spec", "status") and "$ref" in schema

    def class_text(self, name: str) -> str:
        definition, short = self.every[name], name.rsplit(".", 1)[1]
        gvk = gvk_of(name, definition)
        properties = dict(sorted(definition.get("properties", {}).items()))
        order = (
            [wire for wire in ("kind", "apiVersion", "metadata") if wire in properties]
            if gvk
            else []
        )
        order += [wire for wire in field_order(name, properties) if wire not in order]
        base = "Record"
        if gvk is not None and "metadata" in properties:
            base = "ListObject" if properties["metadata"]["$ref"].endswith("ListMeta") else "Object"
            if self.module != "meta_v1":
                self.imports.setdefault("meta_v1", set()).add(base)
        if base == "Record":
            self.base.add("Record")
        body = (
            "\n".join(self.field(name, wire, properties[wire], gvk) for wire in order) or "    pass"
        )
        return f"class {short}({base}, frozen=True, kw_only=True):\n{body}\n"

    def facts_text(self) -> str:
        """Merge and list keys by class and wire name: what strategic merge patch and server-side
        apply go by."""
        lines = []
        for name in self.names:
            definition, short = self.every[name], name.rsplit(".", 1)[1]
            entries = []
            for wire, schema in sorted(definition.get("properties", {}).items()):
                facts = {
                    key: schema["x-kubernetes-" + key]
                    for key in (
                        "patch-strategy",
                        "patch-merge-key",
                        "list-type",
                        "list-map-keys",
                        "map-type",
                    )
                    if "x-kubernetes-" + key in schema
                }
                if wire in definition.get("required", ()):
                    facts["required"] = True
                if facts:
                    entries.append(f"        {literal(wire)}: {literal(facts)},")
            own = (
                {"map-type": definition["x-kubernetes-map-type"]}
                if "x-kubernetes-map-type" in definition
                else {}
            )
            if own:
                entries.append(f"        {literal('')}: {literal(own)},")
            if entries:
                lines += [f"    {literal(short)}: {{", *entries, "    },"]
        return "FACTS: dict[str, dict[str, dict[str, Any]]] = {\n" + "\n".join(lines) + "\n}\n"

    def text(self) -> str:
        classes: list[str] = []
        for name in self.names:
            classes.append(self.class_text(name))
            if name == META + "ObjectMeta":
                classes.append(OBJECT_TEXT)
                self.base |= {"field"}
            if name == META + "ListMeta":
                classes.append(LIST_OBJECT_TEXT)
        body = "\n\n".join(classes)
        used = {name for name in self.base if re.search(rf"\b{name}\b", body)}
        lines = [
            '"""Generated by tools/generate_api.py from the definitions of Kubernetes '
            f"{KUBERNETES_VERSION}: do not edit.",
            "",
            "The rules these records obey: spec/object_model.md, OBJ-1 to OBJ-4.",
            '"""',
            "",
            "from typing import Annotated, Any" if self.annotated else "from typing import Any",
            "",
            import_text("base", used),
        ]
        lines += [import_text(module, names) for module, names in sorted(self.imports.items())]
        return "\n".join(lines) + "\n\n\n" + body + "\n\n" + self.facts_text()


def field_order(name: str, properties: dict[str, Any]) -> list[str]:
    """The fields as Kubernetes writes them (HTTP-17): by their numbers in protobuf, which were
    given in the order of the fields, but for those that `go_facts.ORDER` moves; fields without a
    number last."""
    message = MESSAGES.get(
        name.removeprefix("io.k8s.api.").replace(META, "meta.v1.").removeprefix("io.k8s."), ""
    )
    numbered = [field.partition("=")[2].partition(":")[0] for field in message.split()]
    order = [wire for wire in numbered if wire in properties]
    order += [wire for wire in properties if wire not in order]
    for wire, before in go_facts.ORDER.get(name.rsplit(".", 1)[1], {}).items():
        if wire in order and before in order:
            order.remove(wire)
            order.insert(order.index(before), wire)
    return order


def literal(value: Any) -> str:
    """A fact as Python source, strings in double quotes."""
    return json.dumps(value).replace(": true", ": True")


def import_text(module: str, names: set[str]) -> str:
    """One import in the linter's order: constants, classes, functions; one name a line when it
    would be too long."""
    ordered = sorted(names, key=lambda name: (not name.isupper(), name[0].islower(), name))
    line = f"from refk8s.core.api.{module} import " + ", ".join(ordered)
    return (
        line
        if len(line) <= LINE_MAX
        else f"from refk8s.core.api.{module} import (\n    " + ",\n    ".join(ordered) + ",\n)"
    )


OBJECT_TEXT = '''class Object(Record, frozen=True, kw_only=True):
    """The fields of every object: kind, apiVersion and metadata."""

    kind: str = field(default_factory=str)
    api_version: str = field(default_factory=str)
    metadata: ObjectMeta = field(default_factory=ObjectMeta)
'''
LIST_OBJECT_TEXT = '''class ListObject(Record, frozen=True, kw_only=True):
    """The fields of every list of objects; `items` is a tuple of objects of its kind."""

    kind: str = field(default_factory=str)
    api_version: str = field(default_factory=str)
    metadata: ListMeta = field(default_factory=ListMeta)
'''


def gvk_of(name: str, definition: dict[str, Any]) -> dict[str, str] | None:
    """Group, version and kind of a record that is an object by itself; None for a part of another
    record."""
    found = definition.get("x-kubernetes-group-version-kind")
    if not found or len(found) != 1 or "kind" not in definition["properties"]:
        return None
    return dict(found[0])


def references(schema: Any) -> set[str]:
    if isinstance(schema, dict):
        found = (
            {schema["$ref"].removeprefix("#/$defs/")}
            if isinstance(schema.get("$ref"), str)
            else set()
        )
        return found.union(*(references(value) for value in schema.values()))
    if isinstance(schema, list):
        return set().union(*(references(value) for value in schema)) if schema else set()
    return set()


def in_order(names: set[str], every: dict[str, Any]) -> list[str]:
    """Each definition after those it refers to; alphabetical otherwise. A class may refer to itself
    only."""
    done: list[str] = []
    seen: set[str] = set()

    def visit(name: str, path: tuple[str, ...]) -> None:
        assert name not in path, f"definitions refer to each other in a circle: {path}"
        if name in seen:
            return
        for other in sorted(references(every[name].get("properties", {})) & names - {name}):
            visit(other, (*path, name))
        seen.add(name)
        done.append(name)

    for name in sorted(names):
        visit(name, ())
    return done


def generate() -> dict[str, str]:
    """File name -> text of every generated module."""
    every = definitions()
    modules: dict[str, set[str]] = {}
    for name in every:
        module = module_of(name)
        if module is not None:
            modules.setdefault(module, set()).add(name)
    fields = {
        f"{module}.{name.rsplit('.', 1)[1]}.{wire}"
        for module, names in modules.items()
        for name in names
        for wire in every[name].get("properties", {})
    }
    if unused := go_facts.unused(fields):
        raise SystemExit(
            f"go_facts.py has facts about fields that do not exist: {' '.join(unused)}"
        )
    return {
        f"{module}.py": Writer(module, in_order(names, every), every).text()
        for module, names in sorted(modules.items())
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description="Write the API records of refk8s from the published Kubernetes definitions."
    )
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when a module is not current"
    )
    check = parser.parse_args().check
    stale = []
    for file, text in generate().items():
        path = TARGET / file
        if not path.exists() or path.read_text() != text:
            stale.append(file)
            if not check:
                path.write_text(text)
    if stale:
        print(
            ("not current, run tools/generate_api.py: " if check else "written: ") + " ".join(stale)
        )
    return 1 if stale and check else 0


if __name__ == "__main__":
    sys.exit(main())
