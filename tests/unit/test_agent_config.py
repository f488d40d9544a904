"""Configuration and the opt-outs from outside: they restrict, and doubt means everything."""

from pathlib import Path

import pytest

from agent.config import EVERYTHING, FILE_NAME, Config, load, outside_opt_outs, proxy_of
from base.errors import SetupError
from wire.category import Category

SCREEN = frozenset({Category.SCREEN})


def written(folder: Path, text: str) -> Path:
    (folder / FILE_NAME).write_text(text, "utf-8")
    return folder


def test_without_a_file_there_are_defaults(tmp_path: Path) -> None:
    """Nobody has to write one."""
    assert load(tmp_path) == Config()


def test_every_key_is_read(tmp_path: Path) -> None:
    """The five that there are."""
    text = 'quota_bytes = 5\nlog_level = "debug"\nopt_out = ["screen", "all"]\n'
    text += 'input_source = "pynput"\nproxy = "http://proxy.example:3128"\n'
    assert load(written(tmp_path, text)) == Config(
        quota_bytes=5,
        log_level="debug",
        opt_out=("screen", "all"),
        input_source="pynput",
        proxy="http://proxy.example:3128",
    )


def test_the_persons_proxy_comes_before_the_machines(tmp_path: Path) -> None:
    """One line in a file for the whole machine; "none" is a straight way."""
    machine = tmp_path / "proxy"
    assert proxy_of(Config(), machine) is None
    machine.write_text("http://machine.example:3128\n")
    assert str(proxy_of(Config(), machine)) == "http://machine.example:3128"
    own = Config(proxy="http://own.example:8080")
    assert str(proxy_of(own, machine)) == "http://own.example:8080"
    assert proxy_of(Config(proxy="none"), machine) is None
    machine.write_text("none\n")
    assert proxy_of(Config(), machine) is None


def test_a_proxy_that_is_none_is_one_line_that_names_the_file(tmp_path: Path) -> None:
    """In the person's file when it is read, in the machine's when it is asked."""
    with pytest.raises(SetupError, match=FILE_NAME):
        load(written(tmp_path, 'proxy = "proxy.example"\n'))
    (tmp_path / "proxy").write_text("socks5://proxy.example:1080")
    with pytest.raises(SetupError, match=r"proxy: .*write it as in http"):
        proxy_of(Config(), tmp_path / "proxy")


def test_a_proxy_of_the_environment_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any program can set it, and a terminal has another than the session."""
    for name in ("HTTPS_PROXY", "https_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://proxy.example:3128")
    assert proxy_of(Config(), Path("/nonexistent/proxy")) is None


@pytest.mark.parametrize(
    "text",
    [
        "quota = 5\n",
        'grant = ["keys"]\n',
        'quota_bytes = "much"\n',
        'log_level = "loud"\n',
        'opt_out = ["microphone"]\n',
        'input_source = "uinput"\n',
        "quota_bytes = \n",
    ],
)
def test_what_is_not_understood_is_one_clear_line(tmp_path: Path, text: str) -> None:
    """An unknown key is an error, not a surprise; it names the file."""
    with pytest.raises(SetupError, match=FILE_NAME) as raised:
        load(written(tmp_path, text))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("", None),
        ("0", None),
        ("no", None),
        ("false", None),
        ("1", EVERYTHING),
        ("yes", EVERYTHING),
        ("all", EVERYTHING),
        ("screen", SCREEN),
        ("SCREEN, keys", SCREEN | {Category.KEYS}),
        ("screen microphone", EVERYTHING),  # not understood: the more private reading
        ("no screen", SCREEN),
    ],
)
def test_the_variable(tmp_path: Path, value: str, expected: frozenset[Category] | None) -> None:
    """ASSENT_OPT_OUT names categories; anything else that is no "no" means all."""
    found = outside_opt_outs(Config(), {"ASSENT_OPT_OUT": value}, tmp_path / "none")
    assert found == ({} if expected is None else {"environment": expected})


@pytest.mark.parametrize(
    ("content", "expected"),
    [("", EVERYTHING), ("screen\n", SCREEN), ("garbage", EVERYTHING), ("screen\nkeys", None)],
)
def test_the_flag_file_of_the_machine(
    tmp_path: Path, content: str, expected: frozenset[Category] | None
) -> None:
    """Empty means all; lines name categories."""
    flag = tmp_path / "opt-out"
    flag.write_text(content, "utf-8")
    wanted = SCREEN | {Category.KEYS} if expected is None else expected
    assert outside_opt_outs(Config(), {}, flag) == {"machine": wanted}


def test_a_flag_that_cannot_be_read_means_everything(tmp_path: Path) -> None:
    """A folder in its place, or bytes that are no text."""
    (tmp_path / "folder").mkdir()
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    for name in ("folder", "bytes"):
        assert outside_opt_outs(Config(), {}, tmp_path / name) == {"machine": EVERYTHING}


def test_every_category_can_be_opted_out_of_in_the_file(tmp_path: Path) -> None:
    """The names in the file are those of the registry."""
    for category in Category:
        config = load(written(tmp_path, f'opt_out = ["{category}"]\n'))
        assert outside_opt_outs(config, {}, tmp_path / "none") == {
            "configuration": frozenset({category})
        }


def test_no_place_can_opt_in(tmp_path: Path) -> None:
    """What one place opts out of, no other takes back."""
    config = Config(opt_out=("screen",))
    found = outside_opt_outs(config, {"ASSENT_OPT_OUT": "0"}, tmp_path / "none")
    assert found == {"configuration": SCREEN}
    assert outside_opt_outs(Config(opt_out=("all",)), {}, tmp_path / "none") == {
        "configuration": EVERYTHING
    }
