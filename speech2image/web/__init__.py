"""Server of the web page and the HTTP interface, in one process: `speech2image serve` (extra `web`).

    server.py -> app.py -> middleware.py (bounds: proxies, origins, sizes, times)
                           api.py (HTTP), page/ (page) -> service.py -> jobs.py (bounded queue)
                                                                        registry.py -> pipeline

`docs/serving.md` says what is bounded and how, and how to deploy it.
"""
