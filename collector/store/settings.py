"""`[store]` of `config.toml`: where sealed batches lie, and what is wrong with what it says.

Credentials are never in it: they stand in a file beside it, or in the environment
(`collector.store.credentials`).
"""

import ipaddress
import re
from typing import Final, Literal

import msgspec

from base.door import host_and_port
from base.errors import SetupError

_BUCKET: Final = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]")
_PREFIX: Final = re.compile(r"([A-Za-z0-9_-]+(/[A-Za-z0-9_-]+)*)?")
_REGION: Final = re.compile(r"[a-z0-9-]+")


class StoreConfig(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where sealed batches lie: in files of the state folder, or in a bucket of an S3 store."""

    kind: Literal["files", "s3"] = "files"
    endpoint: str = ""  # https://host[:port]; in the clear on loopback alone
    bucket: str = ""
    prefix: str = ""  # the tenant, when empty
    region: str = "us-east-1"
    credentials: str = "store.credentials"  # a file beside config.toml, 0600
    authority: str = ""  # a PEM file beside it: who certified the endpoint, if nobody known did

    def check(self) -> None:
        """Check what it says.

        Raises:
            SetupError: A value is not usable, or would change nothing.

        """
        if self.kind == "files":
            if self != StoreConfig():
                raise SetupError('[store] says where a bucket is, but not kind = "s3"; say both')
            return
        for name, value, form in (
            ("bucket", self.bucket, _BUCKET),
            ("prefix", self.prefix, _PREFIX),
            ("region", self.region, _REGION),
        ):
            if not form.fullmatch(value):
                raise SetupError(f"[store] {name} = {value!r} cannot be one; mend it")
        _check_endpoint(self.endpoint)


def _check_endpoint(endpoint: str) -> None:
    scheme, _, place = endpoint.partition("://")
    if scheme not in ("https", "http"):
        raise SetupError(f"[store] endpoint = {endpoint!r} has to begin with https://; mend it")
    host, _port = host_and_port(f"https://{place}")
    if scheme == "http" and not _is_loopback(host):
        raise SetupError(
            f"[store] endpoint = {endpoint!r} is in the clear, which is for loopback alone; "
            "write https://"
        )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
