"""Every metric once: of images, of maps, of rankings, of agreement between people."""
