"""What every tab draws with."""
