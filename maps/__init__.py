"""What people ask of a warehouse: read-only questions over what sinks wrote."""
