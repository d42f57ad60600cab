"""StatefulSets: pods with names, storage and an order."""
