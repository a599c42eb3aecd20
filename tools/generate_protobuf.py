"""Write refk8s/core/apiserver/protobuf_fields.py: which field of which message has which number on
the protobuf wire.

    python tools/generate_protobuf.py FACTS.json            write the module
    python tools/generate_protobuf.py FACTS.json --check    exit 1 if it differs from the facts

FACTS.json maps full message names to {number: [name, type, "repeated"?]}, as read from the .proto
files that Kubernetes publishes with its API types. JSON names come from the same definitions as the
records (`generate_api.py`); where a message's field is no property of the JSON object, the message
is embedded in Go and its fields lie in the object itself. Rule PROTO-2 (spec/protobuf.md).
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parent.parent))

import go_facts
from generate_api import definitions

from refk8s.core.api.resources import ALL

TARGET = Path(__file__).parent.parent / "refk8s" / "core" / "apiserver" / "protobuf_fields.py"
META = "io.k8s.apimachinery.pkg.apis.meta.v1."
BODIES = (
    META + "Status",
    META + "DeleteOptions",
    META + "PartialObjectMetadata",
    META + "PartialObjectMetadataList",
    META + "WatchEvent",
    "io.k8s.api.autoscaling.v1.Scale",
    "io.k8s.api.policy.v1.Eviction",
    "io.k8s.api.authentication.v1.TokenRequest",
)
# Messages whose JSON form is not an object of their fields, and their names in the codec
# (protobuf.py handles each of them).
SCALARS = {
    META + "Time": "Time",
    META + "MicroTime": "MicroTime",
    META + "FieldsV1": "Raw",
    META + "Verbs": "Strings",
    "io.k8s.apimachinery.pkg.api.resource.Quantity": "Quantity",
    "io.k8s.apimachinery.pkg.runtime.RawExtension": "Raw",
    "io.k8s.apimachinery.pkg.util.intstr.IntOrString": "IntOrString",
    "io.k8s.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSON": "Raw",
    "io.k8s.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrArray": "SchemaOrArray",
    "io.k8s.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrBool": "SchemaOrBool",
    "io.k8s.apiextensions_apiserver.pkg.apis.apiextensions.v1.JSONSchemaPropsOrStringArray": "SchemaOrStrings",
}
SCALAR_SUFFIXES = {".ExtraValue": "Strings"}
# What a field is called in JSON where it is not the protobuf name.
JSON_NAMES = {
    "uID": "uid",
    "aPIGroup": "apiGroup",
    "Webhooks": "webhooks",
    "Expression": "expression",
    "Name": "name",
}
SCHEMA_NAMES = {"ref": "$ref", "schema": "$schema"}
_OBJECT_META, _LIST_META, _TIME, _CONDITION = (
    ".k8s.io" + META[6:] + name for name in ("ObjectMeta", "ListMeta", "Time", "Condition")
)
# The aggregator's messages, which the facts leave out. Source: its published generated.proto.
APISERVICE = {
    "APIService": {
        "1": ["metadata", _OBJECT_META],
        "2": ["spec", "APIServiceSpec"],
        "3": ["status", "APIServiceStatus"],
    },
    "APIServiceList": {"1": ["metadata", _LIST_META], "2": ["items", "APIService", "repeated"]},
    "APIServiceSpec": {
        "1": ["service", "ServiceReference"],
        "2": ["group", "string"],
        "3": ["version", "string"],
        "4": ["insecureSkipTLSVerify", "bool"],
        "5": ["caBundle", "bytes"],
        "7": ["groupPriorityMinimum", "int32"],
        "8": ["versionPriority", "int32"],
    },
    "APIServiceStatus": {"1": ["conditions", "APIServiceCondition", "repeated"]},
    "APIServiceCondition": {
        "1": ["type", "string"],
        "2": ["status", "string"],
        "3": ["lastTransitionTime", _TIME],
        "4": ["reason", "string"],
        "5": ["message", "string"],
    },
    "ServiceReference": {
        "1": ["namespace", "string"],
        "2": ["name", "string"],
        "3": ["port", "int32"],
    },
}
# The types of fields that upstream writes even if they are zero, unless they are pointers, and
# their names in go_facts.py.
WRITTEN_SCALARS = {"string": "str", "bool": "bool", "int32": "Int32", "int64": "Int64"}
WRITTEN_TIMES = ("Time", "MicroTime")
CREATED = "meta_v1.ObjectMeta.creationTimestamp"
# Messages of v1.37, which the facts of v1.36 do not have. Source: the published generated.proto.
MIGRATION = {
    "StorageVersionMigration": {
        "1": ["metadata", _OBJECT_META],
        "2": ["spec", "StorageVersionMigrationSpec"],
        "3": ["status", "StorageVersionMigrationStatus"],
    },
    "StorageVersionMigrationList": {
        "1": ["metadata", _LIST_META],
        "2": ["items", "StorageVersionMigration", "repeated"],
    },
    "StorageVersionMigrationSpec": {"1": ["resource", ".k8s.io" + META[6:] + "GroupResource"]},
    "StorageVersionMigrationStatus": {
        "1": ["conditions", _CONDITION, "repeated"],
        "2": ["resourceVersion", "string"],
    },
}
CERTIFICATE = {
    "ClusterTrustBundle": {
        "1": ["metadata", _OBJECT_META],
        "2": ["spec", "ClusterTrustBundleSpec"],
    },
    "ClusterTrustBundleList": {
        "1": ["metadata", _LIST_META],
        "2": ["items", "ClusterTrustBundle", "repeated"],
    },
    "ClusterTrustBundleSpec": {"1": ["signerName", "string"], "2": ["trustBundle", "string"]},
    "PodCertificateRequest": {
        "1": ["metadata", _OBJECT_META],
        "2": ["spec", "PodCertificateRequestSpec"],
        "3": ["status", "PodCertificateRequestStatus"],
    },
    "PodCertificateRequestList": {
        "1": ["metadata", _LIST_META],
        "2": ["items", "PodCertificateRequest", "repeated"],
    },
    "PodCertificateRequestSpec": {
        "1": ["signerName", "string"],
        "2": ["podName", "string"],
        "3": ["podUID", "string"],
        "4": ["serviceAccountName", "string"],
        "5": ["serviceAccountUID", "string"],
        "6": ["nodeName", "string"],
        "7": ["nodeUID", "string"],
        "8": ["maxExpirationSeconds", "int32"],
        "11": ["unverifiedUserAnnotations", "map<string,string>"],
        "12": ["stubPKCS10Request", "bytes"],
    },
    "PodCertificateRequestStatus": {
        "1": ["conditions", _CONDITION, "repeated"],
        "2": ["certificateChain", "string"],
        "4": ["notBefore", _TIME],
        "5": ["beginRefreshAt", _TIME],
        "6": ["notAfter", _TIME],
    },
}
MIGRATIONS = "io.k8s.api.storagemigration.v1."
CERTIFICATES = "io.k8s.api.certificates.v1."
AGGREGATOR = "io.k8s.kube_aggregator.pkg.apis.apiregistration.v1."

HEAD = '''"""Generated by tools/generate_protobuf.py: field numbers of the protobuf wire. Do not edit. Rule PROTO-2 (spec/protobuf.md).

A message is its fields, `number=name:type` each; `*` stands before the type of a repeated field, `%` before that of a map's values (keys
are strings), `^` before a message whose fields lie in the object itself, `+` before that of a field that is written even if it is empty.
A type with a small letter is a scalar or a message (`core.v1.Pod`), one with a capital has a JSON form of its own.
"""

MESSAGES: dict[str, str] = {
'''


def short(message: str) -> str:
    """core.v1.Pod of io.k8s.api.core.v1.Pod."""
    return ".".join(message.split(".")[-3:])


def json_name(message: str, name: str, properties: set[str]) -> str | None:
    """The JSON name of a field; None when the object has no such property."""
    if message.endswith(".JSONSchemaProps") and name in SCHEMA_NAMES:
        return SCHEMA_NAMES[name]
    kebab = re.sub(r"(?=[A-Z])", "-", name).lower()
    return next(
        (one for one in (name, JSON_NAMES.get(name, name), kebab) if one in properties), None
    )


def is_always_written(message: str, name: str, type_: str, is_required: bool) -> bool:
    """Whether upstream writes the field even if it is empty or zero, because it is no pointer."""
    package, version, kind = short(message).split(".")
    path = f"{package}_{version}.{kind}.{name}"
    if type_ in WRITTEN_TIMES:
        return is_required or path == CREATED or go_facts.is_always_written(path)
    if type_ not in WRITTEN_SCALARS or go_facts.is_required_pointer(path):
        return False
    return is_required or go_facts.is_zero_absent(path, WRITTEN_SCALARS[type_])


class Table:
    """The messages reached so far."""

    def __init__(self, facts: dict[str, Any]) -> None:
        self.facts = facts
        self.every = {name.replace("-", "_"): schema for name, schema in definitions().items()}
        self.found: dict[str, str] = {}
        self.dropped: list[str] = []

    def visit(self, message: str) -> None:
        if short(message) in self.found:
            return
        assert message in self.facts, message
        self.found[short(message)] = ""  # recursive messages end here
        schema = self.every.get(message, {})
        # An embedded message has no definition of its own: its fields are checked by the message
        # that embeds it.
        properties = set(schema["properties"]) if "properties" in schema else None
        texts = []
        for number, (name, kind, *repeated) in sorted(
            self.facts[message].items(), key=lambda item: int(item[0])
        ):
            mark = "*" if repeated else ""
            inner = kind
            if kind.startswith("map<string,"):
                mark, inner = "%", kind.removeprefix("map<string,").removesuffix(">")
            is_message = not re.fullmatch(r"string|bytes|bool|int32|int64|double", inner)
            shown = name if properties is None else json_name(message, name, properties)
            if shown is None and is_message and not mark:
                mark, shown = "^", name
            if shown is None:
                self.dropped.append(f"{short(message)}.{name}")
                continue
            type_ = self.type_of(message, inner) if is_message else inner
            is_required = shown in schema.get("required", ())
            is_value = not mark and bool(properties)
            is_written = is_value and is_always_written(message, shown, type_, is_required)
            texts.append(f"{number}={shown}:{mark}{'+' if is_written else ''}{type_}")
        self.found[short(message)] = " ".join(texts)

    def type_of(self, message: str, inner: str) -> str:
        full = (
            "io.k8s" + inner.removeprefix(".k8s.io")
            if inner.startswith(".")
            else message.rsplit(".", 1)[0] + "." + inner
        )
        for suffix, known in SCALAR_SUFFIXES.items():
            if full.endswith(suffix):
                return known
        if full in SCALARS:
            return SCALARS[full]
        self.visit(full)
        return short(full)


def generate(facts: dict[str, Any]) -> tuple[str, list[str]]:
    """The text of the module, and what the facts have that the definitions of today do not."""
    more = {AGGREGATOR + name: fields for name, fields in APISERVICE.items()}
    more |= {MIGRATIONS + name: fields for name, fields in MIGRATION.items()}
    more |= {CERTIFICATES + name: fields for name, fields in CERTIFICATE.items()}
    table = Table({**facts, **more})
    by_short = {short(name): name for name in table.facts}
    for resource in ALL:
        package = f"{resource.group.split('.')[0] or 'core'}.{resource.version}"
        for kind in (resource.kind, resource.list_kind):
            if (message := by_short.get(f"{package}.{kind}")) is not None:
                table.visit(message)
    for message in BODIES:
        table.visit(message)
    for name in ("apiextensions.v1.JSONSchemaProps",):  # reached through its own JSON forms only
        table.visit(by_short[name])
    lines = [
        f"    {json.dumps(name)}: {json.dumps(text)},\n"
        for name, text in sorted(table.found.items())
    ]
    return HEAD + "".join(lines) + "}\n", table.dropped


def main() -> int:
    parser = argparse.ArgumentParser(description="Write the table of protobuf field numbers.")
    parser.add_argument("facts", type=Path, help="message -> {number: [name, type, repeated?]}")
    parser.add_argument(
        "--check", action="store_true", help="write nothing; exit 1 when the module is not current"
    )
    options = parser.parse_args()
    text, dropped = generate(json.loads(options.facts.read_text()))
    if options.check:
        return 0 if TARGET.exists() and TARGET.read_text() == text else 1
    TARGET.write_text(text)
    print("no property of today's objects: " + (", ".join(dropped) or "none"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
