"""What this machine can compute on; models run here."""
