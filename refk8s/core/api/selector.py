"""Label selectors and field selectors: parsed to a value, and matched against labels or fields.

Rules SEL-1 to SEL-7 (spec/object_model.md). `parse` reads the query parameter,
`from_label_selector` the LabelSelector object, `from_map` the plain map of a Service; all return a
`Selector`. In its most common form, a few equalities, each costs one dictionary look-up. Source:
Kubernetes documentation, "Labels and Selectors" and "Field Selectors".
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Final, Literal, TypeAlias

from msgspec.structs import force_setattr

from refk8s.core.api.integer import int64
from refk8s.core.memo import remember
from refk8s.core.value import Value

if TYPE_CHECKING:
    from refk8s.core.api.meta_v1 import LabelSelector

Operator: TypeAlias = Literal["in", "notin", "=", "!=", "exists", "!", "gt", "lt"]

_NAME: Final = re.compile(r"([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]", re.ASCII)
_DNS_1123_SUBDOMAIN: Final = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*", re.ASCII
)
NAME_LENGTH_MAX: Final = 63
PREFIX_LENGTH_MAX: Final = 253

_NAME_ERROR: Final = (
    "must consist of alphanumeric characters, '-', '_' or '.', "
    "and must start and end with an alphanumeric character "
    "(e.g. 'MyName',  or 'my.name',  or '123-abc', "
    "regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
)
_VALUE_ERROR: Final = (
    "a valid label must be an empty string or consist of alphanumeric characters, '-', "
    "'_' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', "
    "regex used for validation is "
    "'(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
)
_SUBDOMAIN_ERROR: Final = (
    "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, "
    "'-' or '.', and must start and end with an "
    "alphanumeric character (e.g. 'example.com', regex used for validation is "
    "'[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
)


class SelectorError(ValueError):
    """The text or object is not a selector. The message is Kubernetes' own."""


class Requirement(Value, frozen=True):
    """One condition on one label. `values` are sorted and without repetition."""

    key: str
    operator: Operator
    values: tuple[str, ...] = ()

    def matches(self, labels: Mapping[str, str]) -> bool:
        """SEL-2: a missing label satisfies `!=`, `notin` and `!`, and no other operator."""
        value = labels.get(self.key)
        match self.operator:
            case "=" | "in":
                return value is not None and value in self.values
            case "!=" | "notin":
                return value is None or value not in self.values
            case "exists":
                return value is not None
            case "!":
                return value is None
            case "gt" | "lt":
                return value is not None and self._compares(value)

    def _compares(self, value: str) -> bool:
        number, bound = int64(value), int64(self.values[0])
        if number is None or bound is None:
            return False
        return number > bound if self.operator == "gt" else number < bound

    def __str__(self) -> str:
        match self.operator:
            case "exists":
                return self.key
            case "!":
                return f"!{self.key}"
            case "in" | "notin":
                return f"{self.key} {self.operator} ({','.join(self.values)})"
            case "gt" | "lt":
                return f"{self.key}{'>' if self.operator == 'gt' else '<'}{self.values[0]}"
            case _:
                return f"{self.key}{self.operator}{self.values[0]}"


class Selector(Value, frozen=True):
    """All of these requirements, in order of key; without any, it matches everything. `is_nothing`:
    it matches no object."""

    requirements: tuple[Requirement, ...] = ()
    is_nothing: bool = False
    # computed from the requirements
    _equalities: tuple[tuple[str, str], ...] = ()
    _others: tuple[Requirement, ...] = ()

    def __post_init__(self) -> None:
        # The equalities are extracted once, so that the common selector is a loop of look-ups.
        equal = tuple(
            (one.key, one.values[0])
            for one in self.requirements
            if one.operator in ("=", "in") and len(one.values) == 1
        )
        others = tuple(
            one
            for one in self.requirements
            if not (one.operator in ("=", "in") and len(one.values) == 1)
        )
        force_setattr(self, "_equalities", equal)
        force_setattr(self, "_others", others)

    def matches(self, labels: Mapping[str, str] | None) -> bool:
        """Whether labels (None: no labels) satisfy every requirement (SEL-1). O(requirements)."""
        if self.is_nothing:
            return False
        if labels is None:
            labels = {}
        for key, value in self._equalities:
            if labels.get(key) != value:
                return False
        return not self._others or all(other.matches(labels) for other in self._others)

    @property
    def is_everything(self) -> bool:
        return not self.requirements and not self.is_nothing

    def __str__(self) -> str:
        """The canonical text; `parse` of it returns this selector (SEL-4)."""
        return ",".join(str(requirement) for requirement in self.requirements)


