"""A key's release carries the keysym of its press."""

from agent.capture.keyboard import Keyboard
from wire.ids import BootInstant

NOW = BootInstant(1)


def test_a_release_is_that_of_the_key_that_went_down() -> None:
    """Shift let go before the letter does not turn the capital's release into a small letter's."""
    shifted = True
    keyboard = Keyboard(lambda _code: ord("A") if shifted else ord("a"))
    down = keyboard.stroke(NOW, 38, pressed=True)
    shifted = False
    up = keyboard.stroke(NOW, 38, pressed=False)
    assert (down.keysym, up.keysym) == (ord("A"), ord("A"))
    assert keyboard.stroke(NOW, 38, pressed=True).keysym == ord("a")


def test_the_release_of_a_key_pressed_before_is_named_as_it_is_now() -> None:
    """A key held while the source opened has no press on record."""
    assert Keyboard(lambda code: code + 1000).stroke(NOW, 24, pressed=False).keysym == 1024
