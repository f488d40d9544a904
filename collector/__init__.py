"""BLIND: stores sealed batches and logs what happens to them; can open none.

Run by the controller or a processor.  Start with `ingest.receive` (a batch comes in), then
`release.releases` (a reader wants it opened) and `log`.  `app` is the list of endpoints, and
`assembly` puts the parts together.
"""