NOTHING: Final = Selector(is_nothing=True)


def _selector(requirements: Iterable[Requirement]) -> Selector:
    return Selector(tuple(sorted(requirements, key=lambda one: one.key)))


def _requirement(key: str, operator: Operator, values: Iterable[str]) -> Requirement:
    """A checked requirement (SEL-3)."""
    ordered = tuple(sorted(dict.fromkeys(values)))
    problems = [_invalid("key", key, label_key_problems(key))] if label_key_problems(key) else []
    match operator:
        case "in" | "notin" if not ordered:
            problems.append(
                "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
            )
        case "exists" | "!" if ordered:
            listed = ", ".join(f'"{value}"' for value in ordered)
            problems.append(
                f"values: Invalid value: [{listed}]: values set must be empty for exists and "
                "does not exist"
            )
        case "gt" | "lt" if int64(ordered[0]) is None:
            problems.append(
                f"values[0]: Invalid value: \"{ordered[0]}\": for 'Gt', 'Lt' operators, "
                "the value must be an integer"
            )
        case _:
            pass
    for index, value in enumerate(ordered):
        if label_value_problems(value):
            problems.append(_invalid(f"values[{index}][{key}]", value, label_value_problems(value)))
    if problems:
        raise SelectorError(problems[0] if len(problems) == 1 else f"[{', '.join(problems)}]")
    return Requirement(key, operator, ordered)


def _invalid(path: str, value: str, problems: tuple[str, ...]) -> str:
    return f'{path}: Invalid value: "{value}": {"; ".join(problems)}'


@remember(65536)
def label_key_problems(key: str) -> tuple[str, ...]:
    """Why a label's key (a qualified name) is invalid, as Kubernetes' messages; empty if it is
    valid."""
    problems: list[str] = []
    prefix, slash, name = key.rpartition("/")
    if slash:
        if "/" in prefix:
            return (
                "a qualified name "
                + _NAME_ERROR
                + " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
            )
        if not prefix:
            problems.append("prefix part must be non-empty")
        else:
            if len(prefix.encode()) > PREFIX_LENGTH_MAX:
                problems.append(f"prefix part must be no more than {PREFIX_LENGTH_MAX} bytes")
            if _DNS_1123_SUBDOMAIN.fullmatch(prefix) is None:
                problems.append("prefix part " + _SUBDOMAIN_ERROR)
    if not name:
        problems.append("name part must be non-empty")
    elif len(name.encode()) > NAME_LENGTH_MAX:
        problems.append(f"name part must be no more than {NAME_LENGTH_MAX} bytes")
    if _NAME.fullmatch(name) is None:
        problems.append("name part " + _NAME_ERROR)
    return tuple(problems)


@remember(65536)
def label_value_problems(value: str) -> tuple[str, ...]:
    """Why a label's value is invalid, as Kubernetes' messages; empty if it is valid."""
    problems: list[str] = []
    if len(value.encode()) > NAME_LENGTH_MAX:
        problems.append(f"must be no more than {NAME_LENGTH_MAX} bytes")
    if value and _NAME.fullmatch(value) is None:
        problems.append(_VALUE_ERROR)
    return tuple(problems)


# The object and the map


_OBJECT_OPERATORS: Final[dict[str, Operator]] = {
    "In": "in",
    "NotIn": "notin",
    "Exists": "exists",
    "DoesNotExist": "!",
}


