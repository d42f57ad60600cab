"""PodSecurity: the Pod Security Standards, enforced, audited or warned about as a namespace's labels say."""
