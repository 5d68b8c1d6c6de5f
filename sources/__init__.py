"""Where records come from: files in lanes, and seeded synthetic journeys."""
