"""The site: README, guides, and the reference of the API, by pdoc. `nox -s docs` makes it, and checks its links."""
