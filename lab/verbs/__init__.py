"""What each verb of the `navarch` command does."""
