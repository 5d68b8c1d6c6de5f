"""Plain functions of frames and state, one operator a file; `stream` alone knows Bytewax."""
