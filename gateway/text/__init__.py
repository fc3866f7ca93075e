"""From token ids to text: never half a character, stop strings matched."""
