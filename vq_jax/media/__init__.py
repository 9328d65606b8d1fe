"""What people look at: sheets of images with captions, code maps, histograms."""
