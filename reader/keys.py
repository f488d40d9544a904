"""The reader's keys: one identity that opens, one key that says who calls.

Losing the identity loses what was released to it; it is never made twice.
"""

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from base.durable import replace
from base.errors import SetupError
from base.pki import private_pem, signing_request
from reader.premises import Premises, Settings, check_name, write_settings
from wire.sealing import new_identity, recipient_of


def make_keys(premises: Premises, name: str) -> str:
    """Make identity, client key and signing request; return the recipient (age1pq...).

    Raises:
        SetupError: There are keys already, or the name cannot stand in a certificate.

    """
    check_name(name)
    if premises.settings_file.exists():
        raise SetupError(f"{premises.settings_file} exists; this reader has its keys already")
    premises.paths.make()
    identity, client = new_identity(), Ed25519PrivateKey.generate()
    recipient = recipient_of(identity)
    replace(premises.identity_file, f"{identity}\n".encode("ascii"))
    replace(premises.recipient_file, f"{recipient}\n".encode("ascii"), mode=0o644)
    replace(premises.client_key, private_pem(client))
    replace(premises.request_file, signing_request(client), mode=0o644)
    # Last, because its presence says that all the rest is there: after a crash before this
    # line keygen may be run again, and nobody has been given the recipient yet.
    write_settings(premises, Settings(name=name))
    return recipient
