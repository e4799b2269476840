"""What a formula's text is worth: its value, exactly or to 60 digits, and whether two have the same."""
