"""A sweep's report as one HTML page. Imports `analysis` and lower packages."""
