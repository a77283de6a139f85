"""The station: a web service where people teach, decide, inspect and review; `blemish serve` opens it."""
