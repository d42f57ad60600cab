"""HorizontalPodAutoscalers: as many replicas as the load asks for."""
