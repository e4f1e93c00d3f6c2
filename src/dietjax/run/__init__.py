"""An experiment as one resumable run: its recipe, its folder, its log, its summary."""
