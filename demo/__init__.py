"""The demonstration: a virtual desktop, a person who clicks on it, and a typist.

Not part of any program.  The end-to-end tests use the same desktop, so what is shown is
what is tested.  Start with `desktop`.
"""
