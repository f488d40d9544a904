"""`python -m fuzz CAMPAIGN --count 50000 --seed 7`: one campaign on all processors.

What was found is printed with the bytes that show it; the exit code is 1 then.
"""

import argparse
import sys
from typing import Final

from fuzz import fuzz_files, fuzz_frames, fuzz_http, fuzz_messages, fuzz_policies, fuzz_wire
from fuzz.campaign import Campaign, spread

CAMPAIGNS: Final[dict[str, Campaign]] = {
    "wire": fuzz_wire.campaign,
    "outsider": fuzz_frames.outsider,
    "insider": fuzz_frames.insider,
    "messages": fuzz_messages.campaign,
    "files": fuzz_files.campaign,
    "policies": fuzz_policies.campaign,
    "collector": fuzz_http.collector,
    "guard": fuzz_http.guard,
}


def main() -> int:
    """Run one campaign; return the exit code."""
    parser = argparse.ArgumentParser(prog="python -m fuzz", description=(__doc__ or ""))
    parser.add_argument("campaign", choices=CAMPAIGNS)
    parser.add_argument("--count", type=int, default=50_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args()
    tally = spread(CAMPAIGNS[given.campaign], given.count, given.seed)
    for line in tally.lines():
        sys.stdout.write(f"{line}\n")
    sys.stdout.write(
        f"{given.campaign}, seed {given.seed}: {given.count} inputs, "
        f"{tally.accepted} accepted, {tally.crashes} crashes\n"
    )
    return 1 if tally.accepted or tally.crashes else 0


if __name__ == "__main__":
    raise SystemExit(main())
