"""The page to speak to and the HTTP interface, in one process: `speech2image serve` (extra `web`).

    server.py -> app.py -> guard.py (bounds), api.py (HTTP), page.py (Gradio)
                             api.py, actions.py -> service.py -> routes.py -> pipeline
                                                   desk.py (bounded queue), batching.py (drawn together)

`docs/serving.md` says what is bounded and how, and how to deploy it.
"""
