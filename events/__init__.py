"""Raw records to canonical events: schema, decoding, canonical columns, rejects."""
