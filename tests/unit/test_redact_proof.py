"""The trial of redaction finds whatever lets more pass than may."""

from collections.abc import Callable

import pytest

from agent.geometry import Box
from agent.redact import keys, pixels, proof
from agent.redact.pixels import Pixels, View
from wire.event import Key

KEY = keys.key
VIEW = pixels.permitted_view


def at_level_text(**asked: object) -> Key:
    return KEY(**{**asked, "level": "text"})  # type: ignore[arg-type]


def of_another_kind(**asked: object) -> Key:
    return KEY(**{**asked, "keysym": 0x31})  # type: ignore[arg-type]


def failing(*_: object, **__: object) -> None:
    raise ZeroDivisionError("division by zero")


def as_it_is(picture: Pixels, _view: View) -> Pixels:
    return picture


def all_black(picture: Pixels, _view: View) -> Pixels:
    return picture * 0


def nothing_above(**asked: object) -> View | None:
    return VIEW(**{**asked, "above": ()})  # type: ignore[arg-type]


def everybody_permitted(**asked: object) -> View | None:
    return VIEW(**{**asked, "permitted": {proof.OURS, proof.THEIRS}})  # type: ignore[arg-type]


def whoever_has_the_focus(**asked: object) -> View | None:
    return VIEW(**asked) or View(box=Box(0, 0, 1, 1), covered=())  # type: ignore[arg-type]


def test_redaction_works_here() -> None:
    """As it is shipped."""
    assert proof.why_broken() == ""


@pytest.mark.parametrize("broken", [at_level_text, of_another_kind, failing])
def test_keys_that_say_more_than_their_kind_are_found(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Key]
) -> None:
    """The level is ignored, the kind is wrong, it ends in an error."""
    monkeypatch.setattr(keys, "key", broken)
    with pytest.raises(proof.RedactionError, match="what hides keys does not"):
        proof.prove_keys()
    assert "what hides keys does not" in proof.why_broken()


@pytest.mark.parametrize("broken", [as_it_is, all_black, failing])
def test_pictures_that_are_not_blanked_where_they_must_are_found(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., Pixels]
) -> None:
    """Nothing is blanked, all is, it ends in an error."""
    monkeypatch.setattr(pixels, "blank", broken)
    with pytest.raises(proof.RedactionError, match="what blanks pictures does not"):
        proof.prove_pixels()
    assert "what blanks pictures does not" in proof.why_broken()


@pytest.mark.parametrize("broken", [nothing_above, everybody_permitted, whoever_has_the_focus])
def test_geometry_that_shows_anothers_window_is_found(
    monkeypatch: pytest.MonkeyPatch, broken: Callable[..., View | None]
) -> None:
    """What lies above is forgotten, the list is, the focus counts alone."""
    monkeypatch.setattr(pixels, "permitted_view", broken)
    with pytest.raises(proof.RedactionError, match="what blanks pictures"):
        proof.prove_pixels()
