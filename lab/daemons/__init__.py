"""The programs a lab runs, and the configuration files it gives them."""
