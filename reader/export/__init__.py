"""Formats in which opened batches leave the reader's hands; what they write is plaintext."""