def from_label_selector(selector: LabelSelector | None) -> Selector:
    """The selector of a LabelSelector: an absent one selects nothing, an empty one everything
    (SEL-5). Raises SelectorError for an invalid one."""
    if selector is None:
        return NOTHING
    requirements = [
        _requirement(key, "=", (value,)) for key, value in (selector.match_labels or {}).items()
    ]
    for expression in selector.match_expressions or ():
        operator = _OBJECT_OPERATORS.get(expression.operator)
        if operator is None:
            raise SelectorError(f'"{expression.operator}" is not a valid label selector operator')
        requirements.append(_requirement(expression.key, operator, expression.values or ()))
    return _selector(requirements)


def from_map(labels: Mapping[str, str] | None) -> Selector:
    """The selector of the plain map of a Service or ReplicationController: each of these labels; an
    absent or empty map selects everything.

    Callers for which a missing selector selects nothing (a Service without one) check that
    themselves. Values are not checked: they were validated.
    """
    return _selector(Requirement(key, "=", (value,)) for key, value in (labels or {}).items())


# The text


_WORD_END: Final = frozenset(" \t\r\n()!=,<>")
_SYMBOLS: Final = ("!=", "==", "(", ")", "!", "=", ",", "<", ">")
_TEXT_OPERATORS: Final[dict[str, Operator]] = {
    "=": "=",
    "==": "=",
    "!=": "!=",
    ">": "gt",
    "<": "lt",
}
_NON_WORDS: Final = frozenset((*_SYMBOLS, ""))


def _tokens(text: str) -> list[str]:
    """Words and symbols; the end is an empty string."""
    found: list[str] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\r\n":
            at += 1
            continue
        symbol = next((one for one in _SYMBOLS if text.startswith(one, at)), None)
        if symbol is not None:
            found.append(symbol)
            at += len(symbol)
            continue
        end = at
        while end < len(text) and text[end] not in _WORD_END:
            end += 1
        found.append(text[at:end])
        at = end
    found.append("")
    return found


class _Reader:
    """A position in the tokens of a selector."""

    def __init__(self, text: str) -> None:
        self.tokens = _tokens(text)
        self.at = 0

    def peek(self) -> str:
        return self.tokens[min(self.at, len(self.tokens) - 1)]

    def take(self) -> str:
        token = self.peek()
        self.at += 1
        return token

    def requirement(self) -> Requirement:
        negated = self.peek() == "!"
        if negated:
            self.take()
        key = self.take()
        if key in _NON_WORDS:
            raise SelectorError(f"found '{key}', expected: identifier")
        if problems := label_key_problems(key):
            # upstream has no name for this position
            raise SelectorError(_invalid("<nil>", key, problems))
        if negated:
            return _requirement(key, "!", ())
        if self.peek() in ("", ","):
            return _requirement(key, "exists", ())
        operator = self.take()
        if operator in ("in", "notin"):
            return _requirement(key, "in" if operator == "in" else "notin", self.values())
        if operator not in _TEXT_OPERATORS:
            raise SelectorError(f"found '{operator}', expected: in, notin, =, ==, !=, gt, lt")
        return _requirement(key, _TEXT_OPERATORS[operator], (self.exact_value(),))

    def exact_value(self) -> str:
        """A word, or nothing: `a=` requires the empty value."""
        if self.peek() in ("", ","):
            return ""
        value = self.take()
        if value in _NON_WORDS:
            raise SelectorError(f"found '{value}', expected: identifier")
        return value

    def values(self) -> list[str]:
        opening = self.take()
        if opening != "(":
            raise SelectorError(f"found '{opening}' expected: '('")
        if self.peek() == ")":
            self.take()
            return [""]
        if self.peek() in _NON_WORDS and self.peek() != ",":
            raise SelectorError(f"found '{self.peek()}', expected: ',', ')' or identifier")
        found: list[str] = []
        while True:
            token = self.take()
            if token == ",":
                # A comma with nothing before or after it stands for the empty value.
                if not found or self.peek() in (",", ")"):
                    found.append("")
                if self.peek() == ",":
                    self.take()
            elif token in _NON_WORDS:
                raise SelectorError(f"found '{token}', expected: ',', or identifier")
            else:
                found.append(token)
                if self.peek() not in (",", ")"):
                    raise SelectorError(f"found '{self.peek()}', expected: ',' or ')'")
            if self.peek() == ")":
                self.take()
                return found


