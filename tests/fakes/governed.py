"""A folder with every file that `assent-govern` knows, made with its own commands."""

import shutil
import time
from pathlib import Path
from typing import Final

import msgspec

from agent.receipts import public_pem
from base.command import outcome
from governance.__main__ import cli
from guard.keys_commands import following
from tests.fakes.audited import some_weeks
from tests.fakes.organisation import (
    CONTROLLER,
    COUNCIL,
    READER,
    WITNESS_NAME,
    Organisation,
    b64,
    ed25519,
    raw,
)
from wire.age import encode_identity
from wire.category import Category
from wire.consent_receipt import Evidence, write_consent_receipt
from wire.errors import WireError
from wire.grant import encode_request
from wire.guard_follows import sign_following, three_of
from wire.ids import WallInstant
from wire.policy import Guard, encode_policy, policy_digest
from wire.sealing import new_identity
from wire.succession import entry_of
from wire.tlog import ALGORITHM_COSIGNATURE, verifier_key

PARTIES: Final = (("ada", CONTROLLER, "Ada"), ("grace", COUNCIL, "Grace"))
DAY: Final = 24 * 3600 * 10**9
SOON: Final = WallInstant(time.time_ns() + 30 * DAY)


def governed(home: Path) -> Path:
    """Fill *home*; return it."""
    acme = Organisation(identity=encode_identity(bytes(range(32))))
    (home / "passphrase.txt").write_text("correct horse battery staple\nnote\n")
    (home / "notice.txt").write_text("We record what you do in gedit.\nAsk us anything.\n")
    (home / "recipient.txt").write_text(acme.recipient + "\n")
    first = entry_of(READER, acme.identity)
    (home / "first.json").write_bytes(msgspec.json.encode(first))
    following = entry_of(READER, new_identity(), acme.identity)
    (home / "recipient.json").write_bytes(msgspec.json.encode(following))
    (home / "guard.json").write_bytes(msgspec.json.encode(_next_guard(acme)))
    locked = ("--passphrase-file", home / "passphrase.txt")
    for role in ("policy", "approver"):
        for who, party, name in PARTIES:
            _key(home / who, party, name, role)
        _key(home / "locked", CONTROLLER, "Ada", role, *locked)
    _draft(acme, home)
    _sign(home)
    _change_key(home)
    request = acme.request(expires_at=SOON, programme="workflows")
    (home / "request.json").write_bytes(encode_request(request))
    _run(
        *("approve", home / "request.json", "--key", home / "grace/approver-key.pem"),
        *("--name", "Grace", "--yes", "--out", home / "grant.json"),
    )
    _receipt(acme, home)
    _audit(home)
    return home


def _key(folder: Path, party: str, name: str, role: str, *more: object) -> None:
    _run("keys", "new", folder, "--party", party, "--name", name, "--role", role, *more)


def _draft(acme: Organisation, home: Path) -> None:
    policy = acme.policy()
    _run(
        *("draft", home / "policy/policy.json", "--programme", "workflows"),
        *("--controller", CONTROLLER, "--controller-contact", "privacy@acme.example"),
        *("--representatives", COUNCIL, "--representatives-contact", "council@acme.example"),
        *("--jurisdiction", "DE", "--origin", "https://collector.acme.example:8443"),
        *("--pin", "ab" * 32, "--log-key", policy.collector.log),
        *("--collector-lease-key", policy.collector.lease_key),
        *("--guard-lease-key", policy.guard.lease_key),
        *("--guard-run-by", "Council Trust", "--guard-key", policy.guard.signing_key),
        *("--witness", policy.guard.witness),
        *("--recipient", f"{READER}={home / 'first.json'}"),
        *("--approver", home / "ada/approver-key.public.json"),
        *("--approver", home / "grace/approver-key.public.json"),
        *("--application", "gedit:Gedit", "--hours", "mon-fri=08:00-18:00"),
        *("--justification", "screen=clicks mean nothing without what is there"),
        *("--assessment", "DPIA-7", "--assessment-expires", "2999-01-01"),
        *("--review", policy.review),
    )
    _run("lint", home / "policy/policy.json")
    for folder in ("unsigned/parties", "empty"):
        (home / folder).mkdir(parents=True)
        shutil.copy(home / "policy/policy.json", home / folder.partition("/")[0])
    for who in ("locked", "grace"):
        public = home / who / "policy-key.public.json"
        shutil.copy(public, home / f"unsigned/parties/{who}.json")


def _sign(home: Path) -> None:
    publics = [
        word
        for who, _party, _name in PARTIES
        for word in ("--public", home / who / "policy-key.public.json")
    ]
    key = home / "ada/policy-key.pem"
    _run("sign", home / "policy", "--key", key, *publics, "--yes")
    _run("sign", home / "policy", "--key", home / "grace/policy-key.pem", "--yes")
    _run("review", "--out", home / "review.txt")


def _change_key(home: Path) -> None:
    """Let Ada go on with her locked key: then there are two roots."""
    shutil.copytree(home / "policy", home / "rotated")
    sign = ("sign", home / "rotated", "--yes")
    new = home / "locked/policy-key.public.json"
    locked = ("--key", home / "locked/policy-key.pem", "--passphrase-file", home / "passphrase.txt")
    _run(*sign, "--key", home / "ada/policy-key.pem", "--public", new)
    _run(*sign, *locked)
    _run(*sign, "--key", home / "grace/policy-key.pem")
    _run("verify", home / "rotated")


def _receipt(acme: Organisation, home: Path) -> None:
    policy = acme.policy()
    signed = acme.consent(policy_digest(encode_policy(policy)), policy)
    evidence = Evidence(signed=signed, words=policy.words(Category.KEYS), notice=policy.notice)
    (home / "receipt.json").write_bytes(write_consent_receipt(evidence, acme.device))
    (home / "device.pem").write_bytes(public_pem(acme.device.public_key()))


def _audit(home: Path) -> None:
    """Let a collector hand over its bundle, and others what they were given."""
    made = some_weeks()
    made.is_witnessed()
    made.write(home / "audit")
    (home / "audited").mkdir()
    (home / "audited/root.json").write_bytes(made.roots[0])
    (home / "audited/seen.txt").write_text(made.notes[0])
    opened = "".join(f"{release.batch.hex()}\n" for release in made.releases)
    (home / "audited/opened.txt").write_text(opened)


def _run(*words: object) -> None:
    code = outcome(cli, "assent-govern", [str(word) for word in words], refusals=(WireError,))
    assert code == 0, words


def _next_guard(acme: Organisation) -> Guard:
    """Return the guard by other keys, as its own say it."""
    signing, witness, lease = (ed25519() for _ in range(3))
    name = verifier_key(WITNESS_NAME, ALGORITHM_COSIGNATURE, raw(witness))
    coming = (b64(raw(signing)), name, b64(raw(lease)))
    before = acme.policy().guard
    return following(before, sign_following(three_of(before), coming, acme.guard), coming)
