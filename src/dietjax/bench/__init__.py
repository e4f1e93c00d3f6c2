"""`dietjax bench`: speed and memory, measured so that they can be cited."""
