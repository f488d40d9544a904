"""The formats that the programs share: shapes, encodings, sealing, verification.

Nothing here opens a file or a socket or reads a clock.  Start with `event` (what is
recorded), then `frame` (what leaves the workstation).
"""
