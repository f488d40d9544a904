"""The OpenAPI documents: made from the tables, equal to what is served, complete."""

import json
import re
from collections.abc import Sequence
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final, cast

import pytest
import schemathesis
from click.testing import CliRunner
from starlette.applications import Starlette
from starlette.routing import Route

import collector.__main__
import collector.app
import collector.operators.app
import guard.__main__
import guard.app
import guard.operate
from base import openapi, operators
from base.api import Door, Media, Operation
from base.clock import SystemClock
from collector.assembly import Collector
from collector.refusal import Why
from guard.assembly import Guard
from tests.fakes.site import Site, collector_site

ROOT: Final = Path(__file__).resolve().parents[2]
SPECIFIED: Final = {
    "collector": (collector.app.ROUTES, "collector-http-v1.md"),
    "guard": (guard.app.ROUTES, "guard-http-v1.md"),
}
DOCUMENTS: Final = {
    "collector": json.loads(collector.operators.app.document()),
    "guard": json.loads(guard.operate.document()),
}


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401 - yields a Site
    with collector_site(tmp_path_factory.mktemp("site")) as running:
        yield running


def served(app: Starlette) -> set[tuple[str, str]]:
    """Return what an application answers: method and path; HEAD comes with each GET."""
    routes = cast("list[Route]", app.routes)
    return {
        (method, route.path_format)
        for route in routes
        for method in (route.methods or set()) - {"HEAD"}
    }


def documented(document: dict[str, Any], door: Door) -> set[tuple[str, str]]:
    """Return what a document says is asked at *door*."""
    return {
        (method.upper(), path)
        for path, methods in document["paths"].items()
        for method, operation in methods.items()
        if door in operation["tags"]
    }


def desk() -> operators.Desk:
    return operators.Desk(
        checks=(),
        metrics=lambda: b"",
        document=b"{}",
        tenant="acme",
        names=None,
        clock=SystemClock(),
    )


def differences(site: Site) -> dict[str, set[tuple[str, str]]]:
    """Return, for each listener, in what it and its document differ."""
    runs: Collector = site.collector
    guards = cast("Guard", None)  # nothing is asked of it here
    applications = {
        ("collector", Door.DEVICES): collector.app.build(runs, {Door.DEVICES}),
        ("collector", Door.READERS): collector.app.build(runs, {Door.READERS}),
        ("collector", Door.OPERATORS): operators.build(desk()),
        ("guard", Door.COLLECTOR): guard.app.make_app(guards, {Door.COLLECTOR}),
        ("guard", Door.READERS): guard.app.make_app(guards, {Door.READERS}),
        ("guard", Door.OPERATORS): operators.build(desk()),
    }
    return {
        f"{program}, {door}": served(app) ^ documented(DOCUMENTS[program], door)
        for (program, door), app in applications.items()
    }


def test_each_document_is_what_each_listener_serves(site: Site) -> None:
    """Nothing is served that is not documented, nothing documented that is not served."""
    assert set().union(*differences(site).values()) == set()


