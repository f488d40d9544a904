"""Run by the recipient: asks for access, fetches what was released, opens it and exports it.

Open `opening.py` first: it is everything that a batch has to satisfy before it is believed.
"""
