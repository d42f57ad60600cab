"""CertificateSigningRequests: approved for kubelets, signed, and cleared away."""
