"""The tables of the index: who, what and when; never what is inside a batch.

Ids and hashes are raw bytes, instants are nanoseconds since the epoch (UTC).

Whoever changes a table adds a step to `collector.index.migration`.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ForeignKey,
    Index,
    LargeBinary,
    MetaData,
    Table,
    text,
)
from sqlalchemy import Integer as SomeInteger
from sqlalchemy import Text as SomeText

SCHEMA_VERSION: Final = 2

# What both back ends take alike: SQLite's integers are of 64 bits, and it sorts text by its bytes.
Integer: Final = SomeInteger().with_variant(BigInteger(), "postgresql")
Text: Final = SomeText().with_variant(SomeText(collation="C"), "postgresql")

metadata = MetaData()

devices = Table(
    "devices",
    metadata,
    Column("device", LargeBinary(32), primary_key=True),
    Column("public_key", LargeBinary(32), nullable=False),  # raw Ed25519
    Column("enrolled_at", BigInteger, nullable=False),
    Column("certified_until", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
    Column(
        "label", Text, nullable=False, default=""
    ),  # to whom notices go, as the operator wrote it; or ""
    Column("jurisdiction", Text, nullable=False, default=""),  # as its token had it; "": unknown
)

readers = Table(
    "readers",
    metadata,
    Column("name", Text, primary_key=True),
    Column("spki_sha256", LargeBinary(32), nullable=False),
    Column("certified_at", BigInteger, nullable=False),
    Column("certified_until", BigInteger, nullable=False),
    Column("revoked_at", BigInteger),
)

tokens = Table(
    "tokens",
    metadata,
    Column("sha256", LargeBinary(32), primary_key=True),  # the token itself is never stored
    Column("made_at", BigInteger, nullable=False),
    Column("expires_at", BigInteger, nullable=False),
    Column("used_by", LargeBinary(32)),  # the device; a token is good for one
    Column("label", Text, nullable=False, default=""),
    Column("jurisdiction", Text, nullable=False, default=""),
)

policies = Table(
    "policies",
    metadata,
    Column("number", Integer, primary_key=True),  # in the order of publication
    Column("digest", LargeBinary(32), nullable=False, unique=True),
    Column("root", LargeBinary, nullable=False),
    Column("snapshot", LargeBinary, nullable=False),
    Column("targets", LargeBinary, nullable=False),
    Column("policy", LargeBinary, nullable=False),
    Column("published_at", BigInteger, nullable=False),
    Column("expires", BigInteger, nullable=False),  # of what signs it, in seconds
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False),
    Index("policies_of_leaf", "leaf", unique=True),
)

policy_files = Table(  # what devices ask for by version or digest; never changed, never removed
    "policy_files",
    metadata,
    Column("name", Text, primary_key=True),
    Column("content", LargeBinary, nullable=False),
)

consents = Table(
    "consents",
    metadata,
    Column("grant", LargeBinary(32), primary_key=True),
    Column("device", LargeBinary(32), ForeignKey("devices.device"), nullable=False),
    Column("subject", LargeBinary(16), nullable=False),
    Column("category", Text, nullable=False),
    Column("policy", LargeBinary(32), nullable=False),
    Column("record", LargeBinary, nullable=False),  # the controller's proof, as signed
    Column("signature", LargeBinary(64), nullable=False),
    Column("given_at", BigInteger, nullable=False),  # by the device's clock, as signed
    Column("received_at", BigInteger, nullable=False),
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False),
    Column("ended_at", BigInteger),  # by the device's clock; the first of its `consent_events`
    Index("consents_of_device", "device", "category", "received_at"),
)

consent_events = Table(
    "consent_events",
    metadata,
    Column("grant", LargeBinary(32), ForeignKey("consents.grant"), primary_key=True),
    Column("state", Text, primary_key=True),  # of DPV: withdrawn, expired
    Column("event", LargeBinary, nullable=False),  # as signed
    Column("signature", LargeBinary(64), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False),
)

notices = Table(
    "notices",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("grant", LargeBinary(32), ForeignKey("consents.grant"), nullable=False),
    Column("state", Text, nullable=False),
    Column("notice", LargeBinary, nullable=False),  # the JSON that notify_command is given
    Column("made_at", BigInteger, nullable=False),
    Column("tries", Integer, nullable=False),
    Column("next_at", BigInteger),  # after a try that failed
    Column("told_at", BigInteger),  # NULL: deliver it
)

guard_keys = Table(
    "guard_keys",
    metadata,
    Column("subject", LargeBinary(16), primary_key=True),
    Column("category", Text, primary_key=True),
    Column("month", Text, primary_key=True),
    Column("key_id", LargeBinary(16), nullable=False),
    Column("public_key", LargeBinary, nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("also", LargeBinary),  # by the guard's other keys, 64 bytes each; NULL: by none
)

batches = Table(
    "batches",
    metadata,
    Column("batch", LargeBinary(32), primary_key=True),
    Column("core_hash", LargeBinary(32), nullable=False),
    Column("device", LargeBinary(32), ForeignKey("devices.device"), nullable=False),
    Column("subject", LargeBinary(16), nullable=False),
    Column("programme", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("category", Text, nullable=False),
    Column("day", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("policy", LargeBinary(32), nullable=False),
    Column("grant", LargeBinary(32), nullable=False),
    Column("bytes", Integer, nullable=False),
    Column("sequence", Text, nullable=False),  # a u64, which SQLite's integers do not hold
    # What the device signed, for an audit: with the core and the sequence, the hashes of shelf
    # and body.
    Column("core", LargeBinary, nullable=False),
    Column("sealed_sha256", LargeBinary(64), nullable=False),
    Column("signature", LargeBinary(64), nullable=False),
    Column("received_at", BigInteger, nullable=False),
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False, unique=True),
    Index("batches_of_day", "category", "day"),
    Index("batches_of_subject", "subject"),
)

tombstones = Table(
    "tombstones",
    metadata,
    Column("batch", LargeBinary(32), primary_key=True),
    Column("device", LargeBinary(32), primary_key=True),  # each device forgets for itself
    Column("stored", Boolean, nullable=False),  # there was something to forget
    Column("made_at", BigInteger, nullable=False),
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False),
    Column("swept_at", BigInteger),  # when the file was gone; NULL: look again
    Index("tombstones_swept", "swept_at"),
    Index("tombstones_of_device", "device"),
    Index("tombstones_of_leaf", "leaf"),
)

expiries = Table(
    "expiries",  # batches whose last day was over
    metadata,
    Column("batch", LargeBinary(32), primary_key=True),
    Column("expires", Text, nullable=False),
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False, unique=True),
)

requests = Table(
    "requests",  # what data subjects demanded; it holds for what was agreed to before
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("subject", LargeBinary(16), nullable=False),
    Column("demand", Text, nullable=False),
    Column("category", Text),  # NULL: all
    Column("first_day", Text, nullable=False),  # empty: ever
    Column("last_day", Text, nullable=False),
    Column("made_at", BigInteger, nullable=False),  # by the clock of who asked, as grants are
    Column("by_device", LargeBinary(32), nullable=False),  # its public key; empty: the rights key
    Column("received_at", BigInteger, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Column("erased", Integer, nullable=False),  # batches
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False),
    Column("guard", LargeBinary),  # its signed receipt; NULL: outstanding, or not asked for
    # What it has yet to sign for, in order; all others are not in it.
    Index(
        "requests_outstanding",
        "demand",
        "leaf",
        "subject",
        "guard",  # always NULL here: with it, what counts or asks for a subject reads no row
        sqlite_where=text("guard IS NULL"),
        postgresql_where=text("guard IS NULL"),
    ),
    # All that an upload asks for, so that the rows, with what was signed, need not be read.
    Index(
        "requests_of_subject",
        "subject",
        "category",
        "first_day",
        "last_day",
        "made_at",
        "received_at",
    ),
)

orders = Table(
    "orders",  # what the guard erased by its own hand; its keys are not made again
    metadata,
    Column("digest", LargeBinary(32), primary_key=True),
    Column("subject", LargeBinary(16), nullable=False),
    Column("category", Text),  # NULL: all
    Column("month", Text, nullable=False),  # empty: every one
    Column("received_at", BigInteger, nullable=False),
    Column("signed", LargeBinary, nullable=False),
    Column("erased", Integer, nullable=False),  # batches
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False, unique=True),
    Column("signed_by", Text, nullable=False),  # the policy's key that devices can check it by
    Column("signed_anew", LargeBinary),  # by that key, where `signed` is by one before it
    Index("orders_of_subject", "subject"),
)

leaves = Table(
    "leaves",
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("kind", Text, nullable=False),
    Column("entry", LargeBinary, nullable=False),
    Column("at", BigInteger, nullable=False),
)

salts = Table(  # apart, so that erasing one touches nothing that the log's hashes cover
    "salts",
    metadata,
    Column("leaf", Integer, ForeignKey("leaves.number"), primary_key=True, autoincrement=False),
    Column("salt", LargeBinary(16), nullable=False),
)

THEMSELF: Final = ""  # the reader of what a data subject had given back; no reader's name is empty

releases = Table(
    "releases",
    metadata,
    Column("batch", LargeBinary(32), primary_key=True),
    Column("access", LargeBinary(32), primary_key=True),  # digest of the approved request
    Column("core_hash", LargeBinary(32), nullable=False),  # the leaf commits to it
    Column("reader", Text, nullable=False),
    Column("released_at", BigInteger, nullable=False),
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False, unique=True),
)

approvals = Table(
    "approvals",  # who approved what was released: the controller's proof
    metadata,
    Column("access", LargeBinary(32), primary_key=True),
    Column("approver", Text, primary_key=True),
    Column("signature", LargeBinary(64), primary_key=True),
    Column("request", LargeBinary, nullable=False),
)

returns = Table(
    "returns",  # by which data subjects had their own batches given back; `releases` name them
    metadata,
    Column("access", LargeBinary(32), primary_key=True),  # the order's digest
    Column("subject", LargeBinary(16), nullable=False),
    Column("signed", LargeBinary, nullable=False),
)

asked = Table(
    "asked",  # nonces of queries by data subjects, for as long as each would count again
    metadata,
    Column("nonce", LargeBinary(16), primary_key=True),
    Column("until", BigInteger, nullable=False),
    Index("asked_until", "until"),
)

lease = Table(
    "lease",  # the one in force, signed by the guard, too; at most one row
    metadata,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("version", BigInteger, nullable=False),
    Column("signed", LargeBinary, nullable=False),
)

heard = Table(
    "heard",  # how often a collector has said that the other side answers: of several, one may
    metadata,
    Column("from", Text, primary_key=True),
    Column("times", BigInteger, nullable=False),
)

checkpoints = Table(
    "checkpoints",  # those that a witness cosigned: the log may never be shorter than these
    metadata,
    Column("size", Integer, primary_key=True, autoincrement=False),
    Column("note", Text, nullable=False),  # the first: since then all that is in it is there
    Column("witnessed_at", BigInteger),  # of that, by the guard's clock, in s; NULL: it was wrong
    Column("last_note", Text, nullable=False),  # the last: so long nothing has come
    Column("last_at", BigInteger, nullable=False),
)

halts = Table(
    "halts",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("policy", LargeBinary, nullable=False),  # the digest that was in force, or empty
    Column("by", Text, nullable=False),  # the party whose word it is
    Column("why", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False),
)

stops = Table(
    "stops",  # those that hold; when its cause is gone, so is its row
    metadata,
    Column("cause", Text, primary_key=True),
    Column("why", Text, nullable=False),
    Column("at", BigInteger, nullable=False),
)

drill_identities = Table(
    "drill_identities",  # certificates of a drill under way; gone with its end
    metadata,
    Column("spki_sha256", LargeBinary(32), primary_key=True),
    Column("role", Text, nullable=False),
    Column("public_key", LargeBinary(32), nullable=False),  # raw Ed25519
    Column("until", BigInteger, nullable=False),
)

drill_marks = Table(
    "drill_marks",  # SHA-256 of what a drill writes into its requests; gone with its end
    metadata,
    Column("sha256", LargeBinary(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
)

planted = Table(
    "planted",  # sealed batches of nobody, stored for drills to ask for
    metadata,
    Column("batch", LargeBinary(32), primary_key=True),
    Column("core_hash", LargeBinary(32), nullable=False),
    Column("programme", Text, nullable=False),
    Column("purpose", Text, nullable=False),
    Column("category", Text, nullable=False, unique=True),
    Column("day", Text, nullable=False),
    Column("expires", Text, nullable=False),
    Column("public_key", LargeBinary(32), nullable=False),  # of the device that there never was
)

drills = Table(
    "drills",
    metadata,
    Column("number", Integer, primary_key=True),
    Column("began_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger, nullable=False),
    Column("passed", Boolean, nullable=False),
    Column("kind", Text, nullable=False),  # `collector.drill.records.Kind`
    Column("probes", Integer, nullable=False),
    Column("objects", Integer, nullable=False),
    Column("holes", Integer, nullable=False),  # how many of the probes failed
    Column("hole", Text, nullable=False),  # the first of them in one line; empty if it passed
    Column("batch", LargeBinary(32)),  # that it was about; the next drill asks for it again
    Column("server", LargeBinary(16), nullable=False),  # that was attacked: drawn at its start
    Column("leaf", Integer, ForeignKey("leaves.number"), nullable=False, unique=True),
)
