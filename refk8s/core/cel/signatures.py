"""The types of functions. Rule CEL-4 (spec/cel.md).

A line has a name, the types of its arguments (a method's receiver first), and the type of the
result. `|` separates alternatives, `item` is the item type of the first argument, `same` its type,
`...` any number of further arguments of the last type.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

TEXT = """
int(int|uint|double|string|timestamp) int
uint(int|uint|double|string) uint
double(int|uint|double|string) double
string(int|uint|double|string|bool|bytes|timestamp|duration|ip|cidr) string
bool(bool|string) bool
bytes(bytes|string) bytes
dyn(dyn) dyn
type(dyn) type
size(string|bytes|list|map|object) int
timestamp(string|timestamp) timestamp
duration(string|duration) duration
contains(string,string) bool
startsWith(string,string) bool
endsWith(string,string) bool
matches(string,string) bool
find(string,string) string
findAll(string,string) list(string)
findAll(string,string,int) list(string)
charAt(string,int) string
indexOf(string|list,dyn) int
indexOf(string,string,int) int
lastIndexOf(string|list,dyn) int
lastIndexOf(string,string,int) int
substring(string,int) string
substring(string,int,int) string
replace(string,string,string) string
replace(string,string,string,int) string
split(string,string) list(string)
split(string,string,int) list(string)
join(list) string
join(list,string) string
format(string,list) string
lowerAscii(string) string
upperAscii(string) string
trim(string) string
reverse(string|list) same
isSorted(list) bool
sum(list) item
min(list) item
max(list) item
slice(list,int,int) same
flatten(list) list
flatten(list,int) list
distinct(list) same
sort(list) same
first(list) optional(item)
last(list) optional(item)
sets.contains(list,list) bool
sets.equivalent(list,list) bool
sets.intersects(list,list) bool
math.greatest(dyn,...) dyn
math.least(dyn,...) dyn
math.abs(int|uint|double) same
math.sign(int|uint|double) same
math.ceil(double) double
math.floor(double) double
math.trunc(double) double
math.round(double) double
math.isNaN(double) bool
math.isInf(double) bool
math.isFinite(double) bool
base64.encode(bytes) string
base64.decode(string) bytes
optional.of(dyn) optional(same)
optional.none() optional(dyn)
optional.ofNonZeroValue(dyn) optional(same)
hasValue(optional) bool
value(optional) item
orValue(optional,dyn) item
or(optional,optional) same
quantity(string) quantity
isQuantity(string) bool
sign(quantity) int
isInteger(quantity) bool
asInteger(quantity) int
asApproximateFloat(quantity) double
add(quantity,quantity|int) quantity
sub(quantity,quantity|int) quantity
compareTo(quantity|semver,dyn) int
isGreaterThan(quantity|semver,dyn) bool
isLessThan(quantity|semver,dyn) bool
url(string) url
isURL(string) bool
getScheme(url) string
getHost(url) string
getHostname(url) string
getPort(url) string
getEscapedPath(url) string
getQuery(url) map
ip(string|cidr) ip
isIP(string) bool
ip.isCanonical(string) bool
family(ip) int
isUnspecified(ip) bool
isLoopback(ip) bool
isLinkLocalMulticast(ip) bool
isLinkLocalUnicast(ip) bool
isGlobalUnicast(ip) bool
cidr(string) cidr
isCIDR(string) bool
containsIP(cidr,string|ip) bool
containsCIDR(cidr,string|cidr) bool
masked(cidr) cidr
prefixLength(cidr) int
semver(string) semver
semver(string,bool) semver
isSemver(string) bool
isSemver(string,bool) bool
major(semver) int
minor(semver) int
patch(semver) int
getFullYear(timestamp) int
getFullYear(timestamp,string) int
getMonth(timestamp) int
getMonth(timestamp,string) int
getDate(timestamp) int
getDate(timestamp,string) int
getDayOfMonth(timestamp) int
getDayOfMonth(timestamp,string) int
getDayOfWeek(timestamp) int
getDayOfWeek(timestamp,string) int
getDayOfYear(timestamp) int
getDayOfYear(timestamp,string) int
getHours(timestamp|duration) int
getHours(timestamp,string) int
getMinutes(timestamp|duration) int
getMinutes(timestamp,string) int
getSeconds(timestamp|duration) int
getSeconds(timestamp,string) int
getMilliseconds(timestamp|duration) int
getMilliseconds(timestamp,string) int
path(authorizer,string) path_check
group(authorizer,string) group_check
serviceAccount(authorizer,string,string) authorizer
resource(group_check,string) resource_check
subresource(resource_check,string) resource_check
namespace(resource_check,string) resource_check
name(resource_check,string) resource_check
fieldSelector(resource_check,string) resource_check
labelSelector(resource_check,string) resource_check
check(path_check|resource_check,string) decision
allowed(decision) bool
reason(decision) string
errored(decision) bool
error(decision) string
jsonpatch.escapeKey(string) string
"""

Signature = tuple[tuple[tuple[str, ...], ...], str]


def _read() -> Mapping[str, list[Signature]]:
    found: dict[str, list[Signature]] = {}
    for line in TEXT.split("\n"):
        if line:
            head, _, result = line.rpartition(" ")
            name, _, rest = head.partition("(")
            arguments = rest.removesuffix(")")
            kinds = tuple(tuple(one.split("|")) for one in arguments.split(",") if one)
            found.setdefault(name, []).append((kinds, result))
    return found


FREE: Final = frozenset(
    [
        "size",
        "type",
        "dyn",
        "hasValue",
        "value",
        "orValue",
        "or",
        "optional.of",
        "optional.none",
        "first",
        "last",
        "_[_]",
        "_[?_]",
    ]
)
"""Functions whose work does not depend on the length of their arguments."""

SIGNATURES: Final = _read()
"""By name: the alternatives, each the types of the arguments and of the result."""
