"""What the collector has of the guard: keys, cosignatures, its half of the lease, and its silence.

`client` is the collector's one way out.
"""
