"""One module for each version of the tables; what was released is never changed again."""
