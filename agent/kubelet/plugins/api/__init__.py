"""Messages of the plugin APIs: generated from the .proto files beside them."""
