"""The servers' package: run as its units would run it, sandboxed, kept, upgraded, purged."""

import pytest

from tests.install.debian import CleanDebian
from tests.install.life import HOME, SERVERS, Lived
from tests.install.servers import UNITS, Unit

pytestmark = [pytest.mark.install, pytest.mark.slow, pytest.mark.timeout(1800)]


@pytest.mark.parametrize("server", SERVERS)
def test_a_server_does_its_work_as_its_own_account(lived: Lived, server: str) -> None:
    """A whole organisation ran on them; told to stop, it ended well."""
    assert lived.stored > 0
    assert lived.ended_with[server] == 0


@pytest.mark.parametrize("server", SERVERS)
def test_what_a_server_keeps_is_its_account_s_alone(lived: Lived, server: str) -> None:
    """Nobody else may read a file or enter a folder."""
    assert lived.accounts[server] <= {f"{server}:{server} {mode}" for mode in ("600", "700")}


@pytest.mark.parametrize("server", SERVERS)
def test_a_unit_forbids_nothing_that_its_server_does(lived: Lived, server: str) -> None:
    """Every system call and kind of socket of a working server is one that its unit leaves."""
    asked = lived.asked[server]
    assert len(asked.calls) > 50
    assert asked.calls - lived.allowed[server] == set()
    assert "AF_INET" in asked.socket_families <= {"AF_INET", "AF_INET6", "AF_UNIX"}
    # The unit leaves no AF_UNIX: libc alone asks for it, for a cache of names, and does without.
    assert asked.unix_sockets <= {"/var/run/nscd/socket"}
    assert asked.writable_code == ()


@pytest.mark.parametrize("server", SERVERS)
def test_a_unit_is_accepted_and_exposes_little(
    lived: Lived, debian: CleanDebian, server: str
) -> None:
    """`systemd-analyze security` gives 1.1 of 10, where lower is better; 1.5 is the most."""
    assert lived.ended_with  # it is installed
    unit = f"{UNITS}/{server}.service"
    debian.run("systemd-analyze", "verify", "--man=no", unit)
    debian.run(
        *("systemd-analyze", "security", "--offline=yes", "--threshold=15", "--no-pager", unit)
    )
    assert Unit.read(debian, server)["RestrictAddressFamilies"] == "AF_INET AF_INET6"


def test_installing_enables_nothing(lived: Lived, debian: CleanDebian) -> None:
    """Which of the two runs here is for an administrator to say."""
    assert lived.ended_with
    enabled = debian.run("find", "/etc/systemd/system", "-name", "assent*")
    assert enabled == ""


def test_removal_keeps_keys_and_batches_and_purge_deletes_them_and_says_so(
    lived: Lived, debian: CleanDebian
) -> None:
    """A slip of the hand costs nothing; whoever says purge is told what that was."""
    assert lived.ended_with
    key = debian.root / "var/lib/assent-guard/config/signing.key"
    debian.run("systemctl", "enable", *SERVERS)
    said = debian.run("apt-get", "remove", "--yes", "assent-servers")
    assert [f"/var/lib/{server} is kept" in said for server in SERVERS] == [True, True]
    assert key.exists()
    said = debian.run("apt-get", "purge", "--yes", "assent-servers")
    assert [f"deleting /var/lib/{server}" in said for server in SERVERS] == [True, True]
    find = ("find", "/usr", "/etc", "/var/lib", "/run", "-path", HOME, "-prune", "-o")
    left = debian.run(*find, "-name", "*assent*", "-print").splitlines()
    assert left == []
    assert debian.run("find", "/etc", "-xtype", "l", "-name", "assent*") == ""
    accounts = debian.run("getent", "passwd", *SERVERS).splitlines()
    assert [line.split(":")[-1] for line in accounts] == ["/usr/sbin/nologin"] * 2
