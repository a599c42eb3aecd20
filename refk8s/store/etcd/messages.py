"""The messages of etcd's API that the store uses, as protobuf classes made from the table below.

A row of `MESSAGES` lists the fields of one message as name:number:type; `*` marks a repeated field,
and a type that is none of `_SCALARS` is another message. Unknown fields of an answer are skipped.
Source: etcd documentation, "API reference". Left out: messages and fields that the store does not
use.
"""

from __future__ import annotations

from typing import Any, Final

from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

MESSAGES: Final = {
    "ResponseHeader": "cluster_id:1:uint64 revision:3:int64",
    "KeyValue": "key:1:bytes create_revision:2:int64 mod_revision:3:int64 version:4:int64 value:5:bytes lease:6:int64",
    "RangeRequest": "key:1:bytes range_end:2:bytes limit:3:int64 revision:4:int64 keys_only:8:bool",
    "RangeResponse": "header:1:ResponseHeader kvs:2:*KeyValue more:3:bool",
    "PutRequest": "key:1:bytes value:2:bytes lease:3:int64",
    "DeleteRangeRequest": "key:1:bytes",
    "DeleteRangeResponse": "deleted:2:int64",
    "RequestOp": "request_range:1:RangeRequest request_put:2:PutRequest request_delete_range:3:DeleteRangeRequest",
    "ResponseOp": "response_range:1:RangeResponse response_put:2:PutResponse response_delete_range:3:DeleteRangeResponse",
    "PutResponse": "header:1:ResponseHeader",
    "Compare": "result:1:int32 target:2:int32 key:3:bytes version:4:int64 mod_revision:6:int64",
    "TxnRequest": "compare:1:*Compare success:2:*RequestOp failure:3:*RequestOp",
    "TxnResponse": "header:1:ResponseHeader succeeded:2:bool responses:3:*ResponseOp",
    "CompactionRequest": "revision:1:int64",
    "CompactionResponse": "header:1:ResponseHeader",
    "LeaseGrantRequest": "TTL:1:int64",
    "LeaseGrantResponse": "header:1:ResponseHeader ID:2:int64 TTL:3:int64",
    "WatchCreateRequest": "key:1:bytes range_end:2:bytes start_revision:3:int64 progress_notify:4:bool fragment:8:bool",
    "WatchRequest": "create_request:1:WatchCreateRequest",
    "Event": "type:1:int32 kv:2:KeyValue",
    "WatchResponse": "header:1:ResponseHeader created:3:bool canceled:4:bool compact_revision:5:int64 cancel_reason:6:string fragment:7:bool events:11:*Event",
}

EQUAL: Final = 0
"""The result of a compare."""
VERSION: Final = 0
MOD: Final = 2
"""What a compare is about: the version or the revision of the last write."""
DELETED: Final = 1
"""The type of an event; 0 is a put."""

_PACKAGE: Final = "etcdserverpb"
_SCALARS: Final = {
    "int32": FieldDescriptorProto.TYPE_INT32,
    "int64": FieldDescriptorProto.TYPE_INT64,
    "uint64": FieldDescriptorProto.TYPE_UINT64,
    "bool": FieldDescriptorProto.TYPE_BOOL,
    "bytes": FieldDescriptorProto.TYPE_BYTES,
    "string": FieldDescriptorProto.TYPE_STRING,
}


def _classes() -> dict[str, Any]:
    file = FileDescriptorProto(name="etcd.proto", package=_PACKAGE, syntax="proto3")
    for name, fields in MESSAGES.items():
        message = file.message_type.add(name=name)
        for text in fields.split():
            field, number, kind = text.split(":")
            repeated = kind.startswith("*")
            kind = kind.removeprefix("*")
            made = message.field.add(
                name=field,
                number=int(number),
                label=FieldDescriptorProto.LABEL_REPEATED
                if repeated
                else FieldDescriptorProto.LABEL_OPTIONAL,
                type=_SCALARS.get(kind, FieldDescriptorProto.TYPE_MESSAGE),
            )
            if kind not in _SCALARS:
                made.type_name = f".{_PACKAGE}.{kind}"
    pool = DescriptorPool()
    pool.Add(file)
    return {
        name: GetMessageClass(pool.FindMessageTypeByName(f"{_PACKAGE}.{name}")) for name in MESSAGES
    }


_CLASSES: Final = _classes()

CompactionRequest: Final = _CLASSES["CompactionRequest"]
CompactionResponse: Final = _CLASSES["CompactionResponse"]
LeaseGrantRequest: Final = _CLASSES["LeaseGrantRequest"]
LeaseGrantResponse: Final = _CLASSES["LeaseGrantResponse"]
PutRequest: Final = _CLASSES["PutRequest"]
PutResponse: Final = _CLASSES["PutResponse"]
RangeRequest: Final = _CLASSES["RangeRequest"]
RangeResponse: Final = _CLASSES["RangeResponse"]
TxnRequest: Final = _CLASSES["TxnRequest"]
TxnResponse: Final = _CLASSES["TxnResponse"]
WatchRequest: Final = _CLASSES["WatchRequest"]
WatchResponse: Final = _CLASSES["WatchResponse"]
