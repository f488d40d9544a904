"""Another S3 client than the store's own: what owners, thieves and passers-by would use.

AWS Signature Version 4 by hand, path style, over the standard library; it can say everything
that a bucket's owner has to say, and it says what the answer was.
"""

import hashlib
import hmac
import http.client
import json
import secrets
import time
import xml.etree.ElementTree as ET
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Final
from urllib.parse import quote, urlencode, urlsplit

from collector.store.bucket import Bucket
from collector.store.credentials import Credentials, Identity
from collector.store.policy import bucket_policy
from collector.store.s3 import BucketStore
from collector.store.settings import StoreConfig
from tests.fakes.ceph import PATIENCE_SECONDS, Ceph, Keys

PREFIX: Final = "t/acme"
REGION: Final = "default"  # Ceph takes any
SETTLED_SECONDS: Final = 60.0  # a worker takes marks away a moment after the answer
VERSIONING: Final = (
    '<VersioningConfiguration xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
    "<Status>{}</Status></VersioningConfiguration>"
)
PUBLIC: Final = {"x-amz-acl": "public-read"}


@dataclass(frozen=True, slots=True)
class Answer:
    """What the gateway said."""

    status: int
    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, kw_only=True)
class Party:
    """Somebody who talks to the gateway: with keys, or as nobody."""

    endpoint: str
    keys: Keys | None = None

    def asks(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        *,
        query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        """Send one request; *path* is the bucket's name, or that and the object's."""
        where = urlsplit(self.endpoint)
        target, asked = f"/{quote(path)}", urlencode(sorted((query or {}).items()), quote_via=quote)
        sent = {k.lower(): v for k, v in (headers or {}).items()} | {"host": where.netloc}
        if self.keys is not None:
            sent |= _signed(self.keys, method, target, asked, sent, body)
        connection = http.client.HTTPConnection(where.netloc, timeout=PATIENCE_SECONDS)
        try:
            connection.request(method, f"{target}?{asked}" if asked else target, body, sent)
            answer = connection.getresponse()
            return Answer(answer.status, answer.read(), dict(answer.getheaders()))
        finally:
            connection.close()

    def makes(self, bucket: str) -> None:
        """Make a bucket, as its owner."""
        assert self.asks("PUT", bucket).status == 200

    def allows(self, bucket: str, policy: object) -> None:
        """Put a bucket policy in force."""
        text = policy if isinstance(policy, str) else json.dumps(policy)
        answer = self.asks("PUT", bucket, text.encode(), query={"policy": ""})
        assert answer.status in (200, 204), answer

    def keeps_versions(self, bucket: str, status: str = "Enabled") -> None:
        """Switch versioning on, or to `Suspended`."""
        answer = self.asks(
            "PUT", bucket, VERSIONING.format(status).encode(), query={"versioning": ""}
        )
        assert answer.status == 200, answer

    def lists(self, bucket: str, prefix: str = "") -> list[str] | None:
        """Return the names of all objects, or None where that is refused."""
        names: list[str] = []
        query = {"list-type": "2", "prefix": prefix}
        while True:
            answer = self.asks("GET", bucket, query=query)
            if answer.status != 200:
                return None
            root = ET.fromstring(answer.body)  # noqa: S314 - of our own gateway
            names += [str(key.text) for key in root.iterfind("{*}Contents/{*}Key")]
            further = root.findtext("{*}NextContinuationToken")
            if not further:
                return names
            query["continuation-token"] = further

    def reads(self, bucket: str, name: str) -> bytes | None:
        """Return an object, or None where that is refused."""
        answer = self.asks("GET", f"{bucket}/{name}")
        return answer.body if answer.status == 200 else None


@dataclass(frozen=True, kw_only=True)
class Rented:
    """A bucket of its own, with our policy in force, and who may do what there."""

    ceph: Ceph
    name: str
    owner: Party
    ingest: Keys
    keep: Keys

    @classmethod
    def of(cls, ceph: Ceph) -> "Rented":
        """Make the bucket and, once, its three users."""
        owner, ingest, keep = (ceph.user(name) for name in ("owner", "ingest", "keep"))
        name = f"sealed-{secrets.token_hex(6)}"
        party = Party(endpoint=ceph.endpoint, keys=owner)
        party.makes(name)
        rented = cls(ceph=ceph, name=name, owner=party, ingest=ingest, keep=keep)
        rented.allows_ours()
        return rented

    def allows_ours(self) -> None:
        """Have its owner put the policy in force that we print."""
        ours = {"ingest": self.ingest.arn, "keep": self.keep.arn}
        self.owner.allows(self.name, bucket_policy(bucket=self.name, prefix=PREFIX, **ours))

    def party(self, keys: Keys | None) -> Party:
        """Return somebody with these *keys*, or nobody in particular."""
        return Party(endpoint=self.ceph.endpoint, keys=keys)

    def settings(self, endpoint: str = "", **changes: str) -> StoreConfig:
        """Return what `[store]` says of it."""
        said = {"endpoint": endpoint or self.ceph.endpoint, "bucket": self.name, "prefix": PREFIX}
        found = StoreConfig(kind="s3", **(said | changes))
        found.check()
        return found

    def toml(self, endpoint: str = "") -> str:
        """Return that section."""
        said = self.settings(endpoint)
        lines = [f'{name} = "{getattr(said, name)}"' for name in ("kind", "endpoint", "bucket")]
        return "\n".join(["[store]", *lines, f'prefix = "{PREFIX}"', ""])

    def write_credentials(self, path: Path) -> Credentials:
        """Write the file of credentials, 0600."""
        path.write_text(
            "".join(
                f"[{section}]\naws_access_key_id = {keys.access_key}\n"
                f"aws_secret_access_key = {keys.secret_key}\n"
                for section, keys in (("ingest", self.ingest), ("keep", self.keep))
            )
        )
        path.chmod(0o600)
        return Credentials(path, {})

    def open(self, folder: Path, collector: str = "a" * 16, endpoint: str = "") -> BucketStore:
        """Return the store of one collector on it."""
        said = self.settings(endpoint)
        credentials = self.write_credentials(folder / "store.credentials")
        store = BucketStore(
            ingest=Bucket(said, Identity.INGEST, credentials),
            keep=Bucket(said, Identity.KEEP, credentials),
            prefix=PREFIX,
            collector=collector,
        )
        store.probe()
        return store

    def settled(self) -> dict[str, bytes]:
        """Return all that lies there once no upload has a mark any more."""
        deadline = time.monotonic() + SETTLED_SECONDS
        while "/incoming/" in str((found := self.objects()).keys()):
            assert time.monotonic() < deadline, "a mark stays"
        return found

    def objects(self) -> dict[str, bytes]:
        """Return all that lies there and stays: a collector at work tries the bucket's clock."""
        names, keep = self.owner.lists(self.name), self.party(self.keep)
        assert names is not None
        found = {name: keep.reads(self.name, name) for name in names}
        still = self.owner.lists(self.name) or ()
        unread = [name for name in still if name in found and found[name] is None]
        assert not unread, "something lies outside the prefix"
        return {name: found[name] or b"" for name in names if name in still}


def _signed(
    keys: Keys, method: str, target: str, query: str, headers: Mapping[str, str], body: bytes
) -> dict[str, str]:
    """Return the headers that prove who asks (AWS Signature Version 4)."""
    at = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}"
    digest = hashlib.sha256(body).hexdigest()
    all_headers = dict(headers) | {"x-amz-date": at, "x-amz-content-sha256": digest}
    names = ";".join(sorted(all_headers))
    lines = "".join(f"{name}:{all_headers[name].strip()}\n" for name in sorted(all_headers))
    canonical = f"{method}\n{target}\n{query}\n{lines}\n{names}\n{digest}"
    scope = f"{at[:8]}/{REGION}/s3/aws4_request"
    to_sign = "\n".join(
        ("AWS4-HMAC-SHA256", at, scope, hashlib.sha256(canonical.encode()).hexdigest())
    )
    key = f"AWS4{keys.secret_key}".encode()
    for part in scope.split("/"):
        key = hmac.digest(key, part.encode(), "sha256")
    signature = hmac.digest(key, to_sign.encode(), "sha256").hex()
    return {
        "x-amz-date": at,
        "x-amz-content-sha256": digest,
        "authorization": f"AWS4-HMAC-SHA256 Credential={keys.access_key}/{scope}, "
        f"SignedHeaders={names}, Signature={signature}",
    }
