"""Training: recipes, the loop, schedule, checkpoints, logging. The room above all but the command line."""
