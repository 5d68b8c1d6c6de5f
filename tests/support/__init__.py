"""What several test files share: frames by hand, operators driven without Bytewax, tables made comparable."""
