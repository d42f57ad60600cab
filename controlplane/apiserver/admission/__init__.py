"""What may be written, and what is filled in on the way: the admission plugins of kube-apiserver."""
