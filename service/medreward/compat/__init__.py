"""Routes that speak trainers' own protocols, on the path of `/reward`; docs/api.md tells of them."""
