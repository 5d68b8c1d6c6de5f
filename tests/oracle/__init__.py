"""The batch answer, computed a second way, and the streams that both answers are compared on."""
