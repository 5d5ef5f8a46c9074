"""A sweep's report: one HTML file that needs no account, no server and no network."""
