"""Plain functions of frames and state: accept, order, sessionize, transitions, paths, funnels; `stream` alone knows Bytewax."""