@remember(4096)
def parse(text: str) -> Selector:
    """The selector of a labelSelector parameter or of a Scale's status. Raises SelectorError for
    any other text. O(len(text))."""
    reader = _Reader(text)
    requirements: list[Requirement] = []
    while reader.peek() != "":
        if reader.peek() in _NON_WORDS and reader.peek() != "!":
            raise SelectorError(
                f"found '{reader.peek()}', expected: !, identifier, or 'end of string'"
            )
        try:
            requirements.append(reader.requirement())
        except SelectorError as error:
            raise SelectorError(f"unable to parse requirement: {error}") from None
        token = reader.take()
        if token not in ("", ","):
            raise SelectorError(f"found '{token}', expected: ',' or 'end of string'")
        if token == "," and reader.peek() in _NON_WORDS and reader.peek() != "!":
            raise SelectorError(f"found '{reader.peek()}', expected: identifier after ','")
    return _selector(requirements)


# Fields


class FieldRequirement(Value, frozen=True):
    """One condition on one field."""

    key: str
    operator: Literal["=", "!="]
    value: str

    def __str__(self) -> str:
        return f"{self.key}{self.operator}{_escaped(self.value)}"


class FieldSelector(Value, frozen=True):
    """All of these conditions, in order of their texts; without any, it matches everything."""

    requirements: tuple[FieldRequirement, ...] = ()

    def matches(self, get: Mapping[str, str] | Callable[[str], str]) -> bool:
        """Whether an object's fields satisfy every condition (SEL-6). `get` returns the value of a
        key; a missing one counts as empty."""
        for one in self.requirements:
            value = get.get(one.key, "") if isinstance(get, Mapping) else get(one.key)
            if (value == one.value) != (one.operator == "="):
                return False
        return True

    @property
    def is_everything(self) -> bool:
        return not self.requirements

    def value_of(self, key: str) -> str | None:
        """The value that a match must have in this field; None if the selector does not require
        one."""
        return next(
            (one.value for one in self.requirements if one.key == key and one.operator == "="), None
        )

    def __str__(self) -> str:
        """The canonical text; `parse_fields` of it returns this selector (SEL-7)."""
        return ",".join(str(requirement) for requirement in self.requirements)


@remember(4096)
def parse_fields(text: str) -> FieldSelector:
    """The selector of a fieldSelector parameter. Raises SelectorError for any other text.

    A backslash, comma or equals sign in a value is written with a backslash before it.
    """
    requirements: list[FieldRequirement] = []
    for term in _terms(text):
        if not term:
            continue
        found = _split(term)
        if found is None:
            raise SelectorError(f"invalid selector: '{text}'; can't understand '{term}'")
        key, operator, value = found
        requirements.append(FieldRequirement(key, operator, _unescaped(value)))
    return FieldSelector(tuple(sorted(requirements, key=str)))


def _terms(text: str) -> list[str]:
    """The text, split at commas without a backslash before them."""
    terms: list[str] = []
    start, escaped = 0, False
    for at, character in enumerate(text):
        if escaped:
            escaped = False
        elif character == "\\":
            escaped = True
        elif character == ",":
            terms.append(text[start:at])
            start = at + 1
    return [*terms, text[start:]]


def _split(term: str) -> tuple[str, Literal["=", "!="], str] | None:
    """Key, operator and raw value, split at the first operator in the term."""
    for at in range(len(term)):
        for operator in ("!=", "==", "="):
            if term.startswith(operator, at):
                return term[:at], "!=" if operator == "!=" else "=", term[at + len(operator) :]
    return None


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace(",", "\\,").replace("=", "\\=")


def _unescaped(value: str) -> str:
    made: list[str] = []
    characters = iter(value)
    for character in characters:
        if character == "\\":
            following = next(characters, "")
            if following not in ("\\", ",", "="):
                raise SelectorError(
                    f"invalid field selector: invalid escape sequence: \\{following}"
                )
            made.append(following)
        elif character in ",=":
            raise SelectorError(
                f"invalid field selector: unescaped character in value: {ord(character)}"
            )
        else:
            made.append(character)
    return "".join(made)
