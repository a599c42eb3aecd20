"""The layout of a table: its columns, and the function that computes the cells of a row. Rule
TABLE-1 (spec/table.md)."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from refk8s.core.api.core_v1 import Container
from refk8s.core.api.meta_v1 import LabelSelector, TableRowCondition
from refk8s.core.apiserver.table.duration import age
from refk8s.core.context import Instant
from refk8s.core.value import Value

NONE, UNSET, UNKNOWN = "<none>", "<unset>", "<unknown>"
SHOWN_MAX = 3
"""The most entries of a list that a cell shows; then the number of further ones follows."""

Cells: TypeAlias = Sequence[Any]


class Column(Value, frozen=True):
    """A column. `type` and `format` are OpenAPI's; priority 0 is always shown, 1 in wide output
    only."""

    name: str
    description: str
    type: str = "string"
    priority: int = 0
    format: str = ""


class Layout(Value, frozen=True):
    """The columns of a kind, and the function from one of its objects to cells, one for each
    column. `conditions`: the function for the conditions of the row, if any."""

    columns: tuple[Column, ...]
    cells: Callable[[Any, Instant], Cells]
    conditions: Callable[[Any], Sequence[TableRowCondition]] | None = None


NAME = Column("Name", "The name, unique in its namespace and resource.", format="name")
AGE = Column("Age", "The time since it was created.")
CONTAINERS = Column("Containers", "The names of the containers.", priority=1)
IMAGES = Column("Images", "The images of the containers.", priority=1)
SELECTOR = Column("Selector", "The selector of its pods.", priority=1)


def integer(name: str, description: str) -> Column:
    return Column(name, description, type="integer")


def wide(name: str, description: str) -> Column:
    """A column that is shown only in wide output."""
    return Column(name, description, priority=1)


def _default_cells(one: Any, now: Instant) -> Cells:
    return one.metadata.name or "", one.metadata.creation_timestamp


DEFAULT = Layout((NAME, Column("Created At", "When it was created.", type="date")), _default_cells)
"""For kinds without columns of their own. The time is a timestamp, which kubectl prints as an
age."""

CUSTOM = Layout(
    (NAME, Column("Age", "The time since it was created.", type="date")),
    lambda one, now: named(one, now),
)
"""For custom resources without columns of their own."""


def named(one: Any, now: Instant, *between: Any) -> Cells:
    """Name, then these cells, then age: the order of nearly every table."""
    return one.metadata.name or "", *between, age(one.metadata.creation_timestamp, now)


# --- texts in cells


def labels_text(labels: Mapping[str, str] | None) -> str:
    """`a=1,b=2` in the order of keys."""
    return ",".join(f"{key}={value}" for key, value in sorted(labels.items())) if labels else NONE


def selector_text(selector: LabelSelector | None) -> str:
    """A label selector as text, requirements in the order of keys: `app=x,tier in (a,b),!old`.
    Empty if it has none."""
    if selector is None:
        return ""
    found = [(key, f"{key}={value}") for key, value in (selector.match_labels or {}).items()]
    for one in selector.match_expressions or ():
        values = ",".join(sorted(one.values or ()))
        texts = {
            "In": f"{one.key} in ({values})",
            "NotIn": f"{one.key} notin ({values})",
            "Exists": one.key,
            "DoesNotExist": f"!{one.key}",
        }
        found.append((one.key, texts.get(one.operator, "<error>")))
    return ",".join(text for _, text in sorted(found, key=lambda pair: pair[0]))


def container_cells(containers: Iterable[Container]) -> tuple[str, str]:
    """Names and images of the containers, each as a comma-separated text."""
    pairs = [(one.name, one.image or "") for one in containers]
    return ",".join(name for name, _ in pairs), ",".join(image for _, image in pairs)


def some_of(texts: Sequence[str], empty: str) -> str:
    """The first three, and the number of further ones: `a,b,c + 2 more...` (TABLE-7)."""
    if not texts:
        return empty
    shown = ",".join(texts[:SHOWN_MAX])
    return shown if len(texts) <= SHOWN_MAX else f"{shown} + {len(texts) - SHOWN_MAX} more..."
