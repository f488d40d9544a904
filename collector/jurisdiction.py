"""Under which law a device is: given with its token, kept in its row, judged by what is served.

A token's jurisdiction is kept beside its hash and stands in no file, so nobody who was handed
an enrolment file can choose another.  Served is what the policy in force names and, where
config.toml names some, what that names, too: so a policy that takes one off the list stops the
devices there with their next batch, while what data subjects there demand is still carried out.
"""

from collections.abc import Iterable

from sqlalchemy import Connection, update

from base.errors import SetupError
from collector import policies
from collector.index.tables import devices
from collector.refusal import RefusedError, Why
from wire.ids import DeviceId
from wire.policy import Policy


def served(policy: Policy | None, ours: Iterable[str]) -> frozenset[str]:
    """Return the jurisdictions of *policy* that config.toml does not leave out; none of none."""
    named = frozenset(policy.jurisdictions if policy is not None else ())
    only = frozenset(ours)
    return named & only if only else named


def served_now(connection: Connection, ours: Iterable[str]) -> frozenset[str]:
    """Return those that are served under the policy in force."""
    return served(policies.newest(connection), ours)


def check_served(jurisdiction: str, these: frozenset[str]) -> None:
    """Check that a device of *jurisdiction* may hand in here.

    Raises:
        RefusedError: Nobody has said where it is, or not one of *these*.

    """
    if jurisdiction in these:
        return
    if not jurisdiction:
        line = "nobody has said in which jurisdiction this device is; ask who runs the collector"
        raise RefusedError(Why.NOT_THIS_JURISDICTION, line)
    raise RefusedError(
        Why.NOT_THIS_JURISDICTION,
        f"this device is enrolled for {jurisdiction}, which the policy in force or this collector "
        "does not name; nothing of it is taken",
    )


def chosen(asked: str, these: frozenset[str]) -> str:
    """Return the jurisdiction for a token: the one asked for, or the only one there is.

    Raises:
        SetupError: It is not one of *these*, or which of several was not said.

    """
    listed = ", ".join(sorted(these)) or "none"
    if asked and asked not in these:
        raise SetupError(f"{asked} is not served here ({listed}); nobody there can enroll")
    if not asked and len(these) != 1:
        raise SetupError(f"say in which jurisdiction the device is: --jurisdiction, of {listed}")
    return asked or next(iter(these))


def place(connection: Connection, device: DeviceId, jurisdiction: str) -> None:
    """Note that *device* is in *jurisdiction* from now on."""
    connection.execute(
        update(devices).where(devices.c.device == device).values(jurisdiction=jurisdiction)
    )
