"""Where Services lead: EndpointSlices, the older Endpoints, and slices that mirror hand-made Endpoints."""
