"""A batch comes in: start with `receive`.

`intake` has the bytes, `scope` decides by what `bearing` and `taken_back` found in the index,
and `grouped` lets those that come together share a transaction.
"""
