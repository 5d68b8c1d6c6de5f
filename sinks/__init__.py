"""Where tables go: Parquet files, the manifest that makes them visible, and the DuckDB catalog over them."""
