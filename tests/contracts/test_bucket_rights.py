"""What each identity may do on a real S3 store, under the policy that `store-policy` prints.

Asked by hand, past our own client, as whoever has stolen the keys would.
"""

import hashlib
import json
from pathlib import Path
from typing import Final

import pytest
from click.testing import CliRunner

from base.errors import SetupError
from collector.__main__ import cli
from collector.store.policy import bucket_policy
from tests.fakes.buckets import PREFIX, PUBLIC, Party, Rented
from tests.fakes.ceph import Ceph
from wire.ids import BatchHash

pytestmark = pytest.mark.slow

FRAME: Final = b"sealed" * 100
BATCH: Final = BatchHash(hashlib.sha256(FRAME).digest())
OBJECT: Final = f"{PREFIX}/objects/{BATCH.hex()}/frame"
ACL, POLICY = {"acl": ""}, {"policy": ""}
EVERYBODY: Final = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": "*", "Action": "s3:*", "Resource": "*"}],
}


@pytest.fixture
def rented(ceph: Ceph, tmp_path: Path) -> Rented:
    """Return a bucket in which the collector has stored one frame."""
    rented = Rented.of(ceph)
    rented.open(tmp_path).put(BATCH, FRAME).settle()
    return rented


def status(party: Party, method: str, path: str, body: bytes = b"", **more: dict[str, str]) -> int:
    return party.asks(method, path, body, **more).status


def refused(rented: Rented, party: Party) -> dict[str, int]:
    """Ask for what nobody but the owner may do with bucket and objects; return what was let."""
    bucket, one = rented.name, f"{rented.name}/{OBJECT}"
    tried = {
        "read the policy": status(party, "GET", bucket, query=POLICY),
        "open to everybody": status(
            party, "PUT", bucket, json.dumps(EVERYBODY).encode(), query=POLICY
        ),
        "publish the bucket": status(party, "PUT", bucket, query=ACL, headers=PUBLIC),
        "publish an object": status(party, "PUT", one, query=ACL, headers=PUBLIC),
        "keep versions": status(party, "PUT", bucket, b"<x/>", query={"versioning": ""}),
        "let things expire": status(party, "PUT", bucket, b"<x/>", query={"lifecycle": ""}),
        "list versions": status(party, "GET", bucket, query={"versions": "", "prefix": ""}),
        "list uploads": status(party, "GET", bucket, query={"uploads": ""}),
        "delete the bucket": status(party, "DELETE", bucket),
        "write elsewhere": status(party, "PUT", f"{bucket}/other/object", b"x"),
        "read elsewhere": status(party, "GET", f"{bucket}/other/tenant"),
        "delete elsewhere": status(party, "DELETE", f"{bucket}/other/tenant"),
        "list all": status(party, "GET", bucket, query={"list-type": "2"}),
        "list elsewhere": status(party, "GET", bucket, query={"prefix": "other/"}),
        "drop the policy": status(
            party, "DELETE", bucket, query=POLICY
        ),  # last, for it shuts what was open
    }
    return {what: answer for what, answer in tried.items() if answer != 403}


@pytest.fixture
def elsewhere(rented: Rented) -> Rented:
    """Let an object of another tenant lie beside the prefix."""
    assert rented.owner.asks("PUT", f"{rented.name}/other/tenant", b"theirs").status == 200
    return rented


def test_what_is_tried_would_find_a_hole(elsewhere: Rented) -> None:
    """A bucket that lets everybody do everything lets nearly all of it through."""
    elsewhere.owner.allows(elsewhere.name, EVERYBODY)
    let = refused(elsewhere, elsewhere.party(elsewhere.ceph.user("stranger")))
    assert len(let) >= 12, let


def test_nobody_in_particular_may_do_anything(elsewhere: Rented) -> None:
    """Anonymous, and a user of the same store who has nothing to do with us."""
    stranger = elsewhere.ceph.user("stranger")
    for keys in (None, stranger):
        party = elsewhere.party(keys)
        assert refused(elsewhere, party) == {}
        assert status(party, "GET", f"{elsewhere.name}/{OBJECT}") == 403
        assert status(party, "PUT", f"{elsewhere.name}/{OBJECT}", b"mine") == 403
        assert status(party, "DELETE", f"{elsewhere.name}/{OBJECT}") == 403
        assert party.lists(elsewhere.name, f"{PREFIX}/") is None
    assert elsewhere.party(elsewhere.keep).reads(elsewhere.name, OBJECT) == FRAME


def test_who_hands_in_can_neither_read_list_nor_delete(elsewhere: Rented) -> None:
    """The uploader's own credentials, and its own object."""
    party, one = elsewhere.party(elsewhere.ingest), f"{elsewhere.name}/{OBJECT}"
    assert refused(elsewhere, party) == {}
    assert status(party, "GET", one) == 403
    assert status(party, "HEAD", one) == 403
    assert status(party, "GET", one, query=ACL) == 403
    assert status(party, "DELETE", one) == 403
    assert party.lists(elsewhere.name, f"{PREFIX}/") is None
    copied = {"x-amz-copy-source": f"/{one}"}
    assert status(party, "PUT", f"{elsewhere.name}/{PREFIX}/copy", headers=copied) == 403
    assert status(party, "PUT", one, FRAME, headers={"if-none-match": "*"}) == 412
    assert elsewhere.party(elsewhere.keep).reads(elsewhere.name, OBJECT) == FRAME


