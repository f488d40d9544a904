"""Exposure: whom it concerns, when something may have been open; and the notices about it.

`report.exposure` finds it out from index, log and store, `counts` says what of it may be told to
whom, `notices` puts it into words, `command` is the operator's.
"""
