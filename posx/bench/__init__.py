"""What a scheme costs and how cost grows: `posx bench`."""
