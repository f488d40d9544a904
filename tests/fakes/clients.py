"""How many connections a process has to an X server, as the server sees it.

All clients together are no measure: one that has just gone may still be counted.
"""

from Xlib.display import Display
from Xlib.ext import res


def clients_of(display: Display, pid: int) -> int:
    """Return how many clients of *display* belong to process *pid*, on this machine."""
    everyone = {"client": 0, "mask": res.LocalClientPIDMask}
    return sum(pid in found.value for found in display.res_query_client_ids([everyone]).ids)
