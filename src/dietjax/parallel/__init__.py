"""Several devices and several processes: where arrays lie, who agrees on what, when to stop."""
