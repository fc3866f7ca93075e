"""What the user's document claims, beside what is measured here, on one page."""
