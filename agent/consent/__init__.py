"""May we keep it: the states, the one pure gate, the ledger, the policy and the clocks.

Start with `states` (the tables), then `gate` (the decision).  Nothing in here knows a
sensor, a socket or the tray.
"""
