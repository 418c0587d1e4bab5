"""A seeded market: clustered arrivals, changing regimes and one planted, documented effect."""
