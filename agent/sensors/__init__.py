"""The sensor processes: each watches one kind of thing and redacts what it saw.

Each is `python -m agent.sensors.<name> --channel FD`, started by the agent, which alone can
talk to it.  What they have in common is in `_loop`; each module is one composition of
`agent.capture` and `agent.redact`.
"""
