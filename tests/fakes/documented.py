"""A door that holds every answer it gets against the server's table of routes.

Whatever test asks a server through it proves, beside its own sentence, that the answer is a
documented one: its status, its body, and for a refusal the name.
"""

import re
from collections.abc import Mapping, Sequence

import msgspec

from base.api import Media, Operation
from base.door import Response
from base.https import OneDoor
from wire.collector_http import ErrorAnswer


class DocumentedDoor(OneDoor):
    """Speaks as any door, and complains of an answer that the table does not know."""

    table: Sequence[Operation] = ()

    def request(
        self,
        method: str,
        path: str,
        body: bytes | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Response:
        answer = super().request(method, path, body, headers)
        check_documented(self.table, method, path, answer)
        return answer


def check_documented(table: Sequence[Operation], method: str, path: str, answer: Response) -> None:
    """Fail unless *table* has this answer; what is not in it at all is 404 or 405."""
    row = _row(table, method, path.partition("?")[0])
    said = f"{method} {path}: {answer.status} {answer.body[:200]!r} is not documented"
    if row is None:
        assert answer.status in (404, 405), said
        return
    assert answer.status in {*row.gives, *row.refuses}, said
    kind = answer.headers.get("content-type", "")
    if answer.status in row.gives and answer.status not in row.refuses:
        expected = row.gives[answer.status]
        if isinstance(expected, Media):
            assert kind.startswith(expected.partition(";")[0]), said
        else:
            msgspec.json.decode(answer.body, type=expected)
        return
    names = row.refuses.get(answer.status, ())
    if names:
        error = msgspec.json.decode(answer.body, type=ErrorAnswer).error
        assert error.partition(": ")[0] in names, said


def _row(table: Sequence[Operation], method: str, path: str) -> Operation | None:
    for row in table:
        pattern = re.sub(r"{\w+}", "[^/]+", row.path.replace("{tile}", ".+"))
        if row.method == method and re.fullmatch(pattern, path):
            return row
    return None
