"""What a formula's text is worth: its value, exactly or to 60 digits, its unit, and whether two have the same."""
