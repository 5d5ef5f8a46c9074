"""Image files to one array of bytes on disk, in processes that import no torch."""
