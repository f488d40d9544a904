"""`[store]` and its credentials: a mistake is one line, before anything is asked."""

from pathlib import Path

import pytest

from base.errors import SetupError
from base.paths import Paths
from collector.config import Config, read_config
from collector.premises import Premises
from collector.store.credentials import Credentials, Identity
from collector.store.files import FileStore
from collector.store.opening import open_store
from collector.store.settings import StoreConfig

HEAD = 'origin = "https://127.0.0.1:1"\ntenant = "acme"\nlisten = "127.0.0.1:1"\n'
GOOD = {"kind": "s3", "endpoint": "https://s3.example:8443", "bucket": "sealed"}
FILE = """\
[ingest]
aws_access_key_id = IN
aws_secret_access_key = in%secret
[default]
aws_access_key_id = OTHER
aws_secret_access_key = other-secret
aws_session_token = token
"""
ENVIRONMENT = {"AWS_ACCESS_KEY_ID": "ENV", "AWS_SECRET_ACCESS_KEY": "env-secret"}


def config(folder: Path, **said: str) -> Config:
    """Return what `config.toml` with this `[store]` comes to."""
    path = folder / "config.toml"
    lines = [f'{name} = "{value}"\n' for name, value in said.items()]
    path.write_text(HEAD + "[store]\n" + "".join(lines))
    return read_config(path)


def one_line(error: BaseException) -> str:
    assert "\n" not in str(error)
    return str(error)


def test_files_are_the_default(tmp_path: Path) -> None:
    """Whoever says nothing of a store has the one that there always was."""
    folders = {name: tmp_path / name for name in ("config", "state", "logs", "runtime")}
    premises = Premises(Paths(**folders).make())
    assert config(tmp_path).store == StoreConfig()
    assert isinstance(open_store(premises, config(tmp_path)), FileStore)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"kind": "s4"}, "store.kind"),
        ({"kind": "files"}, 'not kind = "s3"'),
        ({"bukcet": "x"}, "bukcet"),
        ({"bucket": ""}, "bucket = ''"),
        ({"bucket": "A/b"}, "bucket = 'A/b'"),
        ({"bucket": "../other"}, "bucket"),
        ({"prefix": "/x"}, "prefix"),
        ({"prefix": "a/../b"}, "prefix"),
        ({"prefix": "a b"}, "prefix"),
        ({"region": "eu central"}, "region"),
        ({"region": ""}, "region"),
        ({"endpoint": ""}, "has to begin with https://"),
        ({"endpoint": "s3.example"}, "has to begin with https://"),
        ({"endpoint": "ftp://s3.example"}, "has to begin with https://"),
        ({"endpoint": "http://s3.example"}, "in the clear, which is for loopback alone"),
        ({"endpoint": "http://10.0.0.5:7480"}, "in the clear"),
        ({"endpoint": "http://127.0.0.1.example"}, "in the clear"),
        ({"endpoint": "https://user:word@s3.example"}, "is no origin"),
        ({"endpoint": "https://s3.example/path"}, "is no origin"),
        ({"endpoint": "https://s3.example:port"}, "is no origin"),
    ],
)
def test_a_mistake_is_one_line(tmp_path: Path, change: dict[str, str], said: str) -> None:
    """Which names the key, and comes before the server listens."""
    with pytest.raises(SetupError) as raised:
        config(tmp_path, **(GOOD | change))
    assert said in one_line(raised.value)


@pytest.mark.parametrize(
    "endpoint",
    ["https://s3.example", "http://127.0.0.1:7480", "http://localhost:7480", "http://[::1]:7480"],
)
def test_a_store_is_reached_with_tls_or_on_this_machine(tmp_path: Path, endpoint: str) -> None:
    """Both are taken as they are."""
    assert config(tmp_path, **(GOOD | {"endpoint": endpoint})).store.endpoint == endpoint


