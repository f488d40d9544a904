"""What the data subject runs: it records under consent, redacts, seals and delivers.

The listing is the flow: an event meets capture, consent, redact, roll, seal, spool, upload
and transport in this order.  Start with `pipeline`.
"""
