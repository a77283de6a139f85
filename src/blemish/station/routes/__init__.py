"""The interface for programs: one module per kind of thing."""
