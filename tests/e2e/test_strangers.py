"""People without a line of our code open what was released to them."""

import hashlib
import json
import shutil
import subprocess
from pathlib import Path

import msgspec
import pytest
from backports import zstd
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from wire.frame import verify
from wire.shelf import unshelve

HERE = Path(__file__).parent
INTEROP = HERE.parents[1] / "build/interop"


def open_with_npm_age(folder: Path, identity: str, joined: bytes) -> bytes:
    """Return what npm's age-encryption makes of an age file."""
    assert (INTEROP / "node_modules").is_dir(), "run `make setup` first"
    shutil.copy(HERE / "interop/open.mjs", INTEROP / "open.mjs")
    (folder / "identity.txt").write_text(identity + "\n")
    (folder / "joined.age").write_bytes(joined)
    ran = subprocess.run(
        ["node", "open.mjs", folder / "identity.txt", folder / "joined.age"],
        cwd=INTEROP,
        capture_output=True,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return ran.stdout


@pytest.mark.slow
def test_stock_age_zstd_and_msgpack_read_a_released_frame(tmp_path: Path) -> None:
    """After the guard's release: npm's age, any zstd, any msgpack, and the trailer's hash."""
    vector = json.loads((HERE.parent / "vectors/frame/good.json").read_text())
    device = Ed25519PublicKey.from_public_bytes(bytes.fromhex(vector["device"]))
    verified = verify(bytes.fromhex(vector["frame"]), device)
    guard_seed = bytes.fromhex(vector["guard_seed"])
    age_header = unshelve(verified.parts.shelf, guard_seed, verified.core_hash)

    joined = age_header + verified.parts.body
    plaintext = open_with_npm_age(tmp_path, vector["reader"], joined)

    opening, press = msgspec.msgpack.decode(zstd.decompress(plaintext))
    assert opening[:2] == ["opening", verified.core_hash]
    assert press[0] == "key"
    check_signed(joined, bytes.fromhex(vector["frame"]), device)


def check_signed(joined: bytes, frame: bytes, device: Ed25519PublicKey) -> None:
    """What they opened is what the device signed: the trailer covers these very bytes."""
    at = joined.index(b"\n--- ") + 1  # the last line of an age header
    body = joined[joined.index(b"\n", at) + 1 :]
    verified = verify(frame, device)
    device.verify(
        verified.parts.signature,
        b"assent/frame/v1\0\x01"
        + verified.sequence.to_bytes(8, "big")
        + verified.core_hash
        + hashlib.sha256(verified.parts.shelf).digest()
        + hashlib.sha256(body).digest(),
    )
