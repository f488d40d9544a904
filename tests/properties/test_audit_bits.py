"""One bit of an audit bundle is another one, anywhere: the audit says so.

Twice: as a copy that was damaged, and as a collector would do it that makes SHA256SUMS anew.
The second is the harder one: then only what the log commits to, and signatures, can tell.
"""

import hashlib
import random
from collections.abc import Callable
from pathlib import Path

import pytest

from base.errors import SetupError
from governance.audit.examine import Trusted, examine
from governance.audit.reading import Bundle
from tests.conftest import Size
from tests.fakes.audited import some_weeks
from wire import audit

BELIEVED = frozenset({audit.ERASED})
"""Which batches an erasure took is the collector's word: their salts are gone (decision 44)."""


@pytest.mark.soak
def test_every_single_bit_that_is_changed_is_caught(
    tmp_path: Path, size: Size, dice: random.Random, figure: Callable[[str], None]
) -> None:
    """Wherever it is: log, checkpoints, policies, consents, batches, tombstones, releases, sums."""
    made = some_weeks()
    made.is_witnessed()
    bundle, trusted = made.write(tmp_path / "bundle"), made.trusted()
    assert examine(Bundle.open(bundle), trusted).findings == []
    files = {path: path.read_bytes() for path in sorted(bundle.rglob("*")) if path.is_file()}
    everywhere = [(path, bit) for path, data in files.items() for bit in range(len(data) * 8)]
    tries = size(share=150, full=10_000)
    missed = [
        (path.name, bit, anew)
        for path, bit in places(files, everywhere, tries, dice)
        for anew in (False, True)
        if not (anew and path.relative_to(bundle).as_posix() in BELIEVED)
        and not caught(bundle, files, path, bit, trusted, anew=anew)
    ]
    assert missed == []
    figure(f"{tries} single bits changed, with SHA256SUMS as it was and made anew: 0 not caught")


def places(
    files: dict[Path, bytes], everywhere: list[tuple[Path, int]], tries: int, dice: random.Random
) -> list[tuple[Path, int]]:
    """Return bits to change: half of them from anywhere, half from any file, however small."""
    chosen = dice.choices(everywhere, k=tries // 2)
    for path in dice.choices([path for path, data in files.items() if data], k=tries - tries // 2):
        chosen.append((path, dice.randrange(len(files[path]) * 8)))
    return chosen


def caught(
    bundle: Path, files: dict[Path, bytes], path: Path, bit: int, trusted: Trusted, *, anew: bool
) -> bool:
    """Whether an audit finds this *bit* of *path* changed; everything is put back afterwards."""
    changed = bytearray(files[path])
    changed[bit // 8] ^= 1 << bit % 8
    path.write_bytes(changed)
    sums = bundle / audit.SUMS
    if anew and path != sums:
        name = path.relative_to(bundle).as_posix()
        named = audit.decode_sums(files[sums]) | {name: hashlib.sha256(changed).hexdigest()}
        sums.write_bytes(audit.encode_sums(named))
    try:
        return bool(examine(Bundle.open(bundle), trusted).findings)
    except SetupError:
        return True
    finally:
        path.write_bytes(files[path])
        sums.write_bytes(files[sums])
