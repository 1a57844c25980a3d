"""What a scheme is and does, without training: `posx show`, `posx explain`, `posx schemes`."""
