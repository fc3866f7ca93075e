"""What is going on now, as one gateway sees it: for the page and for `tokenmill top`."""
