"""The recipe of a table's own columns, carried out: by ingest today; the door for prediction and the server."""
