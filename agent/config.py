"""The few settings a person may change, and the opt-outs that come from outside the tray.

Configuration can only restrict: there is no key that grants, opts in, resumes, shortens the
hold or names another collector.  Those come from the data subject's clicks and from the
signed policy.  A proxy is a way to that collector, and no other (`base.proxy`).
"""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Final, Literal

import msgspec

from agent.consent.notice import Resuming
from base.errors import SetupError
from base.proxy import Proxy, proxy_at
from wire.category import Category
from wire.control import InputSource

FILE_NAME: Final = "config.toml"
MACHINE_FLAG: Final = Path("/etc/assent/opt-out")
MACHINE_PROXY: Final = Path("/etc/assent/proxy")
NO_PROXY: Final = "none"
VARIABLE: Final = "ASSENT_OPT_OUT"
EVERYTHING: Final = frozenset(Category)
_NOTHING: Final = frozenset({"", "0", "no", "false", "none", "off"})


class Config(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What `config.toml` may say; everything has a default.

    `quota_bytes` is what sealed batches may take on the disk; when they do, capture closes.
    `opt_out` lists categories never to be recorded here, or "all".
    `resume` is what ends a pause that has run out: its notice, once you have seen it for a
    minute, or always a "click" of yours.
    `input_source` is how keyboard and pointer are watched (docs/known-issues.md, Sources).
    `proxy` is the way to the collector, "none" a straight one; left out, the machine's.
    """

    quota_bytes: int = 1 << 30
    log_level: Literal["info", "debug"] = "info"
    opt_out: tuple[Literal["keys", "pointer", "screen", "window", "all"], ...] = ()
    resume: Resuming = "notice"
    input_source: InputSource = "auto"
    proxy: str = ""


def load(folder: Path) -> Config:
    """Return the configuration in *folder*; without a file, the defaults.

    Raises:
        SetupError: The file cannot be read, or has an unknown key or value.

    """
    path = folder / FILE_NAME
    try:
        config = msgspec.convert(tomllib.loads(path.read_text("utf-8")), Config)
    except FileNotFoundError:
        return Config()
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{path} cannot be read; check its owner and encoding") from exc
    except (tomllib.TOMLDecodeError, msgspec.ValidationError) as exc:
        raise SetupError(f"{path}: {exc}; see `assent-agent config --help`") from exc
    if config.proxy not in ("", NO_PROXY):
        _proxy_in(path, config.proxy)
    return config


def proxy_of(config: Config, machine: Path = MACHINE_PROXY) -> Proxy | None:
    """Return the proxy through which the collector is reached, if there is one.

    The person's own setting comes first, then the machine's: one line in *machine*.  The
    environment is not asked (`base.proxy` says why).

    Raises:
        SetupError: The machine's file cannot be read, or holds no proxy.

    """
    if config.proxy == NO_PROXY:
        return None
    if config.proxy:
        return proxy_at(config.proxy)
    try:
        text = machine.read_text("utf-8").strip()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, UnicodeDecodeError) as exc:
        raise SetupError(f"{machine} cannot be read; ask IT to mend it") from exc
    return None if text in ("", NO_PROXY) else _proxy_in(machine, text)


def _proxy_in(path: Path, text: str) -> Proxy:
    try:
        return proxy_at(text)
    except SetupError as exc:
        raise SetupError(f"{path}: {exc}") from exc


def outside_opt_outs(
    config: Config,
    environment: Mapping[str, str] = os.environ,
    machine_flag: Path = MACHINE_FLAG,
) -> dict[str, frozenset[Category]]:
    """Return what each place outside the tray keeps from being recorded.

    A place that cannot be understood means everything: the more private reading wins.
    """
    found = {
        "configuration": _named(list(config.opt_out)),
        "environment": _named(environment.get(VARIABLE, "").replace(",", " ").split()),
        "machine": _flagged(machine_flag),
    }
    return {place: categories for place, categories in found.items() if categories}


def _named(words: list[str]) -> frozenset[Category]:
    """Return the categories that *words* name; anything else that is no "no" means all."""
    wanted = [word.lower() for word in words if word.lower() not in _NOTHING]
    try:
        return frozenset(Category(word) for word in wanted)
    except ValueError:
        return EVERYTHING


def _flagged(path: Path) -> frozenset[Category]:
    """Return what the flag file asks for: the categories it names, one a line, or all."""
    try:
        words = path.read_text("utf-8").split()
    except (FileNotFoundError, NotADirectoryError):
        return frozenset()
    except (OSError, UnicodeDecodeError):
        return EVERYTHING
    return _named(words) if words else EVERYTHING
