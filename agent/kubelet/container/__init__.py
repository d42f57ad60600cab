"""Containers as the runtime has them: watching them, describing them to it, starting and stopping them."""
