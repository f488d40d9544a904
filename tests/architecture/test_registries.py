"""Where packages come from is each machine's own affair: no tracked file names a registry."""

import re
import shutil
import subprocess
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from pip._internal.models.index import PyPI

from tests.architecture.source import ROOT


def test_no_tracked_file_names_a_package_registry(tmp_path: Path) -> None:
    """The names are asked of this machine's own clients, so none stands here either."""
    if not (ROOT / ".git").exists():
        pytest.skip("no git repository here, so nothing says which files are tracked")
    names = tmp_path / "names"
    names.write_text("\n".join(sorted(registry_names())), "utf-8")
    search = ["git", "grep", "-nIF", "-f", str(names)]
    found = subprocess.run(search, check=False, cwd=ROOT, capture_output=True, text=True)
    assert found.stdout.splitlines() == []
    assert found.returncode == 1, found.stderr  # 1: searched and found nothing


def test_the_names_are_really_known() -> None:
    """A search for no names would find nothing, whatever stands in the files."""
    assert {PyPI.netloc, PyPI.file_storage_domain} <= registry_names()


def registry_names() -> set[str]:
    """Return the host names of the package registries that this machine uses."""
    clients = (["pip", "config", "list"], ["npm", "config", "get", "registry"])
    lists = [Path("/etc/apt/sources.list"), *Path("/etc/apt/sources.list.d").glob("*")]
    said = [
        f"//{PyPI.netloc}",
        f"//{PyPI.file_storage_domain}",
        *(output(client) for client in clients if shutil.which(client[0])),
        *(path.read_text("utf-8") for path in lists if path.is_file()),
    ]
    hosts = {urlsplit(url).hostname for url in re.findall(r"//[^\s'\"/]+", "\n".join(said))}
    return {host for host in hosts if host and "." in host and not host[0].isdigit()}


def output(command: list[str]) -> str:
    """Return what *command* prints."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout
