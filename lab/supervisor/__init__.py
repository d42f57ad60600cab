"""The supervisor of a lab's daemons: one process that starts, restarts and stops them, as systemd does elsewhere."""
