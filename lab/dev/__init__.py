"""`navarch dev`: API server, controllers, scheduler and hollow nodes in one process, on an embedded store."""
