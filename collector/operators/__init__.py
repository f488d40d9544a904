"""What operators may know: counts and states, of people only in tens."""
