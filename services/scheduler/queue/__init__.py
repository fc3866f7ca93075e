"""What a scheduler holds of the request queue, from pull to settlement."""
