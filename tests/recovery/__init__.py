"""Proof of exactly-once: jobs that are killed, stopped, starved and watched, as processes of their own."""
