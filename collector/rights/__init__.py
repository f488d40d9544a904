"""What data subjects say, and what becomes of it: consents, demands, deletions, notices."""
