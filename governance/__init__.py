"""Run by those who answer for a programme: draft, lint, sign and approve, all of it offline."""
