"""The workstation's package in a clean Debian 12: installed, lived with, upgraded, removed, purged.

Collector, guard, reader and governance are those of the servers' package (`servers`).
"""

import pytest

from tests.install.life import Lived
from tests.install.packages import NEXT
from wire.category import Category

pytestmark = [pytest.mark.install, pytest.mark.slow, pytest.mark.timeout(1800)]


def test_apt_brings_all_that_the_programs_load(lived: Lived) -> None:
    """Before anything else was installed, every module of ours finds all libraries it needs."""
    assert lived.alone == "all of it\n"


def test_a_person_who_is_not_root_enrols_consents_and_sends(lived: Lived) -> None:
    """The installed agent records with consent, and the collector's receipts come back."""
    assert set(lived.said["consent"]["granted"]) == set(Category)
    assert lived.said["work"]["sent"] > 0
    assert lived.stored >= lived.said["work, restarted"]["sent"] > lived.said["work"]["sent"]


@pytest.mark.parametrize("when", ["before upgrade", "after upgrade", "begun anew"])
def test_all_processes_run_from_the_package_as_the_person(lived: Lived, when: str) -> None:
    """Agent, tray and the three sensors: the package's environment, no account but the person's."""
    said = lived.said[when]
    assert len(said["commands"]) == 5
    assert [c for c in said["commands"] if not c.startswith("/usr/lib/assent/bin/python3 ")] == []
    assert said["accounts"] == [lived.worker] != [0]


def test_the_person_s_own_python_gets_nothing_in(lived: Lived) -> None:
    """Neither PYTHONPATH nor ~/.local decides what is loaded beside the keyboard."""
    assert [line for line in lived.hostile if line.startswith("/usr/lib/assent/")] == []
    assert lived.hostile, "not even the scripted person's own Python loaded it"


def test_an_upgrade_in_the_middle_of_work_stops_nothing(lived: Lived) -> None:
    """The same processes go on and record on, while all files below them are others."""
    said = lived.said
    assert said["before upgrade"]["recording"] == said["after upgrade"]["recording"]
    assert set(said["after upgrade"]["recording"]) == set(Category)
    assert said["after upgrade"]["pids"] == said["before upgrade"]["pids"]
    assert said["next"]["version"] == NEXT
    old = [path for path in lived.maps["after upgrade"] if path.endswith("(deleted)")]
    assert old == lived.maps["after upgrade"] != []


def test_an_upgraded_agent_begins_anew_at_the_pause(lived: Lived) -> None:
    """The same process, with the new version in it, other children, and the pause still on."""
    old, new = lived.said["after upgrade"], lived.said["begun anew"]
    assert new["pids"][0] == old["pids"][0]
    assert not set(new["pids"][1:]) & set(old["pids"][1:])
    assert new["reason"] == "paused-until"
    assert new["recording"] == []
    assert [path for path in lived.maps["begun anew"] if path.endswith("(deleted)")] == []
    assert lived.maps["begun anew"] != []


def test_nothing_of_the_work_is_lost_or_doubled(lived: Lived) -> None:
    """Across upgrade, new beginning and restart: what was typed is what the reader opens."""
    assert lived.opened == lived.typed != ""
    first = lived.keys[0]
    assert len(lived.keys) == 2 * len(lived.typed)
    assert sorted(lived.keys) == sorted(set(lived.keys)), f"a number twice, from {first} on"


def test_consent_outlasts_upgrade_and_restart(lived: Lived) -> None:
    """Nobody is asked twice for what they agreed to."""
    assert lived.said["restart"]["ended"] == 0
    assert set(lived.said["restart"]["granted"]) == set(Category)
    assert lived.said["work, restarted"]["sent"] > lived.said["work, begun anew"]["sent"]


def test_removal_ends_the_running_agent(lived: Lived) -> None:
    """Whoever removes the package expects that nothing records any more."""
    assert lived.said["removed"]["code"] == 0
    assert len(lived.running["before removal"]) == 5
    assert lived.running["after removal"] == []


def test_removal_leaves_the_settings_and_nothing_else(lived: Lived) -> None:
    """What an administrator may have changed stays until purge, and what dpkg knows of it."""
    assert lived.changed["by removal"] == {
        "/etc/xdg/autostart/assent-agent.desktop",
        "/var/lib/dpkg/info/assent.list",
    }


def test_purge_leaves_nothing(lived: Lived) -> None:
    """The whole system is as before: each file, its mode and owner; each byte of /etc.

    So accounts, groups, alternatives, units and caches are, too.  What lies in a person's
    home is the person's.
    """
    assert lived.changed["by purge"] == set()
    assert lived.gone == set()
    assert lived.state
