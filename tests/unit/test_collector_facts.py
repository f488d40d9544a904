"""What an operator is told of a collector: nothing by which one person could be watched."""

from pathlib import Path

from collector.operators.facts import Card, Status, status
from tests.fakes.site import Site, collector_site


def told(site: Site) -> Status:
    """Return what `assent-collector status` would say."""
    with site.collector.index.reading() as connection:
        return status(connection, Card(**dict.fromkeys(Card.__struct_fields__, "")))


def test_a_person_more_and_what_they_send_do_not_show(tmp_path: Path) -> None:
    """One who enrols, agrees, sends and deletes changes no count but how long the log is."""
    with collector_site(tmp_path / "site") as site:
        before = told(site)
        ada = site.workstation("ada@acme.example")
        signed = ada.consents()
        frames = [ada.seals(signed) for _ in range(3)]
        assert [ada.puts(frame).status for frame in frames] == [201] * 3
        assert ada.deletes(frames[0]).status == 200
        after = told(site)
    assert after.in_tens == before.in_tens == {"devices": 0, "consents": 0}
    changed = {name for name, count in after.counts.items() if count != before.counts[name]}
    assert changed == {"leaves"}, after.counts
    assert (before.releases, after.releases) == ("fewer than 1,000", "fewer than 1,000")
    assert (before.notices_wait, after.notices_wait) == (False, True)


def test_ten_people_show_together(tmp_path: Path) -> None:
    """Nine devices are none to look at, ten are ten, and so are eleven."""
    with collector_site(tmp_path / "site") as site:
        shown = []
        for _ in range(11):
            site.workstation()
            shown.append(told(site).in_tens["devices"])
    assert shown == [0] * 9 + [10] * 2
