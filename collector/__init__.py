"""BLIND: stores sealed batches and logs what happens to them; can open none.

Run by the controller or a processor.  Start with `receive` (a batch comes in), then
`releases` (a reader wants it opened) and `log`.  `app` is the list of endpoints.
"""
