"""The bucket policy that goes with the store: two identities, and nobody else.

*ingest* may create objects below the prefix, and neither read, list, delete nor publish them;
*keep* may read and delete them, and list below the prefix.  What is denied is denied by name:
Ceph lets whoever uploaded an object read it without any permission, publish it by an ACL, and
takes no notice of `NotAction` in a Deny.
"""

import re
from typing import Any, Final

from base.errors import SetupError

_ARN: Final = re.compile(r"arn:[a-z-]+:iam::([A-Za-z0-9_-]*):(user|role)/[\w+=,.@/$-]+")


def bucket_policy(*, bucket: str, prefix: str, ingest: str, keep: str) -> dict[str, Any]:
    """Return the policy that lets *ingest* and *keep* (ARNs) do what this store does.

    Raises:
        SetupError: One is no ARN of a user or role, or both are the same.

    """
    for arn in (ingest, keep):
        if not _ARN.fullmatch(arn):
            raise SetupError(f"{arn!r} is none; write it as in arn:aws:iam:::user/ingest")
    if ingest == keep:
        raise SetupError("ingest and keep have to be two users, or the one could read")
    whole, below = f"arn:aws:s3:::{bucket}", f"arn:aws:s3:::{bucket}/{prefix}/*"
    return {
        "Version": "2012-10-17",
        "Statement": [
            _statement("IngestCreates", "Allow", ingest, ["s3:PutObject"], [below]),
            _statement(
                "IngestAndNoMore",
                "Deny",
                ingest,
                ["s3:Get*", "s3:List*", "s3:Delete*", "s3:PutObjectAcl", "s3:PutObjectVersionAcl"],
                [whole, f"{whole}/*"],
            ),
            _statement("KeepReads", "Allow", keep, ["s3:GetObject", "s3:DeleteObject"], [below]),
            _statement("KeepLists", "Allow", keep, ["s3:ListBucket"], [whole])
            | {"Condition": {"StringLike": {"s3:prefix": [f"{prefix}/*"]}}},
            {
                # An object that was published by its ACL is still read by nobody.
                "Sid": "NobodyElseReads",
                "Effect": "Deny",
                "NotPrincipal": {"AWS": [*_account(keep), keep]},
                "Action": ["s3:GetObject", "s3:GetObjectVersion"],
                "Resource": [below],
            },
        ],
    }


def _statement(
    sid: str, effect: str, principal: str, actions: list[str], resources: list[str]
) -> dict[str, Any]:
    return {
        "Sid": sid,
        "Effect": effect,
        "Principal": {"AWS": [principal]},
        "Action": actions,
        "Resource": resources,
    }


def _account(arn: str) -> list[str]:
    """Return the ARN of the account, without which AWS counts its user as somebody else."""
    found = _ARN.fullmatch(arn)
    number = found[1] if found else ""
    return [f"arn:aws:iam::{number}:root"] if number.isdecimal() else []
