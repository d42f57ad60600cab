"""Admission webhooks: asking other servers to change or refuse what is written."""
