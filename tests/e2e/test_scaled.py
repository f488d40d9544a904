"""Two collectors as packaging/scaled has them: behind its balancer, begun by its script.

PostgreSQL, Ceph RGW and nginx are real; an engine of containers is what is missing.
"""

import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import msgspec
import pytest

from base.door import DoorError, Response
from base.errors import ExitCode
from demo.organisation import Organisation, Plan, free_ports
from tests.fakes.buckets import Rented
from tests.fakes.ceph import Ceph
from tests.fakes.device import Device
from tests.fakes.pods import OPERATORS, SCALED, Balancer, Pod
from tests.fakes.postgres import Server
from wire.category import Category
from wire.collector_http import Enrolment
from wire.event import Key
from wire.frame import batch_hash
from wire.ids import BootInstant

pytestmark = pytest.mark.slow

AUTHORITY: Final = "ceph-ca.pem"
TRIES: Final = 20


@pytest.fixture(scope="module")
def acme(
    ceph: Ceph, postgres: Server, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Organisation]:
    """Found an organisation whose collector is scaled; its guard serves, its collectors do not."""
    rented = Rented.of(ceph)
    store = rented.toml(ceph.tls_endpoint) + f'authority = "{AUTHORITY}"\n'
    plan = Plan(
        levels={"keys": "text"},
        test_only=True,
        collector_words=("--index", postgres.new("template0")),
        collector_settings=f'{store}\n[operators]\nlisten = "{OPERATORS}"\n',
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delenv("XDG_RUNTIME_DIR", raising=False)
        organisation = Organisation(tmp_path_factory.mktemp("acme"), plan)
        config = organisation.collector.home / "config"
        organisation.found()
        rented.write_credentials(config / "store.credentials")
        shutil.copyfile(ceph.authority, config / AUTHORITY)
        try:
            organisation.guard.serve("serve")
            yield organisation
        finally:
            organisation.stop()


@pytest.fixture(scope="module")
def pods(acme: Organisation, tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Pod]]:
    """Run both replicas, and the balancer where devices and readers look for the collector."""
    config = acme.collector.home / "config"
    settings = msgspec.toml.decode((config / "config.toml").read_bytes())
    devices, readers = settings["listen"], settings["readers_listen"]
    pods: list[Pod] = []
    upstream: dict[str, str] = {}
    for number in (1, 2):
        own = [f"127.0.0.1:{port}" for port in free_ports(3)]
        addresses = dict(zip((devices, readers, OPERATORS), own, strict=True))
        pods.append(Pod(tmp_path_factory.mktemp(f"pod-{number}"), config, addresses))
        upstream |= {f"collector-{number}:8443": own[0], f"collector-{number}:8445": own[1]}
    listens = {"listen 8443": f"listen {devices}", "listen 8445": f"listen {readers}"}
    balancer = Balancer(tmp_path_factory.mktemp("balancer"), upstream | listens)
    try:
        for pod in pods:
            pod.starts()
        balancer.starts()
        yield pods
    finally:
        balancer.stops()
        for pod in pods:
            pod.stop()


@pytest.fixture(scope="module")
def device(acme: Organisation, pods: list[Pod]) -> Device:
    assert pods
    enrolment = msgspec.json.decode(acme.enrolment_file("ann").read_bytes(), type=Enrolment)
    return Device(acme.folder / "ann", enrolment).enrol()


@pytest.fixture
def frames(device: Device) -> list[bytes]:
    """Return sealed batches that were not sent yet."""
    consent, guard_key = device.agree(Category.KEYS), device.guard_key(Category.KEYS)
    key = Key(at=BootInstant(1), sequence=1, pressed=True, kind="letter", text="a")
    return [device.seal(consent, guard_key, key) for _ in range(6)]


def handed_in(device: Device, frame: bytes) -> Response:
    """Hand it in, again and again, as an agent does when the line breaks."""
    for _ in range(TRIES):
        try:
            answer = device.door.request("PUT", f"/v1/batches/{batch_hash(frame).hex()}", frame)
        except DoorError:
            continue
        if answer.status in {200, 201}:
            return answer
    raise AssertionError("no collector took the batch")


def test_when_one_of_two_is_killed_the_other_goes_on_and_a_reader_gets_all(
    acme: Organisation, pods: list[Pod], device: Device, frames: list[bytes]
) -> None:
    """Every receipt holds at the one that is left; and the killed one comes back empty-handed."""
    receipts = [handed_in(device, frame).body for frame in frames[:3]]
    pods[0].stop(signal.SIGKILL)
    receipts += [handed_in(device, frame).body for frame in frames[3:]]
    assert [handed_in(device, frame).body for frame in frames] == receipts
    tally = acme.reader.facts("fetch", "--grant", acme.access_grant("keys"))
    assert tally["released"] == len(frames)
    assert acme.reader.facts("verify")["faults"] == {}
    pods[0].starts()
    pods[1].stop()
    assert [handed_in(device, frame).body for frame in frames] == receipts
    pods[1].starts()


def test_a_stop_that_is_said_in_one_of_them_holds_in_both(
    pods: list[Pod], device: Device, frames: list[bytes]
) -> None:
    """As `kubectl exec` would say it."""
    name = batch_hash(frames[0]).hex()
    pods[0].run("stop", "the store is moved")
    try:
        for pod in pods:
            assert pod.probes("livenessProbe")
        refused = [device.door.request("PUT", f"/v1/batches/{name}", frames[0]) for _ in range(4)]
        assert {answer.status for answer in refused} == {503}
    finally:
        pods[1].run("go-on")
    assert handed_in(device, frames[0]).status == 201


def test_what_was_mounted_is_copied_to_where_it_is_the_collector_s_alone(pods: list[Pod]) -> None:
    """Keys, too; and nothing of it lies anywhere else in the volume."""
    config = Path(pods[0].env["ASSENT_HOME"]) / "config"
    for path in (config, *config.rglob("*")):
        assert path.stat().st_mode & 0o077 == 0, path
        assert not path.is_symlink()
    assert (config / "guard" / "client.key").is_file()


def test_without_files_it_says_what_is_missing(tmp_path: Path) -> None:
    """One line, and the code of a mistake in what was set up."""
    own = {"ASSENT_HOME": str(tmp_path / "home"), "ASSENT_FILES": str(tmp_path / "none")}
    command = ["/bin/sh", str(SCALED / "start.sh"), "assent-collector", "serve"]
    ran = subprocess.run(command, env=own, capture_output=True, text=True, check=False)
    assert ran.returncode == ExitCode.SETUP
    assert "no config.toml" in ran.stderr
    assert len(ran.stderr.splitlines()) == 1
