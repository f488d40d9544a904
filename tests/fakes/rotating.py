"""A site whose guard changes the keys by which policies name it, a step at a time."""

from datetime import UTC, datetime

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from collector import policies
from governance.guard_keys import rotated
from guard.keys_commands import following
from guard.rings import Kind
from guard.trust import read_policy_set
from tests.fakes.organisation import WITNESS_NAME, b64, raw
from tests.fakes.site import Site
from wire.guard_follows import Three, raw_keys, sign_following, three_of
from wire.policy import Guard
from wire.tlog import ALGORITHM_COSIGNATURE, verifier_key


def announces(site: Site) -> Guard:
    """Let the guard make its next keys; return what the next policy is to say of it."""
    chest = site.guard.chest
    chest.announce()
    signing, witness, lease = (chest.announced(kind) for kind in Kind)
    assert signing is not None
    assert witness is not None
    assert lease is not None
    name = verifier_key(WITNESS_NAME, ALGORITHM_COSIGNATURE, raw(witness))
    coming: Three = (b64(raw(signing)), name, b64(raw(lease)))
    word = sign_following(three_of(site.policy.guard), coming, chest.now(Kind.SIGNING))
    return following(site.policy.guard, word, coming)


def agrees(site: Site, entry: Guard, **changes: object) -> None:
    """Let both parties sign the next version, by which the guard is known by *entry*."""
    newer = msgspec.structs.replace(rotated(site.policy, entry), **changes)
    site.org.publish(site.policy_folder, newer, at=datetime.now(UTC))
    site.policy = newer


def trusts(site: Site, *, settle: bool = True) -> None:
    """Let the guard act on what is signed; without *settle* it died right after."""
    site.guard.policy = read_policy_set(site.policy_folder)
    if settle:
        site.guard.chest.settle(raw_keys(site.policy.guard), site.collector.now())


def publishes(site: Site) -> None:
    """Let the collector put it in force."""
    published = policies.read_folder(site.policy_folder, site.collector.now())
    with site.collector.index.writing() as connection:
        policies.publish(connection, published, site.collector.now())
    site.digest = published.digest


def changes_keys(site: Site) -> Ed25519PrivateKey:
    """Let the guard change its keys, whole; return the former signing key, as a thief has it."""
    former = site.guard.chest.now(Kind.SIGNING)
    agrees(site, announces(site))
    trusts(site)
    publishes(site)
    return former