def test_what_is_uploaded_as_public_is_read_by_nobody(rented: Rented) -> None:
    """Ceph takes an ACL along with an upload; what it would grant is denied."""
    ingest, one = rented.party(rented.ingest), f"{rented.name}/{PREFIX}/published"
    assert status(ingest, "PUT", one, b"sealed", headers=PUBLIC) == 200
    for keys in (None, rented.ceph.user("stranger"), rented.ingest):
        assert status(rented.party(keys), "GET", one) == 403
    assert rented.party(rented.keep).asks("GET", one).body == b"sealed"


def test_who_keeps_may_read_list_and_delete_and_not_write(elsewhere: Rented) -> None:
    """Below the prefix alone."""
    party, one = elsewhere.party(elsewhere.keep), f"{elsewhere.name}/{OBJECT}"
    assert refused(elsewhere, party) == {}
    assert party.reads(elsewhere.name, OBJECT) == FRAME
    assert party.lists(elsewhere.name, f"{PREFIX}/") == [OBJECT]
    assert status(party, "PUT", one, b"mine") == 403
    assert status(party, "POST", one, query={"uploads": ""}) == 403
    assert status(party, "DELETE", one) == 204
    assert party.lists(elsewhere.name, f"{PREFIX}/") == []


def test_whoever_has_only_the_ingest_key_cannot_start_a_collector(
    rented: Rented, tmp_path: Path
) -> None:
    """It ends with one line; nothing is half open."""
    thief = Rented(
        ceph=rented.ceph,
        name=rented.name,
        owner=rented.owner,
        ingest=rented.ingest,
        keep=rented.ingest,
    )
    with pytest.raises(SetupError, match=r"as keep.*put the policy that store-policy prints"):
        thief.open(tmp_path)


def test_without_the_explicit_deny_ceph_would_let_the_uploader_read(rented: Rented) -> None:
    """Why the policy denies by name; when this fails, the store has become better."""
    policy = bucket_policy(
        bucket=rented.name, prefix=PREFIX, ingest=rented.ingest.arn, keep=rented.keep.arn
    )
    allows = [one for one in policy["Statement"] if one["Effect"] == "Allow"]
    rented.owner.allows(rented.name, {**policy, "Statement": allows})
    assert rented.party(rented.ingest).reads(rented.name, OBJECT) == FRAME


def test_an_overwritten_batch_is_noticed(rented: Rented, tmp_path: Path) -> None:
    """A stolen ingest key can destroy on Ceph: the device that comes again is not told "stored"."""
    ingest = rented.party(rented.ingest)
    assert status(ingest, "PUT", f"{rented.name}/{OBJECT}", b"destroyed") == 200
    with pytest.raises(SetupError, match="other bytes under the name of a batch"):
        rented.open(tmp_path).put(BATCH, FRAME)


# --- the command ------------------------------------------------------------------------------


def printed(home: Path, *words: str) -> tuple[int, str]:
    """Run `assent-collector store-policy` on a configuration with a bucket."""
    (home / "config").mkdir(mode=0o700, exist_ok=True)
    (home / "config" / "config.toml").write_text(
        'origin = "https://127.0.0.1:1"\ntenant = "acme"\nlisten = "127.0.0.1:1"\n'
        '[store]\nkind = "s3"\nendpoint = "https://s3.example"\nbucket = "sealed"\n'
    )
    said = CliRunner().invoke(cli, ["store-policy", *words], env={"ASSENT_HOME": str(home)})
    return said.exit_code, said.output if said.exception is None else str(said.exception)


def test_the_command_prints_the_policy_that_is_tested_here(tmp_path: Path) -> None:
    """The prefix is the tenant where none is given."""
    ingest, keep = (f"arn:aws:iam:::user/{name}" for name in ("ingest", "keep"))
    code, text = printed(tmp_path, "--ingest", ingest, "--keep", keep)
    assert code == 0
    assert json.loads(text) == bucket_policy(
        bucket="sealed", prefix="acme", ingest=ingest, keep=keep
    )


def test_at_aws_the_account_is_named_beside_its_user() -> None:
    """There, a user alone would still be "somebody else"."""
    keep = "arn:aws:iam::123456789012:role/keep"
    policy = bucket_policy(
        bucket="sealed", prefix="acme", ingest="arn:aws:iam::123456789012:user/in", keep=keep
    )
    nobody_else = policy["Statement"][-1]["NotPrincipal"]["AWS"]
    assert nobody_else == ["arn:aws:iam::123456789012:root", keep]


@pytest.mark.parametrize(
    ("ingest", "keep", "said"),
    [
        ("ingest", "arn:aws:iam:::user/keep", "'ingest' is none"),
        ("arn:aws:iam:::user/*", "arn:aws:iam:::user/keep", "is none"),
        ("arn:aws:iam:::user/one", "arn:aws:iam:::user/one", "two users"),
    ],
)
def test_two_users_are_needed(tmp_path: Path, ingest: str, keep: str, said: str) -> None:
    """One line says what is wrong."""
    code, text = printed(tmp_path, "--ingest", ingest, "--keep", keep)
    assert code == 1  # the exit code is made of the error by `base.command`
    assert said in text
    assert "\n" not in text
