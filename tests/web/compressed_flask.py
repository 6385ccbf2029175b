"""The Flask chat of the tests behind Flask-Compress and WhiteNoise."""

from __future__ import annotations

from flask_compress import Compress
from flask_test_app import app
from whitenoise import WhiteNoise

app.config["COMPRESS_MIMETYPES"] = ["text/html", "text/plain", "text/event-stream"]
Compress(app)
app.wsgi_app = WhiteNoise(app.wsgi_app)
