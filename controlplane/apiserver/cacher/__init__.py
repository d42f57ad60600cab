"""The watch cache: everything that is in storage, as bytes ready to be sent, kept up to date by one watch."""
