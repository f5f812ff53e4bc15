"""The page to speak to and the HTTP interface, in one process: `speech2image serve` (extra `web`).

    server.py -> app.py -> proxies.py, guard.py, origins.py (bounds), api.py (HTTP), page.py (page)
    connections.py                       api.py, page.py -> service.py -> routes.py -> pipeline
                                                 desk.py (bounded queue)

`docs/serving.md` says what is bounded and how, and how to deploy it.
"""
