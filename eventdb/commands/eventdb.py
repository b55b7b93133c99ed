"""Commands: eventdb."""
