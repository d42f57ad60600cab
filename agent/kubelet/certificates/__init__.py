"""The kubelet's own certificates: asked for through CertificateSigningRequests, and renewed before they expire."""
