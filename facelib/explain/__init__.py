"""What a network looks at, and whether its maps can be believed."""
