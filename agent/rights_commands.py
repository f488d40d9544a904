"""All commands of `assent-agent rights`, put together: what they do stands where they are."""

from agent.get_back_command import get_back
from agent.own_shown import accesses, batches, deletions
from agent.rights import rights

for _each in (batches, deletions, accesses, get_back):
    rights.add_command(_each)

__all__ = ["rights"]
