"""What the tray is told."""

import msgspec

from agent.status import notice_text
from tests.fakes.organisation import Organisation
from wire.policy import Application


def test_the_notice_ends_with_the_programs_that_are_meant_by_the_list() -> None:
    """The words speak of a list, so the data subject sees it before deciding."""
    policy = msgspec.structs.replace(
        Organisation().policy(),
        applications=(
            Application(process="soffice.bin", window_class="libreoffice"),
            Application(process="gedit", window_class="Gedit"),
            Application(process="gedit", window_class="Gedit-help"),
        ),
    )
    assert notice_text(policy) == (
        f"{policy.notice}\n\nOnly these programs are on the list: gedit, soffice.bin."
    )


def test_an_empty_list_is_said_too() -> None:
    """Somebody who agrees then should not wonder why nothing happens."""
    policy = msgspec.structs.replace(Organisation().policy(), applications=())
    assert notice_text(policy).endswith("No program is on the list yet, so nothing is recorded.")
