"""The icon and its menu: pystray, with its AppIndicator back end.

pystray rebuilds the whole menu on each change, which closes it under the pointer, and after
each click.  A panel may even go on showing the lines of the old one, and a click on them is
lost: the worst that can happen to somebody who wants a pause.  Here the menu is made once,
with the lines that it has in every state (`view`), and changed line by line.

Whether a panel really hosts the icon is the agent's to verify; here it is drawn, and active.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from base.errors import SetupError
from tray._gtk import GLib, Gtk, pystray
from tray.drawing import draw
from tray.view import Act, Line, Mark, View, view
from wire.ids import WallInstant

NAME: Final = "assent"


class Indicator:
    """Shows one view after another; tells which line was clicked, and when the menu is opened."""

    def __init__(self, folder: Path) -> None:
        """Prepare the icon; the pictures for the panel go to *folder*.

        Raises:
            SetupError: There is no session bus, so no panel can be asked to show an icon.

        """
        self._view = view(None, WallInstant(0))
        self._on_act: Callable[[Act], None] | None = None
        self._on_look: Callable[[], None] | None = None
        try:
            self._icon = _Icon(folder, pystray.Menu(self._items), self._restore)
        except (GLib.Error, OSError) as exc:
            raise SetupError(f"no icon can be shown, so nothing will be recorded: {exc}") from exc

    def start(self, on_act: Callable[[Act], None], on_look: Callable[[], None]) -> None:
        """Show the icon; *on_act* learns what is clicked, *on_look* that the menu is opened."""
        self._on_act = on_act
        self._on_look = on_look
        self._icon.on_look = on_look
        self._icon.wear(self._view.mark, self._view.tooltip)
        self._icon.run_detached(lambda _icon: None)
        self._icon.visible = True

    @property
    def drawn(self) -> bool:
        """Whether the icon is handed to the panel as one to be shown."""
        return bool(self._icon.visible and self._icon.active)

    def show(self, view: View) -> None:
        """Show *view*; an open menu stays open, and the same."""
        before, self._view = self._view, view
        self._icon.wear(view.mark, view.tooltip)
        self._icon.change(before, view)

    def _items(self) -> list[Any]:
        return [
            _item(line, self._clicked(place)) if isinstance(line, Line) else pystray.Menu.SEPARATOR
            for place, line in enumerate(self._view.lines)
        ]

    def _clicked(self, place: int) -> Callable[[], None]:
        def clicked() -> None:
            line = self._view.lines[place]
            if isinstance(line, Line) and line.act is not None and line.enabled and self._on_act:
                self._on_act(line.act)

        return clicked

    def _restore(self) -> None:
        """Show the true state again: Gtk toggles a check box by itself when it is clicked."""
        self._icon.change(None, self._view)


class _Icon(pystray.Icon):  # type: ignore[misc]  # pystray has no types
    """pystray's icon, without what is in our way.

    Left out: the menu made anew on each click, SIGINT reset, pictures under guessable names
    in /tmp, a D-Bus proxy for notifications that we do not send.  All calls come on the main
    loop's thread, so nothing is deferred to it.
    """

    def __init__(self, folder: Path, menu: Any, restore: Callable[[], None]) -> None:  # noqa: ANN401
        self._folder = folder
        self._restore = restore
        self._changing = False
        self._mark: Mark | None = None
        self.on_look: Callable[[], None] | None = None
        super().__init__(NAME, title="Assent", menu=menu)

    @property
    def active(self) -> bool:
        return bool(self._appindicator.get_status().value_nick == "active")

    def wear(self, mark: Mark, words: str) -> None:
        """Show the picture for *mark*, with *words* as tooltip; what is shown already stays."""
        if mark is not self._mark:
            self._mark = mark
            self.icon = draw(mark)
        self.title = words

    def change(self, before: View | None, now: View) -> None:
        """Change the lines of the menu that differ, in place; before None: look at all."""
        if self._menu_handle is None:
            return
        self._changing = True  # set_active() fires the item's click
        try:
            for place, child in enumerate(self._menu_handle.get_children()):
                line = now.lines[place]
                if isinstance(line, Line) and (before is None or before.lines[place] != line):
                    _dress(child, line)
        finally:
            self._changing = False

    def _initialize(self) -> None:
        self._mark_ready()

    def _finalize(self) -> None:
        pass

    def _handler(self, callback: Callable[[Any], None]) -> Callable[..., None]:
        def clicked(*_: object) -> None:
            if not self._changing:
                callback(self)
                GLib.idle_add(self._restore)

        return clicked

    def _show(self) -> None:
        self._update_icon()
        self._update_title()
        status = type(self._appindicator.get_status())
        self._appindicator.set_status(status.ACTIVE)

    def _hide(self) -> None:
        status = type(self._appindicator.get_status())
        self._appindicator.set_status(status.PASSIVE)

    def _update_icon(self) -> None:
        self._update_fs_icon()
        self._appindicator.set_icon_full(self._icon_path, "")  # the title says it all

    def _update_title(self) -> None:
        self._appindicator.set_title(self.title)

    def _update_menu(self) -> None:
        self._menu_handle = self._create_menu(self.menu)
        self._appindicator.set_menu(self._menu_handle)
        # A panel announces the menu on the bus (the root of what it was sent); without a
        # panel of that kind the library shows the Gtk menu itself.
        self._menu_handle.connect("show", self._looked_at)
        server = self._appindicator.get_property("dbus-menu-server")
        self._root = server.get_property("root-node") if server else None
        if self._root:
            self._root.connect("about-to-show", self._looked_at)

    def _looked_at(self, *_: object) -> bool:
        if self.on_look:
            self.on_look()
        return False

    def _update_fs_icon(self) -> None:
        self._icon_path = str(self._folder / f"{self._mark}.png")
        self.icon.save(self._icon_path, "PNG")
        self._icon_valid = True

    def _remove_fs_icon(self) -> None:
        """Keep it: the panel may still be reading, and the next one has the same five names."""


def _item(line: Line, clicked: Callable[[], None]) -> Any:  # noqa: ANN401 - pystray has no types
    checked = None if line.checked is None else lambda _item: bool(line.checked)
    return pystray.MenuItem(line.label, clicked, checked=checked, enabled=line.enabled)


def _dress(item: "Gtk.MenuItem", line: Line) -> None:
    if item.get_label() != line.label:
        item.set_label(line.label)
    item.set_sensitive(line.enabled)
    if line.checked is not None:
        item.set_active(line.checked)
