"""Feature maps of images: from filter banks and from pretrained networks."""
