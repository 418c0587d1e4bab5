"""Models and the scripts that train them: nothing of the engine imports this room."""
