"""The audit, offline: what a bundle (`wire.audit`) shows, judged without believing who made it.

Start with `examine`, which is the whole order; `findings` has every rule that can be broken.
The rules of consent, policy and access are written here once more, from the formats alone: an
audit that ran the collector's code would share its mistakes.
"""
