"""Jobs: pods run until enough of them have succeeded, each end counted exactly once."""
