"""What readers get: the list of `frames`, and `releases`, of which each is logged first."""
