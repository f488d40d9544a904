"""A second collector beside the first: the same keys, database and batches, another machine."""

import contextlib
import dataclasses
import shutil
from collections.abc import Iterator
from pathlib import Path

from base.paths import Paths
from base.serving import Listener
from collector.assembly import Collector
from collector.premises import Premises
from tests.fakes.site import Site, Workstation


@dataclasses.dataclass(kw_only=True)
class Beside(Site):
    """What runs at the same origin behind the same name, and is reached at its own port here."""

    address: str

    @property
    def origin(self) -> str:
        return self.address

    def talks_to(self, workstation: Workstation) -> Workstation:
        """Return *workstation* as one whose requests come here."""
        return dataclasses.replace(workstation, door=self.door(*workstation.files))


@contextlib.contextmanager
def beside(site: Site, folder: Path) -> Iterator[Beside]:
    """Run another collector with copies of the configuration; only the batches are shared."""
    premises = Premises(
        Paths(
            config=folder / "config",
            state=folder / "state",
            logs=folder / "logs",
            runtime=folder / "run",
        )
    )
    premises.paths.make()
    shutil.copytree(site.premises.paths.config, premises.paths.config, dirs_exist_ok=True)
    premises.objects.symlink_to(site.premises.objects)
    listener = Listener("127.0.0.1", 0)
    shared = {
        field.name: getattr(site, field.name)
        for field in dataclasses.fields(Site)
        if field.name not in {"premises", "collector", "doors", "serving"}
    }
    other = Beside(
        **shared,
        premises=premises,
        collector=Collector.open(premises, site.clock),
        address=f"https://127.0.0.1:{listener.port}",
    )
    other.serve(listener)
    try:
        yield other
    finally:
        for door in other.doors:
            door.close()
        other.stop()
