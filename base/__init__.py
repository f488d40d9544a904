"""What every program needs and no format does; imports nothing of ours."""
