"""All that can be asked of a collector: one table, and the applications made from it.

`ROUTES` is the one source of what a listener serves, of the OpenAPI document, and of what the
tests try.  What each request means stands in docs/spec/collector-http-v1.md.
"""

from collections.abc import Collection
from typing import Final

from starlette.applications import Starlette
from starlette.middleware import Middleware

from base.api import Door, Media, Query
from base.places import Places
from collector.assembly import Collector
from collector.drill.muted import Muted
from collector.refusal import Why
from collector.serving.allowance import Allowances, Asks
from collector.serving.endpoints import (
    delete_batch,
    get_checkpoint,
    get_consistency,
    get_guard_key,
    get_policy,
    get_rights,
    get_state,
    get_tile,
    get_witnessed,
    post_consent_events,
    post_consents,
    post_enroll,
    post_frame,
    post_frames,
    post_releases,
    post_renew,
    post_rights,
    post_terms,
    put_batch,
)
from collector.serving.personal import (
    of_person,
    post_accesses,
    post_batches,
    post_deletions,
    post_own_frame,
    post_return,
)
from collector.serving.reached import (
    BODIES,
    REFUSING,
    Groups,
    Running,
    Versioned,
    answering,
    open_to_all,
)
from collector.serving.routes import (
    ANYBODY,
    BOTH,
    CATEGORY,
    DEVICE,
    NUMBER,
    OF_GRANTS,
    PERSONAL,
    READER,
    STILL,
    row,
)
from wire.collector_http import (
    Carried,
    Certified,
    Consistency,
    Deleted,
    EnrolRequest,
    FrameList,
    FrameOrder,
    Logged,
    ReleaseList,
    ReleaseOrder,
    RenewRequest,
    ShownGrant,
    State,
    Terms,
)
from wire.consent_event import SignedEvent
from wire.grant import SignedConsent
from wire.guard_http import KeyAnswer
from wire.me import SignedQuery, SignedReturn
from wire.me_answers import OwnAccesses, OwnBatches, OwnDeletions, Returned
from wire.receipt import Receipt
from wire.rights import Requests, SignedRequest

_NOES: Final = Asks.NOES


# --- the table --------------------------------------------------------------------------

