"""A reader's key in the next version of a policy, as `assent-govern recipient` writes it."""

from pathlib import Path
from typing import Final

import msgspec
import pytest

from base.command import outcome
from base.errors import ExitCode, RejectedError
from governance.__main__ import cli
from governance.lint import lint
from governance.recipients import revoked, rotated
from tests.fakes.organisation import NOW, READER, Organisation
from wire.errors import WireError
from wire.narrowing import widened
from wire.policy import KeyState, Policy, Recipient, decode_policy, encode_policy
from wire.recipients import id_of
from wire.sealing import new_identity
from wire.succession import entry_of

ACME: Final = Organisation()
FIRST, SECOND, EVE = (new_identity() for _ in range(3))
OLD, NEW = entry_of(READER, FIRST), entry_of(READER, SECOND, FIRST)


def policy(*recipients: Recipient) -> Policy:
    return ACME.policy(recipients=recipients)


def govern(*words: object) -> int:
    line = [str(word) for word in words]
    return outcome(cli, "assent-govern", line, refusals=(WireError,))


def test_a_rotation_is_the_next_version_and_asks_nobody() -> None:
    """It passes the lint, and no consent is stale for it."""
    before = policy(OLD)
    after = rotated(before, NEW)
    assert after.version == before.version + 1
    assert [r.state for r in after.recipients] == [KeyState.OPENS, KeyState.SEALED_TO]
    assert lint(after, NOW.date()) == ()
    assert not any(widened(before, after).values())
    ended = revoked(after, id_of(OLD.key)[:8])
    assert lint(ended, NOW.date()) == ()
    assert not any(widened(before, ended).values())
    assert [r.state for r in ended.recipients] == [KeyState.REVOKED, KeyState.SEALED_TO]


@pytest.mark.parametrize(
    ("entry", "said"),
    [
        (entry_of(READER, SECOND, EVE), "does not follow"),
        (entry_of(READER, SECOND), "does not follow"),
        (entry_of("eve", SECOND, FIRST), "0 keys of eve"),
        (msgspec.structs.replace(NEW, word=NEW.signs), "did not say"),
        (msgspec.structs.replace(NEW, key="age1pq1nonsense"), "no reader's key"),
        (OLD, "names this key already"),
        (msgspec.structs.replace(OLD, key=OLD.key.upper()), "names this key already"),
    ],
    ids=["of another", "without a word", "another reader", "forged", "none", "same", "same, loud"],
)
def test_a_key_that_does_not_follow_is_not_put_in(entry: Recipient, said: str) -> None:
    """A reader's key is smuggled in by nobody who only made a mistake, either."""
    with pytest.raises(RejectedError, match=said):
        rotated(policy(OLD), entry)


def test_a_key_of_nobodys_word_asks_everybody_again() -> None:
    """What was asked for is done, without a claim that would not hold."""
    before = policy(Recipient(name=READER, key=OLD.key))  # as policies were: it signs by nothing
    with pytest.raises(RejectedError, match="--ask-again"):
        rotated(before, NEW)
    after = rotated(before, NEW, ask_again=True)
    assert (after.recipients[1].follows, after.recipients[1].word) == ("", "")
    assert lint(after, NOW.date()) == ()
    assert all("recipients" in widened(before, after)[rule.category] for rule in after.categories)


def test_a_revocation_names_one_key() -> None:
    """By the beginning of its id; once."""
    both = rotated(policy(OLD), NEW)
    for prefix in ("", "nothing"):
        with pytest.raises(RejectedError, match="keys begin with"):
            revoked(both, prefix)
    with pytest.raises(RejectedError, match="already"):
        revoked(revoked(both, id_of(OLD.key)), id_of(OLD.key))


def test_the_command_writes_the_next_version_and_says_what_it_means(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is written where it is refused."""
    file, entry = tmp_path / "policy.json", tmp_path / "recipient.json"
    file.write_bytes(encode_policy(policy(OLD)))
    entry.write_bytes(msgspec.json.encode(entry_of(READER, SECOND, EVE)))
    before = file.read_bytes()
    assert govern("recipient", "rotate", file, entry) == ExitCode.REJECTED
    entry.write_bytes(b"{}")
    assert govern("recipient", "rotate", file, entry) == ExitCode.REJECTED
    assert file.read_bytes() == before
    entry.write_bytes(msgspec.json.encode(NEW))
    assert govern("recipient", "rotate", file, entry) == ExitCode.DONE
    assert "No consent becomes stale" in capsys.readouterr().out
    assert decode_policy(file.read_bytes()) == rotated(policy(OLD), NEW)
    assert govern("recipient", "revoke", file, id_of(OLD.key)[:8]) == ExitCode.DONE
    assert decode_policy(file.read_bytes()).recipients[0].state is KeyState.REVOKED


def test_a_draft_takes_the_readers_own_entry(tmp_path: Path) -> None:
    """With what it signs by, so that its key can be changed one day; and for its name alone."""
    entry = tmp_path / "recipient.json"
    entry.write_bytes(msgspec.json.encode(NEW))
    file = tmp_path / "policy.json"
    assert govern("draft", file, "--recipient", f"{READER}={entry}") == ExitCode.DONE
    (only,) = decode_policy(file.read_bytes()).recipients
    assert (only.key, only.signs, only.follows) == (NEW.key, NEW.signs, "")
    assert govern("draft", tmp_path / "x.json", "--recipient", f"eve={entry}") == ExitCode.SETUP
