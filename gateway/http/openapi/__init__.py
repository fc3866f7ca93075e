"""/openapi.json: what every HTTP route takes and answers."""
