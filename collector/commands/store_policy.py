# ruff: noqa: D301 - click wants a real backspace before examples
"""What the command line says about the store: the rights that go with a bucket."""

import json

import click

from base.errors import SetupError
from collector.premises import our_premises
from collector.store.policy import bucket_policy


@click.command("store-policy")
@click.option("--ingest", required=True, help="ARN of the user or role that hands in.")
@click.option("--keep", required=True, help="ARN of the user or role that reads and deletes.")
def store_policy(ingest: str, keep: str) -> None:
    """Print the policy that the bucket needs.

    The bucket is the one that config.toml names; its owner puts the policy on it.

    \b
    Example:
      assent-collector store-policy --ingest arn:aws:iam:::user/ingest \\
          --keep arn:aws:iam:::user/keep
    """
    config = our_premises().config()
    if config.store.kind != "s3":
        raise SetupError('config.toml has no [store] of kind = "s3"; write it first')
    policy = bucket_policy(
        bucket=config.store.bucket,
        prefix=config.store.prefix or config.tenant,
        ingest=ingest,
        keep=keep,
    )
    click.echo(json.dumps(policy, indent=2))
