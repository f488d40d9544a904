# ruff: noqa: D301, FBT001 - click wants a real backspace before examples, and flags as bool
"""`assent-govern review`: what is promised, what proves it, and which policy names that."""

import re
from pathlib import Path

import click
import msgspec

from base.command import EXISTING_FILE, say
from base.durable import replace
from base.errors import RejectedError
from governance import claims
from governance.claims import Review, Where
from governance.files import read
from governance.notice import TEST_NOTICE, words_of
from governance.options import ANY_FILE, JSON
from wire.policy import Policy, decode_policy


@click.command("review")
@click.option("--policy", type=EXISTING_FILE, help="Check that this policy names the review.")
@click.option("--out", type=ANY_FILE, help="Write the review; its SHA-256 is the digest.")
@JSON
def review(policy: Path | None, out: Path | None, as_json: bool) -> None:
    """Print what is promised, and the tests that prove it.

    This is the privacy review of this version. A policy names it by its digest, so that what was
    reviewed is what runs; the lint refuses a policy that names another. With --policy it also
    says which sentences of that policy's notice are none of those listed: whoever signs
    answers for them. Ends with 6 when the policy does not name this review.

    \b
    Example:
      assent-govern review --out review.txt
      assent-govern review --policy acme/policy.json
    """
    found = claims.review()
    asked = None if policy is None else decode_policy(read(policy))
    if out is not None:
        replace(out, found.text.encode("utf-8"), mode=0o644)
    if as_json:
        click.echo(msgspec.json.format(msgspec.json.encode(_facts(found, asked))))
    elif out is None:
        click.echo(found.text)
    if not as_json:
        click.echo(f"review  {found.digest}")
    if asked is None:
        return
    if not as_json:
        for sentence in beyond(asked, found):
            say(f"no test  {sentence}")
    if asked.review != found.digest:
        raise RejectedError(
            f"{policy} names {asked.review.strip() or 'no review'}, not this one; read this one,"
            " and put its digest into review"
        )
    if not as_json:
        click.echo(f"{policy}  names this review")


def beyond(policy: Policy, found: Review) -> tuple[str, ...]:
    """Return the sentences of *policy*'s notice that are none of those in *found*."""
    rest, words = _plain(policy.notice), words_of(policy)
    known = [c.says.format_map(words) for c in found.claim if c.where is Where.NOTICE]
    # The longest first, since one sentence may be the beginning of another.
    for sentence in sorted((*known, *_sentences(TEST_NOTICE)), key=len, reverse=True):
        rest = rest.replace(_plain(sentence), "\n")
    return tuple(s for part in rest.splitlines() for s in _sentences(part))


def _facts(found: Review, policy: Policy | None) -> dict[str, object]:
    facts: dict[str, object] = {
        "version": found.version,
        "digest": found.digest,
        "promises": len(found.promises),
        "tests": len(found.tests),
        "claims": [
            {
                "id": claim.id,
                "where": claim.where,
                "kind": claim.kind,
                "says": claim.says,
                "note": claim.note,
                "tests": claim.tests,
            }
            for claim in found.claim
        ],
    }
    if policy is not None:
        facts["policy"] = {
            "review": policy.review,
            "is_this_one": policy.review == found.digest,
            "beyond": beyond(policy, found),
        }
    return facts


def _plain(text: str) -> str:
    return " ".join(text.split())


def _sentences(text: str) -> list[str]:
    parts = re.split(r"(?<=[.!?]) +", _plain(text))
    return [part for part in parts if any(c.isalnum() for c in part)]
