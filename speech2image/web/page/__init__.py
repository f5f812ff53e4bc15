"""Web page of the server: its assets, its HTML, and the requests that its buttons make."""
