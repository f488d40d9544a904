"""Containers without an engine: what packaging/scaled says is run, as processes of this machine.

A pod gets its files as Kubernetes mounts a Secret (links of root's, readable for a group), and
its command, its variables and its probes from the manifest.  What an engine would do besides
stays untried: images, limits, networks.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import msgspec

from demo.programs import Program

SCALED: Final = Path(__file__).parents[2] / "packaging" / "scaled"
NGINX: Final = shutil.which("nginx", path=f"/usr/sbin:{os.environ['PATH']}")
STREAM: Final = "/usr/lib/nginx/modules/ngx_stream_module.so"
OPERATORS: Final = "127.0.0.1:9464"  # in every pod; here each has a port of its own


def manifests() -> list[Any]:
    """Return what kubernetes.yaml holds."""
    text = (SCALED / "kubernetes.yaml").read_text("utf-8")
    return [msgspec.yaml.decode(each) for each in text.split("\n---\n")]


def manifest(kind: str, name: str = "assent-collector") -> Any:  # noqa: ANN401 - YAML
    """Return the one object of this kind and name."""
    (found,) = (m for m in manifests() if (m["kind"], m["metadata"]["name"]) == (kind, name))
    return found


def container() -> Any:  # noqa: ANN401 - YAML
    """Return the collector's container."""
    (found,) = manifest("Deployment")["spec"]["template"]["spec"]["containers"]
    return found


def mounted(files: dict[str, bytes], folder: Path) -> None:
    """Put *files* into *folder* as the kubelet does with a Secret."""
    real = folder / "..2026_11_27"
    real.mkdir(parents=True)
    (folder / "..data").symlink_to(real.name)
    for name, data in files.items():
        (real / name).write_bytes(data)
        (real / name).chmod(0o440)
        (folder / name).symlink_to(f"..data/{name}")


def files_in(folder: Path) -> dict[str, bytes]:
    """Return the files of one folder, as `kubectl create secret --from-file` takes them."""
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def replaced(text: str, words: dict[str, str]) -> str:
    """Return *text* with each of *words*, which stands in it once, replaced."""
    for before, now in words.items():
        assert text.count(before) == 1, before
        text = text.replace(before, now)
    return text


class Pod(Program):
    """One replica below *folder*, listening on ports of its own."""

    def __init__(self, folder: Path, config: Path, addresses: dict[str, str]) -> None:
        """Mount the files of *config*, each of its *addresses* replaced by one of its own."""
        super().__init__("collector", folder)
        files = files_in(config)
        files["config.toml"] = replaced(
            files["config.toml"].decode("utf-8"),
            {f'listen = "{old}"': f'listen = "{new}"' for old, new in addresses.items()},
        ).encode("utf-8")
        mounted(files, folder / "files" / "config")
        mounted(files_in(config / "guard"), folder / "files" / "guard")
        self.operators = addresses[OPERATORS]
        volume = folder / "volume"  # an emptyDir, which everybody may write to
        volume.mkdir()
        volume.chmod(0o2777)
        said = {each["name"]: each["value"] for each in container()["env"]}
        own = {"ASSENT_HOME": str(volume / "home"), "ASSENT_FILES": str(folder / "files")}
        assert own.keys() == said.keys() - {"ASSENT_ALONE"}
        programs = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
        self.env |= {**said, **own, "PATH": programs}

    def starts(self) -> None:
        """Start it as its image does, and wait until it is ready by its own probe."""
        self.serve()
        self.wait_until("readiness", lambda: self.probes("readinessProbe"))

    def probes(self, probe: str) -> bool:
        """Return what the kubelet would find."""
        python, *rest = container()[probe]["exec"]["command"]
        assert python == "/usr/lib/assent-servers/bin/python3"
        command = [word.replace(OPERATORS, self.operators) for word in rest]
        ran = subprocess.run([sys.executable, *command], capture_output=True, check=False)
        return ran.returncode == 0

    def _command(self, words: tuple[str | Path, ...]) -> list[str]:
        if words:  # `kubectl exec`
            return super()._command(words)
        return ["/bin/sh", str(SCALED / "start.sh"), *container()["args"]]


class Balancer:
    """The nginx of balancer.conf, on loopback."""

    def __init__(self, folder: Path, addresses: dict[str, str]) -> None:
        """Put *addresses* in the place of those that the file names."""
        assert NGINX is not None, "nginx is missing: packaging/setup/setup.sh nginx"
        text = (SCALED / "balancer.conf").read_text("utf-8")
        own = {"pid /tmp": f"pid {folder}"}
        path = folder / "balancer.conf"
        path.write_text(replaced(text, addresses | own), "utf-8")
        words = ["-e", "stderr", "-g", f"load_module {STREAM}; daemon off;", "-c", str(path)]
        self._command = ["setpriv", "--pdeathsig", "TERM", "--", NGINX, *words]
        self._running: subprocess.Popen[bytes] | None = None

    def starts(self) -> None:
        """Listen."""
        self._running = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)

    def stops(self) -> None:
        """Listen no more."""
        if self._running is not None:
            self._running.terminate()
            self._running.wait(20)
