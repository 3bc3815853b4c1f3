"""Every figure of merit once: of SR outputs, of maps, of rankings, of people's agreement."""
