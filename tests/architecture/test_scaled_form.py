"""packaging/scaled: files that engines take, and that agree with the program and each other."""

import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest

from collector.config import Config
from tests.fakes.pods import OPERATORS, SCALED, container, manifest, manifests

COMPOSE: Final[Any] = msgspec.yaml.decode((SCALED / "compose.yaml").read_bytes())
DOCKERFILE: Final = (SCALED / "Containerfile").read_text("utf-8")
GUIDE: Final = (SCALED.parents[1] / "docs" / "guides" / "scaled.md").read_text("utf-8")
KUBERNETES: Final = ("1.30", "1.37")  # the oldest that the schemas know whole, and the newest


def run(program: str, *words: str | Path) -> "subprocess.CompletedProcess[str]":
    command = [str(Path(sys.executable).parent / program), *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False)


def collectors() -> list[Any]:
    return [each for name, each in COMPOSE["services"].items() if name.startswith("collector-")]


def test_the_compose_file_is_one() -> None:
    """By the schema of compose-spec; and the schema would notice."""
    check = ("--builtin-schema", "vendor.compose-spec")
    assert run("check-jsonschema", *check, SCALED / "compose.yaml").returncode == 0


def test_a_mistake_in_the_compose_file_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "compose.yaml"
    text = (SCALED / "compose.yaml").read_text("utf-8")
    wrong.write_text(text.replace("read_only: true", "readonly: true"), "utf-8")
    check = ("--builtin-schema", "vendor.compose-spec")
    assert run("check-jsonschema", *check, wrong).returncode == 1


@pytest.mark.parametrize("version", KUBERNETES)
def test_every_manifest_is_one(version: str) -> None:
    """Strictly: a key that Kubernetes does not know is an error."""
    ran = run("kubernetes-validate", "--strict", "-k", version, SCALED / "kubernetes.yaml")
    assert ran.returncode == 0, ran.stdout
    assert len(manifests()) == 6


def test_a_mistake_in_a_manifest_would_be_noticed(tmp_path: Path) -> None:
    wrong = tmp_path / "kubernetes.yaml"
    text = (SCALED / "kubernetes.yaml").read_text("utf-8")
    wrong.write_text(text.replace("runAsNonRoot: true", "runAsNonroot: true"), "utf-8")
    assert run("kubernetes-validate", "--strict", wrong).returncode != 0


def test_a_collector_runs_without_any_right_that_it_does_not_need() -> None:
    """As nobody, on a file system that nobody writes to; in both forms."""
    pod = manifest("Deployment")["spec"]["template"]["spec"]
    own = container()["securityContext"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["automountServiceAccountToken"] is False
    assert own["readOnlyRootFilesystem"]
    assert own["allowPrivilegeEscalation"] is False
    assert own["capabilities"] == {"drop": ["ALL"]}
    user = pod["securityContext"]["runAsUser"]
    assert f"USER {user}:{user}" in DOCKERFILE
    for each in collectors():
        assert each["read_only"]
        assert each["cap_drop"] == ["ALL"]
        assert f"uid={user}" in each["tmpfs"][0]


def test_no_secret_stands_in_these_files() -> None:
    """They are mounted; what names one is a name."""
    assert "Secret" not in {each["kind"] for each in manifests()}
    assert {v["secret"]["secretName"] for v in volumes().values() if "secret" in v} == {
        "assent-collector-config",
        "assent-collector-guard",
    }
    assert "POSTGRES_PASSWORD" not in COMPOSE["services"]["database"]["environment"]


def volumes() -> dict[str, Any]:
    """Return the volumes of a pod by their names."""
    found = manifest("Deployment")["spec"]["template"]["spec"]["volumes"]
    return {each["name"]: each for each in found}


def test_keys_are_copied_into_memory_alone() -> None:
    """Never onto a node's disk."""
    assert volumes()["home"]["emptyDir"]["medium"] == "Memory"
    for each in collectors():
        assert each["tmpfs"][0].startswith("/srv/assent:")


def test_nobody_but_devices_and_readers_reaches_a_collector() -> None:
    """Operators ask inside of it; and what is told apart by listeners stays apart."""
    ports = {each["name"]: each["containerPort"] for each in container()["ports"]}
    assert ports == {"devices": 8443, "readers": 8445}
    (rule,) = manifest("NetworkPolicy")["spec"]["ingress"]
    assert {each["port"] for each in rule["ports"]} == set(ports)
    assert [p["targetPort"] for p in manifest("Service")["spec"]["ports"]] == ["devices"]
    published = COMPOSE["services"]["balancer"]["ports"]
    assert published == [f"{port}:{port}" for port in ports.values()]
    assert all("ports" not in each for each in collectors())
    assert COMPOSE["networks"]["inside"] == {"internal": True}


def test_the_guard_is_not_run_by_whoever_runs_the_collector() -> None:
    assert not [name for name in COMPOSE["services"] if "guard" in name]
    assert container()["args"] == ["assent-collector", "serve"]
    assert 'CMD ["assent-collector", "serve"]' in DOCKERFILE


def test_the_guide_s_configuration_is_one_and_fits_these_files() -> None:
    """Ports, folders and names: what somebody copies from there works with what is here."""
    (block,) = GUIDE.split("```toml\n")[1:]
    config = msgspec.toml.decode(block.partition("```")[0], type=Config)
    config.check_addresses()
    assert (config.listen, config.readers_listen) == ("0.0.0.0:8443", "0.0.0.0:8445")
    assert config.operators.listen == OPERATORS
    home = {each["name"]: each["value"] for each in container()["env"]}["ASSENT_HOME"]
    assert f"passfile={home}/config/" in config.index.url
    assert "@database/" in config.index.url
    assert config.store.kind == "s3"
