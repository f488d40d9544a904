"""What proves to an S3 store who asks: up to two identities, each with rights of its own.

The file has the form that other S3 programs know, one section an identity:

    [ingest]                        # may create objects, and no more
    aws_access_key_id = ...
    aws_secret_access_key = ...

    [keep]                          # may read, list and delete them
    aws_access_key_id = ...

A section `[default]` stands for what is missing.  Where there is no file, the environment's
`AWS_ACCESS_KEY_ID`, `AWS_SECRET_ACCESS_KEY` and `AWS_SESSION_TOKEN` stand for all.  The file
is read again each minute, so that what is renewed there needs no start.
"""

import configparser
import os
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

from base.errors import SetupError


class Identity(StrEnum):
    """Who asks: whoever takes batches in can neither read nor list what is there."""

    INGEST = "ingest"
    KEEP = "keep"


@dataclass(frozen=True, slots=True, kw_only=True)
class Secret:
    """What signs a request; never printed."""

    access_key_id: str
    secret_access_key: str = field(repr=False)
    session_token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Credentials:
    """The file *path*, or where there is none, the *environment*."""

    path: Path
    environment: Mapping[str, str] = field(
        default_factory=lambda: MappingProxyType(dict(os.environ)), repr=False
    )

    def read(self, identity: Identity) -> Secret:
        """Return what *identity* signs with now.

        Raises:
            SetupError: There is nothing, others may read it, or it cannot be understood.

        """
        found = self._section(identity)
        try:
            return Secret(
                access_key_id=found["aws_access_key_id"],
                secret_access_key=found["aws_secret_access_key"],
                session_token=found.get("aws_session_token"),
            )
        except KeyError as exc:
            place = self.path if self.path.exists() else "the environment"
            raise SetupError(f"{place} has no {exc.args[0]} for {identity}; add it") from None

    def _section(self, identity: Identity) -> Mapping[str, str]:
        text = self._text()
        if text is None:
            return _of_environment(self.environment, self.path)
        # No defaults and no interpolation: a secret may hold any character.
        parser = configparser.ConfigParser(interpolation=None, default_section="")
        try:
            parser.read_string(text)
        except configparser.Error:
            # What the library says would show the line, which may be a secret.
            raise SetupError(f"{self.path} is not [section] and key = value; mend it") from None
        for name in (identity.value, "default"):
            if parser.has_section(name):
                return dict(parser[name])
        raise SetupError(f"{self.path} has no section [{identity}] or [default]; add one")

    def _text(self) -> str | None:
        try:
            with self.path.open("rb") as file:
                about = os.fstat(file.fileno())
                mode = stat.S_IMODE(about.st_mode)
                if mode & 0o077 or about.st_uid not in (os.getuid(), 0):
                    raise SetupError(f"{self.path} must be yours alone; chown it, chmod 600")
                return file.read().decode("utf-8")
        except FileNotFoundError:
            return None
        except (OSError, UnicodeDecodeError) as exc:
            raise SetupError(f"{self.path} cannot be read ({exc}); mend it") from exc


def _of_environment(environment: Mapping[str, str], path: Path) -> Mapping[str, str]:
    if not environment.get("AWS_ACCESS_KEY_ID"):
        raise SetupError(f"{path} is missing, and AWS_ACCESS_KEY_ID is not set; write the file")
    return {name.lower(): value for name, value in environment.items() if value}
