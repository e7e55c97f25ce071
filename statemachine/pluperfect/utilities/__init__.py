"""Small helpers, at the places where Prefect's users look for them."""
