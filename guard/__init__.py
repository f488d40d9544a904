"""The second lock, run by representatives or an independent party: keys, witness, release.

Open `release.py` first.  The guard never receives the body of a batch.
"""
