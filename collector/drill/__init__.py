"""Drills: the collector attacks itself, so that a hole is found by us first.

`run.drill` is the whole order: plant, pick, ask as everybody who must be refused, look at
files and index as a thief of either would, write down what came of it, stop if anything did.
`schedule` has a running server do so by itself, `commands` is the operator's way.
"""
