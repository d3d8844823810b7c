"""A face-recognition network that never saw the data's labels: its features, and what they are used for."""
