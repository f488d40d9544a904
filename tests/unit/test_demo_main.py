"""`make demo` before its first step; what it shows is `tests/e2e/`'s."""

from pathlib import Path

from click.testing import CliRunner

from base.errors import ExitCode
from demo.__main__ import main


def test_a_folder_in_which_something_lies_is_left_alone(tmp_path: Path) -> None:
    """One line, before anything starts; the keys of an earlier demo are somebody's to look at."""
    (tmp_path / "kept").write_text("as it was")
    ran = CliRunner().invoke(main, ["--folder", str(tmp_path)])
    assert ran.exit_code == ExitCode.SETUP
    assert ran.output == f"assent-demo: {tmp_path} is not empty; name a new folder\n"
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
