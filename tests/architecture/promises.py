"""The sentences in which Assent promises something, as its own pages have them.

A sentence is what stands between two full stops, a point of a list or a cell of a table; how
it is set (bold, a link) does not matter, nor do the paths of tests that it names.
"""

import re
from collections.abc import Iterator
from typing import Final

from governance.claims import Where
from tests.architecture.source import ROOT

PAGES: Final = {
    Where.NOTICE: "governance/notice.txt",
    Where.README: "README.md",
    Where.THREAT_MODEL: "docs/threat-model.md",
}
TESTS: Final = r"`tests/[\w./]+`"
END: Final = re.compile(r"(?<=[.!?]) +(?=[^a-z\s])")


def sentences(where: Where) -> list[str]:
    """Return the sentences of one text, in order."""
    text = (ROOT / PAGES[where]).read_text("utf-8")
    # Of the README the promise: what comes before its first section.
    return list(of_markdown(text.partition("\n## ")[0] if where is Where.README else text))


def of_markdown(text: str) -> Iterator[str]:
    """Yield the sentences of a page of ours; headings and the heads of tables are none."""
    for block in re.split(r"\n\s*\n", text):
        for part in _parts(block):
            yield from (s for s in END.split(_plain(part)) if re.search(r"[a-z]{2}", s))


def _parts(block: str) -> Iterator[str]:
    """Yield what stands for itself in a block: a paragraph, a point, a cell."""
    lines = block.strip("\n").splitlines()
    if lines and lines[0].startswith("|"):
        for row in lines[2:]:
            yield from row.strip().strip("|").split("|")
        return
    text = "\n".join(line for line in lines if not line.startswith("#"))
    yield from re.split(r"^[-*] ", text, flags=re.MULTILINE)


def _plain(text: str) -> str:
    text = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", text)
    text = re.sub(r"\*+", "", text)
    text = re.sub(rf"Shown by(?:,?\s+{TESTS})+\.", "", text)
    text = re.sub(rf"{TESTS}[,;]?", "", text).replace("`", "")
    text = re.sub(r"\(([^()]*)\)", _bracket, text)
    return re.sub(r" +([,.;:](?:\s|$))", r"\1", " ".join(text.split()))


def _bracket(found: re.Match[str]) -> str:
    """Return what is left in brackets without the tests; nothing, if that was all."""
    inner = " ".join(found[1].split()).strip(" ,;")
    return f"({inner})" if inner else ""
