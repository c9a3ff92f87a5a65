"""What gunicorn loads."""

import predictor

app = predictor.app