ROUTES: Final = (
    row(
        "POST /v1/enroll",
        open_to_all(post_enroll),
        ANYBODY,
        "Enrol a device with a one-time token; the same token and key again: a new certificate",
        takes=EnrolRequest,
        gives={201: Certified, 200: Certified},
        refuses=(*STILL, Why.TOO_MANY, Why.TOKEN_REFUSED, Why.NOT_THIS_JURISDICTION, Why.REVOKED),
    ),
    row(
        "POST /v1/renew",
        open_to_all(post_renew),
        ANYBODY,
        "Certify a device again, whose key the signing request proves",
        takes=RenewRequest,
        gives=Certified,
        refuses=(Why.TOO_MANY, Why.UNKNOWN_CLIENT, Why.REVOKED, Why.ABSENT_TOO_LONG),
    ),
    row(
        "POST /v1/rights",
        open_to_all(post_rights, Asks.DEMANDS),
        ANYBODY,
        "Carry out what a data subject demands; also during a halt",
        takes=SignedRequest,
        gives=Carried,
        refuses=(
            Why.TOO_MANY,
            Why.FORGED,
            Why.NOT_THIS_SUBJECT,
            Why.MALFORMED,
            Why.NOT_FOUND,
            Why.REVOKED,
        ),
    ),
    row(
        "GET /v1/rights",
        answering(get_rights, _NOES),
        DEVICE,
        "What was demanded elsewhere for the data subjects of this device",
        gives=Requests,
    ),
    row(
        "POST /v1/me/batches",
        of_person(post_batches),
        ANYBODY,
        "The next of a data subject's own batches, each with its proof",
        takes=SignedQuery,
        gives=OwnBatches,
        refuses=PERSONAL,
    ),
    row(
        "POST /v1/me/deletions",
        of_person(post_deletions),
        ANYBODY,
        "What a data subject demanded, and the next of their batches that are gone",
        takes=SignedQuery,
        gives=OwnDeletions,
        refuses=PERSONAL,
    ),
    row(
        "POST /v1/me/accesses",
        of_person(post_accesses),
        ANYBODY,
        "The next releases of a data subject's own batches: who, when, why, approved by whom",
        takes=SignedQuery,
        gives=OwnAccesses,
        refuses=PERSONAL,
    ),
    row(
        "POST /v1/me/frames/{batch}",
        of_person(post_own_frame),
        ANYBODY,
        "A data subject's own sealed frame, for the rights key itself",
        takes=SignedQuery,
        gives=Media.BYTES,
        refuses=(*PERSONAL, Why.NOT_THIS_DEVICE, Why.ERASED),
    ),
    row(
        "POST /v1/me/return",
        of_person(post_return),
        ANYBODY,
        "Have own batches logged and given back, on the rights key's order; also during a halt",
        takes=SignedReturn,
        gives=Returned,
        refuses=(*PERSONAL, Why.ERASED, Why.GUARD_UNREACHABLE, Why.WITNESSES_MISSING),
    ),
    row(
        "GET /v1/state",
        open_to_all(get_state, None),
        ANYBODY,
        "Whether the programme stands still, and why",
        gives=State,
    ),
    row(
        "GET /v1/policy/{name}",
        answering(get_policy),
        BOTH,
        "A file of the policy's TUF repository",
        gives=Media.JSON,
    ),
    row(
        "GET /v1/log/checkpoint",
        answering(get_checkpoint),
        BOTH,
        "The log's signed head",
        gives=Media.TEXT,
    ),
    row(
        "GET /v1/log/witnessed",
        answering(get_witnessed),
        BOTH,
        "The newest head of the log that a witness cosigned",
        gives=Media.TEXT,
        refuses=(Why.NOT_FOUND,),
    ),
    row(
        "GET /v1/log/tile/{tile}",
        answering(get_tile),
        BOTH,
        "A tile of the log, or a bundle of its entries (C2SP tlog-tiles)",
        gives=Media.BYTES,
    ),
    row(
        "GET /v1/log/consistency",
        answering(get_consistency),
        BOTH,
        "That the log of one size is a prefix of the log of another",
        query=(
            Query(name="old", says="the smaller size", pattern=NUMBER, required=True),
            Query(name="new", says="the larger size", pattern=NUMBER, required=True),
        ),
        gives=Consistency,
    ),
    row(
        "POST /v1/consents",
        answering(post_consents),
        DEVICE,
        "Hand in a signed consent record",
        takes=SignedConsent,
        gives={201: Logged, 200: Logged},
        refuses=(
            *(*STILL, Why.FORGED, Why.MALFORMED, Why.POLICY_UNKNOWN, Why.NOT_THIS_DEVICE),
            *(Why.NOT_THIS_SUBJECT, Why.NOT_THIS_PROGRAMME, Why.CATEGORY_REFUSED),
            *(Why.CONSENT_MISMATCH, Why.ERASED),
        ),
    ),
    row(
        "POST /v1/consent-events",
        answering(post_consent_events, _NOES),
        DEVICE,
        "Say what became of a consent; also during a halt",
        takes=SignedEvent,
        gives={201: Logged, 200: Logged},
        refuses=(Why.FORGED, Why.MALFORMED, Why.CONSENT_UNKNOWN),
    ),
    row(
        "GET /v1/guard-key",
        answering(get_guard_key),
        DEVICE,
        "The guard's key for this data subject, a category and a month, as the guard signed it",
        query=(
            Query(name="category", says="of what", choices=CATEGORY, required=True),
            Query(name="month", says="the last, this or the next, as in 2027-03", required=True),
        ),
        gives=KeyAnswer,
        refuses=(Why.MONTH_REFUSED, Why.CONSENT_UNKNOWN, Why.ERASED, Why.GUARD_UNREACHABLE),
    ),
    row(
        "PUT /v1/batches/{batch}",
        put_batch,
        DEVICE,
        "Hand in a sealed batch under the SHA-256 of its frame",
        takes=Media.BYTES,
        gives={201: Receipt, 200: Receipt},
        refuses=(
            *(*STILL, Why.UNDRILLED, Why.ERASED, Why.WRONG_HASH, Why.MALFORMED, Why.FORGED),
            *(Why.VERSION_UNKNOWN, Why.NOT_THIS_ORIGIN, Why.NOT_THIS_TENANT, Why.NOT_THIS_DEVICE),
            *(Why.POLICY_UNKNOWN, Why.NOT_THIS_PROGRAMME, Why.NOT_THIS_SUBJECT, Why.EXPIRED),
            *(Why.CATEGORY_REFUSED, Why.CONSENT_UNKNOWN, Why.CONSENT_MISMATCH),
            *(Why.NOT_THIS_JURISDICTION, Why.GUARD_KEY_UNKNOWN, Why.KEPT_TOO_LONG),
            *(Why.OUTSIDE_CONSENT, Why.POLICY_NOT_IN_FORCE),
        ),
    ),
    row(
        "DELETE /v1/batches/{batch}",
        answering(delete_batch, _NOES),
        DEVICE,
        "Take back a batch of this device, now or when it comes",
        gives=Deleted,
    ),
    row(
        "POST /v1/frames",
        answering(post_frames),
        READER,
        "The next frames that a grant covers, in the order of their leaves",
        takes=FrameOrder,
        gives=FrameList,
        refuses=OF_GRANTS,
    ),
    row(
        "POST /v1/frames/{batch}",
        answering(post_frame),
        READER,
        "A sealed frame that a grant covers",
        takes=ShownGrant,
        gives=Media.BYTES,
        refuses=(*OF_GRANTS, Why.NOT_COVERED, Why.NOT_YET, Why.ERASED),
    ),
    row(
        "POST /v1/frames/{batch}/terms",
        answering(post_terms),
        READER,
        "What a frame was recorded under: the consent record as its device signed it, and policies",
        takes=ShownGrant,
        gives=Terms,
        refuses=(*OF_GRANTS, Why.NOT_COVERED, Why.NOT_YET, Why.ERASED),
    ),
    row(
        "POST /v1/releases",
        answering(post_releases),
        READER,
        "Have releases logged and witnessed, which the guard wants to see",
        takes=ReleaseOrder,
        gives=ReleaseList,
        refuses=(
            *(*OF_GRANTS, Why.NOT_COVERED, Why.NOT_YET, Why.NOT_FOUND, Why.ERASED),
            Why.GUARD_UNREACHABLE,
            Why.WITNESSES_MISSING,
        ),
    ),
)

EVERY_DOOR: Final = frozenset({Door.DEVICES, Door.READERS})


def build(collector: Collector, doors: Collection[Door] = EVERY_DOOR) -> Starlette:
    """Return the application of *collector* for whoever comes to *doors*."""
    limits = collector.config.limits
    rows = [each for each in ROUTES if set(each.doors) & set(doors)]
    rows.sort(key=lambda each: each.method != "PUT")  # they are tried in turn: uploads first
    app = Starlette(
        routes=[each.route() for each in rows],
        middleware=[
            Middleware(Versioned),
            Middleware(Muted, index=collector.index, now=collector.now),
        ],
        exception_handlers=REFUSING,
    )
    groups = Groups.of(collector.receiver)
    collector.closing.callback(groups.close)
    app.router.redirect_slashes = False  # our clients refuse redirects, rightly
    app.state.running = Running(
        collector=collector,
        allowances=Allowances(limits=limits, now=lambda: collector.clock.now().boot),
        uploads=Places(limits.uploads),
        bodies=Places(BODIES),
        groups=groups,
    )
    return app
