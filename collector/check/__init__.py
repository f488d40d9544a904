"""A conformance suite: whether a collector does what docs/spec/collector-http-v1.md says.

It comes from outside, as a device that the operator enrolled for it, and asks as a stranger, too.
`visit` is that device, `checks` the list of what is tried, the modules beside it try it.
"""
