"""The OpenAPI 3.1 document of a server, made from its table of routes (`base.api`).

Nothing is written by hand: messages are those of `wire`, whose JSON Schema msgspec derives;
refusals are those of the table, each with the names that it may have.  What OpenAPI has no
words for (the order of checks, what is signed) stands in docs/spec.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any, Final, TypeAlias

import msgspec

from base.api import Body, Door, Media, Operation

Json: TypeAlias = dict[str, Any]

HASH: Final = "^[0-9a-f]{64}$"
PLACES: Final[Mapping[str, Json]] = {  # what stands in a path
    "batch": {"type": "string", "pattern": HASH},
    "name": {"type": "string", "pattern": "^[0-9a-z.]{1,128}$"},
    "tile": {
        "type": "string",
        "pattern": "^(entries|[0-7])(/x[0-9]{3}){0,6}/[0-9]{3}(\\.p/[1-9][0-9]{0,2})?$",
    },
}
BASE64: Final = "^(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=)?$"
LATER: Final = frozenset({429, 503, 507})  # these answers say when to come back
_JSON: Final = Media.JSON.value
_SCHEMAS: Final = "#/components/schemas/{name}"


def document(
    title: str,
    operations: Sequence[Operation],
    *,
    error: type[msgspec.Struct],
    version: str,
    headers: Mapping[str, str] | None = None,
) -> Json:
    """Return the document of *operations*.

    *error* is the message of a refusal, *headers* maps what stands in each answer to its
    pattern; to operators, who come from nowhere else, nothing is said of versions.
    """
    schemas, components = _schemas(operations, error)
    paths: dict[str, Json] = {}
    for one in operations:
        told = {} if Door.OPERATORS in one.doors else headers or {}
        described = _operation(one, schemas, error, told)
        paths.setdefault(one.path, {})[one.method.lower()] = described
    return {
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": version,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "certificate": {
                    "type": "mutualTLS",
                    "description": "a client certificate of this server's own authority; its one "
                    "SAN URI names tenant, role and holder",
                }
            },
        },
    }


def encoded(described: Json) -> bytes:
    """Return *described* as JSON for people and programs; the same each time."""
    return msgspec.json.format(msgspec.json.encode(described)) + b"\n"


def _schemas(
    operations: Iterable[Operation], error: type[msgspec.Struct]
) -> tuple[dict[type[msgspec.Struct], Json], Json]:
    """Return how each message is referred to, and what they all are."""
    bodies = [body for one in operations for body in (one.takes, *one.gives.values())]
    messages = list(dict.fromkeys([b for b in bodies if isinstance(b, type)] + [error]))
    referred, components = msgspec.json.schema_components(messages, ref_template=_SCHEMAS)
    _say_base64(components)
    return dict(zip(messages, referred, strict=True)), components


def _say_base64(schema: object) -> None:
    """Say by a pattern, too, what `contentEncoding` only annotates: padded, no line breaks."""
    if isinstance(schema, dict):
        if schema.get("contentEncoding") == "base64":
            schema["pattern"] = BASE64
        for part in schema.values():
            _say_base64(part)
    elif isinstance(schema, list):
        for part in schema:
            _say_base64(part)


def _operation(
    one: Operation,
    schemas: Mapping[type[msgspec.Struct], Json],
    error: type[msgspec.Struct],
    headers: Mapping[str, str],
) -> Json:
    every = {
        name: {"required": True, "schema": {"type": "string", "pattern": pattern}}
        for name, pattern in headers.items()
    }
    answers = {
        str(status): {
            "description": HTTPStatus(status).phrase,
            "headers": every,
            "content": _content(body, schemas),
        }
        for status, body in sorted(one.gives.items())
    }
    for status, names in sorted(one.refuses.items()):
        refusal = _refusal(status, names, schemas[error], every)
        if str(status) in answers:  # an answer of its own, or a refusal
            refusal["content"] |= answers[str(status)]["content"]
        answers[str(status)] = refusal
    described: Json = {
        "operationId": one.name,
        "summary": one.says,
        "tags": list(one.doors),
        "parameters": [*_places(one.path), *_query(one)],
        "responses": answers,
        "security": [{"certificate": []}] if one.callers else [{}],
    }
    if one.callers:
        described["description"] = f"For the roles: {', '.join(one.callers)}."
    if one.takes is not None:
        described["requestBody"] = {"required": True, "content": _content(one.takes, schemas)}
    return described


def _content(body: Body, schemas: Mapping[type[msgspec.Struct], Json]) -> Json:
    match body:
        case Media.BYTES:
            return {body.value: {}}
        case Media.JSON:
            return {body.value: {"schema": {"type": "object"}}}
        case Media():
            return {body.value: {"schema": {"type": "string"}}}
        case message:
            return {_JSON: {"schema": schemas[message]}}


def _refusal(status: int, names: Sequence[str], error: Json, every: Json) -> Json:
    schema: Json = error
    if names:
        pattern = f"^({'|'.join(map(re.escape, sorted(names)))}): "
        schema = {"allOf": [error, {"properties": {"error": {"pattern": pattern}}}]}
    headers = dict(every)
    if status in LATER:
        headers["Retry-After"] = {"required": True, "schema": {"type": "integer", "minimum": 1}}
    said = HTTPStatus(status).phrase
    return {
        "description": f"{said}: {', '.join(sorted(names))}" if names else said,
        "headers": headers,
        "content": {_JSON: {"schema": schema}},
    }


def _places(path: str) -> list[Json]:
    return [
        {"name": name, "in": "path", "required": True, "schema": PLACES[name]}
        for name in re.findall(r"{(\w+)}", path)
    ]


def _query(one: Operation) -> list[Json]:
    described = []
    for each in one.query:
        schema: Json = {"type": "string"}
        if each.pattern:
            schema["pattern"] = each.pattern
        if each.choices:
            schema["enum"] = list(each.choices)
        described.append(
            {
                "name": each.name,
                "in": "query",
                "required": each.required,
                "description": each.says,
                "schema": schema,
            }
        )
    return described