def test_an_authority_that_is_not_there_is_said(tmp_path: Path) -> None:
    """Before the store is asked anything."""
    folders = {name: tmp_path / name for name in ("config", "state", "logs", "runtime")}
    premises = Premises(Paths(**folders).make())
    with pytest.raises(SetupError, match=r"mend \[store\] authority"):
        open_store(premises, config(tmp_path, **GOOD, authority="missing.pem"))


def test_a_collector_keeps_the_name_of_its_marks(tmp_path: Path) -> None:
    """Made once; a damaged one is said, for another one's marks would not be its own."""
    folders = {name: tmp_path / name for name in ("config", "state", "logs", "runtime")}
    premises = Premises(Paths(**folders).make())
    name = premises.collector_id()
    assert premises.collector_id() == name
    path = tmp_path / "state" / "collector-id"
    assert path.stat().st_mode & 0o777 == 0o600
    path.write_text("../other")
    with pytest.raises(SetupError, match="is damaged"):
        premises.collector_id()


# --- credentials ------------------------------------------------------------------------------


def written(tmp_path: Path, text: str = FILE, mode: int = 0o600) -> Path:
    path = tmp_path / "store.credentials"
    path.write_text(text)
    path.chmod(mode)
    return path


def test_each_identity_has_its_section(tmp_path: Path) -> None:
    """`[default]` stands for what is missing; any character may be in a secret."""
    credentials = Credentials(written(tmp_path), ENVIRONMENT)
    ingest, keep = (credentials.read(one) for one in (Identity.INGEST, Identity.KEEP))
    assert (ingest.access_key_id, ingest.secret_access_key) == ("IN", "in%secret")
    assert ingest.session_token is None
    assert (keep.access_key_id, keep.session_token) == ("OTHER", "token")
    assert "secret" not in f"{ingest!r} {ingest} {credentials!r}".replace("secret_access", "")


def test_without_a_file_the_environment_counts(tmp_path: Path) -> None:
    """For both; and with neither there is one line."""
    missing = tmp_path / "missing"
    assert Credentials(missing, ENVIRONMENT).read(Identity.KEEP).access_key_id == "ENV"
    with pytest.raises(SetupError, match="is missing, and AWS_ACCESS_KEY_ID is not set"):
        Credentials(missing, {}).read(Identity.KEEP)
    with pytest.raises(SetupError, match="the environment has no aws_secret_access_key"):
        Credentials(missing, {"AWS_ACCESS_KEY_ID": "x"}).read(Identity.KEEP)


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o644, 0o666, 0o660])
def test_a_file_that_others_may_read_is_refused(tmp_path: Path, mode: int) -> None:
    """Also by the group; the environment does not stand in for it."""
    with pytest.raises(SetupError, match="must be yours alone; chown it, chmod 600"):
        Credentials(written(tmp_path, mode=mode), ENVIRONMENT).read(Identity.INGEST)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "has no section"),
        ("my-secret-key\n", "is not [section] and key = value"),
        ("[ingest]\naws_access_key_id = IN\n", "has no aws_secret_access_key for ingest"),
        ("[ingest]\n[ingest]\n", "is not [section]"),
        ("[keep]\naws_access_key_id = my-secret-key\n", "has no section [ingest] or [default]"),
    ],
)
def test_a_file_that_cannot_be_understood_is_one_line(tmp_path: Path, text: str, said: str) -> None:
    """Which shows nothing of what is in it."""
    with pytest.raises(SetupError) as raised:
        Credentials(written(tmp_path, text), {}).read(Identity.INGEST)
    assert said in one_line(raised.value)
    assert "my-secret" not in str(raised.value)


def test_bytes_that_are_no_text_are_one_line(tmp_path: Path) -> None:
    """As when a key store was put there."""
    path = written(tmp_path)
    path.write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SetupError) as raised:
        Credentials(path, {}).read(Identity.INGEST)
    assert "cannot be read" in one_line(raised.value)
