"""The cached text of a list, which is served while nothing below its prefix changes.

Rule LIST-13 (spec/watch_api.md). Only the revision of the list differs from one answer to the next,
and it occurs once in the text. A driver keeps a bounded number of `ListText`s by path, query and
Accept header; one read of the store shows whether a text is current. Source: ours; clients cannot
observe it.
"""

from refk8s.core.api.request import Response
from refk8s.core.apiserver.accept import PLAIN_JSON
from refk8s.core.apiserver.http import Received
from refk8s.core.apiserver.outcome import Reader
from refk8s.core.apiserver.respond import Reply
from refk8s.core.store import Revision
from refk8s.core.value import Value


class ListText(Value, frozen=True):
    """The text of a list without its revision, which goes between `before` and `after`. `revision`:
    that of the last change below the prefix."""

    prefix: str
    revision: Revision
    before: bytes
    after: tuple[bytes, ...]


def keep(received: Received, response: Response, reply: Reply, store: Reader) -> ListText | None:
    """The text to keep of the reply to a complete list of the present state; None for any other
    reply."""
    request, options = received.request, received.request.options
    if (
        request.verb != "list"
        or reply.code != 200
        or received.form != PLAIN_JSON
        or received.pretty
        or reply.warnings
        or request.resource.is_custom  # its text depends on its definition too
    ):
        return None
    if (
        options.limit
        or options.continue_
        or options.resource_version not in ("", "0")
        or options.resource_version_match
    ):
        return None
    mark = b'"resourceVersion":"%s"' % str(response.body.metadata.resource_version).encode()
    before, found, after = reply.content.partition(mark)
    if not found:
        return None
    return ListText(
        response.prefix, store.prefix_revision(response.prefix), before, (after, *reply.more)
    )


def recall(text: ListText, store: Reader) -> Reply | None:
    """The same list at the present revision, if no object that it can contain has changed; else
    None. O(1): no byte is copied."""
    if store.prefix_revision(text.prefix) != text.revision:
        return None
    return Reply(200, b'%s"resourceVersion":"%d"' % (text.before, store.revision), more=text.after)
