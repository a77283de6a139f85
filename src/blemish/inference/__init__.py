"""Images in, predictions out: the one inference path, what runs it, and the table that it fills."""