def test_a_request_that_is_in_no_document_is_found(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison would hold nothing if it took everything."""
    row = collector.app.ROUTES[0]
    planted = (*collector.app.ROUTES, replace(row, path="/v1/surprise"))
    monkeypatch.setattr(collector.app, "ROUTES", planted)
    assert differences(site)["collector, devices"] == {("POST", "/v1/surprise")}


def test_one_listener_serves_both_where_there_is_no_other(site: Site) -> None:
    """A small installation: all that is documented for devices and for readers."""
    every = documented(DOCUMENTS["collector"], Door.DEVICES)
    every |= documented(DOCUMENTS["collector"], Door.READERS)
    assert served(collector.app.build(site.collector)) == every


def test_the_devices_listener_has_no_way_to_read_or_list_what_was_handed_in() -> None:
    """Whatever certificate is shown there; what it deletes is a batch of the device's own.

    What a data subject signs for is their own, and asks for no certificate.
    """
    every = documented(DOCUMENTS["collector"], Door.DEVICES)
    there = {(method, path) for method, path in every if not path.startswith("/v1/me/")}
    assert every - there == {
        ("POST", f"/v1/me/{what}")
        for what in ("batches", "deletions", "accesses", "frames/{batch}", "return")
    }
    of_batches = {(method, path) for method, path in there if "batch" in path or "frame" in path}
    assert of_batches == {("PUT", "/v1/batches/{batch}"), ("DELETE", "/v1/batches/{batch}")}
    given = {
        media
        for path, method in ((path, method.lower()) for method, path in there)
        if path != "/v1/log/tile/{tile}"  # hashes
        for answer in DOCUMENTS["collector"]["paths"][path][method]["responses"].values()
        for media in answer["content"]
    }
    assert given == {Media.JSON, Media.TEXT}  # no bytes of a frame


@pytest.mark.parametrize("program", DOCUMENTS)
def test_a_document_is_one(program: str) -> None:
    """Whoever reads OpenAPI 3.1 can read it, and every reference in it leads somewhere."""
    loaded = schemathesis.openapi.from_dict(DOCUMENTS[program])
    table = (*SPECIFIED[program][0], *operators.OPERATIONS)
    assert len(list(loaded.get_all_operations())) == len(table)
    text = json.dumps(DOCUMENTS[program])
    referred = set(re.findall(r'"#/components/schemas/(\w+)"', text))
    assert referred <= DOCUMENTS[program]["components"]["schemas"].keys()


@pytest.mark.parametrize(
    ("program", "group", "document"),
    [
        ("collector", collector.__main__.cli, collector.operators.app.document),
        ("guard", guard.__main__.cli, guard.operate.document),
    ],
)
def test_a_command_prints_it(program: str, group: Any, document: Any) -> None:  # noqa: ANN401 - click's and ours
    """Without a running server, and without one being set up."""
    printed = CliRunner().invoke(group, ["openapi"])
    assert printed.exit_code == 0
    assert printed.stdout_bytes == document()
    assert json.loads(printed.stdout) == DOCUMENTS[program]


def test_every_refusal_of_the_collector_belongs_to_some_request() -> None:
    """A name that no request can get would be a name too many."""
    named = {
        name for row in collector.app.ROUTES for names in row.refuses.values() for name in names
    }
    assert named == {why.label for why in Why}


def test_a_refusal_that_may_pass_is_documented_with_the_time_to_wait() -> None:
    """429, 503 and 507 say when to come back, and the document says that they do."""
    for methods in DOCUMENTS["collector"]["paths"].values():
        for operation in methods.values():
            for status in ("429", "507"):
                if status in operation["responses"]:
                    assert "Retry-After" in operation["responses"][status]["headers"]


@pytest.mark.parametrize("program", SPECIFIED)
def test_the_specification_speaks_of_every_request(program: str) -> None:
    """What OpenAPI has no words for stands in docs/spec, under the same paths."""
    rows, page = SPECIFIED[program]
    text = (ROOT / "docs" / "spec" / page).read_text("utf-8")
    for row in rows:
        # In prose `sha256` stands for each kind of hash, and a file's name for `name`.
        shape = re.sub(r"\\{\w+\\}", r"[^` ]+", re.escape(row.path))
        assert re.search(rf"{row.method} {shape}[ `?]", text), f"{row.method} {row.path}"


def test_a_path_of_an_unknown_shape_is_no_table() -> None:
    """A place in a path that nobody described is an error when the document is made."""
    odd = Operation(
        method="GET", path="/v1/{odd}", name="odd", says="odd", doors=(), gives={200: Media.TEXT}
    )
    with pytest.raises(KeyError):
        describe([odd])


def test_an_answer_that_is_also_a_refusal_keeps_both() -> None:
    """As the witness's 409 of C2SP, which is text, not an error of ours."""
    both = Operation(
        method="GET",
        path="/v1/both",
        name="both",
        says="both",
        doors=(),
        gives={200: Media.TEXT, 409: Media.SIZE},
        refuses={409: ("odd",)},
    )
    answers = describe([both])["paths"]["/v1/both"]["get"]["responses"]
    assert answers["409"]["content"].keys() == {Media.SIZE, Media.JSON}
    assert answers["409"]["description"].startswith(HTTPStatus.CONFLICT.phrase)


def describe(operations: Sequence[Operation]) -> dict[str, Any]:
    return openapi.document("odd", operations, error=operators.Refusal, version="1")
